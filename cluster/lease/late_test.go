package lease

import (
	"testing"
)

// late gives a message to a node as if it had been on its way for long.
func (w *world) late(from, to Member, m Message) {
	w.run(to, w.nodes[to].Step(w.now, Received{From: from, Message: m}))
}

func TestALateClaimOfTheOwnerDoesNotCostItTheLease(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", 1, "test"))
	w.claim("b/1", MasterDown)
	w.mustHold("b/1", true)
	clear(w.seen)
	w.late("b/1", "a/1", Message{FromLife: w.nodes["b/1"].cfg.Life,
		Claim: &Claim{Group: "G", ID: 1, Kind: MasterDown, Promise: promiseSpan(D, 0)}})
	want(t, "epoch", w.log.Epoch("G"), 2)
	w.pass(3 * D)
	w.mustHold("b/1", true)
	for _, a := range w.seen["b/1"] {
		if lost, is := a.(Lost); is {
			t.Fatalf("the lease was lost: %+v", lost)
		}
	}
}

func TestALateClaimDoesNotDisplaceANewerOneOfTheSameLife(t *testing.T) {
	w := newWorld(t)
	w.lost = func(_, _ Member, m Message) bool { return m.ClearReply != nil }
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Unclaim(w.now, "G"))
	w.pass(D)
	w.claim("b/1", MasterDown) // under a new id
	w.late("b/1", "a/1", Message{FromLife: w.nodes["b/1"].cfg.Life,
		Claim: &Claim{Group: "G", ID: 1, Kind: MasterDown, Promise: promiseSpan(D, 0)}})
	want(t, "claim that is served", w.nodes["a/1"].coordinator.clearings["G"].claim.ID, w.nodes["b/1"].owned["G"].claimID)
}

func TestAnAnswerToAClaimOfAnEarlierLifeIsNotTaken(t *testing.T) {
	w := newWorld(t)
	var answers []Message
	w.lost = func(_, to Member, m Message) bool {
		if m.ClaimReply != nil && to == "b/1" {
			answers = append(answers, m)
			return true
		}
		return false
	}
	w.claim("b/1", MasterDown) // its first claim, and so is that of the next life
	w.boot("b/1", 50, promiseSpan(D, 0))
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Step(w.now, Leads{Member: "a/1", Term: 99}))
	want(t, "same id", answers[0].ClaimReply.ID, w.nodes["b/1"].owned["G"].claimID)
	w.late("a/1", "b/1", answers[0])
	want(t, "epoch in use", w.nodes["b/1"].owned["G"].epoch, 0)
	w.mustHold("b/1", false)
}

// dropped is a configuration that a leader had in its log alone: it is w's, then it is gone.
var dropped = Configuration{Index: 7, Voters: []Member{"a/1", "b/1"}}

func TestC3AConfigurationThatTheLogHasPassedByIsForgotten(t *testing.T) {
	w := newWorld(t)
	committed := Configuration{Index: 1, Voters: []Member{"a/1", "b/1", "w/1"}}
	w.claim("b/1", MasterDown)
	w.run("w/1", w.nodes["w/1"].Step(w.now, Configured{Committed: committed, Latest: dropped}))
	w.pass(D)
	want(t, "b counts by", w.nodes["b/1"].latest.Index, 7)
	w.run("w/1", w.nodes["w/1"].Step(w.now, Configured{Committed: committed, Latest: committed})) // truncated
	for _, m := range []Member{"a/1", "b/1", "w/1"} {
		w.run(m, w.nodes[m].Step(w.now, Applied{Index: 6}))
		w.run(m, w.nodes[m].Step(w.now, Applied{Index: 7})) // another entry stands there
	}
	want(t, "b counts by", w.nodes["b/1"].latest.Index, 1)
	delete(w.nodes, "a/1")
	w.pass(3 * D)
	w.mustHold("b/1", true) // with w: two of the three voters
}

func TestC3AVoterRefusesNobodyByHearsay(t *testing.T) {
	w := newWorld(t)
	w.nodes["w/1"].learn(w.now, &dropped)
	want(t, "renewal", w.renew("a/1", "w/1", 1), "")
	want(t, "clearance", w.clear("a/1", "w/1", 2), "")
}

func TestWhoIsNoVoterAnyMoreIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.nodes["b/1"].learn(w.now, &Configuration{Index: 7, Voters: []Member{"a/1", "b/1", "d/1", "w/1"}})
	w.pass(D)
	w.nodes["b/1"].learn(w.now, &Configuration{Index: 9, Voters: []Member{"a/1", "b/1", "w/1"}})
	w.pass(3 * D) // fails if the deadline stays in the past
}

func TestALeaderDoesNotWaitForEverForTheOutcomeOfAProposal(t *testing.T) {
	w := newWorld(t)
	w.holdLog = true
	w.claim("b/1", MasterDown)
	w.held = nil // the outcome never comes
	w.pass(D)
	w.holdLog = false
	w.pass(D)
	w.mustHold("b/1", true)

	w.holdLog = true
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", Epoch(w.log.Epoch("G")), "test"))
	w.held = nil
	w.pass(D)
	w.holdLog = false
	w.pass(D)
	want(t, "settled", w.nodes["b/1"].Settled(), true)
	want(t, "released", w.log.Released("G"), w.log.Epoch("G"))
}

func TestALeaderThatGoesTellsItsSuccessorFirst(t *testing.T) {
	w := newWorld(t)
	w.lead("b/1")
	w.claim("b/1", MasterDown)
	w.holdLog = true
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", Epoch(w.log.Epoch("G")), "test"))
	want(t, "answering", w.nodes["b/1"].Answering(), true)
	w.holdLog = false
	for _, commit := range w.held {
		commit()
	}
	want(t, "answering", w.nodes["b/1"].Answering(), false)
	want(t, "settled", w.nodes["b/1"].Settled(), true)
}
