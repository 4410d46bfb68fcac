package director

import (
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// GroupView is a group as it stands.
type GroupView struct {
	Name     string
	Held     bool // visible, or about to be
	Epoch    lease.Epoch
	Until    clock.Time // the lease's deadline; zero without a lease
	Claiming lease.ClaimKind
	Refusal  Refusal // why the claim was not granted so far
	WhyNot   string  // why this director could not own it; empty if it could
	Leaving  bool
	Kept     bool   // without a majority: only this director's word stands behind it
	Taken    bool   // Kept, and taken over without a lease: this director was not the owner
	Given    bool   // Taken, from an owner that was dead, and whose companion had given it up
	Stranger bool   // WhyNot is that somebody outside the cluster answers for an address
	Marked   bool   // WhyNot is that this node is in maintenance, by its own log
	CutOff   bool   // WhyNot is that it does not reach its gateways, which another director does
	Spot     string // the director that it is to be on by the rules for places; empty: they do not say
	SpotText string // why, and what it waits for
	Rules    string // that say so, in the words of the configuration; empty: there are none
}

// Group returns a group as it stands; false if there is none of that name.
func (m *Machine) Group(name string) (GroupView, bool) {
	g := m.byName[name]
	if g == nil {
		return GroupView{}, false
	}
	v := GroupView{Name: name, Epoch: g.epoch, Until: g.until, Claiming: g.asked, Refusal: g.refusal,
		WhyNot: m.whyNot(g), Leaving: g.phase == leaving,
		Kept: g.keep.since != 0 && (g.phase == held || g.phase == arming), Taken: g.keep.taken, Given: g.keep.given}
	v.Stranger = v.WhyNot != "" && g.look.found && v.WhyNot == g.unfitWhy
	v.Marked = v.WhyNot == marked
	v.CutOff = m.gated() && v.WhyNot != "" && v.WhyNot == m.outlooked(g)
	if m.gated() {
		if v.SpotText = m.spotText(g); v.SpotText != "" {
			v.Spot = g.spot.Node
		}
		v.Rules = m.cfg.Place.For(g.name)
		v.Held = g.phase == held || g.phase == arming
	} else {
		for _, i := range g.instances {
			v.Held = v.Held || i.state.Status == vrrp.Active
		}
	}
	return v, true
}

// State returns an instance's state machine as it stands; the zero State if there is none of that name.
func (m *Machine) State(instance string) vrrp.State {
	if i := m.instances[instance]; i != nil {
		return i.state
	}
	return vrrp.State{}
}

// Node is the machine's part in the lease protocol, for display; nil without a cluster.
func (m *Machine) Node() *lease.Node { return m.node }
