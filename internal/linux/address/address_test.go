package address

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

func TestVirtualAddressesAreMadeAsKeepalivedDoes(t *testing.T) {
	tests := []struct {
		prefix string
		flags  Flags
	}{
		{"192.0.2.10/32", 0},
		{"192.0.2.10/24", 0},
		{"2001:db8::10/128", NoDAD},
		{"2001:db8::10/64", NoDAD},
	}
	for _, test := range tests {
		prefix := netip.MustParsePrefix(test.prefix)
		want := Address{Index: 3, Prefix: prefix, Flags: test.flags, Protocol: 18}
		if got := Virtual(3, prefix); got != want {
			t.Errorf("Virtual(%v) = %+v, want %+v", prefix, got, want)
		}
	}
}

func TestLifetimesAreAlwaysWritten(t *testing.T) {
	tests := []struct {
		name             string
		prefix           string
		life             Lifetime
		valid, preferred uint32
	}{
		{"zero is for ever", "192.0.2.1/32", Lifetime{}, 0xffffffff, 0xffffffff},
		{"IPv4 has no preferred lifetime of its own", "192.0.2.1/32", Lifetime{Valid: 4}, 4, 4},
		{"IPv6 deprecated for ever", "2001:db8::1/128", Lifetime{}, 0xffffffff, 0},
		{"IPv6 deprecated for a while", "2001:db8::1/128", Lifetime{Valid: 4}, 4, 0},
		{"preferred is cut to valid", "2001:db8::1/64", Lifetime{Valid: 4, Preferred: Forever}, 4, 4},
		{"preferred shorter than valid", "2001:db8::1/64", Lifetime{Valid: 4, Preferred: 2}, 4, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			req, err := requestNew(Address{Index: 2, Prefix: netip.MustParsePrefix(test.prefix)}, test.life)
			if err != nil {
				t.Fatal(err)
			}
			info := attribute(t, req, unix.IFA_CACHEINFO)
			preferred, valid := binary.NativeEndian.Uint32(info), binary.NativeEndian.Uint32(info[4:])
			if valid != test.valid || preferred != test.preferred {
				t.Errorf("valid %d, preferred %d, want %d, %d", valid, preferred, test.valid, test.preferred)
			}
		})
	}
}

func TestRequestsAreUnderstoodByParse(t *testing.T) {
	tests := []struct {
		name    string
		address Address
	}{
		{"IPv4 host address", Virtual(2, netip.MustParsePrefix("192.0.2.1/32"))},
		{"IPv6 host address", Virtual(2, netip.MustParsePrefix("2001:db8::1/128"))},
		{"IPv4 with everything", Address{
			Index: 7, Prefix: netip.MustParsePrefix("192.0.2.1/24"), Broadcast: netip.MustParseAddr("192.0.2.255"),
			Label: "eth0:1", Scope: ScopeLink, Flags: NoPrefixRoute | AutoJoin, Protocol: Protocol,
		}},
		{"IPv4 point to point", Address{
			Index: 7, Prefix: netip.MustParsePrefix("192.0.2.1/32"), Peer: netip.MustParseAddr("198.51.100.1"),
		}},
		{"IPv6 point to point", Address{
			Index: 7, Prefix: netip.MustParsePrefix("2001:db8::1/128"), Peer: netip.MustParseAddr("2001:db8::2"),
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			req, err := requestNew(test.address, Lifetime{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(req.Serialize()[unix.SizeofNlMsghdr:])
			if err != nil || got != test.address {
				t.Errorf("Parse = %+v, %v\nwant %+v", got, err, test.address)
			}
		})
	}
}

func TestRequestsRefuseWhatTheKernelCannotHave(t *testing.T) {
	v4 := netip.MustParsePrefix("192.0.2.1/24")
	v6 := netip.MustParsePrefix("2001:db8::1/64")
	for name, a := range map[string]Address{
		"no address":                {Index: 1},
		"no interface":              {Prefix: v4},
		"peer of another family":    {Index: 1, Prefix: v4, Peer: v6.Addr()},
		"broadcast address in IPv6": {Index: 1, Prefix: v6, Broadcast: v4.Addr()},
		"label of 16 bytes":         {Index: 1, Prefix: v4, Label: "0123456789abcdef"},
		"IPv4 in IPv6":              {Index: 1, Prefix: netip.MustParsePrefix("::ffff:192.0.2.1/128")},
	} {
		if _, err := requestNew(a, Lifetime{}); err == nil {
			t.Errorf("%s: accepted for adding", name)
		}
		if _, err := requestDelete(a); err == nil {
			t.Errorf("%s: accepted for removal", name)
		}
	}
}

func TestParseRefusesShortMessages(t *testing.T) {
	for n := range unix.SizeofIfAddrmsg + 4 {
		if a, err := Parse(make([]byte, n)); err == nil {
			t.Errorf("%d bytes gave %v", n, a)
		}
	}
}

func attribute(t *testing.T, req *nl.NetlinkRequest, wanted uint16) []byte {
	t.Helper()
	for kind, value := range rtnl.Attributes(req.Serialize()[unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg:]) {
		if kind == wanted {
			return value
		}
	}
	t.Fatalf("attribute %d is missing", wanted)
	return nil
}

// Whatever a message holds, Parse does not panic, and an address that it accepts is one.
func FuzzParse(f *testing.F) {
	for _, a := range []Address{
		Virtual(2, netip.MustParsePrefix("192.0.2.1/32")),
		{Index: 7, Prefix: netip.MustParsePrefix("2001:db8::1/128"), Peer: netip.MustParseAddr("2001:db8::2")},
		{Index: 7, Prefix: netip.MustParsePrefix("192.0.2.1/24"), Broadcast: netip.MustParseAddr("192.0.2.255"), Label: "eth0:1"},
	} {
		req, err := requestNew(a, Lifetime{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(req.Serialize()[unix.SizeofNlMsghdr:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if a, err := Parse(payload); err == nil && !a.Prefix.IsValid() {
			t.Errorf("%x gave %+v", payload, a)
		}
	})
}
