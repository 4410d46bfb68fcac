package ndp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"github.com/hactl/had/internal/linux/ether"
)

var (
	mac       = ether.MAC{2, 0, 0, 0, 0, 0x0a}
	ip        = netip.MustParseAddr("2001:db8::aabb:ccdd")
	linkLocal = netip.MustParseAddr("fe80::a")
)

func TestUnsolicitedAdvertisementOnTheWire(t *testing.T) {
	frame, err := NewUnsolicited(mac, ip, true).AppendFrame(nil, mac)
	if err != nil {
		t.Fatal(err)
	}
	want := "333300000001" + "02000000000a" + "86dd" + // to all nodes
		"60000000" + "0020" + "3a" + "ff" + // ICMPv6, hop limit 255
		"20010db80000000000000000aabbccdd" + // from the address itself
		"ff020000000000000000000000000001" +
		"8800" + "89f0" + "a0000000" + // router and override, not solicited
		"20010db80000000000000000aabbccdd" +
		"0201" + "02000000000a" // target link-layer address
	if got := hex.EncodeToString(frame); got != want {
		t.Errorf("frame\n got %s\nwant %s", got, want)
	}
}

func TestSolicitedNodeGroup(t *testing.T) {
	group := SolicitedNode(ip)
	if want := netip.MustParseAddr("ff02::1:ffbb:ccdd"); group != want {
		t.Errorf("SolicitedNode(%v) = %v, want %v", ip, group, want)
	}
	if got, want := GroupMAC(group), (ether.MAC{0x33, 0x33, 0xff, 0xbb, 0xcc, 0xdd}); got != want {
		t.Errorf("GroupMAC(%v) = %v, want %v", group, got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		name    string
		message Message
	}{
		{"unsolicited advertisement of a host", NewUnsolicited(mac, ip, false)},
		{"unsolicited advertisement of a router", NewUnsolicited(mac, ip, true)},
		{"solicitation", NewProbe(mac, linkLocal, ip)},
		{"solicitation of duplicate address detection has no option", NewProbe(mac, netip.IPv6Unspecified(), ip)},
		{"answer", Message{Type: Advertisement, Src: ip, Dst: linkLocal, Target: ip, Solicited: true, LinkLayer: mac}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			packet, err := test.message.AppendPacket(nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(append(packet, 0, 0, 0)) // padded
			if err != nil || got != test.message {
				t.Errorf("Parse = %+v, %v\nwant %+v", got, err, test.message)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	packet := func(change func(m *Message)) []byte {
		m := NewUnsolicited(mac, ip, false)
		change(&m)
		b, err := m.AppendPacket(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	patch := func(offset int, value byte) []byte {
		b := packet(func(*Message) {})
		b[offset] = value
		b[42], b[43] = 0, 0
		binary.BigEndian.PutUint16(b[42:], checksum(b[8:40], b[40:]))
		return b
	}
	tests := []struct {
		name   string
		packet []byte
		want   error
	}{
		{"hop limit 254: it has crossed a router", patch(7, 254), ErrHopLimit},
		{"another ICMPv6 type", patch(40, 134), ErrForeign},
		{"another next header", patch(6, 17), ErrForeign},
		{"IPv4", patch(0, 0x45), ErrForeign},
		{"code not 0", patch(41, 1), ErrInvalid},
		{"option of length 0", patch(65, 0), ErrInvalid},
		{"option longer than the packet", patch(65, 2), ErrShort},
		{"target is a group", packet(func(m *Message) { m.Target = AllNodes }), ErrInvalid},
		{"solicited, but to a group", packet(func(m *Message) { m.Solicited = true }), ErrInvalid},
		{"source is a group", packet(func(m *Message) { m.Src = AllNodes }), ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if m, err := Parse(test.packet); !errors.Is(err, test.want) {
				t.Errorf("Parse = %+v, %v, want %v", m, err, test.want)
			}
		})
	}
	valid := packet(func(*Message) {})
	for n := range valid {
		if _, err := Parse(valid[:n]); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %v, want %v", n, err, ErrShort)
		}
	}
	for i := 8; i < len(valid); i++ {
		changed := append([]byte(nil), valid...)
		changed[i] ^= 0x10
		if _, err := Parse(changed); err == nil {
			t.Errorf("byte %d changed, and the checksum is accepted", i)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, m := range []Message{
		NewUnsolicited(mac, netip.MustParseAddr("192.0.2.1"), false),
		{Type: 1, Src: ip, Dst: AllNodes, Target: ip},
		{Type: Advertisement},
	} {
		if b, err := m.AppendPacket(nil); err == nil {
			t.Errorf("%+v gave %x", m, b)
		}
	}
	answer := Message{Type: Advertisement, Src: ip, Dst: linkLocal, Target: ip}
	if b, err := answer.AppendFrame(nil, mac); err == nil {
		t.Errorf("a frame to %v without its hardware address: %x", linkLocal, b)
	}
}

// Whatever arrives, Parse does not panic, and a message that it accepts survives encoding.
func FuzzParse(f *testing.F) {
	for _, m := range []Message{
		NewUnsolicited(mac, ip, true), NewProbe(mac, linkLocal, ip), NewProbe(mac, netip.IPv6Unspecified(), ip),
	} {
		b, err := m.AppendPacket(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 44 { // let the fuzzer get past the checksum
			length := int(binary.BigEndian.Uint16(b[4:]))
			if length >= 4 && len(b) >= headerLen+length {
				b[42], b[43] = 0, 0
				binary.BigEndian.PutUint16(b[42:], checksum(b[8:40], b[40:40+length]))
			}
		}
		m, err := Parse(b)
		if err != nil {
			return
		}
		for _, addr := range [...]netip.Addr{m.Src, m.Dst, m.Target} {
			if addr.Is4In6() {
				return // such addresses are received, never sent
			}
		}
		encoded, err := m.AppendPacket(nil)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if again, err := Parse(encoded); err != nil || again != m {
			t.Errorf("round trip\n got %+v, %v\nwant %+v", again, err, m)
		}
	})
}
