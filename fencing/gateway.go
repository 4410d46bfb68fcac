package fencing

import (
	"slices"
	"time"

	"github.com/hactl/had/internal/clock"
)

// Sight is how a director sees a gateway, or all of them together. The greater, the worse.
type Sight uint8

// The sights.
const (
	Sees     Sight = iota // the gateway answers
	Doubts                // it counts as reachable, but a probe was lost lately
	Recovers              // it does not count as reachable yet, but nothing says that it is not
	Blind                 // it does not answer
)

// GatewayRules say when a gateway counts as reachable.
type GatewayRules struct {
	Interval time.Duration // between two probes
	Fall     int           // probes lost in a row that make it unreachable
	Rise     int           // probes answered in a row that make it reachable again
}

// SightSpread is how long the word of one director on what it sees may take to the others.
const SightSpread = 750 * time.Millisecond

// settle is the least time between the first probe that tells something new and the conclusion from it. All directors probe
// within one interval, so those that lose a gateway together have said by then that they doubt it, and those that find it
// again together have said that they recover: a gateway that is down for everybody looks like that to everybody.
func (r GatewayRules) settle() time.Duration { return r.Interval + SightSpread }

// Gateway counts the probes of one gateway.
type Gateway struct {
	rules   GatewayRules
	sight   Sight
	outcome bool       // of the last probe
	streak  int        // probes with the same outcome, the last one included
	since   clock.Time // the first of them; zero: none yet
	seen    clock.Time // when the last probe that was answered was sent; zero: none was
}

// result takes in the outcome of a probe.
func (g *Gateway) result(now clock.Time, answered bool) {
	if g.since.IsZero() || answered != g.outcome {
		g.streak, g.since, g.outcome = 0, now, answered
	}
	g.streak++
	settled := now >= g.since.Add(g.rules.settle())
	reachable := g.sight == Sees || g.sight == Doubts
	switch {
	case answered && (g.sight == Sees || settled && (reachable || g.streak >= g.rules.Rise)):
		g.sight = Sees
	case answered && reachable:
		g.sight = Doubts
	case answered:
		g.sight = Recovers
	case g.streak >= g.rules.Fall && settled:
		g.sight = Blind
	case reachable:
		g.sight = Doubts
	}
}

// Gateways is what one director's probes of its gateways say. A director whose gateways come and go loses them at most StrikesPerHour
// times in an hour: see BackOff. One goroutine calls it; make one with NewGateways.
type Gateways struct {
	need     int
	all      []Gateway
	lost     bool // Blind, and not good again for long enough since
	losses   BackOff
	goodFrom clock.Time // since when enough gateways answer; zero: they do not
}

// NewGateways returns the sight of gateways of which a director needs to reach a number: 1 to len(rules).
func NewGateways(rules []GatewayRules, need int) *Gateways {
	g := &Gateways{need: need}
	for _, r := range rules {
		g.all = append(g.all, Gateway{rules: r, sight: Recovers})
	}
	return g
}

// Result takes in the outcome of a probe of the gateway of an index that was sent at a time.
func (g *Gateways) Result(now clock.Time, index int, sent clock.Time, answered bool) {
	if answered {
		g.all[index].seen = sent
	}
	g.all[index].result(now, answered)
	switch raw := g.raw(); {
	case raw == Blind && !g.lost:
		g.losses.Strike(now)
		g.lost, g.goodFrom = true, 0
	case raw >= Recovers:
		g.goodFrom = 0
	case g.goodFrom.IsZero():
		g.goodFrom = now
	}
	if g.lost && !g.goodFrom.IsZero() && now >= g.goodFrom.Add(g.losses.Wait()) {
		g.lost = false
		g.losses.Calm(now)
	}
}

// Sight is how the director sees its gateways together.
func (g *Gateways) Sight() Sight {
	if raw := g.raw(); !g.lost || raw == Blind {
		return raw
	}
	return Recovers
}

// Seen is the newest time since which as many gateways as are needed have answered a probe; zero: they never have. Whatever
// became of the prober, and of this process: from then on nothing is known.
func (g *Gateways) Seen() clock.Time {
	var all []clock.Time
	for i := range g.all {
		all = append(all, g.all[i].seen)
	}
	slices.Sort(all)
	return all[len(all)-g.need]
}

// Each is how it sees the gateway of an index.
func (g *Gateways) Each(index int) Sight { return g.all[index].sight }

// raw is the sight of the worst of those that are needed, at best.
func (g *Gateways) raw() Sight {
	sights := make([]Sight, len(g.all))
	for i := range g.all {
		sights[i] = g.all[i].sight
	}
	slices.Sort(sights)
	return sights[g.need-1]
}
