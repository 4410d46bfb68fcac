// Package packet encodes and checks VRRP advertisements of version 2 (RFC 3768) and version 3 (RFC 9568), over IPv4 and
// IPv6, as keepalived sends and accepts them.
//
// It works on the VRRP message, without the IP header: Append makes one, Parse checks one and says by a Verdict why it
// was not accepted. Everything is in host order and in real types. The package is pure, and its functions may be called
// by any goroutine.
//
// Where the RFCs leave room, keepalived decides: a version 2 message over IPv4 always carries 8 bytes of authentication
// data, also when the type is "none", and one over IPv6, which RFC 3768 does not know, never does; the IPv4 checksum of
// version 3 has a pseudo-header unless told otherwise; the list of addresses is compared by the caller and never a reason
// to drop a message.
//
// The IPsec authentication header (auth_type AH) is not part of the VRRP message and not handled here.
package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Protocol is the IP protocol number of VRRP.
const Protocol = 112

// LinkTTL is the IP TTL or hop limit of every multicast advertisement (RFC 9568 sections 5.1.1.3 and 5.1.2.3).
const LinkTTL = 255

// Groups of multicast advertisements (RFC 9568 sections 5.1.1.2 and 5.1.2.2).
var (
	GroupIPv4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	GroupIPv6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
)

// Sizes in bytes, and the largest values that fit their fields.
const (
	headerLen = 8 // before the addresses, both versions
	authLen   = 8 // version 2 over IPv4, after the addresses

	checksumOffset = 6

	maxAddresses      = 255
	maxSeconds        = 255    // version 2: 8 bits of seconds
	maxCentiseconds   = 0x0fff // version 3: 12 bits of centiseconds
	typeAdvertisement = 1
	centisecond       = 10 * time.Millisecond

	// minEthernetPayload is the least that an Ethernet frame carries; a shorter packet arrives padded.
	minEthernetPayload = 46
)

// AuthType is the authentication type of version 2 (RFC 2338 section 5.3.6).
type AuthType uint8

// The authentication types that keepalived knows.
const (
	AuthNone AuthType = 0
	AuthPass AuthType = 1 // the password stands in the message in plain text
	AuthAH   AuthType = 2 // the message is carried in an IPsec authentication header; its data field is zero
)

// Auth is the authentication of a version 2 message.
type Auth struct {
	Type AuthType
	Data [8]byte // not carried over IPv6
}

// Password returns the authentication that auth_type PASS makes of a password: padded with zero bytes, cut to 8.
func Password(password string) Auth {
	auth := Auth{Type: AuthPass}
	copy(auth.Data[:], password)
	return auth
}

// Advertisement is one VRRP message.
type Advertisement struct {
	Version  uint8 // 2 or 3
	VRID     uint8
	Priority uint8

	// Interval is the advertisement interval. Version 2 carries whole seconds, version 3 centiseconds.
	Interval time.Duration

	// Addresses are the virtual addresses, all of one family, in the order of configuration.
	Addresses []netip.Addr

	// Auth is used in version 2 only.
	Auth Auth

	// Stamp is that of a received message with a trailer, else zero; Senders says whether it is new. Append ignores it.
	Stamp Stamp
}

// Options are the choices about the checksum of version 3 over IPv4.
type Options struct {
	// ChecksumAsV2 leaves the pseudo-header out, as in version 2 (v3_checksum_as_v2). A receiver with this option does not
	// reject a message with a wrong checksum.
	ChecksumAsV2 bool

	// OldUnicast puts the multicast group in the pseudo-header of a unicast message, as very old releases did
	// (old_unicast_checksum).
	OldUnicast bool
}

// Append appends the message for a, sent from src to dst, to b and returns the extended slice. src and dst are of the
// family of the addresses; they go into the pseudo-header of version 3. It fails if a cannot be expressed on the wire.
// The checksum of IPv6 is computed here too; a kernel that computes it again gets the same.
func Append(b []byte, a Advertisement, src, dst netip.Addr, opts Options) ([]byte, error) {
	src, dst = src.Unmap().WithZone(""), dst.Unmap().WithZone("")
	interval, err := a.check(src, dst)
	if err != nil {
		return nil, fmt.Errorf("encode advertisement of virtual router %d: %w", a.VRID, err)
	}
	start := len(b)
	b = append(b, a.Version<<4|typeAdvertisement, a.VRID, a.Priority, uint8(len(a.Addresses)))
	if a.Version == 2 {
		b = append(b, uint8(a.Auth.Type), uint8(interval))
	} else {
		b = binary.BigEndian.AppendUint16(b, interval)
	}
	b = append(b, 0, 0)
	for _, addr := range a.Addresses {
		b = append(b, addr.AsSlice()...)
	}
	if hasAuthData(a.Version, src) {
		b = append(b, a.Auth.Data[:]...)
	}
	message := b[start:]
	binary.BigEndian.PutUint16(message[checksumOffset:], checksum(message, pseudoHeaderSum(a.Version, message, src, dst, opts)))
	return b, nil
}

// hasAuthData tells whether messages of a version end in authentication data.
func hasAuthData(version uint8, src netip.Addr) bool { return version == 2 && src.Is4() }

// check tells whether a can be sent from src to dst, and returns its interval in units of the wire.
func (a Advertisement) check(src, dst netip.Addr) (interval uint16, err error) {
	if !src.IsValid() || src.Is4() != dst.Is4() || !dst.IsValid() {
		return 0, fmt.Errorf("source %v and destination %v are not of one family", src, dst)
	}
	if a.VRID == 0 {
		return 0, fmt.Errorf("virtual router identifier 0 is not in 1..255")
	}
	if len(a.Addresses) > maxAddresses {
		return 0, fmt.Errorf("%d addresses do not fit, the most is %d", len(a.Addresses), maxAddresses)
	}
	for _, addr := range a.Addresses {
		if !addr.IsValid() || addr.Is4() != src.Is4() || addr.Is4In6() {
			return 0, fmt.Errorf("address %v is not of the family of source %v", addr, src)
		}
	}
	unit, most := centisecond, int64(maxCentiseconds)
	switch a.Version {
	case 2:
		unit, most = time.Second, maxSeconds
	case 3:
	default:
		return 0, fmt.Errorf("version %d is neither 2 nor 3", a.Version)
	}
	units := int64(a.Interval / unit)
	if a.Interval%unit != 0 || units < 1 || units > most {
		return 0, fmt.Errorf("interval %v is not a multiple of %v in 1..%d", a.Interval, unit, most)
	}
	return uint16(units), nil
}

// checksum returns the Internet checksum of the message, whose checksum field is taken as zero, begun with sum.
func checksum(message []byte, sum uint32) uint16 {
	for i := 0; i < len(message); i += 2 {
		switch {
		case i == checksumOffset: // the checksum field itself
		case i+1 < len(message):
			sum += uint32(binary.BigEndian.Uint16(message[i:]))
		default:
			sum += uint32(message[i]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudoHeaderSum returns the sum of the pseudo-header that the checksum of a message covers: none in version 2 over
// IPv4; source, destination, protocol and length in version 3 (RFC 9568 section 5.2.8) and always over IPv6, where the
// kernel computes it without asking for the version (RFC 8200 section 8.1; the length has 32 bits).
func pseudoHeaderSum(version uint8, message []byte, src, dst netip.Addr, opts Options) uint32 {
	if src.Is4() {
		if version == 2 || opts.ChecksumAsV2 {
			return 0
		}
		if opts.OldUnicast && !dst.IsMulticast() {
			dst = GroupIPv4
		}
	}
	sum := uint32(Protocol) + uint32(len(message))
	for _, addr := range [2]netip.Addr{src, dst} {
		octets := addr.AsSlice()
		for i := 0; i < len(octets); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(octets[i:]))
		}
	}
	return sum
}
