package rawsock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
)

func TestIPv4HeaderIsKeepaliveds(t *testing.T) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("224.0.0.18")
	got := hex.EncodeToString(appendIPv4Header(nil, src, dst, 255, 0x0102, 20))
	want := "45c0" + "0028" + "0102" + "0000" + "ff70" + "0000" + "c0000201" + "e0000012"
	if got != want {
		t.Errorf("header\n got %s\nwant %s", got, want)
	}
}

func TestParseIPv4(t *testing.T) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("224.0.0.18")
	message := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	plain := append(appendIPv4Header(nil, src, dst, 255, 1, len(message)), message...)
	options := append([]byte(nil), plain[:20]...)
	options[0], options[3] = 0x46, byte(24+len(message))
	options = append(append(options, 0x94, 4, 0, 0), message...) // router alert
	for name, packet := range map[string][]byte{
		"plain": plain, "padded by the link": append(plain[:len(plain):len(plain)], 0, 0, 0), "with options": options,
	} {
		d, err := parseIPv4(packet)
		if err != nil || d.Src != src || d.Dst != dst || d.TTL != 255 || !bytes.Equal(d.Payload, message) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	for n := range plain {
		if d, err := parseIPv4(plain[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %+v, %v", n, d, err)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	group := netip.MustParseAddr("224.0.0.18")
	for name, config := range map[string]Config{
		"group of another family":     {IPv6: true, Interface: "lo", Index: 1, Group: group, TTL: 255},
		"not a group":                 {Interface: "lo", Index: 1, Group: netip.MustParseAddr("192.0.2.1"), TTL: 255},
		"multicast without interface": {Group: group, TTL: 255},
		"interface without index":     {Interface: "lo", TTL: 255},
		"IPv4 without TTL":            {Interface: "lo", Index: 1},
		"multicast without hop limit": {IPv6: true, Interface: "lo", Index: 1, Group: netip.MustParseAddr("ff02::12")},
		"TTL 256":                     {Interface: "lo", Index: 1, TTL: 256},
	} {
		if s, err := Open(config); err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Close()
		}
	}
}

// Whatever arrives, parseIPv4 does not panic, and the payload lies within the packet.
func FuzzParseIPv4(f *testing.F) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("224.0.0.18")
	f.Add(appendIPv4Header(nil, src, dst, 255, 1, 0))
	f.Add(append(appendIPv4Header(nil, src, dst, 255, 1, 8), 1, 2, 3, 4, 5, 6, 7, 8))
	f.Fuzz(func(t *testing.T, packet []byte) {
		d, err := parseIPv4(packet)
		if err != nil {
			return
		}
		if !d.Src.Is4() || !d.Dst.Is4() || d.TTL < 0 || d.TTL > 255 || len(d.Payload) > len(packet)-ipv4HeaderLen {
			t.Errorf("%x gave %+v", packet, d)
		}
	})
}

// Whatever the control data is, parseControl does not panic and leaves no datagram without interface.
func FuzzParseControl(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 64))
	f.Fuzz(func(t *testing.T, control []byte) {
		d := Datagram{Src: netip.IPv6Unspecified()}
		if err := d.parseControl(control); err == nil && (d.Index == 0 || !d.Dst.IsValid()) {
			t.Errorf("%x gave %+v", control, d)
		}
	})
}
