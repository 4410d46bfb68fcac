package sim

import (
	"maps"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
)

// companion is the process beside a director that acts when that one is dead. It knows what it was told by then.
type companion struct {
	machine *machine
	boot    int // of the machine, which it does not outlive
	member  fsm.Member
	life    lease.Life
	leases  map[string]lease.Epoch
	of      *process // for the checks
}

func (p *process) companion() *companion {
	return &companion{machine: p.machine, boot: p.machine.boots, member: p.member, life: p.life, leases: maps.Clone(p.told), of: p}
}

// companionRepeats is how often what a companion says is said.
const companionRepeats = 8

// die kills the process alone. It is started again after d, but not before its companion is done.
func (m *machine) die(d time.Duration) {
	p := m.process
	m.kill(d, "killed, and its companion lives")
	if p != nil && p.director != nil {
		p.companion().mourn()
	}
}

// mourn has the companion act soon. It has the lock meanwhile.
func (c *companion) mourn() {
	m := c.machine
	m.away++
	m.world.stats.Deaths++
	c.later(m.random.span(200*time.Microsecond, pick(&m.random, 2*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond)), func() {
		if m.world.cfg.Broken.SpeakFirst {
			c.speak(companionRepeats)
			c.later(m.random.span(0, 20*time.Millisecond), func() { c.withdraw() }, func() {})
		} else if c.withdraw() {
			c.speak(companionRepeats)
		}
		m.away--
		m.start()
	}, func() { m.away-- })
}

// later does something when the machine runs, unless it has crashed.
func (c *companion) later(after time.Duration, do, crashed func()) {
	m := c.machine
	m.world.after(after, func() {
		switch {
		case m.boots != c.boot:
			crashed()
		case m.state != running:
			c.later(10*time.Millisecond, do, crashed)
		default:
			do()
		}
	})
}

// withdraw makes the machine invisible; false: the kernel has refused a part of it.
func (c *companion) withdraw() bool {
	m, w := c.machine, c.machine.world
	clear(m.kernel.addresses)
	clear(m.kernel.roaming)
	w.touchedAll(m)
	if !w.shape.lifetimes && (!m.kernel.installed || m.armsFail > 0 && m.random.chance(500_000)) {
		w.say(m.name, "the companion cannot shut the guard")
		return false
	}
	clear(m.kernel.held)
	w.touchedAll(m)
	w.shutAll(m)
	w.say(m.name, "the companion has withdrawn life %d", c.life)
	return true
}

// speak says of all leases that they are given up, now and some times more: whoever is told repeats it until the log has
// taken note.
func (c *companion) speak(times int) {
	m, w := c.machine, c.machine.world
	for _, other := range w.machines {
		if other != m && len(c.leases) > 0 {
			w.send(m, other, clusterPort, func() {
				if q := other.process; q != nil && q.cluster == c.of.cluster {
					q.aside(func() {
						if r, ok := q.log.(*raft); ok {
							r.succeed(c.member)
						}
					})
				}
			})
		}
	}
	for _, group := range sortedKeys(c.leases) {
		for _, message := range lease.LastWords(c.life, group, c.leases[group], "died") {
			w.sending(c.of, message)
			for _, other := range w.machines {
				if other == m {
					continue
				}
				w.send(m, other, clusterPort, func() {
					if q := other.process; q != nil && q.cluster == c.of.cluster {
						q.post(lease.Received{From: c.member, Message: message})
					}
				})
			}
		}
		for _, instance := range w.instancesOf(group) {
			for _, other := range w.machines {
				if other == m || other.witness {
					continue
				}
				w.send(m, other, vrrpGroup, func() {
					if q := other.process; q != nil {
						q.post(director.Advert{Instance: instance, From: m.address, Interval: w.shape.interval})
					}
				})
			}
		}
	}
	if len(w.machines) == 2 && len(c.leases) > 0 {
		other := w.machines[1-m.index]
		w.send(m, other, clusterPort, func() {
			if q := other.process; q != nil {
				q.post(lease.Received{From: c.member, Message: lease.VeryLastWords(c.life, sortedKeys(c.leases))})
			}
		})
	}
	if times > 1 {
		c.later(25*time.Millisecond<<(companionRepeats-times), func() { c.speak(times - 1) }, func() {})
	}
}
