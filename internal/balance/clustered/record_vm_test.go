//go:build integ

package clustered

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

// All run on one machine with one clock, so that what they did can be put in order.

// entry is a real server in a service of the VIP.
type entry struct {
	port   int
	server netip.Addr
}

func (e entry) String() string { return fmt.Sprintf("%s:%d", e.server, e.port) }

// absent stands for the weight of a server that is not in the kernel's table.
const absent = -1

// expectation is what the weights of a server may be.
type expectation struct {
	up, down int
	steady   bool // it is up throughout
}

// turns are the moments at which something went down or up. Before the first one it was up.
type turns struct {
	mu  sync.Mutex
	all map[entry][]turn
}

type turn struct {
	at, known time.Time // known: to everybody, at the latest
	up        bool
}

func newTurns() *turns { return &turns{all: map[entry][]turn{}} }

func (t *turns) add(e entry, n turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[e] = append(t.all[e], n)
}

// states are those between two moments: at the first one, and what came from then on.
func (t *turns) states(e entry, from, to time.Time) (up, down bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := true
	for _, n := range t.all[e] {
		switch {
		case !n.at.After(from):
			state = n.up
		case !n.at.After(to):
			up, down = up || n.up, down || !n.up
		}
	}
	return up || state, down || !state
}

// sample is what a director's kernel had at a moment.
type sample struct {
	from, to time.Time // while it was read
	node     *site.Node
	takeover int  // counted from 1, if it is of the moment of one
	owner    bool // the director had the virtual IP
	fresh    bool // the program has started a short while ago, on what one that was killed had left behind
	weights  map[entry]int
}

// program is what runs on a director.
type program struct {
	running bool
	heir    bool // of one that was killed
	since   time.Time
}

// loss is the moment at which a director ceases to own: its program ends, or the other one takes over.
type loss struct {
	at   time.Time
	node *site.Node
}

// wrongWeight is a weight that was wrong at a moment.
type wrongWeight struct {
	entry
	at time.Time
}

// recorder keeps what happens.
type recorder struct {
	s       *stage
	servers map[entry]expectation

	committed *turns                // what the log says of servers
	truth     map[*site.Node]*turns // what checks of a director would find

	called map[netip.AddrPort]time.Time // when clients began to connect; for reading once all has ended

	mu        sync.Mutex
	programs  map[*site.Node]program
	losses    []loss
	notes     []note
	samples   []sample
	takeovers chan *site.Node
	count     int
}

// record begins to keep what happens, until the context ends and the function that it returns is called.
func (s *stage) record(ctx context.Context, servers map[entry]expectation) (r *recorder, wait func()) {
	s.t.Helper()
	r = &recorder{s: s, servers: servers, committed: newTurns(), truth: map[*site.Node]*turns{},
		programs: map[*site.Node]program{}, takeovers: make(chan *site.Node, 100), called: map[netip.AddrPort]time.Time{}}
	var all sync.WaitGroup
	client := control.NewClient(s.Witness().Socket())
	all.Go(func() {
		defer client.Close()
		err := client.Follow(ctx, 0, func(page api.EventPage) error {
			for _, e := range page.Events {
				r.event(e)
			}
			return nil
		})
		if ctx.Err() == nil {
			s.t.Errorf("the witness tells no more events: %v", err)
		}
	})
	for _, n := range s.Directors() {
		r.truth[n], r.programs[n] = newTurns(), program{running: true}
		news, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
		s.must(netlink.AddrSubscribeAt(netns.NsHandle(n.Host.Namespace()), news, done))
		atTakeover, now := s.kernel(n), s.kernel(n)
		all.Go(func() {
			defer close(done)
			held := s.holds(n)
			for {
				select {
				case <-ctx.Done():
					return
				case a := <-news:
					if !a.LinkAddress.IP.Equal(vip.AsSlice()) {
						continue
					}
					if a.NewAddr && !held && r.program(n).running {
						r.look(n, atTakeover, true)
						for _, o := range s.Directors() {
							if o != n {
								r.loses(o)
							}
						}
						r.takeovers <- n
					}
					held = a.NewAddr
				}
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				if r.program(n).running {
					r.look(n, now, false)
				}
				time.Sleep(sampling)
			}
		})
	}
	return r, all.Wait
}

// ends and starts say what becomes of a director's program.
func (r *recorder) ends(n *site.Node) {
	r.set(n, program{})
	r.loses(n)
}

func (r *recorder) loses(n *site.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.losses = append(r.losses, loss{time.Now(), n})
}

// calls says that a client begins to connect.
func (r *recorder) calls(client netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.called[client] = time.Now()
}

func (r *recorder) starts(n *site.Node, heir bool) {
	r.set(n, program{running: true, heir: heir, since: time.Now()})
	r.note("%s has started again", n.Name)
}

func (r *recorder) set(n *site.Node, p program) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.programs[n] = p
}

func (r *recorder) program(n *site.Node) program {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.programs[n]
}

// look takes a sample.
func (r *recorder) look(n *site.Node, kernel *ipvs.Conn, takeover bool) {
	a := sample{from: time.Now(), node: n, weights: map[entry]int{}}
	table, err := kernel.Read()
	if err != nil {
		r.s.t.Errorf("the table of %s cannot be read: %v", n.Name, err)
		return
	}
	has, err := n.Host.HasAddr(vip)
	if err != nil {
		r.s.t.Errorf("the addresses of %s cannot be read: %v", n.Name, err)
	}
	a.owner, a.to = has, time.Now()
	p := r.program(n)
	if !p.running {
		return // it has ended meanwhile
	}
	a.fresh = p.heir && a.to.Sub(p.since) < freshSpan
	for e := range r.servers {
		a.weights[e] = weightIn(table, e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if takeover {
		r.count++
		a.takeover = r.count
	}
	r.samples = append(r.samples, a)
}

func weightIn(t lvs.Table, e entry) int {
	for server, d := range t[serviceKey(e.port)].Destinations {
		if server.Addr() == e.server {
			return int(d.Weight)
		}
	}
	return absent
}

// event takes in what the log says of servers: "real servers down: ADDRESS of SERVICE, ...; up: ...".
func (r *recorder) event(e api.Event) {
	if e.Kind != api.EventVerdicts {
		return
	}
	for list := range strings.SplitSeq(strings.TrimPrefix(e.Text, "real servers "), "; ") {
		word, names, _ := strings.Cut(list, ": ")
		for name := range strings.SplitSeq(names, ", ") {
			at, _, _ := strings.Cut(name, " of ")
			server, err := netip.ParseAddrPort(at)
			if err != nil || word != "up" && word != "down" {
				r.s.t.Errorf("an event that this test cannot read: %q", e.Text)
				continue
			}
			r.committed.add(entry{int(server.Port()), server.Addr()}, turn{at: e.Time.Time, known: time.Now(), up: word == "up"})
		}
	}
}

// turned says that the checks of directors find a server down, or up, from now on.
func (r *recorder) turned(server netip.Addr, up bool, directors ...*site.Node) {
	for e := range r.servers {
		if e.server == server {
			for _, n := range directors {
				r.truth[n].add(e, turn{at: time.Now(), up: up})
			}
		}
	}
}

const (
	// commitSpan is how long the kernel of a director may lag behind the log.
	commitSpan = 100 * time.Millisecond
	// tellSpan is how soon what the owner's checks have found, and what its table follows at once, is in the log.
	tellSpan = 250 * time.Millisecond
	// sampling is the time between two samples.
	sampling = 40 * time.Millisecond
	// freshSpan is how long a director may go by the table that one which was killed has left behind, unless it owns.
	freshSpan = 3 * time.Second
)

// judge says, once all has ended, of every sample whether a weight in it is wrong. No server has ever another weight than its own or that of one that
// is down. One that was up throughout has its own wherever it is, and it is on the owner. Of the others the log decides, and on the
// owner, but not at the moment of its takeover, what its own checks find.
func (r *recorder) judge(t *testing.T) {
	wrong, owners, sharp := 0, 0, 0
	var wrongs []wrongWeight
	for _, a := range r.samples {
		what := "standby"
		if a.owner {
			what = "owner"
			owners++
		}
		if a.takeover > 0 {
			what = fmt.Sprintf("takeover %d", a.takeover)
		}
		for e, may := range r.servers {
			w := a.weights[e]
			up, down := true, false
			if !may.steady {
				up, down = r.committed.states(e, a.from.Add(-commitSpan), a.to.Add(tellSpan))
				if a.owner && a.takeover == 0 {
					u, d := r.truth[a.node].states(e, a.from.Add(-2*interval), a.to)
					up, down = up || u, down || d
				}
			}
			if a.takeover > 0 && up != down {
				sharp++
			}
			right := w == may.up && up || w == may.down && down
			switch {
			case a.owner:
			case w == absent: // a director that has just started has no table, and one that ends has none any more
				right = true
			case a.fresh:
				right = w == may.up || w == may.down
			}
			if right {
				continue
			}
			if wrong++; wrong <= 20 {
				t.Errorf("%s %s, %s: %s has weight %d; its own is %d; the cluster says up: %t, down: %t", clock(a.to), a.node.Name, what, e, w,
					may.up, up, down)
				wrongs = append(wrongs, wrongWeight{e, a.to})
			}
		}
	}
	for _, w := range wrongs[:min(3, len(wrongs))] {
		t.Logf("what happened around %s at %s:\n%s", w.entry, clock(w.at), r.story(w.entry, w.at.Add(-3*time.Second), w.at.Add(time.Second)))
	}
	t.Logf("%d samples of kernels' tables, %d of an owner's; at %d takeovers %d weights were looked at that could only be one; "+
		"%d weights were wrong", len(r.samples), owners, r.count, sharp, wrong)
}

// knownDown tells how long everybody had known that a server was down when a connection began; zero: it may have been up, also if only
// the owner knew of that, whose finding was on its way to the log, or never got there because it ceased to own.
func (r *recorder) knownDown(e entry, at time.Time) time.Duration {
	for _, l := range r.losses {
		if up, _ := r.truth[l.node].states(e, at.Add(-tellSpan), at); up && !l.at.Before(at) && l.at.Before(at.Add(tellSpan)) {
			return 0
		}
	}
	r.committed.mu.Lock()
	defer r.committed.mu.Unlock()
	all := r.committed.all[e]
	for i, n := range all {
		over := i+1 < len(all) && all[i+1].at.Before(at.Add(tellSpan))
		if !n.up && !over && n.known.Before(at) {
			return at.Sub(n.known)
		}
	}
	return 0
}

// flaps tells how often servers went down and came up, by the log.
func (r *recorder) flaps() string {
	r.committed.mu.Lock()
	defer r.committed.mu.Unlock()
	var parts []string
	for _, e := range slices.SortedFunc(maps.Keys(r.committed.all), func(a, b entry) int { return strings.Compare(a.String(), b.String()) }) {
		parts = append(parts, fmt.Sprintf("%s %d", e, len(r.committed.all[e])))
	}
	return strings.Join(parts, ", ")
}
