package sim

import (
	"net/netip"

	"github.com/hactl/had/internal/agent/director"
)

// Every group has an address of its own, and there is one that roams: a machine's file gives it to one group or another,
// and the files of two machines may differ on that.

var roamingAddress = netip.AddrFrom4([4]byte{10, 77, 9, 0})

// config is a group as a machine's file has it.
func (m *machine) config(index int) director.Group {
	g := m.world.shape.groups[index]
	c := director.Group{Name: g.name, Instances: g.configs[m.index],
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 77, 9, byte(index + 1)})}}
	if m.home == index {
		c.Addresses = append(c.Addresses, roamingAddress)
	}
	return c
}

// carries tells whether an instance is the one that has the roaming address, if its group has it.
func (w *world) carries(instance string) bool {
	return w.instancesOf(w.groupOf(instance))[0] == instance
}

// takes is the process's part in the addresses of an instance that is Active.
func (p *process) takes(instance string) {
	if group := p.machine.world.groupOf(instance); p.machine.world.carries(instance) {
		p.taken[group] = true
		p.machine.roam(group, p.home == group && !p.fresh)
	}
}

// changes is what a reload has brought and the lease covers by now.
func (p *process) changes(instance string) {
	if group := p.machine.world.groupOf(instance); p.machine.world.carries(instance) && p.home == group {
		p.fresh = false
		p.machine.roam(group, true)
		p.machine.world.announced(p.machine, group)
	}
}

func (p *process) drops(instance string) {
	if group := p.machine.world.groupOf(instance); p.machine.world.carries(instance) {
		p.taken[group], p.fresh = false, p.fresh && p.home != group
		p.machine.roam(group, false)
	}
}

// rehome takes the roaming address away from the group that had it. The one that gets it by a reload has to wait for its
// lease to cover it, if it is visible.
func (p *process) rehome(group string) {
	if group == p.home {
		return
	}
	if p.home != "" {
		p.machine.roam(p.home, false)
	}
	p.home, p.fresh = group, p.taken[group]
}

// roam adds the roaming address to a group of a machine's kernel, or takes it away.
func (m *machine) roam(group string, there bool) {
	m.kernel.roaming[group] = there
	m.world.touched(m, group)
}

// roams tells whether the machine would answer for the roaming address, and in which group.
func (m *machine) roams() (group string, visible bool) {
	for _, g := range m.world.shape.groups {
		if m.kernel.roaming[g.name] {
			if _, visible := m.visible(g.name); visible {
				return g.name, true
			}
		}
	}
	return "", false
}

// touchedRoaming looks whether two machines have the roaming address (S1).
func (w *world) touchedRoaming(m *machine) {
	group, visible := m.roams()
	if !visible {
		return
	}
	for _, other := range w.machines {
		if theirs, too := other.roams(); too && other != m && !w.says(m, group) && !w.says(other, theirs) {
			w.violated("S1", "%s answers for %s in %s, and so does %s in %s", m.name, roamingAddress, group, other.name, theirs)
		}
	}
}
