package agent

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/agent/routing"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/route"
)

// fakeRouter writes down what it is asked for, together with a kernel of addresses.
type fakeRouter struct {
	did []string
	err error
}

func (f *fakeRouter) do(what string) error { f.did = append(f.did, what); return f.err }

func (f *fakeRouter) Put(r route.Route) error       { return f.do("+" + r.String()) }
func (f *fakeRouter) Remove(r route.Route) error    { return f.do("-" + r.String()) }
func (f *fakeRouter) PutRule(r route.Rule) error    { return f.do("+" + r.String()) }
func (f *fakeRouter) RemoveRule(r route.Rule) error { return f.do("-" + r.String()) }
func (f *fakeRouter) addresses() kernel             { return &loggedAddresses{f} }
func (f *fakeRouter) mustHaveDone(t *testing.T, want ...string) {
	t.Helper()
	f.compare(t, want)
	f.did = nil
}
func (f *fakeRouter) compare(t *testing.T, want []string) {
	t.Helper()
	if !slices.Equal(f.did, want) {
		t.Errorf("done: %q\nwant: %q", f.did, want)
	}
}

type loggedAddresses struct{ log *fakeRouter }

func (l *loggedAddresses) Put(a address.Address, _ address.Lifetime) error {
	return l.log.do("+" + a.Prefix.String())
}
func (l *loggedAddresses) Remove(a address.Address) error { return l.log.do("-" + a.Prefix.String()) }

var (
	first  = conf.Route{Family: conf.IPv4, Destination: netip.MustParsePrefix("10.1.0.0/16"), Interface: "eth0", Track: true}
	second = conf.Route{Family: conf.IPv4, Destination: netip.MustParsePrefix("10.2.0.0/16"), Interface: "eth1"}
	third  = conf.Route{Family: conf.IPv4, Destination: netip.MustParsePrefix("10.3.0.0/16"), Interface: "absent", Track: true}
	ruled  = conf.Rule{Family: conf.IPv4, Priority: conf.Number{Set: true, Value: 9}, Action: "blackhole", Track: true}
	other  = conf.Rule{Family: conf.IPv4, Priority: conf.Number{Set: true, Value: 10}, Action: "blackhole"}
)

// ready turns the routes and rules of an instance into the kernel's form.
func ready(a *Agent, in *conf.Instance) *forwarding {
	return new(ways).forwarding(in, routing.Names{}, a.table.ByName, a.log)
}

// routerAgent is an agent of the instance "x" with an address, routes and rules, none of them taken.
func routerAgent(t *testing.T) (*Agent, *fakeRouter) {
	t.Helper()
	a, _, _ := testAgent(t)
	f := &fakeRouter{}
	in := a.instances["x"].conf
	in.Routes, in.Rules = []conf.Route{first, second, third}, []conf.Rule{ruled, other}
	a.table.Apply(link.LinkChanged{Link: link.Link{Index: 3, Name: "eth1"}})
	i := a.instances["x"]
	i.holding.kernel, i.holding.taken = f.addresses(), false
	i.forwarding = ready(a, in)
	i.forwarding.kernel = f
	a.static.kernel = f.addresses()
	return a, f
}

func TestRoutesAndRulesComeAfterTheAddressesAndGoBeforeThem(t *testing.T) {
	a, f := routerAgent(t)
	i := a.instances["x"]
	if err := i.holding.take(a.clock.Now(), 0); err != nil {
		t.Fatal(err)
	}
	a.takeForwarding(i)
	f.mustHaveDone(t, "+10.0.0.100/24", "+10.1.0.0/16", "+10.2.0.0/16", "+rule 9 blackhole", "+rule 10 blackhole")
	a.dropForwarding(i)
	if err := i.holding.drop(); err != nil {
		t.Fatal(err)
	}
	f.mustHaveDone(t, "-rule 9 blackhole", "-rule 10 blackhole", "-10.1.0.0/16", "-10.2.0.0/16", "-10.0.0.100/24")
}

func TestNothingIsAddedWithALeaseThatHasEnded(t *testing.T) {
	a, f := routerAgent(t)
	now := a.clock.Now()
	if events := a.take(director.TakeAddresses{Instance: "x", NotAfter: now}); len(events) > 0 {
		t.Errorf("%+v", events)
	}
	f.mustHaveDone(t)
	if a.instances["x"].forwarding.taken {
		t.Error("routes count as taken")
	}
}

func TestARouteThatCannotBeAddedKeepsNoOtherFromBeingThere(t *testing.T) {
	a, f := routerAgent(t)
	f.err = errors.New("test")
	if err := a.instances["x"].forwarding.take(); err == nil {
		t.Error("no error")
	}
	f.mustHaveDone(t, "+10.1.0.0/16", "+10.2.0.0/16", "+rule 9 blackhole", "+rule 10 blackhole")
}

func TestWhatAnotherInstanceAlsoHasStaysWhenOneLeaves(t *testing.T) {
	a, f := routerAgent(t)
	in := a.instances["x"].conf
	y := ready(a, &conf.Instance{Name: "y", Routes: in.Routes[:1], Rules: in.Rules[:1]})
	y.kernel = f
	a.instances["y"], a.order = &instance{conf: &conf.Instance{Name: "y"}, forwarding: y}, append(a.order, "y")
	if err := errors.Join(y.take()); err != nil {
		t.Fatal(err)
	}
	a.takeForwarding(a.instances["x"])
	f.did = nil
	a.dropForwarding(a.instances["x"])
	f.mustHaveDone(t, "-rule 10 blackhole", "-10.2.0.0/16")
	a.dropForwarding(a.instances["y"])
	f.mustHaveDone(t, "-rule 9 blackhole", "-10.1.0.0/16")
}

func TestOnlyTrackedEntriesThatShouldBeThereAreMissed(t *testing.T) {
	a, _ := routerAgent(t)
	f := a.instances["x"].forwarding
	kernel := func(r routing.Route) route.Route {
		k, err := r.Kernel(f.links)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	tracked, untracked := kernel(f.routes[0]), kernel(f.routes[1])
	foreign := tracked
	foreign.Table = 5
	rule, free := f.rules[0].Kernel, f.rules[1].Kernel
	all := route.Listed{Routes: []route.Route{tracked}, Rules: []route.Rule{rule}}
	tests := []struct {
		name string
		ev   route.Event
		want string
	}{
		{"tracked route", route.Removed{Route: tracked}, "the route 10.1.0.0/16"},
		{"route that is not tracked", route.Removed{Route: untracked}, ""},
		{"foreign route", route.Removed{Route: foreign}, ""},
		{"tracked rule", route.RuleRemoved{Rule: rule}, "rule 9 blackhole"},
		{"rule that is not tracked", route.RuleRemoved{Rule: free}, ""},
		{"everything is listed", all, ""},
		{"the route is not listed", route.Listed{Rules: all.Rules}, "the route 10.1.0.0/16"},
		{"the rule is not listed", route.Listed{Routes: all.Routes}, "rule 9 blackhole"},
	}
	for _, test := range tests {
		if got := f.lost(test.ev); got != "" {
			t.Errorf("%s, not taken: %q", test.name, got)
		}
	}
	f.taken = true
	for _, test := range tests {
		if got := f.lost(test.ev); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestWhatWentWithAnInterfaceComesBackWithIt(t *testing.T) {
	a, f := routerAgent(t)
	a.staticForwarding = ready(a, &conf.Instance{Routes: []conf.Route{first, second}})
	a.staticForwarding.kernel = f
	a.static.instance = &conf.Instance{Addresses: []conf.Address{
		{Prefix: netip.MustParsePrefix("10.9.0.1/24"), Interface: "eth0", Track: true},
		{Prefix: netip.MustParsePrefix("10.9.1.1/24"), Interface: "eth0"}}}
	a.takeStatic()
	f.did = nil
	up := link.LinkChanged{Before: link.Link{Index: 2, Name: "eth0"}, Link: link.Link{Index: 2, Name: "eth0", Up: true}}
	a.restoreAfter(up)
	f.mustHaveDone(t, "+10.9.0.1/24", "+10.1.0.0/16") // neither what is not tracked nor what the instance does not have
	a.instances["x"].forwarding.taken = true
	a.restoreAfter(link.LinkChanged{Before: up.Link, Link: link.Link{Index: 2, Name: "eth0", Up: true, MTU: 9000}})
	f.mustHaveDone(t)
	absent := link.Link{Index: 9, Name: "absent"}
	a.table.Apply(link.LinkChanged{Link: absent})
	a.restoreAfter(link.LinkChanged{Link: absent})
	f.mustHaveDone(t, "+10.3.0.0/16")
}

func TestARouteComesBackWithItsPreferredSource(t *testing.T) {
	a, f := routerAgent(t)
	c := first
	c.Source = netip.MustParseAddr("10.0.0.7")
	a.staticForwarding = ready(a, &conf.Instance{Routes: []conf.Route{c}})
	a.staticForwarding.kernel, a.staticForwarding.taken = f, true
	for addr, want := range map[string][]string{"10.0.0.7/24": {"+10.1.0.0/16"}, "10.0.0.8/24": nil} {
		a.restoreAfter(link.AddressAdded{Address: address.Address{Index: 2, Prefix: netip.MustParsePrefix(addr)}})
		f.mustHaveDone(t, want...)
	}
}

func TestStaticEntriesArePutBackUnlessNotTracked(t *testing.T) {
	a, f := routerAgent(t)
	a.staticForwarding = ready(a, &conf.Instance{Routes: []conf.Route{first}, Rules: []conf.Rule{ruled}})
	a.staticForwarding.kernel = f
	tracked := conf.Address{Prefix: netip.MustParsePrefix("10.9.0.1/24"), Interface: "eth0", Track: true}
	free := conf.Address{Prefix: netip.MustParsePrefix("10.9.1.1/24"), Interface: "eth0"}
	a.static.instance = &conf.Instance{Addresses: []conf.Address{tracked, free}}
	a.takeStatic()
	f.mustHaveDone(t, "+10.9.0.1/24", "+10.9.1.1/24", "+10.1.0.0/16", "+rule 9 blackhole")
	tracks := []string{"+10.9.0.1/24", "+10.1.0.0/16", "+rule 9 blackhole"}
	a.staticAddressGone(address.Address{Index: 2, Prefix: free.Prefix})
	f.mustHaveDone(t)
	a.staticAddressGone(address.Address{Index: 2, Prefix: tracked.Prefix})
	f.mustHaveDone(t, tracks...)
	a.forwardingChanged(route.RuleRemoved{Rule: a.staticForwarding.rules[0].Kernel})
	f.mustHaveDone(t, tracks...)
	a.dropStatic()
	f.mustHaveDone(t, "-rule 9 blackhole", "-10.1.0.0/16", "-10.9.0.1/24", "-10.9.1.1/24")
	a.staticAddressGone(address.Address{Index: 2, Prefix: tracked.Prefix})
	f.mustHaveDone(t)
}

func TestAnAddressThatIsNotTrackedIsNotMissed(t *testing.T) {
	a, _ := routerAgent(t)
	h := a.instances["x"].holding
	k := address.Address{Index: 2, Prefix: vip}
	if h.tracks(k) || !h.has(k) {
		t.Error("an address with no_track is missed, or not known")
	}
	h.instance.Addresses[0].Track = true
	if !h.tracks(k) {
		t.Error("a tracked address is not missed")
	}
}

func TestALineWithAnUnknownNameIsLeftOutAndSaid(t *testing.T) {
	a, _ := routerAgent(t)
	bad, w := first, &ways{}
	bad.Table = conf.Number{Set: true, Name: "nowhere"}
	f := w.forwarding(&conf.Instance{Routes: []conf.Route{bad, first}, Rules: []conf.Rule{
		{Family: conf.IPv4, Table: conf.Number{Set: true, Name: "nowhere"}}}}, routing.Names{}, a.table.ByName, a.log)
	if len(f.routes) != 1 || len(f.rules) != 0 || len(w.unusable) != 2 {
		t.Errorf("%d routes, %d rules, said: %q", len(f.routes), len(f.rules), w.unusable)
	}
}

func TestAReloadChangesOnlyTheRoutesAndRulesThatDiffer(t *testing.T) {
	a, f := routerAgent(t)
	i := a.instances["x"]
	a.takeForwarding(i)
	f.mustHaveDone(t, "+10.1.0.0/16", "+10.2.0.0/16", "+rule 9 blackhole", "+rule 10 blackhole")
	in := *i.conf
	fourth := conf.Route{Family: conf.IPv4, Destination: netip.MustParsePrefix("10.4.0.0/16"), Interface: "eth0"}
	in.Routes, in.Rules = []conf.Route{first, fourth}, []conf.Rule{other}
	before := i.forwarding
	i.forwarding = ready(a, &in)
	i.forwarding.kernel = f
	if err := i.forwarding.succeed(before, a.forwardings()); err != nil {
		t.Fatal(err)
	}
	f.mustHaveDone(t, "-rule 9 blackhole", "-10.2.0.0/16")
	if err := i.forwarding.takeNew(); err != nil {
		t.Fatal(err)
	}
	f.mustHaveDone(t, "+10.4.0.0/16")
	a.dropForwarding(i)
	f.mustHaveDone(t, "-rule 10 blackhole", "-10.1.0.0/16", "-10.4.0.0/16")
}

func TestAReloadReplacesARouteWhoseAttributesChange(t *testing.T) {
	a, f := routerAgent(t)
	i := a.instances["x"]
	a.takeForwarding(i)
	f.did = nil
	in := *i.conf
	changed := first
	changed.MTU = conf.Metric{Set: true, Value: 1400}
	in.Routes = []conf.Route{changed, second, third}
	before := i.forwarding
	i.forwarding = ready(a, &in)
	i.forwarding.kernel = f
	if err := errors.Join(i.forwarding.succeed(before, a.forwardings()), i.forwarding.takeNew()); err != nil {
		t.Log(err) // of the route whose interface is absent
	}
	f.mustHaveDone(t, "-10.1.0.0/16", "+10.1.0.0/16")
}
