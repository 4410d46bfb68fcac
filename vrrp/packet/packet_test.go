package packet

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var (
	src4  = netip.MustParseAddr("192.168.0.10")
	peer4 = netip.MustParseAddr("192.168.0.20")
	vip4  = netip.MustParseAddr("192.168.0.1")
	vip4b = netip.MustParseAddr("192.168.0.2")
	src6  = netip.MustParseAddr("fe80::10")
	vip6  = netip.MustParseAddr("fe80::1")
)

func v2() Advertisement {
	return Advertisement{Version: 2, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{vip4}}
}

func v3() Advertisement {
	return Advertisement{Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{vip4}}
}

func v3IPv6() Advertisement {
	return Advertisement{Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{vip6}}
}

// passwordOverIPv6 is what no RFC describes and keepalived sends all the same: it says that there is a password.
func passwordOverIPv6() Advertisement {
	a := v3IPv6()
	a.Version, a.Auth.Type = 2, AuthPass
	return a
}

func multicast4() Meta { return Meta{Src: src4, Dst: GroupIPv4, TTL: 255, Multicast: true} }
func multicast6() Meta { return Meta{Src: src6, Dst: GroupIPv6, TTL: 255, Multicast: true} }
func unicast4() Meta   { return Meta{Src: src4, Dst: peer4, TTL: 64} }

func expectFor(a Advertisement) Expect {
	return Expect{Version: a.Version, VRID: a.VRID, Auth: a.Auth, Interval: a.Interval}
}

func encode(t testing.TB, a Advertisement, src, dst netip.Addr, opts Options) []byte {
	t.Helper()
	b, err := Append(nil, a, src, dst, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The checksums in these messages come from a separate program, written from the layouts of RFC 3768 section 5.1 and RFC 9568 section 5.2.
func TestMessagesHaveTheOctetsOfTheRFCs(t *testing.T) {
	password := v2()
	password.Auth = Password("secret")
	fast := v3()
	fast.Priority, fast.Interval, fast.Addresses = 150, 30*time.Millisecond, []netip.Addr{vip4, vip4b}
	tests := []struct {
		name     string
		a        Advertisement
		src, dst netip.Addr
		opts     Options
		want     string
	}{
		{"version 2 carries eight zero bytes of authentication", v2(), src4, GroupIPv4, Options{},
			"21336401" + "0001" + "ba20" + "c0a80001" + "0000000000000000"},
		{"version 2 with a password covers it by the checksum", password, src4, GroupIPv4, Options{},
			"21336401" + "0101" + "7cd4" + "c0a80001" + "7365637265740000"},
		{"version 3 over IPv4 has a pseudo-header and no trailer", v3(), src4, GroupIPv4, Options{},
			"31336401" + "0064" + "087c" + "c0a80001"},
		{"version 3 with the checksum of version 2 has no pseudo-header", v3(), src4, GroupIPv4,
			Options{ChecksumAsV2: true}, "31336401" + "0064" + "a9bd" + "c0a80001"},
		{"version 3 carries centiseconds and all addresses", fast, src4, GroupIPv4, Options{ChecksumAsV2: true},
			"31339602" + "0003" + "b772" + "c0a80001" + "c0a80002"},
		{"old unicast has the multicast group in its pseudo-header", v3(), src4, peer4, Options{OldUnicast: true},
			"31336401" + "0064" + "087c" + "c0a80001"},
		{"version 2 over IPv6 carries no authentication data, as keepalived 2.2.7 sends it",
			Advertisement{Version: 2, VRID: 51, Priority: 200, Interval: time.Second, Auth: Password("secret"),
				Addresses: []netip.Addr{netip.MustParseAddr("fe80::77:100"), netip.MustParseAddr("fd77::100")}},
			netip.MustParseAddr("fe80::68:61ff:fe64:2"), GroupIPv6, Options{},
			"2133c802" + "0101" + "b85c" + "fe800000000000000000000000770100" + "fd770000000000000000000000000100"},
		{"version 3 over IPv6", v3IPv6(), src6, GroupIPv6, Options{},
			"31336401" + "0064" + "6db7" + "fe800000000000000000000000000001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want, err := hex.DecodeString(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			got := encode(t, tt.a, tt.src, tt.dst, tt.opts)
			if !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
		})
	}
}

func TestAppendRefusesWhatCannotBeExpressed(t *testing.T) {
	tests := []struct {
		name     string
		change   func(*Advertisement)
		src, dst netip.Addr
	}{
		{"an interval of half a second in version 2", func(a *Advertisement) { a.Interval = time.Second / 2 }, src4, GroupIPv4},
		{"an interval of 256 s in version 2", func(a *Advertisement) { a.Interval = 256 * time.Second }, src4, GroupIPv4},
		{"an interval of 41 s in version 3",
			func(a *Advertisement) { a.Version, a.Interval = 3, 41*time.Second }, src4, GroupIPv4},
		{"an interval of 5 ms in version 3",
			func(a *Advertisement) { a.Version, a.Interval = 3, 5*time.Millisecond }, src4, GroupIPv4},
		{"no interval", func(a *Advertisement) { a.Interval = 0 }, src4, GroupIPv4},
		{"version 4", func(a *Advertisement) { a.Version = 4 }, src4, GroupIPv4},
		{"virtual router 0", func(a *Advertisement) { a.VRID = 0 }, src4, GroupIPv4},
		{"an address of the other family", func(a *Advertisement) { a.Addresses = []netip.Addr{vip6} }, src4, GroupIPv4},
		{"an address that is not set", func(a *Advertisement) { a.Addresses = []netip.Addr{{}} }, src4, GroupIPv4},
		{"an IPv4 address in IPv6 clothes, over IPv6",
			func(a *Advertisement) { a.Addresses = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")} }, src6, GroupIPv6},
		{"a destination of the other family", func(*Advertisement) {}, src4, GroupIPv6},
		{"no source", func(*Advertisement) {}, netip.Addr{}, GroupIPv4},
		{"no destination", func(*Advertisement) {}, src6, netip.Addr{}},
		{"256 addresses",
			func(a *Advertisement) { a.Addresses = slices.Repeat([]netip.Addr{vip4}, 256) }, src4, GroupIPv4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := v2()
			tt.change(&a)
			prefix := []byte("kept")
			got, err := Append(prefix, a, tt.src, tt.dst, Options{})
			if err == nil {
				t.Errorf("encoded as %x", got)
			}
		})
	}
}

func TestParseGivesTheVerdictOfTheFirstCheckThatFails(t *testing.T) {
	password := v2()
	password.Auth = Password("secret")
	tests := []struct {
		name   string
		a      Advertisement
		meta   Meta
		expect func(*Expect)
		damage func([]byte) []byte
		want   Verdict
	}{
		{name: "a version 2 message", a: v2(), meta: multicast4(), want: OK},
		{name: "a version 3 message", a: v3(), meta: multicast4(), want: OK},
		{name: "a version 3 message over IPv6", a: v3IPv6(), meta: multicast6(), want: OK},
		{name: "a message with a password", a: password, meta: multicast4(), want: OK},
		{name: "a message without addresses", a: Advertisement{Version: 3, VRID: 1, Interval: time.Second},
			meta: multicast4(), want: OK},
		{name: "an unknown virtual router", a: v2(), meta: multicast4(),
			expect: func(e *Expect) { e.VRID = 52 }, want: VRID},
		{name: "nothing", a: v2(), meta: multicast4(), damage: func([]byte) []byte { return nil }, want: Length},
		{name: "seven bytes", a: v2(), meta: multicast4(), damage: func(b []byte) []byte { return b[:7] }, want: Length},
		{name: "version 2 without authentication data", a: v2(), meta: multicast4(),
			damage: func(b []byte) []byte { return b[:12] }, want: Length},
		{name: "more addresses announced than carried", a: v3(), meta: multicast4(),
			damage: func(b []byte) []byte { b[3] = 2; return b }, want: Length},
		{name: "surplus bytes", a: v3(), meta: multicast4(),
			damage: func(b []byte) []byte { return append(b, 0, 0, 0, 0) }, want: Length},
		{name: "padding of a short Ethernet frame", a: v3(), meta: multicast4(),
			damage: func(b []byte) []byte { return append(b, make([]byte, 14)...) }, want: OK},
		{name: "the same padding over IPv6", a: v3IPv6(), meta: multicast6(),
			damage: func(b []byte) []byte { return append(b, make([]byte, 14)...) }, want: Length},
		{name: "a multicast packet that was routed", a: v2(),
			meta: Meta{Src: src4, Dst: GroupIPv4, TTL: 254, Multicast: true}, want: TTL},
		{name: "a routed multicast packet of another version counts as TTL", a: v2(),
			meta:   Meta{Src: src4, Dst: GroupIPv4, TTL: 1, Multicast: true},
			expect: func(e *Expect) { e.Version = 3 }, want: TTL},
		{name: "version 2 where 3 is configured", a: v2(), meta: multicast4(),
			expect: func(e *Expect) { e.Version = 3 }, want: Version},
		{name: "version 3 where 2 is configured", a: v3(), meta: multicast4(),
			expect: func(e *Expect) { e.Version = 2 }, want: Version},
		{name: "an authentication type that does not exist", a: v2(), meta: multicast4(),
			damage: func(b []byte) []byte { b[4] = 3; return b }, want: AuthTypeInvalid},
		{name: "a password where none is configured", a: password, meta: multicast4(),
			expect: func(e *Expect) { e.Auth = Auth{} }, want: AuthTypeMismatch},
		{name: "no password where one is configured", a: v2(), meta: multicast4(),
			expect: func(e *Expect) { e.Auth = Password("secret") }, want: AuthTypeMismatch},
		{name: "a wrong password", a: password, meta: multicast4(),
			expect: func(e *Expect) { e.Auth = Password("Secret") }, want: AuthFailure},
		{name: "a password that agrees in its first eight bytes", a: password, meta: multicast4(),
			expect: func(e *Expect) { e.Auth = Password("secret\x00\x00more") }, want: OK},
		{name: "version 2 over IPv6 where a password is configured, which the message cannot carry", a: passwordOverIPv6(),
			meta: multicast6(), expect: func(e *Expect) { e.Auth = Password("secret") }, want: OK},
		{name: "version 2 over IPv6 with a password where none is configured", a: passwordOverIPv6(), meta: multicast6(),
			expect: func(e *Expect) { e.Auth = Auth{} }, want: AuthTypeMismatch},
		{name: "version 2 over IPv6 with authentication data", a: passwordOverIPv6(), meta: multicast6(),
			damage: func(b []byte) []byte { return append(b, make([]byte, 8)...) }, want: Length},
		{name: "another interval in version 2", a: v2(), meta: multicast4(),
			expect: func(e *Expect) { e.Interval = 2 * time.Second }, want: Interval},
		{name: "another interval in version 3", a: v3(), meta: multicast4(),
			expect: func(e *Expect) { e.Interval = 2 * time.Second }, want: OK},
		{name: "another type", a: v3(), meta: multicast4(),
			damage: func(b []byte) []byte { b[0] = 0x32; return b }, want: Type},
		{name: "a flipped bit", a: v3(), meta: multicast4(),
			damage: func(b []byte) []byte { b[11] ^= 1; return b }, want: Checksum},
		{name: "a flipped bit over IPv6", a: v3IPv6(), meta: multicast6(),
			damage: func(b []byte) []byte { b[2] ^= 0x80; return b }, want: Checksum},
		{name: "a flipped bit in the authentication data", a: v2(), meta: multicast4(),
			damage: func(b []byte) []byte { b[19] ^= 1; return b }, want: Checksum},
		{name: "a wrong checksum where the pseudo-header is disputed", a: v3(), meta: multicast4(),
			expect: func(e *Expect) { e.ChecksumAsV2 = true }, want: OK},
		{name: "unicast to a multicast router", a: v3(), meta: unicast4(), want: Delivery},
		{name: "multicast to a unicast router", a: v3(), meta: multicast4(),
			expect: func(e *Expect) { e.Unicast = true }, want: Delivery},
		{name: "unicast with any TTL and any source", a: v3(), meta: unicast4(),
			expect: func(e *Expect) { e.Unicast = true }, want: OK},
		{name: "unicast from a stranger where the source is checked", a: v3(), meta: unicast4(),
			expect: func(e *Expect) { e.Unicast, e.CheckSource = true, true }, want: Source},
		{name: "unicast from a peer", a: v3(), meta: unicast4(),
			expect: func(e *Expect) { e.Unicast, e.CheckSource, e.Peers = true, true, []Peer{{Addr: src4}} }, want: OK},
		{name: "unicast from a peer that is too far away", a: v3(), meta: unicast4(),
			expect: func(e *Expect) {
				e.Unicast, e.CheckSource, e.Peers = true, true, []Peer{{Addr: src4, MinTTL: 65}}
			}, want: Source},
		{name: "unicast from a peer that is too near", a: v3(), meta: unicast4(),
			expect: func(e *Expect) {
				e.Unicast, e.CheckSource, e.Peers = true, true, []Peer{{Addr: src4, MaxTTL: 63}}
			}, want: Source},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := encode(t, tt.a, tt.meta.Src, tt.meta.Dst, Options{})
			if tt.damage != nil {
				b = tt.damage(b)
			}
			expect := expectFor(tt.a)
			if tt.expect != nil {
				tt.expect(&expect)
			}
			a, got := Parse(b, tt.meta, expect)
			if got != tt.want {
				t.Fatalf("verdict %v, want %v", got, tt.want)
			}
			if got.Accepted() && !equal(a, tt.a) {
				t.Errorf("parsed %+v\nwant   %+v", a, tt.a)
			}
		})
	}
}

func TestAUnicastMessageOfAnOldReleaseIsRecognised(t *testing.T) {
	b := encode(t, v3(), src4, peer4, Options{OldUnicast: true})
	tests := []struct {
		name   string
		change func(*Expect)
		want   Verdict
	}{
		{"by itself", func(*Expect) {}, OKOldUnicast},
		{"as configured", func(e *Expect) { e.OldUnicast = true }, OK},
		{"but not if that is forbidden", func(e *Expect) { e.NeverOldUnicast = true }, Checksum},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect := expectFor(v3())
			expect.Unicast = true
			tt.change(&expect)
			if _, got := Parse(b, unicast4(), expect); got != tt.want {
				t.Errorf("verdict %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAddressesInIPv6ClothesAndWithZonesCountAsThemselves(t *testing.T) {
	b := encode(t, v3(), netip.AddrFrom16(src4.As16()), netip.AddrFrom16(GroupIPv4.As16()), Options{})
	if _, got := Parse(b, multicast4(), expectFor(v3())); got != OK {
		t.Errorf("mapped IPv4 source: verdict %v", got)
	}
	b = encode(t, v3IPv6(), src6.WithZone("eth0"), GroupIPv6.WithZone("eth0"), Options{})
	if _, got := Parse(b, multicast6(), expectFor(v3IPv6())); got != OK {
		t.Errorf("source with zone: verdict %v", got)
	}
}

func TestReservedBitsOfVersion3AreIgnored(t *testing.T) {
	b := encode(t, v3(), src4, GroupIPv4, Options{ChecksumAsV2: true})
	b[4] |= 0xf0
	expect := expectFor(v3())
	expect.ChecksumAsV2 = true
	a, verdict := Parse(b, multicast4(), expect)
	if verdict != OK || a.Interval != time.Second {
		t.Errorf("verdict %v, interval %v", verdict, a.Interval)
	}
}

func TestAddressListsAgreeWhateverTheirOrder(t *testing.T) {
	tests := []struct {
		name                 string
		received, configured []netip.Addr
		want                 bool
	}{
		{"both empty", nil, nil, true},
		{"another order", []netip.Addr{vip4, vip4b}, []netip.Addr{vip4b, vip4}, true},
		{"one missing", []netip.Addr{vip4}, []netip.Addr{vip4b, vip4}, false},
		{"one more", []netip.Addr{vip4, vip4b}, []netip.Addr{vip4}, false},
		{"another one", []netip.Addr{vip4}, []netip.Addr{vip4b}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := SameAddresses(tt.received, tt.configured); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEveryVerdictHasItsOwnName(t *testing.T) {
	seen := map[string]Verdict{}
	for v := OK; int(v) < Verdicts; v++ {
		name := v.String()
		if other, ok := seen[name]; ok || name == "" {
			t.Errorf("verdicts %d and %d are both called %q", v, other, name)
		}
		seen[name] = v
	}
	if got := Verdict(0).String(); got != "verdict(0)" {
		t.Errorf("the zero verdict is called %q", got)
	}
}

func TestParsedAddressesDoNotShareMemoryWithThePacket(t *testing.T) {
	b := encode(t, v3(), src4, GroupIPv4, Options{})
	a, _ := Parse(b, multicast4(), expectFor(v3()))
	clear(b)
	if a.Addresses[0] != vip4 {
		t.Errorf("address became %v", a.Addresses[0])
	}
}

func equal(a, b Advertisement) bool {
	return a.Version == b.Version && a.VRID == b.VRID && a.Priority == b.Priority && a.Interval == b.Interval &&
		a.Auth == b.Auth && slices.Equal(a.Addresses, b.Addresses)
}

// FuzzParse checks that no packet makes Parse panic, and that what it accepts, sent again, is accepted and says the same.
func FuzzParse(f *testing.F) {
	password := v2()
	password.Auth = Password("secret")
	f.Add(encode(f, v2(), src4, GroupIPv4, Options{}), false, uint8(0))
	f.Add(encode(f, password, src4, GroupIPv4, Options{}), false, uint8(1))
	f.Add(encode(f, v3(), src4, GroupIPv4, Options{}), false, uint8(2))
	f.Add(encode(f, v3(), src4, GroupIPv4, Options{ChecksumAsV2: true}), false, uint8(4|2))
	f.Add(encode(f, v3(), src4, peer4, Options{OldUnicast: true}), false, uint8(8|2))
	f.Add(encode(f, v3IPv6(), src6, GroupIPv6, Options{}), true, uint8(2))
	f.Add(enforcing().Append(encode(f, v3(), src4, GroupIPv4, Options{}), src4, StampAt(noon)), false, uint8(16|2))
	f.Add(enforcing().Append(encode(f, v2(), src4, GroupIPv4, Options{}), src4, StampAt(noon)), false, uint8(16))
	f.Fuzz(func(t *testing.T, b []byte, ipv6 bool, bits uint8) {
		meta := multicast4()
		if ipv6 {
			meta = multicast6()
		}
		expect := Expect{Version: 2 + bits>>1&1, VRID: 51, Interval: time.Second}
		if bits&1 != 0 {
			expect.Auth = Password("secret")
		}
		expect.ChecksumAsV2 = bits&4 != 0
		if bits&8 != 0 && !ipv6 {
			meta = unicast4()
			expect.Unicast = true
		}
		meta.Wall = noon
		if bits&16 != 0 {
			expect.Seal = enforcing()
			expect.Seal.Require = bits&32 != 0
		}
		a, verdict := Parse(b, meta, expect)
		if int(verdict) >= Verdicts || verdict == 0 {
			t.Fatalf("verdict %v", verdict)
		}
		if !verdict.Accepted() {
			return
		}
		if a.Interval == 0 {
			return // an interval of 0 is accepted from others, as keepalived does, but never sent
		}
		again, err := Append(nil, a, meta.Src, meta.Dst, Options{ChecksumAsV2: expect.ChecksumAsV2})
		if err != nil {
			if slices.ContainsFunc(a.Addresses, netip.Addr.Is4In6) {
				return
			}
			t.Fatalf("accepted but cannot be sent: %v", err)
		}
		if a.Stamp != 0 && !ipv6 { // over IPv6 the kernel makes the checksum that covers the trailer
			again = expect.Seal.Append(again, meta.Src, a.Stamp)
		} else if expect.Seal != nil {
			return
		}
		b2, verdict2 := Parse(again, meta, expect)
		if verdict2 != OK || !equal(a, b2) {
			t.Fatalf("sent again: verdict %v\nfirst  %+v\nsecond %+v", verdict2, a, b2)
		}
	})
}

// FuzzRoundTrip checks that everything that can be encoded is accepted by a receiver of equal configuration.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(2), uint8(51), uint8(100), uint16(1), uint8(1), uint8(1), []byte("secret"), false, false)
	f.Add(uint8(3), uint8(1), uint8(255), uint16(4095), uint8(3), uint8(0), []byte(nil), true, false)
	f.Add(uint8(3), uint8(1), uint8(0), uint16(3), uint8(255), uint8(0), []byte(nil), false, true)
	f.Fuzz(func(t *testing.T, version, vrid, priority uint8, units uint16, count, authType uint8, auth []byte,
		ipv6, asV2 bool) {
		unit := centisecond
		if version == 2 {
			unit = time.Second
		}
		a := Advertisement{Version: version, VRID: vrid, Priority: priority, Interval: time.Duration(units) * unit}
		if version == 2 {
			a.Auth.Type = AuthType(authType % 3)
			if !ipv6 {
				copy(a.Auth.Data[:], auth)
			}
		}
		meta, addr := multicast4(), vip4
		if ipv6 {
			meta, addr = multicast6(), vip6
		}
		for range count {
			a.Addresses = append(a.Addresses, addr)
			addr = addr.Next()
		}
		b, err := Append(nil, a, meta.Src, meta.Dst, Options{ChecksumAsV2: asV2})
		if err != nil {
			return
		}
		expect := expectFor(a)
		expect.ChecksumAsV2 = asV2
		got, verdict := Parse(b, meta, expect)
		if verdict != OK || !equal(got, a) {
			t.Fatalf("verdict %v\nsent %+v\ngot  %+v", verdict, a, got)
		}
	})
}
