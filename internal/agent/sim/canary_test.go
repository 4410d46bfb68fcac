package sim

import (
	"flag"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/agent/director"
)

var flagSlow = flag.Bool("sim.slow", false, "catch the canaries that take longer than a second, too")

// canary is a rule that is switched off. A simulation that does not notice proves nothing. The bounds are some three
// times what it takes.
type canary struct {
	name     string
	slow     bool     // it takes longer than a second to catch it
	walks    uint64   // of the lease protocol alone, within which it is noticed; zero: whole clusters are simulated
	others   []string // groups of such a walk, beside G
	profile  string   // of the faults; empty: drawn
	pair     bool     // of two directors, between which the gateway decides
	hours    float64  // of simulated clusters within which it is noticed
	lease    lease.Broken
	director director.Broken
	broken   Broken
}

// Two locks are on most doors: what a voter that has forgotten its promises would let in (V3, O4, H1, H2, H8, C1), H3 and
// H4 stop. Such a rule is shown to be needed with those two open.
var canaries = []canary{
	{name: "NoGuard", hours: 0.1, broken: Broken{NoGuard: true}},
	{name: "RelativeOnly", slow: true, hours: 5, broken: Broken{RelativeOnly: true}},
	{name: "AbsoluteOnly", slow: true, hours: 5, broken: Broken{AbsoluteOnly: true}},
	{name: "SlewedTimeout", slow: true, hours: 5, broken: Broken{SlewedTimeout: true}},
	{name: "KeepLeftovers", hours: 0.1, broken: Broken{KeepLeftovers: true}},
	{name: "WallClock", slow: true, profile: Guards, hours: 120, broken: Broken{WallClock: true}},
	{name: "ForgetCeiling", slow: true, hours: 12, broken: Broken{ForgetCeiling: true}},

	{name: "A1: AnyAddress, clusters", profile: Files, hours: 1, lease: lease.Broken{AnyAddress: true}},
	{name: "A1: AddBeforeCovered", profile: Files, hours: 1, director: director.Broken{AddBeforeCovered: true}},
	{name: "H7: ReleaseBeforeInvisible", hours: 0.1, director: director.Broken{ReleaseBeforeInvisible: true}},
	{name: "SpeakFirst", hours: 0.5, broken: Broken{SpeakFirst: true}},
	{name: "StoppedIsDead", hours: 1, profile: Guards, broken: Broken{StoppedIsDead: true}},

	{name: "SpeakFirst, of two", hours: 0.2, profile: Lonely, pair: true, broken: Broken{SpeakFirst: true}},
	{name: "WordsOfAnyLife", hours: 0.3, profile: Lonely, pair: true, director: director.Broken{WordsOfAnyLife: true}},
	{name: "TakeBeforeBlind", slow: true, hours: 25, profile: Lonely, pair: true, director: director.Broken{TakeBeforeBlind: true}},

	{name: "ForceUnproved", hours: 0.4, profile: Forced, broken: Broken{ForceUnproved: true}},

	{name: "BelieveAnyFence", slow: true, hours: 6, profile: Fences, director: director.Broken{BelieveAnyFence: true}},
	{name: "F05: FenceCoversLater", slow: true, hours: 30, profile: Fences, director: director.Broken{FenceCoversLater: true},
		lease: lease.Broken{KeepWhenDeclaredOff: true}},

	{name: "ShortPromise", slow: true, walks: 300, lease: lease.Broken{ShortPromise: true}},
	{name: "V1: AcceptOlderEpochs", walks: 20, lease: open(lease.Broken{AcceptOlderEpochs: true})},
	{name: "V2: ClearRunningPromise", walks: 20, lease: lease.Broken{ClearRunningPromise: true, NoFirstCheck: true}},
	{name: "V3: NoAbstain", slow: true, walks: 3000, lease: open(lease.Broken{NoAbstain: true})},
	{name: "V3: FirstWhileAbstaining", slow: true, walks: 2000, lease: open(lease.Broken{FirstWhileAbstaining: true})},
	{name: "V3: NoAbstain, FirstWhileAbstaining", slow: true, walks: 600,
		lease: lease.Broken{NoAbstain: true, FirstWhileAbstaining: true}},
	{name: "O2: CountFromAnswer", walks: 3000, lease: lease.Broken{CountFromAnswer: true}},
	{name: "O3: LateAckRevives", walks: 20, lease: lease.Broken{LateAckRevives: true}},
	{name: "O4: IgnoreClaimDeadline", slow: true, walks: 300, lease: open(lease.Broken{IgnoreClaimDeadline: true})},
	{name: "H2: AnyHolder", walks: 50, lease: open(lease.Broken{AnyHolder: true})},
	{name: "H5: ClearResetsPromise", slow: true, walks: 200, lease: lease.Broken{ClearResetsPromise: true}},
	{name: "H6: AnyRelease", slow: true, walks: 1700, lease: lease.Broken{AnyRelease: true}},
	{name: "H7: TakeReleaseBack", slow: true, walks: 10500, lease: lease.Broken{TakeReleaseBack: true}},
	{name: "H8, O4: LateClearances, IgnoreClaimDeadline", slow: true, walks: 500,
		lease: open(lease.Broken{LateClearances: true, IgnoreClaimDeadline: true})},
	{name: "A1: AnyAddress", walks: 20, others: []string{"H"}, lease: lease.Broken{AnyAddress: true}},
	{name: "C1: ForgetClearance", walks: 20, lease: open(lease.Broken{ForgetClearance: true})},
}

// open breaks H3 and H4 as well.
func open(b lease.Broken) lease.Broken {
	b.NoFirstCheck, b.KeepOwnWhenSuperseded = true, true
	return b
}

// walk looks at the lease protocol alone.
func (c canary) walk(t *testing.T) {
	for seed := uint64(1); seed <= c.walks; seed++ {
		d := newDuel(seed, c.lease, append([]string{"G"}, c.others...)...)
		if d.run(); d.err != "" {
			t.Logf("walk %d of %d: %s", seed, c.walks, d.err)
			return
		}
	}
	t.Errorf("not noticed in %d walks", c.walks)
}

// simulate looks at whole clusters.
func (c canary) simulate(t *testing.T) {
	var total Stats
	for seed := *flagFirst; total.Simulated.Hours() < c.hours; seed++ {
		o := Run(Config{Seed: seed, Span: span, Profile: c.profile, Arbitrate: c.pair, Lease: c.lease, Director: c.director, Broken: c.broken})
		total.Add(o.Stats)
		if v := o.Violation; v != nil && v.Invariant[0] == 'S' { // being without an owner would be no proof
			t.Logf("seed %d, after %.2f of %v hours: %s, %s", seed, total.Simulated.Hours(), c.hours, o.Shape, v)
			return
		}
	}
	t.Errorf("not noticed in %v", total.Simulated.Round(time.Second))
}

func TestCanariesAreCaught(t *testing.T) {
	for _, c := range canaries {
		if c.slow && !*flagSlow {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.walks > 0 {
				c.walk(t)
			} else {
				c.simulate(t)
			}
		})
	}
}
