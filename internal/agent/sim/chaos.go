package sim

import (
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
)

// chaos is a replicated log that keeps no promise: anybody may think that it leads, entries reach whom they like, in any
// order, twice or never, what a proposer is told has little to do with what happened, and now and then a member's
// state is that of a minute ago. No rule that keeps two owners apart may need more than this (S9).
type chaos struct {
	p    *process
	term uint64
	old  []byte // a state to fall back to
	over bool

	leading bool
}

func newChaos(p *process) *chaos {
	p.state = restore(p.machine.disk.raft.snapshot)
	return &chaos{p: p, term: p.machine.disk.raft.term}
}

func (c *chaos) begin() {
	voters := c.p.machine.disk.raft.voters
	c.p.post(lease.Configured{Committed: voters, Latest: voters})
	c.shuffle()
}

func (c *chaos) end() {
	c.over = true
	c.p.machine.disk.raft.snapshot, c.p.machine.disk.raft.term = c.p.state.Snapshot(), c.term
}

// shuffle has somebody lead, from time to time somebody else.
func (c *chaos) shuffle() {
	if c.over {
		return
	}
	p, w := c.p, c.p.machine.world
	c.term++
	who := w.roster[p.random.below(len(w.roster))]
	if p.random.chance(400_000) {
		who = p.member
	}
	c.leading = who == p.member
	p.aside(func() { p.post(lease.Leads{Member: who, Term: c.term}) })
	if p.random.chance(50_000) {
		if c.old != nil {
			p.say("log: falls back")
			p.state = restore(c.old)
			p.post(lease.Applied{Index: p.state.Applied()})
		}
		c.old = p.state.Snapshot()
	}
	w.after(p.random.span(100*time.Millisecond, 8*time.Second), c.shuffle)
}

func (c *chaos) submit(command fsm.Command, done func(fsm.Result, error)) {
	w, r := c.p.machine.world, &c.p.random
	for _, m := range w.machines {
		for range pick(r, 0, 1, 1, 1, 2) {
			w.after(r.span(0, pick(r, time.Millisecond, time.Millisecond, 3*time.Second)), func() {
				if p := m.process; p != nil && p != c.p {
					p.aside(func() { p.take(command) })
				}
			})
		}
	}
	told := r.below(10)
	w.after(r.span(0, 2*time.Millisecond), func() {
		c.p.aside(func() {
			switch {
			case told < 7:
				done(c.p.take(command), nil)
			case told < 8:
				done(fsm.Result{OK: true}, nil)
			case told < 9:
				c.p.take(command)
				done(fsm.Result{}, errUnknown)
			default:
				done(fsm.Result{}, errUnknown)
			}
		})
	})
}

func (c *chaos) leads() bool { return c.leading }

func (c *chaos) receive(fsm.Member, any) {}

// take applies a command at whatever index comes next.
func (p *process) take(c fsm.Command) fsm.Result {
	result := p.apply(p.state.Applied()+1, c)
	p.post(lease.Applied{Index: p.state.Applied()})
	return result
}
