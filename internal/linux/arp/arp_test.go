package arp

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"github.com/hactl/had/internal/linux/ether"
)

var (
	mac = ether.MAC{2, 0, 0, 0, 0, 0x0a}
	ip  = netip.MustParseAddr("192.0.2.10")
)

func TestFramesOnTheWire(t *testing.T) {
	tests := []struct {
		name    string
		message Message
		want    string
	}{
		{
			"gratuitous request as keepalived sends it",
			NewGratuitous(mac, ip),
			"ffffffffffff" + "02000000000a" + "0806" + "0001" + "0800" + "06" + "04" + "0001" +
				"02000000000a" + "c000020a" + "ffffffffffff" + "c000020a",
		},
		{
			"probe of RFC 5227 section 2.1.1: no sender address, no target hardware address",
			NewProbe(mac, ip),
			"ffffffffffff" + "02000000000a" + "0806" + "0001" + "0800" + "06" + "04" + "0001" +
				"02000000000a" + "00000000" + "000000000000" + "c000020a",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			frame, err := test.message.AppendFrame(nil, ether.Broadcast)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(frame); got != test.want {
				t.Errorf("frame\n got %s\nwant %s", got, test.want)
			}
			parsed, err := Parse(frame[ether.HeaderLen:])
			if err != nil || parsed != test.message {
				t.Errorf("Parse = %+v, %v, want %+v", parsed, err, test.message)
			}
		})
	}
}

func TestKindsOfMessages(t *testing.T) {
	tests := []struct {
		name              string
		message           Message
		gratuitous, probe bool
	}{
		{"gratuitous request", NewGratuitous(mac, ip), true, false},
		{"gratuitous reply", Message{Operation: Reply, SenderMAC: mac, SenderIP: ip, TargetIP: ip}, true, false},
		{"probe", NewProbe(mac, ip), false, true},
		{"reply", Message{Operation: Reply, SenderMAC: mac, SenderIP: ip, TargetIP: ip.Next()}, false, false},
		{"request", Message{Operation: Request, SenderMAC: mac, SenderIP: ip, TargetIP: ip.Next()}, false, false},
	}
	for _, test := range tests {
		if got := test.message.Gratuitous(); got != test.gratuitous {
			t.Errorf("%s: Gratuitous() = %v", test.name, got)
		}
		if got := test.message.Probe(); got != test.probe {
			t.Errorf("%s: Probe() = %v", test.name, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	valid, err := NewGratuitous(mac, ip).AppendFrame(nil, ether.Broadcast)
	if err != nil {
		t.Fatal(err)
	}
	valid = valid[ether.HeaderLen:]
	for n := range Len {
		if _, err := Parse(valid[:n]); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %v, want %v", n, err, ErrShort)
		}
	}
	for _, offset := range []int{0, 1, 2, 3, 4, 5} {
		changed := append([]byte(nil), valid...)
		changed[offset]++
		if _, err := Parse(changed); !errors.Is(err, ErrForeign) {
			t.Errorf("byte %d changed: %v, want %v", offset, err, ErrForeign)
		}
	}
}

func TestAppendFrameRefusesIPv6(t *testing.T) {
	if frame, err := NewGratuitous(mac, netip.MustParseAddr("2001:db8::1")).AppendFrame(nil, ether.Broadcast); err == nil {
		t.Errorf("frame %x for an IPv6 address", frame)
	}
}

// Whatever arrives, Parse does not panic, and what it accepts comes out of AppendFrame as it went in.
func FuzzParse(f *testing.F) {
	for _, message := range []Message{NewGratuitous(mac, ip), NewProbe(mac, ip)} {
		frame, err := message.AppendFrame(nil, ether.Broadcast)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame[ether.HeaderLen:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		message, err := Parse(b)
		if err != nil {
			return
		}
		frame, err := message.AppendFrame(nil, ether.Broadcast)
		if err != nil {
			t.Fatalf("%+v: %v", message, err)
		}
		if got, want := string(frame[ether.HeaderLen:]), string(b[:Len]); got != want {
			t.Errorf("round trip\n got %x\nwant %x", got, want)
		}
	})
}
