package sim

import (
	"cmp"
	"flag"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/agent/director"
)

var flagCanaries = flag.Float64("sim.canaries", 0, "virtual hours within which the rare canaries must be caught; 0: leave them out")

// canary is a rule that is switched off. A simulation that does not notice proves nothing.
type canary struct {
	name     string
	profile  string  // of the faults; empty: drawn from the seed
	hours    float64 // of simulation after which it is always noticed; 0: rare, see -sim.canaries
	lease    lease.Broken
	director director.Broken
	broken   Broken
}

var canaries = []canary{
	{name: "NoGuard", broken: Broken{NoGuard: true}},
	{name: "RelativeOnly", broken: Broken{RelativeOnly: true}},
	{name: "AbsoluteOnly", broken: Broken{AbsoluteOnly: true}},
	{name: "SlewedTimeout", broken: Broken{SlewedTimeout: true}},
	{name: "KeepLeftovers", broken: Broken{KeepLeftovers: true}},
	{name: "WallClock", broken: Broken{WallClock: true}},
	{name: "ForgetCeiling", broken: Broken{ForgetCeiling: true}},
	{name: "ForgetCeiling without H3, H4", broken: Broken{ForgetCeiling: true}, lease: lease.Broken{NoFirstCheck: true, KeepOwnWhenSuperseded: true}},

	{name: "ReleaseBeforeInvisible", director: director.Broken{ReleaseBeforeInvisible: true}},

	{name: "ShortPromise", lease: lease.Broken{ShortPromise: true}},
	{name: "NoAbstain", lease: lease.Broken{NoAbstain: true}},
	{name: "FirstWhileAbstaining", lease: lease.Broken{FirstWhileAbstaining: true}},
	{name: "NoAbstain, FirstWhileAbstaining", lease: lease.Broken{NoAbstain: true, FirstWhileAbstaining: true}},
	{name: "AcceptOlderEpochs", lease: lease.Broken{AcceptOlderEpochs: true}},
	{name: "AcceptOlderEpochs without H3, H4", lease: lease.Broken{AcceptOlderEpochs: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
	{name: "ClearRunningPromise", lease: lease.Broken{ClearRunningPromise: true}},
	{name: "ClearRunningPromise without H3", lease: lease.Broken{ClearRunningPromise: true, NoFirstCheck: true}},
	{name: "ClearResetsPromise", lease: lease.Broken{ClearResetsPromise: true}},
	{name: "CountFromAnswer", lease: lease.Broken{CountFromAnswer: true}},
	{name: "LateAckRevives", lease: lease.Broken{LateAckRevives: true}},
	{name: "IgnoreClaimDeadline", lease: lease.Broken{IgnoreClaimDeadline: true}},
	{name: "IgnoreClaimDeadline without H3, H4", lease: lease.Broken{IgnoreClaimDeadline: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
	{name: "AnyLife", lease: lease.Broken{AnyLife: true}},
	{name: "AnyHolder", lease: lease.Broken{AnyHolder: true}},
	{name: "NoFirstCheck", lease: lease.Broken{NoFirstCheck: true}},
	{name: "KeepOwnWhenSuperseded", lease: lease.Broken{KeepOwnWhenSuperseded: true}},
	{name: "NoFirstCheck, KeepOwnWhenSuperseded", lease: lease.Broken{NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
	{name: "TakeReleaseBack", lease: lease.Broken{TakeReleaseBack: true}},
	{name: "LateClearances", lease: lease.Broken{LateClearances: true}},
	{name: "LateClearances without H3, H4", lease: lease.Broken{LateClearances: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
	{name: "ForgetClearance", lease: lease.Broken{ForgetClearance: true}},
	{name: "ForgetClearance without H3, H4", lease: lease.Broken{ForgetClearance: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
	{name: "AnyConfiguration", lease: lease.Broken{AnyConfiguration: true}},
}

func TestCanariesAreCaught(t *testing.T) {
	for _, c := range canaries {
		t.Run(c.name, func(t *testing.T) {
			hours := c.hours
			if hours == 0 {
				hours = *flagCanaries
			}
			if hours == 0 {
				t.Skip("rare: see -sim.canaries")
			}
			var total Stats
			for seed := *flagFirst; total.Simulated.Hours() < hours; seed++ {
				o := Run(Config{Seed: seed, Span: span, Lease: c.lease, Director: c.director, Broken: c.broken,
					Adversarial: *flagAdversarial, Profile: cmp.Or(*flagProfile, c.profile)})
				total.Add(o.Stats)
				if v := o.Violation; v != nil && v.Invariant[0] == 'S' { // being without an owner would be no proof
					t.Logf("seed %d, after %.2f hours: %s, %s", seed, total.Simulated.Hours(), o.Shape, v)
					return
				}
			}
			t.Errorf("not noticed in %v", total.Simulated.Round(time.Second))
		})
	}
}
