package link

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/rtnl"
)

// errMalformed is what parse returns for a message that is not about an interface.
var errMalformed = errors.New("malformed interface message")

// List returns all interfaces in the network namespace of the calling thread.
func List() ([]Link, error) {
	conn, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return list(conn)
}

func list(conn *rtnl.Conn) ([]Link, error) {
	payloads, err := conn.Dump(unix.RTM_GETLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), unix.RTM_NEWLINK)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]Link, 0, len(payloads))
	for _, payload := range payloads {
		l, ok, err := parse(payload)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		if ok {
			links = append(links, l)
		}
	}
	return links, nil
}

// parse decodes the payload of an RTM_NEWLINK or RTM_DELLINK message. ok is false if the message is not about the
// interface as a whole: a bridge reports the ports that it gains and loses in the same words, a wireless driver its
// scans.
func parse(payload []byte) (l Link, ok bool, err error) {
	if len(payload) < unix.SizeofIfInfomsg {
		return Link{}, false, errMalformed
	}
	header := nl.DeserializeIfInfomsg(payload)
	if header.Family != unix.AF_UNSPEC {
		return Link{}, false, nil
	}
	flag := func(bit uint32) bool { return header.Flags&bit != 0 }
	l = Link{
		Index:     int(header.Index),
		Up:        flag(unix.IFF_UP),
		Running:   flag(unix.IFF_RUNNING),
		Multicast: flag(unix.IFF_MULTICAST),
		NoARP:     flag(unix.IFF_NOARP),
		Loopback:  flag(unix.IFF_LOOPBACK),
		Ethernet:  header.Type == unix.ARPHRD_ETHER,
	}
	for kind, value := range rtnl.Attributes(payload[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(value)
		case unix.IFLA_ADDRESS:
			if l.Ethernet {
				l.MAC, _ = ether.FromSlice(value)
			}
		case unix.IFLA_MTU:
			l.MTU = int(rtnl.Uint32(value))
		case unix.IFLA_LINK:
			l.Parent = int(rtnl.Uint32(value))
		case unix.IFLA_MASTER:
			l.Master = int(rtnl.Uint32(value))
		case unix.IFLA_LINKINFO:
			l.Kind, l.VRFTable = infoOf(value)
		}
	}
	return l, l.Name != "", nil
}

// infoOf returns the kind of device in IFLA_LINKINFO, and the routing table of a VRF.
func infoOf(info []byte) (kind string, vrfTable uint32) {
	var data []byte
	for attribute, value := range rtnl.Attributes(info) {
		switch attribute {
		case unix.IFLA_INFO_KIND:
			kind = unix.ByteSliceToString(value)
		case unix.IFLA_INFO_DATA:
			data = value
		}
	}
	if kind != "vrf" {
		return kind, 0
	}
	for attribute, value := range rtnl.Attributes(data) {
		if attribute == nl.IFLA_VRF_TABLE {
			vrfTable = rtnl.Uint32(value)
		}
	}
	return kind, vrfTable
}
