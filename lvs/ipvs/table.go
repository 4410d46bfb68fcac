package ipvs

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"

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

// Services returns the services that the namespace's IPVS holds, without their destinations. Where a persistence engine, flag, or
// number has no meaning because another one turns it off, it is zero, as in a table that is wanted.
func (c *Conn) Services() (map[lvs.ServiceKey]lvs.Service, error) {
	all := map[lvs.ServiceKey]lvs.Service{}
	err := c.eachService(func(key lvs.ServiceKey, service []byte) { all[key] = decodeService(service) })
	if err != nil {
		return nil, fmt.Errorf("read the services of IPVS: %w", err)
	}
	return all, nil
}

// Destinations returns those of a service: none if there is no such service.
func (c *Conn) Destinations(key lvs.ServiceKey) (map[lvs.DestinationKey]lvs.Destination, error) {
	all := map[lvs.DestinationKey]lvs.Destination{}
	err := c.eachDestination(key, func(d []byte) { all[decodeDestinationKey(key.Family, d)] = decodeDestination(d) })
	if err != nil {
		return nil, fmt.Errorf("read the destinations of %s in IPVS: %w", key, err)
	}
	return all, nil
}

// Read returns all that the namespace's IPVS holds.
func (c *Conn) Read() (lvs.Table, error) {
	services, err := c.Services()
	if err != nil {
		return nil, err
	}
	t := make(lvs.Table, len(services))
	for key, s := range services {
		destinations, err := c.Destinations(key)
		if err != nil {
			return nil, err
		}
		t[key] = lvs.Entry{Service: s, Destinations: destinations}
	}
	return t, nil
}

// eachService calls f with the attributes of each service, which are valid until f returns.
func (c *Conn) eachService(f func(key lvs.ServiceKey, service []byte)) error {
	return c.kernel.dump(request{command: commandGetServices}, func(answer []byte) {
		s := inner(answer, attributeService)
		f(decodeServiceKey(s), s)
	})
}

// eachDestination calls f with the attributes of each destination of a service, which are valid until f returns.
func (c *Conn) eachDestination(key lvs.ServiceKey, f func(destination []byte)) error {
	return c.kernel.dump(request{commandGetDestinations, serviceAttributes(key, nil)}, func(answer []byte) {
		f(inner(answer, attributeDestination))
	})
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

// serviceAttributes says which service a request is about and, with s, how it is to be.
func serviceAttributes(key lvs.ServiceKey, s *lvs.Service) attributes {
	return make(attributes, 0, usualMax).nested(attributeService, func(a attributes) attributes {
		a = a.uint16(serviceFamily, afOf(key.Family))
		if key.Mark != 0 {
			a = a.uint32(serviceMark, key.Mark)
		} else {
			a = a.uint16(serviceProtocol, uint16(key.Protocol)).address(serviceAddress, key.Address.Addr()).
				port(servicePort, key.Address.Port())
		}
		if s == nil {
			return a
		}
		a = a.text(serviceScheduler, s.Scheduler)
		if s.Persistence.Engine != "" {
			a = a.text(serviceEngine, s.Persistence.Engine)
		}
		a = binary.NativeEndian.AppendUint32(a.header(serviceFlags, 8), flagsOf(s))
		a = binary.NativeEndian.AppendUint32(a, math.MaxUint32) // all of them count
		return a.uint32(serviceTimeout, s.Persistence.TimeoutSeconds).uint32(serviceNetmask, netmask(key.Family, s.Persistence))
	})
}

func flagsOf(s *lvs.Service) (flags uint32) {
	for _, f := range []struct {
		set bool
		bit uint32
	}{
		{s.Persistence.TimeoutSeconds > 0, flagPersistent}, {s.OnePacket, flagOnePacket},
		{s.Flags.First, flagFirst}, {s.Flags.Second, flagSecond}, {s.Flags.Third, flagThird},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
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

// destinationAttributes says which destination of which service a request is about and, with d, how it is to be.
func destinationAttributes(service lvs.ServiceKey, key lvs.DestinationKey, d *lvs.Destination) attributes {
	return serviceAttributes(service, nil).nested(attributeDestination, func(a attributes) attributes { return a.destination(key, d) })
}

func (a attributes) destination(key lvs.DestinationKey, d *lvs.Destination) attributes {
	a = a.address(destinationAddress, key.Addr()).port(destinationPort, key.Port()).uint16(destinationFamily, afOf(familyOf(key)))
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
		a = a.add(destinationTunnelType, uint8(f.Type)).port(destinationTunnelPort, f.Port).uint16(destinationTunnelFlags, flags)
	}
	return a.uint32(destinationMethod, method).uint32(destinationWeight, d.Weight).
		uint32(destinationUpper, d.Upper).uint32(destinationLower, d.Lower)
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
