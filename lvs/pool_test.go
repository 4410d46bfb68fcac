package lvs

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

var (
	web  = netip.MustParseAddrPort("192.0.2.1:80")
	one  = netip.MustParseAddrPort("10.0.0.1:80")
	two  = netip.MustParseAddrPort("10.0.0.2:80")
	busy = netip.MustParseAddrPort("10.0.0.9:80")
	key  = ServiceKey{Family: IPv4, Protocol: TCP, Address: web}
)

// site is a virtual server with two servers of weight 2, each with a check.
func site(change func(*VirtualServer)) VirtualServer {
	v := VirtualServer{Name: "web", Keys: []ServiceKey{key}, Service: Service{Scheduler: "rr"}, Quorum: 1}
	for _, a := range []netip.AddrPort{one, two} {
		v.Servers = append(v.Servers, RealServer{Address: a, Weight: 2, Checks: []Check{{ID: "tcp"}}})
	}
	if change != nil {
		change(&v)
	}
	return v
}

// weights returns the weights of a service's destinations.
func weights(p *Pool, k ServiceKey) map[netip.AddrPort]uint32 {
	w := map[netip.AddrPort]uint32{}
	for a, d := range p.Want()[k].Destinations {
		w[a] = d.Weight
	}
	return w
}

func expect(t *testing.T, p *Pool, out Outcome, want map[netip.AddrPort]uint32, kinds ...NoticeKind) {
	t.Helper()
	if got := weights(p, key); !maps.Equal(got, want) {
		t.Errorf("weights %v, want %v", got, want)
	}
	var got []NoticeKind
	for _, n := range out.Notices {
		got = append(got, n.Kind)
	}
	if !slices.Equal(got, kinds) {
		t.Errorf("notices %v, want %v", got, kinds)
	}
}

type table = map[netip.AddrPort]uint32

func TestServerFailsAndRecovers(t *testing.T) {
	p := NewPool()
	out := p.Configure([]VirtualServer{site(nil)}, false)
	expect(t, p, out, table{one: 2, two: 2})
	out = p.Found("web", one, "tcp", Verdict{Up: true})
	expect(t, p, out, table{one: 2, two: 2})
	if len(out.Services) != 0 {
		t.Errorf("a verdict that changes nothing changes %v", out.Services)
	}
	out = p.Found("web", one, "tcp", Verdict{})
	expect(t, p, out, table{two: 2}, ServerDown)
	out = p.Found("web", two, "tcp", Verdict{})
	expect(t, p, out, table{}, ServerDown, QuorumDown)
	out = p.Found("web", one, "tcp", Verdict{Up: true, Adds: 3})
	expect(t, p, out, table{one: 5}, ServerUp, QuorumUp)
}

func TestSorryServer(t *testing.T) {
	p := NewPool()
	p.Configure([]VirtualServer{site(func(v *VirtualServer) {
		v.Quorum, v.Hysteresis = 3, 1
		v.Sorry = &SorryServer{Address: busy, Inhibit: true}
		v.Servers[1].Inhibit = true
	})}, false)
	all := table{one: 2, two: 2, busy: 0}
	expect(t, p, Outcome{}, all)
	expect(t, p, p.Found("web", one, "tcp", Verdict{}), table{two: 2, busy: 0}, ServerDown) // 2 is not below 3 - 1
	expect(t, p, p.Found("web", two, "tcp", Verdict{}), table{two: 0, busy: 1}, ServerDown, QuorumDown)
	expect(t, p, p.Found("web", one, "tcp", Verdict{Up: true}), table{two: 0, busy: 1}, ServerUp) // 2 is below 3 + 1
	expect(t, p, p.Found("web", two, "tcp", Verdict{Up: true}), all, ServerUp, QuorumUp)
}

func TestSorryServerThatIsARealServerToo(t *testing.T) {
	p := NewPool()
	p.Configure([]VirtualServer{site(func(v *VirtualServer) { v.Sorry = &SorryServer{Address: one, Inhibit: true} })}, false)
	expect(t, p, Outcome{}, table{one: 2, two: 2})
	p.Found("web", one, "tcp", Verdict{})
	expect(t, p, Outcome{}, table{one: 0, two: 2})
	expect(t, p, p.Found("web", two, "tcp", Verdict{}), table{one: 1}, ServerDown, QuorumDown)
}

func TestAlpha(t *testing.T) {
	alpha := site(func(v *VirtualServer) {
		v.Sorry = &SorryServer{Address: busy}
		for i := range v.Servers {
			v.Servers[i].Checks = []Check{{ID: "tcp", Alpha: true}, {ID: "http", Alpha: true}}
		}
	})
	p := NewPool()
	expect(t, p, p.Configure([]VirtualServer{alpha}, false), table{busy: 1}, QuorumDown)
	expect(t, p, p.Found("web", one, "tcp", Verdict{Up: true}), table{busy: 1})
	expect(t, p, p.Found("web", one, "http", Verdict{Up: true}), table{one: 2}, ServerUp, QuorumUp)
	expect(t, p, p.Found("web", two, "tcp", Verdict{}), table{one: 2}, ServerDown)
}

func TestNoticesOfTheStart(t *testing.T) {
	p := NewPool()
	expect(t, p, p.Configure([]VirtualServer{site(nil)}, true), table{one: 2, two: 2}, ServerUp, ServerUp)
}

func TestOmega(t *testing.T) {
	for _, omega := range []bool{false, true} {
		p := NewPool()
		p.Configure([]VirtualServer{site(func(v *VirtualServer) { v.Omega = omega })}, false)
		p.Found("web", one, "tcp", Verdict{})
		var want []NoticeKind
		if omega {
			want = []NoticeKind{ServerDown, QuorumDown}
		}
		expect(t, p, p.End(), table{two: 2}, want...)
		out := p.Configure(nil, false)
		expect(t, p, out, table{}, want...)
		if !slices.Equal(out.Services, []ServiceKey{key}) || len(p.Want()) != 0 {
			t.Errorf("%v changed, left is %v", out.Services, p.Want())
		}
	}
}

func TestReloadKeepsWhatIsUnchanged(t *testing.T) {
	p := NewPool()
	p.Configure([]VirtualServer{site(nil)}, false)
	p.Found("web", one, "tcp", Verdict{})
	p.Found("web", two, "tcp", Verdict{Up: true, Adds: 5})
	out := p.Configure([]VirtualServer{site(nil)}, false)
	if len(out.Services) != 0 {
		t.Errorf("the same configuration changes %v", out.Services)
	}
	expect(t, p, out, table{two: 7})
	out = p.Configure([]VirtualServer{site(func(v *VirtualServer) { v.Servers[0].Checks[0].ID = "http" })}, false)
	expect(t, p, out, table{one: 2, two: 7}, ServerUp)
	out = p.Configure([]VirtualServer{site(func(v *VirtualServer) { v.Quorum = 20 })}, false)
	expect(t, p, out, table{one: 2, two: 7}, QuorumDown)
}

func TestOverrides(t *testing.T) {
	p := NewPool()
	p.Configure([]VirtualServer{site(nil)}, false)
	seven, huge := int64(7), int64(1)<<40
	expect(t, p, p.Override("web", one, Override{Weight: &seven}), table{one: 7, two: 2})
	expect(t, p, p.Override("web", one, Override{Weight: &huge}), table{one: MaxWeight, two: 2})
	expect(t, p, p.Override("web", one, Override{Weight: &seven, Drain: true}), table{one: 0, two: 2})
	expect(t, p, p.Override("web", two, Override{Drain: true}), table{one: 0, two: 0}, QuorumDown)
	expect(t, p, p.Override("web", two, Override{}), table{one: 0, two: 2}, QuorumUp)
	expect(t, p, p.Override("web", two, Override{Found: &Verdict{}}), table{one: 0}, ServerDown, QuorumDown)
	p.Found("web", two, "tcp", Verdict{Up: true})
	expect(t, p, Outcome{}, table{one: 0})
	p.Found("web", two, "tcp", Verdict{})
	expect(t, p, p.Override("web", two, Override{Found: &Verdict{Up: true}}), table{one: 0, two: 2}, ServerUp, QuorumUp)
	if v, _ := p.View("web"); v.Servers[1].Found.Up || !v.Servers[1].Ran {
		t.Errorf("our own checks say %+v", v.Servers[1])
	}
	expect(t, p, p.Override("web", two, Override{}), table{one: 0}, ServerDown, QuorumDown)
	expect(t, p, p.Override("web", two, Override{Begins: true}), table{one: 0, two: 2}, ServerUp, QuorumUp)
	expect(t, p, p.Found("web", two, "tcp", Verdict{Up: true, Adds: 3}), table{one: 0, two: 2})
	expect(t, p, p.Override("web", two, Override{}), table{one: 0, two: 5})
	alpha := NewPool()
	alpha.Configure([]VirtualServer{site(func(v *VirtualServer) { v.Servers[1].Checks[0].Alpha = true })}, false)
	expect(t, alpha, alpha.Override("web", two, Override{Begins: true}), table{one: 2})
	expect(t, alpha, alpha.Found("web", two, "tcp", Verdict{}), table{one: 2})
	expect(t, alpha, alpha.Override("web", two, Override{}), table{one: 2}, ServerDown)
}

func TestServicesOfAGroup(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:80")
	keys := []ServiceKey{key, {Family: IPv6, Protocol: TCP, Address: six}, {Family: IPv4, Mark: 7}}
	p := NewPool()
	p.Configure([]VirtualServer{site(func(v *VirtualServer) {
		v.Keys = keys
		v.Service.Persistence.TimeoutSeconds = 60
		v.Servers = []RealServer{
			{Address: netip.MustParseAddrPort("10.0.0.1:0"), Weight: 1},
			{Address: netip.MustParseAddrPort("10.0.0.2:8080"), Weight: 1},
			{Address: netip.MustParseAddrPort("[2001:db8::2]:8080"), Weight: 1, Forwarding: Forwarding{Method: DirectRoute}},
			{Address: netip.MustParseAddrPort("[2001:db8::3]:0"), Weight: 1, Forwarding: Forwarding{Method: Tunnel}},
		}
	})}, false)
	for k, want := range map[ServiceKey][]string{
		keys[0]: {"10.0.0.1:80", "10.0.0.2:8080", "[2001:db8::3]:80"},
		keys[1]: {"[2001:db8::2]:80", "[2001:db8::3]:80"},
		keys[2]: {"10.0.0.1:0", "10.0.0.2:8080", "[2001:db8::3]:0"},
	} {
		var got []string
		for _, a := range slices.SortedFunc(maps.Keys(p.Want()[k].Destinations), netip.AddrPort.Compare) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v has %v, want %v", k, got, want)
		}
		if bits := p.Want()[k].Persistence.PrefixLen; bits != addressBits(k.Family) {
			t.Errorf("%v: prefix length %d", k, bits)
		}
	}
}

func TestViews(t *testing.T) {
	p := NewPool()
	p.Configure([]VirtualServer{site(func(v *VirtualServer) { v.Sorry = &SorryServer{Address: busy}; v.Quorum = 3 })}, false)
	p.Found("web", two, "tcp", Verdict{})
	checks := []Check{{ID: "tcp"}}
	want := []View{{Name: "web", Keys: []ServiceKey{key}, Sorry: true, Total: 2, Servers: []ServerView{
		{Address: one, Up: true, Weight: 2, Found: Verdict{Up: true}, Checks: checks},
		{Address: two, Known: true, Weight: 2, Ran: true, Checks: checks},
	}}}
	if got := p.Views(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
