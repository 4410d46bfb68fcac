package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fsm"
)

// LastWords is what is to be said for a member whose process is dead. Its machine lives, and holds nothing any more.
type LastWords struct {
	Member   MemberID
	Messages []json.RawMessage // as by Send, in order
	Over     map[string]uint64 // by group: the epochs that they give up. They are repeated until the log has taken note
}

const (
	methodLastWords = "cluster.last_words"
	lastWordsRepeat = 25 * time.Millisecond // by a member to itself, until the log has taken note
	lastWordsLook   = 5 * time.Millisecond  // how often it looks whether the log has
	lastWordsAgain  = 50 * time.Millisecond // between two calls to a member that does not answer
	successionSteps = 4                     // in T: how much later the next in rank stands for election
)

// Estate is all that another process needs to speak for this member once it is dead. It is plain data, and holds the
// cluster's key.
type Estate struct {
	Name  string
	Key   []byte
	Port  int
	Self  Peer
	Peers []Peer // the others
	Lease time.Duration
	Hello transport.Hello
}

// Estate returns this member's. It is the same for a whole life.
func (c *Cluster) Estate() Estate {
	e := Estate{Name: c.cfg.Name, Key: c.cfg.Key, Port: c.cfg.Port, Self: c.cfg.Self, Lease: c.cfg.Lease, Hello: (*gate)(c).Self()}
	for _, name := range c.names {
		e.Peers = append(e.Peers, c.peers[name])
	}
	return e
}

// Executor speaks for a member that is dead.
type Executor struct {
	estate Estate
	mux    *transport.Mux
}

// Executor prepares what takes computing, so that nothing of that is left to do when the member is dead.
func (e Estate) Executor(network transport.Network, log *slog.Logger) (*Executor, error) {
	identity, err := transport.NewIdentity(e.Key, e.Name, e.Self.Name)
	if err != nil {
		return nil, err
	}
	return &Executor{estate: e, mux: transport.Outgoing(transport.Config{
		Identity: identity, Address: netip.AddrPortFrom(e.Self.Address, 0), Gate: estateGate{e}, Network: network, Logger: log,
	})}, nil
}

// Close ends all connections.
func (x *Executor) Close() error { return x.mux.Close() }

// Speak says last words to all other members, each as soon as it can be reached, and again if that fails, until one of them
// says that the log has taken note of all that they give up. The error tells why nobody has by the end of ctx.
func (x *Executor) Speak(ctx context.Context, words LastWords) error {
	body, err := json.Marshal(words)
	if err != nil {
		return fmt.Errorf("encode last words: %w", err)
	}
	ctx, settled := context.WithCancelCause(ctx)
	defer settled(nil)
	var work sync.WaitGroup
	errs := make([]error, len(x.estate.Peers))
	for i, p := range x.estate.Peers {
		work.Go(func() {
			to := transport.Target{Node: p.Name, Address: netip.AddrPortFrom(p.Address, uint16(x.estate.Port))}
			for ctx.Err() == nil {
				_, err := x.mux.Call(ctx, to, methodLastWords, body)
				if err == nil {
					settled(errSettled)
					return
				}
				if ctx.Err() == nil {
					errs[i] = fmt.Errorf("%s: %w", p.Name, err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(lastWordsAgain):
				}
			}
		})
	}
	work.Wait()
	if errors.Is(context.Cause(ctx), errSettled) {
		return nil
	}
	return errors.Join(append(errs, ctx.Err())...)
}

var errSettled = errors.New("the log has taken note")

// estateGate lets a process that speaks for a member say what that one said of itself, and judges by the configuration alone
// whom it reaches.
type estateGate struct{ estate Estate }

// Self implements transport.Gate.
func (g estateGate) Self() transport.Hello { return g.estate.Hello }

// Admit implements transport.Gate.
func (g estateGate) Admit(node string, address netip.Addr, hello transport.Hello, _ bool) *transport.Refusal {
	if hello.Cluster != g.estate.Name {
		return &transport.Refusal{Code: transport.CodeCluster, Node: node, Address: address,
			Reason: fmt.Sprintf("it belongs to the cluster %q, and this is %q", hello.Cluster, g.estate.Name)}
	}
	return nil
}

// Refused implements transport.Gate. Whoever speaks is told by the error.
func (g estateGate) Refused(*transport.Refusal) {}

// onLastWords takes over what a member that is dead leaves to say: its messages are delivered, again as long as the log has
// not taken note, since who leads the log may change; and if the dead one led the log, somebody has to stand for election.
func (c *Cluster) onLastWords(ctx context.Context, from string, q LastWords) (struct{}, error) {
	done := struct{}{}
	if q.Member.Node() != from {
		return done, fmt.Errorf("%s speaks for %s", from, q.Member)
	}
	c.log.Warn("the process of a member has died, and another one speaks for it", "member", string(q.Member), "gives_up", q.Over)
	host := c.host()
	if host == nil {
		return done, errors.New("this member has no log yet")
	}
	standing, cancel := context.WithCancel(ctx)
	defer cancel()
	go host.succeed(standing, q.Member)
	look := time.NewTicker(lastWordsLook)
	defer look.Stop()
	for said := (time.Time{}); ; {
		if time.Since(said) >= lastWordsRepeat {
			said = time.Now()
			for _, m := range q.Messages {
				c.box.put(Message{From: q.Member, Payload: m})
			}
		}
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-look.C:
		}
		if c.over(q.Over) {
			return done, nil
		}
	}
}

// over tells whether this member's log says of all these epochs that they are over.
func (c *Cluster) over(epochs map[string]uint64) (over bool) {
	c.Read(func(s *fsm.State) {
		over = true
		for group, epoch := range epochs {
			over = over && (s.Released(group) >= epoch || s.Epoch(group) > epoch)
		}
	})
	return over
}

// succeed has this member stand for election at once if the one that is dead leads the log, as far as it knows: nothing is
// to be waited for but those who come before it in rank.
func (h *raftHost) succeed(ctx context.Context, dead MemberID) {
	led := func() bool {
		_, leader := h.raft.LeaderWithID()
		last := h.lastLeader.Load()
		return h.raft.State() == raft.Follower && (MemberID(leader) == dead || leader == "" && last != nil && *last == dead)
	}
	if !led() {
		return
	}
	// Two candidates at a time would cost a whole election timeout. Without pre-votes only distance keeps them apart.
	if delay := time.Duration(h.c.rank(dead.Node())) * h.timing.Heartbeat / successionSteps; delay > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
	if !led() || !h.health().Fit() {
		return
	}
	h.c.log.Info("stands for election: the leader's process has died", "leader", string(dead))
	self := []byte(h.self)
	h.trans.pass(raft.RPC{
		Command:  &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: self, Addr: self}},
		RespChan: make(chan raft.RPCResponse, 1),
	})
}
