package director

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

func TestNothingIsVisibleBeforeTheGuardIsArmed(t *testing.T) {
	b := start(t, "x")
	b.trace = nil
	b.pass(4 * time.Second)
	b.mustTell("claim x, arm x, advert x, take x, announce x, active x")
}

func TestAGuardThatCannotBeArmedKeepsTheGroupInvisible(t *testing.T) {
	b := start(t, "x")
	b.armFails = "test"
	b.trace = nil
	b.pass(4 * time.Second)
	b.mustBe("x", false)
	b.mustNot("advert x", "take x", "announce x", "active x")
	if b.log.Released("x") == 0 {
		t.Fatal("the epoch was not released")
	}
}

func TestAGuardThatCannotBeExtendedEndsTheLease(t *testing.T) {
	b := owner(t, "x")
	b.armFails, b.noGrants = "test", true
	b.pass(D / 4)
	b.mustBe("x", false)
	b.mustTell("advert x, shut x, drop x, backup x, confirm x, waive x, release x")
}

func TestEverythingThatMakesVisibleEndsWithTheLease(t *testing.T) {
	b := start(t, "x")
	b.pass(4 * time.Second)
	until, held := b.m.node.Held(b.now, "x")
	if !held {
		t.Fatal("the group is not held")
	}
	for _, a := range b.trace {
		notAfter := until // the last deadline is the latest
		switch a := a.(type) {
		case SendAdvert:
			notAfter = a.NotAfter
		case TakeAddresses:
			notAfter = a.NotAfter
		case Announce:
			notAfter = a.NotAfter
		}
		if notAfter == 0 || notAfter > until {
			t.Fatalf("%+v may be carried out until %d, and the lease ends at %d", a, notAfter, until)
		}
	}
}

func TestALeaseThatIsHandedOverIsReleasedWhenNothingIsVisibleAnyMore(t *testing.T) {
	b := owner(t, "x")
	b.receive(leader, lease.Message{Yield: &lease.Yield{Group: "x", Epoch: 1, To: standby, Reason: "test"}})
	b.mustTell("shut x, drop x, backup x, confirm x, waive x, release x")
}

func TestNothingIsReleasedWhileAnythingMayBeVisible(t *testing.T) {
	b := owner(t, "x")
	b.stuck = true
	b.receive(leader, lease.Message{Yield: &lease.Yield{Group: "x", Epoch: 1, To: standby, Reason: "test"}})
	b.pass(5 * D)
	b.mustNot("waive x", "release x", "claim x")
	if b.log.Released("x") != 0 {
		t.Fatal("the epoch is released")
	}
	b.stuck = false
	b.step(Tick{})
	if b.log.Released("x") != 1 {
		t.Fatal("the epoch is not released")
	}
}

func TestALeaseThatLapsesIsGoneForGood(t *testing.T) {
	b := owner(t, "x")
	b.deaf, b.noGrants = true, true
	b.pass(D)
	b.mustBe("x", false)
	b.mustTell("advert x, shut x, drop x, backup x, confirm x, waive x, release x")
	b.trace = nil
	b.step(GuardDone{Group: "x", Epoch: 1}) // of an arming that took long
	b.step(Invisible{Group: "x", Epoch: 1})
	b.mustBe("x", false)
	b.mustTell("")
}

func TestNoGuardIsArmedForALeaseThatIsBeingLeft(t *testing.T) {
	b := owner(t, "x")
	b.stuck = true
	b.step(AddressesFailed{Instance: "x", Reason: "test"}) // the lease itself goes on until it is released
	b.trace = nil
	b.pass(3 * D)
	for _, a := range b.trace {
		if arm, ok := a.(GuardArm); ok {
			t.Fatalf("armed: %+v", arm)
		}
	}
}

func TestAnOwnerIsInvisibleBeforeItAcknowledgesANewerEpoch(t *testing.T) {
	b := owner(t, "x")
	b.noGrants = true
	b.receive(self, lease.Message{Waive: &lease.Waive{Group: "x", Epoch: 1, Life: myLife}}) // lets its voter help another
	b.receive(standby, lease.Message{Renew: &lease.Renew{Round: 1, Configuration: 1, Promise: D,
		Groups: []lease.RenewGroup{{Group: "x", Epoch: 2, First: true}}}})
	b.mustTell("shut x, drop x, backup x, acknowledge, confirm x, waive x, release x")
}

func TestAnEarlierLifesEpochIsReleasedOnceThisLifeHasBegun(t *testing.T) {
	b := newBench(t, true, "x")
	b.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: self, Epoch: 5, Life: 3}})
	b.step(lease.Configured{Committed: voters, Latest: voters})
	b.step(lease.Leads{Member: leader, Term: 1})
	b.step(lease.Applied{Index: 1})
	b.mustTell("")
	b.step(Start{})
	b.mustTell("backup x, waive x, release x")
}

func TestAPriorityZeroAdvertisementFollowsTheAddressesWhenALeaseDecides(t *testing.T) {
	b := owner(t, "x")
	b.nobody = true
	b.step(Shutdown{})
	b.mustTell("give x, shut x, drop x, resign x, initialize x, confirm x, waive x, release x, stopped")
}

func TestAPriorityZeroAdvertisementComesFirstWithoutALease(t *testing.T) {
	b := newBench(t, false, "x")
	b.step(Start{})
	b.pass(4 * time.Second)
	b.mustTell("backup x, advert x, take x, announce x, active x")
	b.trace = nil
	b.step(Shutdown{})
	b.mustTell("resign x, drop x, initialize x, stopped")
}

func TestTheMembersOfASyncGroupBecomeActiveTogether(t *testing.T) {
	b := start(t, "x+y")
	b.trace = nil
	b.pass(2 * time.Second)
	b.advert("y", 200) // y has somebody to wait for
	b.pass(1500 * time.Millisecond)
	b.mustTell("")
	b.pass(3 * time.Second)
	b.mustTell("claim x+y, arm x+y, advert x, take x, announce x, active x, advert y, take y, announce y, active y")
}

func TestTheMembersOfASyncGroupLeaveTogether(t *testing.T) {
	b := owner(t, "x+y")
	b.noGrants = true
	b.pass(2 * D) // adverts of others may have been under way at first
	b.trace = nil
	b.advert("y", 200) // a stranger, who needs no lease
	b.mustBe("x+y", false)
	b.mustTell("shut x+y, drop y, backup y, shut x+y, drop x, backup x, confirm x+y, waive x+y, release x+y")
}

// alone is a machine without a cluster whose only group is Active.
func alone(t *testing.T, group string) *bench {
	b := newBench(t, false, group)
	b.step(Start{})
	b.pass(8 * time.Second)
	for _, i := range b.m.byName[group].instances {
		if i.state.Status != vrrp.Active {
			t.Fatalf("%s is %v", i.cfg.Name, i.state.Status)
		}
	}
	b.trace = nil
	return b
}

// A director without a cluster has no lease and no voters, whatever happens.
func TestWhatHappensToADirectorAlone(t *testing.T) {
	from := netip.MustParseAddr("10.0.0.9")
	for name, test := range map[string]struct {
		happens Event
		tells   string // before 8 s are over; empty: it stays Active
	}{
		"a higher advertisement": {Advert{Instance: "x", From: from, Priority: 254, Interval: time.Second}, "drop x, backup x, advert x, take x, announce x, active x"},
		"a lower advertisement":  {Advert{Instance: "x", From: from, Priority: 1, Interval: time.Second}, ""},
		"a resignation":          {Advert{Instance: "x", From: from, Interval: time.Second}, ""},
		"another address":        {Source{Instance: "x", Address: from}, ""},
		"another priority":       {Priority{Instance: "x", Priority: 7}, ""},
		"a link":                 {LinkUp{Instance: "x"}, ""},
		"somebody's claim":       {Competitor{Instance: "x", Address: netip.MustParseAddr("10.77.0.100"), Hardware: "02:00:00:00:00:02"}, ""},
		"sight of a gateway":     {Sight{}, ""},
		"hardware":               {Hardware{}, ""},
		"a minute":               {Minute{}, ""},
		"an answer":              {Looked{Group: "x", Others: []Other{{Hardware: "02:00:00:00:00:02"}}}, ""},
		"no address":             {AddressesGone{Instance: "x", Reason: "test"}, "resign x, drop x, backup x, advert x, take x, announce x, active x"},
		"a fault":                {Fault{Instance: "x", Cause: "test"}, "resign x, drop x, fault x"},
	} {
		t.Run(name, func(t *testing.T) {
			b := alone(t, "x")
			b.step(test.happens)
			b.pass(8 * time.Second)
			told := strings.Join(slices.DeleteFunc(strings.Split(b.story(), ", "), func(s string) bool {
				return test.tells == "" && (s == "advert x" || s == "announce x")
			}), ", ")
			if test.tells == "" && told != "" || !strings.HasPrefix(told, test.tells) {
				t.Errorf("it tells %q, want %q", told, test.tells)
			}
		})
	}
}

func TestEveryMemberOfASyncGroupResigns(t *testing.T) {
	b := alone(t, "x+y")
	b.step(Fault{Instance: "y", Cause: "test"})
	b.mustTell("resign y, drop y, fault y, resign x, drop x, fault x")
	b.trace = nil
	b.step(Fault{Instance: "y", Cause: "test", Gone: true})
	b.mustTell("backup y, backup x")

	b = alone(t, "x+y")
	b.step(Shutdown{})
	b.mustTell("resign x, drop x, initialize x, resign y, drop y, initialize y, stopped")

	b = owner(t, "x+y")
	b.nobody = true
	b.step(Shutdown{})
	if got := strings.Count(b.story(), "resign x") + strings.Count(b.story(), "resign y"); got != 2 {
		t.Errorf("a member did not resign: %s", b.story())
	}
}

func TestASyncGroupThatLostAnAddressComesBackAfterTheSkewTime(t *testing.T) {
	b := alone(t, "x+y")
	b.step(AddressesGone{Instance: "y", Reason: "test"})
	b.mustTell("resign y, drop y, backup y, resign x, drop x, backup x")
	b.trace = nil
	b.pass(time.Second)
	for _, i := range b.m.byName["x+y"].instances {
		if i.state.Status != vrrp.Active {
			t.Errorf("%s is %v after a second", i.cfg.Name, i.state.Status)
		}
	}
}

func TestTheMemberThatWishedLastBecomesActiveFirst(t *testing.T) {
	b := newBench(t, false, "x+y")
	b.step(Start{})
	b.pass(2 * time.Second)
	b.advert("y", 200) // y has somebody to wait for, and x has wished by then
	b.trace = nil
	b.pass(4 * time.Second)
	if want := "advert y, take y, announce y, active y, advert x"; !strings.HasPrefix(b.story(), want) {
		t.Errorf("got %s, want %s first", b.story(), want)
	}
}

func TestAFaultThatIsThereAtTheStartIsTheFirstThatIsHeard(t *testing.T) {
	b := newBench(t, false, "x+y")
	b.step(Fault{Instance: "y", Cause: "waiting", Silent: true})
	b.step(Start{})
	for _, a := range b.trace {
		if tr, ok := a.(Transition); ok && !tr.Silent {
			t.Fatalf("somebody heard of a fault that may be none: %+v", tr)
		}
	}
	b.trace = nil
	b.step(Fault{Instance: "y", Cause: "failed"})
	b.step(Fault{Instance: "y", Cause: "waiting", Gone: true})
	b.mustTell("fault y, fault x")
	b.trace = nil
	b.step(Fault{Instance: "y", Cause: "failed", Gone: true})
	b.mustTell("backup y, backup x")
}

func TestASyncGroupOneOfWhoseMembersCannotBeActiveIsGivenBack(t *testing.T) {
	b := start(t, "x+y")
	b.noGrants = true
	b.pass(4 * time.Second)
	b.m.instances["y"].state = vrrp.State{} // not to be reached by events
	b.noGrants = false
	b.pass(D / 16)
	b.mustBe("x+y", false)
	if b.log.Epoch("x+y") == 0 || b.log.Released("x+y") != b.log.Epoch("x+y") {
		t.Fatalf("granted %d, released %d", b.log.Epoch("x+y"), b.log.Released("x+y"))
	}
}

func TestAFaultEndsAClaim(t *testing.T) {
	b := start(t, "x")
	b.noGrants = true
	b.pass(4 * time.Second)
	b.step(Fault{Instance: "x", Cause: "test"})
	b.trace = nil
	b.pass(2 * D)
	b.mustTell("")
	b.noGrants = false
	b.step(Fault{Instance: "x", Cause: "test", Gone: true})
	b.pass(4 * time.Second)
	b.mustBe("x", true)
}

func TestAGrantThatIsNotWantedAnyMoreIsGivenBack(t *testing.T) {
	b := start(t, "x")
	b.noGrants = true
	b.pass(4 * time.Second)
	id := b.m.node.Holding("x")
	if !id.Claiming {
		t.Fatal("x is not claimed")
	}
	b.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: self, Epoch: 1, ClaimID: 1, Life: uint64(myLife)}})
	b.step(Fault{Instance: "x", Cause: "test"})
	b.trace = nil
	b.receive(leader, lease.Message{ClaimReply: &lease.ClaimReply{Group: "x", ID: 1, Epoch: 1}})
	b.mustTell("waive x, release x")
}

func TestAnOwnerWithAFaultStaysUntilSomebodyTakesTheGroup(t *testing.T) {
	b := owner(t, "x")
	b.step(Fault{Instance: "x", Cause: "test"})
	b.mustTell("give x")
	b.mustBe("x", true)
	b.receive(leader, lease.Message{Yield: &lease.Yield{Group: "x", Epoch: 1, To: standby, Reason: "test"}})
	b.mustTell("give x, shut x, drop x, backup x, confirm x, waive x, release x, fault x")
}

func TestAnOwnerWithAFaultGoesAllTheSameWhenNobodyTakesTheGroup(t *testing.T) {
	b := owner(t, "x")
	b.nobody = true
	b.step(Fault{Instance: "x", Cause: "test"})
	b.mustTell("give x, shut x, drop x, resign x, fault x, confirm x, waive x, release x")
}

func TestAnInstanceWhoseFaultIsGoneBeforeItHasLeftRecovers(t *testing.T) {
	b := owner(t, "x")
	b.nobody, b.stuck = true, true
	b.step(Fault{Instance: "x", Cause: "test"})
	b.step(Fault{Instance: "x", Cause: "test", Gone: true})
	b.stuck = false
	b.pass(10 * time.Second)
	b.mustBe("x", true)
}

func TestAShutdownEndsWhenTheClusterKnows(t *testing.T) {
	b := owner(t, "x")
	b.step(Shutdown{})
	b.mustTell("give x")
	b.mustBe("x", true)
	b.receive(leader, lease.Message{Yield: &lease.Yield{Group: "x", Epoch: 1, To: standby, Reason: "test"}})
	b.mustTell("give x, shut x, drop x, backup x, confirm x, waive x, release x, initialize x, stopped")
}

func TestAShutdownDoesNotWaitForEver(t *testing.T) {
	b := owner(t, "x")
	b.stuck = true
	b.step(Shutdown{})
	b.pass(2 * D)
	b.mustNot("release x", "waive x")
	if last := b.trace[len(b.trace)-1]; last != (Stopped{}) {
		t.Fatalf("last: %+v", last)
	}
}

func TestAShutdownAsksAgainForASuccessorThatMaintenanceDidNotFind(t *testing.T) {
	b := owner(t, "x")
	b.nobody = true
	b.apply(fsm.Command{Maintenance: &fsm.Maintenance{Node: self.Node(), On: true}})
	b.step(lease.Applied{Index: b.index})
	b.mustTell("give x")
	b.mustBe("x", true)
	b.trace = nil
	b.step(Shutdown{})
	b.mustTell("give x, shut x, drop x, resign x, initialize x, confirm x, waive x, release x, stopped")
}

func TestAMaintenanceThatNobodyRelievesFillsNoJournal(t *testing.T) {
	b := owner(t, "x")
	b.nobody = true
	b.apply(fsm.Command{Maintenance: &fsm.Maintenance{Node: self.Node(), On: true}})
	b.step(lease.Applied{Index: b.index})
	b.pass(time.Minute)
	b.mustBe("x", true)
	if n := b.journal("maintenance"); n != 1 {
		t.Fatalf("%d entries in a minute", n)
	}
}

func TestRefusalsThatAlternateFillNoJournal(t *testing.T) {
	b := start(t, "x")
	b.noGrants = true
	b.pass(4 * time.Second)
	b.trace = nil
	for range 50 {
		for _, reason := range []string{"b holds it", "a claim of c is being served"} {
			id := uint64(0)
			for _, a := range b.trace {
				if s, ok := a.(lease.Send); ok && s.Message.Claim != nil {
					id = s.Message.Claim.ID
				}
			}
			b.receive(leader, lease.Message{ClaimReply: &lease.ClaimReply{Group: "x", ID: id, Refused: reason}})
			b.pass(D / 16)
		}
	}
	if v, _ := b.m.Group("x"); v.Refusal.Reason == "" {
		t.Fatal("no refusal is shown")
	}
	if n := b.journal("claim"); n != 2 {
		t.Fatalf("%d entries", n)
	}
}

func TestTheGuardsRulesComeBackOpenForWhatIsHeldAlone(t *testing.T) {
	b := start(t, "x", "y")
	b.noGrants = true
	b.pass(4 * time.Second)
	b.noGrants = false
	b.step(Fault{Instance: "y", Cause: "test"})
	b.pass(D / 8)
	b.mustBe("x", true)
	b.trace = nil
	b.step(GuardGone{Reason: "test"})
	until, _ := b.m.node.Held(b.now, "x")
	for _, a := range b.trace {
		if r, ok := a.(GuardRestore); ok {
			want := GuardArm{Group: "x", Epoch: 1, Until: until, First: true}
			if len(r.Open) != 1 || r.Open[0] != want {
				t.Fatalf("open: %+v, want %+v", r.Open, want)
			}
		}
	}
	b.mustBe("x", true)
	b.mustTell("")
}

func TestAGuardThatIsGoneAgainAndAgainFillsNoJournal(t *testing.T) {
	b := owner(t, "x")
	for range 100 {
		b.step(GuardGone{Reason: "test"})
	}
	if n := b.journal("guard"); n != 1 {
		t.Fatalf("%d entries", n)
	}
}

func TestADirectorThatCannotAddAddressesLeavesTheGroupToOthersForAWhile(t *testing.T) {
	b := start(t, "x")
	b.takeFails = "test"
	b.pass(10 * time.Minute)
	b.mustBe("x", false)
	if epochs := b.log.Epoch("x"); epochs < 5 || epochs > 20 {
		t.Fatalf("granted %d times in ten minutes", epochs)
	}
	if why := b.m.whyNot(b.m.byName["x"]); why == "" {
		t.Fatal("it still says that it can own the group")
	}
	b.takeFails = ""
	b.pass(2 * time.Minute)
	b.mustBe("x", true)
}

func TestAddressesThatSomebodyRemovedComeBackWithTheLeasesLimit(t *testing.T) {
	b := owner(t, "x")
	b.step(AddressesGone{Instance: "x", Reason: "test"})
	b.mustTell("take x, announce x")
	b.mustBe("x", true)
}

func TestALeaseThatLapsesWhileAnotherGroupIsClaimedIsLeftInTheSameStep(t *testing.T) {
	b := start(t, "x", "y")
	b.noGrants = true
	b.pass(4 * time.Second)
	b.noGrants = false
	b.step(Fault{Instance: "y", Cause: "test"})
	b.pass(D / 8)
	b.mustBe("x", true)
	b.noGrants = true
	b.step(Fault{Instance: "y", Cause: "test", Gone: true})
	b.pass(4 * time.Second)
	b.trace = nil
	b.now = b.now.Add(2 * D) // the loop was held up
	b.advert("y", 200)       // ends y's claim
	b.mustBe("x", false)
	if b.log.Released("x") != 1 {
		t.Fatalf("not released: %s", b.story())
	}
}

func TestAnOwnerAnnouncesItsAddressesAgainWhenItsLinkComesBack(t *testing.T) {
	b := owner(t, "x")
	b.step(LinkUp{Instance: "x"})
	if !strings.Contains(b.story(), "announce x") {
		t.Errorf("after the link came back: %s", b.story())
	}
}

func TestAnOwnerAsksTheVotersAtOnceWhenSomebodyElseActsForItsGroup(t *testing.T) {
	for name, ev := range map[string]Event{
		"an advertisement": Advert{Instance: "x", From: netip.MustParseAddr("10.77.0.2"), Priority: 50, Interval: time.Second},
		"a claim":          Competitor{Instance: "x", Address: netip.MustParseAddr("10.77.0.100"), Hardware: "02:00:00:00:00:02"},
	} {
		b := owner(t, "x")
		b.pass(D / 8) // the next round is due in as much again
		b.trace = nil
		b.step(ev)
		others := len(voters.Voters) - 1
		if got := b.renewals(); got != others {
			t.Errorf("%s: %d of %d other voters were asked: %s", name, got, others, b.story())
		}
		for range 10 {
			b.step(ev)
		}
		if got := b.renewals(); got != others {
			t.Errorf("%s that comes again and again: %d renewals at one instant", name, got)
		}
	}
}

func TestADefenceOfAnAddressIsNotRepeatedAtOnce(t *testing.T) {
	b := owner(t, "x")
	for range 100 {
		b.step(Competitor{Instance: "x"})
		b.pass(2 * time.Millisecond)
	}
	if n := b.journal("stranger"); n != 1 {
		t.Fatalf("%d entries", n)
	}
	announced := 0
	for _, a := range b.trace {
		if _, ok := a.(Announce); ok {
			announced++
		}
	}
	if announced != 1 {
		t.Fatalf("announced %d times: %s", announced, b.story())
	}
}

func TestAnAddressIsNotDefendedAgainstARouterThatRightlyTakesOver(t *testing.T) {
	b := owner(t, "x")
	b.pass(10 * time.Second)
	b.trace = nil
	b.step(Competitor{Instance: "x"}) // its advertisement is on the way
	b.pass(competitorPatience / 2)
	b.advert("x", 200)
	b.mustBe("x", false)
	b.pass(2 * competitorPatience)
	b.mustNot("announce x")
}

func TestAnInvitationIsForgottenWhenNothingComesOfIt(t *testing.T) {
	b := start(t, "x")
	b.noGrants = true
	b.advert("x", 200)
	b.receive(leader, lease.Message{Invite: &lease.Invite{Group: "x", Kind: lease.Handover, Reason: "test"}})
	if v, _ := b.m.Group("x"); v.Claiming != lease.Handover {
		t.Fatalf("claims %q", v.Claiming)
	}
	b.pass(D)
	if v, _ := b.m.Group("x"); v.Claiming != "" {
		t.Fatalf("claims %q", v.Claiming)
	}
}

func TestEventsOfWhatIsNotConfiguredChangeNothing(t *testing.T) {
	b := owner(t, "x")
	for _, ev := range []Event{Advert{Instance: "z"}, Fault{Instance: "z", Cause: "test"}, Priority{Instance: "z"},
		Source{Instance: "z"}, LinkUp{Instance: "z"}, Competitor{Instance: "z"}, AddressesGone{Instance: "z"},
		AddressesFailed{Instance: "z"}, GuardDone{Group: "z"}, Invisible{Group: "z"}, GuardDone{Group: "x", Epoch: 9},
		Invisible{Group: "x", Epoch: 1}} {
		b.step(ev)
	}
	b.mustTell("")
	b.mustBe("x", true)
}

// The kernel takes a while for the addresses of each: with hundreds of them those that became Active first would be silent
// for longer than others wait.
func TestWhoTakesOverManyRoutersAdvertisesMeanwhile(t *testing.T) {
	names := strings.Fields("a b c d e f g h")
	b := newBench(t, false, names...)
	b.step(Start{})
	b.now = b.m.Deadline()
	spoke := map[string]clock.Time{}
	for range 4 * len(names) {
		b.trace = nil
		b.step(Tick{})
		taken := 0
		for _, a := range b.trace {
			switch a := a.(type) {
			case TakeAddresses:
				taken++
			case SendAdvert:
				if before, ok := spoke[a.Instance]; ok && b.now.Sub(before) > 1200*time.Millisecond {
					t.Errorf("%s was silent for %v", a.Instance, b.now.Sub(before))
				}
				spoke[a.Instance] = b.now
			}
		}
		if taken > 1 {
			t.Fatalf("%d become visible in one tick", taken)
		}
		b.now = b.now.Add(200 * time.Millisecond)
	}
	for _, name := range names {
		b.mustBe(name, true)
	}
}

func TestAnAdvertisementPutsOffTheDeadline(t *testing.T) {
	b := newBench(t, false, "a", "b")
	b.step(Start{})
	b.pass(3 * time.Second)
	for _, name := range []string{"a", "b"} {
		b.advert(name, 200)
		b.pass(time.Second)
	}
	if at := b.m.Deadline(); at.Sub(b.now) < 1500*time.Millisecond {
		t.Fatalf("the next tick is due in %v", at.Sub(b.now))
	}
}
