package director

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
)

var printer = Other{Address: netip.MustParseAddr("10.0.0.100"), Hardware: "02:00:00:00:00:99"}

// claims counts the claims that were sent.
func (b *bench) claims() int { return strings.Count(b.story(), "claim x") }

func TestWhatSomebodyElseAnswersForIsNotTakenOver(t *testing.T) {
	b := start(t, "x")
	b.others = []Other{printer}
	b.pass(time.Minute)
	b.mustBe("x", false)
	b.mustNot("take x", "advert x", "announce x")
	if n := b.claims(); n > 1 {
		t.Errorf("%d claims while a stranger has the address", n)
	}
	if n := b.journal(Stranger); n != 1 {
		t.Errorf("%d entries in a minute", n)
	}
	v, _ := b.m.Group("x")
	if !v.Stranger || !strings.Contains(v.WhyNot, printer.Hardware) {
		t.Errorf("why not: %+v", v)
	}
	b.others = nil
	b.pass(2 * strangerAt)
	b.mustBe("x", true)
}

func TestAMemberThatStillAnswersIsNoStranger(t *testing.T) {
	b := start(t, "x")
	b.step(lease.Stands{Member: standby, Groups: map[string]lease.Standing{"y": {Hardware: "02:00:00:00:00:01 " + printer.Hardware}}})
	b.others = []Other{printer}
	b.pass(5 * time.Second)
	b.mustBe("x", true)
}

func TestATakeoverWaitsForTheSecondLookAndNotForLong(t *testing.T) {
	b := start(t, "x")
	b.noLooks = true
	for b.claims() == 0 {
		b.pass(10 * time.Millisecond)
	}
	b.mustNot("take x", "advert x")
	b.pass(2*lookMost + 10*time.Millisecond)
	b.mustBe("x", true)
}

func TestAStrangerThatIsFoundLateEndsTheLease(t *testing.T) {
	b := start(t, "x")
	b.noLooks = true
	for b.claims() == 0 {
		b.pass(10 * time.Millisecond)
	}
	b.trace = nil
	b.step(Looked{Group: "x", Serial: b.m.looks, Others: []Other{printer}})
	b.mustTell("shut x, confirm x, waive x, release x")
	b.mustBe("x", false)
}

func TestWhatALivingOwnerHandsOverIsNotLookedFor(t *testing.T) {
	b := start(t, "x")
	b.advert("x", 50)
	b.trace = nil
	b.receive(leader, lease.Message{Invite: &lease.Invite{Group: "x", Kind: lease.Handover, Reason: "maintenance"}})
	b.mustBe("x", true)
	for _, a := range b.trace {
		if _, ok := a.(Look); ok {
			t.Error("a look at what is handed over")
		}
	}
}

func TestTheStandingNamesTheHardware(t *testing.T) {
	b := start(t, "x")
	b.trace = nil
	b.step(Hardware{"02:00:00:00:00:01"})
	for _, a := range b.trace {
		if s, ok := a.(Stand); ok && s.Groups["x"].Hardware == "02:00:00:00:00:01" {
			return
		}
	}
	t.Error("the others do not learn of it")
}
