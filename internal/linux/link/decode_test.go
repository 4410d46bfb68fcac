package link

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/ether"
)

func message(family uint8, hardware uint16, attributes ...*nl.RtAttr) []byte {
	header := nl.NewIfInfomsg(int(family))
	header.Index, header.Type = 7, hardware
	header.Flags = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_MULTICAST
	b := header.Serialize()
	for _, attribute := range attributes {
		b = append(b, attribute.Serialize()...)
	}
	return b
}

func TestParse(t *testing.T) {
	name := nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("eth0.10"))
	mac := nl.NewRtAttr(unix.IFLA_ADDRESS, []byte{2, 0, 0, 0, 0, 1})
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated("vlan"))
	vrf := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	vrf.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated("vrf"))
	vrf.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_VRF_TABLE, nl.Uint32Attr(1000))
	full := Link{
		Index: 7, Name: "eth0.10", Kind: "vlan", Parent: 2, Master: 3, MAC: ether.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500,
		Up: true, Running: true, Multicast: true, Ethernet: true,
	}
	tests := []struct {
		name    string
		payload []byte
		want    Link
		ok      bool
	}{
		{"vlan", message(unix.AF_UNSPEC, unix.ARPHRD_ETHER, name, mac, info,
			nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(1500)),
			nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(2)),
			nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(3))), full, true},
		{"VRF", message(unix.AF_UNSPEC, unix.ARPHRD_ETHER, name, vrf),
			Link{Index: 7, Name: "eth0.10", Kind: "vrf", VRFTable: 1000, Up: true, Running: true, Multicast: true, Ethernet: true}, true},
		{"InfiniBand has no Ethernet address",
			message(unix.AF_UNSPEC, unix.ARPHRD_INFINIBAND, name, nl.NewRtAttr(unix.IFLA_ADDRESS, make([]byte, 20))),
			Link{Index: 7, Name: "eth0.10", Up: true, Running: true, Multicast: true}, true},
		{"port of a bridge", message(unix.AF_BRIDGE, unix.ARPHRD_ETHER, name), Link{}, false},
		{"scan of a wireless device", message(unix.AF_UNSPEC, unix.ARPHRD_ETHER, nl.NewRtAttr(unix.IFLA_WIRELESS, nil)),
			Link{Index: 7, Up: true, Running: true, Multicast: true, Ethernet: true}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok, err := parse(test.payload)
			if err != nil || ok != test.ok || got != test.want {
				t.Errorf("parse = %+v, %v, %v\n  want %+v, %v", got, ok, err, test.want, test.ok)
			}
		})
	}
	for n := range unix.SizeofIfInfomsg {
		if _, _, err := parse(tests[0].payload[:n]); err == nil {
			t.Errorf("%d bytes are accepted", n)
		}
	}
}

// Whatever a message holds, parse does not panic, and what is an interface has a name.
func FuzzParse(f *testing.F) {
	f.Add(message(unix.AF_UNSPEC, unix.ARPHRD_ETHER, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("eth0"))))
	f.Add(slices.Concat(message(unix.AF_UNSPEC, unix.ARPHRD_ETHER), make([]byte, 16)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if l, ok, err := parse(payload); err == nil && ok && l.Name == "" {
			t.Errorf("%x gave %+v", payload, l)
		}
	})
}
