package director

import (
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
)

// Two directors without a witness lose the majority with either of them. With arbitration gateway the one that is left then keeps
// what it has, and takes over what it has not: it begins a keeping without a lease. It may be wrong: the other one may be alive
// behind a broken link. What it asks for first rules out all that can be ruled out from here:
//
//   - the voter here has promised the group to nobody, so the other one has no lease, and while it promises nothing can get none;
//   - the other one has not been heard for as long as it may take to give up for want of a gateway;
//   - it does not advertise the group, and nobody answers for its addresses;
//   - the gateway answers.
//
// So if the one has lost the other and its gateway, too, there are never two owners. If both reach the gateway and do not hear
// each other at all, there are, until they do.

// arbitrate takes over what it may without a majority.
func (m *Machine) arbitrate(now clock.Time) {
	if !m.cfg.Arbitrate {
		return
	}
	for _, g := range m.groups {
		g.takeAt = m.takeOver(now, g)
	}
}

// takeOver takes a group over without a majority, if it may, or returns when to look again; zero: something has to happen first.
func (m *Machine) takeOver(now clock.Time, g *group) clock.Time {
	if g.phase != away || len(g.instances) == 0 || g.wants() != lease.MasterDown || m.whyNot(g) != "" ||
		m.sight.Sight != lease.Sees || m.sightOld(now) {
		return 0
	}
	alone, two := m.aloneFrom(now)
	switch {
	case !two:
		return 0
	case now < alone:
		return alone
	case g.look.alone && !g.look.found && now < g.look.done.Add(lookFresh):
	case !g.look.until.IsZero(): // one runs
		return 0
	case !g.look.began.IsZero() && now < g.look.began.Add(m.keepEvery()):
		return g.look.began.Add(m.keepEvery())
	default:
		m.lookAround(now, g)
		return 0
	}
	g.phase, g.epoch, g.until = arming, 0, m.keepUntil(now)
	g.keep = keeping{since: now, lapsed: true, taken: true, lookAt: g.until}
	m.note(g, Error, Kept, "UNPROTECTED: taken over without a majority ("+m.keptFor()+"): another owner is possible")
	m.do(GuardArm{Group: g.name, Until: g.until, First: true})
	return 0
}

// awaited tells whether the other director is taking a group over that was handed to it, and waits for the voter here to promise it:
// there is nobody else to do it, and without a lease it has to wait until this director has been silent for long.
func (m *Machine) awaited(g *group) bool {
	return m.cfg.Arbitrate && g.yielded != 0 && m.node.Promised(g.name) <= g.yielded
}

// aloneFrom is when this director may take it that the other one has no lease, and does not keep without one what it had if
// it does not reach its gateway. It is false where there are not two voters, and in the past if the time has come.
func (m *Machine) aloneFrom(now clock.Time) (from clock.Time, two bool) {
	other, heard, two := m.node.Other()
	if !two {
		return 0, false
	}
	from = max(max(heard, m.began).Add(m.loneSpan(other)), now.Add(m.node.AbstainLeft(now)))
	for _, p := range m.node.Promises(now) {
		if p.Holder != m.cfg.Lease.Self && p.Left > 0 {
			from = max(from, now.Add(p.Left))
		}
	}
	return from, true
}

// loneSpan is how long the other director must not have been heard: its lease is over by then, and the last answer of its gateway
// that it may have had when it was last heard does not count any more, by its clock and its guard. It renews its lease, and so
// speaks, every quarter of one. Two that lose each other at one moment do not take over at one moment.
func (m *Machine) loneSpan(other lease.Member) time.Duration {
	cfg := m.cfg.Lease
	longest := cfg.Duration
	if !m.cfg.Broken.TakeBeforeBlind {
		longest = max(longest, m.cfg.SightSpan)
	}
	span := longest + longest/50 + cfg.Slack + cfg.Duration/2
	if other < cfg.Self {
		span += cfg.Duration / 4
	}
	return span
}
