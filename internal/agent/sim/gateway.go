package sim

import (
	"time"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/agent/director"
)

// Where the gateway decides between two directors, there is one, which both ask every other advertisement interval. A machine that is
// cut off from everybody is from the gateway, too. There, and only there, a second look finds the other director: everywhere
// else a lease binds it.

// probesLost in a row make the gateway unreachable.
const probesLost = 3

func (w *world) probeEvery() time.Duration { return 2 * w.shape.interval }

// sightSpan is for how long an answer of the gateway counts; zero where it does not decide.
func (w *world) sightSpan() time.Duration {
	if !w.cfg.Arbitrate {
		return 0
	}
	return probesLost*w.probeEvery() + w.shape.interval
}

// unsee cuts a machine off from its gateway.
func (m *machine) unsee(d time.Duration) {
	if !m.world.cfg.Arbitrate {
		return
	}
	if m.blind++; m.blind == 1 {
		m.blindFrom = m.world.now
	}
	m.world.after(d, func() { m.blind-- })
}

// blindFor is how much longer a machine has not reached its gateway than an answer counts, the lateness of its guard included; not
// positive if it may still act on one.
func (m *machine) blindFor() time.Duration {
	if m.blind == 0 {
		return 0
	}
	span := m.world.sightSpan()
	return m.world.now.sub(m.blindFrom) - span - span/50 - m.world.lateness()
}

// probe asks the gateway, again and again, and tells the director.
func (p *process) probe() {
	if !p.machine.world.cfg.Arbitrate {
		return
	}
	rules := fencing.GatewayRules{Interval: p.machine.world.probeEvery(), Fall: probesLost, Rise: 1}
	gateways := fencing.NewGateways([]fencing.GatewayRules{rules}, 1)
	p.machine.world.after(rules.Interval/3, func() { p.probeAgain(gateways) }) // not in one moment with gossip, which may be late
}

func (p *process) probeAgain(g *fencing.Gateways) {
	m := p.machine
	if p.ended {
		return
	}
	if !p.frozen() {
		now := m.reading()
		g.Result(now, 0, now, m.blind == 0)
		p.post(director.SightOf(g, "the gateway does not answer"))
		p.post(director.Hardware{Addresses: m.name})
	}
	m.world.after(m.world.probeEvery(), func() { p.probeAgain(g) })
}

// answers lists who answers a machine for a group. Its name stands for the hardware of a machine.
func (w *world) answers(asks *machine, group string) []director.Other {
	if !w.cfg.Arbitrate {
		return nil
	}
	var all []director.Other
	for _, m := range w.machines {
		_, visible := m.visible(group)
		if m != asks && visible && w.links[m.index][asks.index].cuts[vrrpGroup] == 0 && w.links[asks.index][m.index].cuts[vrrpGroup] == 0 {
			all = append(all, director.Other{Address: m.address, Hardware: m.name})
		}
	}
	return all
}
