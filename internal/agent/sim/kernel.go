package sim

import (
	"math"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
)

// kernel is what a machine's kernel knows about virtual addresses, whatever becomes of the process that told it.
type kernel struct {
	installed bool                // the guard's rules are there; without them everything passes
	held      map[string]*element // by group; an element that has expired is still here
	addresses map[string]*address // by instance
	roaming   map[string]bool     // by group: with the roaming address
}

// element is a group's opening of the guard: both conditions must hold.
type element struct {
	expires  time.Duration // on the kernel's clock, lateness included
	deadline int64         // wall clock
	epoch    lease.Epoch   // whose lease it is, for the checks; no kernel knows

	slept, setBack bool // the machine was suspended, or its wall clock set back, since
}

// address stands for all addresses of an instance.
type address struct {
	group   string
	expires time.Duration // valid_lft on the kernel's clock, lateness included
}

func newKernel() kernel {
	return kernel{held: map[string]*element{}, addresses: map[string]*address{}, roaming: map[string]bool{}}
}

// kernelLateness bounds by how much an element or a timer is late, whole jiffies included.
const kernelLateness = 4 * time.Millisecond

// lateness bounds by how much the guard of this run is late.
func (w *world) lateness() time.Duration {
	if w.shape.lifetimes {
		return lifetimeLateness
	}
	return kernelLateness
}

// lifetimeSpare is how much longer than its lease an address lives.
const lifetimeSpare = 5 * time.Second

// lifetimeLateness bounds by how much an address outlives its valid_lft.
const lifetimeLateness = 1100 * time.Millisecond

// install puts the guard's rules in place with all groups shut.
func (m *machine) install() {
	m.kernel.installed = true
	clear(m.kernel.held)
}

// open writes an element. An extension of one that is not there, or has expired, fails and removes it.
func (m *machine) open(group string, epoch lease.Epoch, w fencing.Window, first bool, left time.Duration) bool {
	k := &m.kernel
	m.clocks.read(m.world.now)
	old := k.held[group]
	broken := m.world.cfg.Broken
	if !first && (old == nil || m.clocks.kernel >= old.expires) {
		m.shut(group)
		return false
	}
	e := &element{expires: m.clocks.kernel + w.Timeout + m.random.span(0, kernelLateness), deadline: w.Deadline, epoch: epoch}
	if broken.RelativeOnly {
		e.deadline = math.MaxInt64
	}
	if broken.AbsoluteOnly {
		e.expires = math.MaxInt64
	}
	k.held[group] = e
	m.extend(group, left)
	return true
}

// extend lets a group's addresses live on.
func (m *machine) extend(group string, left time.Duration) {
	for _, name := range m.world.instancesOf(group) {
		if a := m.kernel.addresses[name]; a != nil {
			m.live(a, left)
		}
	}
	m.world.touched(m, group)
}

func (m *machine) shut(group string) {
	if m.world.shape.lifetimes {
		return // only the absence of the addresses counts
	}
	delete(m.kernel.held, group)
	m.world.touched(m, group)
}

// live gives an address the lifetime that goes with what is left of a lease, in whole seconds: longer than the lease, or,
// where it is the guard, shorter. It returns false if it has none.
func (m *machine) live(a *address, left time.Duration) bool {
	left += lifetimeSpare
	if m.world.shape.lifetimes {
		left = (left - lifetimeSpare) * 9 / 10
	}
	if left < time.Second {
		return false
	}
	a.expires = m.clocks.kernel + left.Truncate(time.Second) + m.random.span(0, lifetimeLateness)
	return true
}

// addAddress adds an instance's addresses for what is left of a lease.
func (m *machine) addAddress(instance, group string, left time.Duration) bool {
	m.clocks.read(m.world.now)
	a := &address{group: group}
	if !m.live(a, left) {
		return false
	}
	m.kernel.addresses[instance] = a
	m.world.touched(m, group)
	return true
}

func (m *machine) dropAddress(instance, group string) {
	delete(m.kernel.addresses, instance)
	m.world.touched(m, group)
}

// oneLock tells whether one of the guard's two conditions does not hold for some element: it counted no suspend, or its
// deadline has moved away with the wall clock.
func (k *kernel) oneLock() (slept, setBack bool) {
	for _, e := range k.held {
		slept, setBack = slept || e.slept, setBack || e.setBack
	}
	return slept, setBack
}

// passes tells whether the guard lets a group be used now, and under which epoch it was opened.
func (m *machine) passes(group string) (lease.Epoch, bool) {
	k := &m.kernel
	e := k.held[group]
	if !k.installed || m.world.shape.lifetimes || m.world.cfg.Broken.NoGuard {
		if e == nil {
			return 0, true
		}
		return e.epoch, true
	}
	if e == nil {
		return 0, false
	}
	m.clocks.read(m.world.now)
	return e.epoch, m.clocks.kernel < e.expires && m.clocks.wall < e.deadline
}

// visible tells whether the machine would answer for an address of the group now, and under which epoch the guard was
// opened for it.
func (m *machine) visible(group string) (lease.Epoch, bool) {
	if m.state != running {
		return 0, false
	}
	epoch, open := m.passes(group)
	if !open {
		return 0, false
	}
	for _, name := range m.world.instancesOf(group) {
		if a := m.kernel.addresses[name]; a != nil && m.clocks.kernel < a.expires {
			return epoch, true
		}
	}
	return 0, false
}

// visibleUntil returns when the machine will cease to answer for the group if nothing more happens.
func (m *machine) visibleUntil(group string) instant {
	left := time.Duration(0)
	for _, name := range m.world.instancesOf(group) {
		if a := m.kernel.addresses[name]; a != nil {
			left = max(left, a.expires-m.clocks.kernel)
		}
	}
	if e := m.kernel.held[group]; e != nil && m.kernel.installed && !m.world.shape.lifetimes {
		left = min(left, e.expires-m.clocks.kernel, time.Duration(e.deadline-m.clocks.wall))
	}
	return m.world.now.add(left)
}
