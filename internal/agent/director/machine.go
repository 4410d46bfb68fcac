package director

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// Config is what a director is made of.
type Config struct {
	Node    string
	Groups  []Group
	Lease   *lease.Config // nil: there is no cluster, VRRP alone decides
	Fencing Fencing
	Hold    bool // an owner that loses the majority keeps its groups as long as its gateways answer and nobody else acts for them
	// Arbitrate is Hold for a cluster of two directors, in which the one that is left takes over, too, if its gateways answer.
	Arbitrate bool
	SightSpan time.Duration // for how long an answer of the gateways counts; zero: until Sight says that it does not
	Place     fencing.PlaceConfig
	Broken    Broken
}

// Broken switches single rules off, so that tests can show that each of them is needed. Production leaves it zero.
type Broken struct {
	ReleaseBeforeInvisible bool // H7 the wrong way round: an epoch is released while its addresses may still answer
	AddBeforeCovered       bool // A1: what a reload brings becomes visible before the lease covers it
	BelieveAnyFence        bool // a device that failed has switched the node off
	FenceCoversLater       bool // a fence proves what the node held when it was confirmed, and not when it was begun (F05)
	WordsOfAnyLife         bool // whichever life of the other director has died, and whenever: it has nothing
	TakeBeforeBlind        bool // a takeover without a majority does not wait until an owner without a gateway has given up
}

// Group is one ownership group: the instances of a vrrp_sync_group, or one instance outside any. Addresses are what its
// lease covers; a link-local one has its interface as its zone.
type Group struct {
	Name      string
	Instances []vrrp.Config
	Addresses []netip.Addr
}

// competitorPause is the least time between two defences of an address against the same kind of claim: two machines
// that both insist must not fill the LAN.
const competitorPause = 10 * time.Second

// competitorPatience is the time between a claim and the defence against it. A router that rightly takes over claims the
// addresses right after its advertisement, which may come to our ears later than the claim: an announcement of ours in
// between would lead the neighbours back to us, who are about to give way.
const competitorPatience = 100 * time.Millisecond

// Machine is one director. One goroutine calls it.
type Machine struct {
	cfg        Config
	node       *lease.Node // nil without a cluster
	log        Log
	fences     map[string]*fence // by node, as far as there are fence devices
	withdrawAt clock.Time        // when a request to fence this node may be withdrawn again
	groups     []*group
	due        []clock.Time // of the groups, in the same order: when a Tick is next due to them; zero: never
	touched    []*group     // whose due may be another after this step
	names      []string     // of groups
	byName     map[string]*group
	instances  map[string]*instance
	began      clock.Time
	started    bool
	stopping   bool
	stopped    bool
	stopBy     clock.Time
	retiring   bool // something is left of what has been retired
	told       map[string]lease.Standing
	sight      Sight                    // of the gateways
	hardware   Hardware                 // of this director
	looks      uint64                   // second looks so far
	minute     int                      // of the day
	placeAt    clock.Time               // when it is decided anew where groups are to be
	heirs      map[string]fencing.Place // where groups are to be at this moment, as far as a step has asked
	guardTold  told
	out        []Action
}

// phase is where a gated group stands between wanting and holding.
type phase int

const (
	away    phase = iota + 1 // not held, nothing visible
	arming                   // the lease is in hand, the guard is being opened
	held                     // visible
	leaving                  // the guard is shut; the shell has yet to confirm that nothing is visible
)

type group struct {
	name      string
	place     int // among all groups
	instances []*instance
	phase     phase
	epoch     lease.Epoch // of arming, held, leaving
	until     clock.Time  // the lease's deadline
	leaveWhy  string      // reason of the release that follows leaving

	asked        lease.ClaimKind // what the lease has been asked for; empty: nothing
	invitedKind  lease.ClaimKind // a claim at somebody's invitation, until invitedUntil
	invitedWhy   string
	invitedUntil clock.Time
	refusal      Refusal
	told         told // what may be said again and again
	resigning    bool
	resignAfter  clock.Time // nobody took the group: do not ask again before

	unfitWhy   string // addresses could not be added, or somebody else has them: not to be claimed until unfitUntil
	unfitUntil clock.Time
	failures   int // in a row
	look       look
	keep       keeping
	yielded    lease.Epoch // the last that was handed over; zero: none
	takeAt     clock.Time  // when to look whether to take it over without a majority; zero: not by itself
	orphaned   bool        // its owner has died, whose companion has given it up, and nobody has advertised it since

	spot fencing.Place // where it is to be
	pull fencing.Pull
	wish string // why this director takes it from another one; empty: it does not

	retired  bool // to be forgotten once it is away
	reloaded bool // its configuration has changed, and the guard does not cover that yet
}

// told keeps what may happen again and again from filling the journal: when a text was said.
type told map[string]clock.Time

const (
	toldAgain = 10 * time.Minute // after which a text is news again
	toldTexts = 8                // said about one matter in that time
)

// news tells whether text is worth an entry of the journal, which it then gets.
func (t told) news(now clock.Time, text string) bool {
	for known, at := range t {
		if now >= at.Add(toldAgain) {
			delete(t, known)
		}
	}
	if _, known := t[text]; known || len(t) >= toldTexts {
		return false
	}
	t[text] = now
	return true
}

// Refusal is why a group that is claimed is not granted.
type Refusal struct {
	Reason string
	Holder lease.Member
	Since  clock.Time
}

type instance struct {
	cfg        vrrp.Config
	state      vrrp.State
	priority   uint8
	group      *group
	causes     map[string]bool // of faults; true: silent
	faulted    bool            // the state machine has been told
	silent     bool            // of a fault that was told, and that nobody is to hear of
	defendedAt clock.Time
	defendAt   clock.Time // addresses that somebody claims are to be announced again
	claimed    string     // by whom, for the journal
	retired    bool       // leaves alone: the rest of its group stays
}

// New returns a machine at rest. log is read during every Step; it is ignored without a cluster.
func New(now clock.Time, cfg Config, log Log) *Machine {
	m := &Machine{cfg: cfg, log: log, began: now, fences: map[string]*fence{}, byName: map[string]*group{}, instances: map[string]*instance{}, guardTold: told{}}
	if cfg.Lease != nil {
		m.node = lease.NewNode(now, *cfg.Lease, log)
	}
	m.target(cfg.Fencing)
	for _, gc := range cfg.Groups {
		g := &group{name: gc.Name, phase: away, told: told{}}
		for _, vc := range gc.Instances {
			vc.Gated = cfg.Lease != nil
			i := &instance{cfg: vc, priority: vc.Priority, group: g, causes: map[string]bool{}}
			g.instances = append(g.instances, i)
			m.instances[vc.Name] = i
		}
		m.groups = append(m.groups, g)
		m.names = append(m.names, g.name)
		m.byName[gc.Name] = g
		if m.gated() {
			m.node.Cover(now, gc.Name, gc.Addresses) // nothing follows: it holds no lease yet
		}
	}
	m.arrange()
	return m
}

func (m *Machine) gated() bool { return m.node != nil }

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

// Step takes in an event at now and returns what is to be done about it, in order.
func (m *Machine) Step(now clock.Time, ev Event) []Action {
	m.keepWhile(now)
	m.take(now, ev)
	m.keepWhile(now)
	m.settle(now)
	m.reckon(ev)
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) take(now clock.Time, ev Event) {
	switch e := ev.(type) {
	case Start:
		m.start(now, e)
	case Tick:
		m.tick(now)
	case Advert:
		m.advert(now, e)
	case Fault:
		m.fault(now, e)
	case Priority:
		if i := m.instances[e.Instance]; i != nil && i.priority != e.Priority {
			i.priority = e.Priority
			m.vrrp(now, i, vrrp.SetPriority{Priority: e.Priority})
		}
	case Source:
		if i := m.instances[e.Instance]; i != nil {
			i.cfg.Local = e.Address
		}
	case Sight:
		m.sight = e
	case Minute:
		m.minute = e.OfDay
	case Hardware:
		m.hardware = e
	case Looked:
		m.looked(now, e)
	case LinkUp:
		m.vrrp(now, m.instances[e.Instance], vrrp.Reannounce{})
	case Competitor:
		m.competitor(now, e)
	case AddressesGone:
		m.addressesGone(now, e)
	case AddressesFailed:
		m.addressesFailed(now, e)
	case GuardDone:
		m.guardDone(now, e)
	case GuardGone:
		m.guardGone(now, e)
	case Invisible:
		m.invisible(now, e)
	case lease.Input:
		m.apply(now, m.node.Step(now, e))
		m.releaseEarlierLives(now)
		if _, applied := e.(lease.Applied); applied {
			m.follow(now)
		}
	case FenceDone:
		m.switchedOff(now, e)
	case SwitchedOn:
		m.switchedOn(now, FenceDone(e))
	case Retire:
		m.retire(now, e)
	case Reload:
		m.reload(now, e)
	case Shutdown:
		m.shutdown(now)
	default:
		panic(fmt.Sprintf("director: unknown event %T", ev))
	}
}

// Deadline is when Tick is next due; zero if there is nothing to wait for.
func (m *Machine) Deadline() clock.Time {
	if m.stopped {
		return 0
	}
	at := clock.Earliest(m.stopBy, m.placeAt)
	if m.node != nil {
		at = clock.Earliest(at, m.node.Deadline(), m.fenceDeadline())
	}
	for _, due := range m.due {
		if due != 0 && (at == 0 || due < at) {
			at = due
		}
	}
	return at
}

// reckon brings what Deadline says in line with a step. With many instances nearly all events are advertisements and ticks:
// of these only the groups count that had to do with them. Whatever else happens, and whatever a lease may have to do with,
// is looked at as a whole.
func (m *Machine) reckon(ev Event) {
	switch ev.(type) {
	case Advert, Tick:
		if m.gated() {
			break
		}
		for _, g := range m.touched {
			m.due[g.place] = g.deadline()
		}
		m.touched = m.touched[:0]
		return
	}
	m.arrange()
}

// arrange reckons for all groups, whose number and order may have changed.
func (m *Machine) arrange() {
	m.due, m.touched = make([]clock.Time, len(m.groups)), nil
	for place, g := range m.groups {
		g.place = place
		m.due[place] = g.deadline()
	}
}

// deadline is when a Tick is next due to a group; zero: never.
func (g *group) deadline() clock.Time {
	at := clock.Earliest(g.invitedUntil, g.resignAfter, g.unfitUntil, g.look.until, g.keep.lookAt, g.takeAt)
	for _, i := range g.instances {
		at = clock.Earliest(at, i.state.Deadline(), i.defendAt)
	}
	return at
}

func (m *Machine) start(now clock.Time, e Start) {
	m.started = true
	for _, g := range m.groups {
		for _, i := range g.instances {
			if !m.gated() && len(g.instances) > 1 {
				m.vrrp(now, i, vrrp.Hold{})
			}
			m.tellFault(now, i) // first, so that a router with a fault does not pass for Backup before
			m.vrrp(now, i, vrrp.Start{Delay: e.Delay})
		}
	}
	m.releaseEarlierLives(now)
}

// releaseEarlierLives tells the cluster that what an earlier life owned is not visible any more.
func (m *Machine) releaseEarlierLives(now clock.Time) {
	if !m.started || !m.gated() {
		return
	}
	m.apply(now, m.node.ReleaseEarlierLives(now, m.names))
}

// tick lets time pass. Without a lease one group at most becomes visible, since that takes the kernel a while: with many of
// them the others stay due, and the next tick comes before them for those that are Active and have to advertise.
func (m *Machine) tick(now clock.Time) {
	if m.node != nil {
		m.apply(now, m.node.Tick(now))
		m.follow(now)
	}
	appeared := false
	for place, at := range m.due {
		g := m.groups[place]
		if at.IsZero() || now < at || appeared && !g.active() {
			continue
		}
		was := g.active()
		m.tickGroup(now, g)
		appeared = appeared || !m.gated() && !was && g.active()
	}
}

func (m *Machine) tickGroup(now clock.Time, g *group) {
	m.touched = append(m.touched, g)
	if !g.invitedUntil.IsZero() && now >= g.invitedUntil {
		g.invitedKind, g.invitedUntil = "", 0
	}
	if !g.resignAfter.IsZero() && now >= g.resignAfter {
		g.resignAfter = 0
	}
	if !g.look.until.IsZero() && now >= g.look.until {
		m.lookedEnough(now, g)
	}
	if !g.keep.lookAt.IsZero() && now >= g.keep.lookAt {
		m.keepOn(now, g)
	}
	if !g.unfitUntil.IsZero() && now >= g.unfitUntil {
		m.rested(now, g)
	}
	for _, i := range g.instances {
		if at := i.state.Deadline(); !at.IsZero() && now >= at {
			m.vrrp(now, i, vrrp.Tick{})
		}
		if !i.defendAt.IsZero() && now >= i.defendAt {
			m.defend(now, i)
		}
	}
}

// active tells whether a member is.
func (g *group) active() bool {
	return slices.ContainsFunc(g.instances, func(i *instance) bool { return i.state.Status == vrrp.Active })
}

func (m *Machine) advert(now clock.Time, e Advert) {
	i := m.instances[e.Instance]
	if i == nil {
		return // an instance that the configuration no longer has
	}
	m.touched = append(m.touched, i.group)
	m.doubt(now, i)
	if e.Priority != vrrp.PriorityResign {
		i.group.orphaned = false
		order := cmp.Or(cmp.Compare(e.Priority, i.state.Priority), e.From.WithZone("").Compare(i.cfg.Local.WithZone("")))
		m.rival(now, i.group, order, fmt.Sprintf("%s advertises it", e.From))
	}
	m.vrrp(now, i, vrrp.Received{From: e.From, Priority: e.Priority, Interval: e.Interval, Unleased: m.keeps(i.group, e.From)})
}

// vrrp steps an instance and carries its actions on.
func (m *Machine) vrrp(now clock.Time, i *instance, ev vrrp.Event) {
	if i == nil {
		return // an instance that the configuration no longer has
	}
	var actions []vrrp.Action
	i.state, actions = i.state.Step(&i.cfg, now, ev)
	g := i.group
	left := ""
	for _, a := range actions {
		switch a := a.(type) {
		case vrrp.SendAdvert:
			m.do(SendAdvert{Instance: i.cfg.Name, Priority: a.Priority, NotAfter: m.limit(g, a.Priority)})
		case vrrp.BecomeActive:
			m.do(TakeAddresses{Instance: i.cfg.Name, NotAfter: g.until})
		case vrrp.LeaveActive:
			if m.gated() && !i.retired {
				m.do(GuardShut{Group: g.name})
			}
			m.do(DropAddresses{Instance: i.cfg.Name})
			if !i.retired {
				left = "left Active"
			}
		case vrrp.Announce:
			m.do(Announce{Instance: i.cfg.Name, Repeat: a.Repeat, Extra: a.Extra, NotAfter: g.until})
		case vrrp.LowerHeard:
			m.do(LowerHeard{Instance: i.cfg.Name, LowerHeard: a})
			m.peers(now, i, vrrp.Defend{})
		case vrrp.Transition:
			if left != "" {
				left = a.Reason
			}
			m.do(Transition{Instance: i.cfg.Name, Transition: a, Priority: i.priority})
		case vrrp.Wished:
			m.wished(now, i)
		case vrrp.Claim, vrrp.Unclaim, vrrp.Ignored:
			// a gated instance's wish is read from its state when the step is over
		}
	}
	if left != "" {
		m.followed(now, i, ev, left)
	}
}

// limit is the NotAfter of an advertisement.
func (m *Machine) limit(g *group, priority uint8) clock.Time {
	if priority == vrrp.PriorityResign {
		return 0
	}
	return g.until
}

// peers steps the other members of a sync group that are Active.
func (m *Machine) peers(now clock.Time, i *instance, ev vrrp.Event) {
	for _, other := range i.group.instances {
		if other != i && other.state.Status == vrrp.Active {
			m.vrrp(now, other, ev)
		}
	}
}

// followed makes the rest of a group follow a member that has left Active, and ends the lease. A fault and a stop are told
// to every member by the caller, so that each of them resigns.
func (m *Machine) followed(now clock.Time, i *instance, ev vrrp.Event, reason string) {
	g := i.group
	if g.phase == held || g.phase == arming {
		g.phase, g.leaveWhy, g.keep = leaving, reason, keeping{}
		if _, stranger := ev.(vrrp.Received); stranger {
			m.note(g, Warn, Stranger, fmt.Sprintf("%s: %s; that router is not bound by leases", i.cfg.Name, reason))
		}
	}
	switch ev := ev.(type) {
	case vrrp.Faulted, vrrp.Stop:
	case vrrp.Disturbed: // all come back together, after the skew time
		m.peers(now, i, vrrp.Disturbed{Reason: i.cfg.Name + ": " + ev.Reason})
	default:
		m.peers(now, i, vrrp.Yield{Reason: i.cfg.Name + " left: " + reason})
	}
}

// wished lets an ungated sync group become Active once all its members would. The one that was the last to say so goes
// first.
func (m *Machine) wished(now clock.Time, last *instance) {
	g := last.group
	for _, i := range g.instances {
		if !i.state.Wish && i.state.Status != vrrp.Active {
			return
		}
	}
	for _, i := range append([]*instance{last}, g.instances...) {
		if i.state.Status != vrrp.Active {
			m.vrrp(now, i, vrrp.Granted{})
		}
	}
}

// fault counts causes. A gated group that is held stays until somebody takes it, or nobody does.
func (m *Machine) fault(now clock.Time, e Fault) {
	i := m.instances[e.Instance]
	if i == nil {
		return
	}
	if e.Gone {
		delete(i.causes, e.Cause)
	} else {
		i.causes[e.Cause] = e.Silent
	}
	if m.started && (!m.gated() || i.group.phase == away) {
		m.tellFault(now, i) // whose fault it is goes first
		m.tellFaults(now, i.group)
	}
}

func (m *Machine) tellFaults(now clock.Time, g *group) {
	for _, i := range g.instances {
		m.tellFault(now, i)
	}
}

// tellFault makes an instance's state machine follow its group's faults.
func (m *Machine) tellFault(now clock.Time, i *instance) {
	reason, own, silent := i.group.faultReason(i)
	switch {
	case reason != "" && (!i.faulted || i.silent && !silent):
		i.faulted, i.silent = true, silent
		m.vrrp(now, i, vrrp.Faulted{Reason: reason, Peer: !own, Silent: silent})
	case reason == "" && i.faulted:
		i.faulted, i.silent = false, false
		m.vrrp(now, i, vrrp.Recovered{})
	}
}

// faultReason names a cause for which an instance may not run, whether it is its own, and whether all are silent.
func (g *group) faultReason(i *instance) (reason string, own, silent bool) {
	silent = true
	for _, member := range g.instances {
		if len(member.causes) == 0 {
			continue
		}
		for _, cause := range slices.Sorted(maps.Keys(member.causes)) {
			silent = silent && member.causes[cause]
			if member == i && !own {
				reason, own = cause, true
			} else if reason == "" {
				reason = member.cfg.Name + ": " + cause
			}
		}
	}
	return reason, own, silent && reason != ""
}

func (g *group) faulted() string {
	if len(g.instances) == 0 {
		return ""
	}
	reason, _, _ := g.faultReason(g.instances[0])
	return reason
}

// doubt asks the voters at once whether this director still owns a group that somebody else acts for. A machine that was
// paused as a whole does not know that its lease is over; they do.
func (m *Machine) doubt(now clock.Time, i *instance) {
	if i != nil && m.gated() && i.group.phase == held {
		m.apply(now, m.node.RenewSoon(now))
	}
}

func (m *Machine) competitor(now clock.Time, e Competitor) {
	i := m.instances[e.Instance]
	m.doubt(now, i)
	if i != nil {
		m.answered(now, i.group, Other{Address: e.Address, Hardware: e.Hardware})
	}
	if i == nil || i.state.Status != vrrp.Active || !i.defendAt.IsZero() {
		return
	}
	if !i.defendedAt.IsZero() && now < i.defendedAt.Add(competitorPause) {
		return
	}
	i.defendAt = now.Add(competitorPatience)
	i.claimed = fmt.Sprintf("%s also answers for %s; announcing it again", e.Hardware, e.Address)
}

// defend announces addresses that somebody has claimed, if this director has them still.
func (m *Machine) defend(now clock.Time, i *instance) {
	i.defendAt = 0
	if i.state.Status != vrrp.Active {
		return
	}
	i.defendedAt = now
	m.note(i.group, Warn, Stranger, i.claimed)
	m.vrrp(now, i, vrrp.Reannounce{})
}

func (m *Machine) addressesGone(now clock.Time, e AddressesGone) {
	i := m.instances[e.Instance]
	if i == nil || i.state.Status != vrrp.Active {
		return
	}
	m.note(i.group, Warn, "address", fmt.Sprintf("%s: %s", e.Instance, e.Reason))
	if !m.gated() {
		m.vrrp(now, i, vrrp.Disturbed{Reason: e.Reason})
		return
	}
	m.do(TakeAddresses{Instance: e.Instance, NotAfter: i.group.until})
	m.vrrp(now, i, vrrp.Reannounce{})
}

func (m *Machine) addressesFailed(now clock.Time, e AddressesFailed) {
	i := m.instances[e.Instance]
	if i == nil || i.state.Status != vrrp.Active {
		return
	}
	m.note(i.group, Error, "address", fmt.Sprintf("%s: %s", e.Instance, e.Reason))
	if m.gated() {
		m.vrrp(now, i, vrrp.Yield{Reason: e.Reason, ShortenPeers: true})
		m.rest(now, i.group, e.Reason)
	}
}

// longestRest bounds how long a group that this director cannot make visible is left to others before it tries again.
const longestRest = time.Minute

// rest leaves a group to others for a while, the longer the more often it has failed: a director that is preferred and
// cannot do it must not take it away from one that can, again and again.
func (m *Machine) rest(now clock.Time, g *group, why string) {
	g.failures = min(g.failures+1, 16)
	g.unfitWhy, g.unfitUntil = why, now.Add(min(m.cfg.Lease.Duration<<g.failures, longestRest))
}

func (m *Machine) note(g *group, s Severity, kind, text string) {
	m.do(Journal{Group: g.name, Severity: s, Kind: kind, Text: text})
}

// shutdown begins to hand everything over. Ungated instances end at once.
func (m *Machine) shutdown(now clock.Time) {
	if m.stopping {
		return
	}
	m.stopping, m.stopBy = true, now.Add(time.Second)
	if m.gated() {
		m.stopBy = now.Add(2 * m.handoverSpan())
	}
	for _, g := range m.groups {
		g.resignAfter = 0
		if m.gated() && g.phase != away {
			continue
		}
		for _, i := range g.instances {
			m.vrrp(now, i, vrrp.Stop{})
		}
	}
}

// Move asks a director to take a group at an operator's wish. An error says why that would be in vain; only the leader
// of the cluster's log can do it.
func (m *Machine) Move(now clock.Time, group string, to lease.Member, reason string) ([]Action, error) {
	actions, err := m.node.Move(now, group, to, reason)
	m.apply(now, actions)
	m.settle(now)
	m.arrange()
	out := m.out
	m.out = nil
	return out, err
}
