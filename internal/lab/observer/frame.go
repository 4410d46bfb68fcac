package observer

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Ethernet and IP numbers that the frames need.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	protocolICMP   = 1
	protocolICMPv6 = 58
	protocolVRRP   = 112

	ethernetLen = 14
	arpLen      = 28 // RFC 826, Ethernet and IPv4
	ipv4Len     = 20
	ipv6Len     = 40
	echoLen     = 8 + 4 // RFC 792 header and the number of the request

	arpRequest = 1
	arpReply   = 2

	icmpEchoReply   = 0
	icmpEcho        = 8
	icmpv6Echo      = 128
	icmpv6EchoReply = 129
	icmpv6NS        = 135
	icmpv6NA        = 136

	naSolicited = 0x40 // RFC 4861 section 4.4, S flag in the first byte after the checksum
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func appendEthernet(b []byte, dst, src net.HardwareAddr, etherType uint16) []byte {
	b = append(b, dst...)
	b = append(b, src...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// appendARPRequest appends a broadcast frame in which source asks who has target.
func appendARPRequest(b []byte, mac net.HardwareAddr, source, target netip.Addr) []byte {
	b = appendEthernet(b, broadcast, mac, etherARP)
	b = append(b, 0, 1, 0x08, 0x00, 6, 4, 0, arpRequest)
	b = append(b, mac...)
	b = append(b, source.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, target.AsSlice()...)
}

// appendSolicitation appends a neighbour solicitation for target to its solicited-node group (RFC 4861 section 4.3).
func appendSolicitation(b []byte, mac net.HardwareAddr, source, target netip.Addr) []byte {
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 0x01, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	b = appendEthernet(b, net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}, mac, etherIPv6)
	b = appendIPv6(b, source, group, protocolICMPv6, 32)
	start := len(b)
	b = append(b, icmpv6NS, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, t[:]...)
	b = append(b, 1, 1) // option: source link-layer address, one unit of 8 bytes
	b = append(b, mac...)
	binary.BigEndian.PutUint16(b[start+2:], checksum6(source, group, b[start:]))
	return b
}

// appendEcho appends an echo request to target, addressed to a hardware address whether or not that station owns the target.
func appendEcho(b []byte, dst, mac net.HardwareAddr, source, target netip.Addr, id uint16, number uint32) []byte {
	var start int
	if target.Is4() {
		b = appendEthernet(b, dst, mac, etherIPv4)
		ip := len(b)
		b = append(b, 0x45, 0, 0, ipv4Len+echoLen, 0, 0, 0x40, 0, 64, protocolICMP, 0, 0)
		b = append(b, source.AsSlice()...)
		b = append(b, target.AsSlice()...)
		binary.BigEndian.PutUint16(b[ip+10:], ^sum(0, b[ip:]))
		start = len(b)
		b = append(b, icmpEcho, 0, 0, 0)
	} else {
		b = appendEthernet(b, dst, mac, etherIPv6)
		b = appendIPv6(b, source, target, protocolICMPv6, echoLen)
		start = len(b)
		b = append(b, icmpv6Echo, 0, 0, 0)
	}
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(number))
	b = binary.BigEndian.AppendUint32(b, number)
	if target.Is4() {
		binary.BigEndian.PutUint16(b[start+2:], ^sum(0, b[start:]))
	} else {
		binary.BigEndian.PutUint16(b[start+2:], checksum6(source, target, b[start:]))
	}
	return b
}

func appendIPv6(b []byte, source, target netip.Addr, next byte, length uint16) []byte {
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(b, next, 255)
	b = append(b, source.AsSlice()...)
	return append(b, target.AsSlice()...)
}

// sum adds data to a ones' complement sum (RFC 1071). All parts but the last must have an even length.
func sum(start uint16, data []byte) uint16 {
	total := uint32(start)
	for ; len(data) >= 2; data = data[2:] {
		total += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		total += uint32(data[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

// checksum6 is ICMPv6's checksum with the pseudo-header of RFC 8200 section 8.1.
func checksum6(source, target netip.Addr, message []byte) uint16 {
	s, t := source.As16(), target.As16()
	total := sum(sum(0, s[:]), t[:])
	total = sum(total, []byte{0, 0, byte(len(message) >> 8), byte(len(message)), 0, 0, 0, protocolICMPv6})
	return ^sum(total, message)
}

// heard is what a received frame says.
type heard struct {
	kind   Kind             // how the station showed itself; 0: not at all
	mac    net.HardwareAddr // the station; valid until the frame's buffer is used again
	vip    netip.Addr       // the address that it showed itself as the owner of
	to     netip.Addr       // ARP, ND: the source address of the request that is answered
	id     uint16           // Echo: identifier
	number uint32           // Echo: number of the request
	advert *Advert          // a VRRP advertisement; At and Station are not set
}

// parse reads a frame. Whatever is too short or something else yields the zero value: the observer only counts what it
// understands.
func parse(frame []byte) heard {
	if len(frame) < ethernetLen {
		return heard{}
	}
	src := net.HardwareAddr(frame[6:12])
	payload := frame[ethernetLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return parseARP(payload)
	case etherIPv4:
		return parseIPv4(src, payload)
	case etherIPv6:
		return parseIPv6(src, payload)
	}
	return heard{}
}

// parseARP reads an ARP packet. Its sender claims the sender's address: by an answer if it is a reply to somebody, else
// unasked. Probes (RFC 5227) have the unspecified address as sender and claim nothing.
func parseARP(p []byte) heard {
	if len(p) < arpLen || binary.BigEndian.Uint16(p[2:]) != etherIPv4 || p[4] != 6 || p[5] != 4 {
		return heard{}
	}
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	if sender.IsUnspecified() {
		return heard{}
	}
	h := heard{mac: net.HardwareAddr(p[8:14]), vip: sender}
	switch op := binary.BigEndian.Uint16(p[6:]); {
	case op == arpReply && target != sender:
		h.kind, h.to = ARP, target
	case op == arpReply || op == arpRequest:
		h.kind = Claim
	default:
		return heard{}
	}
	return h
}

func parseIPv4(src net.HardwareAddr, p []byte) heard {
	if len(p) < ipv4Len || p[0]>>4 != 4 {
		return heard{}
	}
	header, total := int(p[0]&0x0f)*4, int(binary.BigEndian.Uint16(p[2:]))
	if header < ipv4Len || total < header || total > len(p) {
		return heard{}
	}
	source, body := netip.AddrFrom4([4]byte(p[12:16])), p[header:total]
	switch p[9] {
	case protocolICMP:
		return parseEcho(src, source, body, icmpEchoReply)
	case protocolVRRP:
		return parseAdvert(src, source, body)
	}
	return heard{}
}

func parseIPv6(src net.HardwareAddr, p []byte) heard {
	if len(p) < ipv6Len || p[0]>>4 != 6 {
		return heard{}
	}
	length := int(binary.BigEndian.Uint16(p[4:]))
	if ipv6Len+length > len(p) {
		return heard{}
	}
	source, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	body := p[ipv6Len : ipv6Len+length]
	switch p[6] {
	case protocolVRRP:
		return parseAdvert(src, source, body)
	case protocolICMPv6:
		if len(body) >= 24 && body[0] == icmpv6NA {
			h := heard{mac: src, vip: netip.AddrFrom16([16]byte(body[8:24])), kind: Claim}
			if body[4]&naSolicited != 0 {
				h.kind, h.to = ND, dst
			}
			return h
		}
		return parseEcho(src, source, body, icmpv6EchoReply)
	}
	return heard{}
}

func parseEcho(src net.HardwareAddr, source netip.Addr, body []byte, reply byte) heard {
	if len(body) < echoLen || body[0] != reply {
		return heard{}
	}
	return heard{kind: Echo, mac: src, vip: source, id: binary.BigEndian.Uint16(body[4:]), number: binary.BigEndian.Uint32(body[8:])}
}

// parseAdvert reads the fields of an advertisement that versions 2 (RFC 3768) and 3 (RFC 9568) have in common, without
// judging it.
func parseAdvert(src net.HardwareAddr, source netip.Addr, body []byte) heard {
	if len(body) < 8 || body[0]&0x0f != 1 {
		return heard{}
	}
	return heard{mac: src, advert: &Advert{Source: source, Version: body[0] >> 4, VRID: body[1], Priority: body[2]}}
}
