package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/transport"
)

// What messages over a link are about.
const (
	contentMessage transport.Content = iota + 1 // of Send, for the reader of Events
	contentPulse                                // of raft, for raft
)

// A pulse is what raft asks its followers while nothing is to be added to their logs: whether they follow, and to take note of the commit
// index. It goes over the link to a member, where it finds company: the renewals of an owner. Over one of raft's own connections it would
// wake two machines for itself. A member answers it with an answer or, when raft does not run there, with a refusal.
type pulse struct {
	Kind pulseKind
	ID   uint64 // of the question; unique in the life of who asks
	Term uint64

	// Of a question that is more than a heartbeat.
	PrevLogEntry, PrevLogTerm, Commit uint64

	// Of an answer.
	LastLog   uint64
	Success   bool
	NoBackoff bool // raft's NoRetryBackoff
}

type pulseKind uint8

const (
	pulseQuestion pulseKind = iota + 1
	pulseAnswer
	pulseRefusal
)

func (p pulse) encode() []byte {
	b, err := binary.Append(nil, binary.BigEndian, p)
	if err != nil {
		panic(fmt.Sprintf("cluster: pulse cannot be encoded: %v", err)) // it is of fixed size
	}
	return b
}

func decodePulse(b []byte) (p pulse, err error) {
	n, err := binary.Decode(b, binary.BigEndian, &p)
	if err == nil && n != len(b) {
		err = errors.New("it is too long")
	}
	if err == nil && (p.Kind < pulseQuestion || p.Kind > pulseRefusal) {
		err = fmt.Errorf("unknown kind %d", p.Kind)
	}
	if err != nil {
		return pulse{}, fmt.Errorf("decode pulse: %w", err)
	}
	return p, nil
}

// heartbeat tells whether raft's question is one: it neither adds to the log nor says what is in it.
func heartbeat(q *raft.AppendEntriesRequest) bool {
	return len(q.Entries) == 0 && q.PrevLogEntry == 0 && q.LeaderCommitIndex == 0
}

var (
	errPulseLost    = errors.New("the connection ended before the answer came")
	errPulseRefused = errors.New("raft does not run there")
)

// pulses are the questions of this member that have no answer yet.
type pulses struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]openPulse
}

type openPulse struct {
	to     MemberID
	answer chan<- pulse // has room for it; closed when none will come
}

func (p *pulses) add(to MemberID) (id uint64, answer <-chan pulse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := make(chan pulse, 1)
	p.last++
	if p.open == nil {
		p.open = map[uint64]openPulse{}
	}
	p.open[p.last] = openPulse{to, c}
	return p.last, c
}

func (p *pulses) drop(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, id)
}

// answered hands an answer to whoever asked, if that one still waits.
func (p *pulses) answered(from MemberID, a pulse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q, waits := p.open[a.ID]; waits && q.to == from {
		delete(p.open, a.ID)
		q.answer <- a
	}
}

// lose ends the wait for all answers of a node.
func (p *pulses) lose(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, q := range p.open {
		if q.to.Node() == node {
			delete(p.open, id)
			close(q.answer)
		}
	}
}

// askPulse sends a question of raft to a member and waits for the answer until ctx ends. The question may wait for company as long as
// patience says, unless there is haste at last.
func (c *Cluster) askPulse(ctx context.Context, to MemberID, q *raft.AppendEntriesRequest, patience time.Duration,
	haste func() bool) (pulse, error) {
	link := c.links[to.Node()]
	if link == nil {
		return pulse{}, fmt.Errorf("%w: %s", ErrUnknownNode, to.Node())
	}
	id, answer := c.pulses.add(to)
	defer c.pulses.drop(id)
	link.Send(string(to), contentPulse, pulse{Kind: pulseQuestion, ID: id, Term: q.Term,
		PrevLogEntry: q.PrevLogEntry, PrevLogTerm: q.PrevLogTerm, Commit: q.LeaderCommitIndex}.encode(), patience)
	if patience > 0 && haste() {
		link.Hasten() // what made the haste may have been told before the question was there
	}
	select {
	case <-ctx.Done():
		return pulse{}, fmt.Errorf("no answer to a heartbeat: %w", ctx.Err())
	case a, came := <-answer:
		switch {
		case !came:
			return pulse{}, errPulseLost
		case a.Kind == pulseRefusal:
			return pulse{}, errPulseRefused
		}
		return a, nil
	}
}

// tookPulse works on a pulse that has come. It does not block.
func (c *Cluster) tookPulse(from MemberID, payload []byte) {
	p, err := decodePulse(payload)
	if err != nil {
		c.log.Warn("message dropped", "peer", string(from), "err", err)
		return
	}
	if p.Kind != pulseQuestion {
		c.pulses.answered(from, p)
		return
	}
	if host := c.hostFor(from); host != nil {
		host.trans.pulse(from, p)
		return
	}
	c.sendPulse(from, pulse{Kind: pulseRefusal, ID: p.ID})
}

// hostFor is raft, as far as it runs and a member that leads may ask it: one of the same cluster.
func (c *Cluster) hostFor(from MemberID) *raftHost {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.meetings[from.Node()]
	if c.removed != "" || m.hello.Member != string(from) || m.hello.ClusterID == "" || m.hello.ClusterID != c.clusterID {
		return nil
	}
	return c.raft
}

func (c *Cluster) sendPulse(to MemberID, p pulse) {
	if link := c.links[to.Node()]; link != nil {
		link.Send(string(to), contentPulse, p.encode(), 0)
	}
}
