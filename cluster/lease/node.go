package lease

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// Config is what a Node is made of. Durations are checked by whoever reads them from a file.
type Config struct {
	Self     Member
	Life     Life
	Duration time.Duration // D
	Slack    time.Duration // how late the guard of this member may be; added to every promise it asks for
	Ceiling  time.Duration // the longest promise noted on disk by earlier lives of this voter; zero if it never gave any
	Proved   bool          // claim only what its last owner has released or is proved not to use any more
	Silence  time.Duration // of a holder, which the caller wants to be told of when it has lasted so long; zero: it does not
	Broken   Broken
}

// Action is something for the shell to do. A batch is carried out in order: that is part of the protocol.
type Action interface{ action() }

type (
	// Send gives a message to the transport. It may get lost.
	Send struct {
		To      Member
		Message Message
	}
	// Propose asks Raft to commit a command. Its Outcome comes back with the same Tag.
	Propose struct {
		Tag     uint64
		Command fsm.Command
	}
	// RaiseCeiling asks to note a longer promise on disk, which CeilingRaised answers.
	RaiseCeiling struct{ Promise time.Duration }
	// Extended says that the lease of (Group, Epoch) is good until Until: the guard is to be armed, and with First the
	// group may become visible once it is.
	Extended struct {
		Group string
		Epoch Epoch
		Until clock.Time
		First bool
	}
	// Lost says that the lease of (Group, Epoch) is gone: guard shut and invisible before anything else.
	Lost struct {
		Group  string
		Epoch  Epoch
		Reason string
		Lapsed bool // its time is over; nothing says that anybody else has it
	}
	// YieldTo asks the director to become invisible and then to call Release: To is waiting.
	YieldTo struct {
		Group  string
		Epoch  Epoch
		To     Member
		Reason string
	}
	// Invited asks the director to call Claim, if it is fit to own the group.
	Invited struct {
		Group  string
		Kind   ClaimKind
		Reason string
	}
	// ClaimRefused tells why a claim was not granted so far. The claim goes on.
	ClaimRefused struct {
		Group  string
		Reason string
		Holder Member // who has it, if somebody has
		Left   time.Duration
		Silent time.Duration // how long a majority has not heard of Holder's lease
	}
	// Contested says that an address which is to be added to a lease is somebody else's, in another group. It is asked for
	// again with every renewal.
	Contested struct {
		Group string
		Crossing
	}
	// Promised says that this member's voter has promised a group to another member. It comes before the answer that tells so:
	// whoever acts for the group without a lease ends that first.
	Promised struct {
		Group string
		Epoch Epoch
		To    Member
	}
	// Orphaned says that a life of another member has ended with these groups, as its companion says. It comes once for each life.
	Orphaned struct{ Groups []string }
	// NobodyTakes says that the leader found nobody for a group that this member wants to give away.
	NobodyTakes struct {
		Group string
		Epoch Epoch
	}
)

func (Send) action()         {}
func (Propose) action()      {}
func (RaiseCeiling) action() {}
func (Extended) action()     {}
func (Lost) action()         {}
func (YieldTo) action()      {}
func (Invited) action()      {}
func (ClaimRefused) action() {}
func (Contested) action()    {}
func (Promised) action()     {}
func (Orphaned) action()     {}
func (NobodyTakes) action()  {}

// Node is one member's part in the lease protocol. One goroutine calls it.
type Node struct {
	cfg   Config
	voter *Voter
	log   Log

	committed, logged Configuration // the newest committed one of this member's log, and the newest of all in it
	told              Configuration // a newer one that a voter has in its log; zero if there is none
	latest            Configuration // the newer one of logged and told
	pair              bool          // two voters
	leader            Member        // empty: unknown
	term              uint64
	peers             map[Member]*peer

	owned       map[string]*ownership
	releases    map[string]*pendingRelease
	yields      map[string]yieldRequest // the last of each group
	round       uint64
	rounds      []*round // the newest few, oldest first
	roundAt     clock.Time
	nextRound   clock.Time
	claimSerial uint64

	coordinator coordinator
	standings   map[Member]Stands

	tag  uint64
	out  []Action
	self []Message // to itself, delivered before an entry point returns
}

// peer is what a Node knows of another member's process.
type peer struct {
	life      Life
	heard     clock.Time // last message from it
	alive     clock.Time // last one that was not about what it gives up: the companion of a dead process says that, too
	asked     clock.Time // last ping to it
	roundTrip time.Duration
	clock     rate

	// Who has answered a ping, and when that was sent: this life has not ended before. It is zero, and answered the present, once
	// another life has been heard, which may have come after it.
	answerer Life
	answered clock.Time
	over     Life // the last one that is said to have ended
}

// speaks takes in that a life is heard, which is not its companion.
func (p *peer) speaks(now clock.Time, m Message) {
	p.alive = now
	switch {
	case m.Pong != nil && m.Pong.Sent >= p.answered:
		p.answerer, p.answered = m.FromLife, m.Pong.Sent
	case m.FromLife != p.answerer:
		p.answerer, p.answered = 0, now
	}
}

const (
	roundsKept       = 8
	oftenestPing     = time.Second
	shortestInterval = 5 * time.Millisecond
)

// NewNode starts a member's part at now, in a new life. log is read during every call.
func NewNode(now clock.Time, cfg Config, log Log) *Node {
	n := &Node{
		cfg: cfg, log: log,
		peers: map[Member]*peer{}, owned: map[string]*ownership{}, releases: map[string]*pendingRelease{}, yields: map[string]yieldRequest{},
		standings:   map[Member]Stands{},
		coordinator: newCoordinator(),
	}
	n.voter = newVoter(now, cfg.Ceiling, n.proof, cfg.Broken)
	return n
}

func (n *Node) holdSpan() time.Duration   { return holdSpan(n.cfg.Duration) }
func (n *Node) promise() time.Duration    { return promiseSpan(n.cfg.Duration, n.cfg.Slack) }
func (n *Node) renewEvery() time.Duration { return n.cfg.Duration / 4 }

// PingEvery is how often every voter is asked for a word, if nothing else is said.
func (n *Node) PingEvery() time.Duration   { return max(n.cfg.Duration, oftenestPing) }
func (n *Node) resendEvery() time.Duration { return max(n.cfg.Duration/32, shortestInterval) }

// take ends an entry point: what the node has to say to itself is delivered, then the actions are handed out.
func (n *Node) take(now clock.Time) []Action {
	for len(n.self) > 0 {
		m := n.self[0]
		n.self = n.self[1:]
		n.dispatch(now, n.cfg.Self, m)
	}
	out := n.out
	n.out = nil
	return out
}

func (n *Node) do(a Action) { n.out = append(n.out, a) }

func (n *Node) send(to Member, m Message) {
	m.FromLife = n.cfg.Life
	if to == n.cfg.Self {
		m.ToLife = n.cfg.Life
		n.self = append(n.self, m)
		return
	}
	n.do(Send{To: to, Message: m})
}

func (n *Node) propose(c fsm.Command) uint64 {
	n.tag++
	n.do(Propose{Tag: n.tag, Command: c})
	return n.tag
}

func (n *Node) receive(now clock.Time, from Member, m Message) {
	if m.ToLife != 0 && m.ToLife != n.cfg.Life && m.Renew == nil && !n.cfg.Broken.AnyLife {
		n.meet(now, from, m.FromLife) // meant for an earlier life, but its sender is known from now on
		return
	}
	n.meet(now, from, m.FromLife)
	if m.Waive == nil && m.Release == nil && m.Resign == nil && m.Over == nil {
		n.peer(from).speaks(now, m)
	}
	n.dispatch(now, from, m)
	n.ping(now)
}

// meet notes a member's life. A voter that has started anew must be asked under its new life, at once.
func (n *Node) meet(now clock.Time, from Member, life Life) {
	p := n.peer(from)
	p.heard = now
	if p.life == life {
		return
	}
	p.life = life
	p.clock = rate{}
	n.hurryRound(now)
}

func (n *Node) peer(m Member) *peer {
	p := n.peers[m]
	if p == nil {
		p = &peer{}
		n.peers[m] = p
	}
	return p
}

func (n *Node) dispatch(now clock.Time, from Member, m Message) {
	switch {
	case m.Ping != nil:
		n.send(from, Message{ToLife: m.FromLife, Pong: &Pong{Sent: m.Ping.Sent, Clock: now}})
	case m.Pong != nil:
		p := n.peer(from)
		p.roundTrip = now.Sub(m.Pong.Sent)
		p.clock.sample(now, m.Pong.Clock, p.roundTrip)
	case m.Renew != nil:
		n.onRenew(now, from, m)
	case m.RenewReply != nil:
		n.onRenewReply(now, from, m.FromLife, *m.RenewReply)
	case m.Clear != nil:
		n.onClear(now, from, m)
	case m.ClearReply != nil:
		n.onClearReply(now, from, m.FromLife, *m.ClearReply)
	case m.Waive != nil:
		n.voter.waive(from, *m.Waive)
	case m.Claim != nil:
		n.onClaim(now, from, m.FromLife, *m.Claim)
	case m.ClaimReply != nil:
		n.onClaimReply(now, from, *m.ClaimReply)
	case m.Yield != nil:
		n.onYield(now, from, *m.Yield)
	case m.Release != nil:
		n.onRelease(now, from, *m.Release)
	case m.Released != nil:
		n.onReleased(*m.Released)
	case m.Resign != nil:
		n.onResign(now, from, *m.Resign)
	case m.ResignReply != nil:
		n.onResignReply(*m.ResignReply)
	case m.Invite != nil:
		n.do(Invited{Group: m.Invite.Group, Kind: m.Invite.Kind, Reason: m.Invite.Reason})
	case m.Over != nil:
		if p := n.peer(from); p.over != m.FromLife {
			p.over = m.FromLife
			n.do(Orphaned{Groups: m.Over.Groups})
		}
	}
}

// onRenew is the voter's side of a renewal.
func (n *Node) onRenew(now clock.Time, from Member, m Message) {
	r := *m.Renew
	reply := RenewReply{Round: r.Round}
	switch {
	case m.ToLife != n.cfg.Life && !n.cfg.Broken.AnyLife: // H1
		reply.Refused = RefusedLife
	case r.Configuration < n.logged.Index && !n.cfg.Broken.AnyConfiguration: // C3
		newer := n.logged
		reply.Refused, reply.Configuration = RefusedConfiguration, &newer
	case r.Promise > n.voter.ceiling:
		reply.Refused = RefusedCeiling
		n.do(RaiseCeiling{Promise: r.Promise})
	case !n.voter.newRound(from, m.FromLife, r.Round):
		reply.Refused = RefusedStale
	default:
		for _, g := range r.Groups {
			answer := n.voter.renew(now, from, m.FromLife, g, r.Promise)
			if o := n.owned[g.Group]; o != nil && answer.Refused == "" && from != n.cfg.Self {
				if o.holds() && o.epoch < g.Epoch && !n.cfg.Broken.KeepOwnWhenSuperseded { // H4
					n.lose(o, "another member has been granted a newer epoch", false)
				}
				n.do(Promised{Group: g.Group, Epoch: g.Epoch, To: from})
			}
			reply.Groups = append(reply.Groups, answer)
		}
	}
	n.send(from, Message{ToLife: m.FromLife, RenewReply: &reply})
}

// onClear is the voter's side of a clearance.
func (n *Node) onClear(now clock.Time, from Member, m Message) {
	c := *m.Clear
	var reply ClearReply
	switch {
	case c.Configuration < n.logged.Index && !n.cfg.Broken.AnyConfiguration: // C3
		newer := n.logged
		reply = ClearReply{Group: c.Group, Round: c.Round, Refused: RefusedConfiguration, Configuration: &newer}
	case c.Promise > n.voter.ceiling:
		reply = ClearReply{Group: c.Group, Round: c.Round, Refused: RefusedCeiling, Left: n.resendEvery()}
		n.do(RaiseCeiling{Promise: c.Promise})
	default:
		reply = n.voter.clear(now, c)
	}
	n.send(from, Message{ToLife: m.FromLife, ClearReply: &reply})
}

func (n *Node) configured(now clock.Time, committed, latest Configuration) {
	n.committed, n.logged = committed, latest
	n.count(now)
	n.ping(now)
}

// learn takes in a configuration from a voter that has a newer one in its log (C3).
func (n *Node) learn(now clock.Time, c *Configuration) {
	if c != nil && c.Index > n.latest.Index {
		n.told = *c
		n.count(now)
	}
}

// forget drops a configuration that a voter has told once this member has applied the log that far: either the same one
// stands in its own log by now, or that voter had something in its log that was never committed and is gone.
func (n *Node) forget(now clock.Time, applied uint64) {
	if n.told.Index != 0 && applied >= n.told.Index {
		n.told = Configuration{}
		n.count(now)
	}
}

// count counts by the configurations that are known now.
func (n *Node) count(now clock.Time) {
	if n.latest = n.told; n.logged.Index >= n.told.Index {
		n.latest, n.told = n.logged, Configuration{}
	}
	n.pair = len(n.voters()) == 2
	for m := range n.peers {
		if !n.latest.Has(m) && !n.committed.Has(m) {
			delete(n.peers, m)
		}
	}
	n.hurryRound(now)
}

// majority counts in both configurations (C4).
func (n *Node) majority(yes func(Member) bool) bool {
	return n.latest.majority(yes) && n.committed.majority(yes)
}

// voters lists everybody whose answer may count, in order.
func (n *Node) voters() []Member {
	all := slices.Concat(n.committed.Voters, n.latest.Voters)
	slices.Sort(all)
	return slices.Compact(all)
}

// Voting tells whether this member is a voter of the newest configuration that it knows.
func (n *Node) Voting() bool { return n.latest.Has(n.cfg.Self) }

func (n *Node) setLeader(now clock.Time, leader Member, term uint64) {
	if leader != n.leader || term != n.term {
		n.leader, n.term = leader, term
		n.coordinator.setLeading(leader == n.cfg.Self)
		n.askAgain(now)
	}
}

// Heard is when the last message of a node came, in this life; zero if none has.
func (n *Node) Heard(node string) (at clock.Time) {
	for m, p := range n.peers {
		if m.Node() == node {
			at = max(at, p.heard)
		}
	}
	return at
}

// Counterpart is what a Node knows of the other one of two voters.
type Counterpart struct {
	Member Member
	Alive  clock.Time // when it was last heard to be alive, in this life; zero if it was not

	// Answerer has answered what was sent at Answered: this life has not ended before. Until now nothing has been heard of a life that
	// came after it. Zero: this is not known of any.
	Answerer Life
	Answered clock.Time
	Over     Life // the last one that is said to have ended, with all that it had
}

// Other is the other one of two voters. It is false unless there are exactly two, of which this member is one.
func (n *Node) Other() (other Counterpart, two bool) {
	all := n.voters()
	i := slices.Index(all, n.cfg.Self)
	if len(all) != 2 || i < 0 {
		return Counterpart{}, false
	}
	p := n.peer(all[1-i])
	return Counterpart{Member: all[1-i], Alive: p.alive, Answerer: p.answerer, Answered: p.answered, Over: p.over}, true
}

// Ask pings a node now, and not when its turn comes: Heard then tells whether it has answered.
func (n *Node) Ask(now clock.Time, node string) []Action {
	for _, m := range n.voters() {
		if m.Node() == node && m != n.cfg.Self {
			n.send(m, Message{Ping: &Ping{Sent: now}})
		}
	}
	return n.take(now)
}

// Present tells whether a majority, this member included, has been heard within a span.
func (n *Node) Present(now clock.Time, within time.Duration) bool {
	return n.majority(func(m Member) bool {
		p := n.peers[m]
		return m == n.cfg.Self || p != nil && !p.heard.IsZero() && now.Sub(p.heard) < within
	})
}

// Tick lets time pass. Call it at Deadline, or at any time.
func (n *Node) Tick(now clock.Time) []Action {
	n.expire(now)
	n.ping(now)
	n.askDue(now)
	n.coordinate(now)
	if n.holdsAny() && now >= n.nextRound {
		n.startRound(now)
	}
	return n.take(now)
}

// Deadline is when Tick is next due; zero if there is nothing to wait for.
func (n *Node) Deadline() clock.Time {
	var at clock.Time
	for _, p := range n.peers {
		at = clock.Earliest(at, n.pingAt(p))
	}
	for _, o := range n.owned {
		at = clock.Earliest(at, o.wakeAt(n))
	}
	for _, r := range n.releases {
		if !r.answered {
			at = clock.Earliest(at, r.resendAt)
		}
	}
	if n.holdsAny() {
		at = clock.Earliest(at, n.nextRound)
	}
	return clock.Earliest(at, n.coordinator.deadline())
}

// ping asks every voter for its life, its clock and its distance. A member that is awake asks what would be due before the next
// renewal: so pings go along with renewals, and wake nobody.
func (n *Node) ping(now clock.Time) {
	for _, m := range n.voters() {
		if m == n.cfg.Self {
			continue
		}
		p := n.peer(m)
		early := n.renewEvery()
		if p.life == 0 {
			early = 0
		}
		if at := n.pingAt(p); at.IsZero() || now >= at.Add(-early) {
			p.asked = now
			n.send(m, Message{Ping: &Ping{Sent: now}})
		}
	}
}

// pingAt is when to ask a voter again; zero if it has not been asked. One whose life is unknown is asked more often; one that speaks
// anyway more rarely, unless it is the only other one: what that one has answered counts (Other).
func (n *Node) pingAt(p *peer) clock.Time {
	switch {
	case p.asked.IsZero():
		return 0
	case p.life == 0:
		return p.asked.Add(min(n.renewEvery(), n.PingEvery()))
	case p.heard > p.asked && !n.pair:
		return clock.Earliest(p.heard.Add(n.PingEvery()), p.asked.Add(max(n.PingEvery(), sampleEvery)))
	}
	return p.asked.Add(n.PingEvery())
}

// PeerView is what a Node knows of another voter's process.
type PeerView struct {
	Member    Member
	Heard     clock.Time // last message; zero if none in this life
	RoundTrip time.Duration
	Drift     float64 // relative rate of its lease clock to ours, minus one; zero until known
}

// Peers lists the other voters.
func (n *Node) Peers() []PeerView {
	var all []PeerView
	for _, m := range n.voters() {
		if p := n.peers[m]; p != nil {
			all = append(all, PeerView{Member: m, Heard: p.heard, RoundTrip: p.roundTrip, Drift: p.clock.drift})
		}
	}
	return all
}

// sorted returns the keys of a map in order, so that the same inputs give the same outputs.
func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	if len(m) == 0 {
		return nil
	}
	keys := slices.AppendSeq(make([]K, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}
