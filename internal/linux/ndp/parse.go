package ndp

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/hactl/had/internal/linux/ether"
)

// Errors of Parse: why a packet is no valid neighbour solicitation or advertisement (RFC 4861 section 7.1).
var (
	ErrShort    = errors.New("ndp: packet too short")
	ErrForeign  = errors.New("ndp: not a neighbour solicitation or advertisement")
	ErrHopLimit = errors.New("ndp: hop limit is not 255")
	ErrChecksum = errors.New("ndp: wrong checksum")
	ErrInvalid  = errors.New("ndp: not allowed by RFC 4861")
)

// Parse decodes and validates an IPv6 packet. Packets with extension headers are ErrForeign. Bytes after the packet are
// padding.
func Parse(b []byte) (Message, error) {
	switch {
	case len(b) < headerLen:
		return Message{}, ErrShort
	case b[0]>>4 != 6 || b[6] != protocolICMPv6:
		return Message{}, ErrForeign
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < messageLen || len(b) < headerLen+length {
		return Message{}, ErrShort
	}
	body := b[headerLen : headerLen+length]
	m := Message{
		Type:   Type(body[0]),
		Src:    netip.AddrFrom16([16]byte(b[8:24])),
		Dst:    netip.AddrFrom16([16]byte(b[24:40])),
		Target: netip.AddrFrom16([16]byte(body[8:24])),
	}
	switch {
	case m.Type != Solicitation && m.Type != Advertisement:
		return Message{}, ErrForeign
	case b[7] != HopLimit:
		return Message{}, ErrHopLimit
	case checksum(b[8:40], body) != 0:
		return Message{}, ErrChecksum
	case body[1] != 0 || m.Target.IsMulticast() || m.Src.IsMulticast():
		return Message{}, ErrInvalid
	}
	option := uint8(optionSourceLinkLayer)
	if m.Type == Advertisement {
		option = optionTargetLinkLayer
		m.Router = body[4]&flagRouter != 0
		m.Solicited = body[4]&flagSolicited != 0
		m.Override = body[4]&flagOverride != 0
		if m.Solicited && m.Dst.IsMulticast() {
			return Message{}, ErrInvalid
		}
	}
	var err error
	m.LinkLayer, err = linkLayer(body[messageLen:], option)
	return m, err
}

// linkLayer returns the link-layer address in the first option of the given type; zero if there is none.
func linkLayer(options []byte, wanted uint8) (ether.MAC, error) {
	var found ether.MAC
	for len(options) > 0 {
		if len(options) < 2 {
			return ether.MAC{}, ErrShort
		}
		length := int(options[1]) * 8
		switch {
		case length == 0:
			return ether.MAC{}, ErrInvalid
		case length > len(options):
			return ether.MAC{}, ErrShort
		}
		if options[0] == wanted && length == linkLayerLen && found.IsZero() {
			found = ether.MAC(options[2:8])
		}
		options = options[length:]
	}
	return found, nil
}
