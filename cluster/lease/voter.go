package lease

import (
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

	cleared    Epoch // the newest cleared; binds until clearedUntil (C1)
	clearedFor Member
	clearUntil clock.Time
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
	rounds       map[Member]lastRound
	broken       Broken
}

type lastRound struct {
	life  Life
	round uint64
}

// newVoter starts a voter's life. ceiling is the longest promise that it may have given in its last one, zero if it has
// never given any.
func newVoter(now clock.Time, ceiling time.Duration, broken Broken) *Voter {
	return &Voter{
		abstainUntil: now.Add(ceiling), ceiling: ceiling, broken: broken,
		groups: map[string]*promise{}, rounds: map[Member]lastRound{},
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

// proof is what a voter's own applied log says of a group's newest release (H6).
type proof struct {
	member Member
	life   Life
	epoch  Epoch
}

func (n *Node) proof(group string) proof {
	member, life, epoch := n.log.ReleasedBy(group)
	return proof{member, Life(life), Epoch(epoch)}
}

// voids tells whether a promise is void because its holder has released the epoch or a newer one. The release must be of
// the very life that was promised: only this life never holds such an epoch again, whatever the log says.
func (v *Voter) voids(r proof, p *promise) bool {
	return r.epoch >= p.epoch && (v.broken.AnyRelease || r.member == p.holder && r.life == p.life)
}

// inTheWay tells whether a promise to somebody else than m runs and is not proved void (V2, H3, H6).
func (v *Voter) inTheWay(now clock.Time, p *promise, m Member, released proof) bool {
	return now < p.until && p.holder != m && !p.waived && !v.voids(released, p)
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
func (v *Voter) renew(
	now clock.Time, from Member, life Life, g RenewGroup, span time.Duration, released proof,
) RenewAnswer {
	p := v.group(g.Group)
	answer := RenewAnswer{Group: g.Group, Epoch: g.Epoch}
	bound, holder := p.binding(now)
	answer.VoterEpoch = bound
	switch {
	case g.Epoch < p.epoch && !v.broken.AcceptOlderEpochs:
		answer.Refused = RefusedSuperseded
	case g.Epoch < bound && !v.broken.AcceptOlderEpochs && !v.broken.ForgetClearance:
		answer.Refused = RefusedEpoch
	case g.Epoch == bound && holder != from && !v.broken.AnyHolder:
		answer.Refused = RefusedHolder
	case g.Epoch == p.epoch && p.waived:
		answer.Refused = RefusedReleased
	case g.First && v.abstaining(now) && !v.broken.FirstWhileAbstaining:
		answer.Refused, answer.Left = RefusedAbstaining, v.abstainUntil.Sub(now)
	case g.First && v.inTheWay(now, p, from, released) && !v.broken.NoFirstCheck:
		answer.Refused, answer.Left = RefusedPromised, p.until.Sub(now)
	default:
		if v.broken.ShortPromise {
			span -= span * 3 / 100
		}
		if g.Epoch != p.epoch {
			p.waived = false
		}
		p.epoch, p.holder, p.life, p.until = g.Epoch, from, life, now.Add(span)
	}
	return answer
}

// clear answers a clearance, or a probe for one, whose header passed.
func (v *Voter) clear(now clock.Time, c Clear, released proof) ClearReply {
	p := v.group(c.Group)
	reply := ClearReply{Group: c.Group, Round: c.Round}
	reply.Epoch = max(p.epoch, p.cleared)
	switch {
	case v.abstaining(now) && !v.broken.NoAbstain:
		reply.Refused, reply.Left = RefusedAbstaining, v.abstainUntil.Sub(now)
	case v.inTheWay(now, p, c.Member, released) && !v.broken.ClearRunningPromise:
		reply.Refused, reply.Left, reply.Holder = RefusedPromised, p.until.Sub(now), p.holder
	case c.Probe:
	case c.Epoch <= reply.Epoch:
		reply.Refused = RefusedEpoch
	default:
		p.cleared, p.clearedFor, p.clearUntil = c.Epoch, c.Member, now.Add(c.Promise)
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

// AbstainLeft is how long this member's voter still helps nobody because it has just started; zero if it does.
func (n *Node) AbstainLeft(now clock.Time) time.Duration {
	return max(n.voter.abstainUntil.Sub(now), 0)
}
