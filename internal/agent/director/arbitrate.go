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
//
// If only the other one's process has died, its companion says so when it has made it invisible. Then there is nothing to wait for, as
// long as it is sure that no later life of the other one has got anything: see bereft.

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
	if g.phase != away || len(g.instances) == 0 || m.whyNot(g) != "" || m.sight.Sight != lease.Sees || m.sightOld(now) {
		return 0
	}
	alone, bereft, two := m.aloneFrom(now)
	given := bereft && g.orphaned
	switch {
	case !two, g.wants() != lease.MasterDown && !given:
		return 0
	case now < alone:
		return alone
	case given: // as what a living owner hands over is not looked for
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
	g.keep = keeping{since: now, lapsed: true, taken: true, given: bereft, lookAt: g.until}
	g.orphaned = false
	why := "another owner is possible"
	if bereft {
		why = "the other director's daemon has died, and has given it up"
	}
	m.note(g, Error, Kept, "UNPROTECTED: taken over without a majority ("+m.keptFor()+"): "+why)
	m.do(GuardArm{Group: g.name, Until: g.until, First: true})
	return 0
}

// awaited tells whether the other director is taking a group over that was handed to it, and waits for the voter here to promise it:
// there is nobody else to do it, and without a lease it has to wait until this director has been silent for long.
func (m *Machine) awaited(g *group) bool {
	return m.cfg.Arbitrate && g.yielded != 0 && m.node.Promised(g.name) <= g.yielded
}

// orphaned: the other director's process has died, and its companion says what it had.
func (m *Machine) orphaned(a lease.Orphaned) {
	for _, name := range a.Groups {
		if g := m.byName[name]; g != nil && m.cfg.Arbitrate {
			g.orphaned = true
		}
	}
}

// aloneFrom is when this director may take it that the other one has no lease, and does not keep without one what it had if
// it does not reach its gateway; or, with bereft, that it has nothing at all. two is false where there are not two voters. The time
// has come if it is not in the future.
func (m *Machine) aloneFrom(now clock.Time) (from clock.Time, bereft, two bool) {
	other, two := m.node.Other()
	if !two {
		return 0, false, false
	}
	from, bereft = now, m.bereft(now, other)
	if !bereft {
		from = max(other.Alive, m.began).Add(m.loneSpan(other.Member))
	}
	from = max(from, now.Add(m.node.AbstainLeft(now)))
	for _, p := range m.node.Promises(now) {
		if p.Holder != m.cfg.Lease.Self && p.Left > 0 {
			from = max(from, now.Add(p.Left))
		}
	}
	return from, bereft, true
}

// bereft tells whether the other director has nothing, with a lease or without one: one of its lives has died, its companion has
// withdrawn what it had, and no later life has got anything yet. None has a lease that the voter here does not know of: nothing was
// heard of one since the dead one was alive. None has taken over without a lease: it has to wait, too, and has begun after a moment
// at which the dead one was alive, for that one has answered what was sent then. Nor can it have taken over at once as this one does,
// on the word of a companion that was here: it has not lived together with an earlier life of this director.
//
// What a companion said may come late, and be said again and again: of the other director's present it tells nothing by itself.
func (m *Machine) bereft(now clock.Time, other lease.Counterpart) bool {
	if m.cfg.Broken.WordsOfAnyLife {
		return other.Over != 0
	}
	return other.Over != 0 && other.Over == other.Answerer && now < other.Answered.Add(m.longest()+m.cfg.Lease.Duration/4)
}

// longest is for how long a director may have what it had when it was last heard: until its lease is over, or the answer of its gateway.
func (m *Machine) longest() time.Duration {
	if m.cfg.Broken.TakeBeforeBlind {
		return m.cfg.Lease.Duration
	}
	return max(m.cfg.Lease.Duration, m.cfg.SightSpan)
}

// loneSpan is how long the other director must not have been heard: its lease is over by then, and the last answer of its gateway
// that it may have had when it was last heard does not count any more, by its clock and its guard. It renews its lease, and so
// speaks, every quarter of one. Two that lose each other at one moment do not take over at one moment. bereft rests on it being longer than
// longest and a quarter of a lease, by any clock.
func (m *Machine) loneSpan(other lease.Member) time.Duration {
	cfg, longest := m.cfg.Lease, m.longest()
	span := longest + longest/50 + cfg.Slack + cfg.Duration/2
	if other < cfg.Self {
		span += cfg.Duration / 4
	}
	return span
}
