package director

import (
	"time"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

// Placement says which director is to own which group, and when a group goes back there.
type Placement struct {
	fencing.PlaceConfig
	Failback map[string]fencing.Failback // by group
}

// placeEvery is how often it is decided anew where groups are to be.
const placeEvery = 250 * time.Millisecond

// place finds out which groups of others are to be this director's, and may be taken now. Each director decides for itself, by what
// all of them say and by the log: there is nobody to ask, and nothing to lose with a leader.
func (m *Machine) place(now clock.Time) {
	if len(m.cfg.Place.Rules) == 0 && m.cfg.Place.Most == 0 || !m.started || now < m.placeAt {
		return
	}
	if m.stopping {
		m.placeAt = 0
		return
	}
	m.placeAt = now.Add(placeEvery)
	var groups []fencing.PlaceGroup
	for _, g := range m.groups {
		all := fencing.PlaceGroup{Name: g.name, Owner: m.node.Owner(g.name), Able: m.node.Able(g.name)}
		if m.whyNot(g) == "" && len(g.instances) > 0 {
			all.Able[m.cfg.Node] = g.priority()
		}
		groups = append(groups, all)
	}
	places := fencing.Places(m.cfg.Place.PlaceConfig, groups)
	for i, g := range m.groups {
		_, fit := groups[i].Able[m.cfg.Node]
		due := g.pull.Due(now, m.minute, fit, m.cfg.Place.Failback[g.name])
		owner := groups[i].Owner
		// An owner that is not fit gives the group away, and one that is not there loses it: that is not decided here.
		_, ownerFit := groups[i].Able[owner]
		g.wish = ""
		if p := places[g.name]; due && ownerFit && p.Node == m.cfg.Node && owner != m.cfg.Node {
			g.wish = p.Reason
		}
	}
}
