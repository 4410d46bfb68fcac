package lease

import (
	"testing"

	"github.com/hactl/had/fsm"
)

// commit applies commands as if somebody had proposed them, and tells everybody.
func (w *world) commit(commands ...fsm.Command) {
	w.t.Helper()
	for _, c := range commands {
		w.index++
		if r, err := w.log.Apply(w.index, c); err != nil || !r.OK {
			w.t.Fatalf("%+v: %+v, %v", c, r, err)
		}
	}
	for _, m := range sorted(w.nodes) {
		w.run(m, w.nodes[m].Step(w.now, Applied{}))
	}
}

// fence commits that somebody has switched a node off, which proves these leases to be over.
func (w *world) fence(node string, proved []fsm.Proof) {
	w.commit(fsm.Command{Fence: &fsm.Fence{Node: node, Stage: fsm.FenceRequested, By: "a", Life: 1}})
	w.commit(fsm.Command{Fence: &fsm.Fence{Node: node, Stage: fsm.FenceConfirmed, By: "a", Life: 1, Request: w.index, Proved: proved}})
}

// refusal is the last one that a member was told.
func (w *world) refusal(m Member) (r ClaimRefused) {
	for _, a := range w.seen[m] {
		if told, ok := a.(ClaimRefused); ok {
			r = told
		}
	}
	return r
}

func TestH6AFenceEndsThePromisesOfTheLifeThatWasSwitchedOff(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	delete(w.nodes, "b/1")
	w.claim("a/1", MasterDown)
	w.mustHold("a/1", false)
	w.fence("b", w.log.Held("b"))
	w.mustHold("a/1", true) // at the same instant: no promise is waited for
	want(t, "epoch", w.log.Epoch("G"), 2)
}

// TestH6AFenceProvesNothingOfALaterLife is F05: the node is up again, and holds the group anew, before the log says that it was
// switched off.
func TestH6AFenceProvesNothingOfALaterLife(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	before := w.log.Held("b")
	w.pass(D)
	w.boot("b/1", 22, promiseSpan(D, 0))
	w.lead("a/1")
	w.run("b/1", w.nodes["b/1"].ReleaseEarlierLives(w.now, []string{"G"}))
	w.pass(2 * D)
	w.claim("b/1", MasterDown)
	w.pass(D)
	w.mustHold("b/1", true)
	w.fence("b", before)
	w.mustHold("b/1", true)
	w.claim("a/1", MasterDown)
	w.pass(3 * D)
	w.mustHold("a/1", false)
	want(t, "clearance", w.clear("a/1", "w/1", 20), RefusedPromised)
}

// TestANodeThatIsDeclaredOffAndIsNotGivesUp is F08: somebody has confirmed a fence of a node that lives.
func TestANodeThatIsDeclaredOffAndIsNotGivesUp(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.pass(D)
	clear(w.seen)
	w.fence("b", w.log.Held("b"))
	if len(w.seen["b/1"]) == 0 {
		t.Fatal("b is told nothing")
	}
	if lost, ok := w.seen["b/1"][0].(Lost); !ok || lost.Epoch != 1 {
		t.Fatalf("b is told %+v", w.seen["b/1"][0])
	}
	w.mustHold("b/1", false)
	want(t, "a renewal of what the log says is over", w.renew("b/1", "w/1", 1, func(m *Message) { m.FromLife = 2 }), RefusedReleased)
}

func TestAGroupThatNeedsAProofIsNotTakenWithoutOne(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Proved = true })
	w.claim("b/1", MasterDown) // nobody had it before
	w.mustHold("b/1", true)
	delete(w.nodes, "b/1")
	w.claim("a/1", MasterDown)
	w.pass(5 * D)
	w.mustHold("a/1", false)
	if r := w.refusal("a/1"); r.Holder != "b/1" || r.Silent < D || w.log.Epoch("G") != 1 {
		t.Fatalf("a is told %+v, epoch %d", r, w.log.Epoch("G"))
	}
	w.fence("b", w.log.Held("b"))
	w.mustHold("a/1", true)
}

func TestAReleaseIsProofEnough(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Proved = true })
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", 1, "stopping"))
	w.claim("a/1", MasterDown)
	w.mustHold("a/1", true)
}

// TestSilenceIsAMajoritysWord: a director that alone does not hear the owner learns that the others do.
func TestSilenceIsAMajoritysWord(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Silence = D / 2 })
	w.claim("b/1", MasterDown)
	w.lost = func(from, to Member, _ Message) bool {
		return from == "b/1" && to == "a/1" || from == "a/1" && to == "b/1"
	}
	w.claim("a/1", MasterDown)
	for range 20 {
		w.pass(D / 8)
		if r := w.refusal("a/1"); r.Holder != "b/1" || r.Silent > D/2 {
			t.Fatalf("a is told %+v while the witness hears b", r)
		}
	}
	delete(w.nodes, "b/1")
	died := w.now
	for w.refusal("a/1").Silent < D/2 {
		w.pass(D / 32)
		if w.holds("a/1") {
			t.Fatal("a holds the group before it hears of a silence")
		}
	}
	if after := w.now.Sub(died); after > 3*D/4+D/16 {
		t.Errorf("a hears of the silence %v after it began", after)
	}
}
