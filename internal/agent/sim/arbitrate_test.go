package sim

import (
	"testing"
	"time"

	"github.com/hactl/had/internal/agent/director"
)

// TestTheGatewayDecidesBetweenTwo: two directors without a witness have two owners only if both of them say that they are unprotected, and
// have both reached the gateway lately; and all recover, with a lease.
func TestTheGatewayDecidesBetweenTwo(t *testing.T) {
	playKeeping(t, func(seed uint64) Config {
		cfg := Config{Seed: seed, Span: span, Arbitrate: true}
		if seed%2 == 0 {
			cfg.Profile = Lonely
		}
		return cfg
	})
}

// lone is Active_Down_Interval, or how long the other director has to be silent, whichever is longer, and a quarter of a lease for
// the one that lets the other one go first; and a look.
const lone = 7*time.Second*102/100 + 3*2500*time.Millisecond/4 + 100*time.Millisecond

// seen is how long it takes until one of two owners is counted as the one that is left, a keeping's interval: nobody is looked at more often.
const seen = 2500*time.Millisecond/4 + moment

// TestTimesWithoutAWitness is TestTimes for two directors and a gateway.
func TestTimesWithoutAWitness(t *testing.T) {
	both := func(kind Kind, at time.Duration) []Fault {
		return []Fault{{At: at, Kind: kind, On: 0, For: hour}, {At: at, Kind: kind, On: 1, For: hour}}
	}
	apart := []Fault{{Kind: Cut, On: 0, To: 1, For: hour}, {Kind: Cut, On: 1, To: 0, For: hour}}
	tests := []struct {
		name   string
		faults []Fault
		moves  uint64
		dark   time.Duration
		two    bool // owners
		kept   bool // somebody has it without a majority in the end
	}{
		{name: "nothing"},
		{name: "owner's host dies", faults: []Fault{{Kind: PowerCut, On: Owner, For: hour}}, moves: 1, dark: lone, kept: true},
		{name: "owner is killed", faults: []Fault{{Kind: KillProc, On: Owner, For: hour}}, moves: 1, dark: lone, kept: true},
		{name: "owner's daemon is killed, its companion lives", faults: []Fault{{Kind: KillDaemon, On: Owner, For: hour}}, moves: 1,
			dark: mourned, kept: true},
		{name: "owner's daemon is killed, its companion lives, and the gateway is down for both", dark: hour,
			faults: append(both(NoGateway, -10*time.Second), Fault{Kind: KillDaemon, On: Owner, For: hour})},
		{name: "owner's daemon is killed, its companion lives, and nobody hears it", moves: 1, dark: lone + moment, kept: true,
			faults: []Fault{{Kind: KillDaemon, On: Owner, For: hour}, {Kind: Isolate, On: Owner, For: hour}}},
		{name: "owner's daemon is killed, its companion lives, and it comes back", moves: 2, dark: mourned,
			faults: []Fault{{Kind: KillDaemon, On: Owner, For: 15 * time.Second}}},
		{name: "owner is stopped for long", faults: []Fault{{Kind: StopProc, On: Owner, For: hour}}, moves: 1, dark: lone, kept: true},
		{name: "owner's machine is paused", faults: []Fault{{Kind: PauseVM, On: Owner, For: hour}}, moves: 1, dark: lone + moment, kept: true},
		{name: "owner is cut off from everything", faults: []Fault{{Kind: Isolate, On: Owner, For: hour}}, moves: 1, dark: lone, kept: true},
		{name: "owner loses its carrier", faults: []Fault{{Kind: LinkDown, On: Owner, For: hour}}, moves: 1, dark: lone + moment, kept: true},
		{name: "owner is terminated", faults: []Fault{{Kind: Terminate, On: Owner, For: hour}}, moves: 1, dark: moment, kept: true},
		{name: "other director dies", faults: []Fault{{Kind: PowerCut, On: Other, For: hour}}, kept: true},
		{name: "other director is cut off from everything", faults: []Fault{{Kind: Isolate, On: Other, For: hour}}, kept: true},
		{name: "the cluster's port is cut, the LAN is not", faults: []Fault{{Kind: BlockPort, On: Owner, For: hour}}, kept: true},
		{name: "the LAN is cut, the cluster's port is not", faults: []Fault{{Kind: BlockVRRP, For: hour}}},
		{name: "the gateway is down for both", faults: both(NoGateway, 0)},
		{name: "the gateway is down for both, and the owner dies",
			faults: append(both(NoGateway, 0), Fault{At: 10 * time.Second, Kind: PowerCut, On: Owner, For: hour}), dark: hour},
		{name: "the two are cut from each other, the owner from the gateway",
			faults: append([]Fault{{Kind: NoGateway, On: Owner, For: hour}}, apart...), moves: 1, dark: lone, kept: true},
		{name: "the owner from the gateway, and a moment later the two from each other",
			faults: append([]Fault{{At: -2 * time.Second, Kind: NoGateway, On: Owner, For: hour}}, apart...), moves: 1, dark: lone, kept: true},
		{name: "the two are cut from each other, the other director from the gateway",
			faults: append([]Fault{{Kind: NoGateway, On: Other, For: hour}}, apart...), kept: true},
		{name: "the two are cut from each other, both see the gateway", faults: apart, two: true, moves: 1000, kept: true},
		{name: "both are restarted while they are cut from each other, the cluster's port alone",
			faults: []Fault{{Kind: BlockPort, On: 0, For: hour}, {Kind: KillAll, For: 100 * time.Millisecond}}, moves: 1, dark: 3 * lone, kept: true},
		{name: "the other director is restarted after the owner's death",
			faults: []Fault{{Kind: PowerCut, On: Owner, For: hour}, {Kind: KillProc, On: Other, For: 100 * time.Millisecond}},
			moves:  1, dark: 2 * lone, kept: true},
		{name: "owner dies and comes back", faults: []Fault{{Kind: KillProc, On: Owner, For: 15 * time.Second}}, moves: 2, dark: lone + moment},
		{name: "other director is cut off and comes back", faults: []Fault{{Kind: Isolate, On: Other, For: 15 * time.Second}}},
		{name: "owner is cut off from everything and comes back", faults: []Fault{{Kind: Isolate, On: Owner, For: 15 * time.Second}}, moves: 2,
			dark: lone + moment},
		{name: "the two are cut from each other for a while, both see the gateway", two: true, moves: 1000, dark: seen,
			faults: []Fault{{Kind: Cut, On: 0, To: 1, For: 15 * time.Second}, {Kind: Cut, On: 1, To: 0, For: 15 * time.Second}}},
		{name: "the LAN comes back first", two: true, moves: 1000, dark: seen, kept: true,
			faults: []Fault{{Kind: BlockPort, On: 0, For: hour}, {Kind: BlockVRRP, For: 15 * time.Second}}},
		{name: "the cluster's port comes back first", two: true, moves: 1000, dark: seen,
			faults: []Fault{{Kind: BlockPort, On: 0, For: 15 * time.Second}, {Kind: BlockVRRP, For: hour}}},
	}
	phases := uint64(6)
	if testing.Short() {
		phases = 2
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			worst, beside := Stats{}, uint64(0)
			for seed := range phases {
				phase := newRandom(seed, 7)
				at := 20*time.Second + phase.span(0, 3*time.Second)
				plan := []Fault{}
				for _, f := range test.faults {
					f.At += at
					plan = append(plan, f)
				}
				calm := calm(true)
				calm.voters = 2
				cfg := Config{Seed: seed, Span: 60 * time.Second, Plan: plan, calm: calm, noRecovery: true, countFrom: at, Arbitrate: true}
				o := Run(cfg)
				if o.Violation != nil {
					t.Fatal(Report(cfg, o))
				}
				beside = max(beside, o.Stats.KeptBeside)
				worst.Takeovers, worst.Dark = max(worst.Takeovers, o.Stats.Takeovers), max(worst.Dark, o.Stats.Dark)
				worst.LastMove = max(worst.LastMove, o.Stats.LastMove-at)
				if o.Stats.Takeovers > test.moves || o.Stats.Dark > test.dark || o.Stats.KeptBeside > 0 && !test.two {
					t.Errorf("seed %d: %s, %d times two owners", seed, summary(o.Stats, at), o.Stats.KeptBeside)
				}
				if owners := len(o.Owners); owners == 0 && test.dark < hour || test.kept != o.Unprotected {
					t.Errorf("seed %d: %d owners in the end, without a majority: %v", seed, owners, o.Unprotected)
				}
			}
			if test.two && beside == 0 {
				t.Error("there never were two owners: nothing is proved")
			}
			t.Logf("worst: %s, %d times two owners", summary(worst, 0), beside)
		})
	}
}

// TestATakeoverHasToWaitForTheBlind: else there are two owners until the one that has lost the other one and the gateway knows that it has.
func TestATakeoverHasToWaitForTheBlind(t *testing.T) {
	plan := []Fault{{Kind: Cut, On: 0, To: 1, For: hour}, {Kind: Cut, On: 1, To: 0, For: hour}, {Kind: NoGateway, On: Owner, For: hour}}
	for i := range plan {
		plan[i].At = 20 * time.Second
	}
	calm := calm(true)
	calm.voters = 2
	for _, broken := range []bool{false, true} {
		beside := false
		for seed := range uint64(10) {
			o := Run(Config{Seed: seed, Span: 40 * time.Second, Plan: plan, calm: calm, noRecovery: true, Arbitrate: true,
				Director: director.Broken{TakeBeforeBlind: broken}})
			beside = beside || o.Stats.KeptBeside > 0 || o.Violation != nil
		}
		if beside != broken {
			t.Errorf("without the rule: %v; two owners: %v", broken, beside)
		}
	}
}

// TestLastWordsAreThoseOfOneLife: the daemon of an owner dies and comes back, and is the owner again. What its companion said of its earlier
// life tells nothing of this one, which is then cut off from everything.
func TestLastWordsAreThoseOfOneLife(t *testing.T) {
	plan := []Fault{{At: 20 * time.Second, Kind: KillDaemon, On: Owner, For: time.Second}, {At: 40 * time.Second, Kind: MoveGroup, On: 0},
		{At: 50 * time.Second, Kind: Isolate, On: 0, For: hour}}
	calm := calm(true)
	calm.voters = 2
	for _, broken := range []bool{false, true} {
		beside := false
		for seed := range uint64(10) {
			o := Run(Config{Seed: seed, Span: 70 * time.Second, Plan: plan, calm: calm, noRecovery: true, Arbitrate: true,
				Director: director.Broken{WordsOfAnyLife: broken}})
			beside = beside || o.Stats.KeptBeside > 0 || o.Violation != nil
			if o.Owners["G1"] != "lb2" {
				t.Errorf("seed %d: %q is the owner in the end", seed, o.Owners["G1"])
			}
		}
		if beside != broken {
			t.Errorf("with the words of any life: %v; two owners: %v", broken, beside)
		}
	}
}
