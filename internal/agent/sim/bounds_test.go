package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/hactl/had/vrrp"
)

// calm is two directors and a witness on a healthy network, advertisements every second, the first director preferred.
func calm(preempt bool) *shape {
	s := &shape{voters: 3, directors: 2, interval: time.Second, lease: 2500 * time.Millisecond, election: 400 * time.Millisecond,
		entriesKept: 1000}
	g := group{name: "G1", instances: []string{"VI_1"}, configs: map[int][]vrrp.Config{}}
	for m, priority := range []uint8{150, 100} {
		g.configs[m] = []vrrp.Config{{Name: "VI_1", VRID: 1, Version: vrrp.Version3, Family: vrrp.IPv4, AdvertInterval: s.interval,
			Priority: priority, DownTimerAdverts: 3, Preempt: preempt, GARP: vrrp.DefaultGARP(), Gated: true, Local: addressOf(m)}}
	}
	s.groups = []group{g}
	return s
}

const (
	hour    = time.Hour
	down    = 3*time.Second + 160*time.Second/256 // Active_Down_Interval of the second director
	moment  = 20 * time.Millisecond
	mourned = time.Second / 2 // until a companion that is slow is done, and an election on the way
)

// TestTimes holds the figures of the design's section 4.4 and of L2, L4: one fault at a time, at 25 random phases, on a
// cluster that is well otherwise.
func TestTimes(t *testing.T) {
	tests := []struct {
		name      string
		nopreempt bool
		faults    []Fault // At is counted from the moment of the fault
		moves     uint64
		dark      time.Duration // at most
		within    time.Duration // of the first fault the last move must have happened; zero: not asked
	}{
		{name: "nothing"},
		{name: "owner's host dies", faults: []Fault{{Kind: PowerCut, On: Owner, For: hour}}, moves: 1, dark: down + moment,
			within: down + moment},
		{name: "owner is cut off", faults: []Fault{{Kind: Isolate, On: Owner, For: hour}}, moves: 1, dark: down, within: down + moment},
		{name: "owner hears nobody", faults: []Fault{{Kind: Deafen, On: Owner, For: hour}}, moves: 1, dark: down, within: down + 5*time.Second},
		{name: "owner cannot send", faults: []Fault{{Kind: Mute, On: Owner, For: hour}}, moves: 1, dark: down, within: down + moment},
		{name: "owner is killed", faults: []Fault{{Kind: KillProc, On: Owner, For: hour}}, moves: 1, dark: down, within: down + moment},
		{name: "owner's daemon is killed, its companion lives", faults: []Fault{{Kind: KillDaemon, On: Owner, For: hour}}, moves: 1,
			dark: mourned, within: mourned},
		{name: "owner is stopped for long", faults: []Fault{{Kind: StopProc, On: Owner, For: hour}}, moves: 1, dark: down,
			within: down + moment},
		{name: "owner's machine is paused", faults: []Fault{{Kind: PauseVM, On: Owner, For: hour}}, moves: 1, dark: down + moment,
			within: down + moment},
		{name: "owner is stopped for half a second", faults: []Fault{{Kind: StopProc, On: Owner, For: time.Second / 2}}},
		{name: "owner's cluster port is blocked", faults: []Fault{{Kind: BlockPort, On: Owner, For: hour}}, moves: 1,
			dark: down + moment, within: down + 3*time.Second},
		{name: "owner is killed, which leads if a director does",
			faults: []Fault{{At: -5 * time.Second, Kind: MoveGroup, On: Leader}, {Kind: KillProc, On: Owner, For: hour}},
			moves:  1, dark: down, within: down + moment},
		{name: "owner is terminated", faults: []Fault{{Kind: Terminate, On: Owner, For: hour}}, moves: 1, dark: moment,
			within: 100 * time.Millisecond},
		{name: "owner's script fails", faults: []Fault{{Kind: Script, On: Owner, For: hour}}, moves: 1, dark: moment,
			within: 100 * time.Millisecond},
		{name: "owner loses its carrier", faults: []Fault{{Kind: LinkDown, On: Owner, For: hour}}, moves: 1, dark: down + moment,
			within: down + moment},
		{name: "move", faults: []Fault{{Kind: MoveGroup, On: Other}}, moves: 1, dark: moment, within: 100 * time.Millisecond},
		{name: "maintenance of the owner", faults: []Fault{{Kind: Maintain, On: Owner, For: hour}}, moves: 1, dark: moment,
			within: 200 * time.Millisecond},
		{name: "preemption", faults: []Fault{{Kind: Priority, On: Other, For: hour, By: 200}}, moves: 1, dark: moment,
			within: down},
		{name: "owner is cut off and comes back", faults: []Fault{{Kind: Isolate, On: Owner, For: 10 * time.Second}}, moves: 2,
			dark: down + moment},
		{name: "owner is cut off and comes back, nopreempt", nopreempt: true,
			faults: []Fault{{Kind: Isolate, On: Owner, For: 10 * time.Second}}, moves: 1, dark: down + moment},
		{name: "owner is killed and started again at once", faults: []Fault{{Kind: KillProc, On: Owner, For: 50 * time.Millisecond}},
			moves: 2, dark: 2 * down},

		{name: "advertisements are blocked", faults: []Fault{{Kind: BlockVRRP, For: hour}}},
		{name: "owner and other director are cut from each other",
			faults: []Fault{{Kind: Cut, On: Owner, To: Other, For: hour}, {Kind: Cut, On: Other, To: Owner, For: hour}}},
		{name: "owner and witness are cut from each other",
			faults: []Fault{{Kind: Cut, On: Owner, To: Voter, For: hour}, {Kind: Cut, On: Voter, To: Owner, For: hour}}},
		{name: "owner is not heard by the other director", faults: []Fault{{Kind: Cut, On: Owner, To: Other, For: hour}}},
		{name: "witness is cut off", faults: []Fault{{Kind: Isolate, On: Voter, For: hour}}},
		{name: "witness is killed", faults: []Fault{{Kind: KillProc, On: Voter, For: hour}}},
		{name: "witness restarts while the directors are cut from each other",
			faults: []Fault{{Kind: Cut, On: Owner, To: Other, For: hour}, {Kind: Cut, On: Other, To: Owner, For: hour},
				{At: 5 * time.Second, Kind: KillProc, On: Voter, For: 100 * time.Millisecond}}},
		{name: "other director is killed", faults: []Fault{{Kind: KillProc, On: Other, For: hour}}},
		{name: "other director comes back", faults: []Fault{{Kind: KillProc, On: Other, For: 5 * time.Second}}},
		{name: "other director is cut off and comes back", faults: []Fault{{Kind: Isolate, On: Other, For: 30 * time.Second}}},
		{name: "other director is stopped and goes on", faults: []Fault{{Kind: StopProc, On: Other, For: 30 * time.Second}}},
		{name: "owner's disk hangs", faults: []Fault{{Kind: HungDisk, On: Owner, For: hour}}},
		{name: "leader's disk hangs", faults: []Fault{{Kind: HungDisk, On: Leader, For: hour}}},
		{name: "all disks are slow", faults: []Fault{{Kind: SlowDisk, On: 0, For: hour}, {Kind: SlowDisk, On: 1, For: hour},
			{Kind: SlowDisk, On: 2, For: hour}}},
		{name: "wall clock is set forward", faults: []Fault{{Kind: StepWall, On: Owner, By: int64(time.Hour)}}, dark: moment},
		{name: "wall clock is set back", faults: []Fault{{Kind: StepWall, On: Owner, By: -int64(time.Hour)}}, dark: moment},
		{name: "kernel clock is slow", faults: []Fault{{Kind: Slew, On: Owner, For: hour, By: -83_333}}},
		{name: "kernel clock is fast", faults: []Fault{{Kind: Slew, On: Owner, For: hour, By: 83_333}}},
		{name: "addresses are flushed", faults: []Fault{{Kind: FlushAddrs, On: Owner}}, dark: moment},
		{name: "guard is flushed", faults: []Fault{{Kind: FlushGuard, On: Owner}}, dark: moment},
		{name: "somebody else's address is added by hand", faults: []Fault{{Kind: StrayAddr, On: Other}}},
		{name: "all are restarted", faults: []Fault{{Kind: KillAll, For: 100 * time.Millisecond}}, moves: 1, dark: 8 * time.Second},
	}
	phases := uint64(25)
	if testing.Short() {
		phases = 2
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			worst := Stats{}
			for seed := range phases {
				phase := newRandom(seed, 7)
				at := 20*time.Second + phase.span(0, 3*time.Second)
				plan := []Fault{}
				for _, f := range test.faults {
					f.At += at
					plan = append(plan, f)
				}
				cfg := Config{Seed: seed, Span: 60 * time.Second, Plan: plan, calm: calm(!test.nopreempt), noRecovery: true,
					countFrom: at}
				o := Run(cfg)
				if o.Violation != nil {
					t.Fatal(Report(cfg, o))
				}
				worst.Takeovers = max(worst.Takeovers, o.Stats.Takeovers)
				worst.Dark = max(worst.Dark, o.Stats.Dark)
				worst.LastMove = max(worst.LastMove, o.Stats.LastMove-at)
				if o.Stats.Takeovers > test.moves || o.Stats.Dark > test.dark ||
					test.within > 0 && o.Stats.LastMove-at > test.within {
					t.Errorf("seed %d: %s", seed, summary(o.Stats, at))
				}
			}
			t.Log("worst: " + summary(worst, 0))
		})
	}
}

// A new owner and one that keeps the group without a majority, and has the higher priority, hear each other's advertisements again, before
// the members reach each other or at the same time: the one with the lease stays, and the group is answered for all the time.
func TestAKeeperLeavesTheGroupToTheNewOwner(t *testing.T) {
	for _, onlyVRRP := range []bool{true, false} {
		met := 0
		for seed := range uint64(25) {
			phase := newRandom(seed, 7)
			at := 20*time.Second + phase.span(0, 3*time.Second)
			healed := at + 10*time.Second + phase.span(0, 2*time.Second)
			plan := []Fault{{At: 12 * time.Second, Kind: MoveGroup, On: 0}, {At: at, Kind: Isolate, On: 0, For: healed - at}}
			if onlyVRRP {
				plan = append(plan, Fault{At: at, Kind: BlockPort, On: 0, For: hour})
			}
			cfg := Config{Seed: seed, Span: 40 * time.Second, Hold: true, calm: calm(false), noRecovery: true, countFrom: healed, Plan: plan}
			o := Run(cfg)
			if o.Violation != nil {
				t.Fatal(Report(cfg, o))
			}
			if o.Stats.Dark > moment || o.Owners["G1"] != "lb2" {
				t.Errorf("seed %d, VRRP alone %t: owned by %q at the end, %s", seed, onlyVRRP, o.Owners["G1"], summary(o.Stats, healed))
			}
			if o.Stats.KeptBeside > 0 {
				met++
			}
		}
		if met == 0 {
			t.Error("the group was never kept beside the new owner: nothing is proved")
		}
	}
}

func summary(s Stats, at time.Duration) string {
	return fmt.Sprintf("%d moves, the last after %v, dark for %v", s.Takeovers, s.LastMove-at, s.Dark)
}
