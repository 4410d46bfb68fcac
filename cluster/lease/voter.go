package lease

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/clock"
)

// promise is a voter's memory of one group.
type promise struct {
	epoch  Epoch // the newest acknowledged
	holder Member
	life   Life       // of the holder
	until  clock.Time // nobody else is helped before this
	waived bool       // the holder itself has given epoch up

	addresses map[netip.Addr]clock.Time // of the holder: until when nobody else is helped to them in another group (A1)

	cleared          Epoch // the newest cleared; binds until clearedUntil (C1)
	clearedFor       Member
	clearedAddresses []netip.Addr
	clearUntil       clock.Time
}

// binding returns the epoch below which nothing is renewed, and the member it belongs to.
func (p *promise) binding(now clock.Time) (Epoch, Member) {
	if p.cleared > p.epoch && now < p.clearUntil {
		return p.cleared, p.clearedFor
	}
	return p.epoch, p.holder
}

// Voter keeps promises in memory. It belongs to one Node.
type Voter struct {
	abstainUntil clock.Time
	ceiling      time.Duration // the longest promise that is noted on disk; nothing longer is given
	groups       map[string]*promise
	covering     map[netip.Addr][]string // the groups in which an address has been promised or cleared
	released     func(group string) proof
	rounds       map[Member]lastRound
	broken       Broken
}

type lastRound struct {
	life  Life
	round uint64
}

// newVoter starts a voter's life. ceiling is the longest promise that it may have given in its last one, zero if it has
// never given any.
func newVoter(now clock.Time, ceiling time.Duration, released func(group string) proof, broken Broken) *Voter {
	return &Voter{
		abstainUntil: now.Add(ceiling), ceiling: ceiling, released: released, broken: broken,
		groups: map[string]*promise{}, covering: map[netip.Addr][]string{}, rounds: map[Member]lastRound{},
	}
}

func (v *Voter) abstaining(now clock.Time) bool { return now < v.abstainUntil }

func (v *Voter) group(name string) *promise {
	p := v.groups[name]
	if p == nil {
		p = &promise{}
		v.groups[name] = p
	}
	return p
}

// proof is what a voter's own applied log says of a group's newest epoch that is over (H6).
type proof struct {
	member Member
	life   Life
	epoch  Epoch
}

func (n *Node) proof(group string) proof {
	member, life, epoch := n.log.ReleasedBy(group)
	return proof{member, Life(life), Epoch(epoch)}
}

// of tells whether it is about a life of a member.
func (r proof) of(m Member, life Life) bool { return r.member == m && r.life == life }

// voids tells whether a promise is void because its holder has released the epoch or a newer one, or was proved to be off
// while it held it. The proof must be of the very life that was promised: only this life never holds such an epoch again,
// whatever the log says.
func (v *Voter) voids(r proof, p *promise) bool {
	return r.epoch >= p.epoch && (v.broken.AnyRelease || r.of(p.holder, p.life))
}

// over tells whether this very lease has been released, or was proved to be over.
func (v *Voter) over(r proof, epoch Epoch, m Member, life Life) bool {
	return r.epoch >= epoch && r.of(m, life) && !v.broken.KeepWhenDeclaredOff
}

// inTheWay tells whether a promise to somebody else than m runs and is not proved void (V2, H3, H6).
func (v *Voter) inTheWay(now clock.Time, group string, p *promise, m Member) bool {
	return now < p.until && p.holder != m && !p.waived && !v.voids(v.released(group), p)
}

// crossing finds the first of the addresses that somebody else than m has in another group than this one, promised or
// cleared, and for how long; nil if there is none (A1).
func (v *Voter) crossing(now clock.Time, group string, m Member, addresses []netip.Addr) (*Crossing, time.Duration) {
	if v.broken.AnyAddress {
		return nil, 0
	}
	for _, a := range addresses {
		for _, other := range v.covering[a] {
			if other == group {
				continue
			}
			p := v.groups[other]
			if until := p.addresses[a]; now < until && v.inTheWay(now, other, p, m) {
				return &Crossing{Address: a, Group: other, Holder: p.holder}, until.Sub(now)
			}
			if p.cleared > p.epoch && now < p.clearUntil && p.clearedFor != m && slices.Contains(p.clearedAddresses, a) {
				return &Crossing{Address: a, Group: other, Holder: p.clearedFor}, p.clearUntil.Sub(now)
			}
		}
	}
	return nil, 0
}

// covers notes that a group has the addresses.
func (v *Voter) covers(group string, addresses []netip.Addr) {
	for _, a := range addresses {
		if !slices.Contains(v.covering[a], group) {
			v.covering[a] = append(v.covering[a], group)
		}
	}
}

// newRound tells whether a round of a sender's life is newer than any seen, and remembers it (rule f).
func (v *Voter) newRound(from Member, life Life, round uint64) bool {
	last := v.rounds[from]
	if last.life == life && round <= last.round {
		return false
	}
	v.rounds[from] = lastRound{life, round}
	return true
}

// renew answers for one group of a round that passed the checks of its header.
func (v *Voter) renew(now clock.Time, from Member, life Life, g RenewGroup, span time.Duration) RenewAnswer {
	p := v.group(g.Group)
	answer := RenewAnswer{Group: g.Group, Epoch: g.Epoch}
	bound, holder := p.binding(now)
	answer.VoterEpoch = bound
	crossing, left := v.crossing(now, g.Group, from, g.Addresses)
	switch {
	case g.Epoch < p.epoch && !v.broken.AcceptOlderEpochs:
		answer.Refused = RefusedSuperseded
	case g.Epoch < bound && !v.broken.AcceptOlderEpochs && !v.broken.ForgetClearance:
		answer.Refused = RefusedEpoch
	case g.Epoch == bound && holder != from && !v.broken.AnyHolder:
		answer.Refused = RefusedHolder
	case g.Epoch == p.epoch && p.waived, v.over(v.released(g.Group), g.Epoch, from, life):
		answer.Refused = RefusedReleased
	case g.First && v.abstaining(now) && !v.broken.FirstWhileAbstaining:
		answer.Refused, answer.Left = RefusedAbstaining, v.abstainUntil.Sub(now)
	case g.First && v.inTheWay(now, g.Group, p, from) && !v.broken.NoFirstCheck:
		answer.Refused, answer.Left = RefusedPromised, p.until.Sub(now)
	case crossing != nil:
		answer.Refused, answer.Left, answer.Crossing = RefusedAddress, left, crossing
	default:
		if v.broken.ShortPromise {
			span -= span * 3 / 100
		}
		if g.Epoch != p.epoch {
			p.waived = false
		}
		if p.holder != from || p.epoch != g.Epoch {
			p.addresses = map[netip.Addr]clock.Time{}
		}
		p.epoch, p.holder, p.life, p.until = g.Epoch, from, life, now.Add(span)
		v.promise(g.Group, p, g.Addresses)
		if answer.Crossing, _ = v.crossing(now, g.Group, from, g.Adding); answer.Crossing == nil && !v.abstaining(now) {
			v.promise(g.Group, p, g.Adding)
		} else {
			answer.Withheld = len(g.Adding) > 0
		}
	}
	return answer
}

// promise makes addresses the holder's for as long as the group is. Those that it does not name any more stay so for as
// long as it has been promised.
func (v *Voter) promise(group string, p *promise, addresses []netip.Addr) {
	v.covers(group, addresses)
	for _, a := range addresses {
		p.addresses[a] = p.until
	}
}

// clear answers a clearance, or a probe for one, whose header passed.
func (v *Voter) clear(now clock.Time, c Clear) ClearReply {
	p := v.group(c.Group)
	reply := ClearReply{Group: c.Group, Round: c.Round}
	reply.Epoch = max(p.epoch, p.cleared)
	crossing, left := v.crossing(now, c.Group, c.Member, c.Addresses)
	switch {
	case v.abstaining(now) && !v.broken.NoAbstain:
		reply.Refused, reply.Left = RefusedAbstaining, v.abstainUntil.Sub(now)
	case v.inTheWay(now, c.Group, p, c.Member) && !v.broken.ClearRunningPromise:
		reply.Refused, reply.Left, reply.Holder = RefusedPromised, p.until.Sub(now), p.holder
	case crossing != nil:
		reply.Refused, reply.Left, reply.Crossing = RefusedAddress, left, crossing
	case c.Probe:
	case c.Epoch <= reply.Epoch:
		reply.Refused = RefusedEpoch
	default:
		p.cleared, p.clearedFor, p.clearUntil = c.Epoch, c.Member, now.Add(c.Promise)
		p.clearedAddresses = c.Addresses
		v.covers(c.Group, c.Addresses)
		if v.broken.ClearResetsPromise {
			p.until = 0
		}
	}
	return reply
}

// waive forgets a promise that its holder has given up (H6).
func (v *Voter) waive(from Member, w Waive) {
	if p := v.group(w.Group); p.holder == from && p.life == w.Life && p.epoch == w.Epoch {
		p.waived = true
	}
}

// PromiseView is a voter's promise as it stands.
type PromiseView struct {
	Group  string
	Epoch  Epoch
	Holder Member
	Left   time.Duration // until somebody else may be helped; negative: over for that long
}

// Promises lists what this member's voter has acknowledged in this life.
func (n *Node) Promises(now clock.Time) []PromiseView {
	var all []PromiseView
	for _, group := range sorted(n.voter.groups) {
		if p := n.voter.groups[group]; p.epoch != 0 {
			v := PromiseView{Group: group, Epoch: p.epoch, Holder: p.holder, Left: p.until.Sub(now)}
			if p.waived {
				v.Left = min(v.Left, 0)
			}
			all = append(all, v)
		}
	}
	return all
}

// Promised is the newest epoch of a group that this member's voter has promised in this life; zero if none.
func (n *Node) Promised(group string) Epoch {
	if p := n.voter.groups[group]; p != nil {
		return p.epoch
	}
	return 0
}

// AbstainLeft is how long this member's voter still helps nobody because it has just started; zero if it does.
func (n *Node) AbstainLeft(now clock.Time) time.Duration {
	return max(n.voter.abstainUntil.Sub(now), 0)
}
