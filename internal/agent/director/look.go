package director

import (
	"fmt"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// look is the second look at a group before it becomes visible here: does anybody still answer for its addresses? It runs
// beside the claim. What is handed over by a living owner is not looked for: that owner answers, and has heard of strangers.
type look struct {
	serial uint64
	kind   lease.ClaimKind // of the claim that it was for
	until  clock.Time      // while it runs: when it is over without an answer
	done   clock.Time      // when the last one found nobody
	found  bool            // the last one has found a stranger: nothing is claimed before one finds nobody
	began  clock.Time      // when the last one began
	alone  bool            // the last one has found nobody at all, members included
	waits  bool            // the guard is open and the group waits for it
}

const (
	lookShare  = 20                    // a look takes this fraction of a lease,
	lookMost   = 50 * time.Millisecond // at most this,
	lookLeast  = 10 * time.Millisecond // and at least this
	lookFresh  = time.Second           // so long a look that found nobody is good
	strangerAt = 2 * time.Second       // after a stranger was found: when the next look begins
)

// lookSpan is how long a look waits for answers.
func (m *Machine) lookSpan() time.Duration {
	return max(min(m.cfg.Lease.Duration/lookShare, lookMost), lookLeast)
}

// lookAround begins a look, unless one runs.
func (m *Machine) lookAround(now clock.Time, g *group) {
	if !g.look.until.IsZero() {
		return
	}
	m.looks++
	span := m.lookSpan()
	g.look.serial, g.look.until, g.look.began, g.look.alone = m.looks, now.Add(2*span), now, false
	m.do(Look{Group: g.name, Serial: m.looks, Within: span})
}

// lookFirst is for a claim, and for its grant, which may come after a while: it begins a look if nobody hands the group over, be it the
// companion of a dead owner, and if it has not just been looked for.
func (m *Machine) lookFirst(now clock.Time, g *group) {
	if g.look.kind == lease.MasterDown && !g.keep.given && (g.look.done.IsZero() || now >= g.look.done.Add(lookFresh)) {
		m.lookAround(now, g)
	}
}

// rested is the end of the time for which a group was left to others.
func (m *Machine) rested(now clock.Time, g *group) {
	if !g.look.found {
		g.unfitWhy, g.unfitUntil = "", 0
		return
	}
	g.unfitUntil = now.Add(strangerAt)
	m.lookAround(now, g)
}

// looked takes in what a look has found. Members are no strangers: leases bind them.
func (m *Machine) looked(now clock.Time, e Looked) {
	g := m.byName[e.Group]
	if g == nil || g.look.until.IsZero() || g.look.serial != e.Serial {
		return
	}
	g.look.alone = len(e.Others) == 0
	if !g.look.alone && g.keptWithout() { // be it a member: no lease binds anybody now
		g.look.until = 0
		m.answered(now, g, e.Others[0])
		return
	}
	for _, o := range e.Others {
		if o.Virtual || m.node.KnowsHardware(o.Hardware) {
			continue
		}
		g.look.until, g.look.done, g.look.waits, g.look.found = 0, 0, false, true
		text := fmt.Sprintf("%s answers for %s, and is no member", o.Hardware, o.Address)
		if g.told.news(now, text) {
			m.note(g, Error, Stranger, text+"; not taken over while it does")
		}
		g.unfitWhy, g.unfitUntil = text, now.Add(strangerAt)
		m.leave(now, g, text, vrrp.Yield{Reason: text})
		return
	}
	if g.look.done = now; g.look.found {
		g.look.found, g.unfitWhy, g.unfitUntil = false, "", 0
	}
	m.lookedEnough(now, g)
}

// lookedEnough ends a look that has found nobody.
func (m *Machine) lookedEnough(now clock.Time, g *group) {
	g.look.until = 0
	if g.phase == arming && g.look.waits {
		m.enter(now, g)
	}
	g.look.waits = false
}

// Stranger is the Kind of the Journal entry for somebody outside the cluster who uses an address of a group.
const Stranger = "stranger"
