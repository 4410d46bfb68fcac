package director

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/vrrp"
)

// rules say where the group x is to be.
func rules(r fencing.PlaceRules) fencing.PlaceConfig {
	return fencing.PlaceConfig{Rules: map[string]fencing.PlaceRules{"x": r}}
}

// placedBench is a machine of priority 100 beside a standby of priority 50, with rules for places.
func placedBench(t *testing.T, c fencing.PlaceConfig, groups ...string) *bench {
	b := start(t, groups...)
	b.m.cfg.Place = c
	return b
}

// stands makes the standby say of each group whether it could own it.
func (b *bench) stands(eligible bool, groups ...string) {
	said := map[string]lease.Standing{}
	for _, g := range groups {
		said[g] = lease.Standing{Eligible: eligible, Priority: 50}
	}
	b.step(lease.Stands{Member: standby, Groups: said})
}

// owns makes the standby the owner of groups by the log.
func (b *bench) owns(moved bool, groups ...string) {
	for _, g := range groups {
		b.apply(fsm.Command{Grant: &fsm.Grant{Group: g, Member: standby, Epoch: b.log.Epoch(g) + 1, ClaimID: 1, Life: uint64(others),
			Placed: moved}})
	}
}

// hears lets time pass in which the standby advertises groups of one instance of their name.
func (b *bench) hears(d time.Duration, groups ...string) {
	for ; d > 0; d -= 200 * time.Millisecond {
		for _, g := range groups {
			b.step(Advert{Instance: g, From: netip.MustParseAddr("10.0.0.2"), Priority: 50, Interval: time.Second})
		}
		b.pass(200 * time.Millisecond)
	}
}

// claimed lists what has been claimed, with the kind of the claims.
func (b *bench) claimed() string {
	var all []string
	for _, a := range b.trace {
		if s, ok := a.(lease.Send); ok && s.Message.Claim != nil {
			all = append(all, s.Message.Claim.Group+" "+string(s.Message.Claim.Kind))
		}
	}
	return strings.Join(all, ", ")
}

func TestRulesDecideInPlaceOfPriorities(t *testing.T) {
	mine, theirs := fencing.PlaceRules{Prefer: []string{"a"}}, fencing.PlaceRules{Prefer: []string{"b"}}
	never := fencing.PlaceRules{Prefer: []string{"a"}, Failback: fencing.Failback{Never: true}}
	late := fencing.PlaceRules{Prefer: []string{"a"}, Failback: fencing.Failback{After: time.Minute}}
	for _, tt := range []struct {
		name   string
		c      fencing.PlaceConfig
		nopre  bool // nopreempt
		do     func(b *bench)
		claims string
	}{
		{name: "no rules: priority preempts", claims: "x preempt"},
		{name: "no rules, nopreempt", nopre: true},
		{name: "it is preferred", c: rules(mine), claims: "x preempt"},
		{name: "it is preferred, nopreempt", c: rules(mine), nopre: true, claims: "x preempt"},
		{name: "the other one is preferred", c: rules(theirs)},
		{name: "rules without a preference: the priority", c: rules(fencing.PlaceRules{}), claims: "x preempt"},
		{name: "never", c: rules(never)},
		{name: "after a minute", c: rules(late)},
		{name: "after a minute", c: rules(late), do: func(b *bench) { b.hears(time.Minute, "x") }, claims: "x preempt"},
		{name: "an operator has moved it", c: rules(mine), do: func(b *bench) { b.owns(true, "x") }},
		{name: "it is in maintenance", c: rules(mine), do: func(b *bench) {
			b.apply(fsm.Command{Maintenance: &fsm.Maintenance{Node: "a", On: true}})
		}},
		{name: "it is faulty", c: rules(mine), do: func(b *bench) { b.step(Fault{Instance: "x", Cause: "eth0 is down"}) }},
		{name: "the owner is not fit: it gives the group away", c: rules(mine), do: func(b *bench) { b.stands(false, "x") }},
		{name: "tracking speaks against it", c: rules(mine), do: func(b *bench) { b.step(Priority{"x", 80}) }},
		{name: "tracking speaks for it", c: rules(theirs), do: func(b *bench) { b.step(Priority{"x", 120}) }, claims: "x preempt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := placedBench(t, tt.c, "x")
			b.noGrants = true
			b.m.instances["x"].cfg.Preempt = !tt.nopre
			b.owns(false, "x")
			b.stands(true, "x")
			if tt.do != nil {
				tt.do(b)
			}
			b.hears(500*time.Millisecond, "x")
			if len(b.m.cfg.Place.Rules) > 0 && tt.do == nil && b.claimed() != "" {
				t.Errorf("claims %s at once", b.claimed())
			}
			b.hears(10*time.Second, "x")
			if first, _, _ := strings.Cut(b.claimed(), ","); first != tt.claims {
				t.Errorf("claims %q, want %q", first, tt.claims)
			}
			if v, _ := b.m.Group("x"); tt.c.On() && v.SpotText == "" {
				t.Error("nothing says where it is to be")
			}
		})
	}
}

// Rules never keep a group from a director that hears no owner.
func TestRulesLeaveNoGroupWithoutAnOwner(t *testing.T) {
	for name, c := range map[string]fencing.PlaceConfig{
		"another one is preferred": rules(fencing.PlaceRules{Prefer: []string{"b"}, Failback: fencing.Failback{Never: true}}),
		"there is no room":         {MaxGroups: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := placedBench(t, c, "x", "y")
			b.owns(false, "x", "y")
			b.stands(true, "x", "y")
			b.hears(10*time.Second, "x", "y")
			b.step(lease.Stands{Member: standby, Absent: true})
			b.pass(10 * time.Second)
			b.mustBe("x", true)
			b.mustBe("y", true)
		})
	}
}

func TestEachDirectorHasItsShare(t *testing.T) {
	both := []string{"x", "y"}
	b := placedBench(t, fencing.PlaceConfig{MaxGroups: 1}, both...)
	b.stands(true, both...)
	b.owns(false, both...)
	for _, i := range b.m.instances {
		i.cfg.Preempt = false
	}
	b.hears(10*time.Second, both...)
	b.mustBe("x", false)
	b.mustBe("y", true)

	// Its priority would have it preempt, and it has no room.
	b.m.instances["x"].cfg.Preempt = true
	b.trace = nil
	b.hears(10*time.Second, "x")
	b.mustBe("x", false)
	b.mustNot("claim x", "give y")
	b.m.cfg.Place.MaxGroups = 2
	b.hears(10*time.Second, "x")
	b.mustBe("x", true)
}

func TestAGroupGoesBackInItsWindow(t *testing.T) {
	night := fencing.PlaceRules{Prefer: []string{"a"}, Failback: fencing.Failback{Window: true, From: 120, Until: 180}}
	b := placedBench(t, rules(night), "x")
	b.stands(true, "x")
	b.owns(false, "x")
	b.step(Minute{119})
	b.hears(time.Minute, "x")
	b.mustBe("x", false)
	if v, _ := b.m.Group("x"); v.Spot != "a" || !strings.Contains(v.SpotText, "a is preferred to b; it goes there between 02:00 and 03:00") {
		t.Errorf("%+v", v)
	}
	b.step(Minute{120})
	b.hears(time.Second, "x")
	b.mustBe("x", true)
}

func TestAGroupThatIsTakenOftenIsTakenLater(t *testing.T) {
	b := placedBench(t, rules(fencing.PlaceRules{Prefer: []string{"a"}}), "x")
	var waits []time.Duration
	for range 5 {
		b.stands(true, "x")
		b.owns(false, "x")
		began := b.now
		for v, _ := b.m.Group("x"); !v.Held; v, _ = b.m.Group("x") {
			b.hears(200*time.Millisecond, "x")
		}
		waits = append(waits, b.now.Sub(began).Round(time.Second))
		b.step(Fault{Instance: "x", Cause: "eth0 is down"})
		b.nobody = true
		b.receive(leader, lease.Message{ResignReply: &lease.ResignReply{Group: "x", Epoch: lease.Epoch(b.log.Epoch("x"))}})
		b.pass(3 * time.Second)
		b.mustBe("x", false)
		b.step(Fault{Instance: "x", Cause: "eth0 is down", Gone: true})
	}
	for i, atLeast := range []time.Duration{time.Second, time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
		if waits[i] < atLeast || waits[i] > atLeast+2*time.Second {
			t.Errorf("it waited %v", waits)
			break
		}
	}
}

// The log may know of the grant before the lease is in hand: the claim for it stands.
func TestAClaimForAPlaceStandsUntilTheLeaseIsInHand(t *testing.T) {
	b := placedBench(t, rules(fencing.PlaceRules{Prefer: []string{"a"}}), "x")
	b.stands(true, "x")
	b.owns(false, "x")
	b.noGrants = true
	b.m.instances["x"].cfg.Preempt = false
	b.hears(2*time.Second, "x")
	if v, _ := b.m.Group("x"); v.Claiming != lease.Preempt {
		t.Fatalf("%+v", v)
	}
	b.apply(fsm.Command{Grant: &fsm.Grant{Group: "x", Member: self, Epoch: b.log.Epoch("x") + 1, ClaimID: 1, Life: uint64(myLife)}})
	b.step(Minute{1})
	b.pass(2 * placeEvery)
	if v, _ := b.m.Group("x"); v.Claiming != lease.Preempt && !v.Held {
		t.Fatalf("the claim is gone: %+v, %s", v, b.story())
	}
}

func TestAReloadBringsOtherRules(t *testing.T) {
	b := placedBench(t, rules(fencing.PlaceRules{Prefer: []string{"b"}}), "x")
	b.stands(true, "x")
	b.owns(false, "x")
	b.hears(10*time.Second, "x")
	b.mustBe("x", false)
	b.step(Reload{Groups: []Group{{Name: "x", Instances: []vrrp.Config{router("x", 100)}}}, Kept: map[string]string{"x": "x"},
		Place: rules(fencing.PlaceRules{Prefer: []string{"a"}})})
	b.hears(3*time.Second, "x")
	b.mustBe("x", true)
}

func TestWhereAGroupIsToBeIsSaidToTheLeader(t *testing.T) {
	b := placedBench(t, rules(fencing.PlaceRules{Prefer: []string{"b", "c"}}), "x", "y")
	b.step(Priority{"x", 70})
	b.step(Priority{"y", 70})
	said := b.m.told
	if s := said["x"]; s.Rank != 2 || s.Gain != -30 || s.Priority != 70 {
		t.Errorf("of a group with rules: %+v", s)
	}
	if s := said["y"]; s.Rank != 0 || s.Gain != 0 || s.Priority != 70 {
		t.Errorf("of another group: %+v", s)
	}
}

// Whom a group goes to by itself, and whom if all groups of this director go.
func TestHeirsOfWhatThisDirectorOwns(t *testing.T) {
	of := fencing.PlaceRules{Prefer: []string{"a", "b", "w"}}
	b := placedBench(t, fencing.PlaceConfig{MaxGroups: 1, Rules: map[string]fencing.PlaceRules{"x": of, "y": of, "z": of}}, "x", "y", "z")
	for _, g := range []string{"x", "y"} {
		b.apply(fsm.Command{Grant: &fsm.Grant{Group: g, Member: self, Epoch: 1, Life: uint64(myLife)}})
	}
	for _, m := range []lease.Member{standby, leader} {
		said := map[string]lease.Standing{}
		for _, g := range []string{"x", "y", "z"} {
			said[g] = lease.Standing{Eligible: true, Priority: 50}
		}
		b.step(lease.Stands{Member: m, Groups: said})
	}
	want := map[string]Heirs{"x": {Alone: "b", All: "b"}, "y": {Alone: "b", All: "w"}}
	if got := b.m.Heirs(); !maps.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
