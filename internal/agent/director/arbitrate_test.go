package director

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/vrrp"
)

const sightSpan = 5 * D // longer than Active_Down_Interval

var two = lease.Configuration{Index: 1, Voters: []lease.Member{self, standby}}

// pair is one of two directors that arbitrate by the gateway, right after its start.
func pair(t *testing.T) *bench {
	b := newBench(t, true, "x")
	b.m.cfg.Arbitrate, b.m.cfg.SightSpan = true, sightSpan
	b.m.byName["x"].instances[0].cfg.Local = netip.MustParseAddr("10.0.0.1")
	b.step(lease.Configured{Committed: two, Latest: two})
	b.step(lease.Leads{Member: standby, Term: 1})
	b.step(Start{})
	b.see()
	return b
}

// see lets the gateway answer now.
func (b *bench) see() { b.step(Sight{Sight: lease.Sees, Seen: b.now}) }

// passSeeing lets time pass while the gateway answers.
func (b *bench) passSeeing(d time.Duration) {
	for end := b.now.Add(d); b.now < end; {
		b.see()
		b.pass(min(D/4, end.Sub(b.now)))
	}
}

// bereft is one that is Backup and has lost the other one, which had a lease, in this moment.
func bereft(t *testing.T) *bench {
	b := pair(t)
	b.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: standby, Epoch: 1, Life: uint64(others)}})
	b.step(lease.Applied{Index: b.index})
	b.step(lease.CeilingRaised{Promise: 2 * D})
	for round := range uint64(8) {
		b.renewed(round+1, D+D/100)
		b.advert("x", 90)
		b.passSeeing(D / 4)
	}
	b.mustBe("x", false)
	b.cut, b.trace = true, nil
	return b
}

// renewed is a renewal of the other one's lease.
func (b *bench) renewed(round uint64, promise time.Duration) {
	b.receive(standby, lease.Message{Renew: &lease.Renew{Round: round, Configuration: 1, Promise: promise,
		Groups: []lease.RenewGroup{{Group: "x", Epoch: 1}}}})
}

// takenOver is one that has taken over.
func takenOver(t *testing.T) *bench {
	b := bereft(t)
	b.passSeeing(9 * D)
	b.mustBe("x", true)
	if v, _ := b.m.Group("x"); !v.Kept || !v.Taken || b.journal(Kept) != 1 {
		t.Fatalf("%+v, and the journal says so %d times", v, b.journal(Kept))
	}
	return b
}

func TestWhoIsLeftTakesOverAfterTheOtherOneWouldHaveGivenUp(t *testing.T) {
	b := bereft(t)
	lost := b.now
	for b.m.byName["x"].phase == away {
		b.see()
		b.pass(D / 20)
		if b.now > lost.Add(10*D) {
			t.Fatal("it does not take over")
		}
	}
	if after := b.now.Sub(lost); after < sightSpan || after > 7*D {
		t.Errorf("it takes over after %v", after)
	}
	b.passSeeing(time.Minute)
	b.mustBe("x", true)
	b.mustNot("release x", "shut x")
	first := 0
	for _, a := range b.trace {
		if arm, ok := a.(GuardArm); ok && arm.First {
			if first++; arm.Epoch != 0 {
				t.Errorf("it uses epoch %d, which is not its own", arm.Epoch)
			}
		}
	}
	if first != 1 || b.journal(Kept) != 1 || b.log.Epoch("x") != 1 {
		t.Errorf("the guard was opened %d times, the journal has %d entries, the log knows epoch %d", first, b.journal(Kept), b.log.Epoch("x"))
	}
	if left := b.m.byName["x"].until.Sub(b.now); left > D/2 {
		t.Errorf("the guard is open for %v", left)
	}
	end := b.m.sight.Seen.Add(sightSpan) // whatever becomes of the daemon
	b.pass(2 * sightSpan)
	for _, a := range b.trace {
		if arm, ok := a.(GuardArm); ok && arm.Until > end {
			t.Fatalf("the guard is open for %v beyond the last answer of the gateway", arm.Until.Sub(end)+sightSpan)
		}
	}
	b.mustBe("x", false)
}

func TestNobodyTakesOverWithoutAMajorityWhereTheOtherOneMayBeTheOwner(t *testing.T) {
	vip := netip.MustParseAddr("10.0.0.100")
	for name, what := range map[string]func(b *bench){
		"majority decides":     func(b *bench) { b.m.cfg.Arbitrate = false },
		"quorum_loss hold":     func(b *bench) { b.m.cfg.Arbitrate, b.m.cfg.Hold = false, true },
		"no gateway":           func(b *bench) { b.step(Sight{Sight: lease.Blind, Text: "no", Seen: b.now}) },
		"a gateway in doubt":   func(b *bench) { b.step(Sight{Sight: lease.Doubts, Seen: b.now}) },
		"the gateway is old":   func(b *bench) { b.m.cfg.SightSpan = D / 100 },
		"it has never seen it": func(b *bench) { b.step(Sight{Sight: lease.Sees}) },
		"a fault":              func(b *bench) { b.step(Fault{Instance: "x", Cause: "script"}) },
		"maintenance": func(b *bench) {
			b.apply(fsm.Command{Maintenance: &fsm.Maintenance{Node: "a", On: true, By: "t"}})
		},
		"three voters": func(b *bench) { b.step(lease.Configured{Committed: voters, Latest: voters}) },
		"a third one is being taken in": func(b *bench) {
			b.step(lease.Configured{Committed: two, Latest: lease.Configuration{Index: 2, Voters: voters.Voters}})
		},
		"a member answers": func(b *bench) {
			b.step(lease.Stands{Member: standby, Groups: map[string]lease.Standing{"x": {Eligible: true, Priority: 90, Hardware: "02:01"}}})
			b.others = []Other{{Hardware: "02:01", Address: vip}}
		},
		"a virtual MAC answers": func(b *bench) { b.others = []Other{{Hardware: "00:00:5e:00:01:01", Address: vip, Virtual: true}} },
		"a stranger answers":    func(b *bench) { b.others = []Other{{Hardware: "02:09", Address: vip}} },
		"nobody can look":       func(b *bench) { b.noLooks = true },
	} {
		t.Run(name, func(t *testing.T) {
			b := bereft(t)
			what(b)
			for range 40 {
				if seen := b.m.sight; !seen.Seen.IsZero() && name != "the gateway is old" {
					seen.Seen = b.now
					b.step(seen)
				}
				b.pass(D / 4)
			}
			b.mustBe("x", false)
			b.mustNot("arm x")
		})
	}
	for name, what := range map[string]func(b *bench, round uint64){
		"it advertises":                      func(b *bench, _ uint64) { b.advert("x", 90) },
		"it advertises, of another priority": func(b *bench, _ uint64) { b.advert("x", 200) },
		"it is heard":                        func(b *bench, _ uint64) { b.receive(standby, lease.Message{Ping: &lease.Ping{Sent: 1}}) },
		"it renews its lease":                func(b *bench, round uint64) { b.renewed(100+round, D) },
	} {
		t.Run(name, func(t *testing.T) {
			b := bereft(t)
			for round := range uint64(20) {
				what(b, round)
				b.passSeeing(D / 2)
			}
			b.mustBe("x", false)
			b.mustNot("arm x")
		})
	}
}

func TestATakeoverWaitsForPromisesAndForAnEarlierLifes(t *testing.T) {
	b := bereft(t)
	b.step(lease.CeilingRaised{Promise: 20 * D})
	b.renewed(100, 20*D)
	b.passSeeing(20*D - D/10)
	b.mustBe("x", false)
	b.passSeeing(D)
	b.mustBe("x", true)

	b = newBench(t, true, "x") // it begins a life in which it is alone
	b.m.cfg.Arbitrate, b.m.cfg.SightSpan, b.cut = true, sightSpan, true
	b.m.node = lease.NewNode(b.now, lease.Config{Self: self, Life: myLife, Duration: D, Ceiling: 20 * D}, b.log)
	b.step(lease.Configured{Latest: two})
	b.step(Start{})
	b.passSeeing(20*D - D/10)
	b.mustBe("x", false)
	b.passSeeing(D)
	b.mustBe("x", true)
}

func TestWhoSortsFirstAndWhoSortsLastDoNotTakeOverAtOnce(t *testing.T) {
	b := pair(t)
	if first, last := b.m.loneSpan("b/1"), b.m.loneSpan("A/1"); last-first < lookMost {
		t.Errorf("one waits %v, the other %v", first, last)
	}
}

func TestWhatWasTakenOverIsGivenUp(t *testing.T) {
	vip := netip.MustParseAddr("10.0.0.100")
	member := func(b *bench, priority uint8) {
		b.step(lease.Stands{Member: standby, Groups: map[string]lease.Standing{"x": {Priority: priority, Hardware: "02:01"}}})
		b.others = []Other{{Hardware: "02:01", Address: vip}}
	}
	for name, tt := range map[string]struct {
		what func(b *bench)
		stay bool
	}{
		"to a higher priority":             {what: func(b *bench) { b.advert("x", 101) }},
		"not to a lower one":               {what: func(b *bench) { b.advert("x", 99) }, stay: true},
		"to an equal one of higher origin": {what: func(b *bench) { b.advert("x", 100) }},
		"not to an equal one of lower origin": {what: func(b *bench) {
			b.step(Advert{Instance: "x", From: netip.MustParseAddr("10.0.0.0"), Priority: 100, Interval: time.Second})
		}, stay: true},
		"not to one that resigns": {what: func(b *bench) { b.advert("x", 0) }, stay: true},
		"to a lower one that never gives way": {what: func(b *bench) {
			for range 8 {
				b.advert("x", 99)
				b.passSeeing(D / 2)
			}
		}},
		"to a member of a higher priority that answers": {what: func(b *bench) { member(b, 101); b.passSeeing(D) }},
		"not to one of a lower priority that answers":   {what: func(b *bench) { member(b, 99); b.passSeeing(D) }, stay: true},
		"to one that answers for long":                  {what: func(b *bench) { member(b, 99); b.passSeeing(4 * D) }},
		"to a stranger":                                 {what: func(b *bench) { b.others = []Other{{Hardware: "02:09", Address: vip}}; b.passSeeing(D) }},
		"to a stranger who claims it":                   {what: func(b *bench) { b.step(Competitor{Instance: "x", Address: vip, Hardware: "02:09"}) }},
		"without a gateway":                             {what: func(b *bench) { b.step(Sight{Sight: lease.Blind, Text: "no", Seen: b.now}) }},
		"with a gateway in doubt": {what: func(b *bench) {
			b.step(Sight{Sight: lease.Doubts, Seen: b.now})
			b.pass(D)
		}, stay: true},
		"without news of a gateway":         {what: func(b *bench) { b.pass(sightSpan + D/100) }},
		"not before that":                   {what: func(b *bench) { b.see(); b.pass(sightSpan - D/2) }, stay: true},
		"if it was late":                    {what: func(b *bench) { b.now = b.now.Add(D); b.see() }},
		"for a fault":                       {what: func(b *bench) { b.step(Fault{Instance: "x", Cause: "script"}) }},
		"at the end":                        {what: func(b *bench) { b.step(Shutdown{}) }},
		"not for a grant, which may be old": {what: func(b *bench) { b.granted(standby) }, stay: true},
		"not for a majority that grants nothing": {what: func(b *bench) { b.cut, b.deaf, b.noGrants = false, true, true; b.passSeeing(10 * D) },
			stay: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := takenOver(t)
			tt.what(b)
			if v, _ := b.m.Group("x"); v.Held != tt.stay || v.Kept != tt.stay {
				t.Fatalf("%+v: %s", v, b.story())
			}
			if active := b.m.instances["x"].state.Status == vrrp.Active; active != tt.stay {
				t.Errorf("it is %v", b.m.instances["x"].state.Status)
			}
			b.mustNot("release x")
		})
	}
}

// granted is a grant in the log.
func (b *bench) granted(m lease.Member) {
	b.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: m, Epoch: b.log.Epoch("x") + 1}})
	b.step(lease.Applied{Index: b.index})
}

func TestWhatIsKeptIsInvisibleBeforeItIsPromisedToTheOtherOne(t *testing.T) {
	b := takenOver(t)
	b.trace = nil
	b.step(lease.CeilingRaised{Promise: 2 * D})
	b.receive(standby, lease.Message{Renew: &lease.Renew{Round: 200, Configuration: 1, Promise: D,
		Groups: []lease.RenewGroup{{Group: "x", Epoch: 2}}}})
	b.mustBe("x", false)
	shut, said := strings.Index(b.story(), "drop x"), strings.Index(b.story(), "acknowledge")
	if shut < 0 || said < shut {
		t.Errorf("story: %s", b.story())
	}
}

func TestALeaseIsPutBehindWhatWasTakenOver(t *testing.T) {
	b := takenOver(t)
	b.trace, b.cut = nil, false
	b.passSeeing(2 * D)
	b.mustBe("x", true)
	b.mustNot("drop x", "release x")
	v, _ := b.m.Group("x")
	if v.Kept || v.Taken || v.Epoch != 2 || b.journal(Kept) != 1 {
		t.Errorf("%+v", v)
	}
	b.step(Shutdown{})
	b.passSeeing(2 * D)
	if b.log.Released("x") != 2 {
		t.Errorf("epoch %d is released", b.log.Released("x"))
	}
}

// An owner keeps what it has when it loses the other one, and gives way to it by the order of VRRP.
func TestAnOwnerOfAPairKeepsItsGroup(t *testing.T) {
	b := pair(t)
	b.passSeeing(5 * D)
	b.mustBe("x", true)
	b.cut = true
	b.passSeeing(10 * D)
	b.mustBe("x", true)
	if v, _ := b.m.Group("x"); !v.Kept || v.Taken || v.Epoch == 0 {
		t.Errorf("%+v", v)
	}
	b.advert("x", 90)
	b.mustBe("x", true)
	b.advert("x", 110)
	b.mustBe("x", false)
}

// speaks is a message of a life of the other director.
func (b *bench) speaks(life lease.Life, m lease.Message) {
	m.FromLife = life
	b.step(lease.Received{From: standby, Message: m})
}

// died is what the companion of a life of the other director says, which had x under epoch 1.
func (b *bench) died(life lease.Life) {
	for _, m := range append(lease.LastWords(life, "x", 1, "died"), lease.VeryLastWords(life, []string{"x"})) {
		b.speaks(life, m)
	}
}

// What a companion says counts at once, and only for the life that was the last one to be alive.
func TestWhoIsLeftTakesOverAtTheWordOfACompanion(t *testing.T) {
	const later = lease.Life(9)
	for name, tt := range map[string]struct {
		what func(b *bench)
		take bool
	}{
		"it has died":                       {what: func(b *bench) { b.died(others) }, take: true},
		"it is said often":                  {what: func(b *bench) { b.died(others); b.died(others) }, take: true},
		"what it has sent before comes now": {what: func(b *bench) { b.speaks(others, lease.Message{Ping: &lease.Ping{}}); b.died(others) }, take: true},
		"not the life that is known":        {what: func(b *bench) { b.died(later) }},
		"a later life is heard": {what: func(b *bench) {
			b.speaks(later, lease.Message{Ping: &lease.Ping{}})
			b.died(others)
		}},
		"a later life is heard, and the one before": {what: func(b *bench) {
			asked := b.now
			b.pass(time.Millisecond)
			b.speaks(later, lease.Message{Ping: &lease.Ping{}})
			b.speaks(others, lease.Message{ToLife: myLife, Pong: &lease.Pong{Sent: asked}})
			b.died(others)
		}},
		"a later life has answered": {what: func(b *bench) {
			b.speaks(later, lease.Message{ToLife: myLife, Pong: &lease.Pong{Sent: b.now}})
			b.died(others)
		}},
		"it was alive long ago": {what: func(b *bench) { b.passSeeing(sightSpan + D/4); b.died(others) }},
		"only the lease is given up": {what: func(b *bench) {
			for _, m := range lease.LastWords(others, "x", 1, "died") {
				b.speaks(others, m)
			}
		}},
		"only that it has died": {what: func(b *bench) { b.speaks(others, lease.VeryLastWords(others, []string{"x"})) }},
		"it had something else": {what: func(b *bench) { b.speaks(others, lease.VeryLastWords(others, []string{"y"})) }},
		"somebody advertises it": {what: func(b *bench) {
			b.step(Sight{Sight: lease.Doubts, Seen: b.now})
			b.died(others)
			b.advert("x", 90)
			b.see()
		}},
		"the gateway does not answer": {what: func(b *bench) { b.step(Sight{Sight: lease.Blind, Text: "no", Seen: b.now}); b.died(others) }},
		"majority decides":            {what: func(b *bench) { b.m.cfg.Arbitrate = false; b.died(others) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := bereft(t)
			b.noLooks = true // nobody is looked for
			tt.what(b)
			if v, _ := b.m.Group("x"); v.Held != tt.take || v.Given != tt.take || tt.take && b.m.State("x").Status != vrrp.Active {
				t.Fatalf("%+v: %s", v, b.story())
			}
		})
	}
}
