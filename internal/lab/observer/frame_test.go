package observer

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
)

var (
	mac    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirs = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	us4    = netip.MustParseAddr("10.77.0.200")
	vip4   = netip.MustParseAddr("10.77.0.100")
	us6    = netip.MustParseAddr("fd00:77::200")
	vip6   = netip.MustParseAddr("fd00:77::100")
)

// The frames below were checked against a packet dissector's view of them: addresses, types and checksums.
func TestRequestsOnTheWire(t *testing.T) {
	for _, test := range []struct {
		name string
		got  []byte
		want []byte
	}{
		{"ARP", appendARPRequest(nil, mac, us4, vip4), []byte{
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6,
			0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 77, 0, 200, 0, 0, 0, 0, 0, 0, 10, 77, 0, 100}},
		{"neighbour solicitation", appendSolicitation(nil, mac, us6, vip6), append([]byte{
			0x33, 0x33, 0xff, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
			0x60, 0, 0, 0, 0, 32, 58, 255,
			0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0,
			0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 1, 0,
			135, 0}, 0x78, 0xae, 0, 0, 0, 0,
			0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
			1, 1, 2, 0, 0, 0, 0, 1)},
		{"ping", appendEcho(nil, theirs, mac, us4, vip4, 7, 0x00010203), []byte{
			2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
			0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 1, 0x25, 0x18, 10, 77, 0, 200, 10, 77, 0, 100,
			8, 0, 0xf3, 0xf1, 0, 7, 2, 3, 0, 1, 2, 3}},
	} {
		if !bytes.Equal(test.got, test.want) {
			t.Errorf("%s:\ngot  % x\nwant % x", test.name, test.got, test.want)
		}
	}
}

func TestChecksumsCancelOut(t *testing.T) {
	v4 := appendEcho(nil, theirs, mac, us4, vip4, 0xfffe, 0xfffefdfc)
	if got := sum(0, v4[ethernetLen:ethernetLen+ipv4Len]); got != 0xffff {
		t.Errorf("IPv4 header sums to %#x", got)
	}
	if got := sum(0, v4[ethernetLen+ipv4Len:]); got != 0xffff {
		t.Errorf("ICMP message sums to %#x", got)
	}
	v6 := appendEcho(nil, theirs, mac, us6, vip6, 0xfffe, 0xfffefdfc)
	if got := checksum6(us6, vip6, v6[ethernetLen+ipv6Len:]); got != 0 {
		t.Errorf("ICMPv6 checksum over itself is %#x", got)
	}
}

// arp makes an ARP frame.
func arp(op byte, sender net.HardwareAddr, from, to netip.Addr) []byte {
	b := appendARPRequest(nil, sender, from, to)
	b[ethernetLen+7] = op
	return b
}

// advertisement makes a VRRPv2 advertisement in an IPv4 frame.
func advertisement() []byte {
	b := appendEcho(nil, theirs, mac, us4, netip.MustParseAddr("224.0.0.18"), 0, 0)
	b[ethernetLen+9] = protocolVRRP
	copy(b[ethernetLen+ipv4Len:], []byte{0x21, 51, 100, 1, 0, 1, 0, 0})
	return b
}

func TestFramesSayWhoOwnsWhat(t *testing.T) {
	echo4 := appendEcho(nil, mac, theirs, vip4, us4, 7, 42)
	echo4[ethernetLen+ipv4Len] = icmpEchoReply
	echo6 := appendEcho(nil, mac, theirs, vip6, us6, 7, 42)
	echo6[ethernetLen+ipv6Len] = icmpv6EchoReply
	advertise := func(flags byte) []byte {
		b := appendSolicitation(nil, theirs, vip6, vip6)
		b[ethernetLen+ipv6Len], b[ethernetLen+ipv6Len+4] = icmpv6NA, flags
		copy(b[ethernetLen+24:], us6.AsSlice())
		return b
	}
	for _, test := range []struct {
		name  string
		frame []byte
		want  heard
	}{
		{"an ARP answer", arp(arpReply, theirs, vip4, us4), heard{kind: ARP, mac: theirs, vip: vip4, to: us4}},
		{"a gratuitous ARP request", arp(arpRequest, theirs, vip4, vip4), heard{kind: Claim, mac: theirs, vip: vip4}},
		{"a gratuitous ARP reply", arp(arpReply, theirs, vip4, vip4), heard{kind: Claim, mac: theirs, vip: vip4}},
		{"the owner asks for somebody", arp(arpRequest, theirs, vip4, us4), heard{kind: Claim, mac: theirs, vip: vip4}},
		{"an ARP probe", arp(arpRequest, theirs, netip.IPv4Unspecified(), vip4), heard{}},
		{"reverse ARP", arp(3, theirs, vip4, us4), heard{}},
		{"a neighbour advertisement", advertise(naSolicited | 0x20), heard{kind: ND, mac: theirs, vip: vip6, to: us6}},
		{"an unsolicited one", advertise(0x20), heard{kind: Claim, mac: theirs, vip: vip6}},
		{"an answered ping", echo4, heard{kind: Echo, mac: theirs, vip: vip4, id: 7, number: 42}},
		{"an answered ping, IPv6", echo6, heard{kind: Echo, mac: theirs, vip: vip6, id: 7, number: 42}},
		{"a ping", appendEcho(nil, theirs, mac, us4, vip4, 7, 42), heard{}},
		{"nothing", nil, heard{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := parse(test.frame)
			if got.kind != test.want.kind || got.mac.String() != test.want.mac.String() || got.vip != test.want.vip ||
				got.to != test.want.to || got.id != test.want.id || got.number != test.want.number || got.advert != nil {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestAdvertisementsAreRead(t *testing.T) {
	h := parse(advertisement())
	if h.advert == nil || *h.advert != (Advert{Source: us4, Version: 2, VRID: 51, Priority: 100}) || h.mac.String() != mac.String() {
		t.Errorf("got %+v", h)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(arp(arpReply, theirs, vip4, us4))
	f.Add(advertisement())
	f.Add(appendSolicitation(nil, mac, us6, vip6))
	f.Add(appendEcho(nil, theirs, mac, us6, vip6, 1, 2))
	long := appendEcho(nil, theirs, mac, us4, vip4, 1, 2)
	binary.BigEndian.PutUint16(long[ethernetLen+2:], 9000)
	f.Add(long)
	f.Fuzz(func(t *testing.T, frame []byte) {
		h := parse(frame)
		if h.kind != 0 && (!h.vip.IsValid() || len(h.mac) != 6) {
			t.Errorf("sighting without an address or a station: %+v", h)
		}
		if (h.kind == ARP || h.kind == ND) && !h.to.IsValid() {
			t.Errorf("answer to nobody: %+v", h)
		}
	})
}
