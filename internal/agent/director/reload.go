package director

import (
	"slices"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// retire takes instances and groups out. What is visible becomes invisible first.
func (m *Machine) retire(now clock.Time, e Retire) {
	for _, name := range e.Groups {
		g := m.byName[name]
		if g == nil {
			continue
		}
		g.retired, m.retiring = true, true
		m.leave(now, g, "removed from the configuration", vrrp.Stop{})
	}
	for _, name := range e.Instances {
		i := m.instances[name]
		if i == nil || i.group.retired {
			continue
		}
		i.retired = true
		i.group.instances = slices.DeleteFunc(i.group.instances, func(other *instance) bool { return other == i })
		if i.state.Status != vrrp.Initialize {
			m.vrrp(now, i, vrrp.Stop{})
		}
		delete(m.instances, name)
	}
}

// Retiring tells whether something is left of what has been retired.
func (m *Machine) Retiring() bool { return m.retiring }

// forgetRetired ends what has been retired and is invisible. A release that has not reached the log yet goes on.
func (m *Machine) forgetRetired(now clock.Time) {
	if !m.retiring {
		return
	}
	m.retiring = false
	m.groups = slices.DeleteFunc(m.groups, func(g *group) bool {
		if !g.retired || g.phase != away {
			m.retiring = m.retiring || g.retired
			return false
		}
		for _, i := range g.instances {
			i.retired = true
			if i.state.Status != vrrp.Initialize {
				m.vrrp(now, i, vrrp.Stop{})
			}
			delete(m.instances, i.cfg.Name)
		}
		delete(m.byName, g.name)
		m.names = slices.DeleteFunc(m.names, func(name string) bool { return name == g.name })
		return true
	})
}

// reload replaces the configuration. Groups and instances that are in both stay as they are; a group that is held gets
// what is new once its guard covers it.
func (m *Machine) reload(now clock.Time, e Reload) {
	before, known := m.instances, m.byName
	m.target(e.Fencing)
	m.cfg.Groups, m.cfg.Place, m.told = e.Groups, e.Place, nil
	m.groups, m.names, m.byName, m.instances = nil, nil, map[string]*group{}, map[string]*instance{}
	var fresh []*instance
	for _, gc := range e.Groups {
		g := known[gc.Name]
		if g == nil {
			g = &group{name: gc.Name, phase: away, told: told{}}
		}
		g.reloaded = true
		members := []*instance{}
		for _, vc := range gc.Instances {
			vc.Gated = m.gated()
			i := before[e.Kept[vc.Name]]
			if i == nil {
				i = &instance{priority: vc.Priority, causes: map[string]bool{}}
				fresh = append(fresh, i)
			} else {
				vc.Local = i.cfg.Local
			}
			i.cfg, i.group = vc, g
			members = append(members, i)
			m.instances[vc.Name] = i
		}
		g.instances = members
		m.groups = append(m.groups, g)
		m.names = append(m.names, g.name)
		m.byName[g.name] = g
	}
	if !m.gated() {
		m.holdTogether(now)
	}
	for _, ev := range e.World {
		m.take(now, ev)
	}
	for _, i := range fresh {
		if !m.gated() || i.group.phase == away {
			m.tellFault(now, i)
		}
		m.vrrp(now, i, vrrp.Start{})
	}
	if m.gated() {
		for _, gc := range e.Groups {
			m.apply(now, m.node.Cover(now, gc.Name, gc.Addresses))
		}
	}
	m.releaseEarlierLives(now)
	if e.Guard && m.gated() {
		m.do(m.restore())
		return // GuardDone leads on
	}
	for _, g := range m.groups {
		m.complete(now, g)
	}
}

// holdTogether makes the members of a sync group wait for each other, and only them. A group of which only some are
// Active goes to Backup as a whole, as it would if one of them had.
func (m *Machine) holdTogether(now clock.Time) {
	for _, g := range m.groups {
		active := 0
		for _, i := range g.instances {
			switch {
			case len(g.instances) > 1 && !i.state.Held:
				m.vrrp(now, i, vrrp.Hold{})
			case len(g.instances) == 1 && i.state.Held:
				m.vrrp(now, i, vrrp.Unhold{})
			}
			if i.state.Status == vrrp.Active {
				active++
			}
		}
		if active > 0 && active < len(g.instances) {
			for _, i := range g.instances {
				if i.state.Status == vrrp.Active {
					m.vrrp(now, i, vrrp.Yield{Reason: "the members of its sync group have changed", ShortenPeers: true})
				}
			}
		}
	}
}

// complete makes visible what a reload has brought to a group that is visible. With a lease the guard covers it by now, and
// the lease itself must.
func (m *Machine) complete(now clock.Time, g *group) {
	if !g.reloaded || m.gated() && (g.phase != held || !m.node.Covers(g.name) && !m.cfg.Broken.AddBeforeCovered) {
		return
	}
	g.reloaded = false
	for _, i := range g.instances {
		switch {
		case i.state.Status == vrrp.Active:
			m.do(ChangeAddresses{Instance: i.cfg.Name, NotAfter: g.until})
		case m.gated():
			m.vrrp(now, i, vrrp.Granted{})
		}
	}
	if m.gated() {
		m.together(now, g)
	}
}
