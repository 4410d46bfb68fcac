package agent

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/agent/shared"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
)

// unasked is a load balancer that nobody may tell anything.
type unasked struct{ t *testing.T }

func (u unasked) Configure(balancer.Config, map[balancer.Server]balancer.Override) {
	u.t.Error("configured")
}
func (u unasked) Override(map[balancer.Server]balancer.Override) { u.t.Error("overridden") }
func (u unasked) Doubt([]balancer.Server)                        { u.t.Error("in doubt") }
func (u unasked) Status(context.Context) (balancer.Status, error) {
	u.t.Error("asked")
	return balancer.Status{}, nil
}

// While the copy of the log goes through what was before its start, nothing of it is looked at: the cluster is not even there.
func TestNothingIsServedOfAHistory(t *testing.T) {
	s := newServices("lb1", (*cluster.Cluster)(nil), unasked{t}, func() clock.Time { return 1 }, func() {}, nil)
	s.cfg, s.started = &conf.Config{}, time.Now()
	if wait := s.step(t.Context()); wait != healthEvery {
		t.Errorf("it waits for %s", wait)
	}
	s.hold(map[string]uint64{"g": 1})
	if !s.known() {
		t.Error("an owner knows what was before its grant")
	}
	s.hold(nil)
	if s.known() {
		t.Error("it does not own any more, and there is no end of the history yet")
	}
	close(s.caughtUp)
	if !s.known() {
		t.Error("the end of the history is not noticed")
	}
}

// filling is a load balancer that has yet to write some of its services.
type filling struct {
	unasked
	status balancer.Status
}

func (f *filling) Configure(balancer.Config, map[balancer.Server]balancer.Override) {}
func (f *filling) Status(context.Context) (balancer.Status, error)                  { return f.status, nil }

// A director that starts is complete once the kernel has the whole first table, not before; without IPVS, or after a while, nobody waits
// for that.
func TestTheFirstTableIsAwaited(t *testing.T) {
	for _, test := range []struct {
		what string
		then func(*services, *filling)
		want bool
	}{
		{"the cluster's services are not known", func(s *services, _ *filling) { s.served = nil }, false},
		{"they are yet to be configured", func(s *services, _ *filling) { s.next = &balancer.Config{} }, false},
		{"they are yet to be written", func(_ *services, f *filling) { f.status.Pending = 1 }, false},
		{"all are written", func(*services, *filling) {}, true},
		{"there is no IPVS", func(_ *services, f *filling) { f.status.Pending, f.status.Missing = 1, "no module" }, true},
		{"it takes long", func(s *services, _ *filling) { s.started, s.served = time.Now().Add(-firstTable), nil }, true},
	} {
		told := 0
		f := &filling{unasked: unasked{t}}
		s := newServices("lb1", (*cluster.Cluster)(nil), f, func() clock.Time { return 1 }, func() { told++ }, nil)
		s.started, s.served = time.Now(), &conf.Config{}
		test.then(s, f)
		s.awaitFirst(t.Context())
		if got := s.complete.Load(); got != test.want || (told == 1) != test.want {
			t.Errorf("%s: complete %t, told %d times; want %t", test.what, got, told, test.want)
		}
	}
}

// doubts is a load balancer that notes what it is to doubt.
type doubts struct {
	unasked
	all []balancer.Server
}

func (d *doubts) Override(map[balancer.Server]balancer.Override) {}
func (d *doubts) Doubt(servers []balancer.Server)                { d.all = append(d.all, servers...) }

// What the cluster knows better than a new owner is doubted once for each time that it takes over.
func TestOneDoubtForEachTakeover(t *testing.T) {
	b := &doubts{unasked: unasked{t}}
	s := newServices("lb1", (*cluster.Cluster)(nil), b, func() clock.Time { return 1 }, func() {}, nil)
	const web = "TCP 192.0.2.10:80"
	s.groups = map[string]string{web: "g"}
	table := fsm.Table{Changed: 1, Services: []*fsm.Service{{Key: web, Servers: []fsm.Server{
		{Key: "10.0.0.1:80", Found: &fsm.Finding{}}, {Key: "10.0.0.2:80", Found: &fsm.Finding{Health: fsm.Health{Up: true}}}}}}}
	for _, server := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		s.health[shared.Server{Service: web, Server: server}] = shared.Health{Health: fsm.Health{Up: true}, Known: true, At: 5}
	}
	for _, test := range []struct {
		since clock.Time
		want  int
	}{{7, 1}, {7, 1}, {9, 2}, {4, 2}} {
		s.decide(table, map[string]shared.Hold{"g": {Epoch: uint64(test.since), Since: test.since}})
		if len(b.all) != test.want || b.all[0] != (balancer.Server{Virtual: web, Address: netip.MustParseAddrPort("10.0.0.1:80")}) {
			t.Errorf("owner since %d: doubted so far: %v, want %d", test.since, b.all, test.want)
		}
	}
}
