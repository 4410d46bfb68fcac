package director

import (
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
)

// says makes the standby say that it could own x, and how it sees its gateways.
func (b *bench) says(eligible bool, sight lease.Sight, absent bool) {
	b.step(lease.Stands{Member: standby, Absent: absent,
		Groups: map[string]lease.Standing{"x": {Eligible: eligible, Priority: 50, Sight: sight}}})
}

func TestAnOwnerThatLosesItsGatewayGivesItsGroupToOneThatSeesIt(t *testing.T) {
	b := owner(t, "x")
	b.says(true, lease.Sees, false)
	b.step(Sight{Sight: lease.Doubts, Text: ""})
	b.mustNot("give x")
	b.step(Sight{Sight: lease.Recovers, Text: "not yet"})
	b.mustNot("give x")
	b.step(Sight{Sight: lease.Blind, Text: "gateway g does not answer a"})
	b.mustTell("give x")
	if v, _ := b.m.Group("x"); v.WhyNot != "gateway g does not answer a, and b reaches its gateway" {
		t.Errorf("why not: %q", v.WhyNot)
	}
}

func TestAnOwnerThatLosesItsGatewayStaysWhileNobodySeesIt(t *testing.T) {
	for name, says := range map[string]func(b *bench){
		"nobody is there": func(*bench) {},
		"is blind":        func(b *bench) { b.says(true, lease.Blind, false) },
		"recovers":        func(b *bench) { b.says(true, lease.Recovers, false) },
		"doubts":          func(b *bench) { b.says(true, lease.Doubts, false) },
		"is not fit":      func(b *bench) { b.says(false, lease.Sees, false) },
		"is gone":         func(b *bench) { b.says(true, lease.Sees, true) },
	} {
		t.Run(name, func(t *testing.T) {
			b := owner(t, "x")
			says(b)
			b.step(Sight{Sight: lease.Blind, Text: "gateway g does not answer a"})
			b.pass(time.Minute)
			b.mustNot("give x")
			b.mustBe("x", true)
		})
	}
}

func TestAnOwnerWithoutAGatewayStaysWhenNobodyTakesTheGroup(t *testing.T) {
	b := owner(t, "x")
	b.nobody = true
	b.says(true, lease.Sees, false)
	b.step(Sight{Sight: lease.Blind, Text: "gateway g does not answer a"})
	b.pass(time.Minute)
	b.mustBe("x", true)
	if n := b.journal("gateway"); n != 1 {
		t.Errorf("%d entries in a minute", n)
	}
}

func TestADirectorWithoutAGatewayLeavesAGroupToOneThatSeesIt(t *testing.T) {
	for _, sight := range []lease.Sight{lease.Blind, lease.Recovers} {
		b := start(t, "x")
		b.says(true, lease.Sees, false)
		b.step(Sight{Sight: sight, Text: "gateway g does not answer a"})
		b.pass(10 * time.Second)
		b.mustNot("claim x")
		b.says(true, lease.Sees, true) // nobody else is left
		b.pass(10 * time.Second)
		b.mustBe("x", true)
	}
	for _, sight := range []lease.Sight{lease.Sees, lease.Doubts} {
		b := start(t, "x")
		b.says(true, lease.Sees, false)
		b.step(Sight{Sight: sight, Text: ""})
		b.pass(10 * time.Second)
		b.mustBe("x", true)
	}
}
