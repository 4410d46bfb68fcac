package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Verdict says whether a message is accepted, or the first check that it failed. The zero Verdict is not valid.
type Verdict uint8

// The verdicts. A message gets the first that applies, in keepalived's order of checks, which is this order from Length
// to Source; VRID is looked at first of all.
const (
	OK               Verdict = iota + 1 // accepted
	OKOldUnicast                        // accepted with OldUnicast's checksum though not told to: use it from now on
	VRID                                // another virtual router: not an error
	Length                              // too short, or of another length than its count of addresses says
	TTL                                 // multicast with a TTL or hop limit other than 255: not from this link
	Version                             // another version than the configured one
	SealMissing                         // no trailer, though auth_hmac demands one
	SealMalformed                       // a trailer of another layout
	SealStale                           // made at a time that is too far from ours
	SealKey                             // signed with a key that we do not have
	SealInvalid                         // a wrong HMAC: forged, or the keys differ
	SealReplay                          // heard before
	AuthTypeInvalid                     // an authentication type that does not exist
	AuthTypeMismatch                    // another authentication type than the configured one
	AuthFailure                         // wrong password
	Interval                            // version 2: another interval than the configured one
	Type                                // not an advertisement
	Checksum                            // the checksum does not match
	Delivery                            // multicast for a unicast router, or the reverse
	Source                              // a unicast source that is not a peer, or a TTL outside the peer's range
	verdictsEnd
)

// Verdicts is the number of Verdict values, the invalid zero included, for arrays of counters.
const Verdicts = int(verdictsEnd)

var verdictNames = [Verdicts]string{
	OK:               "ok",
	OKOldUnicast:     "ok_old_unicast_checksum",
	VRID:             "vrid",
	Length:           "length",
	TTL:              "ttl",
	Version:          "version",
	SealMissing:      "auth_hmac_missing",
	SealMalformed:    "auth_hmac_malformed",
	SealStale:        "auth_hmac_stale",
	SealKey:          "auth_hmac_unknown_key",
	SealInvalid:      "auth_hmac_invalid",
	SealReplay:       "auth_hmac_replay",
	AuthTypeInvalid:  "auth_type_invalid",
	AuthTypeMismatch: "auth_type_mismatch",
	AuthFailure:      "auth_failure",
	Interval:         "interval",
	Type:             "type",
	Checksum:         "checksum",
	Delivery:         "delivery",
	Source:           "source",
}

// String returns the name of the verdict's counter.
func (v Verdict) String() string {
	if v == 0 || v >= verdictsEnd {
		return fmt.Sprintf("verdict(%d)", uint8(v))
	}
	return verdictNames[v]
}

// Accepted tells whether the message may reach the state machine.
func (v Verdict) Accepted() bool { return v == OK || v == OKOldUnicast }

// Meta is what the IP layer says about a received message.
type Meta struct {
	Src, Dst  netip.Addr
	TTL       int  // TTL or hop limit
	Multicast bool // Dst is a multicast group

	Wall time.Time // when it was received; for auth_hmac
}

// Peer is a router that may send unicast messages to us.
type Peer struct {
	Addr           netip.Addr
	MinTTL, MaxTTL uint8 // the range of TTLs that it may have; MaxTTL 0 means 255
}

// Expect is what the configuration of the virtual router demands of a received message.
type Expect struct {
	Version uint8
	VRID    uint8

	Auth     Auth          // version 2 only
	Interval time.Duration // version 2 only: the sender's must be equal. Version 3 learns it.
	Seal     *Seal         // auth_hmac; nil: a trailer makes the length wrong

	Unicast     bool // the router has unicast peers and takes no multicast
	CheckSource bool // unicast messages must come from one of Peers, with a TTL in its range
	Peers       []Peer

	// Options are those of Append. Without OldUnicast a unicast message of version 3 over IPv4 that has the old form is
	// accepted as OKOldUnicast, unless NeverOldUnicast.
	Options
	NeverOldUnicast bool
}

// Peek returns the version and the virtual router identifier that a message claims to have, to find whose it is. ok is
// false if it is too short to be a VRRP message.
func Peek(payload []byte) (version, vrid uint8, ok bool) {
	if len(payload) < headerLen {
		return 0, 0, false
	}
	return payload[0] >> 4, payload[1], true
}

// Parse checks a received message, which begins after the IP header, against the configuration. The Advertisement is
// meaningful if the verdict is Accepted. It keeps no reference to payload and never panics.
func Parse(payload []byte, meta Meta, expect Expect) (Advertisement, Verdict) {
	src, dst := meta.Src.Unmap().WithZone(""), meta.Dst.Unmap().WithZone("")
	version, vrid, ok := Peek(payload)
	switch {
	case !ok || !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4():
		return Advertisement{}, Length
	case vrid != expect.VRID:
		return Advertisement{}, VRID
	case meta.Multicast && meta.TTL != LinkTTL:
		return Advertisement{}, TTL
	case version != expect.Version:
		return Advertisement{}, Version
	}
	addrLen := src.BitLen() / 8
	count := int(payload[3])
	addressesEnd := headerLen + count*addrLen
	length := addressesEnd
	a := Advertisement{Version: version, VRID: vrid, Priority: payload[2]}
	withData := hasAuthData(version, src)
	if withData {
		length += authLen
	}
	if len(payload) < length {
		return Advertisement{}, Length
	}
	sealed := 0 // what the trailer takes
	if expect.Seal != nil {
		verdict := SealMissing
		switch {
		case len(payload) == length+trailerLen:
			sealed = trailerLen
			a.Stamp, verdict = expect.Seal.check(payload[:length], payload[length:], src, meta.Wall)
		case !expect.Seal.Require:
			verdict = OK
		}
		if verdict != OK {
			return Advertisement{}, verdict
		}
	}
	if version == 2 {
		a.Auth.Type = AuthType(payload[4])
		if withData {
			copy(a.Auth.Data[:], payload[addressesEnd:])
		}
		a.Interval = time.Duration(payload[5]) * time.Second
		if verdict := checkAuth(a.Auth, expect.Auth, withData); verdict != OK {
			return Advertisement{}, verdict
		}
		if a.Interval != expect.Interval {
			return Advertisement{}, Interval
		}
	} else {
		a.Interval = time.Duration(binary.BigEndian.Uint16(payload[4:])&maxCentiseconds) * centisecond
	}
	if payload[0]&0x0f != typeAdvertisement {
		return Advertisement{}, Type
	}
	if !lengthFits(len(payload)-sealed, length, src.Is4()) {
		return Advertisement{}, Length
	}
	message := payload[:length]
	if src.Is6() { // the kernel's checksum covers whatever is sent
		message = payload[:length+sealed]
	}
	verdict := checkChecksum(message, version, src, dst, meta, expect)
	if verdict == Checksum {
		return Advertisement{}, Checksum
	}
	if meta.Multicast == expect.Unicast {
		return Advertisement{}, Delivery
	}
	if expect.Unicast && (expect.CheckSource || sealed > 0) && !fromPeer(src, meta.TTL, expect.Peers) {
		return Advertisement{}, Source
	}
	a.Addresses = make([]netip.Addr, 0, count)
	for octets := message[headerLen:addressesEnd]; len(octets) > 0; octets = octets[addrLen:] {
		addr, _ := netip.AddrFromSlice(octets[:addrLen])
		a.Addresses = append(a.Addresses, addr)
	}
	return a, verdict
}

// checkAuth compares the authentication of a version 2 message with the configured one. The data, if the message carries
// it, counts for passwords only: with AH the outer header has proved the sender already.
func checkAuth(got, want Auth, withData bool) Verdict {
	switch {
	case got.Type > AuthAH:
		return AuthTypeInvalid
	case got.Type != want.Type:
		return AuthTypeMismatch
	case withData && got.Type == AuthPass && got.Data != want.Data:
		return AuthFailure
	}
	return OK
}

// lengthFits tells whether a payload may hold a message of the given length. A longer one is accepted if it looks like a
// short IPv4 packet that was padded to the least size of an Ethernet frame and carries the padding in its IP length.
func lengthFits(payload, message int, ipv4 bool) bool {
	const ipv4HeaderLen = 20
	surplus := payload - message
	return surplus == 0 || surplus > 0 && ipv4 && ipv4HeaderLen+message < minEthernetPayload && surplus%4 == 2
}

func checkChecksum(message []byte, version uint8, src, dst netip.Addr, meta Meta, expect Expect) Verdict {
	matches := func(opts Options) bool {
		sum := checksum(message, pseudoHeaderSum(version, message, src, dst, opts))
		return sum == binary.BigEndian.Uint16(message[checksumOffset:])
	}
	v3IPv4 := version == 3 && src.Is4()
	switch {
	case matches(expect.Options), v3IPv4 && expect.ChecksumAsV2:
		return OK
	case v3IPv4 && !meta.Multicast && !expect.OldUnicast && !expect.NeverOldUnicast && matches(Options{OldUnicast: true}):
		return OKOldUnicast
	}
	return Checksum
}

func fromPeer(src netip.Addr, ttl int, peers []Peer) bool {
	for _, peer := range peers {
		if peer.Addr.WithZone("") != src {
			continue
		}
		most := int(peer.MaxTTL)
		if most == 0 {
			most = LinkTTL
		}
		return ttl >= int(peer.MinTTL) && ttl <= most
	}
	return false
}

// SameAddresses tells whether a received list of addresses agrees with the configured one: as many, and every one of
// ours is there. A difference is counted and logged, the message is accepted all the same.
func SameAddresses(received, configured []netip.Addr) bool {
	if len(received) != len(configured) {
		return false
	}
	there := make(map[netip.Addr]bool, len(received))
	for _, addr := range received {
		there[addr] = true
	}
	for _, addr := range configured {
		if !there[addr] {
			return false
		}
	}
	return true
}
