package fencing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/clock"
)

// PlaceRules say which director is to own a group.
type PlaceRules struct {
	Prefer    []string // directors, the best first
	ApartFrom []string // groups that had better not be on the same director
}

// PlaceConfig says which directors are to own which groups. All directors have the same one.
type PlaceConfig struct {
	Rules map[string]PlaceRules // by group; where MaxGroups is zero, other groups are where their priorities lead them
	Most  int                   // groups of one director, while another one has room; 0: no limit
}

// Placed tells whether the rules decide about a group.
func (c *PlaceConfig) Placed(group string) bool {
	_, ok := c.Rules[group]
	return ok || c.Most > 0
}

// PlaceGroup is what the directors say of a group.
type PlaceGroup struct {
	Name  string
	Owner string           // the director that owns it; empty: nobody does
	Able  map[string]uint8 // directors that could own it, and do if it is theirs: their priorities
}

// Place is where a group is to be.
type Place struct {
	Node   string // empty: nobody could own it
	Reason string
}

// Places decides where groups are to be: a pure function of what everybody says, that gives all directors the same answer if they
// know the same. Groups are placed in the order of their names. Of the directors that could own a group it takes the one that has
// room, then one without a group that this one is to be apart from, then the most preferred, then the one with the highest
// priority if the group has rules of its own, then the one that has it. Room and distance are wishes: a group that somebody could
// own has a place. Once every group is where it is to be, the same words give the same places.
func Places(c PlaceConfig, groups []PlaceGroup) map[string]Place {
	groups = slices.Clone(groups)
	slices.SortFunc(groups, func(a, b PlaceGroup) int { return strings.Compare(a.Name, b.Name) })
	places, load, on := map[string]Place{}, map[string]int{}, map[string]map[string]bool{}
	settle := func(group, node string) {
		if load[node]++; on[node] == nil {
			on[node] = map[string]bool{}
		}
		on[node][group] = true
	}
	for _, g := range groups {
		if g.Owner != "" && !c.Placed(g.Name) {
			settle(g.Name, g.Owner) // where it is, it counts
		}
	}
	for _, g := range groups {
		if !c.Placed(g.Name) {
			continue
		}
		rules, own := c.Rules[g.Name]
		best := choice{}
		for node, priority := range g.Able {
			x := choice{node: node, full: c.Most > 0 && load[node] >= c.Most, rank: len(rules.Prefer), owner: node == g.Owner}
			for other := range on[node] {
				x.near = x.near || slices.Contains(rules.ApartFrom, other) || slices.Contains(c.Rules[other].ApartFrom, g.Name)
			}
			if i := slices.Index(rules.Prefer, node); i >= 0 {
				x.rank = i
			}
			if own {
				x.priority = priority
			}
			if best.node == "" || x.before(best) {
				best = x
			}
		}
		if best.node == "" {
			continue
		}
		settle(g.Name, best.node)
		places[g.Name] = Place{Node: best.node, Reason: best.reason(g, rules)}
	}
	return places
}

// choice is a director that could own a group.
type choice struct {
	node       string
	full, near bool
	rank       int
	priority   uint8
	owner      bool
}

func (x choice) before(y choice) bool {
	no := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(no(x.full), no(y.full)), cmp.Compare(no(x.near), no(y.near)), cmp.Compare(x.rank, y.rank),
		cmp.Compare(y.priority, x.priority), cmp.Compare(no(y.owner), no(x.owner)), strings.Compare(x.node, y.node)) < 0
}

// reason says why the group is to be there and not where it is.
func (x choice) reason(g PlaceGroup, rules PlaceRules) string {
	switch owner := slices.Index(rules.Prefer, g.Owner); {
	case x.owner || g.Owner == "":
		return ""
	case x.rank < len(rules.Prefer) && (owner < 0 || x.rank < owner):
		return fmt.Sprintf("%s is preferred to %s", x.node, g.Owner)
	default:
		return fmt.Sprintf("%s is to own it, by max_groups, apart_from or priority", x.node)
	}
}

// Failback says when a group goes back to the director that is to own it.
type Failback struct {
	Never       bool
	After       time.Duration // for which that director has been fit
	Window      bool          // only from From to Until each day
	From, Until int           // minutes after midnight; Until before From is on the next day
}

// open tells whether a minute of the day is in the window.
func (f Failback) open(minute int) bool {
	switch {
	case !f.Window:
		return true
	case f.From < f.Until:
		return f.From <= minute && minute < f.Until
	default:
		return f.From <= minute || minute < f.Until
	}
}

// Pull is one director's patience with a group that is to be its own and is another's: it takes the group when the failback says so,
// and the more often it has taken it lately, the later. So it takes a group from another at most StrikesPerHour times in an hour, whatever comes
// and goes: see BackOff.
type Pull struct {
	fitSince clock.Time // zero: it could not own the group
	pulls    BackOff
}

// Due tells whether the director may take the group now. It is asked again and again, so that it knows how long the director has
// been fit. minute is the minute of the day.
func (p *Pull) Due(now clock.Time, minute int, fit bool, f Failback) bool {
	switch {
	case !fit:
		p.fitSince = 0
		return false
	case p.fitSince.IsZero():
		p.fitSince = now
	}
	return !f.Never && f.open(minute) && now >= p.fitSince.Add(max(f.After, p.pulls.Wait()))
}

// Took says that the director has taken the group from another one.
func (p *Pull) Took(now clock.Time) {
	p.pulls.Strike(now)
	p.pulls.Calm(now)
}
