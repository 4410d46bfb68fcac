package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/clock"
)

// ownership is what a director has, or wants, of one group.
type ownership struct {
	group string

	// The lease. epoch is zero if there is none, granted or held.
	epoch    Epoch
	grantAt  clock.Time    // when the claim was made that epoch answers
	deadline clock.Time    // zero until a majority has acknowledged the first round
	pause    time.Duration // after a first round that was refused
	resign   *resignation
	lost     Epoch // a lease that is gone while the caller has not yet said that it is invisible under it
	given    Epoch // the newest that this life has released: neither it nor an older one is ever held again (H7)

	// What the lease covers, or the next one is to cover (A1); and what is to be added. To add is to claim, to be cleared and
	// to gain a first lease anew: one round clears it, at clearedAt, and one that was sent later gains it.
	addresses, adding []netip.Addr
	clearedRound      clock.Time // when the round that cleared adding was sent; zero: none has
	clearedAt         clock.Time

	// The wish. claimID is zero while none is on its way.
	wanted  bool
	kind    ClaimKind
	reason  string
	claimID uint64
	claimAt clock.Time
	sendAt  clock.Time // when the claim is to be sent, again or anew
}

// resignation is the wish to give the group away while holding it.
type resignation struct {
	reason string
	marked bool // for maintenance, as this member's log has it
	heir   string
	until  clock.Time
	sendAt clock.Time
}

// holds tells whether there is a lease that may make the group visible.
func (o *ownership) holds() bool { return o.epoch != 0 && !o.deadline.IsZero() }

// visible tells whether the caller may still be visible under some epoch.
func (o *ownership) visible() bool { return o.holds() || o.lost != 0 }

// starting tells whether a grant waits for its first lease.
func (o *ownership) starting() bool { return o.epoch != 0 && o.deadline.IsZero() }

func (o *ownership) wakeAt(n *Node) clock.Time {
	var at clock.Time
	switch {
	case o.holds():
		at = o.deadline
		if o.resign != nil {
			at = clock.Earliest(at, o.resign.sendAt, o.resign.until)
		}
	case o.starting():
		at = o.grantAt.Add(n.holdSpan())
	}
	if o.wanted && o.epoch == 0 {
		at = clock.Earliest(at, o.sendAt)
	}
	return at
}

// pendingRelease is repeated until the leader has answered (H7), and remembered until this member's own log shows it.
type pendingRelease struct {
	epoch    Epoch
	life     Life // that the epoch was granted to: this one, or an earlier one
	reason   string
	resendAt clock.Time
	answered bool
}

// yieldRequest is who asked this member to hand a group over. It leads the log, whoever this member believes to: the
// release goes there too.
type yieldRequest struct {
	epoch Epoch
	from  Member
}

// round is one renewal, sent to every voter at one time.
type round struct {
	number uint64
	sentAt clock.Time
	groups map[string]*groupRound
}

// groupRound is one group in a round.
type groupRound struct {
	epoch  Epoch
	adding []netip.Addr
	acks   map[Member]ack
}

type ack struct{ withheld bool } // what was to be added is not promised

func (n *Node) ownership(group string) *ownership {
	o := n.owned[group]
	if o == nil {
		o = &ownership{group: group}
		n.owned[group] = o
	}
	return o
}

func (n *Node) holdsAny() bool {
	for _, o := range n.owned {
		if o.epoch != 0 {
			return true
		}
	}
	return false
}

// Cover says which addresses a lease of the group is to cover; the Node keeps the slice. Those that a running lease does not
// cover yet are added to it once a majority of voters agrees (Covers); those that it covers and are not among them are gone
// from this machine before the call.
func (n *Node) Cover(now clock.Time, group string, addresses []netip.Addr) []Action {
	n.expire(now)
	o := n.ownership(group)
	whole := o.whole()
	o.adding, o.clearedRound = nil, 0
	if o.epoch == 0 {
		if o.addresses = addresses; o.claimID != 0 && !slices.Equal(whole, addresses) {
			o.claimID, o.sendAt = 0, now // what is cleared is what is leased
			n.claimDue(now, o)
		}
		return n.take(now)
	}
	var kept []netip.Addr
	for _, a := range addresses {
		if slices.Contains(o.addresses, a) {
			kept = append(kept, a)
		} else {
			o.adding = append(o.adding, a)
		}
	}
	o.addresses = kept
	if len(o.adding) > 0 {
		n.hurryRound(now)
	}
	return n.take(now)
}

// Covers tells whether a lease of the group covers all the addresses that Cover wants.
func (n *Node) Covers(group string) bool {
	o := n.owned[group]
	return o == nil || len(o.adding) == 0
}

// whole is what the next lease of the group is to cover.
func (o *ownership) whole() []netip.Addr { return slices.Concat(o.addresses, o.adding) }

// Claim says that this director should own the group, and goes on asking until it is granted or Unclaim is called.
// Calling it again changes kind and reason.
func (n *Node) Claim(now clock.Time, group string, kind ClaimKind, reason string) []Action {
	n.expire(now)
	o := n.ownership(group)
	if o.epoch == 0 {
		if !o.wanted || (o.kind != kind && kind.takesFromLiving()) {
			o.claimID, o.sendAt = 0, now
		}
		o.wanted, o.kind, o.reason = true, kind, reason
		n.claimDue(now, o)
	}
	return n.take(now)
}

// Unclaim ends a claim. A grant that is already on its way will not be used.
func (n *Node) Unclaim(now clock.Time, group string) []Action {
	n.expire(now)
	if o := n.owned[group]; o != nil {
		o.wanted, o.claimID = false, 0
		if o.starting() {
			n.giveUp(now, o, "no longer wanted")
		}
	}
	return n.take(now)
}

// claimDue sends a claim if its time has come. The same claim is repeated while its grant could still be used.
func (n *Node) claimDue(now clock.Time, o *ownership) {
	if !o.wanted || o.epoch != 0 || now < o.sendAt {
		return
	}
	o.sendAt = now.Add(n.resendEvery())
	if n.leader == "" || !n.Voting() {
		return
	}
	if o.claimID == 0 || now >= o.claimAt.Add(n.holdSpan()-n.renewEvery()) {
		n.claimSerial++
		o.claimID, o.claimAt = n.claimSerial, now
		o.addresses, o.adding = o.whole(), nil
	}
	n.send(n.leader, Message{Claim: &Claim{
		Group: o.group, ID: o.claimID, Kind: o.kind, Promise: n.promise(), Addresses: o.addresses, Reason: o.reason,
		Proved: n.cfg.Proved,
	}})
}

// askAgain repeats at once what waits for a leader, because there is another one.
func (n *Node) askAgain(now clock.Time) {
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		if o.wanted {
			o.sendAt = now
		}
		if o.resign != nil {
			o.resign.sendAt = now
		}
	}
	for _, group := range sorted(n.releases) {
		n.releases[group].resendAt = now
	}
	n.askDue(now)
}

// askDue sends claims, resignations and releases whose time has come.
func (n *Node) askDue(now clock.Time) {
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		n.claimDue(now, o)
		if r := o.resign; r != nil && now >= r.sendAt {
			r.sendAt = now.Add(n.resendEvery())
			if n.leader != "" {
				n.send(n.leader, Message{Resign: &Resign{Group: group, Epoch: o.epoch, Reason: r.reason, Marked: r.marked, Heir: r.heir}})
			}
		}
	}
	for _, group := range sorted(n.releases) {
		r := n.releases[group]
		if r.answered || now < r.resendAt {
			continue
		}
		r.resendAt = now.Add(n.resendEvery())
		release := Message{Release: &Release{Group: group, Epoch: r.epoch, Life: r.life, Reason: r.reason}}
		if n.leader != "" {
			n.send(n.leader, release)
		}
		if y := n.yields[group]; y.epoch == r.epoch && y.from != n.leader {
			n.send(y.from, release)
		}
	}
}

// retryRefused asks at once again for groups whose owner has just released them.
func (n *Node) retryRefused(now clock.Time) {
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		if o.wanted && o.claimID == 0 && o.epoch == 0 && n.log.Released(group) == n.log.Epoch(group) {
			o.sendAt = clock.Earliest(o.sendAt, now)
			n.claimDue(now, o)
		}
	}
}

// readProofs ends leases that this member's own log says are over: somebody has taken it for dead, and others rely on that.
func (n *Node) readProofs() {
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		if o.holds() && n.voter.over(n.proof(group), o.epoch, n.cfg.Self, n.cfg.Life) {
			n.lose(o, "this node was declared to be off", false)
		}
	}
}

// readGrants finds grants that the log holds for live claims: the leader may be gone before it has answered.
func (n *Node) readGrants(now clock.Time) {
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		g, ok := n.log.Grant(group)
		if ok && o.wanted && g.Member == n.cfg.Self && Life(g.Life) == n.cfg.Life && g.ClaimID == o.claimID {
			n.onClaimReply(now, n.cfg.Self, ClaimReply{Group: group, ID: g.ClaimID, Epoch: Epoch(g.Epoch)})
		}
	}
}

// onClaimReply takes in the leader's answer.
func (n *Node) onClaimReply(now clock.Time, from Member, r ClaimReply) {
	o := n.ownership(r.Group)
	mine := o.claimID == r.ID && r.ID != 0
	if r.Epoch == 0 {
		if mine && o.epoch == 0 {
			o.claimID = 0 // the next one is a new claim
			wait := r.Left
			if r.Holder != "" && r.Silent < n.cfg.Silence {
				wait = min(wait, n.cfg.Silence-r.Silent)
			}
			o.sendAt = now.Add(max(wait, n.resendEvery()))
			n.do(ClaimRefused{Group: r.Group, Reason: r.Refused, Holder: r.Holder, Left: r.Left, Silent: r.Silent})
		}
		return
	}
	switch {
	case r.Epoch <= o.epoch || n.isReleased(r.Group, r.Epoch):
		return // told before
	case o.epoch != 0:
		return // another grant while one is in use cannot be for a live claim
	case !mine && !n.cfg.Broken.IgnoreClaimDeadline,
		now >= o.claimAt.Add(n.holdSpan()) && !n.cfg.Broken.IgnoreClaimDeadline: // O4
		n.releaseEpoch(now, r.Group, r.Epoch, n.cfg.Life, "granted too late to be used")
		return
	}
	o.epoch, o.grantAt, o.deadline, o.claimID, o.pause = r.Epoch, o.claimAt, 0, 0, shortestInterval
	n.startRound(now)
}

// isReleased tells whether this member has given an epoch up, or a newer one.
func (n *Node) isReleased(group string, epoch Epoch) bool {
	if Epoch(n.log.Released(group)) >= epoch {
		return true
	}
	if o := n.owned[group]; o != nil && o.given >= epoch && !n.cfg.Broken.TakeReleaseBack {
		return true
	}
	r := n.releases[group]
	return r != nil && r.epoch >= epoch
}

// startRound sends a renewal of all that is held or granted to every voter (O1).
func (n *Node) startRound(now clock.Time) {
	n.round++
	n.roundAt, n.nextRound = now, now.Add(n.renewEvery())
	r := &round{number: n.round, sentAt: now, groups: map[string]*groupRound{}}
	renew := Renew{Round: n.round, Configuration: n.latest.Index, Promise: n.promise()}
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		if o.epoch == 0 {
			continue
		}
		r.groups[group] = &groupRound{epoch: o.epoch, adding: o.adding, acks: map[Member]ack{}}
		renew.Groups = append(renew.Groups, RenewGroup{Group: group, Epoch: o.epoch, First: o.starting(),
			Addresses: o.addresses, Adding: o.adding})
	}
	if len(renew.Groups) == 0 {
		return
	}
	n.rounds = append(n.rounds, r)
	if len(n.rounds) > roundsKept {
		n.rounds = n.rounds[1:]
	}
	for _, m := range n.voters() {
		n.send(m, Message{ToLife: n.lifeOf(m), Renew: &renew})
	}
}

func (n *Node) lifeOf(m Member) Life {
	if m == n.cfg.Self {
		return n.cfg.Life
	}
	return n.peer(m).life
}

// hurryRound starts a round early, because a voter's answer to the last one cannot count; at most one in D/16. A voter
// that has started anew must not be asked with an old round's sending time: its round is sent after it started.
func (n *Node) hurryRound(now clock.Time) {
	if !n.holdsAny() {
		return
	}
	if soonest := n.roundAt.Add(n.cfg.Duration / 16); now < soonest {
		n.nextRound = clock.Earliest(n.nextRound, soonest)
		return
	}
	n.startRound(now)
}

// RenewSoon starts a round before its time, because something suggests that somebody else may hold what this member
// holds: a voter that follows a newer epoch says so in its answer, and the lease ends before its deadline. At most one
// round in D/16.
func (n *Node) RenewSoon(now clock.Time) []Action {
	n.expire(now)
	n.hurryRound(now)
	return n.take(now)
}

// onRenewReply counts acknowledgements (O2).
func (n *Node) onRenewReply(now clock.Time, from Member, life Life, reply RenewReply) {
	switch reply.Refused {
	case RefusedLife:
		n.hurryRound(now) // its life is known now
		return
	case RefusedConfiguration:
		n.learn(now, reply.Configuration)
		return
	case RefusedCeiling:
		n.hurryRound(now)
		return
	}
	if life != n.lifeOf(from) {
		return
	}
	var r *round
	for _, candidate := range n.rounds {
		if candidate.number == reply.Round {
			r = candidate
		}
	}
	if r == nil {
		return
	}
	for _, answer := range reply.Groups {
		o, asked := n.owned[answer.Group], r.groups[answer.Group]
		if o == nil || o.epoch == 0 || o.epoch != answer.Epoch || asked == nil || asked.epoch != answer.Epoch {
			continue
		}
		if c := answer.Crossing; c != nil {
			n.do(Contested{Group: o.group, Crossing: *c})
		}
		switch answer.Refused {
		case "":
			asked.acks[from] = ack{withheld: answer.Withheld}
			n.widen(now, o, r.sentAt, asked)
			if n.majority(func(m Member) bool { return o.promised(asked, m) }) {
				sentAt := r.sentAt
				if n.cfg.Broken.CountFromAnswer {
					sentAt = now
				}
				n.counted(now, o, sentAt)
			}
		case RefusedPromised:
			if o.starting() { // the word of the last holder that it is gone may be right behind
				n.nextRound = clock.Earliest(n.nextRound, n.roundAt.Add(o.pause))
				o.pause *= 2
			}
		case RefusedSuperseded:
			if o.holds() {
				n.lose(o, fmt.Sprintf("a voter follows epoch %d", answer.VoterEpoch), false)
			} else {
				n.giveUp(now, o, fmt.Sprintf("a voter follows epoch %d", answer.VoterEpoch))
			}
		}
	}
}

// promised tells whether a voter has promised in a round all that the lease covers now.
func (o *ownership) promised(r *groupRound, m Member) bool {
	a, ok := r.acks[m]
	return ok && (!a.withheld || !slices.ContainsFunc(r.adding, func(a netip.Addr) bool { return slices.Contains(o.addresses, a) }))
}

// widen lets the lease cover what is to be added. That is as much as a claim (V2, H8) and a first renewal (O4) of it: a
// majority promises it in one round, and again in one that is sent after that.
func (n *Node) widen(now clock.Time, o *ownership, sentAt clock.Time, r *groupRound) {
	full := func(m Member) bool { a, ok := r.acks[m]; return ok && !a.withheld }
	if len(o.adding) == 0 || !slices.Equal(o.adding, r.adding) || !n.majority(full) {
		return
	}
	switch expired := now >= o.clearedRound.Add(n.holdSpan()); {
	case o.clearedRound.IsZero() || expired:
		if now < sentAt.Add(n.clearWindow()) {
			o.clearedRound, o.clearedAt = sentAt, now
			n.startRound(now)
		}
	case sentAt >= o.clearedAt && sentAt.Add(n.holdSpan()) >= o.deadline:
		o.addresses, o.adding, o.clearedRound = o.whole(), nil, 0
	}
}

// counted moves a deadline after a majority has acknowledged the round sent at sentAt.
func (n *Node) counted(now clock.Time, o *ownership, sentAt clock.Time) {
	until := sentAt.Add(n.holdSpan())
	first := o.starting()
	if until <= now || until <= o.deadline {
		return
	}
	if first && now >= o.grantAt.Add(n.holdSpan()) && !n.cfg.Broken.IgnoreClaimDeadline { // O4
		n.giveUp(now, o, "the first lease came too late")
		return
	}
	o.deadline = until
	if first {
		o.wanted = false
	}
	n.do(Extended{Group: o.group, Epoch: o.epoch, Until: until, First: first})
}

// expire ends what has run out by now (O3, O4). Every entry point calls it before anything else, so that no late
// message finds an open lease.
func (n *Node) expire(now clock.Time) {
	for _, group := range sorted(n.owned) {
		o := n.owned[group]
		switch {
		case o.holds() && now >= o.deadline && !n.cfg.Broken.LateAckRevives:
			n.lose(o, "no majority of voters acknowledged it in time", true)
		case o.starting() && now >= o.grantAt.Add(n.holdSpan()) && !n.cfg.Broken.IgnoreClaimDeadline:
			n.giveUp(now, o, "no majority of voters acknowledged the first renewal in time")
		case o.resign != nil && now >= o.resign.until:
			o.resign = nil
			n.do(NobodyTakes{Group: group, Epoch: o.epoch})
		}
	}
}

// lose ends a lease without the owner's will. It has lapsed for good.
func (n *Node) lose(o *ownership, reason string, lapsed bool) {
	n.do(Lost{Group: o.group, Epoch: o.epoch, Reason: reason, Lapsed: lapsed})
	o.lost, o.epoch, o.deadline, o.resign = o.epoch, 0, 0, nil
}

// giveUp ends a grant that has never become a lease: nothing has been visible. If the group is still wanted it will be
// claimed again.
func (n *Node) giveUp(now clock.Time, o *ownership, reason string) {
	epoch := o.epoch
	o.epoch, o.deadline, o.resign, o.sendAt = 0, 0, nil, now.Add(n.resendEvery())
	n.releaseEpoch(now, o.group, epoch, n.cfg.Life, reason)
}

// Resign asks for somebody to take the group over within the given span. It ends in YieldTo or NobodyTakes; the lease
// goes on meanwhile. marked says that it is for maintenance only, of which the leader may know better: a log that catches
// up meets marks that were taken off long ago. heir is the node that is to have it if it could; empty: whoever is the fittest.
func (n *Node) Resign(now clock.Time, group, reason string, marked bool, heir string, within time.Duration) []Action {
	n.expire(now)
	if o := n.owned[group]; o != nil && o.holds() && o.resign == nil {
		o.resign = &resignation{reason: reason, marked: marked, heir: heir, until: now.Add(within), sendAt: now}
		n.askDue(now)
	}
	return n.take(now)
}

// Release gives an epoch up. The caller is invisible under it already, and for good.
func (n *Node) Release(now clock.Time, group string, epoch Epoch, reason string) []Action {
	n.expire(now)
	if o := n.owned[group]; o != nil {
		if o.epoch == epoch && !n.cfg.Broken.TakeReleaseBack {
			o.epoch, o.deadline, o.resign = 0, 0, nil
		}
		if o.lost <= epoch {
			o.lost = 0
		}
	}
	n.releaseEpoch(now, group, epoch, n.cfg.Life, reason)
	return n.take(now)
}

// ReleaseEarlierLives releases what the log says this member owns but this life has never held. The caller has removed
// everything that earlier lives left in the kernel.
func (n *Node) ReleaseEarlierLives(now clock.Time, groups []string) []Action {
	n.expire(now)
	for _, group := range groups {
		g, ok := n.log.Grant(group)
		if !ok || g.Member != n.cfg.Self || Life(g.Life) == n.cfg.Life || n.isReleased(group, Epoch(g.Epoch)) {
			continue
		}
		n.releaseEpoch(now, group, Epoch(g.Epoch), Life(g.Life), "left by an earlier life of the process")
	}
	return n.take(now)
}

// releaseEpoch tells the voters and the leader (H7). The release of an epoch proves that no older one is visible either:
// as long as one may be, nothing is released. That happens when a claim of an earlier life is granted late; its epoch is
// released by ReleaseEarlierLives when the time has come.
func (n *Node) releaseEpoch(now clock.Time, group string, epoch Epoch, life Life, reason string) {
	o := n.ownership(group)
	if n.isReleased(group, epoch) || o.visible() && !n.cfg.Broken.TakeReleaseBack {
		return
	}
	if life == n.cfg.Life {
		o.given = epoch
	}
	n.releases[group] = &pendingRelease{epoch: epoch, life: life, reason: reason, resendAt: now}
	for _, m := range n.voters() {
		n.send(m, Message{Waive: &Waive{Group: group, Epoch: epoch, Life: life}})
	}
	n.askDue(now)
}

func (n *Node) onReleased(r Released) {
	if p := n.releases[r.Group]; p != nil && p.epoch <= r.Epoch {
		p.answered = true
	}
}

// settleReleases forgets releases that the log holds, or that a newer epoch has made pointless.
func (n *Node) settleReleases() {
	for _, group := range sorted(n.releases) {
		if e := n.releases[group].epoch; Epoch(n.log.Released(group)) >= e || Epoch(n.log.Epoch(group)) > e {
			delete(n.releases, group)
		}
	}
}

// onYield: a transfer of this member's epoch is committed. Whoever does not hold it (any more) is invisible under it.
func (n *Node) onYield(now clock.Time, from Member, y Yield) {
	n.yields[y.Group] = yieldRequest{epoch: y.Epoch, from: from}
	o := n.owned[y.Group]
	if o != nil && o.epoch == y.Epoch {
		if o.holds() {
			n.do(YieldTo(y))
		} else {
			n.giveUp(now, o, y.Reason)
		}
		return
	}
	if g, ok := n.log.Grant(y.Group); ok && g.Member == n.cfg.Self && Epoch(g.Epoch) == y.Epoch {
		n.releaseEpoch(now, y.Group, y.Epoch, Life(g.Life), y.Reason)
	}
}

func (n *Node) onResignReply(r ResignReply) {
	if o := n.owned[r.Group]; o != nil && o.resign != nil && o.epoch == r.Epoch {
		o.resign = nil
		n.do(NobodyTakes(r))
	}
}

// Settled tells whether all releases are known to be in the log.
func (n *Node) Settled() bool {
	for _, r := range n.releases {
		if !r.answered {
			return false
		}
	}
	return true
}

// Holding is what a Node knows of a group it wants, or owns.
type Holding struct {
	Group     string
	Epoch     Epoch      // zero: no grant
	Deadline  clock.Time // zero: no lease
	Claiming  bool
	Kind      ClaimKind
	RetryAt   clock.Time
	Resigning bool
}

// Holding returns what the node has, or wants, of a group.
func (n *Node) Holding(group string) Holding {
	o := n.owned[group]
	if o == nil {
		return Holding{Group: group}
	}
	return Holding{Group: group, Epoch: o.epoch, Deadline: o.deadline, Claiming: o.wanted, Kind: o.kind,
		RetryAt: o.sendAt, Resigning: o.resign != nil}
}

// Held tells whether this member may be visible under the group's lease at now, and until when.
func (n *Node) Held(now clock.Time, group string) (until clock.Time, held bool) {
	o := n.owned[group]
	if o == nil || !o.holds() || now >= o.deadline {
		return 0, false
	}
	return o.deadline, true
}
