package routing

import (
	"math"
	"net/netip"
	"reflect"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/route"
)

// machine has names for some numbers.
var machine = ReadNames(fstest.MapFS{
	"usr/share/iproute2/rt_tables":       {Data: []byte("# comment\n254\tmain\n100 blue\n101 green # comment\nnonsense\n")},
	"etc/iproute2/rt_tables":             {Data: []byte("0x66 blue\n")},
	"etc/iproute2/rt_tables.d/more.conf": {Data: []byte("103 red\n")},
	"etc/iproute2/rt_tables.d/README":    {Data: []byte("104 none\n")},
	"etc/iproute2/rt_protos":             {Data: []byte("42 mine\n")},
	"etc/iproute2/rt_dsfield":            {Data: []byte("0xb8 EF\n0x1ff large\n")},
	"etc/iproute2/rt_realms":             {Data: []byte("7 cosmos\n")},
	"etc/iproute2/group":                 {Data: []byte("9 uplinks\n")},
	"etc/protocols":                      {Data: []byte("ospf 89 OSPFIGP\n")},
}, "/usr/share/iproute2", "/etc/iproute2")

// links are the interfaces of the machine.
func links(name string) (link.Link, bool) {
	l, ok := map[string]link.Link{"eth0": {Index: 2, Name: "eth0"}, "eth1": {Index: 3, Name: "eth1"},
		"blue": {Index: 4, Name: "blue", VRFTable: 1000}}[name]
	return l, ok
}

// load reads lines of virtual_routes, or of virtual_rules, from a configuration.
func load(t *testing.T, block, line string) *conf.Instance {
	t.Helper()
	text := "vrrp_instance x {\n interface eth0\n virtual_router_id 1\n virtual_ipaddress {\n 192.0.2.100\n }\n " +
		block + " {\n " + line + "\n }\n}\n"
	c, findings := conf.Load(conf.Options{Path: "test.conf", ConfigID: "a",
		Files: fstest.MapFS{"test.conf": {Data: []byte(text), Mode: 0o644}}})
	if c == nil || len(c.Instances) != 1 {
		t.Fatalf("%s: %v", line, findings)
	}
	return &c.Instances[0]
}

func TestRoutesOfTheConfigurationInTheKernelsForm(t *testing.T) {
	via, via2, via6 := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("fd77::9")
	four := func(change func(*route.Route)) route.Route {
		r := route.Route{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: 18,
			Destination: netip.MustParsePrefix("10.0.0.0/8"), Hops: []route.Hop{{Via: via}}}
		change(&r)
		return r
	}
	six := func(change func(*route.Route)) route.Route {
		r := route.Route{Family: unix.AF_INET6, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: 18,
			Destination: netip.MustParsePrefix("2001:db8::/32"), Hops: []route.Hop{{Via: via6}}}
		change(&r)
		return r
	}
	number := func(kind int, value uint32) route.Metric { return route.Metric{Kind: kind, Value: value} }
	high, yes := uint8(1), true
	tests := []struct {
		line string
		want route.Route
	}{
		{"10.0.0.0/8 via 192.0.2.9", four(func(*route.Route) {})},
		{"default via 192.0.2.9", four(func(r *route.Route) { r.Destination = netip.MustParsePrefix("0.0.0.0/0") })},
		{"10.0.0.0/8 dev eth1", four(func(r *route.Route) { r.Hops = []route.Hop{{Index: 3}} })},
		{"10.0.0.0/8 via 192.0.2.9 dev eth0 onlink", four(func(r *route.Route) {
			r.Hops = []route.Hop{{Via: via, Index: 2, OnLink: true}}
		})},
		{"10.0.0.0/8 via 192.0.2.9 src 192.0.2.100 metric 5 table blue tos EF realms cosmos/3 scope site",
			four(func(r *route.Route) {
				r.Source, r.Priority, r.Table, r.TOS, r.Scope = netip.MustParseAddr("192.0.2.100"), 5, 0x66, 0xb8, 200
				r.Hops[0].Realms = 7<<16 | 3
			})},
		{"10.0.0.0/8 via 192.0.2.9 table red", four(func(r *route.Route) { r.Table = 103 })},
		{"10.0.0.0/8 via 192.0.2.9 vrf blue", four(func(r *route.Route) { r.Table = 1000 })},
		{"10.0.0.0/8 via 192.0.2.9 protocol mine", four(func(*route.Route) {})},
		{"10.0.0.0/8 via 192.0.2.9 protocol mine no_track", four(func(r *route.Route) { r.Protocol = 42 })},
		{"blackhole 10.0.0.0/8", four(func(r *route.Route) { r.Type, r.Hops = unix.RTN_BLACKHOLE, nil })},
		{"local 10.0.0.0/8 dev eth0", four(func(r *route.Route) {
			r.Type, r.Scope, r.Hops = unix.RTN_LOCAL, unix.RT_SCOPE_HOST, []route.Hop{{Index: 2}}
		})},
		{"broadcast 10.0.0.0/8 dev eth0 scope host", four(func(r *route.Route) {
			r.Type, r.Scope, r.Hops = unix.RTN_BROADCAST, unix.RT_SCOPE_HOST, []route.Hop{{Index: 2}}
		})},
		{"10.0.0.0/8 append via 192.0.2.9", four(func(r *route.Route) { r.Mode = route.Append })},
		{"10.0.0.0/8 add via 192.0.2.9", four(func(r *route.Route) { r.Mode = route.Add })},
		{"10.0.0.0/8 nexthop via 192.0.2.9 dev eth0 weight 3 nexthop via 192.0.2.8 onlink dev eth1 realms 4",
			four(func(r *route.Route) {
				r.Hops = []route.Hop{{Via: via, Index: 2, Weight: 3}, {Via: via2, Index: 3, Weight: 1, OnLink: true, Realms: 4}}
			})},
		{"10.0.0.0/8 via 192.0.2.9 or 192.0.2.8", four(func(r *route.Route) {
			r.Hops = []route.Hop{{Via: via, Weight: 1}, {Via: via2, Weight: 1}}
		})},
		{"10.0.0.0/8 via inet6 fd77::9", four(func(r *route.Route) { r.Hops[0].Via = via6 })},
		{"10.0.0.0/8 via 192.0.2.9 mtu lock 1400 window 7 rtt 300ms rttvar lock 2s ssthresh 4 cwnd lock 5 advmss 6 reordering 8 " +
			"hoplimit 9 initcwnd 10 features ecn rto_min 250 initrwnd 11 quickack 1 congctl lock reno fastopen_no_cookie 1",
			four(func(r *route.Route) {
				r.Metrics = []route.Metric{{Kind: unix.RTAX_MTU, Value: 1400, Locked: true}, number(unix.RTAX_WINDOW, 7),
					number(unix.RTAX_RTT, 8*300), {Kind: unix.RTAX_RTTVAR, Value: 4 * 2000, Locked: true},
					number(unix.RTAX_SSTHRESH, 4), {Kind: unix.RTAX_CWND, Value: 5, Locked: true}, number(unix.RTAX_ADVMSS, 6),
					number(unix.RTAX_REORDERING, 8), number(unix.RTAX_HOPLIMIT, 9), number(unix.RTAX_INITCWND, 10),
					number(unix.RTAX_FEATURES, 1), number(unix.RTAX_RTO_MIN, 250), number(unix.RTAX_INITRWND, 11),
					number(unix.RTAX_QUICKACK, 1), {Kind: unix.RTAX_CC_ALGO, Text: "reno", Locked: true},
					number(unix.RTAX_FASTOPEN_NO_COOKIE, 1)}
			})},
		{"10.0.0.0/8 via 192.0.2.9 rtt 2401", four(func(r *route.Route) { // the kernel's own unit
			r.Metrics = []route.Metric{number(unix.RTAX_RTT, 2401)}
		})},
		{"10.0.0.0/8 encap ip id 5 dst 192.0.2.1 src 192.0.2.2 ttl 6 tos EF flags 3 via 192.0.2.9", four(func(r *route.Route) {
			r.Hops[0].Encap = &route.Encap{Kind: 2, Options: []route.EncapOption{{Kind: 1, Value: []byte{0, 0, 0, 0, 0, 0, 0, 5}},
				{Kind: 2, Value: []byte{192, 0, 2, 1}}, {Kind: 3, Value: []byte{192, 0, 2, 2}}, {Kind: 4, Value: []byte{6}},
				{Kind: 5, Value: []byte{0xb8}}, {Kind: 6, Value: []byte{3, 0}}}}
		})},
		{"10.0.0.0/8 encap mpls 100/200 via 192.0.2.9 ttl-propagate enabled", four(func(r *route.Route) {
			r.PropagateTL = &yes
			r.Hops[0].Encap = &route.Encap{Kind: 1, Options: []route.EncapOption{
				{Kind: 1, Value: []byte{0, 0x06, 0x40, 0, 0, 0x0c, 0x81, 0}}}} // RFC 3032: label, S bit
		})},
		{"2001:db8::/32 encap ila 1:2:3:ffff via fd77::9", six(func(r *route.Route) {
			r.Hops[0].Encap = &route.Encap{Kind: 3, Options: []route.EncapOption{
				{Kind: 1, Value: []byte{0, 1, 0, 2, 0, 3, 0xff, 0xff}}}}
		})},
		{"2001:db8::/32 from fd77::/64 via fd77::9 pref high", six(func(r *route.Route) {
			r.From, r.Preference = netip.MustParsePrefix("fd77::/64"), &high
		})},
		{"2001:db8::/32 via fd77::9 expires 60", six(func(r *route.Route) { r.Expires = time.Minute })},
		{"local 2001:db8::/32 dev eth0", six(func(r *route.Route) { // IPv6 knows no scopes
			r.Type, r.Hops = unix.RTN_LOCAL, []route.Hop{{Index: 2}}
		})},
		{"inet6 default via fd77::9", six(func(r *route.Route) { r.Destination = netip.MustParsePrefix("::/0") })},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			in := load(t, "virtual_routes", test.line)
			if len(in.Routes) != 1 {
				t.Fatalf("%d routes", len(in.Routes))
			}
			r, err := machine.Route(in.Routes[0])
			if err != nil {
				t.Fatal(err)
			}
			if r.Track != in.Routes[0].Track {
				t.Errorf("tracked: %v", r.Track)
			}
			if got, err := r.Kernel(links); err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, test.want)
			}
		})
	}
}

func TestRulesOfTheConfigurationInTheKernelsForm(t *testing.T) {
	four := func(change func(*route.Rule)) route.Rule {
		r := route.Rule{Family: unix.AF_INET, Priority: 5, Protocol: 18, From: netip.MustParsePrefix("10.0.0.0/8"),
			Action: route.ToTable, Table: 100}
		change(&r)
		return r
	}
	tests := []struct {
		line string
		want route.Rule
	}{
		{"from 10.0.0.0/8 table 100 preference 5", four(func(*route.Rule) {})},
		{"from 10.0.0.0/8 table 100", four(func(r *route.Rule) { r.Priority = 16384 })},
		{"not from 10.0.0.0/8 to 10.1.0.0/16 lookup blue priority 5", four(func(r *route.Rule) {
			r.Not, r.To, r.Table = true, netip.MustParsePrefix("10.1.0.0/16"), 0x66
		})},
		{"from 10.0.0.0/8 table 0 preference 5", four(func(r *route.Rule) { r.Table = unix.RT_TABLE_MAIN })},
		{"from 10.0.0.0/8 table 100 preference 5 fwmark 6", four(func(r *route.Rule) { r.Mark, r.Mask = 6, math.MaxUint32 })},
		{"from 10.0.0.0/8 table 100 preference 5 fwmark 0x6/0xf tos EF realms cosmos iif eth0 oif eth1 tunnel-id 7 uidrange 0-0",
			four(func(r *route.Rule) {
				r.Mark, r.Mask, r.TOS, r.Realms, r.InputInterface, r.OutputInterface = 6, 15, 0xb8, 7, "eth0", "eth1"
				r.TunnelID, r.UIDs = 7, route.Range{Set: true}
			})},
		{"from 10.0.0.0/8 table 100 preference 5 ipproto ospf sport 1-2 dport 3-4 sup_pl 0 sup_group uplinks",
			four(func(r *route.Rule) {
				r.IPProtocol, r.SourcePorts, r.DestinationPorts = 89, route.Range{Set: true, First: 1, Last: 2},
					route.Range{Set: true, First: 3, Last: 4}
				r.SuppressPrefix, r.SuppressGroup = route.Limit{Set: true}, route.Limit{Set: true, Value: 9}
			})},
		{"from 10.0.0.0/8 l3mdev preference 5", four(func(r *route.Rule) { r.Table, r.L3MDev = 0, true })},
		{"from 10.0.0.0/8 goto 9 preference 5", four(func(r *route.Rule) { r.Table, r.Action, r.Target = 0, route.Goto, 9 })},
		{"from 10.0.0.0/8 type prohibit preference 5", four(func(r *route.Rule) { r.Table, r.Action = 0, route.Prohibit })},
		{"from 10.0.0.0/8 table 100 preference 5 no_track", four(func(r *route.Rule) { r.Protocol = 0 })},
		{"from 10.0.0.0/8 table 100 preference 5 protocol mine no_track", four(func(r *route.Rule) { r.Protocol = 42 })},
		{"from 10.0.0.0/8 table 100 preference 5 protocol mine", four(func(*route.Rule) {})},
		{"inet6 from all table 100 preference 5", four(func(r *route.Rule) { r.Family, r.From = unix.AF_INET6, netip.Prefix{} })},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			in := load(t, "virtual_rules", test.line)
			if len(in.Rules) != 1 {
				t.Fatalf("%d rules", len(in.Rules))
			}
			if got, err := machine.Rule(in.Rules[0]); err != nil || got.Kernel != test.want || got.Track != in.Rules[0].Track {
				t.Errorf("got %+v, %v\nwant %+v", got, err, test.want)
			}
		})
	}
}

func TestNamesThatTheMachineDoesNotKnowAreErrors(t *testing.T) {
	for _, line := range []string{"10.0.0.0/8 via 192.0.2.9 table none", "10.0.0.0/8 via 192.0.2.9 tos none",
		"10.0.0.0/8 via 192.0.2.9 tos large", "10.0.0.0/8 via 192.0.2.9 protocol none no_track",
		"10.0.0.0/8 via 192.0.2.9 realms none", "10.0.0.0/8 nexthop via 192.0.2.9 realms 70000 nexthop via 192.0.2.8",
		"10.0.0.0/8 encap ip tos none dst 192.0.2.1 via 192.0.2.9", "10.0.0.0/8 encap ip dst fd77::1 via 192.0.2.9",
		"10.0.0.0/8 encap ip ttl 256 dst 192.0.2.1 via 192.0.2.9", "10.0.0.0/8 encap mpls 1048576 via 192.0.2.9",
		"10.0.0.0/8 encap ila 1:2:3 via 192.0.2.9"} {
		if _, err := machine.Route(load(t, "virtual_routes", line).Routes[0]); err == nil {
			t.Errorf("%s: no error", line)
		}
	}
	for _, line := range []string{"from 10.0.0.0/8 table none", "from 10.0.0.0/8 table 5 tos none",
		"from 10.0.0.0/8 table 5 protocol none no_track", "from 10.0.0.0/8 table 5 ipproto none",
		"from 10.0.0.0/8 table 5 realms none", "from 10.0.0.0/8 table 5 sup_group none"} {
		if _, err := machine.Rule(load(t, "virtual_rules", line).Rules[0]); err == nil {
			t.Errorf("%s: no error", line)
		}
	}
}

func TestARouteNeedsItsInterfaces(t *testing.T) {
	for _, line := range []string{"10.0.0.0/8 dev none", "10.0.0.0/8 nexthop via 192.0.2.9 dev eth0 nexthop via 192.0.2.8 dev none",
		"10.0.0.0/8 via 192.0.2.9 vrf none", "10.0.0.0/8 via 192.0.2.9 vrf eth0"} {
		r, err := machine.Route(load(t, "virtual_routes", line).Routes[0])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if k, err := r.Kernel(links); err == nil {
			t.Errorf("%s gave %+v", line, k)
		}
	}
}

func TestRoutesThatGoWithAnInterfaceOrAnAddress(t *testing.T) {
	source := netip.MustParseAddr("192.0.2.100")
	for line, want := range map[string][3]bool{ // with eth0, with eth1, with its preferred source
		"10.0.0.0/8 via 192.0.2.9":                                   {true, true, false},
		"10.0.0.0/8 via 192.0.2.9 src 192.0.2.100":                   {true, true, true},
		"10.0.0.0/8 dev eth0":                                        {true, false, false},
		"10.0.0.0/8 nexthop dev eth0 nexthop via 192.0.2.8 dev eth1": {true, true, false},
		"blackhole 10.0.0.0/8":                                       {false, false, false},
	} {
		r, err := machine.Route(load(t, "virtual_routes", line).Routes[0])
		if err != nil {
			t.Fatal(err)
		}
		got := [3]bool{r.DependsOn("eth0", netip.Addr{}), r.DependsOn("eth1", netip.Addr{}), r.DependsOn("eth0", source)}
		if got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}
