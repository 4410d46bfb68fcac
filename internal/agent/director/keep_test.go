package director

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/vrrp"
)

// keeper is an owner that is to keep its group without a majority.
func keeper(t *testing.T) *bench {
	b := start(t, "x")
	b.m.cfg.Hold = true
	b.pass(4 * time.Second)
	b.mustBe("x", true)
	b.trace = nil
	return b
}

// kept is one that does.
func kept(t *testing.T) *bench {
	b := keeper(t)
	b.cut = true
	b.pass(3 * D)
	b.mustBe("x", true)
	b.mustNot("drop x")
	if v, _ := b.m.Group("x"); !v.Kept || b.journal(Kept) != 1 {
		t.Fatalf("kept is %v, and the journal says so %d times", v.Kept, b.journal(Kept))
	}
	return b
}

func TestAnOwnerKeepsItsGroupWithoutAMajorityIfItIsToldTo(t *testing.T) {
	b := owner(t, "x")
	b.cut = true
	b.pass(3 * D)
	b.mustBe("x", false)

	b = kept(t)
	b.trace = nil
	b.pass(time.Minute)
	b.mustBe("x", true)
	arms, adverts := 0, 0
	for _, a := range b.trace {
		switch a := a.(type) {
		case GuardArm:
			if arms++; a.First {
				t.Error("a guard that may be shut was opened")
			}
		case SendAdvert:
			adverts++
		case Journal:
			if a.Kind == Kept {
				t.Errorf("said again: %s", a.Text)
			}
		}
	}
	if arms < 100 || adverts < 50 {
		t.Errorf("%d times armed, %d advertisements in a minute", arms, adverts)
	}
	if left := b.m.byName["x"].until.Sub(b.now); left > D/2 {
		t.Errorf("the guard is open for %v", left)
	}
}

func TestWhoIsLateOrWhoseVotersAnswerKeepsNothing(t *testing.T) {
	for name, what := range map[string]func(b *bench){
		"stopped over the end of its lease": func(b *bench) { b.cut = true; b.now = b.now.Add(2 * D) },
		"stopped until right before it":     func(b *bench) { b.cut = true; b.now = b.m.byName["x"].until.Add(-D / 100); b.step(Tick{}) },
		"stopped while it keeps it":         func(b *bench) { b.cut = true; b.pass(3 * D); b.now = b.now.Add(D) },
		"its voters refuse":                 func(b *bench) { b.refuses, b.noGrants = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			b := keeper(t)
			what(b)
			b.step(Tick{})
			b.pass(2 * D)
			b.mustBe("x", false)
		})
	}
}

func TestWhatIsKeptIsGivenUpForAnybodyElseAndForEveryFault(t *testing.T) {
	vip, mac := netip.MustParseAddr("10.0.0.100"), net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for name, what := range map[string]func(b *bench){
		"an advertisement": func(b *bench) {
			b.step(Advert{Instance: "x", From: netip.MustParseAddr("10.0.0.2"), Priority: 1, Interval: time.Second})
		},
		"a claim on the LAN":   func(b *bench) { b.step(Competitor{Instance: "x", Address: vip, Hardware: mac.String()}) },
		"an answer on the LAN": func(b *bench) { b.others = []Other{{Hardware: mac.String(), Address: vip}}; b.pass(D) },
		"no gateway":           func(b *bench) { b.step(Sight{Sight: lease.Blind, Text: "gateway g does not answer a"}) },
		"not yet a gateway":    func(b *bench) { b.step(Sight{Sight: lease.Recovers, Text: "gateway g answers a again"}) },
		"a fault":              func(b *bench) { b.step(Fault{Instance: "x", Cause: "script"}) },
		"no way to add them":   func(b *bench) { b.step(AddressesFailed{Instance: "x", Reason: "no"}) },
		"the end":              func(b *bench) { b.step(Shutdown{}) },
		"another owner": func(b *bench) {
			b.receive(leader, lease.Message{ClaimReply: &lease.ClaimReply{Group: "x", ID: b.claimID(), Refused: "b has it", Holder: standby}})
		},
		"another grant": func(b *bench) {
			b.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: standby, Epoch: b.log.Epoch("x") + 1}})
			b.step(lease.Applied{Index: b.index})
		},
		"another lease": func(b *bench) {
			b.step(lease.CeilingRaised{Promise: 2 * D})
			b.receive(standby, lease.Message{Renew: &lease.Renew{Round: 1, Configuration: 1, Promise: D,
				Groups: []lease.RenewGroup{{Group: "x", Epoch: lease.Epoch(b.log.Epoch("x") + 1)}}}})
		},
		"a majority that does not grant it": func(b *bench) { b.cut, b.deaf, b.noGrants = false, true, true; b.pass(10 * D) },
	} {
		t.Run(name, func(t *testing.T) {
			b := kept(t)
			what(b)
			if v, _ := b.m.Group("x"); v.Held || v.Kept {
				t.Fatalf("it is kept: %s", b.story())
			}
			if b.m.instances["x"].state.Status == vrrp.Active || b.journal(Kept) != 2 && name != "no way to add them" {
				t.Errorf("%v, and %d entries of the journal", b.m.instances["x"].state.Status, b.journal(Kept))
			}
		})
	}
	b := kept(t)
	b.step(Advert{Instance: "x", From: netip.MustParseAddr("10.0.0.2"), Interval: time.Second}) // who resigns is no rival
	b.step(Sight{Sight: lease.Doubts, Text: ""})
	b.pass(D)
	b.mustBe("x", true)
}

func TestALeaseIsPutBehindWhatIsKeptOnceAMajorityAnswers(t *testing.T) {
	b := kept(t)
	before := b.log.Epoch("x")
	b.trace, b.cut = nil, false
	b.pass(2 * D)
	b.mustBe("x", true)
	b.mustNot("drop x")
	b.mustNot("release x")
	v, _ := b.m.Group("x")
	if v.Kept || uint64(v.Epoch) != b.log.Epoch("x") || b.log.Epoch("x") <= before || b.journal(Kept) != 1 {
		t.Errorf("%+v, epoch %d before", v, before)
	}
	if until, held := b.m.node.Held(b.now, "x"); !held || until.Sub(b.now) > hold {
		t.Errorf("held is %v", held)
	}
	b.cut = true // and again
	b.pass(3 * D)
	b.mustBe("x", true)
	b.cut = false
	b.pass(2 * D)
	b.step(Shutdown{})
	b.pass(2 * D)
	if b.log.Released("x") != b.log.Epoch("x") {
		t.Errorf("epoch %d is not released", b.log.Epoch("x"))
	}
}

// An owner that keeps a group without a majority hears of the new owner at once, and does not make it give way.
func TestALeaseDoesNotGiveWayToAMemberThatHasNone(t *testing.T) {
	keeps, router := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.9")
	says := lease.Stands{Member: standby, Groups: map[string]lease.Standing{"x": {Eligible: true, Sources: "10.0.0.8 10.0.0.2"}}}
	for _, tt := range []struct {
		name   string
		hold   bool
		from   netip.Addr
		before func(b *bench)
		gives  bool
	}{
		{name: "a member", hold: true, from: keeps},
		{name: "a member with demote", from: keeps, gives: true},
		{name: "a router that is no member", hold: true, from: router, gives: true},
		{name: "a member, and no lease here either", hold: true, from: keeps, before: func(b *bench) { b.cut = true; b.pass(3 * D) }, gives: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, "x")
			b.m.cfg.Hold = tt.hold
			b.pass(6 * time.Second)
			b.mustBe("x", true)
			b.step(says)
			if tt.before != nil {
				tt.before(b)
			}
			for _, priority := range []uint8{200, vrrp.PriorityOwner, 1} {
				b.pass(D / 10)
				b.trace = nil
				b.step(Advert{Instance: "x", From: tt.from, Priority: priority, Interval: time.Second})
				if b.mustBe("x", !tt.gives); tt.gives {
					return
				}
				if b.story() != "advert x, announce x" || b.renewals() == 0 {
					t.Errorf("after priority %d: %s; %d renewals", priority, b.story(), b.renewals())
				}
			}
		})
	}
}

// Where its advertisements come from is what a director says of itself that may keep a group.
func TestADirectorThatMayKeepSaysWhereItsAdvertisementsComeFrom(t *testing.T) {
	b := keeper(t)
	b.step(Source{Instance: "x", Address: netip.MustParseAddr("fe80::2%eth0")})
	if got := b.m.told["x"].Sources; got != "fe80::2" {
		t.Errorf("it says %q", got)
	}
	if !b.m.cfg.Hold || owner(t, "x").m.told["x"].Sources != "" {
		t.Error("one that may not says it, too")
	}
}

// claimID is the id of the newest claim that was sent.
func (b *bench) claimID() (id uint64) {
	for _, a := range b.trace {
		if s, ok := a.(lease.Send); ok && s.Message.Claim != nil {
			id = s.Message.Claim.ID
		}
	}
	return id
}
