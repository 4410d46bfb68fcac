package lease

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/fsm"
)

func TestAClaimIsGrantedAndRenewed(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.mustHold("b/1", true)
	e, ok := w.seen["b/1"][0].(Extended)
	if !ok || !e.First || e.Epoch != 1 {
		t.Fatalf("first action is %+v", w.seen["b/1"][0])
	}
	w.pass(10 * D)
	w.mustHold("b/1", true)
}

func TestV1AnOlderEpochIsNotRenewed(t *testing.T) {
	w := newWorld(t)
	want(t, "epoch 5", w.renew("a/1", "w/1", 5), "")
	want(t, "epoch 4", w.renew("a/1", "w/1", 4), RefusedSuperseded)
}

func TestV1AFirstRenewalIsRefusedWhileAbstaining(t *testing.T) {
	w := newWorld(t)
	w.boot("w/1", 9, promiseSpan(D, 0))
	want(t, "first", w.renew("a/1", "w/1", 1, first), RefusedAbstaining)
	want(t, "running owner", w.renew("a/1", "w/1", 1), "")
	w.now = w.now.Add(promiseSpan(D, 0))
	want(t, "first, later", w.renew("b/1", "w/1", 2, func(m *Message) { m.Renew.Groups[0].First = true }), "")
}

func TestV2ARunningPromiseIsNotCleared(t *testing.T) {
	w := newWorld(t)
	want(t, "renewal", w.renew("a/1", "w/1", 1), "")
	want(t, "somebody else", w.clear("b/1", "w/1", 2), RefusedPromised)
	want(t, "the holder itself", w.clear("a/1", "w/1", 2), "")
	w.now = w.now.Add(promiseSpan(D, 0) - 1)
	want(t, "a moment before", w.clear("b/1", "w/1", 3), RefusedPromised)
	w.now++
	want(t, "when it is over", w.clear("b/1", "w/1", 3), "")
}

func TestV2AnEpochThatIsNotNewerIsNotCleared(t *testing.T) {
	w := newWorld(t)
	want(t, "2", w.clear("b/1", "w/1", 2), "")
	want(t, "2 again", w.clear("a/1", "w/1", 2), RefusedEpoch)
	want(t, "1", w.clear("a/1", "w/1", 1), RefusedEpoch)
}

func TestV3AVoterThatHasStartedClearsNothing(t *testing.T) {
	w := newWorld(t)
	w.boot("w/1", 9, promiseSpan(D, 0))
	want(t, "at once", w.clear("b/1", "w/1", 1), RefusedAbstaining)
	w.now = w.now.Add(promiseSpan(D, 0))
	want(t, "later", w.clear("b/1", "w/1", 1), "")
}

func TestV3AVoterThatNeverPromisedAnythingNeedNotAbstain(t *testing.T) {
	w := newWorld(t)
	w.boot("w/1", 9, 0)
	w.nodes["w/1"].Step(w.now, CeilingRaised{Promise: promiseSpan(D, 0)})
	want(t, "at once", w.clear("b/1", "w/1", 1), "")
}

func TestAPromiseLongerThanNotedOnDiskIsNotGiven(t *testing.T) {
	w := newWorld(t)
	w.boot("w/1", 9, 0)
	want(t, "renewal", w.renew("a/1", "w/1", 1), RefusedCeiling)
	want(t, "after it is noted", w.renew("a/1", "w/1", 1), "")
}

func TestO2ALeaseCountsFromSending(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	sent := w.now
	e := w.seen["b/1"][0].(Extended)
	want(t, "until", e.Until, sent.Add(holdSpan(D)))
	clear(w.seen)
	// A round whose answers take D/8 is still worth only D(1-e) from its sending.
	var late []Message
	w.lost = func(from, to Member, m Message) bool {
		if m.RenewReply != nil && to == "b/1" {
			late = append(late, m)
			return true
		}
		return false
	}
	w.pass(D/4 + 1)
	sent = w.nodes["b/1"].roundAt
	w.now = w.now.Add(D / 8)
	w.run("b/1", w.nodes["b/1"].Step(w.now, Received{From: "w/1", Message: late[len(late)-1]}))
	w.run("b/1", w.nodes["b/1"].Step(w.now, Received{From: "a/1", Message: late[0]}))
	for _, a := range w.seen["b/1"] {
		if e, ok := a.(Extended); ok && e.Until > sent.Add(holdSpan(D)) {
			t.Fatalf("lease until %d after a round sent at %d", e.Until, sent)
		}
	}
}

func TestO3ALateAcknowledgementRevivesNothing(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	var late []Message
	w.lost = func(from, to Member, m Message) bool {
		if m.RenewReply != nil && to == "b/1" {
			late = append(late, m)
			return true
		}
		return from == "b/1" && m.Renew == nil // its claims stay away, its renewals arrive
	}
	w.pass(holdSpan(D) + 1)
	w.mustHold("b/1", false)
	lost := false
	for _, a := range w.seen["b/1"] {
		_, is := a.(Lost)
		lost = lost || is
	}
	want(t, "Lost is told", lost, true)
	for _, m := range late {
		w.run("b/1", w.nodes["b/1"].Step(w.now, Received{From: "w/1", Message: m}))
	}
	w.mustHold("b/1", false)
}

func TestO4AGrantThatComesTooLateIsGivenBack(t *testing.T) {
	w := newWorld(t)
	w.holdLog = true
	w.claim("b/1", MasterDown)
	w.lost = func(from, to Member, m Message) bool { return m.Claim != nil }
	w.pass(holdSpan(D))
	w.commitHeld()
	w.mustHold("b/1", false)
	want(t, "released", w.log.Released("G"), 1)
}

func TestO4AGrantForAnEarlierClaimIsGivenBack(t *testing.T) {
	w := newWorld(t)
	w.holdLog = true
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Unclaim(w.now, "G"))
	w.commitHeld()
	w.mustHold("b/1", false)
	want(t, "released", w.log.Released("G"), 1)
}

func TestH1ARenewalForAnEarlierLifeIsRefused(t *testing.T) {
	w := newWorld(t)
	want(t, "wrong life", w.renew("a/1", "w/1", 1, func(m *Message) { m.ToLife = 1234 }), RefusedLife)
}

func TestH1AVoterThatRestartsCostsItsOwnerNothing(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.pass(2 * D)
	w.nodes["a/1"] = nil // only w is left for a majority
	delete(w.nodes, "a/1")
	w.pass(D / 2)
	w.boot("w/1", 9, promiseSpan(D, 0))
	w.pass(5 * D)
	w.mustHold("b/1", true)
	for _, a := range w.seen["b/1"] {
		if _, lost := a.(Lost); lost {
			t.Fatal("the lease was lost")
		}
	}
}

func TestH2OneEpochHasOneHolder(t *testing.T) {
	w := newWorld(t)
	want(t, "a", w.renew("a/1", "w/1", 3), "")
	want(t, "b", w.renew("b/1", "w/1", 3), RefusedHolder)
}

func TestH3AFirstRenewalWaitsForSomebodyElsesPromise(t *testing.T) {
	w := newWorld(t)
	want(t, "a", w.renew("a/1", "w/1", 1), "")
	want(t, "b first", w.renew("b/1", "w/1", 2, first), RefusedPromised)
	w.now = w.now.Add(promiseSpan(D, 0))
	want(t, "b first, later", w.renew("b/1", "w/1", 2, first), "")
}

func TestH4AnOwnerDropsBeforeItAcknowledgesANewerEpoch(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	n := w.nodes["b/1"]
	n.voter.waive("b/1", Waive{Group: "G", Epoch: 1, Life: n.cfg.Life}) // what might let its own voter help somebody else
	rounds++
	actions := n.Step(w.now, Received{From: "a/1", Message: Message{FromLife: 1, ToLife: n.cfg.Life, Renew: &Renew{
		Round: rounds, Configuration: 1, Promise: promiseSpan(D, 0), Groups: []RenewGroup{{Group: "G", Epoch: 9, First: true}}}}})
	lostAt, ackAt := -1, -1
	for i, a := range actions {
		switch a := a.(type) {
		case Lost:
			lostAt = i
		case Send:
			if a.Message.RenewReply != nil {
				ackAt = i
			}
		}
	}
	if lostAt < 0 || ackAt < lostAt {
		t.Fatalf("Lost at %d, acknowledged at %d of %+v", lostAt, ackAt, actions)
	}
}

func TestH5AClearanceKeepsThePromise(t *testing.T) {
	w := newWorld(t)
	want(t, "a", w.renew("a/1", "w/1", 1), "")
	want(t, "a again", w.clear("a/1", "w/1", 2), "")
	want(t, "b", w.clear("b/1", "w/1", 3), RefusedPromised)
}

func TestH6OnlyTheHolderItselfWaives(t *testing.T) {
	w := newWorld(t)
	want(t, "a", w.renew("a/1", "w/1", 1), "")
	w.nodes["w/1"].Step(w.now, Received{From: "b/1", Message: Message{FromLife: 2, Waive: &Waive{Group: "G", Epoch: 1, Life: 77}}})
	want(t, "after b's word", w.clear("b/1", "w/1", 2), RefusedPromised)
	w.nodes["w/1"].Step(w.now, Received{From: "a/1", Message: Message{FromLife: 77, Waive: &Waive{Group: "G", Epoch: 2, Life: 77}}})
	want(t, "after a word on another epoch", w.clear("b/1", "w/1", 2), RefusedPromised)
	w.nodes["w/1"].Step(w.now, Received{From: "a/1", Message: Message{FromLife: 9, Waive: &Waive{Group: "G", Epoch: 1, Life: 9}}})
	want(t, "after a word on another life", w.clear("b/1", "w/1", 2), RefusedPromised)
	w.nodes["w/1"].Step(w.now, Received{From: "a/1", Message: Message{FromLife: 77, Waive: &Waive{Group: "G", Epoch: 1, Life: 77}}})
	want(t, "after a's word", w.clear("b/1", "w/1", 2), "")
	want(t, "the waived epoch", w.renew("a/1", "w/1", 1), RefusedEpoch)
}

func TestH6ALogProvesOnlyWhatTheHoldersOwnLifeHasReleased(t *testing.T) {
	for name, test := range map[string]struct {
		grant fsm.Grant
		want  Refusal
	}{
		"the holder's":             {fsm.Grant{Member: "b/1", Epoch: 4, Life: 77}, ""},
		"a newer one of it":        {fsm.Grant{Member: "b/1", Epoch: 5, Life: 77}, ""},
		"an older one of it":       {fsm.Grant{Member: "b/1", Epoch: 3, Life: 77}, RefusedPromised},
		"that of another life":     {fsm.Grant{Member: "b/1", Epoch: 4, Life: 8}, RefusedPromised},
		"that of another member":   {fsm.Grant{Member: "a/1", Epoch: 4, Life: 77}, RefusedPromised},
		"a newer one of another's": {fsm.Grant{Member: "a/1", Epoch: 9, Life: 1}, RefusedPromised},
	} {
		w := newWorld(t)
		want(t, "promise", w.renew("b/1", "w/1", 4), "")
		test.grant.Group = "G"
		release := fsm.Release{Group: "G", Epoch: test.grant.Epoch, Member: test.grant.Member, Life: test.grant.Life}
		for _, c := range []fsm.Command{{Grant: &test.grant}, {Release: &release}} {
			w.index++
			if result, err := w.log.Apply(w.index, c); err != nil || !result.OK {
				t.Fatalf("%s: %+v, %v", name, result, err)
			}
		}
		want(t, "clearance after the release is "+name, w.clear("a/1", "w/1", 20), test.want)
	}
}

func TestH7AReleasedEpochIsNotHeldAgainByTheSameLifeEvenIfTheLogForgetsIt(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", 1, "test"))
	w.nodes["b/1"].log = fsm.New()
	w.nodes["b/1"].releases = map[string]*pendingRelease{}
	w.lost = func(_, _ Member, m Message) bool { return m.Claim != nil }
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Step(w.now, Received{From: "a/1", Message: Message{FromLife: 1,
		ClaimReply: &ClaimReply{Group: "G", ID: w.nodes["b/1"].owned["G"].claimID, Epoch: 1}}}))
	w.mustHold("b/1", false)
}

func TestH7AReleaseIsRepeatedAndFinal(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.lost = func(from, to Member, m Message) bool { return m.Release != nil || m.Waive != nil }
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", 1, "test"))
	w.mustHold("b/1", false)
	w.pass(2 * D)
	w.mustHold("b/1", false)
	want(t, "settled", w.nodes["b/1"].Settled(), false)
	w.lost = func(Member, Member, Message) bool { return false }
	w.pass(D / 4)
	want(t, "settled", w.nodes["b/1"].Settled(), true)
	want(t, "released", w.log.Released("G"), 1)
}

func TestH8AClearanceThatComesLateDoesNotCount(t *testing.T) {
	w := newWorld(t)
	var late []Message
	w.lost = func(from, to Member, m Message) bool {
		if m.ClearReply != nil {
			late = append(late, m)
			return true
		}
		return false
	}
	w.claim("b/1", MasterDown)
	round := w.nodes["a/1"].coordinator.clearings["G"].round
	w.lost = func(from, to Member, m Message) bool { return m.Claim != nil || m.ClearReply != nil }
	w.now = w.now.Add(D / 4)
	for _, m := range late {
		if m.ClearReply.Round == round {
			w.run("a/1", w.nodes["a/1"].Step(w.now, Received{From: "w/1", Message: m}))
			w.run("a/1", w.nodes["a/1"].Step(w.now, Received{From: "b/1", Message: m}))
		}
	}
	want(t, "epoch", w.log.Epoch("G"), 0)
}

func TestC1AClearanceThatCameToNothingIsForgottenAfterAPromisesTime(t *testing.T) {
	w := newWorld(t)
	want(t, "a owns", w.renew("a/1", "w/1", 1), "")
	w.now = w.now.Add(promiseSpan(D, 0))
	want(t, "b is cleared", w.clear("b/1", "w/1", 2), "")
	want(t, "a is refused", w.renew("a/1", "w/1", 1), RefusedEpoch)
	w.now = w.now.Add(promiseSpan(D, 0))
	want(t, "a is helped again", w.renew("a/1", "w/1", 1), "")
}

func TestC2AClaimWithoutAChanceDisturbsNobody(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.pass(D)
	// w does not hear of b any more: its promise runs out, but a majority's does not.
	w.lost = func(from, to Member, m Message) bool { return from == "b/1" && to == "w/1" }
	w.pass(2 * D)
	w.claim("a/1", MasterDown)
	w.pass(D)
	w.mustHold("b/1", true)
	w.mustHold("a/1", false)
	w.lost = func(Member, Member, Message) bool { return false }
	w.pass(D / 2)
	epoch, _ := w.nodes["w/1"].voter.group("G").binding(w.now)
	want(t, "epoch that w follows", epoch, 1)
}

func TestC3WhoCountsByAnOlderConfigurationIsToldTheNewerOne(t *testing.T) {
	w := newWorld(t)
	newer := Configuration{Index: 7, Voters: []Member{"a/1", "w/1"}}
	w.nodes["w/1"].Step(w.now, Configured{Committed: newer, Latest: newer})
	want(t, "renewal", w.renew("a/1", "w/1", 1), RefusedConfiguration)
	want(t, "clearance", w.clear("a/1", "w/1", 1), RefusedConfiguration)
	want(t, "by the newer one", w.renew("a/1", "w/1", 1, func(m *Message) { m.Renew.Configuration = 7 }), "")
}

func TestC4MajoritiesAreCountedInBothConfigurations(t *testing.T) {
	n := &Node{committed: Configuration{1, []Member{"a", "b", "c"}}, latest: Configuration{2, []Member{"a", "d"}}}
	in := func(ms ...Member) func(Member) bool {
		return func(m Member) bool {
			for _, x := range ms {
				if x == m {
					return true
				}
			}
			return false
		}
	}
	want(t, "a, b", n.majority(in("a", "b")), false)
	want(t, "a, d", n.majority(in("a", "d")), false)
	want(t, "a, b, d", n.majority(in("a", "b", "d")), true)
	want(t, "no voters", (&Node{}).majority(in("a")), false)
}

func TestALivingOwnerKeepsItsGroupWhenSomebodyHearsNothing(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.claim("a/1", MasterDown)
	for range 20 {
		w.pass(D / 2)
		w.mustHold("b/1", true)
	}
	refused, ok := w.seen["a/1"][0].(ClaimRefused)
	if !ok || refused.Holder != "b/1" {
		t.Fatalf("a is told %+v", w.seen["a/1"][0])
	}
}

func TestADeadOwnerIsReplacedOnceItsPromisesAreOver(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.pass(D)
	delete(w.nodes, "b/1")
	died := w.now
	w.claim("a/1", MasterDown)
	for !w.holds("a/1") {
		w.pass(time.Millisecond)
		if w.now.Sub(died) > promiseSpan(D, 0)+2*time.Millisecond {
			t.Fatalf("nobody owns it %v after the owner died", w.now.Sub(died))
		}
	}
}

func TestAPreemptionIsOneHandover(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	clear(w.seen)
	w.claim("a/1", Preempt)
	y, ok := w.seen["b/1"][0].(YieldTo)
	if !ok || y.To != "a/1" || y.Epoch != 1 {
		t.Fatalf("b is told %+v", w.seen["b/1"][0])
	}
	w.mustHold("b/1", true)
	w.mustHold("a/1", false)
	entries := w.index
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", 1, "handover"))
	w.mustHold("b/1", false)
	w.mustHold("a/1", true)
	want(t, "log entries between invisible and visible", w.index-entries, 1)
	want(t, "epoch", w.log.Epoch("G"), 2)
}

func TestAnOwnerThatBelievesInAnotherLeaderReleasesToTheOneThatAsked(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.run("b/1", w.nodes["b/1"].Step(w.now, Leads{Member: "b/1", Term: 99})) // its disk hangs: it still believes to lead
	w.run("b/1", w.nodes["b/1"].Step(w.now, Received{From: "a/1", Message: Message{FromLife: 1,
		Yield: &Yield{Group: "G", Epoch: 1, To: "a/1"}}}))
	var to []Member
	for _, a := range w.nodes["b/1"].Release(w.now, "G", 1, "handover") {
		if s, ok := a.(Send); ok && s.Message.Release != nil {
			to = append(to, s.To)
		}
	}
	if len(to) != 1 || to[0] != "a/1" {
		t.Fatalf("released to %v", to)
	}
}

func TestAnOwnerThatResignsIsRelievedByTheFittest(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	clear(w.seen)
	w.run("b/1", w.nodes["b/1"].Resign(w.now, "G", "shutting down", false, "", D/2))
	i, ok := w.seen["a/1"][0].(Invited)
	if !ok || i.Kind != Handover {
		t.Fatalf("a is told %+v", w.seen["a/1"])
	}
	w.claim("a/1", i.Kind)
	if _, ok := w.seen["b/1"][0].(YieldTo); !ok {
		t.Fatalf("b is told %+v", w.seen["b/1"])
	}
}

func TestAnOwnerIsRelievedByItsHeirIfThatOneIsFit(t *testing.T) {
	for _, fit := range []bool{true, false} {
		w := newWorld(t)
		w.claim("b/1", MasterDown)
		w.run("a/1", w.nodes["a/1"].Step(w.now, Stands{Member: "w/1", Groups: map[string]Standing{"G": {Eligible: fit, Priority: 10, Rank: 3}}}))
		clear(w.seen)
		w.run("b/1", w.nodes["b/1"].Resign(w.now, "G", "shutting down", false, "w", D/2))
		if _, heir := find[Invited](w.seen["w/1"]); heir != fit {
			t.Errorf("fit: %t: the heir is told %+v", fit, w.seen["w/1"])
		}
		if _, fittest := find[Invited](w.seen["a/1"]); fittest == fit {
			t.Errorf("fit: %t: the fittest is told %+v", fit, w.seen["a/1"])
		}
	}
}

func TestAnOwnerIsRelievedBySomebodyWhoIsKnownToBeFitALittleLater(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	unfit := Stands{Member: "a/1", Groups: map[string]Standing{"G": {Priority: 100}}}
	w.run("a/1", w.nodes["a/1"].Step(w.now, unfit))
	clear(w.seen)
	w.run("b/1", w.nodes["b/1"].Resign(w.now, "G", "shutting down", false, "", 2*standingSpan))
	w.pass(standingSpan / 2)
	if _, told := find[NobodyTakes](w.seen["b/1"]); told {
		t.Fatal("b is told that nobody takes over, and somebody will")
	}
	unfit.Groups["G"] = Standing{Priority: 100, Eligible: true}
	w.run("a/1", w.nodes["a/1"].Step(w.now, unfit))
	i, ok := find[Invited](w.seen["a/1"])
	if !ok {
		t.Fatalf("a is told %+v", w.seen["a/1"])
	}
	w.claim("a/1", i.Kind)
	if _, ok := find[YieldTo](w.seen["b/1"]); !ok {
		t.Fatalf("b is told %+v", w.seen["b/1"])
	}
}

func TestAnOwnerWhoseLogLagsIsNotRelievedForAMaintenanceThatIsOver(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	clear(w.seen)
	w.run("b/1", w.nodes["b/1"].Resign(w.now, "G", "in maintenance", true, "", 2*standingSpan))
	if _, told := find[NobodyTakes](w.seen["b/1"]); !told {
		t.Errorf("b is told %+v", w.seen["b/1"])
	}
	w.index++
	if _, err := w.log.Apply(w.index, fsm.Command{Maintenance: &fsm.Maintenance{Node: "b", On: true}}); err != nil {
		t.Fatal(err)
	}
	w.run("b/1", w.nodes["b/1"].Resign(w.now, "G", "in maintenance", true, "", 2*standingSpan))
	if _, told := find[Invited](w.seen["a/1"]); !told {
		t.Errorf("a is told %+v", w.seen["a/1"])
	}
}

// find returns the first action of a kind.
func find[A Action](actions []Action) (found A, ok bool) {
	for _, a := range actions {
		if found, ok = a.(A); ok {
			return found, true
		}
	}
	return found, false
}

func TestAnOwnerThatNobodyRelievesIsTold(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	clear(w.seen)
	w.run("b/1", w.nodes["b/1"].Resign(w.now, "G", "shutting down", false, "", 2*standingSpan))
	w.pass(standingSpan + D) // a is invited and does not come
	if _, ok := find[NobodyTakes](w.seen["b/1"]); !ok {
		t.Fatalf("b is told %+v", w.seen["b/1"])
	}
	w.mustHold("b/1", true)
}

func TestAGroupThatAnOperatorMovedIsNotPreempted(t *testing.T) {
	w := newWorld(t)
	w.claim("a/1", MasterDown)
	actions, err := w.nodes["a/1"].Move(w.now, "G", "b/1", "test")
	if err != nil {
		t.Fatal(err)
	}
	w.run("a/1", actions)
	w.claim("b/1", Move)
	w.run("a/1", w.nodes["a/1"].Release(w.now, "G", 1, "moved"))
	w.mustHold("b/1", true)
	w.claim("a/1", Preempt)
	w.pass(3 * D)
	w.mustHold("b/1", true)
	w.run("a/1", w.nodes["a/1"].Unclaim(w.now, "G"))
	w.claim("a/1", Move)
	w.run("b/1", w.nodes["b/1"].Release(w.now, "G", 2, "moved"))
	w.mustHold("a/1", true)
}

func TestWhatAnEarlierLifeOwnedIsReleasedAtTheStart(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.boot("b/1", 50, promiseSpan(D, 0))
	w.run("b/1", w.nodes["b/1"].Step(w.now, Leads{Member: "a/1", Term: 99}))
	w.run("b/1", w.nodes["b/1"].ReleaseEarlierLives(w.now, []string{"G"}))
	want(t, "released", w.log.Released("G"), 1)
	w.claim("a/1", MasterDown)
	w.mustHold("a/1", true)
}

func TestARereleaseIsNotRepeatedOnceItIsAnsweredThoughTheOwnLogLags(t *testing.T) {
	w := newWorld(t)
	lagging := fsm.New() // b's grant is in it, its release is not yet
	if _, err := lagging.Apply(1, fsm.Command{Grant: &fsm.Grant{Group: "G", Member: "b/1", Epoch: 7, Life: 2}}); err != nil {
		t.Fatal(err)
	}
	n := NewNode(w.now, Config{Self: "b/1", Life: 50, Duration: D}, lagging)
	voters := Configuration{Index: 1, Voters: []Member{"a/1", "b/1", "w/1"}}
	n.Step(w.now, Configured{Committed: voters, Latest: voters})
	n.Step(w.now, Leads{Member: "a/1", Term: 99})
	if len(n.ReleaseEarlierLives(w.now, []string{"G"})) == 0 {
		t.Fatal("nothing was released")
	}
	n.Step(w.now, Received{From: "a/1", Message: Message{FromLife: 1, Released: &Released{Group: "G", Epoch: 7}}})
	want(t, "settled", n.Settled(), true)
	if again := n.ReleaseEarlierLives(w.now, []string{"G"}); len(again) > 0 {
		t.Errorf("released again: %+v", again)
	}
	if _, err := lagging.Apply(2, fsm.Command{Release: &fsm.Release{Group: "G", Member: "b/1", Epoch: 7, Life: 2}}); err != nil {
		t.Fatal(err)
	}
	n.Step(w.now, Applied{})
	want(t, "still remembered", len(n.releases), 0)
}

func TestALateClaimOfAnEarlierLifeDoesNotTakeTheGroupFromTheNewOne(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.run("a/1", w.nodes["a/1"].Step(w.now, Received{From: "b/1", Message: Message{FromLife: 77,
		Claim: &Claim{Group: "G", ID: 1, Kind: MasterDown, Promise: promiseSpan(D, 0)}}}))
	want(t, "epoch", w.log.Epoch("G"), 1)
	w.pass(3 * D)
	w.mustHold("b/1", true)
}

func TestNothingIsReleasedWhileAnOlderEpochMayBeVisible(t *testing.T) {
	w := newWorld(t)
	w.claim("b/1", MasterDown)
	w.index++
	if _, err := w.log.Apply(w.index, fsm.Command{Grant: &fsm.Grant{Group: "G", Member: "b/1", Epoch: 9, Life: 77}}); err != nil {
		t.Fatal(err)
	}
	b := w.nodes["b/1"]
	release := func(when string, released bool) {
		t.Helper()
		w.run("b/1", b.ReleaseEarlierLives(w.now, []string{"G"}))
		want(t, "released "+when, w.log.Released("G") == 9, released)
	}
	release("while epoch 1 is held", false)
	w.lost = func(Member, Member, Message) bool { return true }
	w.pass(2 * D)
	w.mustHold("b/1", false)
	w.lost = func(Member, Member, Message) bool { return false }
	release("while nobody has said that epoch 1 is invisible", false)
	w.run("b/1", b.Release(w.now, "G", 1, "test"))
	release("then", true)
}

func TestAGrantIsUsedThoughTheLeaderHasGoneBeforeItAnswers(t *testing.T) {
	w := newWorld(t)
	w.lost = func(_, _ Member, m Message) bool { return m.ClaimReply != nil }
	w.claim("b/1", MasterDown)
	w.mustHold("b/1", true)
}

func TestAMessageIsDecodedOnlyIfItHasOneContent(t *testing.T) {
	for _, bad := range []string{"", "{", "null", "{}", `{"Ping":{"Sent":1},"Waive":{"Group":"G","Epoch":1}}`, "[1]"} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%q is decoded", bad)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(Message{FromLife: 3, Ping: &Ping{Sent: 5}}.Encode())
	f.Add(Message{FromLife: 3, ToLife: 1, Renew: &Renew{Round: 1, Promise: D, Groups: []RenewGroup{{Group: "G", Epoch: 1}}}}.Encode())
	f.Add(Message{FromLife: 3, Claim: &Claim{Group: "G", ID: 1, Kind: MasterDown}}.Encode())
	f.Add(Message{FromLife: 3, Release: &Release{Group: "G", Epoch: 1}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		w := newWorld(t)
		w.claim("a/1", MasterDown)
		w.nodes["a/1"].Step(w.now, Received{From: "b/1", Message: m})
		w.nodes["a/1"].Tick(w.now.Add(D / 4))
	})
}

// two gives both directors a group of their own that has the same address, as files do that call one instance by two names.
func two(w *world) {
	for m, group := range map[Member]string{"a/1": "G", "b/1": "H"} {
		w.run(m, w.nodes[m].Cover(w.now, group, []netip.Addr{shared}))
	}
}

var shared = netip.MustParseAddr("10.0.0.1")

func (w *world) has(m Member, group string) bool {
	_, held := w.nodes[m].Held(w.now, group)
	return held
}

// voiced returns why a claim of a group was not granted.
func (w *world) voiced(m Member, group string) (reason string) {
	for _, a := range w.seen[m] {
		if r, ok := a.(ClaimRefused); ok && r.Group == group {
			reason = r.Reason
		}
	}
	return reason
}

func TestA1AnAddressIsNotLeasedInTwoGroups(t *testing.T) {
	w := newWorld(t)
	two(w)
	w.claim("a/1", MasterDown)
	w.mustHold("a/1", true)
	w.run("b/1", w.nodes["b/1"].Claim(w.now, "H", MasterDown, "test"))
	w.pass(3 * D)
	want(t, "H is held by b", w.has("b/1", "H"), false)
	want(t, "why", w.voiced("b/1", "H"), "a has 10.0.0.1 in its group G")
	w.mustHold("a/1", true)

	w.run("a/1", w.nodes["a/1"].Release(w.now, "G", 1, "test"))
	w.pass(D / 2)
	want(t, "H is held by b", w.has("b/1", "H"), true)
}

func TestA1AVoterThatHasClearedAnAddressRenewsItForNobodyElse(t *testing.T) {
	w := newWorld(t)
	with := func(m *Message) {
		if m.Clear != nil {
			m.Clear.Group, m.Clear.Addresses = "H", []netip.Addr{shared}
		} else {
			m.Renew.Groups[0].Addresses = []netip.Addr{shared}
		}
	}
	want(t, "clearance", w.clear("b/1", "w/1", 1, with), "")
	want(t, "renewal", w.renew("a/1", "w/1", 5, with), RefusedAddress)
	want(t, "renewal by the one who was cleared", w.renew("b/1", "w/1", 5, with), "")
	w.now = w.now.Add(promiseSpan(D, 0))
	want(t, "renewal once the promise is over", w.renew("a/1", "w/1", 6, with), "")
	want(t, "another clearance", w.clear("b/1", "w/1", 2, with), RefusedAddress)
}

func TestA1AnAddressStaysPromisedThoughTheOwnerNamesItNoMore(t *testing.T) {
	w := newWorld(t)
	with := func(m *Message) { m.Renew.Groups[0].Addresses = []netip.Addr{shared} }
	inH := func(m *Message) { m.Clear.Group, m.Clear.Addresses = "H", []netip.Addr{shared} }
	want(t, "renewal", w.renew("a/1", "w/1", 1, with), "")
	w.now = w.now.Add(D / 2)
	want(t, "renewal without the address", w.renew("a/1", "w/1", 1), "")
	want(t, "clearance", w.clear("b/1", "w/1", 1, inH), RefusedAddress)
	w.now = w.now.Add(promiseSpan(D, 0) - D/2)
	want(t, "clearance once the promise is over", w.clear("b/1", "w/1", 1, inH), "")
}

func TestA1AnAddressIsAddedToALeaseOnceAMajorityHasPromisedItTwice(t *testing.T) {
	w := newWorld(t)
	w.claim("a/1", MasterDown)
	w.mustHold("a/1", true)
	rounds := map[uint64]int{}
	w.lost = func(_, _ Member, m Message) bool {
		if m.Renew != nil && len(m.Renew.Groups[0].Adding) > 0 {
			rounds[m.Renew.Round]++
		}
		return false
	}
	w.run("a/1", w.nodes["a/1"].Cover(w.now, "G", []netip.Addr{shared}))
	want(t, "covered before anybody was asked", w.nodes["a/1"].Covers("G"), false)
	w.pass(D / 4)
	want(t, "covered", w.nodes["a/1"].Covers("G"), true)
	want(t, "rounds", len(rounds), 2)
}

func TestA1AnAddressThatSomebodyElseHasIsNotAdded(t *testing.T) {
	w := newWorld(t)
	w.run("b/1", w.nodes["b/1"].Cover(w.now, "H", []netip.Addr{shared}))
	w.run("b/1", w.nodes["b/1"].Claim(w.now, "H", MasterDown, "test"))
	w.claim("a/1", MasterDown)
	w.run("a/1", w.nodes["a/1"].Cover(w.now, "G", []netip.Addr{shared}))
	w.pass(4 * D)
	want(t, "covered", w.nodes["a/1"].Covers("G"), false)
	w.mustHold("a/1", true)
	told := Contested{}
	for _, a := range w.seen["a/1"] {
		if c, ok := a.(Contested); ok {
			told = c
		}
	}
	want(t, "told", told.String(), "b has 10.0.0.1 in its group H")

	w.run("b/1", w.nodes["b/1"].Cover(w.now, "H", nil)) // its file has lost it
	w.pass(2 * D)
	want(t, "covered", w.nodes["a/1"].Covers("G"), true)
	w.mustHold("a/1", true)
	want(t, "H is held by b", w.has("b/1", "H"), true)
}

func TestA1AVoterThatHasJustStartedAddsNothing(t *testing.T) {
	w := newWorld(t)
	w.boot("w/1", 9, promiseSpan(D, 0))
	var answer RenewAnswer
	rounds++
	answer = w.send("a/1", "w/1", Message{FromLife: 77, ToLife: 9, Renew: &Renew{Round: rounds, Configuration: 1, Promise: promiseSpan(D, 0),
		Groups: []RenewGroup{{Group: "G", Epoch: 1, Adding: []netip.Addr{shared}}}}}).RenewReply.Groups[0]
	want(t, "refused", answer.Refused, "")
	want(t, "withheld", answer.Withheld, true)
}

func TestA1AClaimIsMadeAnewForOtherAddresses(t *testing.T) {
	w := newWorld(t)
	w.holdLog = true
	w.claim("a/1", MasterDown)
	w.run("a/1", w.nodes["a/1"].Cover(w.now, "G", []netip.Addr{shared}))
	w.commitHeld() // the grant for what was cleared before
	want(t, "released", w.log.Released("G"), 1)
	w.pass(D / 2)
	w.mustHold("a/1", true)
	want(t, "clearance of the address for somebody else", w.clear("b/1", "w/1", 9, func(m *Message) {
		m.Clear.Group, m.Clear.Addresses = "H", []netip.Addr{shared}
	}), RefusedAddress)
}

func TestAFirstRenewalThatOvertakesTheWordOfTheLastHolderIsRepeatedSoon(t *testing.T) {
	w := newWorld(t)
	w.lost = func(_, to Member, _ Message) bool { return to == "w/1" }
	w.claim("a/1", MasterDown)
	w.run("a/1", w.nodes["a/1"].Release(w.now, "G", 1, "test")) // epoch 1 has been
	want(t, "the last holder's renewal", w.renew("b/1", "w/1", 1), "")
	w.lost = func(from, _ Member, m Message) bool { return from == "b/1" && m.RenewReply != nil } // so that w is needed
	w.claim("a/1", MasterDown)
	w.mustHold("a/1", false)
	w.run("w/1", w.nodes["w/1"].Step(w.now, Received{From: "b/1", Message: Message{FromLife: 77, Waive: &Waive{Group: "G", Epoch: 1, Life: 77}}}))
	w.pass(2 * shortestInterval)
	w.mustHold("a/1", true)
}
