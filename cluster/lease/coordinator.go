package lease

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// coordinator is what the Raft leader does for claims, handovers and releases. It may be wrong about being the leader:
// then what it proposes does not commit, and nothing has happened. All of it is lost with the leadership, and nothing
// of it is missed: claimants, resigning owners and releasing owners ask again.
type coordinator struct {
	leading   bool
	clearings map[string]*clearing  // by group
	releasing map[string]*releasing // by group
	searches  map[string]*search    // by group
	proposals map[uint64]func(clock.Time, *Node, fsm.Result, error)
	round     uint64
}

func newCoordinator() coordinator {
	return coordinator{
		clearings: map[string]*clearing{}, releasing: map[string]*releasing{}, searches: map[string]*search{},
		proposals: map[uint64]func(clock.Time, *Node, fsm.Result, error){},
	}
}

func (c *coordinator) setLeading(leading bool) {
	round := c.round // answers to an earlier leadership's rounds must not count
	*c = newCoordinator()
	c.leading, c.round = leading, round
}

// step is how far a claim has come.
type step int

const (
	probing      step = iota + 1 // would a majority clear? (C2)
	clearingNow                  // a majority is asked to clear
	granting                     // Grant is proposed
	transferring                 // Transfer is proposed
	yielding                     // Transfer is committed: the owner is asked to yield
)

// clearing is one claim on its way to a grant. Rounds of clearance count only while they are young (H8).
type clearing struct {
	claim    Claim
	from     Member
	fromLife Life
	step     step
	epoch    Epoch
	round    uint64
	sentAt   clock.Time
	answers  map[Member]clearAnswer
	attempts int
	wakeAt   clock.Time    // when the step is over, or to be repeated
	since    clock.Time    // when the claim came
	pause    time.Duration // after a round with a voter that does not know yet what the log says

	yield Yield // while yielding
	owner Member
}

type clearAnswer struct {
	life  Life
	reply ClearReply
}

// releasing is a Release that is proposed. It is proposed again if nothing is heard of it until then.
type releasing struct {
	epoch Epoch
	until clock.Time
}

// search looks for a director that takes a group over: one candidate after the other is invited.
type search struct {
	owner    Member
	epoch    Epoch
	reason   string
	heir     string // node that goes before all others
	invited  map[Member]bool
	inviteAt clock.Time
	until    clock.Time // until then somebody may yet say that it is fit
	waiting  bool       // nobody is, as far as is known
}

// standingSpan is how long the word of a director that it is fit may take to its leader: gossip is not in a hurry.
const standingSpan = 750 * time.Millisecond

const clearAttempts = 4 // epochs tried before the claimant is asked to come again

func (c *coordinator) deadline() clock.Time {
	var at clock.Time
	for _, p := range c.clearings {
		at = clock.Earliest(at, p.wakeAt)
	}
	for _, s := range c.searches {
		at = clock.Earliest(at, s.inviteAt)
	}
	return at
}

func (n *Node) clearWindow() time.Duration { return n.cfg.Duration / 4 } // H8

// onClaim begins to clear a group for a director.
func (n *Node) onClaim(now clock.Time, from Member, life Life, claim Claim) {
	answer := func(reply ClaimReply) { n.answerClaim(from, life, claim, reply) }
	refuse := func(reason string, left time.Duration) { answer(ClaimReply{Refused: reason, Left: left}) }
	c := &n.coordinator
	switch {
	case !c.leading:
		return // the claimant asks again, whoever leads by then
	case !claim.Kind.Valid():
		refuse(fmt.Sprintf("the leader does not know claims of kind %q", claim.Kind), n.cfg.Duration)
		return
	case n.log.InMaintenance(from.Node()):
		refuse("the node is in maintenance", n.cfg.Duration)
		return
	}
	if g, ok := n.log.Grant(claim.Group); ok && g.Member == from {
		switch {
		case Life(g.Life) == life && g.ClaimID == claim.ID:
			answer(ClaimReply{Epoch: Epoch(g.Epoch)}) // its answer was lost
			return
		case Life(g.Life) == life && g.ClaimID > claim.ID:
			return // it has been on its way for long: another grant would end the one that is in use
		case Life(g.Life) != life && n.log.Released(claim.Group) < g.Epoch:
			// A new life releases what earlier ones held before it claims; an old one claims no more.
			refuse("another life of the process holds it", n.resendEvery())
			return
		}
	}
	if p := c.clearings[claim.Group]; p != nil {
		if p.from == from && p.fromLife == life && p.claim.ID >= claim.ID {
			return // under way, or a newer one is
		}
		if p.step >= granting || p.from != from {
			refuse(fmt.Sprintf("a claim of %s is being served", p.from.Node()), n.resendEvery())
			return
		}
	}
	p := &clearing{claim: claim, from: from, fromLife: life, since: now, pause: shortestInterval}
	c.clearings[claim.Group] = p
	n.ask(now, p, probing)
}

// answerClaim answers the life that has claimed: the ids of claims say nothing to another one.
func (n *Node) answerClaim(to Member, life Life, claim Claim, reply ClaimReply) {
	reply.Group, reply.ID = claim.Group, claim.ID
	n.send(to, Message{ToLife: life, ClaimReply: &reply})
}

// ask sends a round to all voters.
func (n *Node) ask(now clock.Time, p *clearing, s step) {
	c := &n.coordinator
	c.round++
	p.step, p.round, p.sentAt, p.wakeAt = s, c.round, now, now.Add(n.clearWindow())
	p.answers = map[Member]clearAnswer{}
	for _, m := range n.voters() {
		n.send(m, Message{Clear: &Clear{
			Group: p.claim.Group, Epoch: p.epoch, Member: p.from, Round: p.round,
			Configuration: n.latest.Index, Promise: p.claim.Promise, Addresses: p.claim.Addresses, Probe: s == probing,
		}})
	}
}

// onClearReply counts a voter's answer.
func (n *Node) onClearReply(now clock.Time, from Member, life Life, reply ClearReply) {
	p := n.coordinator.clearings[reply.Group]
	if p == nil || p.round != reply.Round || (p.step != probing && p.step != clearingNow) {
		return
	}
	if now >= p.sentAt.Add(n.clearWindow()) && !n.cfg.Broken.LateClearances {
		n.weigh(now, p, true)
		return
	}
	if reply.Refused == RefusedConfiguration {
		n.learn(now, reply.Configuration)
	}
	if _, again := p.answers[from]; again { // once per life: two answers of one voter in one round are two lives
		return
	}
	p.answers[from] = clearAnswer{life, reply}
	if n.outdated(now, p) {
		p.wakeAt = clock.Earliest(p.wakeAt, max(now, p.sentAt.Add(p.pause)))
		return
	}
	n.weigh(now, p, false)
}

// outdated tells whether a voter is in the way for the sake of an epoch that is over, as this member's log says: it will soon
// know, and is asked again. Others may never answer: whoever has just died is one of the voters.
func (n *Node) outdated(now clock.Time, p *clearing) bool {
	if p.step != probing && p.step != clearingNow || n.log.Released(p.claim.Group) < n.log.Epoch(p.claim.Group) ||
		now >= p.since.Add(n.holdSpan()) {
		return false
	}
	for _, a := range p.answers {
		if a.reply.Refused == RefusedPromised {
			return true
		}
	}
	return false
}

// weigh decides on the answers so far; final says that no more will count.
func (n *Node) weigh(now clock.Time, p *clearing, final bool) {
	agreed := func(m Member) bool { a, ok := p.answers[m]; return ok && a.reply.Refused == "" }
	pending := func(m Member) bool { _, ok := p.answers[m]; return !ok && !final }
	switch {
	case n.majority(agreed):
		n.agreed(now, p)
	case n.majority(func(m Member) bool { return agreed(m) || pending(m) }):
		// more answers may come
	default:
		n.refused(now, p)
	}
}

// newest is the highest epoch that anybody is known to have seen.
func (n *Node) newest(p *clearing) Epoch {
	epoch := Epoch(n.log.Epoch(p.claim.Group))
	for _, a := range p.answers {
		epoch = max(epoch, a.reply.Epoch)
	}
	return epoch
}

// agreed goes on from a majority's agreement.
func (n *Node) agreed(now clock.Time, p *clearing) {
	if holder := n.unproved(p); holder != "" {
		delete(n.coordinator.clearings, p.claim.Group)
		n.answerClaim(p.from, p.fromLife, p.claim, ClaimReply{Holder: holder, Left: n.clearWindow(), Silent: p.claim.Promise,
			Refused: fmt.Sprintf("%s held it last, and is not proved to be off", holder.Node())})
		return
	}
	if p.step == probing {
		p.epoch = n.newest(p) + 1
		n.ask(now, p, clearingNow)
		return
	}
	p.step, p.wakeAt = granting, now.Add(n.holdSpan())
	tag := n.propose(fsm.Command{Grant: &fsm.Grant{
		Group: p.claim.Group, Member: p.from, Epoch: uint64(p.epoch), ClaimID: p.claim.ID, Life: uint64(p.fromLife),
		Placed: p.claim.Kind == Move, Reason: p.claim.Reason, Proved: p.claim.Proved,
	}})
	n.coordinator.proposals[tag] = func(now clock.Time, n *Node, result fsm.Result, err error) {
		if n.coordinator.clearings[p.claim.Group] != p {
			return
		}
		delete(n.coordinator.clearings, p.claim.Group)
		switch {
		case err != nil: // it may yet commit: then the claimant, asking again, is answered from the log
			n.answerClaim(p.from, p.fromLife, p.claim, ClaimReply{Refused: fmt.Sprintf("the grant was not committed: %v", err)})
		case result.Refused != "":
			n.answerClaim(p.from, p.fromLife, p.claim, ClaimReply{Refused: result.Refused, Left: n.resendEvery()})
		default:
			n.answerClaim(p.from, p.fromLife, p.claim, ClaimReply{Epoch: p.epoch})
		}
	}
}

// unproved is who holds a group as far as the log knows, if a claim is not to be granted before that one is proved to be
// off. It saves the way through the log, which refuses such a grant, too.
func (n *Node) unproved(p *clearing) Member {
	g, ok := n.log.Grant(p.claim.Group)
	if !p.claim.Proved || !ok || g.Member.Node() == p.from.Node() || n.log.Released(p.claim.Group) >= g.Epoch {
		return ""
	}
	return g.Member
}

// silence is how long a majority has not acknowledged the lease of a holder: a promise that runs tells when it was given.
func (n *Node) silence(p *clearing, holder Member) (longest time.Duration) {
	spans := []time.Duration{0, p.claim.Promise}
	for _, a := range p.answers {
		spans = append(spans, p.claim.Promise-a.reply.Left)
	}
	for _, span := range spans {
		if span > longest && n.majority(func(m Member) bool {
			a, ok := p.answers[m]
			switch {
			case !ok:
				return false
			case a.reply.Refused == RefusedPromised && a.reply.Holder == holder:
				return p.claim.Promise-a.reply.Left >= span
			}
			return a.reply.Refused == ""
		}) {
			longest = span
		}
	}
	return longest
}

// refused goes on from answers that cannot become a majority.
func (n *Node) refused(now clock.Time, p *clearing) {
	if p.step == clearingNow && p.attempts < clearAttempts {
		for _, a := range p.answers {
			if a.reply.Refused == RefusedEpoch {
				p.attempts++
				p.epoch = n.newest(p) + 1
				n.ask(now, p, clearingNow)
				return
			}
		}
	}
	holder, left, why := n.obstacle(p)
	if holder != "" && holder != p.from && p.claim.Kind.takesFromLiving() {
		if reason := n.transfer(now, p, holder); reason == "" {
			return
		} else {
			why, left = reason, n.cfg.Duration
		}
	}
	delete(n.coordinator.clearings, p.claim.Group)
	n.answerClaim(p.from, p.fromLife, p.claim, ClaimReply{Refused: why, Holder: holder, Left: left, Silent: n.silence(p, holder)})
}

// obstacle says who is in the way, and when a majority might be free of it.
func (n *Node) obstacle(p *clearing) (holder Member, left time.Duration, why string) {
	var waits []time.Duration
	agreed, silent := 0, []string{}
	var crossing *Crossing
	for _, m := range n.voters() {
		a, ok := p.answers[m]
		switch {
		case !ok:
			silent = append(silent, m.Node())
		case a.reply.Refused == "":
			agreed++
		default:
			waits = append(waits, a.reply.Left)
			if a.reply.Holder != "" {
				holder = a.reply.Holder
			}
			if a.reply.Crossing != nil {
				crossing = a.reply.Crossing
			}
			why = string(a.reply.Refused)
		}
	}
	slices.Sort(waits)
	missing := len(n.voters())/2 + 1 - agreed
	if missing > 0 && missing <= len(waits) {
		left = waits[missing-1]
	}
	switch {
	case holder != "":
		why = fmt.Sprintf("%s holds it", holder.Node())
	case crossing != nil:
		why = crossing.String()
	case why == string(RefusedAbstaining):
		why = "a voter has just started and keeps the promises that it may have made before"
	case missing > len(waits):
		why = fmt.Sprintf("no majority of voters answers (silent: %s)", strings.Join(silent, ", "))
	}
	return holder, left, why
}

// transfer asks a living owner to hand over. It returns why not, or nothing.
func (n *Node) transfer(now clock.Time, p *clearing, holder Member) string {
	g, ok := n.log.Grant(p.claim.Group)
	switch {
	case !ok || g.Member != holder || n.log.Released(p.claim.Group) >= g.Epoch:
		return fmt.Sprintf("%s holds it, and the log does not say so yet", holder.Node())
	case p.claim.Kind == Preempt && n.log.Placed(p.claim.Group):
		return fmt.Sprintf("an operator has moved it to %s", holder.Node())
	}
	p.step, p.wakeAt = transferring, now.Add(n.holdSpan())
	p.yield = Yield{Group: p.claim.Group, Epoch: Epoch(g.Epoch), To: p.from, Reason: p.claim.Reason}
	tag := n.propose(fsm.Command{Transfer: &fsm.Transfer{
		Group: p.claim.Group, FromEpoch: g.Epoch, To: p.from, ClaimID: p.claim.ID, Life: uint64(p.fromLife),
		Placed: p.claim.Kind == Move, Reason: p.claim.Reason,
	}})
	n.coordinator.proposals[tag] = func(now clock.Time, n *Node, result fsm.Result, err error) {
		if n.coordinator.clearings[p.claim.Group] != p {
			return
		}
		if err != nil || result.Refused != "" {
			delete(n.coordinator.clearings, p.claim.Group)
			n.answerClaim(p.from, p.fromLife, p.claim, ClaimReply{Refused: "the transfer was not committed", Left: n.resendEvery()})
			return
		}
		p.step, p.owner, p.sentAt, p.wakeAt = yielding, holder, now, now
		n.coordinate(now)
	}
	return ""
}

// Answering tells whether this member, as the leader, has proposed something of which it has to tell others: a successor that
// is not told finds its grant in the log, but only once it knows that it is committed.
func (n *Node) Answering() bool { return len(n.coordinator.proposals) > 0 }

func (n *Node) outcome(now clock.Time, o Outcome) {
	if done := n.coordinator.proposals[o.Tag]; done != nil {
		delete(n.coordinator.proposals, o.Tag)
		done(now, n, o.Result, o.Err)
	}
}

// coordinate does what is due: it ends rounds that are too old, repeats what an owner may not have heard, and invites
// the next candidate.
func (n *Node) coordinate(now clock.Time) {
	c := &n.coordinator
	if !c.leading {
		return
	}
	for _, group := range sorted(c.clearings) {
		p := c.clearings[group]
		outdated := n.outdated(now, p)
		if outdated {
			p.wakeAt = clock.Earliest(p.wakeAt, max(now, p.sentAt.Add(p.pause))) // the log may have told it just now
		}
		if now < p.wakeAt {
			continue
		}
		switch {
		case outdated:
			p.pause = min(2*p.pause, n.resendEvery())
			n.ask(now, p, probing)
		case p.step == probing || p.step == clearingNow:
			n.weigh(now, p, !n.cfg.Broken.LateClearances)
		case p.step == granting || p.step == transferring:
			delete(c.clearings, group) // nobody could use the outcome any more (O4)
		case n.log.Released(group) >= uint64(p.yield.Epoch), now >= p.sentAt.Add(n.holdSpan()):
			delete(c.clearings, group)
		default:
			p.wakeAt = now.Add(n.resendEvery())
			n.send(p.owner, Message{Yield: &p.yield})
		}
	}
	for _, group := range sorted(c.searches) {
		if s := c.searches[group]; now >= s.inviteAt {
			n.invite(now, group, s)
		}
	}
}

// onRelease commits that an owner is invisible. If a transfer waits for it, the same entry grants the next epoch.
func (n *Node) onRelease(now clock.Time, from Member, r Release) {
	c := &n.coordinator
	if !c.leading {
		return
	}
	done := Message{Released: &Released{Group: r.Group, Epoch: r.Epoch}}
	g, ok := n.log.Grant(r.Group)
	if !ok || Epoch(g.Epoch) > r.Epoch || n.log.Released(r.Group) >= uint64(r.Epoch) {
		if Epoch(g.Epoch) >= r.Epoch {
			n.send(from, done)
		}
		return // else the grant is not applied here yet: it will be asked again
	}
	if g.Member != from || Life(g.Life) != r.Life {
		return
	}
	if p := c.releasing[r.Group]; p != nil && p.epoch == r.Epoch && now < p.until {
		return
	}
	command := fsm.Release{Group: r.Group, Epoch: uint64(r.Epoch), Member: from, Life: uint64(r.Life), Reason: r.Reason}
	if p := c.clearings[r.Group]; p != nil && p.step >= transferring && p.yield.Epoch == r.Epoch {
		command.Successor, command.SuccessorClaimID, command.SuccessorLife = p.from, p.claim.ID, uint64(p.fromLife)
		command.Placed = p.claim.Kind == Move
	}
	c.releasing[r.Group] = &releasing{epoch: r.Epoch, until: now.Add(n.holdSpan())}
	tag := n.propose(fsm.Command{Release: &command})
	c.proposals[tag] = func(now clock.Time, n *Node, result fsm.Result, err error) {
		delete(n.coordinator.releasing, r.Group)
		if err != nil {
			return // the owner asks again
		}
		n.send(from, done)
		delete(n.coordinator.searches, r.Group)
		if command.Successor == "" || result.Refused != "" {
			return
		}
		delete(n.coordinator.clearings, r.Group)
		n.send(command.Successor, Message{ToLife: Life(command.SuccessorLife), ClaimReply: &ClaimReply{
			Group: r.Group, ID: command.SuccessorClaimID, Epoch: r.Epoch + 1}})
	}
}

// onResign looks for somebody who takes over from an owner that wants to give a group away.
func (n *Node) onResign(now clock.Time, from Member, r Resign) {
	c := &n.coordinator
	if !c.leading {
		return
	}
	if s := c.searches[r.Group]; s != nil && s.owner == from && s.epoch == r.Epoch {
		return
	}
	if r.Marked && !n.log.InMaintenance(from.Node()) {
		n.send(from, Message{ResignReply: &ResignReply{Group: r.Group, Epoch: r.Epoch}})
		return
	}
	s := &search{owner: from, epoch: r.Epoch, reason: r.Reason, heir: r.Heir, invited: map[Member]bool{from: true}, until: now.Add(standingSpan)}
	c.searches[r.Group] = s
	n.invite(now, r.Group, s)
}

// candidate returns the heir, or the fittest of those who say that they could own a group and were not invited yet; empty: nobody.
func (n *Node) candidate(group string, search *search) (fittest Member) {
	var best Standing
	for _, m := range sorted(n.standings) {
		s := n.standings[m].Groups[group]
		switch {
		case search.invited[m] || !n.able(m, group):
			continue
		case m.Node() == search.heir:
			return m
		}
		if fittest == "" || cmp.Or(cmp.Compare(s.Sight, best.Sight), cmp.Compare(best.Gain, s.Gain), cmp.Compare(s.Rank, best.Rank),
			cmp.Compare(best.Priority, s.Priority)) < 0 {
			fittest, best = m, s
		}
	}
	return fittest
}

// able tells whether a member could own a group, as far as is known here.
func (n *Node) able(m Member, group string) bool {
	return n.latest.Has(m) && n.standings[m].Groups[group].Eligible && !n.log.InMaintenance(m.Node())
}

// Owner returns the node that owns a group by the log; empty if nobody does.
func (n *Node) Owner(group string) string {
	if g, ok := n.log.Grant(group); ok && n.log.Released(group) < g.Epoch {
		return g.Member.Node()
	}
	return ""
}

// Able returns what the other members say of themselves that are there and could own a group, as far as is known here, by node.
func (n *Node) Able(group string) map[string]Standing {
	able := map[string]Standing{}
	for m, s := range n.standings {
		if m != n.cfg.Self && !s.Absent && n.able(m, group) {
			able[m.Node()] = s.Groups[group]
		}
	}
	return able
}

// Seer returns another member that is there, could own a group and sees its gateways; empty: there is none, as far as is
// known here.
func (n *Node) Seer(group string) Member {
	for _, m := range sorted(n.standings) {
		s := n.standings[m]
		if m != n.cfg.Self && !s.Absent && n.able(m, group) && s.Groups[group].Sight == Sees {
			return m
		}
	}
	return ""
}

// KnowsHardware tells whether a member says that it would answer from a hardware address.
func (n *Node) KnowsHardware(address string) bool {
	for _, m := range n.standings {
		for _, s := range m.Groups {
			if slices.Contains(strings.Fields(s.Hardware), address) {
				return true
			}
		}
	}
	return false
}

// Speaks tells whether another member says that its advertisements of a group come from an address, as one that may keep it
// without a lease.
func (n *Node) Speaks(group string, from netip.Addr) bool {
	address := from.WithZone("").String()
	for m, s := range n.standings {
		if m != n.cfg.Self && slices.Contains(strings.Fields(s.Groups[group].Sources), address) {
			return true
		}
	}
	return false
}

// ByHardware returns what the member says of itself for a group that would answer from a hardware address; false if no other
// member says that it would.
func (n *Node) ByHardware(address, group string) (Member, Standing, bool) {
	for _, m := range sorted(n.standings) {
		if s := n.standings[m].Groups[group]; m != n.cfg.Self && slices.Contains(strings.Fields(s.Hardware), address) {
			return m, s, true
		}
	}
	return "", Standing{}, false
}

// stands takes in what a director says of itself. Somebody may have waited for it.
func (n *Node) stands(now clock.Time, s Stands) {
	n.standings[s.Member] = s
	for _, group := range sorted(n.coordinator.searches) {
		if search := n.coordinator.searches[group]; search.waiting {
			n.invite(now, group, search)
		}
	}
}

// invite asks the next candidate, or tells the owner that there is none.
func (n *Node) invite(now clock.Time, group string, s *search) {
	switch {
	case Epoch(n.log.Epoch(group)) > s.epoch: // somebody has it by now
		delete(n.coordinator.searches, group)
		return
	case n.coordinator.clearings[group] != nil:
		s.inviteAt = now.Add(n.clearWindow()) // somebody is on the way
		return
	}
	next := n.candidate(group, s)
	s.waiting = next == ""
	switch {
	case s.waiting && now < s.until:
		s.inviteAt = s.until
		return
	case s.waiting:
		delete(n.coordinator.searches, group)
		n.send(s.owner, Message{ResignReply: &ResignReply{Group: group, Epoch: s.epoch}})
		return
	}
	s.invited[next] = true
	s.inviteAt = now.Add(n.clearWindow())
	n.send(next, Message{Invite: &Invite{Group: group, Kind: Handover, Reason: s.reason}})
}

// Move invites a director to take a group at an operator's wish. An error says why that would be in vain. Only the
// leader can do it.
func (n *Node) Move(now clock.Time, group string, to Member, reason string) ([]Action, error) {
	n.expire(now)
	switch {
	case !n.coordinator.leading:
		return n.take(now), fmt.Errorf("this node does not lead the cluster")
	case !n.latest.Has(to):
		return n.take(now), fmt.Errorf("%s is not a member", to.Node())
	case n.log.InMaintenance(to.Node()):
		return n.take(now), fmt.Errorf("%s is in maintenance", to.Node())
	case !n.standings[to].Groups[group].Eligible:
		return n.take(now), fmt.Errorf("%s says that it cannot own %s now", to.Node(), group)
	}
	n.send(to, Message{Invite: &Invite{Group: group, Kind: Move, Reason: reason}})
	return n.take(now), nil
}
