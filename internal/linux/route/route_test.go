package route

import (
	"encoding/binary"
	"math"
	"net/netip"
	"reflect"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func unicast(family Family, destination string, hops ...Hop) Route {
	return Route{Family: family, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: Protocol,
		Destination: netip.MustParsePrefix(destination), Hops: hops}
}

var (
	gateway  = netip.MustParseAddr("192.0.2.9")
	gateway6 = netip.MustParseAddr("fd77::9")
)

// seen is a route as the kernel would report it.
func seen(t testing.TB, r Route) Route {
	t.Helper()
	req, err := request(r, unix.RTM_NEWROUTE)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(req.Serialize()[unix.SizeofNlMsghdr:])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAReportedRouteIsWhatWasPut(t *testing.T) {
	with := func(r Route, change func(*Route)) Route { change(&r); return r }
	plain := unicast(unix.AF_INET, "198.51.100.0/24", Hop{Index: 2, Via: gateway})
	plain6 := unicast(unix.AF_INET6, "2001:db8::/32", Hop{Index: 2, Via: gateway6})
	for name, r := range map[string]Route{
		"gateway":           plain,
		"default":           unicast(unix.AF_INET, "0.0.0.0/0", Hop{Via: gateway}),
		"link":              unicast(unix.AF_INET, "198.51.100.0/24", Hop{Index: 2}),
		"large table":       with(plain, func(r *Route) { r.Table = 100000 }),
		"priority":          with(plain, func(r *Route) { r.Priority = 5 }),
		"TOS":               with(plain, func(r *Route) { r.TOS = 0x10 }),
		"blackhole":         with(plain, func(r *Route) { r.Type, r.Hops = unix.RTN_BLACKHOLE, nil }),
		"gateway over IPv6": unicast(unix.AF_INET, "198.51.100.0/24", Hop{Index: 2, Via: gateway6}),
		"several hops": unicast(unix.AF_INET, "198.51.100.0/24", Hop{Index: 2, Via: gateway, Weight: 3},
			Hop{Index: 3, Weight: 1}),
		"several IPv6 hops": with(unicast(unix.AF_INET6, "2001:db8::/32", Hop{Index: 2, Via: gateway6, Weight: 1},
			Hop{Index: 3, Weight: 2}), func(r *Route) { r.Priority = 9 }),
		"IPv6 from a source": with(plain6, func(r *Route) { r.From, r.Priority = netip.MustParsePrefix("fd77::/64"), 7 }),
	} {
		t.Run(name, func(t *testing.T) {
			if got := seen(t, r); !r.Is(got) || !reflect.DeepEqual(got.Hops, r.Hops) {
				t.Errorf("got %+v\nwant %+v", got, r)
			}
		})
	}
}

func TestAnotherRouteIsNotTakenForOurs(t *testing.T) {
	ours := unicast(unix.AF_INET, "198.51.100.0/24", Hop{Index: 2, Via: gateway}, Hop{Index: 3, Via: gateway})
	for name, change := range map[string]func(*Route){
		"destination": func(r *Route) { r.Destination = netip.MustParsePrefix("198.51.100.0/25") },
		"table":       func(r *Route) { r.Table = 5 },
		"priority":    func(r *Route) { r.Priority = 5 },
		"TOS":         func(r *Route) { r.TOS = 4 },
		"type":        func(r *Route) { r.Type = unix.RTN_LOCAL },
		"protocol":    func(r *Route) { r.Protocol = unix.RTPROT_STATIC },
		"gateway":     func(r *Route) { r.Hops = []Hop{{Index: 2, Via: netip.MustParseAddr("192.0.2.8")}} },
		"interface":   func(r *Route) { r.Hops = []Hop{{Index: 4, Via: gateway}} },
	} {
		other := ours
		change(&other)
		if ours.Is(other) {
			t.Errorf("%s: %+v is taken for %+v", name, other, ours)
		}
	}
	other := ours
	other.Hops = ours.Hops[1:]
	if !ours.Is(other) {
		t.Error("one of its hops is not taken for it")
	}
}

func TestTheKernelsPriorityOfAnIPv6RouteIsOursWithoutOne(t *testing.T) {
	ours := unicast(unix.AF_INET6, "2001:db8::/32", Hop{Via: gateway6})
	reported := ours
	reported.Priority = 1024
	if !ours.Is(reported) {
		t.Error("not recognised")
	}
}

func TestMetricsAreNestedWithTheirLocks(t *testing.T) {
	b := metrics([]Metric{{Kind: unix.RTAX_MTU, Value: 1400, Locked: true}, {Kind: unix.RTAX_CC_ALGO, Text: "reno"},
		{Kind: unix.RTAX_RTT, Value: 1600, Locked: true}}).Serialize()
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil || len(attrs) != 1 || attrs[0].Attr.Type != unix.RTA_METRICS {
		t.Fatal(attrs, err)
	}
	values := map[uint16][]byte{}
	nested, err := nl.ParseRouteAttr(attrs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range nested {
		values[a.Attr.Type] = a.Value
	}
	want := map[uint16][]byte{unix.RTAX_MTU: nl.Uint32Attr(1400), unix.RTAX_RTT: nl.Uint32Attr(1600),
		unix.RTAX_CC_ALGO: []byte("reno\x00"), unix.RTAX_LOCK: nl.Uint32Attr(1<<unix.RTAX_MTU | 1<<unix.RTAX_RTT)}
	if !reflect.DeepEqual(values, want) {
		t.Errorf("got %v, want %v", values, want)
	}
}

func TestAnImpossibleRouteIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Route){
		"no destination":               func(r *Route) { r.Destination = netip.Prefix{} },
		"destination of other family":  func(r *Route) { r.Destination = netip.MustParsePrefix("::/0") },
		"source of other family":       func(r *Route) { r.Source = gateway6 },
		"sources of the other family":  func(r *Route) { r.From = netip.MustParsePrefix("::/0") },
		"IPv4 address in IPv6 clothes": func(r *Route) { r.Source = netip.MustParseAddr("::ffff:192.0.2.1") },
	} {
		r := unicast(unix.AF_INET, "198.51.100.0/24", Hop{Via: gateway})
		change(&r)
		if _, err := request(r, unix.RTM_NEWROUTE); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

var rules = map[string]Rule{
	"table":       {Family: unix.AF_INET, Priority: 5, Protocol: Protocol, Action: ToTable, Table: 100},
	"large table": {Family: unix.AF_INET6, Priority: 5, Protocol: Protocol, Action: ToTable, Table: 100000},
	"selectors": {Family: unix.AF_INET, Priority: 6, Protocol: Protocol, Not: true, From: netip.MustParsePrefix("10.0.0.0/8"),
		To: netip.MustParsePrefix("10.1.0.0/16"), TOS: 0x10, Mark: 5, Mask: math.MaxUint32, InputInterface: "eth0",
		OutputInterface: "eth1", TunnelID: 1 << 40, UIDs: Range{true, 0, 0}, IPProtocol: unix.IPPROTO_TCP,
		SourcePorts: Range{true, 1, 1024}, DestinationPorts: Range{true, 80, 80}, Action: ToTable, Table: 7, Realms: 5<<16 | 6,
		SuppressPrefix: Limit{true, 0}, SuppressGroup: Limit{true, 3}},
	"VRF":       {Family: unix.AF_INET, Priority: 7, Protocol: Protocol, Action: ToTable, L3MDev: true},
	"goto":      {Family: unix.AF_INET, Priority: 8, Action: Goto, Target: 100},
	"blackhole": {Family: unix.AF_INET6, Priority: 9, Action: Blackhole, From: netip.MustParsePrefix("fd77::/64")},
}

func TestAReportedRuleEqualsWhatWasPut(t *testing.T) {
	for name, r := range rules {
		got, err := ParseRule(ruleRequest(r, unix.RTM_NEWRULE).Serialize()[unix.SizeofNlMsghdr:])
		if err != nil || got != r {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, r)
		}
	}
}

func TestEntriesAreNamedAsIPDoes(t *testing.T) {
	blackhole := unicast(unix.AF_INET, "198.51.100.0/24")
	blackhole.Type, blackhole.Table, blackhole.Priority, blackhole.TOS = unix.RTN_BLACKHOLE, 5, 6, 0x10
	from := unicast(unix.AF_INET6, "2001:db8::/32", Hop{Via: gateway6}, Hop{Index: 2})
	from.From = netip.MustParsePrefix("fd77::/64")
	for want, got := range map[string]interface{ String() string }{
		"198.51.100.0/24 via 192.0.2.9":                            unicast(unix.AF_INET, "198.51.100.0/24", Hop{Via: gateway}),
		"blackhole 198.51.100.0/24 tos 0x10 table 5 metric 6":      blackhole,
		"2001:db8::/32 from fd77::/64 nexthop via fd77::9 nexthop": from,
		"rule 6 not from 10.0.0.0/8 to 10.1.0.0/16 table 7":        rules["selectors"],
		"rule 7 l3mdev":                   rules["VRF"],
		"rule 8 goto 100":                 rules["goto"],
		"rule 9 from fd77::/64 blackhole": rules["blackhole"],
	} {
		if got.String() != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTheFilterPassesRemovalsOfOurRoutesAndOfAllRules(t *testing.T) {
	vm, err := bpf.NewVM(filter())
	if err != nil {
		t.Fatal(err)
	}
	ours := unicast(unix.AF_INET, "198.51.100.0/24", Hop{Via: gateway})
	foreign := ours
	foreign.Protocol = unix.RTPROT_STATIC
	message := func(r Route, kind uint16) []byte {
		req, err := request(r, unix.RTM_NEWROUTE)
		if err != nil {
			t.Fatal(err)
		}
		b := req.Serialize()
		binary.NativeEndian.PutUint16(b[4:], kind)
		return b
	}
	for _, test := range []struct {
		name    string
		message []byte
		passes  bool
	}{
		{"our route is removed", message(ours, unix.RTM_DELROUTE), true},
		{"our route is added", message(ours, unix.RTM_NEWROUTE), false},
		{"another route is removed", message(foreign, unix.RTM_DELROUTE), false},
		{"a rule is removed", message(foreign, unix.RTM_DELRULE), true},
		{"a rule is added", message(ours, unix.RTM_NEWRULE), false},
	} {
		if n, err := vm.Run(test.message); err != nil || n > 0 != test.passes {
			t.Errorf("%s: %d bytes, %v", test.name, n, err)
		}
	}
}

// Whatever a message holds, Parse and ParseRule do not panic, and what they accept is of a family.
func FuzzParse(f *testing.F) {
	for _, r := range []Route{
		unicast(unix.AF_INET, "198.51.100.0/24", Hop{Index: 2, Via: gateway}),
		unicast(unix.AF_INET6, "2001:db8::/32", Hop{Index: 2, Via: gateway6}, Hop{Index: 3}),
	} {
		req, err := request(r, unix.RTM_NEWROUTE)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(req.Serialize()[unix.SizeofNlMsghdr:])
	}
	for _, r := range rules {
		f.Add(ruleRequest(r, unix.RTM_NEWRULE).Serialize()[unix.SizeofNlMsghdr:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, err := Parse(payload); err == nil && !r.Destination.IsValid() {
			t.Errorf("%x gave %+v", payload, r)
		}
		if r, err := ParseRule(payload); err == nil {
			if _, known := unspecified(r.Family); !known {
				t.Errorf("%x gave %+v", payload, r)
			}
		}
	})
}
