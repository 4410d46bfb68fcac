package ipvs

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
	"github.com/hactl/had/lvs"
)

const (
	// foreignMethod stands for a method of forwarding that no table asks for. A destination with it equals none that is
	// wanted.
	foreignMethod = lvs.Method(math.MaxUint8)
	// foreignPrefix stands for a netmask that is not a prefix.
	foreignPrefix = math.MaxUint8
)

// Read returns what the namespace's IPVS holds. Where a persistence engine, flag, or number has no meaning because
// another one turns it off, it is zero, as in a table that is wanted.
func (c *Conn) Read() (lvs.Table, error) {
	t := lvs.Table{}
	err := c.walk(func(key lvs.ServiceKey, s []byte, destinations [][]byte) {
		e := lvs.Entry{Service: decodeService(s), Destinations: make(map[lvs.DestinationKey]lvs.Destination, len(destinations))}
		for _, d := range destinations {
			e.Destinations[decodeDestinationKey(key.Family, d)] = decodeDestination(d)
		}
		t[key] = e
	})
	if err != nil {
		return nil, fmt.Errorf("read the table of IPVS: %w", err)
	}
	return t, nil
}

// walk calls f for each service with its attributes and those of its destinations.
func (c *Conn) walk(f func(key lvs.ServiceKey, service []byte, destinations [][]byte)) error {
	services, err := c.kernel.dump(commandGetServices)
	if err != nil {
		return err
	}
	for _, answer := range services {
		s := inner(answer, attributeService)
		key := decodeServiceKey(s)
		answers, err := c.kernel.dump(commandGetDestinations, serviceAttributes(key))
		if err != nil {
			return err
		}
		for i, a := range answers {
			answers[i] = inner(a, attributeDestination)
		}
		f(key, s, answers)
	}
	return nil
}

// inner returns the value of the attribute.
func inner(attributes []byte, kind uint16) []byte {
	for k, value := range rtnl.Attributes(attributes) {
		if k == kind {
			return value
		}
	}
	return nil
}

// mobyService describes a service to the library.
func mobyService(key lvs.ServiceKey, s lvs.Service) *moby.Service {
	m := &moby.Service{AddressFamily: afOf(key.Family), SchedName: s.Scheduler, PEName: s.Persistence.Engine,
		Timeout: s.Persistence.TimeoutSeconds, Netmask: netmask(key.Family, s.Persistence), FWMark: key.Mark}
	if key.Mark == 0 {
		m.Protocol = uint16(key.Protocol)
		m.Address = key.Address.Addr().AsSlice()
		m.Port = key.Address.Port()
	}
	for _, f := range []struct {
		set bool
		bit uint32
	}{
		{s.Persistence.TimeoutSeconds > 0, flagPersistent}, {s.OnePacket, flagOnePacket},
		{s.Flags.First, flagFirst}, {s.Flags.Second, flagSecond}, {s.Flags.Third, flagThird},
	} {
		if f.set {
			m.Flags |= f.bit
		}
	}
	return m
}

// netmask is what the kernel wants to know about who counts as one client: a mask in the network's order, or the length of
// an IPv6 prefix. It wants it without persistence too.
func netmask(f lvs.Family, p lvs.Persistence) uint32 {
	length := int(p.PrefixLen)
	switch {
	case f == lvs.IPv6 && p.TimeoutSeconds == 0:
		return 128
	case f == lvs.IPv6:
		return uint32(length)
	case p.TimeoutSeconds == 0:
		return math.MaxUint32
	default:
		mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-min(length, 32)))
		return binary.NativeEndian.Uint32(mask)
	}
}

// prefixLen is the reverse of netmask.
func prefixLen(f lvs.Family, netmask []byte) uint8 {
	if len(netmask) != 4 {
		return foreignPrefix
	}
	if f == lvs.IPv6 {
		return uint8(min(binary.NativeEndian.Uint32(netmask), foreignPrefix))
	}
	mask := binary.BigEndian.Uint32(netmask)
	if ones := bits.LeadingZeros32(^mask); ones == bits.OnesCount32(mask) {
		return uint8(ones)
	}
	return foreignPrefix
}

// serviceAttributes says which service a request is about.
func serviceAttributes(key lvs.ServiceKey) *nl.RtAttr {
	a := nl.NewRtAttr(attributeService, nil)
	a.AddRtAttr(serviceFamily, nl.Uint16Attr(afOf(key.Family)))
	if key.Mark != 0 {
		a.AddRtAttr(serviceMark, nl.Uint32Attr(key.Mark))
		return a
	}
	a.AddRtAttr(serviceProtocol, nl.Uint16Attr(uint16(key.Protocol)))
	a.AddRtAttr(serviceAddress, key.Address.Addr().AsSlice())
	a.AddRtAttr(servicePort, bigEndian16(key.Address.Port()))
	return a
}

func decodeServiceKey(service []byte) (key lvs.ServiceKey) {
	var address []byte
	var port uint16
	for kind, value := range rtnl.Attributes(service) {
		switch kind {
		case serviceFamily:
			key.Family = familyFrom(value)
		case serviceProtocol:
			key.Protocol = lvs.Protocol(uint16From(value))
		case serviceAddress:
			address = value
		case servicePort:
			port = portFrom(value)
		case serviceMark:
			key.Mark = rtnl.Uint32(value)
		}
	}
	if key.Mark == 0 {
		key.Address = netip.AddrPortFrom(addressFrom(key.Family, address), port)
	}
	return key
}

func decodeService(service []byte) (s lvs.Service) {
	var flags uint32
	var mask []byte
	var f lvs.Family
	for kind, value := range rtnl.Attributes(service) {
		switch kind {
		case serviceFamily:
			f = familyFrom(value)
		case serviceScheduler:
			s.Scheduler = unix.ByteSliceToString(value)
		case serviceFlags:
			flags = rtnl.Uint32(value) // a mask follows
		case serviceTimeout:
			s.Persistence.TimeoutSeconds = rtnl.Uint32(value)
		case serviceNetmask:
			mask = value
		case serviceEngine:
			s.Persistence.Engine = unix.ByteSliceToString(value)
		}
	}
	if flags&flagPersistent != 0 {
		s.Persistence.PrefixLen = prefixLen(f, mask)
	} else {
		s.Persistence.TimeoutSeconds = 0
	}
	s.OnePacket = flags&flagOnePacket != 0
	s.Flags = lvs.SchedulerFlags{First: flags&flagFirst != 0, Second: flags&flagSecond != 0, Third: flags&flagThird != 0}
	return s
}

// destinationAttributes says which destination a request is about and, with d, how it is to be.
func destinationAttributes(key lvs.DestinationKey, d *lvs.Destination) *nl.RtAttr {
	a := nl.NewRtAttr(attributeDestination, nil)
	a.AddRtAttr(destinationAddress, key.Addr().AsSlice())
	a.AddRtAttr(destinationPort, bigEndian16(key.Port()))
	a.AddRtAttr(destinationFamily, nl.Uint16Attr(afOf(familyOf(key))))
	if d == nil {
		return a
	}
	f := d.Forwarding
	method := uint32(methodNAT)
	switch f.Method {
	case lvs.DirectRoute:
		method = methodDirect
	case lvs.Tunnel:
		method = methodTunnel
		flags := uint16(0)
		switch f.Checksum {
		case lvs.Checksum:
			flags = tunnelChecksum
		case lvs.RemoteChecksum:
			flags = tunnelRemoteChecksum
		}
		// The kernel numbers the types as Table does.
		a.AddRtAttr(destinationTunnelType, nl.Uint8Attr(uint8(f.Type)))
		a.AddRtAttr(destinationTunnelPort, bigEndian16(f.Port))
		a.AddRtAttr(destinationTunnelFlags, nl.Uint16Attr(flags))
	}
	a.AddRtAttr(destinationMethod, nl.Uint32Attr(method))
	a.AddRtAttr(destinationWeight, nl.Uint32Attr(d.Weight))
	a.AddRtAttr(destinationUpper, nl.Uint32Attr(d.Upper))
	a.AddRtAttr(destinationLower, nl.Uint32Attr(d.Lower))
	return a
}

// decodeDestinationKey takes the key from a destination of a service of the family f, which is the destination's too if an old
// kernel does not say.
func decodeDestinationKey(f lvs.Family, destination []byte) lvs.DestinationKey {
	var address []byte
	var port uint16
	for kind, value := range rtnl.Attributes(destination) {
		switch kind {
		case destinationAddress:
			address = value
		case destinationPort:
			port = portFrom(value)
		case destinationFamily:
			f = familyFrom(value)
		}
	}
	return netip.AddrPortFrom(addressFrom(f, address), port)
}

func decodeDestination(destination []byte) (d lvs.Destination) {
	var tunnel lvs.Forwarding
	for kind, value := range rtnl.Attributes(destination) {
		switch kind {
		case destinationMethod:
			switch rtnl.Uint32(value) & methodMask {
			case methodNAT:
				d.Forwarding.Method = lvs.NAT
			case methodTunnel:
				d.Forwarding.Method = lvs.Tunnel
			case methodDirect:
				d.Forwarding.Method = lvs.DirectRoute
			default:
				d.Forwarding.Method = foreignMethod
			}
		case destinationWeight:
			d.Weight = rtnl.Uint32(value)
		case destinationUpper:
			d.Upper = rtnl.Uint32(value)
		case destinationLower:
			d.Lower = rtnl.Uint32(value)
		case destinationTunnelType:
			if len(value) > 0 {
				tunnel.Type = lvs.TunnelType(value[0])
			}
		case destinationTunnelPort:
			tunnel.Port = portFrom(value)
		case destinationTunnelFlags:
			switch flags := uint16From(value); {
			case flags&tunnelRemoteChecksum != 0:
				tunnel.Checksum = lvs.RemoteChecksum
			case flags&tunnelChecksum != 0:
				tunnel.Checksum = lvs.Checksum
			}
		}
	}
	if d.Forwarding.Method == lvs.Tunnel {
		tunnel.Method = lvs.Tunnel
		d.Forwarding = tunnel
	}
	return d
}

func familyOf(key lvs.DestinationKey) lvs.Family {
	if key.Addr().Is4() {
		return lvs.IPv4
	}
	return lvs.IPv6
}

// afOf returns the kernel's number of an address family.
func afOf(f lvs.Family) uint16 {
	if f == lvs.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func familyFrom(value []byte) lvs.Family {
	if uint16From(value) == unix.AF_INET6 {
		return lvs.IPv6
	}
	return lvs.IPv4
}

// addressFrom returns an address, for which the kernel gives 16 bytes in any case.
func addressFrom(f lvs.Family, value []byte) netip.Addr {
	length := 4
	if f == lvs.IPv6 {
		length = 16
	}
	a, _ := netip.AddrFromSlice(value[:min(length, len(value))])
	return a
}

func portFrom(value []byte) uint16 {
	if len(value) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(value)
}

func uint16From(value []byte) uint16 {
	if len(value) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(value)
}

func uint64From(value []byte) uint64 {
	if len(value) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(value)
}
