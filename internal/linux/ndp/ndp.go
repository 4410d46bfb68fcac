// Package ndp encodes and decodes the two messages of IPv6 neighbour discovery that say who has an address: neighbour
// solicitation and neighbour advertisement (RFC 4861 sections 4.3 and 4.4). It is pure.
package ndp

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hactl/had/internal/linux/ether"
)

// HopLimit is the hop limit of every neighbour discovery message: a smaller one has crossed a router and does not
// count.
const HopLimit = 255

// AllNodes is the group of all nodes on the link.
var AllNodes = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x01})

// Type is the ICMPv6 type of a message.
type Type uint8

// The message types.
const (
	Solicitation  Type = 135
	Advertisement Type = 136
)

// String returns the name of the type.
func (t Type) String() string {
	switch t {
	case Solicitation:
		return "neighbour solicitation"
	case Advertisement:
		return "neighbour advertisement"
	}
	return fmt.Sprintf("ICMPv6 type %d", uint8(t))
}

const (
	protocolICMPv6 = 58
	headerLen      = 40 // IPv6 header
	messageLen     = 24 // ICMPv6 header, flags, target
	linkLayerLen   = 8  // link-layer address option of Ethernet

	optionSourceLinkLayer = 1
	optionTargetLinkLayer = 2

	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20
)

// Message is a neighbour solicitation or advertisement with its IPv6 addresses.
type Message struct {
	Type     Type
	Src, Dst netip.Addr
	Target   netip.Addr

	// Flags of an advertisement.
	Router, Solicited, Override bool

	// LinkLayer is the source (solicitation) or target (advertisement) link-layer address option; zero: no option.
	LinkLayer ether.MAC
}

// NewUnsolicited returns the advertisement with which keepalived announces that ip is at mac: from ip to all nodes,
// override set, the router flag as given.
func NewUnsolicited(mac ether.MAC, ip netip.Addr, router bool) Message {
	return Message{Type: Advertisement, Src: ip, Dst: AllNodes, Target: ip, Router: router, Override: true, LinkLayer: mac}
}

// NewProbe returns the question of a station at mac with address src whether somebody has ip. With an unspecified src
// it is that of duplicate address detection, which carries no link-layer address (RFC 4862 section 5.4.2).
func NewProbe(mac ether.MAC, src, ip netip.Addr) Message {
	m := Message{Type: Solicitation, Src: src, Dst: SolicitedNode(ip), Target: ip}
	if !src.IsUnspecified() {
		m.LinkLayer = mac
	}
	return m
}

// SolicitedNode returns the solicited-node group of ip (RFC 4291 section 2.7.1).
func SolicitedNode(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// GroupMAC returns the Ethernet address of an IPv6 multicast group (RFC 2464 section 7).
func GroupMAC(group netip.Addr) ether.MAC {
	b := group.As16()
	return ether.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// AppendPacket appends the IPv6 packet that carries m. It fails if an address of m is not IPv6 or the type is unknown.
func (m Message) AppendPacket(b []byte) ([]byte, error) {
	for _, addr := range [...]netip.Addr{m.Src, m.Dst, m.Target} {
		if !addr.Is6() || addr.Is4In6() {
			return nil, fmt.Errorf("encode %v for %v: %v is not an IPv6 address", m.Type, m.Target, addr)
		}
	}
	option := uint8(optionTargetLinkLayer)
	switch m.Type {
	case Advertisement:
	case Solicitation:
		option = optionSourceLinkLayer
	default:
		return nil, fmt.Errorf("encode %v: neither solicitation nor advertisement", m.Type)
	}
	length := messageLen
	if !m.LinkLayer.IsZero() {
		length += linkLayerLen
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, protocolICMPv6, HopLimit)
	b = append(b, m.Src.AsSlice()...)
	b = append(b, m.Dst.AsSlice()...)
	start := len(b)
	b = append(b, uint8(m.Type), 0, 0, 0, m.flags(), 0, 0, 0)
	b = append(b, m.Target.AsSlice()...)
	if !m.LinkLayer.IsZero() {
		b = append(b, option, linkLayerLen/8)
		b = append(b, m.LinkLayer[:]...)
	}
	binary.BigEndian.PutUint16(b[start+2:], checksum(b[start-32:start], b[start:]))
	return b, nil
}

// AppendFrame appends the Ethernet frame that carries m from src. The destination of m must be a group.
func (m Message) AppendFrame(b []byte, src ether.MAC) ([]byte, error) {
	if !m.Dst.IsMulticast() {
		return nil, fmt.Errorf("encode %v for %v: destination %v is not a group", m.Type, m.Target, m.Dst)
	}
	return m.AppendPacket(ether.Header{Dst: GroupMAC(m.Dst), Src: src, Type: ether.TypeIPv6}.Append(b))
}

func (m Message) flags() uint8 {
	if m.Type != Advertisement {
		return 0
	}
	var flags uint8
	if m.Router {
		flags |= flagRouter
	}
	if m.Solicited {
		flags |= flagSolicited
	}
	if m.Override {
		flags |= flagOverride
	}
	return flags
}

// checksum returns the ICMPv6 checksum of message (RFC 8200 section 8.1), whose checksum field it takes as it stands:
// zero to compute one; over a whole message the result of a correct one is zero. addresses are source and destination.
func checksum(addresses, message []byte) uint16 {
	sum := uint32(protocolICMPv6) + uint32(len(message))
	for _, part := range [...][]byte{addresses, message} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
