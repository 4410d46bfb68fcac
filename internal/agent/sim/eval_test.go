package sim

import (
	"flag"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
)

var flagEval = flag.Int("sim.eval", 2000, "")

func TestEval(t *testing.T) {
	for _, c := range []struct {
		name string
		b    lease.Broken
	}{
		{"ShortPromise", lease.Broken{ShortPromise: true}},
		{"NoAbstain", lease.Broken{NoAbstain: true}},
		{"First", lease.Broken{FirstWhileAbstaining: true}},
		{"NoAbstain+First", lease.Broken{NoAbstain: true, FirstWhileAbstaining: true}},
		{"V1", lease.Broken{AcceptOlderEpochs: true}},
		{"V1-H3H4", lease.Broken{AcceptOlderEpochs: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"V1-H3", lease.Broken{AcceptOlderEpochs: true, NoFirstCheck: true}},
		{"V2", lease.Broken{ClearRunningPromise: true}},
		{"V2-H3", lease.Broken{ClearRunningPromise: true, NoFirstCheck: true}},
		{"V2-H3H4", lease.Broken{ClearRunningPromise: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"H5", lease.Broken{ClearResetsPromise: true}},
		{"O2", lease.Broken{CountFromAnswer: true}},
		{"O3", lease.Broken{LateAckRevives: true}},
		{"O4", lease.Broken{IgnoreClaimDeadline: true}},
		{"O4-H3H4", lease.Broken{IgnoreClaimDeadline: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"H1", lease.Broken{AnyLife: true}},
		{"H1-H3H4", lease.Broken{AnyLife: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"H1-V3", lease.Broken{AnyLife: true, NoAbstain: true}},
		{"H2", lease.Broken{AnyHolder: true}},
		{"H2-H3H4", lease.Broken{AnyHolder: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"H3", lease.Broken{NoFirstCheck: true}},
		{"H4", lease.Broken{KeepOwnWhenSuperseded: true}},
		{"H3H4", lease.Broken{NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"H7", lease.Broken{TakeReleaseBack: true}},
		{"H8", lease.Broken{LateClearances: true}},
		{"H8-H3H4", lease.Broken{LateClearances: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"H8-O4-H3H4", lease.Broken{LateClearances: true, IgnoreClaimDeadline: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"C1", lease.Broken{ForgetClearance: true}},
		{"C1-H3", lease.Broken{ForgetClearance: true, NoFirstCheck: true}},
		{"C1-H3H4", lease.Broken{ForgetClearance: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"V3clear-H3H4", lease.Broken{NoAbstain: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
		{"V3first-H3H4", lease.Broken{FirstWhileAbstaining: true, NoFirstCheck: true, KeepOwnWhenSuperseded: true}},
	} {
		began := time.Now()
		caught := 0
		walks := 0
		msg := ""
		for seed := uint64(1); seed <= uint64(*flagEval); seed++ {
			d := newDuel(seed, 2+int(seed%4), c.b, false)
			d.run()
			walks++
			if d.err != "" {
				caught++
				if caught == 1 {
					t.Logf("%-16s first at walk %d (%d voters): %s", c.name, seed, 2+int(seed%4), d.err)
				}
				if caught >= 5 {
					break
				}
			}
		}
		t.Logf("%-16s %d of %d walks, %v %s", c.name, caught, walks, time.Since(began).Round(time.Second), msg)
	}
}
