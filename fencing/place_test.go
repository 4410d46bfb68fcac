package fencing

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

// TestPlacesAreGivenAndKept draws clusters at random: whatever somebody could own has a place there, and once everything is in its
// place nothing moves any more.
func TestPlacesAreGivenAndKept(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		nodes := []string{"a", "b", "c", "d"}[:2+rnd.IntN(3)]
		c := PlaceConfig{Rules: map[string]PlaceRules{}, Most: rnd.IntN(3)}
		var groups []PlaceGroup
		for i := range 1 + rnd.IntN(6) {
			g := PlaceGroup{Name: fmt.Sprintf("g%d", i), Able: map[string]uint8{}}
			if rnd.IntN(2) == 0 {
				r := PlaceRules{}
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
					g.Able[n] = uint8(1 + rnd.IntN(200))
				}
			}
			for n := range g.Able {
				if rnd.IntN(2) == 0 {
					g.Owner = n
				}
			}
			groups = append(groups, g)
		}
		places := Places(c, groups)
		for i, g := range groups {
			p, placed := places[g.Name]
			if _, able := g.Able[p.Node]; placed && !able {
				t.Fatalf("seed %d: %s is placed on %s, which could not own it", seed, g.Name, p.Node)
			}
			if c.Placed(g.Name) && len(g.Able) > 0 && !placed {
				t.Fatalf("seed %d: %s has no place", seed, g.Name)
			}
			if placed {
				groups[i].Owner = p.Node
			}
		}
		for name, p := range Places(c, groups) {
			if p != (Place{Node: places[name].Node}) {
				t.Fatalf("seed %d: %s was to be on %s, and is now to be on %s (%s)", seed, name, places[name].Node, p.Node, p.Reason)
			}
		}
	}
}

// walker is a director of the random walk.
type walker struct {
	name  string
	fit   bool
	until clock.Time // when that may change
	pulls map[string]*Pull
}

// TestTwentyFourHoursOfPlacing walks through whole days of directors that come and go, and of groups that are to be here or there.
// Whoever loses a group gives it to the fittest, as a fault does, and each director pulls what is to be its own. Nobody pulls a
// group more often than is promised, no group is without an owner while somebody is fit, and where all have been fit for long enough,
// all groups are where they are to be.
func TestTwentyFourHoursOfPlacing(t *testing.T) {
	const day = 24 * time.Hour
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		c := PlaceConfig{Rules: map[string]PlaceRules{
			"a": {Prefer: []string{"x", "y"}}, "b": {Prefer: []string{"y", "x"}, ApartFrom: []string{"a"}}, "c": {Prefer: []string{"z"}},
			"d": {ApartFrom: []string{"c"}},
		}, Most: int(seed % 3)}
		failbacks := map[string]Failback{"b": {After: 30 * time.Second}, "c": {Window: true, From: 22 * 60, Until: 2 * 60}, "d": {Never: seed%2 == 0}}
		worst := seed < 3 // each director fails as soon as it has pulled something
		walkers := []*walker{{name: "x"}, {name: "y"}, {name: "z"}}
		for _, w := range walkers {
			w.pulls, w.fit = map[string]*Pull{"a": {}, "b": {}, "c": {}, "d": {}}, true
		}
		owner, pulls, hours := map[string]string{}, map[string]int{}, 0
		total, displaced := 0, 0
		for now := clock.Time(time.Second); now < clock.Time(day); now += clock.Time(time.Second) {
			minute := int(time.Duration(now)/time.Minute) % (24 * 60)
			if h := int(time.Duration(now) / time.Hour); h != hours {
				hours, pulls = h, map[string]int{}
			}
			calm := time.Duration(now) > 20*time.Hour
			able := map[string]uint8{}
			for i, w := range walkers {
				switch {
				case calm:
					w.fit = true
				case now >= w.until:
					w.fit = !w.fit || worst
					w.until = now.Add(time.Duration(1+rnd.IntN(1+rnd.IntN(1000))) * time.Second)
				}
				if w.fit {
					able[w.name] = uint8(100 - i)
				}
			}
			var groups []PlaceGroup
			for _, name := range []string{"a", "b", "c", "d"} {
				if _, fit := able[owner[name]]; !fit {
					owner[name] = ""
					for n, priority := range able {
						if owner[name] == "" || priority > able[owner[name]] {
							owner[name] = n
						}
					}
				}
				if owner[name] == "" && len(able) > 0 {
					t.Fatalf("seed %d: %s has no owner, and %v are fit", seed, name, able)
				}
				groups = append(groups, PlaceGroup{Name: name, Owner: owner[name], Able: able})
			}
			places := Places(c, groups)
			for _, w := range walkers {
				for _, g := range groups {
					due := w.pulls[g.Name].Due(now, minute, w.fit, failbacks[g.Name])
					if !due || places[g.Name].Node != w.name || owner[g.Name] == w.name {
						continue
					}
					w.pulls[g.Name].Took(now)
					owner[g.Name] = w.name
					total++
					key := w.name + g.Name
					if pulls[key]++; pulls[key] > StrikesPerHour {
						t.Fatalf("seed %d: %s pulled %s %d times in hour %d", seed, w.name, g.Name, pulls[key], hours)
					}
					if worst && !calm {
						w.fit, w.until = false, now.Add(time.Second)
					}
				}
			}
			for name, p := range places {
				if f := failbacks[name]; time.Duration(now) > 23*time.Hour && owner[name] != p.Node && !f.Never {
					displaced++
				}
			}
		}
		if total == 0 || total > 24*StrikesPerHour*len(walkers)*4/2 || displaced > 0 {
			t.Errorf("seed %d: %d pulls; %d times a group was not where it is to be after hours of calm", seed, total, displaced)
		}
		t.Logf("seed %d: %d pulls of 4 groups by 3 directors in a day", seed, total)
	}
}
