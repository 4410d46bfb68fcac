package sim

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

var (
	flagDuels    = flag.Uint64("sim.duels", 300, "walks of the lease protocol alone")
	flagDuelSeed = flag.Uint64("sim.duel", 0, "make this walk only, and show its end")
)

// duel is the lease protocol alone, at the mercy of a scheduler that owes nobody anything: messages arrive in any order,
// twice or never, timers when it likes, anybody thinks that it leads, and each member's log holds what the scheduler
// puts there. Most walks lead nowhere; but one second of them visits more of the narrow places in which the rules matter
// than hours of a cluster that lives like a real one.
type duel struct {
	random random
	broken lease.Broken
	now    instant
	nodes  []*duellist
	groups []string
	flying []flight
	open   []proposal
	lives  uint64
	trace  []string
	traced bool
	grants int
	err    string

	pace                        int         // how slowly time passes: it does not stay the same
	deaths, falls, losses, cuts int         // per million steps
	cut                         [][]instant // until when nothing passes, by sender and receiver
}

type duellist struct {
	member  fsm.Member
	clocks  clocks
	life    lease.Life
	node    *lease.Node // nil while it is down
	state   *fsm.State
	old     []byte // a state to fall back to
	ceiling time.Duration
	stakes  map[string]*stake
	home    string // the group that has the roaming address in this node's file
}

// stake is what a node has of a group.
type stake struct {
	epoch    lease.Epoch // of the lease, while visible
	until    clock.Time
	visible  bool
	roaming  bool          // with the address that may be in either group
	releases []lease.Epoch // given up, but not yet said
}

type flight struct {
	from, to int
	message  lease.Message
}

type proposal struct {
	by      int
	life    lease.Life
	tag     uint64
	command fsm.Command
}

const duelLease = time.Second

var roaming = netip.AddrFrom4([4]byte{10, 77, 0, 200})

// newDuel begins a walk about one group, or about several of which each node's file gives one the roaming address.
func newDuel(seed uint64, broken lease.Broken, groups ...string) *duel {
	voters := 2 + int(seed%4)
	d := &duel{random: newRandom(seed, 11), broken: broken, groups: groups}
	d.deaths, d.falls = pick(&d.random, 0, 100, 500, 2000), pick(&d.random, 0, 0, 200)
	d.pace = 1
	d.losses, d.cuts = pick(&d.random, 0, 5_000, 50_000), pick(&d.random, 0, 500, 2_000)
	for range voters {
		d.cut = append(d.cut, make([]instant, voters))
	}
	for i := range voters {
		n := &duellist{member: memberID(fmt.Sprintf("n%d", i), i), state: fsm.New(), ceiling: duelLease * 101 / 100,
			home: d.group(), stakes: map[string]*stake{}}
		for _, group := range groups {
			n.stakes[group] = &stake{}
		}
		n.clocks.lease = clock.Time(d.random.span(time.Second, time.Hour))
		n.clocks.rate = pick(&d.random, 0, sharpest, -sharpest)
		d.nodes = append(d.nodes, n)
	}
	for i := range d.nodes {
		d.start(i)
	}
	return d
}

// group draws one.
func (d *duel) group() string {
	if len(d.groups) == 1 {
		return d.groups[0]
	}
	return pick(&d.random, d.groups...)
}

// own lists the addresses of a group in a node's file. One group alone needs none.
func (d *duel) own(n *duellist, group string) []netip.Addr {
	if len(d.groups) > 1 && n.home == group {
		return []netip.Addr{roaming}
	}
	return nil
}

func (d *duel) say(format string, args ...any) {
	if d.traced {
		d.trace = append(d.trace, fmt.Sprintf("%9.4f ", float64(d.now)/1e9)+fmt.Sprintf(format, args...))
	}
}

// read returns a node's clock.
func (d *duel) read(n *duellist) clock.Time {
	n.clocks.read(d.now)
	return n.clocks.lease
}

func (d *duel) start(i int) {
	n := d.nodes[i]
	d.lives++
	n.life = lease.Life(d.lives)
	for _, s := range n.stakes {
		*s = stake{}
	}
	d.say("%s starts life %d", n.member, n.life)
	n.node = lease.NewNode(d.read(n), lease.Config{Self: n.member, Life: n.life, Duration: duelLease, Ceiling: n.ceiling,
		Broken: d.broken}, n)
	voters := lease.Configuration{Index: 1}
	for _, each := range d.nodes {
		voters.Voters = append(voters.Voters, each.member)
	}
	d.do(i, n.node.Step(d.read(n), lease.Configured{Committed: voters, Latest: voters}))
	for _, group := range d.groups {
		n.stakes[group] = &stake{}
		n.node.Cover(d.read(n), group, d.own(n, group))
	}
	d.do(i, n.node.ReleaseEarlierLives(d.read(n), d.groups))
}

// reload gives the roaming address another group, or takes it from all. Where it was, it is gone before anything else.
func (d *duel) reload(i int) {
	n := d.nodes[i]
	if n.home = d.group(); d.random.chance(200_000) {
		n.home = ""
	}
	d.say("%s: the roaming address is in %q", n.member, n.home)
	for _, group := range d.groups {
		if group != n.home {
			n.stakes[group].roaming = false
		}
	}
	var actions []lease.Action
	for _, group := range d.groups {
		actions = append(actions, n.node.Cover(d.read(n), group, d.own(n, group))...)
	}
	d.do(i, actions)
}

// The log of a node is its own state, whatever that is.

func (n *duellist) Epoch(group string) uint64            { return n.state.Epoch(group) }
func (n *duellist) Released(group string) uint64         { return n.state.Released(group) }
func (n *duellist) Grant(group string) (fsm.Grant, bool) { return n.state.Grant(group) }
func (n *duellist) Placed(string) bool                   { return false }
func (n *duellist) InMaintenance(string) bool            { return false }
func (n *duellist) ReleasedBy(group string) (fsm.Member, uint64, uint64) {
	return n.state.ReleasedBy(group)
}

// leased tells whether a node may be visible: its lease runs on its own clock, whether it is up or not.
func (d *duel) leased(n *duellist, group string) bool {
	s := n.stakes[group]
	return s.visible && d.read(n) < s.until
}

// roams looks who answers for the roaming address.
func (d *duel) roams() {
	var who *duellist
	for _, n := range d.nodes {
		for _, group := range d.groups {
			s := n.stakes[group]
			if n.node != nil {
				s.roaming = s.visible && n.home == group && (s.roaming || n.node.Covers(group))
			}
			if !s.roaming || !d.leased(n, group) {
				continue
			}
			if who != nil && who != n && d.err == "" {
				d.err = fmt.Sprintf("%s and %s both have the roaming address, %s in %s", who.member, n.member, n.member, group)
			}
			who = n
		}
	}
}

// do carries out what a node has decided, except what the scheduler keeps for later.
func (d *duel) do(i int, actions []lease.Action) {
	n := d.nodes[i]
	if len(d.groups) > 1 {
		defer d.roams()
	}
	for _, a := range actions {
		switch a := a.(type) {
		case lease.Send:
			for j, to := range d.nodes {
				if to.member == a.To {
					d.flying = append(d.flying, flight{i, j, a.Message})
				}
			}
		case lease.Propose:
			d.open = append(d.open, proposal{i, n.life, a.Tag, a.Command})
		case lease.RaiseCeiling:
			n.ceiling = max(n.ceiling, a.Promise)
			d.do(i, n.node.Step(d.read(n), lease.CeilingRaised(a)))
		case lease.Extended:
			d.say("%s: lease of epoch %d of %s until %+v, first %v", n.member, a.Epoch, a.Group, a.Until.Sub(d.read(n)), a.First)
			s := n.stakes[a.Group]
			if a.First {
				d.grants++
				s.visible, s.epoch, s.until = true, a.Epoch, 0
				for _, other := range d.nodes {
					if other != n && d.leased(other, a.Group) && d.err == "" {
						d.err = fmt.Sprintf("%s has a lease of epoch %d while that of %s runs, epoch %d", n.member, a.Epoch,
							other.member, other.stakes[a.Group].epoch)
					}
				}
			}
			if s.visible && s.epoch == a.Epoch {
				if !a.First && !d.leased(n, a.Group) && s.until != 0 && d.err == "" {
					d.err = fmt.Sprintf("%s's lease of epoch %d comes back after it has lapsed", n.member, a.Epoch)
				}
				s.until = a.Until
			}
		case lease.Lost:
			d.say("%s: lost epoch %d of %s: %s", n.member, a.Epoch, a.Group, a.Reason)
			n.stakes[a.Group].end(a.Epoch)
		case lease.YieldTo:
			if s := n.stakes[a.Group]; s.visible && s.epoch == a.Epoch {
				d.say("%s: yields epoch %d of %s", n.member, a.Epoch, a.Group)
				s.end(a.Epoch)
			}
		case lease.Invited:
			d.do(i, n.node.Claim(d.read(n), a.Group, a.Kind, "invited"))
		}
	}
}

func (s *stake) end(epoch lease.Epoch) {
	s.visible, s.roaming = false, false
	s.releases = append(s.releases, epoch)
}

// mourn is the work of a companion: what the dead one had is gone, and then it is said that it is. What the dead one has sent
// itself may arrive at any time.
func (d *duel) mourn(i int) {
	n := d.nodes[i]
	for _, group := range d.groups {
		s := n.stakes[group]
		if !s.visible {
			continue
		}
		s.visible, s.roaming = false, false
		for j := range d.nodes {
			if j == i {
				continue
			}
			for _, message := range lease.LastWords(n.life, group, s.epoch, "died") {
				d.flying = append(d.flying, flight{i, j, message})
			}
		}
	}
}

// apply puts a command into a node's log.
func (d *duel) apply(i int, c fsm.Command) fsm.Result {
	n := d.nodes[i]
	result, err := n.state.Apply(n.state.Applied()+1, c)
	if err != nil {
		panic(err)
	}
	d.say("%s: log: %s %+v", n.member, describe(c), result)
	if n.node != nil {
		d.do(i, n.node.Step(d.read(n), lease.Applied{Index: n.state.Applied()}))
	}
	return result
}

var errDuel = errors.New("unknown")

// step lets the scheduler do one thing.
func (d *duel) step() {
	r := &d.random
	i := r.below(len(d.nodes))
	n, group := d.nodes[i], d.group()
	s := n.stakes[group]
	if n.node == nil && r.chance(20_000) { // it comes back, and removes what the last one has left
		d.start(i)
		return
	}
	if len(d.groups) > 1 && n.node != nil && r.chance(3_000) {
		d.reload(i)
		return
	}
	switch p := r.below(1000); {
	case r.chance(d.deaths): // a process dies; its machine keeps the lease
		d.say("%s dies", n.member)
		if n.node = nil; r.chance(500_000) {
			d.mourn(i)
		}
	case r.chance(d.falls): // a log forgets
		if n.old != nil {
			d.say("%s: log falls back", n.member)
			n.state = restore(n.old)
		}
		n.old = n.state.Snapshot()
	case r.chance(d.cuts): // a link fails, one way
		d.cut[i][r.below(len(d.nodes))] = d.now.add(r.span(0, 4*duelLease))
	case r.chance(d.losses):
		if len(d.flying) > 0 {
			at := r.below(len(d.flying))
			d.flying = append(d.flying[:at], d.flying[at+1:]...)
		}
	case p < 600: // a message arrives
		if len(d.flying) == 0 {
			return
		}
		at := len(d.flying) - 1 - r.below(min(len(d.flying), pick(r, 4, 4, 12, 1000)))
		f := d.flying[at]
		if p >= 15 { // else it will arrive once more
			d.flying = append(d.flying[:at], d.flying[at+1:]...)
		}
		to := d.nodes[f.to]
		if to.node == nil || d.now < d.cut[f.from][f.to] {
			return
		}
		d.say("%s <- %s: %s", to.member, d.nodes[f.from].member, describe(f.message))
		d.do(f.to, to.node.Step(d.read(to), lease.Received{From: d.nodes[f.from].member, Message: f.message}))
	case p < 720: // time passes
		d.now = d.now.add(r.span(0, pick(r, duelLease/200, duelLease/200, duelLease/50, duelLease/10)/time.Duration(d.pace)))
	case p < 722:
		d.pace = pick(r, 1, 1, 50)
		d.now = d.now.add(r.span(0, duelLease))
	case p < 732: // just until a lease ends, or a promise of it
		if d.leased(n, group) {
			if end := n.clocks.when(s.until).add(r.span(-duelLease/50, duelLease/50)); end > d.now {
				d.now, d.pace = end, pick(r, 1, 50)
			}
		}
	case p < 860: // a timer fires
		if n.node != nil {
			d.do(i, n.node.Tick(d.read(n)))
		}
	case p < 900: // somebody would like to be the owner
		if n.node != nil && !s.visible {
			d.say("%s claims %s", n.member, group)
			d.do(i, n.node.Claim(d.read(n), group, pick(r, lease.MasterDown, lease.MasterDown, lease.Preempt, lease.Move), "walk"))
		}
	case p < 905:
		if n.node != nil {
			d.do(i, n.node.Unclaim(d.read(n), group))
		}
	case p < 915: // somebody else leads, or one more
		leader := d.nodes[r.below(len(d.nodes))]
		if n.node != nil {
			d.lives++
			d.do(i, n.node.Step(d.read(n), lease.Leads{Member: leader.member, Term: d.lives}))
		}
	case p < 955: // something becomes of a proposal
		if len(d.open) == 0 {
			return
		}
		at := len(d.open) - 1 - r.below(min(len(d.open), 5))
		o := d.open[at]
		switch r.below(10) {
		case 0: // nothing
			d.open = append(d.open[:at], d.open[at+1:]...)
		case 1, 2, 3: // it reaches somebody
			d.apply(r.below(len(d.nodes)), o.command)
		default:
			d.open = append(d.open[:at], d.open[at+1:]...)
			by := d.nodes[o.by]
			result := d.apply(o.by, o.command)
			if by.node != nil && by.life == o.life {
				outcome := lease.Outcome{Tag: o.tag, Result: result}
				if r.chance(200_000) {
					outcome = lease.Outcome{Tag: o.tag, Err: errDuel}
				}
				d.do(o.by, by.node.Step(d.read(by), outcome))
			}
			for j := range d.nodes {
				if j != o.by && r.chance(600_000) {
					d.apply(j, o.command)
				}
			}
		}
	case p < 985: // what is invisible is released
		if n.node != nil && len(s.releases) > 0 {
			epoch := s.releases[0]
			s.releases = s.releases[1:]
			d.say("%s releases epoch %d of %s", n.member, epoch, group)
			d.do(i, n.node.Release(d.read(n), group, epoch, "walk"))
		}
	default: // an owner is to hand over
		if n.node != nil && s.visible && r.chance(200_000) {
			d.do(i, n.node.Resign(d.read(n), group, "walk", false, "", duelLease/2))
		}
	}
}

// stepsPerDuel is how long a walk is: some hundred leases' time.
const stepsPerDuel = 20_000

func (d *duel) run() {
	for range stepsPerDuel {
		if d.step(); d.err != "" {
			return
		}
		if len(d.flying) > 400 {
			d.flying = d.flying[200:]
		}
		if len(d.open) > 40 {
			d.open = d.open[20:]
		}
	}
}

func TestDuels(t *testing.T) {
	t.Run("one group", func(t *testing.T) { duels(t, *flagDuels, "G") })
	t.Run("an address in either of two groups", func(t *testing.T) { duels(t, *flagDuels/3, "G", "H") })
}

func duels(t *testing.T, walks uint64, groups ...string) {
	t.Parallel()
	if *flagDuelSeed != 0 {
		d := newDuel(*flagDuelSeed, lease.Broken{}, groups...)
		d.traced = true
		if d.run(); d.err != "" {
			t.Error(d.err)
		}
		t.Log(d.story())
		return
	}
	var passed time.Duration
	grants := 0
	for seed := uint64(1); seed <= walks; seed++ {
		d := newDuel(seed, lease.Broken{}, groups...)
		d.run()
		passed += time.Duration(d.now)
		grants += d.grants
		if d.err != "" {
			again := newDuel(seed, lease.Broken{}, groups...)
			again.traced = true
			again.run()
			t.Fatalf("walk %d: %s\n%s", seed, d.err, again.story())
		}
	}
	t.Logf("%d walks of %d lease times, %d leases", walks, int(passed/duelLease), grants)
}

// story is the end of a walk.
func (d *duel) story() string { return strings.Join(d.trace[max(0, len(d.trace)-300):], "\n") }
