package director

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// Kept is the Kind of Journal entries about groups that are kept without a majority.
const Kept = "held"

// keeping is a group that its owner keeps although no majority of the voters answers (quorum_loss hold, arbitration gateway), or that
// was taken over like that: nothing but this director's own word stands behind it, and somebody else may own it as well.
//
// To keep begins before the lease ends, or never: only an owner that is awake and has heard of no majority for a while extends
// what the guard leaves open, for a short span each time. What is late by that span is over, like a lease; so a process that is
// stopped or killed keeps nothing, and neither does one that wakes after its lease, or whose voters answer and refuse.
type keeping struct {
	since  clock.Time // zero: it is not kept
	lapsed bool       // there is no lease: only a new grant puts one behind it, and it is claimed meanwhile
	taken  bool       // there was none when it began
	given  bool       // taken from an owner that was dead, and whose companion had given it up
	metAt  clock.Time // since when a majority has answered again
	lookAt clock.Time // when to look whether it is to be kept, or still may be; zero: never

	// Since when, and when for the last time, somebody who is to give way acts for it all the same (arbitration gateway).
	rivalAt, rivalLast clock.Time
}

func (m *Machine) keepSpan() time.Duration  { return m.cfg.Lease.Duration / 2 }
func (m *Machine) keepEvery() time.Duration { return m.cfg.Lease.Duration / 4 }

// keepUntil is until when a group that is kept from now on is kept: no longer than the last answer of the gateways counts.
func (m *Machine) keepUntil(now clock.Time) clock.Time {
	until := now.Add(m.keepSpan())
	if m.cfg.SightSpan > 0 {
		until = min(until, m.sight.Seen.Add(m.cfg.SightSpan))
	}
	return until
}

// mayKeep tells whether this director keeps what it has without a majority.
func (m *Machine) mayKeep() bool { return m.cfg.Hold || m.cfg.Arbitrate }

// keptFor is what keeps a group, in the words of the configuration.
func (m *Machine) keptFor() string {
	if m.cfg.Arbitrate {
		return "arbitration gateway"
	}
	return "quorum_loss hold"
}

// keptWithout tells whether only this director's word stands behind a group.
func (g *group) keptWithout() bool { return (g.phase == held || g.phase == arming) && g.keep.lapsed }

// watchKeep has it looked at in time whether a group is to be kept: while there is time to extend the guard, which is
// armed for nine tenths of what is left.
func (m *Machine) watchKeep(now clock.Time, g *group) {
	if !m.mayKeep() {
		return
	}
	if g.keep.since != 0 {
		m.note(g, Info, Kept, "a majority answers again, in time: the lease goes on")
	}
	g.keep = keeping{lookAt: g.until.Add(-m.keepEvery())}
}

// keepOn keeps a group for another span, if it may be; else a group that is kept is given up.
func (m *Machine) keepOn(now clock.Time, g *group) {
	until := m.keepUntil(now)
	switch latest := g.until.Add(-m.keepEvery() / 2); {
	case g.phase != held || g.keep.since == 0 && now > latest:
		g.keep.lookAt = 0
		return
	case g.keep.since == 0 && (m.whyNotKeep(now, g) != "" || m.node.Present(now, m.keepSpan())), until <= g.until:
		g.keep.lookAt = now.Add(m.keepEvery() / 4)
		return
	case g.keep.since == 0:
		g.keep.since = now
		m.note(g, Error, Kept, "UNPROTECTED: kept without a majority ("+m.keptFor()+"): another owner is possible")
	}
	if g.keep.lapsed {
		m.lookAround(now, g)
	}
	g.until, g.keep.lookAt = until, now.Add(m.keepEvery())
	m.do(GuardArm{Group: g.name, Epoch: g.epoch, Until: g.until})
}

// whyNotKeep says what keeps this director from keeping a group that it holds without a majority; empty: nothing.
func (m *Machine) whyNotKeep(now clock.Time, g *group) string {
	if why := m.whyNot(g); why != "" {
		return why
	}
	if m.sight.Sight != lease.Sees && m.sight.Sight != lease.Doubts {
		return m.sight.Text
	}
	if m.sightOld(now) {
		return fmt.Sprintf("no gateway has answered for %v", m.cfg.SightSpan)
	}
	if m.cfg.Arbitrate {
		return "" // a grant may be an old one that this member's log comes to know late; a new one is no lease before the voter here promises it
	}
	if grant, ok := m.log.Grant(g.name); ok && lease.Epoch(grant.Epoch) > g.epoch && grant.Member != m.cfg.Lease.Self {
		return fmt.Sprintf("%s was granted epoch %d", grant.Member, grant.Epoch)
	}
	return ""
}

// sightOld tells whether the last answer of the gateways is too old to count.
func (m *Machine) sightOld(now clock.Time) bool {
	return m.cfg.SightSpan > 0 && (m.sight.Seen.IsZero() || now >= m.sight.Seen.Add(m.cfg.SightSpan))
}

// keepWhile gives up what may not be kept any longer. It comes before and after everything else in a step.
func (m *Machine) keepWhile(now clock.Time) {
	if !m.mayKeep() {
		return
	}
	for _, g := range m.groups {
		if g.phase != held && g.phase != arming || g.keep.since == 0 {
			continue
		}
		if why := m.over(now, g); why != "" {
			m.keepNoMore(now, g, why)
		}
	}
}

// over says why a group that is kept is not to be kept any longer.
func (m *Machine) over(now clock.Time, g *group) string {
	if now >= g.until {
		return "this director was late to keep it"
	}
	if why := m.whyNotKeep(now, g); why != "" {
		return why
	}
	if !g.keep.lapsed || m.cfg.Arbitrate {
		return ""
	}
	// With a majority there is a lease, for this director or for another one, as soon as the log has a leader.
	if !m.node.Present(now, min(m.contact(), now.Sub(g.keep.since))) {
		g.keep.metAt = 0
	} else if g.keep.metAt == 0 {
		g.keep.metAt = now
	} else if now >= g.keep.metAt.Add(m.majorityPatience()) {
		return "a majority answers, and does not grant it"
	}
	return ""
}

// majorityPatience is how long a majority that answers again has to grant what is kept: an election, and a claim.
func (m *Machine) majorityPatience() time.Duration { return 2*m.cfg.Lease.Duration + time.Second }

// keepNoMore makes a group that was kept invisible.
func (m *Machine) keepNoMore(now clock.Time, g *group, why string) {
	m.note(g, Warn, Kept, "not kept any longer: "+why)
	var ev vrrp.Event = vrrp.Yield{Reason: "kept without a majority, and given up: " + why}
	switch fault := g.faulted(); {
	case m.stopping:
		ev = vrrp.Stop{}
	case fault != "":
		ev = vrrp.Faulted{Reason: fault}
	}
	m.leave(now, g, why, ev)
}

// promised: the voter here promises a group to another member, which will own it by a lease. What is kept ends first.
func (m *Machine) promised(now clock.Time, a lease.Promised) {
	if g := m.byName[a.Group]; g != nil && g.keptWithout() {
		m.keepNoMore(now, g, fmt.Sprintf("%s has a lease", a.To))
	}
}

// rival is somebody else who acts for a group: one that is kept is left to them. Of two directors that arbitrate, the one that is
// preferred keeps it: order is positive if that is the other one. It gives up, too, if the other one goes on: that one does not hear
// it, and would never give way.
func (m *Machine) rival(now clock.Time, g *group, order int, who string) {
	if !g.keptWithout() {
		return
	}
	if m.cfg.Arbitrate && order <= 0 {
		k, patience := &g.keep, m.majorityPatience()
		if k.rivalAt.IsZero() || now >= k.rivalLast.Add(patience) {
			k.rivalAt = now
		}
		k.rivalLast = now
		if now < k.rivalAt.Add(patience) {
			return
		}
		who += ", and goes on although this director is preferred"
	}
	m.keepNoMore(now, g, who)
}

// answered: somebody answers for an address of a group. Of directors that arbitrate the one of the lower priority gives way;
// between equal ones advertisements decide.
func (m *Machine) answered(now clock.Time, g *group, o Other) {
	if !g.keptWithout() {
		return
	}
	order := 1
	if _, s, known := m.node.ByHardware(o.Hardware, g.name); known {
		order = cmp.Compare(s.Priority, g.priority())
	} else if o.Virtual {
		order = 0
	}
	m.rival(now, g, order, fmt.Sprintf("%s answers for %s", o.Hardware, o.Address))
}

// keeps tells whether who advertises a group is a member that keeps it without a majority: this director has the lease, so no
// other member has one. Should it be the other way round, after a pause that this director knows nothing of, the voters say so:
// whoever hears an advertisement asks them (doubt).
func (m *Machine) keeps(g *group, from netip.Addr) bool {
	return m.cfg.Hold && g.phase == held && !g.keep.lapsed && m.node.Speaks(g.name, from)
}

// sources lists the addresses that the group's advertisements come from.
func (g *group) sources() string {
	var all []string
	for _, i := range g.instances {
		if from := i.cfg.Local.WithZone("").String(); i.cfg.Local.IsValid() && !slices.Contains(all, from) {
			all = append(all, from)
		}
	}
	return strings.Join(all, " ")
}

// regained puts a lease behind a group that was kept.
func (m *Machine) regained(now clock.Time, g *group, a lease.Extended) {
	m.note(g, Info, Kept, fmt.Sprintf("a majority answers again: the lease of epoch %d stands behind it", a.Epoch))
	g.epoch, g.until, g.asked, g.refusal, g.keep = a.Epoch, a.Until, "", Refusal{}, keeping{}
	m.watchKeep(now, g)
	m.do(GuardArm{Group: a.Group, Epoch: a.Epoch, Until: a.Until, First: true})
}
