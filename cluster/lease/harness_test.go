package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// D is the lease duration in these tests.
const D = time.Second

// start is a reading that lies well after every abstention.
const start clock.Time = 1_000_000_000_000

// world is three members a, b, w with one log, no delay, and one clock that the test moves.
type world struct {
	t     *testing.T
	now   clock.Time
	nodes map[Member]*Node
	log   *fsm.State
	index uint64

	lost    func(from, to Member, m Message) bool // drops messages
	holdLog bool                                  // proposals are kept in held instead of being committed
	held    []func()
	seen    map[Member][]Action // what is not the world's own business
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	w := &world{t: t, now: start, nodes: map[Member]*Node{}, log: fsm.New(), seen: map[Member][]Action{},
		lost: func(Member, Member, Message) bool { return false }}
	for i, m := range []Member{"a/1", "b/1", "w/1"} {
		w.boot(m, Life(i+1), 0, change...)
	}
	w.lead("a/1")
	for _, m := range sorted(w.nodes) {
		w.nodes[m].Step(w.now, CeilingRaised{Promise: promiseSpan(D, 0)})
	}
	w.pass(3 * D) // everybody has met
	clear(w.seen)
	return w
}

// boot starts a life of a member. ceiling is what its last life may have promised.
func (w *world) boot(m Member, life Life, ceiling time.Duration, change ...func(*Config)) {
	cfg := Config{Self: m, Life: life, Duration: D, Ceiling: ceiling}
	for _, f := range change {
		f(&cfg)
	}
	w.nodes[m] = NewNode(w.now, cfg, w.log)
	voters := Configuration{Index: 1, Voters: []Member{"a/1", "b/1", "w/1"}}
	w.run(m, w.nodes[m].Step(w.now, Configured{Committed: voters, Latest: voters}))
	w.run(m, w.nodes[m].Step(w.now, Stands{Member: "a/1", Groups: map[string]Standing{"G": {Eligible: true, Priority: 100}}}))
	w.run(m, w.nodes[m].Step(w.now, Stands{Member: "b/1", Groups: map[string]Standing{"G": {Eligible: true, Priority: 50}}}))
}

func (w *world) lead(m Member) {
	for _, n := range sorted(w.nodes) {
		w.run(n, w.nodes[n].Step(w.now, Leads{Member: m, Term: uint64(w.now)}))
	}
}

// run carries actions out, with all that follows from them.
func (w *world) run(m Member, actions []Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case Send:
			if n := w.nodes[a.To]; n != nil && !w.lost(m, a.To, a.Message) {
				decoded, err := Decode(a.Message.Encode())
				if err != nil {
					w.t.Fatal(err)
				}
				w.run(a.To, n.Step(w.now, Received{From: m, Message: decoded}))
			}
		case Propose:
			n := w.nodes[m]
			commit := func() {
				w.index++
				result, err := w.log.Apply(w.index, a.Command)
				if err != nil {
					w.t.Fatal(err)
				}
				w.run(m, n.Step(w.now, Outcome{Tag: a.Tag, Result: result}))
				for _, other := range sorted(w.nodes) {
					w.run(other, w.nodes[other].Step(w.now, Applied{}))
				}
			}
			if w.holdLog {
				w.held = append(w.held, commit)
			} else {
				commit()
			}
		case RaiseCeiling:
			w.run(m, w.nodes[m].Step(w.now, CeilingRaised(a)))
		default:
			w.seen[m] = append(w.seen[m], a)
		}
	}
}

func (w *world) commitHeld() {
	held := w.held
	w.held, w.holdLog = nil, false
	for _, f := range held {
		f()
	}
}

// pass lets time pass, each node being woken at its deadlines.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 100_000 {
			w.t.Fatal("the nodes never rest")
		}
		next, who := end, Member("")
		for _, m := range sorted(w.nodes) {
			if at := w.nodes[m].Deadline(); !at.IsZero() && at < next {
				next, who = at, m
			}
		}
		w.now = max(w.now, next)
		if who == "" {
			return
		}
		w.run(who, w.nodes[who].Tick(w.now))
	}
}

func (w *world) claim(m Member, kind ClaimKind) {
	w.run(m, w.nodes[m].Claim(w.now, "G", kind, "test"))
}

func (w *world) holds(m Member) bool {
	_, held := w.nodes[m].Held(w.now, "G")
	return held
}

func (w *world) mustHold(m Member, want bool) {
	w.t.Helper()
	if got := w.holds(m); got != want {
		w.t.Fatalf("%s holds the lease: %v, want %v (log: %+v)", m, got, want, w.log.Groups())
	}
}

// send gives a message straight to a node and returns its answer to the sender.
func (w *world) send(from, to Member, m Message) Message {
	w.t.Helper()
	var answer *Message
	for _, a := range w.nodes[to].Step(w.now, Received{From: from, Message: m}) {
		if s, ok := a.(Send); ok && s.To == from && (s.Message.RenewReply != nil || s.Message.ClearReply != nil) {
			answer = &s.Message
		}
		if r, ok := a.(RaiseCeiling); ok {
			w.nodes[to].Step(w.now, CeilingRaised(r))
		}
	}
	if answer == nil {
		w.t.Fatalf("%s does not answer %+v", to, m)
	}
	return *answer
}

var rounds uint64 = 1 << 32

// renew asks a voter directly to promise G to a member and returns the refusal.
func (w *world) renew(from, to Member, epoch Epoch, change ...func(*Message)) Refusal {
	w.t.Helper()
	rounds++
	m := Message{FromLife: 77, ToLife: w.nodes[to].cfg.Life, Renew: &Renew{Round: rounds, Configuration: 1,
		Promise: promiseSpan(D, 0), Groups: []RenewGroup{{Group: "G", Epoch: epoch}}}}
	for _, f := range change {
		f(&m)
	}
	r := w.send(from, to, m).RenewReply
	if r.Refused != "" {
		return r.Refused
	}
	return r.Groups[0].Refused
}

func first(m *Message) { m.Renew.Groups[0].First = true }

// clear asks a voter directly to clear G for a member and returns the refusal.
func (w *world) clear(from, to Member, epoch Epoch, change ...func(*Message)) Refusal {
	w.t.Helper()
	m := Message{FromLife: 77, Clear: &Clear{Group: "G", Epoch: epoch, Member: from, Round: 1, Configuration: 1,
		Promise: promiseSpan(D, 0)}}
	for _, f := range change {
		f(&m)
	}
	return w.send(from, to, m).ClearReply.Refused
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, fmt.Sprintf("%v", got), want)
	}
}
