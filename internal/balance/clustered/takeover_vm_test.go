//go:build integ

package clustered

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/backend"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/lvs/ipvs"
)

var (
	takeovers = flag.Int("takeovers", 3, "how many takeovers TestTakeovers makes")
	seed      = flag.Uint64("takeovers.seed", 0, "what the flaps and takeovers follow from; 0: another one each time")
)

// methods are the services, by the port of the VIP. Each has a client of its own, which does not wait for others.
var methods = []struct {
	name   string
	port   int
	client netip.Addr
}{{"NAT", 81, near}, {"DR", 82, far}, {"TUN", 83, farther}}

// The real servers: two are always up; the third one comes and goes for all, the fourth one for one director alone.
const (
	third, fourth = "10.77.0.123", "10.77.0.124"
	checked       = 9000 // the port that checks ask; those of the services are open throughout, so that it shows who is sent there
	// pace is delay_loop: what a check waits for before the next one.
	pace = 500 * time.Millisecond
	// dialLimit is how long a client waits for its connection: too short for a second SYN, so that a director has to do with it when
	// it begins, or never.
	dialLimit = 400 * time.Millisecond
	firstPort = 10000 // of clients; each connection has one of its own, by which the server tells it apart
)

// weights are what the servers have, each its own.
var weights = map[string]int{first: 3, second: 5, third: 7, fourth: 4}

func takeoverServices() string {
	var b strings.Builder
	for _, m := range methods {
		fmt.Fprintf(&b, "virtual_server %s %d {\n  delay_loop %g\n  lb_algo wrr\n  lb_kind %s\n  protocol TCP\n", vip, m.port,
			pace.Seconds(), m.name)
		for _, server := range []string{first, second, third, fourth} {
			if server == fourth && m.name == "TUN" {
				continue
			}
			fmt.Fprintf(&b, "  real_server %s %d {\n    weight %d\n", server, m.port, weights[server])
			if server == fourth {
				b.WriteString("    inhibit_on_failure\n")
			}
			fmt.Fprintf(&b, "    TCP_CHECK {\n      connect_port %d\n      connect_timeout %g\n      retry 0\n    }\n  }\n", checked,
				pace.Seconds())
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// expected are the weights that all servers may have, with what was set by hand.
func expected() map[entry]expectation {
	all := map[entry]expectation{}
	for _, m := range methods {
		for server, weight := range weights {
			x := expectation{up: weight, down: absent, steady: server == first || server == second}
			switch {
			case server == fourth && m.name == "TUN":
				continue
			case server == fourth:
				x.down = 0
			case server == second && m.name == "DR":
				x.up = 9
			case server == second && m.name == "TUN":
				x.up = 0
			}
			all[entry{m.port, netip.MustParseAddr(server)}] = x
		}
	}
	return all
}

// Directors take over from each other in every way while servers come and go and clients connect: no weight is ever wrong, the
// synchronization of connections goes along, established connections outlive their director, and no connection goes to a server
// that the cluster has known to be down for longer than an interval of its checks.
func TestTakeovers(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-takeovers.seed=%d", *seed)
	s := newStage(t, len(weights))
	for _, b := range s.servers {
		s.must(b.Open(checked, methods[0].port, methods[1].port, methods[2].port))
	}
	s.configure(syncs + takeoverServices())
	owner, other := s.begin()
	s.hactl(owner, "lvs", "weight", "10.77.0.100:82", second+":82", "9")
	s.hactl(other, "lvs", "drain", second+":83", "--service", "10.77.0.100:83")

	owner, other = s.outlive(owner, other)

	ctx, stop := context.WithCancel(s.ctx)
	r, wait := s.record(ctx, expected())
	random := rand.New(rand.NewPCG(*seed, 0))
	var others sync.WaitGroup
	s.flap(ctx, &others, r, random)
	connected := s.connect(ctx, &others, r)
	var took []time.Duration
	for i := range *takeovers {
		time.Sleep(time.Duration(100+random.IntN(700)) * time.Millisecond)
		w := ways[i%len(ways)]
		start, lost := time.Now(), make(chan error, 1)
		r.note("%s loses what it owns, by %s", owner.Name, w.name)
		if w.name != move.name {
			r.ends(owner)
		}
		go func() { lost <- w.lose(s, owner, other) }()
		select {
		case n := <-r.takeovers:
			if n != other {
				t.Fatalf("takeover %d, by %s: %s takes over, which owned", i+1, w.name, n.Name)
			}
		case <-time.After(startLimit):
			t.Fatalf("takeover %d, by %s: nobody takes over from %s", i+1, w.name, owner.Name)
		}
		took = append(took, time.Since(start))
		if err := <-lost; err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		owner, other = other, owner
		s.daemons(owner, ipvs.Master)
		if w.name != move.name {
			s.must(s.Start(other))
			r.starts(other, !w.orderly)
		}
		s.daemons(other, ipvs.Backup)
	}
	time.Sleep(2 * pace)
	stop()
	others.Wait()
	wait()
	r.judge(t)
	t.Logf("%d takeovers: median %s after it was asked for, or after the death; what the log says of servers has changed: %s", len(took),
		median(took), r.flaps())
	s.noneTooLate(r)
	t.Logf("clients: %s", connected())
}

// outlive has connections outlive their director: it loses what it owns in each way, and those that were opened through it go on
// through another one that has never seen a packet of them.
func (s *stage) outlive(owner, other *site.Node) (*site.Node, *site.Node) {
	s.t.Helper()
	var all []*backend.Session
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	outlived := 0
	for _, w := range ways {
		for _, m := range methods {
			for range 2 {
				c, err := backend.Connect(s.clients[m.client], 0, netip.AddrPortFrom(vip, uint16(m.port)), backend.AnswerLimit)
				if err != nil {
					s.t.Fatalf("connect by %s: %v", m.name, err)
				}
				all = append(all, c)
				for i := range 5 { // so many packets that the director tells of it
					s.must(c.Echo(fmt.Sprint(i)))
				}
			}
		}
		s.eventually(settleLimit, func() error {
			if text := s.ipvsadm(other, "-Lnc"); strings.Count(text, "ESTABLISHED") < len(all) {
				return fmt.Errorf("%s does not know of %d connections:\n%s", other.Name, len(all), text)
			}
			return nil
		})
		s.must(w.lose(s, owner, other))
		owner, other = s.owned(owner, startLimit)
		for i, c := range all {
			if err := c.Echo("after " + w.name); err != nil {
				s.t.Errorf("connection %d to %s is broken after %s: %v", i, c.Server, w.name, err)
			}
			outlived++
		}
		if !other.Running() {
			s.must(s.Start(other))
		}
		s.daemons(other, ipvs.Backup)
	}
	s.t.Logf("%d times a connection outlived the director that it went through", outlived)
	return owner, other
}

// flap lets the checks of one server fail and succeed again for all directors, and those of another one for one director.
func (s *stage) flap(ctx context.Context, wait *sync.WaitGroup, r *recorder, random *rand.Rand) {
	often := rand.New(rand.NewPCG(random.Uint64(), 1))
	pause := func() {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(800+often.IntN(1700)) * time.Millisecond):
		}
	}
	deaf := s.Directors()[1]
	wait.Go(func() {
		server := s.servers[2]
		address := netip.MustParseAddr(third)
		var dropped *lab.Fault
		for up := true; ctx.Err() == nil; pause() {
			if up = !up; up {
				r.turned(address, true, s.Directors()...)
				s.try(server.Open(checked))
			} else {
				r.turned(address, false, s.Directors()...)
				server.Close(checked)
			}
			if often.IntN(2) == 0 {
				continue
			}
			if dropped == nil {
				var err error
				r.turned(netip.MustParseAddr(fourth), false, deaf)
				dropped, err = s.Lab.DropPort(6, checked, deaf.Host, s.servers[3].Host)
				s.try(err)
			} else {
				r.turned(netip.MustParseAddr(fourth), true, deaf)
				s.try(dropped.Heal())
				dropped = nil
			}
		}
	})
}

// try is must for other goroutines than the test's.
func (s *stage) try(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

// connect has clients connect by every method all the time. The function that it returns says how that went, at the end.
func (s *stage) connect(ctx context.Context, wait *sync.WaitGroup, r *recorder) (outcome func() string) {
	counts := make([]struct{ served, failed int }, len(methods))
	for i, m := range methods {
		wait.Go(func() {
			for port := uint16(firstPort); ctx.Err() == nil; port++ {
				r.calls(netip.AddrPortFrom(m.client, port))
				c, err := backend.Connect(s.clients[m.client], int(port), netip.AddrPortFrom(vip, uint16(m.port)), dialLimit)
				if err == nil {
					counts[i].served++
					c.Close()
				} else {
					counts[i].failed++
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	return func() string {
		var parts []string
		for i, m := range methods {
			parts = append(parts, fmt.Sprintf("%s %d served, %d in vain", m.name, counts[i].served, counts[i].failed))
		}
		return strings.Join(parts, "; ")
	}
}

// noneTooLate asserts that no connection goes to a server that was known to be down for longer than an interval of its checks.
func (s *stage) noneTooLate(r *recorder) {
	s.t.Helper()
	longest, came := time.Duration(0), 0
	for i, b := range s.servers {
		address := netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", 121+i))
		for _, a := range b.Accepted() {
			began, known := r.called[a.From]
			if a.Port == checked || !known {
				continue
			}
			came++
			e := entry{a.Port, address}
			span := r.knownDown(e, began)
			longest = max(longest, span)
			if span > pace {
				s.t.Errorf("%s a connection of %s begins, which comes to %s at %s, %s after that was known to be down:\n%s", clock(began),
					a.From, e, clock(a.At), span, r.story(e, began.Add(-span-pace), a.At.Add(2*tellSpan)))
			}
		}
	}
	if came == 0 {
		s.t.Error("no connection came to any server: nothing was tried")
	}
	s.t.Logf("%d connections came to servers, the latest one of them began %s after the server was known to be down", came, longest)
}

// asked moves the group by way of the control socket of its owner, as hactl move does, and asks again after a pause while it is refused.
func (s *stage) asked(owner, other *site.Node, pause time.Duration) error {
	client := control.NewClient(owner.Socket())
	defer client.Close()
	for end := time.Now().Add(settleLimit); ; time.Sleep(pause) {
		_, err := client.Move(s.ctx, api.MoveRequest{Groups: []string{s.Group()}, To: other.Name})
		var refused *api.Problem
		if err == nil || !errors.As(err, &refused) || refused.Kind != api.Refused || time.Now().After(end) {
			return err
		}
	}
}
