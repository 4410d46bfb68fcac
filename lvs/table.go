package lvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
)

// Protocol is the transport protocol of a virtual service, by its IP protocol number.
type Protocol uint8

// The protocols that IPVS balances.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns the name in capitals, as keepalived.conf has it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return "protocol(" + strconv.Itoa(int(p)) + ")"
}

// Family is an address family, by its IP version.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// ServiceKey is what the kernel knows a virtual service by: an address, port and protocol, or a firewall mark of one
// family. With a mark, Protocol and Address are zero. Port 0 stands for all ports.
type ServiceKey struct {
	Family   Family
	Protocol Protocol
	Address  netip.AddrPort
	Mark     uint32
}

// Service is a virtual service without its destinations.
type Service struct {
	Scheduler   string         // the kernel's name of it
	Flags       SchedulerFlags //
	OnePacket   bool           // each datagram is scheduled by itself
	Persistence Persistence    //
}

// SchedulerFlags are the three flags whose meaning the scheduler gives: for sh and mh, the first is fallback and the
// second port.
type SchedulerFlags struct{ First, Second, Third bool }

// Persistence sends a client to the server it had before.
type Persistence struct {
	TimeoutSeconds uint32 // 0: no persistence
	PrefixLen      uint8  // clients that share so many bits count as one
	Engine         string // persistence engine; empty: the client's address decides
}

// String names the service as people write it: "TCP 192.0.2.1:80", "mark 5 IPv4".
func (k ServiceKey) String() string {
	if k.Mark != 0 {
		return fmt.Sprintf("mark %d IPv%d", k.Mark, k.Family)
	}
	return k.Protocol.String() + " " + k.Address.String()
}

// Compare orders services: addresses before marks, by family, address, port and protocol.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(cmp.Compare(k.Mark, o.Mark), cmp.Compare(k.Family, o.Family), k.Address.Compare(o.Address),
		cmp.Compare(k.Protocol, o.Protocol))
}

// DestinationKey is what the kernel knows a destination of a service by.
type DestinationKey = netip.AddrPort

// Method is how packets get to a destination.
type Method uint8

// The methods of forwarding.
const (
	NAT Method = iota
	DirectRoute
	Tunnel
)

// TunnelType is the encapsulation of the method Tunnel.
type TunnelType uint8

// The encapsulations.
const (
	IPIP TunnelType = iota
	GUE
	GRE
)

// TunnelChecksum is what the outer header of a GUE or GRE tunnel carries.
type TunnelChecksum uint8

// The checksums.
const (
	NoChecksum TunnelChecksum = iota
	Checksum
	RemoteChecksum // GUE alone: the receiver computes the inner one
)

// Forwarding is a method with what belongs to it. The fields of tunnels are zero with other methods.
type Forwarding struct {
	Method   Method
	Type     TunnelType
	Port     uint16 // UDP port of GUE
	Checksum TunnelChecksum
}

// MaxWeight is the largest weight of a destination: the kernel counts with signed numbers.
const MaxWeight = 1<<31 - 1

// Destination is a real server of a service, as the kernel has it.
type Destination struct {
	Forwarding Forwarding
	Weight     uint32 // 0: no new connections; at most MaxWeight
	Upper      uint32 // connections above which it gets no new ones; 0: no bound
	Lower      uint32 // connections below which an overloaded one gets new ones again; 0: three quarters of Upper
}

// Entry is a service with its destinations.
type Entry struct {
	Service
	Destinations map[DestinationKey]Destination
}

// Table is what the kernel's IPVS should hold, or holds.
type Table map[ServiceKey]Entry
