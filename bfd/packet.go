package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// packetLen is the length of a control packet without authentication.
const packetLen = 24

// Packet is a BFD control packet without authentication (RFC 5880 section 4.1). Intervals are whole microseconds.
type Packet struct {
	Diag  Diag
	State State

	Poll   bool // an answer with Final is wanted
	Final  bool
	Demand bool // the sender is not to be sent packets while the session is Up

	Multiplier uint8
	My, Your   uint32 // discriminators; Your is 0 as long as it is not known
	MinTX      time.Duration
	MinRX      time.Duration // 0: the sender wants no periodic packets
}

const version = 1

// Flags of the second byte.
const (
	flagPoll           = 0x20
	flagFinal          = 0x10
	flagAuthentication = 0x04
	flagDemand         = 0x02
	flagMultipoint     = 0x01
)

// Append appends the packet as it goes onto the wire.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for bit, set := range map[byte]bool{flagPoll: p.Poll, flagFinal: p.Final, flagDemand: p.Demand} {
		if set {
			flags |= bit
		}
	}
	b = append(b, version<<5|byte(p.Diag), flags, p.Multiplier, packetLen)
	b = binary.BigEndian.AppendUint32(b, p.My)
	b = binary.BigEndian.AppendUint32(b, p.Your)
	b = binary.BigEndian.AppendUint32(b, uint32(p.MinTX/time.Microsecond))
	b = binary.BigEndian.AppendUint32(b, uint32(p.MinRX/time.Microsecond))
	return binary.BigEndian.AppendUint32(b, 0) // we do not answer echo packets
}

// Parse reads a packet, with the checks of RFC 5880 section 6.8.6 that need no session. The error says why the packet is to
// be discarded.
func Parse(b []byte) (Packet, error) {
	if len(b) < packetLen {
		return Packet{}, fmt.Errorf("%d bytes are too short", len(b))
	}
	flags := b[1]
	p := Packet{
		Diag: Diag(b[0] & 0x1f), State: State(flags >> 6), Poll: flags&flagPoll != 0, Final: flags&flagFinal != 0,
		Demand: flags&flagDemand != 0, Multiplier: b[2],
		My: binary.BigEndian.Uint32(b[4:]), Your: binary.BigEndian.Uint32(b[8:]),
		MinTX: time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Microsecond,
		MinRX: time.Duration(binary.BigEndian.Uint32(b[16:])) * time.Microsecond,
	}
	switch {
	case b[0]>>5 != version:
		return Packet{}, fmt.Errorf("version %d is not 1", b[0]>>5)
	case int(b[3]) < packetLen || int(b[3]) > len(b):
		return Packet{}, fmt.Errorf("length %d of %d bytes", b[3], len(b))
	case flags&flagAuthentication != 0:
		return Packet{}, errors.New("authentication is not used here")
	case flags&flagMultipoint != 0:
		return Packet{}, errors.New("multipoint bit is set")
	case p.Multiplier == 0:
		return Packet{}, errors.New("detection multiplier is 0")
	case p.My == 0:
		return Packet{}, errors.New("discriminator is 0")
	case p.Your == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, fmt.Errorf("state %v without our discriminator", p.State)
	}
	return p, nil
}
