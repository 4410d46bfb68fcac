package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/fencing"
)

// crew is a calm cluster with several groups, for all of which the first director has the higher priority.
func crew(groups int, c fencing.PlaceConfig) *shape {
	s := calm(true)
	only := s.groups[0]
	s.groups, s.places = nil, c
	for i := range groups {
		g := only
		g.name, g.instances, g.configs = fmt.Sprintf("G%d", i+1), []string{fmt.Sprintf("VI_%d", i+1)}, maps.Clone(only.configs)
		for m := range g.configs {
			g.configs[m] = slices.Clone(g.configs[m])
			g.configs[m][0].Name, g.configs[m][0].VRID = g.instances[0], uint8(i+1)
		}
		s.groups = append(s.groups, g)
	}
	return s
}

// TestGroupsAreWhereTheyAreToBe: who has which group at the end, and how often groups have moved for it.
func TestGroupsAreWhereTheyAreToBe(t *testing.T) {
	own := func(f fencing.Failback) fencing.PlaceConfig {
		return fencing.PlaceConfig{Rules: map[string]fencing.PlaceRules{
			"G1": {Prefer: []string{"lb1"}, Failback: f}, "G2": {Prefer: []string{"lb2"}, Failback: f}}}
	}
	apart := fencing.PlaceConfig{Rules: map[string]fencing.PlaceRules{"G2": {ApartFrom: []string{"G1"}}}}
	share := fencing.PlaceConfig{MaxGroups: 2}
	never, late := fencing.Failback{Never: true}, fencing.Failback{After: 30 * time.Second}
	window := func(from, until int) fencing.PlaceConfig { // minutes after the wall clocks' beginning
		return own(fencing.Failback{Window: true, From: (firstMinute + from) % (24 * 60), Until: (firstMinute + until) % (24 * 60)})
	}
	lost := func(machine int, d time.Duration) []Fault { return []Fault{{Kind: KillProc, On: machine, For: d}} }
	flap := func(kind Kind, by int64) (faults []Fault) { // for half an hour
		for at := time.Duration(0); at < 30*time.Minute; at += 12 * time.Second {
			faults = append(faults, Fault{At: at, Kind: kind, On: 0, For: 6 * time.Second, By: by})
		}
		return faults
	}
	seeds := uint64(2)
	if testing.Short() {
		seeds = 1
	}
	for _, tt := range []struct {
		name   string
		groups int
		places fencing.PlaceConfig
		faults []Fault
		end    string // groups of lb1 and of lb2, or their numbers
		moves  uint64 // at most
	}{
		{name: "each its own", groups: 2, places: own(fencing.Failback{}), end: "1 / 2"},
		{name: "one is lost", groups: 2, places: own(fencing.Failback{}), faults: lost(0, hour), end: " / 1 2", moves: 1},
		{name: "one is lost and comes back", groups: 2, places: own(fencing.Failback{}), faults: lost(0, 10*time.Second), end: "1 / 2", moves: 2},
		{name: "the other is lost and comes back", groups: 2, places: own(fencing.Failback{}), faults: lost(1, 10*time.Second), end: "1 / 2", moves: 2},
		{name: "comes back, never", groups: 1, places: own(never), faults: slices.Concat([]Fault{{At: -10 * time.Second, Kind: MoveGroup, On: 0}},
			lost(0, 10*time.Second)), end: " / 1", moves: 1},
		{name: "comes back, after 30 s", groups: 2, places: own(late), faults: lost(0, 10*time.Second), end: "1 / 2", moves: 2},
		{name: "comes back, and not for 30 s", groups: 2, places: own(late), faults: slices.Concat(lost(0, 5*time.Second),
			[]Fault{{At: 20 * time.Second, Kind: Script, On: 0, For: time.Second}, {At: 45 * time.Second, Kind: Script, On: 0, For: time.Second},
				{At: 70 * time.Second, Kind: Script, On: 0, For: hour}}), end: " / 1 2", moves: 1},
		{name: "comes back, and the window opens", groups: 2, places: window(3, 5), faults: lost(0, 10*time.Second), end: "1 / 2", moves: 2},
		{name: "comes back, and the window has not opened yet", groups: 2, places: window(30, 40), faults: lost(0, 10*time.Second), end: " / 1 2", moves: 1},
		{name: "comes back after the window", groups: 2, places: window(0, 1), faults: []Fault{{Kind: KillProc, On: 0, For: 80 * time.Second}},
			end: " / 1 2", moves: 1},
		{name: "comes back, and the clock is set into the window", groups: 2, places: window(30, 40), faults: slices.Concat(lost(0, 10*time.Second),
			[]Fault{{At: 30 * time.Second, Kind: StepWall, On: 0, By: int64(33 * time.Minute)}}), end: "1 / 2", moves: 2},
		{name: "maintenance", groups: 2, places: own(fencing.Failback{}), faults: []Fault{{Kind: Maintain, On: 1, For: hour}}, end: "1 2 / ", moves: 1},
		{name: "after maintenance", groups: 2, places: own(fencing.Failback{}), faults: []Fault{{Kind: Maintain, On: 1, For: 10 * time.Second}},
			end: "1 / 2", moves: 2},
		{name: "an operator has moved it", groups: 1, places: own(fencing.Failback{}), faults: []Fault{{Kind: MoveGroup, On: 1}}, end: " / 1", moves: 1},
		{name: "tracking speaks against one", groups: 2, places: own(late), faults: []Fault{{Kind: Priority, On: 0, For: hour, By: 90}},
			end: " / 1 2", moves: 1},
		{name: "nothing is heard", groups: 2, places: own(fencing.Failback{}), faults: []Fault{{Kind: BlockVRRP, For: hour}}, end: "1 / 2"},
		{name: "apart", groups: 2, places: apart, end: "1 / 2"},
		{name: "apart, and one is lost and comes back", groups: 2, places: apart, faults: lost(0, 10*time.Second), end: "1 / 2", moves: 4},
		{name: "the share of each", groups: 4, places: share, end: "2 / 2"},
		{name: "one is lost, which leaves no room", groups: 4, places: share, faults: lost(0, hour), end: "0 / 4", moves: 2},
		{name: "the share of each again", groups: 4, places: share, faults: lost(1, 10*time.Second), end: "2 / 2", moves: 4},
		{name: "a script comes and goes", groups: 2, places: own(fencing.Failback{}), faults: flap(Script, 0), moves: 8},
		{name: "what is tracked comes and goes", groups: 2, places: own(fencing.Failback{}), faults: flap(Priority, 90), moves: 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const at = time.Minute // when everything is in its place
			plan := []Fault{}
			for _, f := range tt.faults {
				f.At += at
				plan = append(plan, f)
			}
			length := 3 * time.Minute
			if n := len(plan); n > 0 {
				length += plan[n-1].At
			}
			for seed := range seeds {
				cfg := Config{Seed: seed, Span: length, Plan: plan, calm: crew(tt.groups, tt.places), noRecovery: true, countFrom: at}
				o := Run(cfg)
				if o.Violation != nil {
					t.Fatal(Report(cfg, o))
				}
				var has [2][]string
				for _, g := range slices.Sorted(maps.Keys(o.Owners)) {
					i := 0
					if o.Owners[g] == directorName(1) {
						i = 1
					}
					has[i] = append(has[i], strings.TrimPrefix(g, "G"))
				}
				end := strings.Join(has[0], " ") + " / " + strings.Join(has[1], " ")
				if tt.places.MaxGroups > 0 { // which groups it are is a matter of who was first
					end = fmt.Sprintf("%d / %d", len(has[0]), len(has[1]))
				}
				if tt.end != "" && end != tt.end || o.Stats.Takeovers > tt.moves || len(o.Owners) != tt.groups {
					t.Errorf("seed %d: at the end %q, want %q; %d moves, want at most %d", seed, end, tt.end, o.Stats.Takeovers, tt.moves)
				}
				t.Logf("seed %d: %d moves, %q", seed, o.Stats.Takeovers, end)
			}
		})
	}
}

// TestAGroupGoesWhereItIsForetold: whom a plan names is who has the group after a shutdown or for a maintenance, after one move.
func TestAGroupGoesWhereItIsForetold(t *testing.T) {
	three := func(groups int, c fencing.PlaceConfig) *shape {
		s := crew(groups, c)
		s.directors = 3
		for _, g := range s.groups {
			g.configs[2] = slices.Clone(g.configs[1])
			g.configs[2][0].Priority, g.configs[2][0].Local = 50, addressOf(2)
		}
		return s
	}
	rules := func(most int, by map[string]fencing.PlaceRules) fencing.PlaceConfig {
		return fencing.PlaceConfig{MaxGroups: most, Rules: by}
	}
	prefer := func(apart []string, nodes ...string) fencing.PlaceRules {
		return fencing.PlaceRules{Prefer: nodes, ApartFrom: apart}
	}
	for name, c := range map[string]fencing.PlaceConfig{
		"by preference": rules(0, map[string]fencing.PlaceRules{"G1": prefer(nil, "lb1", "lb3"), "G2": prefer(nil, "lb1", "lb2")}),
		"apart": rules(0, map[string]fencing.PlaceRules{"G1": prefer(nil, "lb1", "lb2"), "G2": prefer([]string{"G1"}, "lb2", "lb1"),
			"G3": prefer([]string{"G1", "G2"}, "lb3", "lb1")}),
		"a share for each": rules(2, map[string]fencing.PlaceRules{"G1": prefer(nil, "lb1", "lb2"), "G2": prefer(nil, "lb2"), "G3": prefer(nil, "lb2"),
			"G4": prefer(nil, "lb1", "lb2")}),
		"a share, and no rules": rules(2, nil),
	} {
		for _, kind := range []Kind{Maintain, Terminate} {
			for machine := range 3 {
				t.Run(fmt.Sprintf("%s, %s of %s", name, kind, directorName(machine)), func(t *testing.T) {
					t.Parallel()
					const at = time.Minute
					cfg := Config{Seed: uint64(machine), Span: at + 30*time.Second, calm: three(4, c), noRecovery: true, countFrom: at,
						Plan: []Fault{{At: at, Kind: kind, On: machine, For: hour}}}
					o := Run(cfg)
					if o.Violation != nil {
						t.Fatal(Report(cfg, o))
					}
					for group, was := range o.Before {
						if foretold := o.Heirs[group]; was == directorName(machine) && foretold != "" && o.Owners[group] != foretold {
							t.Errorf("%s was to go from %s to %s, and is on %s", group, was, foretold, o.Owners[group])
						}
					}
					t.Logf("before: %v; foretold: %v; at the end: %v; %d moves", o.Before, o.Heirs, o.Owners, o.Stats.Takeovers)
					if goes := len(o.Before) - unmoved(o); int(o.Stats.Takeovers) > goes {
						t.Errorf("%d moves for %d groups", o.Stats.Takeovers, goes)
					}
				})
			}
		}
	}
}

// unmoved counts the groups that are where they were.
func unmoved(o Outcome) (n int) {
	for group, was := range o.Before {
		if o.Owners[group] == was {
			n++
		}
	}
	return n
}
