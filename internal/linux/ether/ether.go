// Package ether holds Ethernet addresses and the Ethernet II header. It is pure.
package ether

import (
	"encoding/binary"
	"fmt"
)

// HeaderLen is the length of an Ethernet II header without a VLAN tag, in bytes.
const HeaderLen = 14

// EtherTypes.
const (
	TypeIPv4 uint16 = 0x0800
	TypeARP  uint16 = 0x0806
	TypeIPv6 uint16 = 0x86dd
)

// MAC is a 48-bit hardware address. The zero MAC means "none".
type MAC [6]byte

// Broadcast is the address of all stations.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// String returns the usual form, "00:00:5e:00:01:33".
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText returns String, for logs and JSON.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// IsZero tells whether there is no address.
func (m MAC) IsZero() bool { return m == MAC{} }

// FromSlice returns the MAC in b; ok is false unless b has 6 bytes.
func FromSlice(b []byte) (mac MAC, ok bool) {
	if len(b) != len(mac) {
		return MAC{}, false
	}
	return MAC(b), true
}

// Header is an Ethernet II header.
type Header struct {
	Dst, Src MAC
	Type     uint16
}

// Append appends the header to b.
func (h Header) Append(b []byte) []byte {
	b = append(b, h.Dst[:]...)
	b = append(b, h.Src[:]...)
	return binary.BigEndian.AppendUint16(b, h.Type)
}

// Parse splits a frame into its header and its payload, which shares the frame's memory. ok is false if the frame is
// too short for a header.
func Parse(frame []byte) (h Header, payload []byte, ok bool) {
	if len(frame) < HeaderLen {
		return Header{}, nil, false
	}
	h.Dst = MAC(frame[0:6])
	h.Src = MAC(frame[6:12])
	h.Type = binary.BigEndian.Uint16(frame[12:])
	return h, frame[HeaderLen:], true
}
