package director

import (
	"fmt"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

// placeEvery is how often it is decided anew where groups are to be.
const placeEvery = 250 * time.Millisecond

// place finds out where groups are to be, and which of them this director may take from others now. Each director decides for itself,
// by what all of them say and by the log: there is nobody to ask, and nothing to lose with a leader.
func (m *Machine) place(now clock.Time) {
	if !m.cfg.Place.On() || !m.started || m.stopping {
		m.placeAt = 0
		return
	}
	if now < m.placeAt {
		return
	}
	m.placeAt = now.Add(placeEvery)
	groups := m.stands()
	places := fencing.Places(m.cfg.Place, groups)
	for i, g := range m.groups {
		g.spot = places[g.name]
		owner := groups[i].Owner
		_, fit := groups[i].Able[m.cfg.Node]
		// An owner that is not fit gives the group away, and one that is not there loses it: that is not decided here.
		_, ownerFit := groups[i].Able[owner]
		wanted := ownerFit && g.spot.Node == m.cfg.Node && owner != m.cfg.Node
		if owner == m.cfg.Node && g.asked != "" {
			continue // granted, and the lease is on its way: the claim stands until it is in hand
		}
		g.wish = ""
		if g.pull.Due(now, m.minute, fit, wanted, g.spot, m.cfg.Place.Rules[g.name].Failback) {
			g.wish = g.spot.Reason
		}
	}
}

// stands is what all directors say of themselves, by group.
func (m *Machine) stands() (groups []fencing.PlaceGroup) {
	for _, g := range m.groups {
		all := fencing.PlaceGroup{Name: g.name, Owner: m.node.Owner(g.name), Moved: m.log.Placed(g.name), Able: map[string]fencing.PlaceStand{}}
		for node, s := range m.node.Able(g.name) {
			all.Able[node] = fencing.PlaceStand{Priority: s.Priority, Gain: s.Gain}
		}
		if s := m.standing(g); s.Eligible {
			all.Able[m.cfg.Node] = fencing.PlaceStand{Priority: s.Priority, Gain: s.Gain}
		}
		groups = append(groups, all)
	}
	return groups
}

// heir is the director that is to have a group that this one gives away; empty: the rules do not say. It is asked at once for all groups
// that go in a step, so that one goes here and the other there.
func (m *Machine) heir(g *group) string {
	if !m.cfg.Place.On() {
		return ""
	}
	if m.heirs == nil {
		m.heirs = fencing.Places(m.cfg.Place, m.stands())
	}
	if at := m.heirs[g.name].Node; at != m.cfg.Node {
		return at
	}
	return ""
}

// Heirs are the directors that are to have a group of this one which it gives away: Alone, if it keeps the others, as when the group is
// moved; All, if it gives away all that it has, as at its shutdown and for its maintenance. Empty: the rules do not say.
type Heirs struct{ Alone, All string }

// Heirs returns the heirs of the groups that this director owns, by group.
func (m *Machine) Heirs() map[string]Heirs {
	heirs := map[string]Heirs{}
	if !m.cfg.Place.On() || !m.gated() {
		return heirs
	}
	groups := m.stands()
	all := fencing.Heirs(m.cfg.Place, groups, func(g fencing.PlaceGroup) bool { return g.Owner == m.cfg.Node })
	for _, goes := range groups {
		if goes.Owner == m.cfg.Node {
			alone := fencing.Heirs(m.cfg.Place, groups, func(g fencing.PlaceGroup) bool { return g.Name == goes.Name })
			heirs[goes.Name] = Heirs{Alone: alone[goes.Name], All: all[goes.Name]}
		}
	}
	return heirs
}

// placed lets the rules for places have their say on what VRRP wants. That nobody is heard is none of their business. Where a group has
// rules of its own they decide instead of its priorities; where it has none, its priorities do as long as this director has room.
func (m *Machine) placed(g *group, kind lease.ClaimKind, reason string) (lease.ClaimKind, string) {
	_, ruled := m.cfg.Place.Rules[g.name]
	switch {
	case kind == lease.MasterDown || !m.cfg.Place.On():
		return kind, reason
	case g.wish != "":
		return lease.Preempt, g.wish
	case ruled || m.crowded(g):
		return "", ""
	}
	return kind, reason
}

// crowded tells whether this director has, or is to have, as many other groups as one director has at most.
func (m *Machine) crowded(g *group) bool {
	count := 0
	for _, other := range m.groups {
		if other != g && (other.phase != away || other.asked != "" || other.spot.Node == m.cfg.Node) {
			count++
		}
	}
	return m.cfg.Place.MaxGroups > 0 && count >= m.cfg.Place.MaxGroups
}

// gain is what tracking adds to a group's configured priority, or takes.
func (g *group) gain() int {
	configured := 255
	for _, i := range g.instances {
		configured = min(configured, int(i.cfg.Priority))
	}
	return int(g.priority()) - configured
}

// spotText says where a group is to be, why, and what it waits for; empty if the rules say nothing.
func (m *Machine) spotText(g *group) string {
	rules, ruled := m.cfg.Place.Rules[g.name]
	if g.spot.Node == "" || !ruled && g.spot.Reason == "" {
		return ""
	}
	text := "is to be on " + g.spot.Node
	if g.spot.Reason != "" {
		text += ", since " + g.spot.Reason
	}
	if owner := m.node.Owner(g.name); owner == "" || owner == g.spot.Node {
		return text
	}
	if !g.spot.Urgent {
		text += "; it goes there " + rules.Failback.String()
	}
	if d := g.pull.Damped(); d > 0 && g.spot.Node == m.cfg.Node {
		text += fmt.Sprintf("; it has been taken often, and waits for %g quiet seconds", d.Seconds())
	}
	return text
}
