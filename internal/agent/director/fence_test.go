package director

import (
	"slices"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
)

// fencer is a bench whose machine claims x, which b holds.
type fencer struct {
	*bench
	silent map[lease.Member]bool // who sends nothing
	off    string                // why the device cannot switch anything off
	asked  int                   // how often it was asked
	done   []FenceDone           // outcomes that wait, if late
	late   bool
}

func newFencer(t *testing.T, f Fencing) *fencer {
	b := &bench{t: t, now: 1_000_000_000_000, log: fsm.New(), noGrants: true}
	x := &fencer{bench: b, silent: map[lease.Member]bool{}}
	b.m = New(b.now, Config{Node: self.Node(), Fencing: f, Lease: &lease.Config{Self: self, Life: myLife, Duration: D, Silence: Silence(D)},
		Groups: []Group{{Name: "x", Instances: newBench(t, true, "x").m.cfg.Groups[0].Instances}}}, b.log)
	x.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: standby, Epoch: 1, Life: uint64(others)}})
	x.step(lease.Configured{Committed: voters, Latest: voters})
	x.step(lease.Leads{Member: leader, Term: 1})
	x.step(Start{})
	x.pass(6 * time.Second)
	return x
}

// step carries out what has to do with fencing, and drops what the silent ones would have answered.
func (x *fencer) step(ev Event) {
	for events := []Event{ev}; len(events) > 0; events = events[1:] {
		for _, a := range x.m.Step(x.now, events[0]) {
			x.trace = append(x.trace, a)
			switch a := a.(type) {
			case lease.Send:
				if !x.silent[a.To] {
					events = append(events, x.answer(a)...)
				}
			case Submit:
				x.index++
				c := a.Command
				if _, err := x.log.Apply(x.index, c); err != nil {
					x.t.Fatal(err)
				}
				events = append(events, lease.Applied{Index: x.index})
			case SwitchOff:
				x.asked++
				done := FenceDone{Node: a.Node, Request: a.Request, Method: "test", Failed: x.off}
				if x.late {
					x.done = append(x.done, done)
				} else {
					events = append(events, done)
				}
			case SwitchOn:
				events = append(events, SwitchedOn{Node: a.Node, Request: a.Request})
			default:
				events = append(events, x.execute(a)...)
			}
		}
	}
}

func (x *fencer) pass(d time.Duration) {
	end := x.now.Add(d)
	for steps := 0; x.now < end; steps++ {
		if steps > 10_000 {
			x.t.Fatal("the machine never rests")
		}
		x.now = min(end, max(x.now, x.m.Deadline()))
		x.step(Tick{})
		if at := x.m.Deadline(); at.IsZero() || at >= end {
			x.now = end
		}
	}
}

// refuse answers the claim that is on its way: b has it, and a majority has not heard of its lease for that long.
func (x *fencer) refuse(silent time.Duration) {
	x.t.Helper()
	for _, a := range slices.Backward(x.trace) {
		if s, ok := a.(lease.Send); ok && s.Message.Claim != nil {
			x.step(lease.Received{From: leader, Message: lease.Message{FromLife: others, ToLife: myLife, ClaimReply: &lease.ClaimReply{
				Group: "x", ID: s.Message.Claim.ID, Refused: "b holds it", Holder: standby, Left: D / 2, Silent: silent}}})
			return
		}
	}
	x.t.Fatal("nothing is claimed")
}

func (x *fencer) stage() fsm.Stage {
	r, _ := x.log.Fence("b")
	return r.Stage
}

var slow = Fencing{Automatic: true, Targets: map[string]FenceTarget{"b": {Delay: 4 * time.Second}}}

var both = Fencing{Automatic: true, Targets: map[string]FenceTarget{"a": {}, "b": {}}}

func TestWhoIsFenced(t *testing.T) {
	for name, test := range map[string]struct {
		fencing Fencing
		change  func(*fencer)
		silent  time.Duration
		want    fsm.Stage
		asked   int
	}{
		"lost":                       {both, nil, D, fsm.FenceConfirmed, 1},
		"acknowledged of late":       {both, nil, D / 4, "", 0},
		"answers":                    {both, func(x *fencer) { x.silent[standby] = false }, D, "", 0},
		"no device":                  {Fencing{Automatic: true}, nil, D, "", 0},
		"only for operators":         {Fencing{Targets: both.Targets}, nil, D, "", 0},
		"in maintenance":             {both, func(x *fencer) { x.apply(fsm.Command{Maintenance: &fsm.Maintenance{Node: "b", On: true}}) }, D, "", 0},
		"the device fails":           {both, func(x *fencer) { x.off = "broken" }, D, fsm.FenceFailed, 1},
		"without a majority":         {slow, func(x *fencer) { x.silent[leader] = true }, D, fsm.FenceRequested, 0},
		"by somebody else already":   {both, func(x *fencer) { x.request("w", 0) }, D, fsm.FenceRequested, 0},
		"by somebody who is gone":    {both, func(x *fencer) { x.request("c", 0) }, D, fsm.FenceConfirmed, 1},
		"by an earlier life of mine": {both, func(x *fencer) { x.request("a", 6) }, D, fsm.FenceConfirmed, 1},
		"I am about to be fenced": {both, func(x *fencer) {
			x.apply(fsm.Command{Fence: &fsm.Fence{Node: "a", Stage: fsm.FenceRequested, By: "w"}})
		}, D, "", 0},
	} {
		x := newFencer(t, test.fencing)
		x.silent[standby] = true
		x.pass(2 * D)
		if test.change != nil {
			test.change(x)
			x.pass(2 * D)
		}
		x.refuse(test.silent)
		x.pass(6 * D)
		if x.stage() != test.want || x.asked != test.asked {
			t.Errorf("%s: fencing of b is %q, want %q; the device was asked %d times", name, x.stage(), test.want, x.asked)
		}
		held := len(x.log.Held("b")) > 0
		if held != (test.want != fsm.FenceConfirmed) {
			t.Errorf("%s: b holds x: %v", name, held)
		}
	}
}

func (x *fencer) request(by string, life uint64) {
	x.apply(fsm.Command{Fence: &fsm.Fence{Node: "b", Stage: fsm.FenceRequested, By: by, Life: life}})
}

// TestAFenceIsWithdrawn: a node that answers during the delay is left alone.
// Who was doubted while it was being switched off is not switched off once more when it is known to be off.
func TestADeadNodeIsFencedOnce(t *testing.T) {
	x := newFencer(t, both)
	x.silent[standby] = true
	x.late = true
	x.pass(2 * D)
	x.refuse(D)
	x.pass(D)
	if x.asked != 1 || len(x.done) != 1 {
		t.Fatalf("the device was asked %d times", x.asked)
	}
	x.pass(2 * D) // until a request may be proposed again
	x.refuse(4 * D)
	x.step(x.done[0])
	if x.stage() != fsm.FenceConfirmed {
		t.Fatalf("fencing of b is %q", x.stage())
	}
	x.pass(6 * D)
	if x.stage() != fsm.FenceConfirmed || x.asked != 1 {
		t.Errorf("fencing of b is %q; the device was asked %d times", x.stage(), x.asked)
	}
}

func TestAFenceIsWithdrawn(t *testing.T) {
	x := newFencer(t, Fencing{Automatic: true, Targets: map[string]FenceTarget{"b": {Delay: 3 * D}}})
	x.silent[standby] = true
	x.pass(2 * D)
	x.refuse(D)
	x.pass(D)
	if x.stage() != fsm.FenceRequested || x.asked != 0 {
		t.Fatalf("%s, asked %d times before the delay is over", x.stage(), x.asked)
	}
	x.silent[standby] = false
	for range 12 {
		x.pass(D / 4)
		x.receive(standby, lease.Message{Ping: &lease.Ping{Sent: 1}})
	}
	if x.stage() != fsm.FenceWithdrawn || x.asked != 0 {
		t.Errorf("%s, asked %d times", x.stage(), x.asked)
	}
}

// receive is the bench's, with this step.
func (x *fencer) receive(from lease.Member, m lease.Message) {
	m.FromLife, m.ToLife = others, myLife
	x.step(lease.Received{From: from, Message: m})
}

// TestAFenceProvesWhatWasHeldBefore: what the node was granted while the device was at work is not touched (F05).
func TestAFenceProvesWhatWasHeldBefore(t *testing.T) {
	x := newFencer(t, both)
	x.silent[standby], x.late = true, true
	x.pass(2 * D)
	x.refuse(D)
	x.pass(D)
	x.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: standby, Epoch: 2, Life: 99}})
	x.step(x.done[0])
	if x.stage() != fsm.FenceConfirmed || len(x.log.Held("b")) != 1 {
		t.Errorf("%s, and b holds %+v", x.stage(), x.log.Held("b"))
	}
}

// TestFailuresAreApart: a device that fails is not asked again at once.
func TestFailuresAreApart(t *testing.T) {
	x := newFencer(t, both)
	x.silent[standby], x.off = true, "broken"
	for range 240 {
		x.pass(D / 2)
		x.refuse(D)
	}
	if x.asked < 3 || x.asked > 8 {
		t.Errorf("asked %d times in two minutes", x.asked)
	}
}

// TestANodeThatIsBackIsSwitchedOn ends the story.
func TestANodeThatIsBackIsSwitchedOn(t *testing.T) {
	x := newFencer(t, both)
	x.silent[standby] = true
	x.pass(2 * D)
	x.refuse(D)
	x.pass(2 * D)
	if x.stage() != fsm.FenceConfirmed {
		t.Fatal(x.stage())
	}
	x.silent[standby] = false
	x.pass(6 * time.Second)
	if x.stage() != fsm.FenceReturned {
		t.Error(x.stage())
	}
}

// TestAnOperatorsFence is carried out although the node answers.
func TestAnOperatorsFence(t *testing.T) {
	x := newFencer(t, Fencing{Targets: both.Targets})
	x.apply(fsm.Command{Fence: &fsm.Fence{Node: "b", Stage: fsm.FenceRequested, By: "a", Life: uint64(myLife), Person: "alice"}})
	x.step(lease.Applied{Index: x.index})
	if x.stage() != fsm.FenceConfirmed || x.asked != 1 {
		t.Errorf("%s, asked %d times", x.stage(), x.asked)
	}
}

// TestARequestAgainstThisNodeIsWithdrawn: whoever wanted it is gone, and this node is well.
func TestARequestAgainstThisNodeIsWithdrawn(t *testing.T) {
	x := newFencer(t, both)
	x.apply(fsm.Command{Fence: &fsm.Fence{Node: "a", Stage: fsm.FenceRequested, By: "c"}})
	x.pass(2 * D)
	if r, _ := x.log.Fence("a"); r.Stage != fsm.FenceWithdrawn {
		t.Errorf("%+v", r)
	}
}
