//go:build interop

package interop_test

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	protocolICMPv6 = 58
	protocolVRRP   = 112

	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
)

// question is a frame that asks who has an address: an ARP request, or a neighbour solicitation to the address's
// solicited-node group (RFC 4861 section 4.3).
func question(mac net.HardwareAddr, source, target netip.Addr) []byte {
	if target.Is4() {
		b := ethernet(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, etherARP)
		b = append(b, 0, 1, 8, 0, 6, 4, 0, 1)
		b = append(append(b, mac...), source.AsSlice()...)
		return append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	}
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 0x01, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	b := ethernet(net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}, mac, etherIPv6)
	b = append(b, 0x60, 0, 0, 0, 0, 32, protocolICMPv6, 255)
	b = append(append(b, source.AsSlice()...), group.AsSlice()...)
	start := len(b)
	b = append(b, 135, 0, 0, 0, 0, 0, 0, 0)
	b = append(append(b, t[:]...), 1, 1)
	b = append(b, mac...)
	s, g := source.As16(), group.As16()
	pseudo := append(append(s[:], g[:]...), 0, 0, 0, 32, 0, 0, 0, protocolICMPv6)
	binary.BigEndian.PutUint16(b[start+2:], ^onesSum(append(pseudo, b[start:]...)))
	return b
}

func ethernet(dst, src net.HardwareAddr, etherType uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte{}, dst...), src...), etherType)
}

// onesSum is the ones' complement sum of RFC 1071 over an even number of bytes.
func onesSum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// kind is what a frame is about.
type kind uint8

const (
	other  kind = iota
	advert      // a VRRP advertisement
	claim       // a gratuitous ARP or unsolicited neighbour advertisement
	answer      // an ARP reply or solicited neighbour advertisement
)

func (k kind) String() string { return [...]string{"other", "advertisement", "claim", "answer"}[k] }

// frame is what was read out of an Ethernet frame.
type frame struct {
	kind kind
	mac  net.HardwareAddr // of the sender
	raw  []byte

	addr netip.Addr // claim, answer: the address

	ipv6                    bool // advert
	src, dst                netip.Addr
	version, vrid, priority uint8
}

// read reads a frame; whatever is too short or of no interest is other.
func read(raw []byte) frame {
	f := frame{raw: raw}
	if len(raw) < ethernetLen {
		return f
	}
	f.mac = net.HardwareAddr(raw[6:12])
	p := raw[ethernetLen:]
	switch etherType := binary.BigEndian.Uint16(raw[12:]); {
	case etherType == etherARP && len(p) >= 28:
		sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
		f.addr = sender
		switch {
		case sender == target:
			f.kind = claim
		case p[7] == 2:
			f.kind = answer
		}
	case etherType == etherIPv4 && len(p) >= ipv4Len && p[9] == protocolVRRP:
		f.src, f.dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		f.advertisement(p[int(p[0]&0x0f)*4:])
	case etherType == etherIPv6 && len(p) >= ipv6Len:
		f.ipv6 = true
		f.src, f.dst = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		body := p[ipv6Len:]
		switch {
		case p[6] == protocolVRRP:
			f.advertisement(body)
		case p[6] == protocolICMPv6 && len(body) >= 24 && body[0] == 136:
			f.addr, f.kind = netip.AddrFrom16([16]byte(body[8:24])), claim
			if body[4]&0x40 != 0 { // solicited (RFC 4861 section 4.4)
				f.kind = answer
			}
		}
	}
	return f
}

func (f *frame) advertisement(body []byte) {
	if len(body) >= 8 {
		f.kind, f.version, f.vrid, f.priority = advert, body[0]>>4, body[1], body[2]
	}
}
