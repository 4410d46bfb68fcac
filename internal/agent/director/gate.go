package director

import (
	"fmt"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// handoverSpan is how long an owner that wants to go waits for somebody to take over. It keeps the lease meanwhile.
func (m *Machine) handoverSpan() time.Duration {
	return min(max(m.cfg.Lease.Duration/2, 200*time.Millisecond), time.Second)
}

// apply carries on what the lease protocol asks for.
func (m *Machine) apply(now clock.Time, actions []lease.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case lease.Send, lease.Propose, lease.RaiseCeiling:
			m.do(a)
		case lease.Extended:
			m.extended(now, a)
		case lease.Lost:
			m.lost(now, a)
		case lease.YieldTo:
			m.yieldTo(now, a)
		case lease.Invited:
			m.invited(now, a)
		case lease.ClaimRefused:
			m.refused(now, a)
		case lease.Contested:
			m.contested(now, a)
		case lease.NobodyTakes:
			m.nobodyTakes(now, a)
		case lease.Promised:
			m.promised(now, a)
		case lease.Orphaned:
			m.orphaned(a)
		}
	}
}

// extended: the lease is good for longer, or for the first time.
func (m *Machine) extended(now clock.Time, a lease.Extended) {
	g := m.byName[a.Group]
	switch {
	case g != nil && a.First && g.keptWithout():
		m.regained(now, g, a)
		return
	case g == nil, a.First && (g.phase != away || m.whyNot(g) != ""):
		if g != nil {
			g.asked = ""
		}
		m.apply(now, m.node.Release(now, a.Group, a.Epoch, "not fit to own it any more"))
		return
	case a.First:
		m.lookFirst(now, g)
		g.phase, g.epoch, g.asked = arming, a.Epoch, ""
	case g.epoch != a.Epoch || g.phase == leaving:
		return
	}
	g.until = a.Until
	m.watchKeep(now, g)
	m.do(GuardArm{Group: a.Group, Epoch: a.Epoch, Until: a.Until, First: a.First})
}

// guardDone: with the guard open the group becomes visible. Without it, it must not be.
func (m *Machine) guardDone(now clock.Time, e GuardDone) {
	g := m.byName[e.Group]
	if g == nil || g.epoch != e.Epoch || (g.phase != arming && g.phase != held) {
		return
	}
	if e.Failed != "" {
		m.note(g, Error, "guard", "the guard could not be armed: "+e.Failed)
		yield := vrrp.Yield{Reason: e.Failed}
		m.leave(now, g, "the guard could not be armed", yield)
		for _, i := range g.instances {
			if i.state.Claiming { // not at once again, or every failure would be two entries of the log
				m.vrrp(now, i, yield)
			}
		}
		return
	}
	if g.phase == held {
		g.failures = 0 // and visible since a round ago
		m.complete(now, g)
		return
	}
	m.enter(now, g)
}

// enter makes a group visible whose guard is open, once nobody else is known to answer for it.
func (m *Machine) enter(now clock.Time, g *group) {
	if g.look.waits = !g.look.until.IsZero(); g.look.waits {
		return
	}
	if now >= g.until {
		return // what has run out by now is lost at the next tick
	}
	if g.wish != "" && g.look.kind == lease.Preempt {
		g.pull.Took(now)
	}
	g.phase, g.invitedKind, g.invitedUntil, g.refusal, g.reloaded = held, "", 0, Refusal{}, false
	if g.keep.taken {
		g.keep.lookAt = now.Add(m.keepEvery())
	}
	for _, i := range g.instances {
		m.vrrp(now, i, vrrp.Granted{})
	}
	m.together(now, g)
}

// together gives up a group that is held but has members that are not Active.
func (m *Machine) together(now clock.Time, g *group) {
	for _, i := range g.instances {
		if g.phase == held && i.state.Status != vrrp.Active {
			m.leave(now, g, i.cfg.Name+" could not become Active", vrrp.Yield{Reason: "not all members are Active"})
		}
	}
}

// guardGone puts the rules back and opens them for what is held.
func (m *Machine) guardGone(now clock.Time, e GuardGone) {
	if !m.gated() {
		return
	}
	if m.guardTold.news(now, e.Reason) {
		m.do(Journal{Severity: Warn, Kind: "guard", Text: e.Reason})
	}
	m.do(m.restore())
}

// restore opens fresh rules for what is held.
func (m *Machine) restore() GuardRestore {
	var restore GuardRestore
	for _, g := range m.groups {
		if g.phase == arming || g.phase == held {
			restore.Open = append(restore.Open, GuardArm{Group: g.name, Epoch: g.epoch, Until: g.until, First: true})
		}
	}
	return restore
}

// leave makes a group invisible. Every member takes the event; whichever was Active drops what it held.
func (m *Machine) leave(now clock.Time, g *group, reason string, ev vrrp.Event) {
	if g.phase != arming && g.phase != held {
		return
	}
	g.phase, g.leaveWhy, g.keep = leaving, reason, keeping{}
	if m.cfg.Broken.ReleaseBeforeInvisible {
		m.apply(now, m.node.Release(now, g.name, g.epoch, reason))
	}
	m.do(GuardShut{Group: g.name})
	for _, i := range g.instances {
		if i.state.Status == vrrp.Active {
			_, i.faulted = ev.(vrrp.Faulted)
			m.vrrp(now, i, ev)
		}
	}
}

func (m *Machine) lost(now clock.Time, a lease.Lost) {
	g := m.byName[a.Group]
	if g == nil || g.epoch != a.Epoch {
		return
	}
	m.note(g, Warn, Lapse, fmt.Sprintf("the lease of epoch %d is lost: %s", a.Epoch, a.Reason))
	if a.Lapsed && g.phase == held && g.keep.since != 0 && !m.node.Present(now, m.keepSpan()) {
		g.keep.lapsed = true
		return
	}
	m.leave(now, g, "lost: "+a.Reason, vrrp.Yield{Reason: "the lease is lost: " + a.Reason})
}

func (m *Machine) yieldTo(now clock.Time, a lease.YieldTo) {
	g := m.byName[a.Group]
	if g == nil || g.epoch != a.Epoch {
		return
	}
	g.yielded = a.Epoch
	m.leave(now, g, a.Reason, vrrp.Yield{Reason: fmt.Sprintf("%s takes over: %s", a.To, a.Reason)})
}

// invited: somebody wants this director to take over.
func (m *Machine) invited(now clock.Time, a lease.Invited) {
	g := m.byName[a.Group]
	if g == nil || g.phase != away || m.whyNot(g) != "" {
		return
	}
	g.invitedKind, g.invitedWhy, g.invitedUntil = a.Kind, a.Reason, now.Add(m.cfg.Lease.Duration)
}

func (m *Machine) refused(now clock.Time, a lease.ClaimRefused) {
	g := m.byName[a.Group]
	if g == nil || g.asked == "" {
		return
	}
	if g.refusal.Reason != a.Reason || g.refusal.Holder != a.Holder {
		g.refusal = Refusal{Reason: a.Reason, Holder: a.Holder, Since: now}
		if g.told.news(now, a.Reason) {
			m.note(g, Info, "claim", "not granted: "+a.Reason)
		}
	}
	if a.Holder != "" && a.Holder != m.cfg.Lease.Self && g.keptWithout() {
		m.keepNoMore(now, g, fmt.Sprintf("%s has it", a.Holder))
	}
	m.suspect(now, g, a)
}

// contested: an address that a reload has brought is not added as long as somebody else has it.
func (m *Machine) contested(now clock.Time, a lease.Contested) {
	if g := m.byName[a.Group]; g != nil && g.told.news(now, a.Crossing.String()) {
		m.note(g, Warn, "address", fmt.Sprintf("%s is not added yet: %s", a.Address, a.Crossing))
	}
}

// nobodyTakes: whoever must go, goes all the same; maintenance waits.
func (m *Machine) nobodyTakes(now clock.Time, a lease.NobodyTakes) {
	g := m.byName[a.Group]
	if g == nil || g.epoch != a.Epoch || g.phase != held {
		return
	}
	g.resigning, g.resignAfter = false, now.Add(m.cfg.Lease.Duration)
	switch reason := g.faulted(); {
	case m.stopping:
		m.leave(now, g, "shutting down, and nobody takes over", vrrp.Stop{})
	case reason != "":
		m.leave(now, g, reason+", and nobody takes over", vrrp.Faulted{Reason: reason})
	case m.inMaintenance() && g.told.news(now, "kept"):
		m.note(g, Warn, "maintenance", "kept, since nobody takes over")
	case m.outlooked(g) != "" && g.told.news(now, "kept without a gateway"):
		m.note(g, Warn, "gateway", "kept, since nobody takes over: "+m.outlooked(g))
	}
}

// invisible: the epoch can be released, for good.
func (m *Machine) invisible(now clock.Time, e Invisible) {
	g := m.byName[e.Group]
	if g == nil || g.phase != leaving || g.epoch != e.Epoch {
		return
	}
	reason := g.leaveWhy
	g.phase, g.epoch, g.until, g.leaveWhy, g.resigning, g.resignAfter = away, 0, 0, "", false, 0
	m.apply(now, m.node.Release(now, g.name, e.Epoch, reason))
	for _, i := range g.instances {
		if m.stopping && i.state.Status != vrrp.Initialize {
			m.vrrp(now, i, vrrp.Stop{})
		}
	}
	if !m.stopping {
		m.tellFaults(now, g)
	}
}

func (m *Machine) inMaintenance() bool { return m.gated() && m.log.InMaintenance(m.cfg.Node) }

// marked is why a director in maintenance owns nothing.
const marked = "in maintenance"

// whyNot says why this director could not own a group now; empty if it could.
func (m *Machine) whyNot(g *group) string {
	switch {
	case !m.started:
		return "starting"
	case m.stopping:
		return "shutting down"
	case g.retired:
		return "removed from the configuration"
	case g.faulted() != "":
		return g.faulted()
	case m.gated() && !m.node.Voting():
		return "not a voting member of the cluster yet"
	case m.gated() && m.node.ClockOff():
		return "its clock runs at another rate than the other members'"
	case m.inMaintenance():
		return marked
	case g.unfitWhy != "":
		return g.unfitWhy
	case m.gated():
		return m.outlooked(g)
	}
	return ""
}

// outlooked says why another director should have a group because it sees its gateways and this one does not; empty if none
// should. An owner that may see them again in a moment keeps what it has.
func (m *Machine) outlooked(g *group) string {
	if m.sight.Sight == lease.Sees || m.sight.Sight == lease.Doubts || m.sight.Sight == lease.Recovers && g.phase != away {
		return ""
	}
	seer := m.node.Seer(g.name)
	if seer == "" {
		return ""
	}
	return fmt.Sprintf("%s, and %s reaches its gateway", m.sight.Text, seer.Node())
}

// wants is the claim that a group's members make together, if all of them do.
func (g *group) wants() lease.ClaimKind {
	kind := lease.MasterDown
	for _, i := range g.instances {
		if !i.state.Claiming {
			return ""
		}
		if i.state.Claim == vrrp.Preempt {
			kind = lease.Preempt
		}
	}
	return kind
}

// settle brings what the cluster is asked for in line with what the groups want after a step.
func (m *Machine) settle(now clock.Time) {
	if m.gated() {
		m.place(now)
		m.heirs = nil
		m.arbitrate(now)
		for _, g := range m.groups {
			if len(g.instances) > 0 { // else a reload is about to replace all of them
				m.claim(now, g)
				m.resign(now, g)
			}
		}
		m.stand()
		for _, g := range m.groups {
			if g.phase == leaving {
				m.do(ConfirmInvisible{Group: g.name, Epoch: g.epoch})
			}
		}
	}
	m.forgetRetired(now)
	if m.stopping && !m.stopped && (m.gone() || now >= m.stopBy) {
		m.stopped = true
		m.do(Stopped{})
	}
}

// claim asks for a group, changes what is asked, or ends it.
func (m *Machine) claim(now clock.Time, g *group) {
	kind, reason := g.wants(), "no advertisement for the down interval"
	if kind == lease.Preempt {
		reason = "preempts a lower priority"
	}
	kind, reason = m.placed(g, kind, reason)
	if g.invitedKind != "" {
		kind, reason = g.invitedKind, g.invitedWhy
	}
	switch {
	case g.keptWithout():
		kind, reason = lease.MasterDown, "kept without a majority"
	case g.phase != away || m.whyNot(g) != "":
		kind = ""
	}
	if kind == g.asked {
		return
	}
	g.asked = kind
	if kind == "" {
		g.refusal = Refusal{}
		m.apply(now, m.node.Unclaim(now, g.name))
		return
	}
	g.look.kind = kind
	m.lookFirst(now, g)
	m.apply(now, m.node.Claim(now, g.name, kind, reason))
}

// resign asks for somebody who takes over what this director must give away.
func (m *Machine) resign(now clock.Time, g *group) {
	why := m.whyNot(g)
	if g.phase != held || g.resigning || why == "" || now < g.resignAfter {
		return
	}
	g.resigning = true
	m.apply(now, m.node.Resign(now, g.name, why, why == marked, m.heir(g), m.handoverSpan()))
}

// stand tells the other members when this director's word on itself has changed.
func (m *Machine) stand() {
	changed := m.told == nil
	for _, g := range m.groups {
		changed = changed || m.told[g.name] != m.standing(g)
	}
	if !changed {
		return
	}
	m.told = map[string]lease.Standing{}
	for _, g := range m.groups {
		m.told[g.name] = m.standing(g)
	}
	m.do(Stand{Groups: m.told})
}

func (m *Machine) standing(g *group) lease.Standing {
	s := lease.Standing{Eligible: m.whyNot(g) == "" && len(g.instances) > 0, Priority: g.priority(), Sight: m.sight.Sight,
		Hardware: m.hardware.Addresses}
	if m.cfg.Hold {
		s.Sources = g.sources()
	}
	if rules, ruled := m.cfg.Place.Rules[g.name]; ruled {
		s.Gain, s.Rank = g.gain(), rules.Rank(m.cfg.Node)
	}
	return s
}

// priority of a group is the lowest of its members'.
func (g *group) priority() uint8 {
	lowest := vrrp.PriorityOwner
	for _, i := range g.instances {
		lowest = min(lowest, i.priority)
	}
	return lowest
}

// gone tells whether nothing is visible and the cluster knows, and whoever takes over, too.
func (m *Machine) gone() bool {
	for _, g := range m.groups {
		if g.phase != away || m.awaited(g) {
			return false
		}
	}
	return !m.gated() || m.node.Settled() && !m.node.Answering()
}
