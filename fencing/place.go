package fencing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/clock"
)

// PlaceRules say which director is to own a group.
type PlaceRules struct {
	Prefer    []string // directors, the best first
	ApartFrom []string // groups that had better not be on the same director
	Failback  Failback
}

// Rank is the place of a director among those that are preferred; the smaller, the better.
func (r PlaceRules) Rank(node string) int {
	if i := slices.Index(r.Prefer, node); i >= 0 {
		return i
	}
	return len(r.Prefer)
}

// PlaceConfig says which directors are to own which groups. All directors have the same one.
type PlaceConfig struct {
	Rules     map[string]PlaceRules // by group; other groups are where their priorities lead them
	MaxGroups int                   // of one director, while another one has room; 0: no limit
}

// For is what there is to be said of a group, in the words of the configuration; empty: nothing.
func (c *PlaceConfig) For(group string) string {
	var words []string
	if r, ok := c.Rules[group]; ok {
		if len(r.Prefer) > 0 {
			words = append(words, "prefer "+strings.Join(r.Prefer, " "))
		}
		if len(r.ApartFrom) > 0 {
			words = append(words, "apart_from "+strings.Join(r.ApartFrom, " "))
		}
		words = append(words, "failback "+r.Failback.String())
	}
	if c.MaxGroups > 0 {
		words = append(words, fmt.Sprintf("max_groups %d", c.MaxGroups))
	}
	return strings.Join(words, ", ")
}

// On tells whether there is anything to decide.
func (c *PlaceConfig) On() bool { return len(c.Rules) > 0 || c.MaxGroups > 0 }

// PlaceGroup is what the directors say of a group.
type PlaceGroup struct {
	Name  string
	Owner string                // the director that owns it; empty: nobody does
	Moved bool                  // an operator has moved it there
	Able  map[string]PlaceStand // directors that could own it, and do if it is theirs
}

// PlaceStand is a director's word on itself.
type PlaceStand struct {
	Priority uint8 // effective
	Gain     int   // of it: what tracking adds to the configured one, or takes
}

// Place is where a group is to be.
type Place struct {
	Node   string // empty: nobody could own it
	Reason string // why there, and not where it is or the next best
	Urgent bool   // what the owner tracks speaks against it: no failback, and it waits for none
}

// Places decides where groups are to be: a pure function of what everybody says, that gives all directors the same answer if they
// know the same. What an operator has moved and what never fails back stays where it is. Then come the groups with rules, by name; then
// those without rules, which stay as long as their owner has room, a place that another group waits for being taken; then the rest.
//
// Of the directors that could own a group with rules it takes the one that tracking speaks for, then one with room, then one
// without a group that this one is to be apart from, then the most preferred, then the highest priority, then the owner. Room and
// distance are wishes: a group that somebody could own has a place. Once every group is in its place, the same words give the
// same places.
func Places(c PlaceConfig, groups []PlaceGroup) map[string]Place {
	p := placing{c: c, places: map[string]Place{}, on: map[string][]string{}}
	p.groups = slices.SortedFunc(slices.Values(groups), func(a, b PlaceGroup) int { return strings.Compare(a.Name, b.Name) })
	ruled := func(g PlaceGroup) bool { _, ok := c.Rules[g.Name]; return ok }
	able := func(g PlaceGroup) bool { _, ok := g.Able[g.Owner]; return ok }
	p.stay(func(g PlaceGroup) bool {
		return able(g) && (g.Moved || ruled(g) && c.Rules[g.Name].Failback.Never && !outweighed(g))
	})
	p.choose(ruled)
	p.stay(func(g PlaceGroup) bool {
		return !ruled(g) && g.Owner != "" && (c.MaxGroups == 0 || able(g) && !p.full(g.Owner))
	})
	p.choose(func(g PlaceGroup) bool { return c.MaxGroups > 0 })
	return p.places
}

// Heirs are the directors, by group, that are to have groups which leave their owners together, while all others stay with theirs: it is
// Places without these owners. A group is missing if the rules do not say, or if nobody else could own it.
func Heirs(c PlaceConfig, groups []PlaceGroup, leaves func(PlaceGroup) bool) map[string]string {
	heirs, left := map[string]string{}, slices.Clone(groups)
	for i, g := range groups {
		if leaves(g) {
			left[i].Able = maps.Clone(g.Able)
			delete(left[i].Able, g.Owner)
		}
	}
	places := Places(c, left)
	for _, g := range groups {
		if at := places[g.Name].Node; leaves(g) && at != "" && at != g.Owner {
			heirs[g.Name] = at
		}
	}
	return heirs
}

// placing is Places on its way.
type placing struct {
	c      PlaceConfig
	groups []PlaceGroup
	places map[string]Place
	on     map[string][]string // groups by director, as far as they have a place
}

func (p *placing) full(node string) bool {
	return p.c.MaxGroups > 0 && len(p.on[node]) >= p.c.MaxGroups
}

func (p *placing) settle(g PlaceGroup, at Place) {
	p.places[g.Name] = at
	p.on[at.Node] = append(p.on[at.Node], g.Name)
}

// stay leaves groups where they are.
func (p *placing) stay(which func(PlaceGroup) bool) {
	for _, g := range p.groups {
		if _, settled := p.places[g.Name]; !settled && which(g) {
			p.settle(g, Place{Node: g.Owner})
		}
	}
}

// choose finds places for groups.
func (p *placing) choose(which func(PlaceGroup) bool) {
	for _, g := range p.groups {
		if _, settled := p.places[g.Name]; settled || !which(g) || len(g.Able) == 0 {
			continue
		}
		var choices []choice
		for node, stand := range g.Able {
			choices = append(choices, p.choice(g, node, stand))
		}
		slices.SortFunc(choices, func(a, b choice) int { order, _ := a.against(b); return order })
		best := choices[0]
		other := slices.IndexFunc(choices, func(x choice) bool { return x.node == g.Owner })
		if other < 1 && len(choices) > 1 { // it is not there, or in its place: then the next best tells why
			other = 1
		}
		at := Place{Node: best.node}
		if other > 0 {
			at.Reason = best.reason(choices[other])
			at.Urgent = choices[other].node == g.Owner && choices[other].gain < best.gain
		}
		p.settle(g, at)
	}
}

// choice is a director that could own a group.
type choice struct {
	node       string
	gain       int
	full, near bool
	rank       int
	keeps      bool // it owns the group, which has no rules
	priority   uint8
	owner      bool
}

func (p *placing) choice(g PlaceGroup, node string, stand PlaceStand) choice {
	x := choice{node: node, full: p.full(node), priority: stand.Priority, owner: node == g.Owner}
	rules, ruled := p.c.Rules[g.Name]
	if !ruled {
		x.keeps = x.owner
		return x
	}
	x.gain, x.rank = stand.Gain, rules.Rank(node)
	apart := func(other string) bool {
		return slices.Contains(rules.ApartFrom, other) || slices.Contains(p.c.Rules[other].ApartFrom, g.Name)
	}
	x.near = slices.ContainsFunc(p.on[node], apart) || slices.ContainsFunc(p.groups, func(o PlaceGroup) bool {
		_, ruled := p.c.Rules[o.Name]
		return !ruled && o.Owner == node && apart(o.Name) // it is there, and nothing says that it is to go
	})
	return x
}

// against orders two choices, the better one first, and tells which of the orders below decides.
func (x choice) against(y choice) (int, by) {
	for i, order := range [...]int{
		byGain:      cmp.Compare(y.gain, x.gain),
		byRoom:      less(x.full, y.full),
		byDistance:  less(x.near, y.near),
		byRank:      cmp.Compare(x.rank, y.rank),
		byKeeping:   less(y.keeps, x.keeps),
		byPriority:  cmp.Compare(y.priority, x.priority),
		byOwnership: less(y.owner, x.owner),
		byNames:     strings.Compare(x.node, y.node),
	} {
		if order != 0 {
			return order, by(i)
		}
	}
	return 0, byNames
}

// by is what speaks for one choice, against another.
type by int

const (
	byGain by = iota
	byRoom
	byDistance
	byRank
	byKeeping
	byPriority
	byOwnership
	byNames
)

// reason says what speaks for a choice; empty if there is nothing to be said.
func (x choice) reason(y choice) string {
	switch _, decides := x.against(y); decides {
	case byGain:
		return fmt.Sprintf("what is tracked speaks for %s, against %s", x.node, y.node)
	case byRoom:
		return y.node + " owns max_groups already"
	case byDistance:
		return y.node + " owns a group that it is to be apart from"
	case byRank:
		return fmt.Sprintf("%s is preferred to %s", x.node, y.node)
	case byPriority:
		return x.node + " has the higher priority"
	}
	return ""
}

// less orders false before true.
func less(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	default:
		return 1
	}
}

// outweighed tells whether what is tracked speaks for another director than the owner.
func outweighed(g PlaceGroup) bool {
	for _, stand := range g.Able {
		if stand.Gain > g.Able[g.Owner].Gain {
			return true
		}
	}
	return false
}

// Failback says when a group goes back to the director that is to own it.
type Failback struct {
	Never       bool
	After       time.Duration // for which that director has been fit
	Window      bool          // only from From to Until each day
	From, Until int           // minutes after midnight; Until before From is on the next day
}

// String is the failback as people say it.
func (f Failback) String() string {
	switch {
	case f.Never:
		return "never"
	case f.Window:
		return fmt.Sprintf("between %02d:%02d and %02d:%02d", f.From/60, f.From%60, f.Until/60, f.Until%60)
	case f.After > 0:
		return fmt.Sprintf("after %gs", f.After.Seconds())
	default:
		return "immediately"
	}
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

// pullSettle is how long a place has to stand before a group is pulled there: what the directors say of themselves takes a moment to
// get around.
const pullSettle = time.Second

// Pull is one director's patience with a group that is to be its own and is another's. It takes a group from another at most
// StrikesPerHour times in an hour, whatever comes and goes: see BackOff.
type Pull struct {
	fitSince    clock.Time // zero: it could not own the group
	wantedSince clock.Time // zero: the group is where it is to be, or to be somewhere else
	pulls       BackOff
}

// Due tells whether the director may take the group now. It is asked again and again, so that it knows since when the director has
// been fit to own the group, and since when it is wanted there. minute is the minute of the day.
func (p *Pull) Due(now clock.Time, minute int, fit, wanted bool, at Place, f Failback) bool {
	since := func(t *clock.Time, is bool) {
		switch {
		case !is:
			*t = 0
		case t.IsZero():
			*t = now
		}
	}
	since(&p.fitSince, fit)
	since(&p.wantedSince, fit && wanted)
	if p.wantedSince.IsZero() || now < p.wantedSince.Add(max(pullSettle, p.Damped())) {
		return false
	}
	return at.Urgent || !f.Never && f.open(minute) && now >= p.fitSince.Add(f.After)
}

// Damped is how long the group is to be wanted here before it is taken, because it has been taken often.
func (p *Pull) Damped() time.Duration { return p.pulls.Wait() }

// Took says that the director has taken the group from another one.
func (p *Pull) Took(now clock.Time) {
	p.pulls.Strike(now)
	p.pulls.Calm(now)
}
