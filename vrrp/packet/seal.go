package packet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// The trailer of auth_hmac stands after the message: type, key, two zero bytes, stamp, HMAC. The checksum of IPv4 does
// not cover it, that of IPv6 does.
const (
	trailerLen  = 28
	sealLen     = 16 // HMAC-SHA-256, cut
	sealType    = 1
	stampOffset = 4
	sealOffset  = trailerLen - sealLen
)

// Key is a secret of auth_hmac that all routers of a virtual router share.
type Key struct {
	ID     uint8  // 1..255
	Secret []byte // 32 to 64 bytes
}

// Seal is auth_hmac: a trailer that proves that a message comes from somebody who has a key, and when it was made.
type Seal struct {
	Keys   []Key
	Active uint8 // the id of the key that signs

	// Window is how much a message's stamp and the receiver's wall clock may differ. Zero: stamps need only grow.
	Window time.Duration

	Sign    bool // append the trailer to what is sent
	Require bool // reject messages without a trailer
}

// Stamp orders the messages of a sender: the wall clock in seconds (32 bits), a fraction of 16 bits, and a counter of 16
// bits for what the clock cannot tell apart. It is compared as serial numbers are (RFC 1982), as it wraps in 2106.
type Stamp uint64

// StampAt returns the first stamp of a moment of the wall clock.
func StampAt(wall time.Time) Stamp {
	fraction := uint64(wall.Nanosecond()) << 16 / uint64(time.Second)
	return Stamp(uint64(uint32(wall.Unix()))<<32 | fraction<<16)
}

func (s Stamp) after(other Stamp) bool { return int64(s-other) > 0 }

// from returns how far the stamp is ahead of the wall clock, in whole seconds as it is on the wire.
func (s Stamp) from(wall time.Time) time.Duration {
	return time.Duration(int32(uint32(s>>32)-uint32(wall.Unix()))) * time.Second
}

// Next returns the stamp of a new message, after one with stamp last: the clock's, or the next one if the clock has not
// moved on. A clock that was set back beyond the window is followed, because nobody would take the old stamps any more.
func (s *Seal) Next(last Stamp, wall time.Time) Stamp {
	now := StampAt(wall)
	if now.after(last) || s.Window > 0 && last.from(wall) > s.Window {
		return now
	}
	return last + 1
}

// Append appends the trailer to a message that Append made, sent from src. It appends nothing if s does not sign.
func (s *Seal) Append(message []byte, src netip.Addr, stamp Stamp) []byte {
	if s == nil || !s.Sign {
		return message
	}
	length := len(message)
	message = append(message, sealType, s.Active, 0, 0)
	message = binary.BigEndian.AppendUint64(message, uint64(stamp))
	key, _ := s.key(s.Active)
	return append(message, seal(key, message[:length], message[length:], src)...)
}

func (s *Seal) key(id uint8) (secret []byte, ok bool) {
	for _, k := range s.Keys {
		if k.ID == id {
			return k.Secret, true
		}
	}
	return nil, false
}

// seal returns the HMAC of a message, whose checksum counts as zero, and of the beginning of its trailer. Family,
// version, virtual router and source are in it too.
func seal(secret, message, head []byte, src netip.Addr) []byte {
	mac := hmac.New(sha256.New, secret)
	bound := [20]byte{0: 6, 1: message[0] >> 4, 2: message[1]}
	if src.Is4() {
		bound[0] = 4
	}
	copy(bound[4:], src.AsSlice())
	mac.Write(bound[:])
	mac.Write(message[:checksumOffset])
	mac.Write([]byte{0, 0})
	mac.Write(message[checksumOffset+2:])
	mac.Write(head)
	mac.Write(make([]byte, sealLen))
	return mac.Sum(nil)[:sealLen]
}

// check tells whether a received trailer is right. What the clock refutes is not computed.
func (s *Seal) check(message, trailer []byte, src netip.Addr, wall time.Time) (Stamp, Verdict) {
	if trailer[0] != sealType || trailer[2] != 0 || trailer[3] != 0 {
		return 0, SealMalformed
	}
	stamp := Stamp(binary.BigEndian.Uint64(trailer[stampOffset:]))
	if ahead := stamp.from(wall); s.Window > 0 && (ahead > s.Window || -ahead > s.Window) {
		return 0, SealStale
	}
	secret, ok := s.key(trailer[1])
	switch {
	case !ok:
		return 0, SealKey
	case !hmac.Equal(trailer[sealOffset:], seal(secret, message, trailer[:sealOffset], src)):
		return 0, SealInvalid
	}
	return stamp, OK
}

// sendersKept bounds what is remembered of senders. Only those that have a key get this far.
const sendersKept = 4

// Senders remembers the newest stamp of each sender, so that no message counts twice. The zero Senders is empty.
type Senders struct {
	newest []sender // the last one heard comes last
}

type sender struct {
	src   netip.Addr
	stamp Stamp
}

// Accept tells whether a stamp of a sender is newer than all before, and remembers it. What lies outside the window is
// forgotten: the window itself keeps old messages out, and a clock that was set must not lock a sender out.
func (s *Senders) Accept(src netip.Addr, stamp Stamp, wall time.Time, window time.Duration) bool {
	for i, known := range s.newest {
		if known.src != src {
			continue
		}
		ahead := known.stamp.from(wall)
		forgotten := window > 0 && (ahead > window || -ahead > window)
		if !forgotten && !stamp.after(known.stamp) {
			return false
		}
		s.newest = append(s.newest[:i], s.newest[i+1:]...)
		break
	}
	if len(s.newest) == sendersKept {
		s.newest = append(s.newest[:0], s.newest[1:]...)
	}
	s.newest = append(s.newest, sender{src, stamp})
	return true
}
