package fencing

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

// stands makes what directors say of themselves from "x 100", "y 90-50": a priority, and what tracking has added to it.
func stands(words ...string) map[string]PlaceStand {
	able := map[string]PlaceStand{}
	for _, w := range words {
		var s PlaceStand
		name, rest, _ := strings.Cut(w, " ")
		if n, _ := fmt.Sscanf(rest, "%d%d", &s.Priority, &s.Gain); n == 0 {
			panic(w)
		}
		able[name] = s
	}
	return able
}

func TestWhatComesFirstWhereAGroupIsToBe(t *testing.T) {
	never := Failback{Never: true}
	rules := func(r PlaceRules) PlaceConfig { return PlaceConfig{Rules: map[string]PlaceRules{"g": r}} }
	prefer := PlaceRules{Prefer: []string{"x", "y"}}
	for _, tt := range []struct {
		name   string
		c      PlaceConfig
		groups []PlaceGroup
		want   string // places, by group
		reason string // of the place of g
		urgent bool
	}{
		{name: "preference before priority", c: rules(prefer), want: "g:x", reason: "x is preferred to y",
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("x 50", "y 150")}}},
		{name: "of two in their places the next best says why", c: rules(prefer), want: "g:x", reason: "x is preferred to y",
			groups: []PlaceGroup{{Name: "g", Owner: "x", Able: stands("x 50", "y 150")}}},
		{name: "who is not named comes last", c: rules(PlaceRules{Prefer: []string{"y"}}), want: "g:y", reason: "y is preferred to z",
			groups: []PlaceGroup{{Name: "g", Owner: "z", Able: stands("x 50", "y 50", "z 150")}}},
		{name: "who cannot is not taken", c: rules(prefer), want: "g:y",
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("y 150")}}},
		{name: "nobody can", c: rules(prefer), groups: []PlaceGroup{{Name: "g", Owner: "y"}}},
		{name: "without a preference the priority decides", c: rules(PlaceRules{}), want: "g:y", reason: "y has the higher priority",
			groups: []PlaceGroup{{Name: "g", Owner: "x", Able: stands("x 50", "y 150")}}},
		{name: "equals leave it where it is", c: rules(PlaceRules{}), want: "g:y",
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("x 50", "y 50")}}},
		{name: "tracking before preference", c: rules(prefer), want: "g:y", reason: "what is tracked speaks for y, against x", urgent: true,
			groups: []PlaceGroup{{Name: "g", Owner: "x", Able: stands("x 100-50", "y 50")}}},
		{name: "an operator before tracking", c: rules(prefer), want: "g:x",
			groups: []PlaceGroup{{Name: "g", Owner: "x", Moved: true, Able: stands("x 100-50", "y 50")}}},
		{name: "an operator's wish ends with the owner", c: rules(prefer), want: "g:x", reason: "",
			groups: []PlaceGroup{{Name: "g", Owner: "y", Moved: true, Able: stands("x 100")}}},
		{name: "never goes back", c: rules(PlaceRules{Prefer: []string{"x"}, Failback: never}), want: "g:y",
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("x 100", "y 50")}}},
		{name: "tracking moves what never goes back", c: rules(PlaceRules{Prefer: []string{"y"}, Failback: never}), want: "g:x", urgent: true,
			reason: "what is tracked speaks for x, against y",
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("x 100", "y 50-1")}}},
		{name: "distance before preference", c: rules(PlaceRules{Prefer: []string{"x"}, ApartFrom: []string{"a"}}), want: "a:x g:y",
			reason: "x owns a group that it is to be apart from",
			groups: []PlaceGroup{{Name: "g", Owner: "x", Able: stands("x 100", "y 100")}, {Name: "a", Owner: "x"}}},
		{name: "distance from both sides", want: "a:x g:y", reason: "x owns a group that it is to be apart from",
			c:      PlaceConfig{Rules: map[string]PlaceRules{"g": {Prefer: []string{"x"}}, "a": {ApartFrom: []string{"g"}}}},
			groups: []PlaceGroup{{Name: "g", Owner: "x", Able: stands("x 100", "y 100")}, {Name: "a", Owner: "x", Able: stands("x 100", "y 50")}}},
		{name: "distance is a wish", c: rules(PlaceRules{ApartFrom: []string{"a"}}), want: "a:x g:x",
			groups: []PlaceGroup{{Name: "g", Able: stands("x 100")}, {Name: "a", Owner: "x"}}},
		{name: "room before distance", want: "a:x b:y g:x", reason: "y owns max_groups already",
			c: PlaceConfig{MaxGroups: 2, Rules: map[string]PlaceRules{"g": {ApartFrom: []string{"a"}}}},
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("x 100", "y 100")}, {Name: "a", Owner: "x", Able: stands("x 1", "y 1")},
				{Name: "b", Owner: "y", Moved: true, Able: stands("y 1")}, {Name: "h", Owner: "y", Moved: true, Able: stands("y 1")}}},
		{name: "rules before those who have none", want: "a:y f:x g:x", reason: "x is preferred to y",
			c: PlaceConfig{MaxGroups: 2, Rules: map[string]PlaceRules{"g": prefer}},
			groups: []PlaceGroup{{Name: "g", Owner: "y", Able: stands("x 100", "y 100")}, {Name: "f", Owner: "x", Able: stands("x 1", "y 1")},
				{Name: "a", Owner: "y", Able: stands("x 1", "y 1")}}},
		{name: "the share of each", c: PlaceConfig{MaxGroups: 1}, want: "f:x g:y", reason: "x owns max_groups already",
			groups: []PlaceGroup{{Name: "f", Owner: "x", Able: stands("x 100", "y 50")}, {Name: "g", Owner: "x", Able: stands("x 100", "y 50")}}},
		{name: "no room for anybody", c: PlaceConfig{MaxGroups: 1}, want: "e:x f:y g:y",
			groups: []PlaceGroup{{Name: "e", Owner: "x", Able: stands("x 100", "y 50")}, {Name: "f", Owner: "y", Able: stands("x 100", "y 50")},
				{Name: "g", Owner: "y", Able: stands("x 100", "y 50")}}},
		{name: "one survivor has all", c: PlaceConfig{MaxGroups: 1}, want: "f:x g:x",
			groups: []PlaceGroup{{Name: "f", Owner: "x", Able: stands("x 100")}, {Name: "g", Owner: "x", Able: stands("x 100")}}},
		{name: "others are none of the rules' business", c: rules(prefer), want: "f:y",
			groups: []PlaceGroup{{Name: "f", Owner: "y", Able: stands("x 100", "y 50")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			places := Places(tt.c, tt.groups)
			delete(places, "h")
			var got []string
			for _, name := range slices.Sorted(maps.Keys(places)) {
				got = append(got, name+":"+places[name].Node)
			}
			if g := places["g"]; strings.Join(got, " ") != tt.want || g.Reason != tt.reason || g.Urgent != tt.urgent {
				t.Errorf("%s, %q, urgent %v", strings.Join(got, " "), g.Reason, g.Urgent)
			}
		})
	}
}

// TestPlacesAreGivenAndKept draws clusters at random: whatever somebody could own has a place there, and once everything is in its
// place nothing moves any more.
func TestPlacesAreGivenAndKept(t *testing.T) {
	again, most := 0, 0
	clusters := uint64(20_000)
	if testing.Short() {
		clusters = 1000
	}
	for seed := range clusters {
		rnd := rand.New(rand.NewPCG(seed, 3))
		nodes := []string{"a", "b", "c", "d"}[:2+rnd.IntN(3)]
		c := PlaceConfig{Rules: map[string]PlaceRules{}, MaxGroups: rnd.IntN(3)}
		var groups []PlaceGroup
		for i := range 1 + rnd.IntN(6) {
			g := PlaceGroup{Name: fmt.Sprintf("g%d", i), Moved: rnd.IntN(8) == 0, Able: map[string]PlaceStand{}}
			if rnd.IntN(2) == 0 {
				r := PlaceRules{Failback: Failback{Never: rnd.IntN(4) == 0}}
				for _, n := range rnd.Perm(len(nodes))[:rnd.IntN(len(nodes)+1)] {
					r.Prefer = append(r.Prefer, nodes[n])
				}
				if rnd.IntN(2) == 0 {
					r.ApartFrom = []string{fmt.Sprintf("g%d", rnd.IntN(6))}
				}
				c.Rules[g.Name] = r
			}
			for _, n := range nodes {
				if rnd.IntN(4) > 0 {
					g.Able[n] = PlaceStand{Priority: uint8(1 + rnd.IntN(4)), Gain: rnd.IntN(2) * -rnd.IntN(2)}
					g.Owner = n
				}
			}
			if rnd.IntN(8) == 0 {
				g.Owner = ""
			}
			groups = append(groups, g)
		}
		for round := 0; ; round++ {
			moved := false
			places := Places(c, groups)
			for i, g := range groups {
				p, placed := places[g.Name]
				if _, able := g.Able[p.Node]; placed && !able && g.Owner != p.Node {
					t.Fatalf("seed %d: %s is placed on %s, which could not own it", seed, g.Name, p.Node)
				}
				_, ruled := c.Rules[g.Name]
				if (ruled || c.MaxGroups > 0) && len(g.Able) > 0 && !placed {
					t.Fatalf("seed %d: %s has no place", seed, g.Name)
				}
				if placed && g.Owner != p.Node {
					groups[i].Owner, groups[i].Moved, moved = p.Node, false, true
				}
			}
			if !moved {
				break
			}
			if most = max(most, round); round > 0 {
				again++
			}
			if round > 2 {
				t.Fatalf("seed %d: groups move for the %d. time, and nothing has changed", seed, round+1)
			}
		}
	}
	t.Logf("%d times groups moved once more, at most %d times in a row", again, most)
}

// Groups that leave their owner go where the rules would have them without it; what else it has goes with them, or stays.
func TestHeirs(t *testing.T) {
	all := func(owners ...string) (groups []PlaceGroup) { // of groups a, b, c
		for i, owner := range owners {
			groups = append(groups, PlaceGroup{Name: string(rune('a' + i)), Owner: owner, Able: stands("x 100", "y 90", "z 80")})
		}
		return groups
	}
	rules := PlaceRules{Prefer: []string{"x", "y", "z"}}
	apart := PlaceRules{Prefer: []string{"x", "y", "z"}, ApartFrom: []string{"a"}}
	for _, tt := range []struct {
		name   string
		c      PlaceConfig
		groups []PlaceGroup
		leave  string // groups
		want   string
	}{
		{"room: both go", PlaceConfig{MaxGroups: 1, Rules: map[string]PlaceRules{"a": rules, "b": rules}}, all("x", "x"), "ab", "map[a:y b:z]"},
		{"room: one goes", PlaceConfig{MaxGroups: 1, Rules: map[string]PlaceRules{"a": rules, "b": rules}}, all("x", "x"), "b", "map[b:y]"},
		{"apart: both go", PlaceConfig{Rules: map[string]PlaceRules{"a": rules, "b": apart}}, all("x", "x"), "ab", "map[a:y b:z]"},
		{"apart: one goes", PlaceConfig{Rules: map[string]PlaceRules{"a": rules, "b": apart}}, all("x", "x"), "b", "map[b:y]"},
		{"apart from one that stays", PlaceConfig{Rules: map[string]PlaceRules{"b": apart}}, all("y", "x"), "b", "map[b:z]"},
		{"an operator had moved it", PlaceConfig{Rules: map[string]PlaceRules{"a": rules}}, []PlaceGroup{{Name: "a", Owner: "z", Moved: true,
			Able: stands("x 100", "z 80")}}, "a", "map[a:x]"},
		{"no rules", PlaceConfig{Rules: map[string]PlaceRules{"c": rules}}, all("x"), "a", "map[]"},
		{"no rules, and a share for each", PlaceConfig{MaxGroups: 1}, all("x", "y"), "a", "map[a:z]"},
		{"nobody else could own it", PlaceConfig{Rules: map[string]PlaceRules{"a": rules}}, []PlaceGroup{{Name: "a", Owner: "x", Able: stands("x 100")}},
			"a", "map[]"},
	} {
		before := fmt.Sprint(tt.groups)
		got := Heirs(tt.c, tt.groups, func(g PlaceGroup) bool { return strings.Contains(tt.leave, g.Name) })
		if fmt.Sprint(got) != tt.want || fmt.Sprint(tt.groups) != before {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}

func TestFailbackOpens(t *testing.T) {
	night := Failback{Window: true, From: 22 * 60, Until: 2*60 + 30}
	day := Failback{Window: true, From: 9 * 60, Until: 17 * 60}
	for _, tt := range []struct {
		f    Failback
		at   int
		open bool
	}{
		{night, 22*60 - 1, false}, {night, 22 * 60, true}, {night, 0, true}, {night, 2*60 + 29, true}, {night, 2*60 + 30, false},
		{day, 9*60 - 1, false}, {day, 9 * 60, true}, {day, 17*60 - 1, true}, {day, 17 * 60, false}, {Failback{}, 12 * 60, true},
	} {
		if tt.f.open(tt.at) != tt.open {
			t.Errorf("%v at %d: %v", tt.f, tt.at, !tt.open)
		}
	}
}

func TestPullWaits(t *testing.T) {
	s := func(seconds float64) clock.Time { return clock.Time(1 + seconds*float64(time.Second)) }
	var urgent = Place{Node: "x", Urgent: true}
	for _, tt := range []struct {
		name   string
		f      Failback
		at     Place
		minute int
		due    float64 // seconds after it is fit and wanted; 0: never
	}{
		{"immediately", Failback{}, Place{}, 0, 1},
		{"after 20 s", Failback{After: 20 * time.Second}, Place{}, 0, 20},
		{"never", Failback{Never: true}, Place{}, 0, 0},
		{"in its window", Failback{Window: true, From: 60, Until: 120}, Place{}, 60, 1},
		{"out of its window", Failback{Window: true, From: 60, Until: 120}, Place{}, 120, 0},
		{"never, and tracking", Failback{Never: true}, urgent, 0, 1},
		{"after 20 s, and tracking", Failback{After: 20 * time.Second}, urgent, 0, 1},
		{"out of its window, and tracking", Failback{Window: true, From: 60, Until: 120}, urgent, 120, 1},
	} {
		var p Pull
		due := 0.0
		for at := 0.0; at < 100 && due == 0; at += 0.5 {
			if p.Due(s(at), tt.minute, true, true, tt.at, tt.f) {
				due = at
			}
		}
		if due != tt.due {
			t.Errorf("%s: due after %g s, want %g", tt.name, due, tt.due)
		}
	}
	var p Pull
	ask := func(at float64, fit, wanted bool) bool {
		return p.Due(s(at), 0, fit, wanted, Place{}, Failback{After: 20 * time.Second})
	}
	for _, tt := range []struct {
		at          float64
		fit, wanted bool
		due         bool
	}{
		{0, true, false, false}, {10, true, true, false}, {19, true, true, false}, {20, true, true, true}, {21, true, false, false},
		{22, true, true, false}, {23, true, true, true}, {24, false, true, false}, {25, true, true, false}, {44, true, true, false},
		{45, true, true, true},
	} {
		if ask(tt.at, tt.fit, tt.wanted) != tt.due {
			t.Errorf("at %g: due is %v", tt.at, !tt.due)
		}
	}
}

// walker is a director of the random walk.
type walker struct {
	name  string
	fit   bool
	gain  int
	until clock.Time // when that may change
	pulls map[string]*Pull
	said  []map[string]PlaceStand // what all directors said lately
}

const walkDay = 24 * time.Hour

// TestTwentyFourHoursOfPlacing walks through whole days of directors that come and go, whose tracking says this and that, which hear
// of each other late, and of groups that are to be here or there. Whoever loses a group gives it to the fittest, as a fault does, and
// each director pulls what is to be its own. Nobody pulls a group more often than is promised, none against its failback; no group is
// without an owner while somebody is fit; and where all have been fit for long enough, all groups are where they are to be.
func TestTwentyFourHoursOfPlacing(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	days, step := uint64(4), 3*time.Second
	if testing.Short() {
		days, step = 1, 30*time.Second
	}
	for seed := range days {
		rnd := rand.New(rand.NewPCG(seed, 4))
		c := PlaceConfig{Rules: map[string]PlaceRules{
			"a": {Prefer: []string{"x", "y"}},
			"b": {Prefer: []string{"y", "x"}, ApartFrom: []string{"a"}, Failback: Failback{After: 30 * time.Second}},
			"c": {Prefer: []string{"z"}, Failback: Failback{Window: true, From: 22 * 60, Until: 2 * 60}},
			"d": {ApartFrom: []string{"c"}, Failback: Failback{Never: seed%4 < 2}},
		}, MaxGroups: int(seed % 3)}
		worst := seed%2 == 0 // each director fails, or its tracking does, as soon as it has pulled something
		walkers := []*walker{{name: "x"}, {name: "y"}, {name: "z"}}
		for _, w := range walkers {
			w.pulls, w.fit = map[string]*Pull{}, true
			for _, name := range names {
				w.pulls[name] = &Pull{}
			}
		}
		owner, moved := map[string]string{}, map[string]bool{}
		pulls, total, hours, most, displaced := map[string]int{}, 0, 0, 0, 0
		for now := clock.Time(time.Second); now < clock.Time(walkDay); now += clock.Time(step) {
			minute := int(time.Duration(now)/time.Minute) % (24 * 60)
			if h := int(time.Duration(now) / time.Hour); h != hours {
				hours, pulls = h, map[string]int{}
			}
			calm := time.Duration(now) > 20*time.Hour
			able := map[string]PlaceStand{}
			for i, w := range walkers {
				switch {
				case calm:
					w.fit, w.gain = true, 0
				case now >= w.until:
					switch {
					case !w.fit || w.gain != 0 || worst:
						w.fit, w.gain = true, 0
					case rnd.IntN(2) == 0:
						w.fit = false
					default:
						w.gain = -20
					}
					w.until = now.Add(time.Duration(1+rnd.IntN(1+rnd.IntN(1000))) * time.Second)
				}
				if w.fit {
					able[w.name] = PlaceStand{Priority: uint8(100 - i + w.gain), Gain: w.gain}
				}
			}
			var groups []PlaceGroup
			for _, name := range names {
				if _, fit := able[owner[name]]; !fit {
					owner[name], moved[name] = "", false
					for _, n := range slices.Sorted(maps.Keys(able)) {
						if owner[name] == "" || able[n].Priority > able[owner[name]].Priority {
							owner[name] = n
						}
					}
				}
				if owner[name] == "" && len(able) > 0 {
					t.Fatalf("seed %d: %s has no owner, and %v are fit", seed, name, able)
				}
				if !calm && !worst && owner[name] != "" && rnd.IntN(3600) == 0 { // an operator
					owner[name], moved[name] = slices.Sorted(maps.Keys(able))[rnd.IntN(len(able))], true
				}
				if calm && !moved["calm"] {
					moved[name] = false
				}
				groups = append(groups, PlaceGroup{Name: name, Owner: owner[name], Moved: moved[name], Able: able})
			}
			moved["calm"] = calm
			for _, w := range walkers {
				w.said = append(w.said, able)
				if len(w.said) > 5 {
					w.said = w.said[1:]
				}
				// It knows itself, and what the others said a while ago.
				known := map[string]PlaceStand{}
				maps.Copy(known, w.said[rnd.IntN(len(w.said))])
				delete(known, w.name)
				if self, fit := able[w.name]; fit {
					known[w.name] = self
				}
				seen := slices.Clone(groups)
				for i := range seen {
					seen[i].Able = known
				}
				places := Places(c, seen)
				for _, g := range seen {
					at, f := places[g.Name], c.Rules[g.Name].Failback
					_, ownerFit := known[g.Owner]
					wanted := ownerFit && at.Node == w.name && g.Owner != w.name
					if !w.pulls[g.Name].Due(now, minute, w.fit, wanted, at, f) || owner[g.Name] != g.Owner || moved[g.Name] {
						continue
					}
					if !at.Urgent && (f.Never || f.Window && (minute >= 2*60 && minute < 22*60)) {
						t.Fatalf("seed %d: %s pulled %s at minute %d", seed, w.name, g.Name, minute)
					}
					w.pulls[g.Name].Took(now)
					owner[g.Name] = w.name
					total++
					key := w.name + g.Name
					pulls[key]++
					if most = max(most, pulls[key]); pulls[key] > StrikesPerHour {
						t.Fatalf("seed %d: %s pulled %s %d times in hour %d", seed, w.name, g.Name, pulls[key], hours)
					}
					if worst && !calm {
						if w.until = now.Add(time.Duration(2+rnd.IntN(20)) * step); rnd.IntN(2) == 0 {
							w.fit = false
						} else {
							w.gain = -20
						}
					}
				}
			}
			if time.Duration(now) < 23*time.Hour {
				continue
			}
			for name, p := range Places(c, groups) {
				if f := c.Rules[name].Failback; owner[name] != p.Node && !f.Never {
					displaced++
				}
			}
		}
		if total == 0 || displaced > 0 {
			t.Errorf("seed %d: %d pulls; %d times a group was not where it is to be after hours of calm", seed, total, displaced)
		}
		t.Logf("seed %d: %d pulls of %d groups by 3 directors in a day, at most %d an hour of one group by one director", seed, total, len(names), most)
	}
}
