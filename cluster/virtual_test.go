package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

var (
	virtualSeeds = flag.Int("virtual.seeds", 2, "how many seeds of faults the real log of a cluster goes through in virtual time")
	virtualSpan  = flag.Duration("virtual.span", time.Minute, "of faults per seed, in virtual time")
	virtualSeed  = flag.Uint64("virtual.seed", 0, "run this seed alone")
)

// Three whole members (raft, its files, mutual TLS, gossip) on a network in memory, in virtual time, go through random faults:
// cuts of one direction or all, slow paths, ends and deaths of processes and machines, slow and hanging disks, lost data. A term has one
// leader at most, an index one command, a state one hash, and what was acknowledged is never lost. Afterwards the cluster is
// whole again.
//
// A seed draws the faults; the order of goroutines is not the seed's, so that a failure is a matter of frequency: run the seed again and again.
func TestTheRealLogInVirtualTime(t *testing.T) {
	span := *virtualSpan
	seeds := make([]uint64, *virtualSeeds)
	if testing.Short() {
		seeds, span = seeds[:1], 20*time.Second
	}
	for i := range seeds {
		seeds[i] = uint64(i) + 1
	}
	if *virtualSeed != 0 {
		seeds = []uint64{*virtualSeed}
	}
	var sum virtualFigures
	began := time.Now()
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVirtual(t, seed)
				v.run(span)
				sum.add(v.figures)
			})
		})
	}
	t.Logf("%d seeds, %s of virtual time in %s: %+v", len(seeds), sum.Span.Round(time.Second), time.Since(began).Round(time.Second), sum)
	if sum.Faults == 0 || sum.Acknowledged == 0 || sum.Leaders < len(seeds) || sum.Compared == 0 {
		t.Errorf("too little happened for this to prove anything: %+v", sum)
	}
}

// A member that was away for long has all that was committed meanwhile soon after it is back, by the log or by a snapshot.
func TestWhoComesBackIsNotKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, 1)
		v.boot(v.names...)
		v.whole(time.Minute)
		for round := range 8 {
			leader := v.leader(time.Minute, v.names...)
			away := v.names[(slices.Index(v.names, leader.name)+1)%3]
			v.nodes[away].kill()
			leader.submit(t, time.Minute, "meanwhile")
			if round%2 == 1 {
				short := leader.host().raft.ReloadableConfig()
				short.TrailingLogs = 1
				must(t, leader.host().raft.ReloadConfig(short))
				must(t, leader.host().raft.Snapshot().Error())
			}
			time.Sleep(v.draw(20*time.Second, time.Minute))
			leader.submit(t, time.Minute, "the last one")
			began := time.Now()
			v.boot(away)
			v.eventually(time.Minute, "it has everything", func() error {
				if got, want := len(v.nodes[away].notes()), 2*(round+1); got != want {
					return fmt.Errorf("it has %d notes, want %d", got, want)
				}
				return nil
			})
			if took := time.Since(began); took > v.lease {
				t.Errorf("round %d: it takes %s, want at most %s", round, took, v.lease)
			}
			v.whole(time.Minute)
		}
		v.end()
	})
}

// When the leader is cut off the others notice that at moments of their own, and ask each other for votes. They do not split them: all of
// the elections take about as long as it takes to notice.
func TestElectionsAreNotSplit(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, 2)
		v.boot(v.names...)
		v.whole(time.Minute)
		for _, d := range v.disks {
			d.setSlow(4 * time.Millisecond)
		}
		cut := func(name string, is bool) {
			for _, other := range v.names {
				v.air.set(v.peer(name).Address, v.peer(other).Address, is)
				v.air.set(v.peer(other).Address, v.peer(name).Address, is)
			}
		}
		limit := v.nodes["lb1"].timing.Heartbeat * 5 / 4
		for round := range rounds {
			v.eventually(time.Minute, "a director leads", func() error {
				if v.leader(time.Minute, v.names...).name == "w1" {
					return errors.New("the witness does")
				}
				return nil
			})
			leader := v.leader(time.Minute, "lb1", "lb2").name
			time.Sleep(v.draw(5*time.Second, 9*time.Second))
			cut(leader, true)
			began := time.Now()
			v.leader(time.Minute, slices.DeleteFunc(slices.Clone(v.names), func(name string) bool { return name == leader })...)
			if took := time.Since(began); took > limit {
				t.Errorf("round %d: it takes %s, want at most %s", round, took, limit)
			}
			cut(leader, false)
			v.whole(time.Minute)
		}
		v.end()
	})
}

type virtualFigures struct {
	Span                                                                 time.Duration
	Faults, Leaders, Submitted, Acknowledged, Compared, Restarts, Losses int
}

func (f *virtualFigures) add(g virtualFigures) {
	f.Span += g.Span
	f.Faults += g.Faults
	f.Leaders += g.Leaders
	f.Submitted += g.Submitted
	f.Acknowledged += g.Acknowledged
	f.Compared += g.Compared
	f.Restarts += g.Restarts
	f.Losses += g.Losses
}

// virtual is one run.
type virtual struct {
	*world
	air    *air
	random *rand.Rand // of the faults
	names  []string

	mu       sync.Mutex      // of what follows; nobody sleeps with it: time in a bubble stands still while somebody waits for a mutex
	busy     map[string]bool // nodes whose process is in the hands of a fault
	all      []*node         // of all lives
	acked    []string        // ids of acknowledged commands
	hashes   map[uint64]uint64
	figures  virtualFigures
	troubles []string
}

func newVirtual(t *testing.T, seed uint64) *virtual {
	random := rand.New(rand.NewPCG(seed, 1))
	v := &virtual{world: newWorld(t, []time.Duration{300, 1000, 2500}[seed%3]*time.Millisecond), air: newAir(rand.New(rand.NewPCG(seed, 2))),
		random: random, names: []string{"lb1", "lb2", "w1"}, busy: map[string]bool{}, hashes: map[uint64]uint64{}}
	// What is written here need not outlive the machine, and virtual time stands still while a real disk works.
	if root, err := os.MkdirTemp("/dev/shm", "had-virtual-*"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(root) })
		for name := range v.dirs {
			v.dirs[name] = filepath.Join(root, name)
		}
	}
	began := time.Now()
	v.tweak = func(cfg *Config) {
		cfg.seams.network = v.air
		cfg.seams.gossip.open = v.air.gossip
		cfg.Clock = func() clock.Time { return clock.Time(time.Since(began) + time.Hour) }
	}
	dumpOnFailure(t, v.world)
	return v
}

func (v *virtual) run(span time.Duration) {
	began := time.Now()
	v.boot(v.names...)
	v.whole(time.Minute)
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	var work sync.WaitGroup
	for range 3 {
		r := rand.New(rand.NewPCG(v.random.Uint64(), 3))
		work.Go(func() { v.submitter(ctx, r) })
	}
	work.Go(func() { v.sampler(ctx) })
	for v.pause(ctx, 100*time.Millisecond, 3*time.Second) {
		if fault := v.fault(); fault != nil {
			work.Go(func() { fault(ctx) })
		}
	}
	work.Wait()
	v.whole(time.Minute)
	v.nodes["w1"].submit(v.t, 20*time.Second, "the last one")
	v.eventually(20*time.Second, "all have applied the same", func() error {
		var index, hash []uint64
		for _, name := range v.names {
			v.nodes[name].Read(func(s *fsm.State) { index, hash = append(index, s.Applied()), append(hash, s.Hash()) })
		}
		if len(slices.Compact(index)) > 1 {
			return fmt.Errorf("applied up to %v", index)
		}
		if len(slices.Compact(hash)) > 1 {
			v.t.Fatalf("applied up to %v, and the hashes are %x", index, hash)
		}
		return nil
	})
	v.figures.Span = time.Since(began)
	v.end()
	v.check()
	for _, trouble := range v.troubles {
		v.t.Error(trouble)
	}
}

// end kills all members, and waits until what the libraries still wait for has ended by itself.
func (v *virtual) end() {
	for _, n := range v.nodes {
		n.kill()
	}
	time.Sleep(time.Minute)
}

// boot starts members and keeps them for the check at the end.
func (v *virtual) boot(names ...string) {
	for _, name := range names {
		n := v.start(name)
		v.mu.Lock()
		v.all = append(v.all, n)
		v.mu.Unlock()
	}
}

func (v *virtual) node(name string) *node {
	v.world.mu.Lock()
	defer v.world.mu.Unlock()
	return v.nodes[name]
}

// draw is a duration between two; the caller's goroutine alone uses the source of the faults.
func (v *virtual) draw(from, to time.Duration) time.Duration {
	return from + time.Duration(v.random.Int64N(int64(to-from)))
}

func (v *virtual) pause(ctx context.Context, from, to time.Duration) bool {
	return sleep(ctx, v.draw(from, to))
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// isolate cuts a member from all others, in both directions.
func (v *virtual) isolate(name string, cut bool) {
	self := v.peer(name).Address
	for _, p := range v.peers {
		if p.Name != name {
			v.air.set(self, p.Address, cut)
			v.air.set(p.Address, self, cut)
		}
	}
}

// fault draws a fault. What it returns plays it, heals it, and returns early when ctx ends; nil: not now.
func (v *virtual) fault() func(context.Context) {
	name := v.names[v.random.IntN(3)]
	other := v.names[v.random.IntN(3)]
	self, peer := v.peer(name).Address, v.peer(other).Address
	lasts := v.draw(50*time.Millisecond, 8*time.Second)
	v.figures.Faults++
	switch v.random.IntN(9) {
	case 0, 1:
		return func(ctx context.Context) {
			v.isolate(name, true)
			sleep(ctx, lasts)
			v.isolate(name, false)
		}
	case 2:
		return func(ctx context.Context) {
			v.air.set(self, peer, true)
			sleep(ctx, lasts)
			v.air.set(self, peer, false)
		}
	case 3:
		slow := v.draw(2*time.Millisecond, v.lease)
		return func(ctx context.Context) {
			v.air.slow(slow)
			sleep(ctx, lasts)
			v.air.slow(time.Millisecond)
		}
	case 4:
		slow := v.draw(time.Millisecond, v.lease/2)
		return func(ctx context.Context) {
			d := v.disks[name]
			d.setSlow(slow)
			sleep(ctx, lasts)
			d.setSlow(0)
		}
	case 5:
		return func(ctx context.Context) {
			thaw := v.disks[name].freeze()
			sleep(ctx, lasts)
			thaw()
		}
	default:
		kind := v.random.IntN(5)
		if !v.take(name) {
			v.figures.Faults--
			return nil
		}
		return func(ctx context.Context) {
			defer v.release(name)
			n := v.node(name)
			lost := false
			switch kind {
			case 0: // the machine dies: nobody hears of it
				v.isolate(name, true)
				n.kill()
				v.isolate(name, false)
			case 1: // as when it is stopped on purpose
				leaving, cancel := context.WithTimeout(ctx, time.Second)
				_ = n.Leave(leaving)
				cancel()
				n.kill()
			case 2: // once in a run: the majority that takes a new member in has to have all of the log
				lost = v.loseOnce()
				n.kill()
				if lost {
					must(v.t, os.RemoveAll(v.dirs[name]))
				}
			default:
				n.kill()
			}
			sleep(ctx, lasts)
			v.mu.Lock()
			v.figures.Restarts++
			v.mu.Unlock()
			v.boot(name)
			for lost && !v.votes(name) {
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
}

// loseOnce tells whether a member may lose its data: for the first time, and while all members vote.
func (v *virtual) loseOnce() bool {
	for _, name := range v.names {
		if !v.votes(name) {
			return false
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.figures.Losses > 0 {
		return false
	}
	v.figures.Losses++
	return true
}

// votes tells whether a node's present member is one of the voters, as itself knows.
func (v *virtual) votes(name string) bool {
	n := v.node(name)
	return slices.Contains(n.Status().Voters.Committed.Members, n.Self())
}

// take says that a fault has a node's process to itself. One at a time is down, so that a majority stands as far as processes go.
func (v *virtual) take(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.busy) > 0 {
		return false
	}
	v.busy[name] = true
	return true
}

func (v *virtual) release(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.busy, name)
}

// submitter submits commands through random members.
func (v *virtual) submitter(ctx context.Context, r *rand.Rand) {
	for sleep(ctx, time.Duration(r.Int64N(int64(200*time.Millisecond)))) {
		cmd := noteCommand("virtual")
		n := v.node(v.names[r.IntN(3)])
		limited, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := n.Submit(limited, cmd)
		cancel()
		v.mu.Lock()
		v.figures.Submitted++
		if err == nil {
			v.figures.Acknowledged++
			v.acked = append(v.acked, cmd.ID)
		}
		v.mu.Unlock()
	}
}

// sampler compares the states of all members, index by index.
func (v *virtual) sampler(ctx context.Context) {
	for sleep(ctx, 50*time.Millisecond) {
		for _, name := range v.names {
			var index, hash uint64
			v.node(name).Read(func(s *fsm.State) { index, hash = s.Applied(), s.Hash() })
			v.mu.Lock()
			if old, known := v.hashes[index]; known && old != hash {
				v.troubles = append(v.troubles, fmt.Sprintf("%s: the state at index %d has hash %x, and had %x elsewhere", name, index, hash, old))
			} else if known {
				v.figures.Compared++
			}
			v.hashes[index] = hash
			v.mu.Unlock()
		}
	}
}

// check looks at everything that the members have reported.
func (v *virtual) check() {
	leaders := map[uint64]MemberID{}
	commands := map[uint64]string{}
	applied := map[string]bool{}
	for _, n := range v.all {
		n.mu.Lock()
		for _, e := range n.events {
			switch e := e.(type) {
			case Leadership:
				if old, known := leaders[e.Term]; e.Self && known && old != n.Self() {
					v.troubles = append(v.troubles, fmt.Sprintf("term %d has two leaders: %s and %s", e.Term, old, n.Self()))
				}
				if e.Self {
					leaders[e.Term] = n.Self()
				}
			case Applied:
				if e.Restored {
					continue
				}
				b, err := json.Marshal(e.Cmd)
				must(v.t, err)
				if old, known := commands[e.Index]; known && old != string(b) {
					v.troubles = append(v.troubles, fmt.Sprintf("index %d has two commands: %s and %s", e.Index, old, b))
				}
				commands[e.Index] = string(b)
				applied[e.Cmd.ID] = true
			}
		}
		n.mu.Unlock()
	}
	for _, id := range v.acked {
		if !applied[id] {
			v.troubles = append(v.troubles, "command "+id+" was acknowledged and is lost")
		}
	}
	v.figures.Leaders = len(leaders)
}

// What the check is there to find, it finds.
func TestTheCheckOfTheRealLogFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	note := func(id string) fsm.Command { return fsm.Command{ID: id, Note: &fsm.Note{Kind: "test", Text: id}} }
	a, b := &node{Cluster: &Cluster{self: "lb1/1"}}, &node{Cluster: &Cluster{self: "lb2/1"}}
	a.events = []Event{Leadership{Self: true, Term: 2}, Applied{Index: 4, Cmd: note("a")}, Applied{Index: 5, Cmd: note("b")}}
	for _, c := range []struct {
		what   string
		events []Event
		acked  string
		want   string
	}{
		{"nothing", []Event{Leadership{Self: true, Term: 3}, Applied{Index: 4, Cmd: note("a")}}, "b", ""},
		{"two leaders", []Event{Leadership{Self: true, Term: 2}}, "a", "term 2 has two leaders: lb1/1 and lb2/1"},
		{"two commands", []Event{Applied{Index: 5, Cmd: note("c")}}, "a", "index 5 has two commands"},
		{"a lost command", nil, "c", "command c was acknowledged and is lost"},
	} {
		b.events = c.events
		v := &virtual{world: &world{t: t}, all: []*node{a, b}, acked: []string{c.acked}}
		v.check()
		if got := strings.Join(v.troubles, "\n"); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: found %q, want %q", c.what, got, c.want)
		}
	}
}
