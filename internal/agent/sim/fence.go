package sim

import (
	"fmt"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
)

// Bounds of a fence.
const (
	slowestFence = 12 * time.Second // until the device has answered
	longestOff   = 10 * time.Second // until a machine that was switched off is on again
)

// fencing is what a director of this machine knows of fencing, and what it has its leases do about it.
func (m *machine) fencing(cfg *lease.Config) director.Fencing {
	w := m.world
	if w.shape.fencing == noFencing {
		return director.Fencing{}
	}
	cfg.Silence, cfg.Proved = director.Silence(w.shape.lease), w.shape.fencing == required
	f := director.Fencing{Automatic: true, Targets: map[string]director.FenceTarget{}}
	for _, other := range w.machines {
		if other != m && !other.witness {
			f.Targets[other.name] = director.FenceTarget{Delay: time.Duration(m.index) * 20 * time.Millisecond, DelayRandom: 50 * time.Millisecond}
		}
	}
	return f
}

// submit sends a command to whoever leads. Everybody gets it, and who does not lead drops it.
func (p *process) submit(c fsm.Command) {
	m, w := p.machine, p.machine.world
	p.serial++
	c.ID, c.Time, c.Node = fmt.Sprintf("%s-%d-%d", p.member, p.life, p.serial), fsm.Wall(m.clocks.wall/1e6), m.name
	ignored := func(fsm.Result, error) {}
	p.log.submit(c.Clip(), ignored)
	for _, other := range w.machines {
		if other == m || w.cfg.Adversarial {
			continue
		}
		w.send(m, other, clusterPort, func() {
			if q := other.process; q != nil {
				q.aside(func() { q.log.submit(c.Clip(), ignored) })
			}
		})
	}
}

// switchOff is the work of a fence agent: another process, which reaches the device over another network. It never says
// that a machine is off that was not; the machine may be on again by the time it says so.
func (p *process) switchOff(a director.SwitchOff) {
	w := p.machine.world
	var target *machine
	for _, m := range w.machines {
		if m.name == a.Node {
			target = m
		}
	}
	done := director.FenceDone{Node: a.Node, Request: a.Request, Method: "simulated"}
	fails := p.random.chance(w.shape.fenceFail)
	if fails {
		done.Failed = "it did not answer"
	}
	w.after(p.random.span(0, pick(&p.random, 50*time.Millisecond, 500*time.Millisecond, slowestFence/2)), func() {
		if !fails || p.random.chance(200_000) {
			w.stats.Fences++
			target.crash(p.random.span(10*time.Millisecond, pick(&p.random, 100*time.Millisecond, time.Second, longestOff)))
		}
		w.after(p.random.span(0, pick(&p.random, time.Millisecond, 500*time.Millisecond, slowestFence/2)), func() { p.post(done) })
	})
}
