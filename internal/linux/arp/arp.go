// Package arp encodes and decodes ARP for IPv4 over Ethernet (RFC 826, RFC 5227). It is pure: frames in, frames out.
package arp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hactl/had/internal/linux/ether"
)

// Len is the length of an ARP message for IPv4 over Ethernet, in bytes.
const Len = 28

const (
	hardwareEthernet = 1
	macLen           = 6
	ipv4Len          = 4
)

// Operation is the ARP operation code.
type Operation uint16

// The operations of RFC 826.
const (
	Request Operation = 1
	Reply   Operation = 2
)

// String returns the name of the operation.
func (o Operation) String() string {
	switch o {
	case Request:
		return "request"
	case Reply:
		return "reply"
	}
	return fmt.Sprintf("operation(%d)", uint16(o))
}

// Message is an ARP message for IPv4 over Ethernet.
type Message struct {
	Operation Operation
	SenderMAC ether.MAC
	SenderIP  netip.Addr
	TargetMAC ether.MAC
	TargetIP  netip.Addr
}

// Gratuitous tells whether the sender announces its own address: sender and target address are equal, in a request or
// in a reply (RFC 5227 section 3).
func (m Message) Gratuitous() bool { return m.SenderIP == m.TargetIP }

// Probe tells whether the sender only asks whether somebody has the target address, claiming none itself: its sender
// address is all zero (RFC 5227 section 1.1).
func (m Message) Probe() bool { return m.Operation == Request && m.SenderIP.IsUnspecified() }

// NewGratuitous returns the gratuitous ARP request with which keepalived announces that ip is at mac: the target
// hardware address is the broadcast address.
func NewGratuitous(mac ether.MAC, ip netip.Addr) Message {
	return Message{Operation: Request, SenderMAC: mac, SenderIP: ip, TargetMAC: ether.Broadcast, TargetIP: ip}
}

// NewProbe returns the question of a station at mac whether somebody has ip (RFC 5227 section 2.1.1). It changes no
// neighbour cache.
func NewProbe(mac ether.MAC, ip netip.Addr) Message {
	return Message{Operation: Request, SenderMAC: mac, SenderIP: netip.IPv4Unspecified(), TargetIP: ip}
}

// NewRequest returns the question of the station at mac with the address src who has ip.
func NewRequest(mac ether.MAC, src, ip netip.Addr) Message {
	return Message{Operation: Request, SenderMAC: mac, SenderIP: src, TargetIP: ip}
}

// AppendFrame appends the Ethernet frame that carries m from its sender's hardware address to dst. It fails if an
// address of m is not IPv4.
func (m Message) AppendFrame(b []byte, dst ether.MAC) ([]byte, error) {
	if !m.SenderIP.Is4() || !m.TargetIP.Is4() {
		return nil, fmt.Errorf("encode ARP %v from %v for %v: not IPv4 addresses", m.Operation, m.SenderIP, m.TargetIP)
	}
	b = ether.Header{Dst: dst, Src: m.SenderMAC, Type: ether.TypeARP}.Append(b)
	b = binary.BigEndian.AppendUint16(b, hardwareEthernet)
	b = binary.BigEndian.AppendUint16(b, ether.TypeIPv4)
	b = append(b, macLen, ipv4Len)
	b = binary.BigEndian.AppendUint16(b, uint16(m.Operation))
	b = append(b, m.SenderMAC[:]...)
	b = append(b, m.SenderIP.AsSlice()...)
	b = append(b, m.TargetMAC[:]...)
	return append(b, m.TargetIP.AsSlice()...), nil
}

// Errors of Parse.
var (
	ErrShort   = errors.New("arp: message too short")
	ErrForeign = errors.New("arp: not IPv4 over Ethernet")
)

// Parse decodes an ARP message, which begins after the Ethernet header. Bytes after the message are padding.
func Parse(b []byte) (Message, error) {
	if len(b) < Len {
		return Message{}, ErrShort
	}
	if binary.BigEndian.Uint16(b[0:]) != hardwareEthernet || binary.BigEndian.Uint16(b[2:]) != ether.TypeIPv4 ||
		b[4] != macLen || b[5] != ipv4Len {
		return Message{}, ErrForeign
	}
	return Message{
		Operation: Operation(binary.BigEndian.Uint16(b[6:])),
		SenderMAC: ether.MAC(b[8:14]),
		SenderIP:  netip.AddrFrom4([4]byte(b[14:18])),
		TargetMAC: ether.MAC(b[18:24]),
		TargetIP:  netip.AddrFrom4([4]byte(b[24:28])),
	}, nil
}
