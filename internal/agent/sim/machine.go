package sim

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
)

type power int

const (
	running power = iota
	paused        // a virtual machine that is stopped, or a suspend: nothing runs, nothing answers
	dead          // off: the kernel's state is gone
)

// machine is a computer: clocks, kernel, disk, and at most one process.
type machine struct {
	world   *world
	index   int
	name    string
	address netip.Addr
	witness bool

	clocks  clocks
	state   power
	pauses  int // faults that pause it
	off     int // faults that took its power
	boots   int
	kernel  kernel
	disk    disk
	process *process
	random  random

	away      int            // faults that keep the process from being started again
	causes    map[string]int // faults of the director's instances, counted
	marks     int            // of maintenance, wanted by faults
	home      int            // the group that has the roaming address in the machine's file
	armsFail  int            // faults of the guard
	slow      int            // faults of the disk
	hungUntil instant
	seenAs    int     // the cluster of its last process
	blind     int     // faults that cut it off from its gateway
	blindFrom instant // since when there is one

	stopAtArming time.Duration // the next arming of the guard is interrupted for so long
}

// disk is what survives a crash.
type disk struct {
	member  fsm.Member
	cluster int // zero: the one that was founded
	ceiling time.Duration
	raft    raftDisk
}

// reading looks at the lease clock.
func (m *machine) reading() clock.Time {
	m.clocks.read(m.world.now)
	if m.world.cfg.Broken.WallClock {
		return clock.Time(m.clocks.wall)
	}
	return m.clocks.lease
}

// write returns how long a write to the disk takes that begins now.
func (m *machine) write() time.Duration {
	switch {
	case m.world.now < m.hungUntil:
		return m.hungUntil.sub(m.world.now) + m.random.span(0, 10*time.Millisecond)
	case m.slow > 0:
		return m.random.span(0, 2*time.Second)
	}
	return m.random.span(50*time.Microsecond, 2*time.Millisecond)
}

// instances lists the names of the director's instances.
func (m *machine) instances() []string {
	var names []string
	for _, g := range m.world.shape.groups {
		for _, c := range g.configs[m.index] {
			names = append(names, c.Name)
		}
	}
	return names
}

// stop is SIGSTOP for d, then SIGCONT.
func (m *machine) stop(d time.Duration) {
	p := m.process
	if p == nil {
		return
	}
	p.stops++
	p.say("stopped for %v", d)
	if p.director != nil && m.world.cfg.Broken.StoppedIsDead {
		p.companion().mourn()
	}
	m.world.after(d, func() {
		p.stops--
		if p.stops == 0 && !p.ended {
			p.say("continued")
			p.thaw()
		}
	})
}

// start begins a process if the machine runs, has none, and nothing keeps it from starting.
func (m *machine) start() {
	if m.state == running && m.process == nil && m.away == 0 {
		m.startProcess()
	}
}

// keepAway keeps the process from being started for d.
func (m *machine) keepAway(d time.Duration) {
	m.away++
	m.world.after(d, func() {
		m.away--
		m.start()
	})
}

// kill ends the process at once; a supervisor starts it again after d.
func (m *machine) kill(d time.Duration, how string) {
	if m.process != nil {
		m.process.end(how)
	}
	m.keepAway(d)
}

// crash takes the machine's power for d.
func (m *machine) crash(d time.Duration) {
	m.world.say(m.name, "loses power for %v", d)
	m.keepAway(d)
	m.boots++
	m.off++
	m.state = dead
	if m.process != nil {
		m.process.end("gone with the machine")
	}
	m.kernel = newKernel()
	m.world.touchedAll(m)
	m.world.shutAll(m)
	m.world.after(d, func() {
		if m.off--; m.off > 0 {
			return
		}
		// Another boot: the lease clock begins anew. Nothing that lives can compare it with the last one.
		m.clocks.read(m.world.now)
		m.clocks.lease, m.clocks.kernel = clock.Time(m.random.span(time.Second, time.Hour)), 0
		m.power()
		m.start()
	})
}

// power brings the machine's state in line with what keeps it from running.
func (m *machine) power() {
	switch {
	case m.off > 0:
		m.state = dead
	case m.pauses > 0:
		m.state = paused
	default:
		m.state, m.clocks.suspended = running, false
	}
}

// pause stops the whole machine for d. In a suspend the kernel's clocks stand still.
func (m *machine) pause(d time.Duration, suspend bool) {
	m.clocks.read(m.world.now)
	m.world.say(m.name, "paused for %v, suspended %v", d, suspend)
	m.pauses++
	m.power()
	m.clocks.suspended = m.clocks.suspended || suspend
	for _, e := range m.kernel.held {
		e.slept = e.slept || suspend
	}
	m.world.touchedAll(m)
	m.world.after(d, func() {
		m.clocks.read(m.world.now)
		m.pauses--
		if m.power(); m.state != running {
			return
		}
		m.world.say(m.name, "goes on")
		m.world.touchedAll(m)
		m.start()
		if m.process != nil {
			m.process.thaw()
		}
	})
}

// loseData wipes the disk of a machine whose process is down: it comes back as another member.
func (m *machine) loseData() {
	m.disk = disk{member: m.world.newMember(m), cluster: m.world.clusters}
	m.world.say(m.name, "has lost its data and is %s now", m.disk.member)
}

// step sets the wall clock. The shell is told, as by a timer that is cancelled when the clock is set.
func (m *machine) step(by time.Duration) {
	m.clocks.read(m.world.now)
	m.clocks.wall += int64(by)
	for _, e := range m.kernel.held {
		e.setBack = e.setBack || by < 0
	}
	m.world.say(m.name, "wall clock set by %v", by)
	m.world.touchedAll(m)
	m.tellLater(director.GuardGone{Reason: "the wall clock was set"})
}

// tellLater gives the present process an event within some milliseconds.
func (m *machine) tellLater(ev director.Event) {
	p := m.process
	if p == nil || p.director == nil {
		return
	}
	m.world.after(m.random.span(0, 5*time.Millisecond), func() { p.post(ev) })
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func memberID(name string, serial int) fsm.Member {
	return fsm.Member(fmt.Sprintf("%s/%08x", name, serial))
}
