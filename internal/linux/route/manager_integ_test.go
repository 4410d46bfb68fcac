//go:build integ

package route_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/internal/linux/route"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// fixture is an interface with addresses, and a manager of routes.
type fixture struct {
	*route.Manager
	t     *testing.T
	link  netlink.Link
	index int
}

func setup(t *testing.T) *fixture {
	t.Helper()
	name := nettest.Name("r")
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	if !nettest.Check(t, netlink.LinkAdd(pair)) {
		t.FailNow()
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	nettest.Check(t, netlink.LinkSetUp(pair))
	peer, err := netlink.LinkByName(name + "p")
	nettest.Check(t, err)
	nettest.Check(t, netlink.LinkSetUp(peer))
	nettest.AddAddress(t, name, "192.0.2.1/24")
	nettest.AddAddress(t, name, "fd77::1/64")
	f := &fixture{t: t, link: pair, index: nettest.Link(t, name).Index}
	if f.Manager, err = route.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) route(destination, via string) route.Route {
	r := route.Route{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: route.Protocol,
		Destination: netip.MustParsePrefix(destination), Hops: []route.Hop{{Via: netip.MustParseAddr(via)}}}
	if r.Destination.Addr().Is6() {
		r.Family = unix.AF_INET6
	}
	return r
}

func rule(table uint32) route.Rule {
	return route.Rule{Family: unix.AF_INET, Priority: 500, Protocol: route.Protocol, From: netip.MustParsePrefix("10.0.0.0/8"),
		Action: route.ToTable, Table: table}
}

// count returns how many routes to a destination package netlink sees.
func (f *fixture) count(destination string) int {
	f.t.Helper()
	_, prefix, err := net.ParseCIDR(destination)
	nettest.Check(f.t, err)
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: prefix}, netlink.RT_FILTER_DST)
	nettest.Check(f.t, err)
	return len(list)
}

func ruleCount(t *testing.T) int {
	t.Helper()
	list, err := netlink.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Priority: 500}, netlink.RT_FILTER_PRIORITY)
	nettest.Check(t, err)
	return len(list)
}

func TestPutAndRemoveMayBeRepeated(t *testing.T) {
	f := setup(t)
	for _, r := range []route.Route{f.route("198.51.100.0/24", "192.0.2.9"), f.route("2001:db8::/32", "fd77::9")} {
		for _, mode := range []route.Mode{route.Prepend, route.Append, route.Add} {
			r.Mode = mode
			nettest.Check(t, f.Remove(r))
			for range 3 {
				nettest.Check(t, f.Put(r))
			}
			if n := f.count(r.Destination.String()); n != 1 {
				t.Errorf("%v in mode %d is there %d times", r, mode, n)
			}
			for range 3 {
				nettest.Check(t, f.Remove(r))
			}
			if n := f.count(r.Destination.String()); n != 0 {
				t.Errorf("%v in mode %d is still there", r, mode)
			}
		}
	}
	nettest.Check(t, f.RemoveRule(rule(5)))
	for range 3 {
		nettest.Check(t, f.PutRule(rule(5)))
	}
	if n := ruleCount(t); n != 1 {
		t.Errorf("the rule is there %d times", n)
	}
	for range 3 {
		nettest.Check(t, f.RemoveRule(rule(5)))
	}
	if n := ruleCount(t); n != 0 {
		t.Errorf("the rule is still there")
	}
}

// A route that somebody else made with another protocol number stays when ours goes.
func TestForeignRouteToTheSameDestinationStays(t *testing.T) {
	f := setup(t)
	_, prefix, _ := net.ParseCIDR("198.51.100.0/24")
	nettest.Check(t, netlink.RouteAdd(&netlink.Route{Dst: prefix, Gw: net.ParseIP("192.0.2.9"), Protocol: unix.RTPROT_STATIC}))
	ours := f.route("198.51.100.0/24", "192.0.2.9")
	nettest.Check(t, f.Put(ours))
	if n := f.count("198.51.100.0/24"); n != 2 {
		t.Errorf("%d routes, want 2", n)
	}
	for range 2 {
		nettest.Check(t, f.Remove(ours))
	}
	if n := f.count("198.51.100.0/24"); n != 1 {
		t.Errorf("%d routes, want the foreign one", n)
	}
}

func TestRouteThroughAnAbsentInterface(t *testing.T) {
	f := setup(t)
	r := f.route("198.51.100.0/24", "192.0.2.9")
	r.Hops[0].Index = 1 << 20
	if err := f.Put(r); err == nil {
		t.Error("put")
	}
	nettest.Check(t, f.Remove(r))
}

// watch starts a Monitor that ignores the fixture's own doings, and returns what it has reported.
func (f *fixture) watch() func() []route.Event {
	f.t.Helper()
	m, err := route.Open(slog.New(slog.DiscardHandler), f.Port())
	if err != nil {
		f.t.Fatal(err)
	}
	var mu sync.Mutex
	var events []route.Event
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- m.Run(ctx, func(ev route.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, ev)
		})
	}()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	return func() []route.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]route.Event{}, events...)
	}
}

func TestOnlyRemovalsByOthersAreReported(t *testing.T) {
	f := setup(t)
	events := f.watch()
	other, err := route.New()
	nettest.Check(t, err)
	defer other.Close()
	multipath := f.route("198.51.101.0/24", "192.0.2.9")
	multipath.Hops = append(multipath.Hops, route.Hop{Via: netip.MustParseAddr("192.0.2.8"), Index: f.index, Weight: 7})
	foreign := f.route("198.51.102.0/24", "192.0.2.9")
	foreign.Protocol = unix.RTPROT_STATIC
	routes := []route.Route{f.route("198.51.100.0/24", "192.0.2.9"), f.route("2001:db8::/32", "fd77::9"), multipath}
	for _, r := range append(routes, foreign) {
		nettest.Check(t, f.Put(r))
		nettest.Check(t, f.Remove(r))
		nettest.Check(t, f.Put(r))
		nettest.Check(t, other.Remove(r))
	}
	nettest.Check(t, f.PutRule(rule(5)))
	nettest.Check(t, f.RemoveRule(rule(5)))
	nettest.Check(t, f.PutRule(rule(5)))
	nettest.Check(t, other.RemoveRule(rule(5)))
	nettest.Eventually(t, "the removal of the rule is reported", func() bool {
		list := events()
		return len(list) > 0 && list[len(list)-1] == route.Event(route.RuleRemoved{Rule: rule(5)})
	})
	list := events()
	for i, r := range routes {
		removed, ok := list[i].(route.Removed)
		if !ok || !r.Is(removed.Route) {
			t.Errorf("event %d is %+v, want the removal of %v", i, list[i], r)
		}
	}
	if len(list) != len(routes)+1 {
		t.Errorf("events %+v", list)
	}
}

// Of IPv6 routes that go with their interface the kernel tells, of those of IPv4 it does not. Nobody has removed them.
func TestRoutesThatGoWithTheirInterfaceAreNotReported(t *testing.T) {
	f := setup(t)
	events := f.watch()
	nettest.Check(t, f.Put(f.route("2001:db8::/32", "fd77::9")))
	nettest.Check(t, f.Put(f.route("198.51.100.0/24", "192.0.2.9")))
	nettest.Check(t, netlink.LinkSetDown(f.link))
	nettest.Eventually(t, "the routes are gone", func() bool {
		return f.count("2001:db8::/32")+f.count("198.51.100.0/24") == 0
	})
	other, err := route.New()
	nettest.Check(t, err)
	defer other.Close()
	nettest.Check(t, f.PutRule(rule(5)))
	nettest.Check(t, other.RemoveRule(rule(5)))
	nettest.Eventually(t, "the removal of a rule is reported", func() bool { return len(events()) > 0 })
	if list := events(); len(list) != 1 || list[0] != route.Event(route.RuleRemoved{Rule: rule(5)}) {
		t.Errorf("events %+v", list)
	}
}

func TestLostNotificationsAreMadeUpForByAList(t *testing.T) {
	f := setup(t)
	m, err := route.Open(slog.New(slog.DiscardHandler), f.Port())
	if err != nil {
		t.Fatal(err)
	}
	route.ShrinkReceiveBuffer(m)
	other, err := route.New()
	nettest.Check(t, err)
	defer other.Close()
	kept, ours := f.route("198.51.100.0/24", "192.0.2.9"), rule(5)
	nettest.Check(t, f.Put(kept))
	nettest.Check(t, f.PutRule(ours))
	defer func() { nettest.Check(t, f.RemoveRule(ours)) }()
	r := f.route("198.51.101.0/24", "192.0.2.9")
	for range 500 { // nobody reads
		nettest.Check(t, other.Put(r))
		nettest.Check(t, other.Remove(r))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var listed *route.Listed
	nettest.Check(t, m.Run(ctx, func(ev route.Event) {
		if l, ok := ev.(route.Listed); ok {
			listed = &l
			cancel()
		}
	}))
	if listed == nil || len(listed.Routes) != 1 || !kept.Is(listed.Routes[0]) || len(listed.Rules) != 1 || listed.Rules[0] != ours {
		t.Errorf("listed %+v", listed)
	}
}
