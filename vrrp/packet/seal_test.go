package packet

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	sealKey = Key{ID: 1, Secret: func() (secret []byte) {
		for i := range 32 {
			secret = append(secret, byte(i))
		}
		return secret
	}()}
	noon = time.Unix(1_800_000_000, 0)
)

func enforcing() *Seal {
	return &Seal{Keys: []Key{sealKey}, Active: 1, Window: 5 * time.Second, Sign: true, Require: true}
}

// The messages are the examples of the appendix of the Internet-Draft that describes the trailer.
func TestTrailersHaveTheOctetsOfTheDraft(t *testing.T) {
	tests := []struct {
		name             string
		src, dst, vip    string
		message, trailer string
		opts             Options
	}{
		{"IPv4", "198.51.100.10", "224.0.0.18", "192.0.2.100", "3133c80100644402" + "c0000264",
			"01010000" + "6800000080000000" + "1b84bc4e8e43892dc6d98448f8ee2265", Options{ChecksumAsV2: true}},
		{"IPv6, whose checksum covers the trailer", "fe80::10", "fe80::20", "fe80::100",
			"3133c8010064a2e9" + "fe800000000000000000000000000100",
			"01010000" + "6800000080000000" + "c8c56146ebfd66ee10ec4d8186461b78", Options{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst)
			s := enforcing()
			s.Window = 0
			message := unhex(t, tt.message)
			sealed := s.Append(message, src, 0x6800000080000000)
			if got := hex.EncodeToString(sealed[len(message):]); got != tt.trailer {
				t.Errorf("trailer\n got  %s\n want %s", got, tt.trailer)
			}
			meta := Meta{Src: src, Dst: dst, TTL: 255, Multicast: dst.IsMulticast()}
			expect := Expect{Version: 3, VRID: 51, Seal: s, Options: tt.opts, Unicast: !meta.Multicast, Peers: []Peer{{Addr: src}}}
			a, verdict := Parse(unhex(t, tt.message+tt.trailer), meta, expect)
			if verdict != OK || a.Stamp != 0x6800000080000000 || a.Priority != 200 || a.Addresses[0] != netip.MustParseAddr(tt.vip) {
				t.Errorf("%v, %+v", verdict, a)
			}
		})
	}
}

func TestTheModesOfASealDecideWhatIsAccepted(t *testing.T) {
	plain := encode(t, v3(), src4, GroupIPv4, Options{})
	signed := enforcing().Append(encode(t, v3(), src4, GroupIPv4, Options{}), src4, StampAt(noon))
	receiveOnly := enforcing()
	receiveOnly.Sign, receiveOnly.Require = false, false
	if got := receiveOnly.Append(nil, src4, 1); len(got) != 0 {
		t.Errorf("mode receive-only signs: %x", got)
	}
	changed := func(at int) []byte {
		b := append([]byte{}, signed...)
		b[at] ^= 1
		return b
	}
	length := len(plain)
	otherKey := enforcing()
	otherKey.Keys = []Key{{ID: 1, Secret: make([]byte, 32)}}
	monotonic := enforcing()
	monotonic.Window = 0
	tests := []struct {
		name    string
		payload []byte
		seal    *Seal
		src     netip.Addr
		wall    time.Time
		want    Verdict
	}{
		{name: "signed, enforce", payload: signed, seal: enforcing(), want: OK},
		{name: "signed, receive-only", payload: signed, seal: receiveOnly, want: OK},
		{name: "signed, without auth_hmac", payload: signed, want: Length},
		{name: "plain, enforce", payload: plain, seal: enforcing(), want: SealMissing},
		{name: "plain, receive-only", payload: plain, seal: receiveOnly, want: OK},
		{name: "a wrong trailer is no better where none is needed", payload: changed(length + 20), seal: receiveOnly, want: SealInvalid},
		{name: "the priority was changed", payload: changed(2), seal: enforcing(), want: SealInvalid},
		{name: "an address was changed", payload: changed(length - 1), seal: enforcing(), want: SealInvalid},
		{name: "the checksum was changed: it is not signed, but looked at", payload: changed(6), seal: enforcing(), want: Checksum},
		{name: "another type of trailer", payload: changed(length), seal: enforcing(), want: SealMalformed},
		{name: "reserved bits", payload: changed(length + 3), seal: enforcing(), want: SealMalformed},
		{name: "a key that we do not have", payload: changed(length + 1), seal: enforcing(), want: SealKey},
		{name: "another secret of the same name", payload: signed, seal: otherKey, want: SealInvalid},
		{name: "the stamp was changed", payload: changed(length + 11), seal: enforcing(), want: SealInvalid},
		{name: "from another sender", payload: signed, seal: enforcing(), src: peer4, want: SealInvalid},
		{name: "five seconds ago", payload: signed, seal: enforcing(), wall: noon.Add(5 * time.Second), want: OK},
		{name: "yesterday", payload: signed, seal: enforcing(), wall: noon.Add(24 * time.Hour), want: SealStale},
		{name: "six seconds ahead", payload: signed, seal: enforcing(), wall: noon.Add(-6 * time.Second), want: SealStale},
		{name: "yesterday, monotonic", payload: signed, seal: monotonic, wall: noon.Add(24 * time.Hour), want: OK},
		{name: "cut", payload: signed[:len(signed)-1], seal: enforcing(), want: SealMissing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			meta, expect := multicast4(), expectFor(v3())
			expect.Seal, meta.Wall = tt.seal, noon
			expect.ChecksumAsV2 = false
			if tt.src.IsValid() {
				meta.Src = tt.src
			}
			if !tt.wall.IsZero() {
				meta.Wall = tt.wall
			}
			a, verdict := Parse(tt.payload, meta, expect)
			if verdict != tt.want {
				t.Fatalf("%v, want %v", verdict, tt.want)
			}
			if stamped := verdict == OK && len(tt.payload) > length; stamped != (a.Stamp != 0) {
				t.Errorf("stamp %x", a.Stamp)
			}
		})
	}
}

func TestAUnicastMessageWithATrailerMustComeFromAPeer(t *testing.T) {
	signed := enforcing().Append(encode(t, v3(), src4, peer4, Options{}), src4, StampAt(noon))
	meta, expect := unicast4(), expectFor(v3())
	meta.Wall, expect.Seal, expect.Unicast = noon, enforcing(), true
	if _, verdict := Parse(signed, meta, expect); verdict != Source {
		t.Errorf("from nobody: %v", verdict)
	}
	expect.Peers = []Peer{{Addr: src4}}
	if _, verdict := Parse(signed, meta, expect); verdict != OK {
		t.Errorf("from a peer: %v", verdict)
	}
}

func TestStampsGrowAndFollowTheClock(t *testing.T) {
	s := enforcing()
	first := s.Next(0, noon)
	if first != StampAt(noon) {
		t.Errorf("first stamp %x", first)
	}
	second := s.Next(first, noon)
	if second != first+1 {
		t.Errorf("the same moment again: %x after %x", second, first)
	}
	if half := StampAt(noon.Add(time.Second / 2)); half-first != 0x80000000 {
		t.Errorf("half a second is %x", half-first)
	}
	if got := s.Next(second, noon.Add(-3*time.Second)); got != second+1 {
		t.Errorf("a clock set back within the window: %x after %x", got, second)
	}
	back := noon.Add(-time.Hour)
	if got := s.Next(second, back); got != StampAt(back) {
		t.Errorf("a clock set back by an hour: %x", got)
	}
	s.Window = 0
	if got := s.Next(second, back); got != second+1 {
		t.Errorf("monotonic: %x after %x", got, second)
	}
	wrap := time.Unix(1<<32-1, 0)
	if got := s.Next(StampAt(wrap), wrap.Add(2*time.Second)); !got.after(StampAt(wrap)) {
		t.Errorf("after the last second of the field: %x", got)
	}
}

func TestNoMessageCountsTwice(t *testing.T) {
	var s Senders
	const window = 5 * time.Second
	accept := func(want bool, src netip.Addr, stamp Stamp, wall time.Time) {
		t.Helper()
		if got := s.Accept(src, stamp, wall, window); got != want {
			t.Errorf("stamp %x of %v: accepted %v", stamp, src, got)
		}
	}
	now := StampAt(noon)
	accept(true, src4, now, noon)
	accept(false, src4, now, noon)
	accept(false, src4, now-1, noon)
	accept(true, src4, now+1, noon)
	accept(true, peer4, now, noon) // another sender

	// Both clocks were an hour ahead and are corrected: the sender is not locked out for an hour.
	past := noon.Add(-time.Hour)
	accept(true, src4, StampAt(past), past)
	accept(false, src4, StampAt(past), past)

	for i := range sendersKept { // who has no key does not get here, so others cannot push senders out
		accept(true, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), now, noon)
	}
	if len(s.newest) != sendersKept {
		t.Errorf("%d senders are remembered", len(s.newest))
	}
	if s.Accept(netip.AddrFrom4([4]byte{10, 0, 0, 0}), now, noon.Add(time.Hour), 0) {
		t.Error("monotonic: an old stamp is accepted an hour later")
	}
}
