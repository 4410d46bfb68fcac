package member

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
)

// Link carries the lease protocol's actions to the cluster, and what the cluster says to the lease protocol. Its
// methods belong to the goroutine that owns the lease.Node; Inputs is what that goroutine selects on beside
// Cluster.Events.
type Link struct {
	Cluster *cluster.Cluster
	Log     *slog.Logger
	Inputs  chan lease.Input // answers of what blocks: the disk

	noteCeiling func(time.Duration) error
	raising     atomic.Int64      // the ceiling that is being written, or is written; zero again when that has failed
	known       map[string]string // standings by node, as published
	absent      map[string]bool   // nodes that gossip did not find
}

// NewLink returns a link to an open cluster.
func NewLink(c *cluster.Cluster, log *slog.Logger) *Link {
	return &Link{Cluster: c, Log: log, Inputs: make(chan lease.Input, 8), noteCeiling: c.SetPromiseCeiling,
		known: map[string]string{}, absent: map[string]bool{}}
}

// Translate says in inputs of the lease protocol what an event says, which may be nothing.
func (l *Link) Translate(ev cluster.Event) []lease.Input {
	switch ev := ev.(type) {
	case cluster.Message:
		m, err := lease.Decode(ev.Payload)
		if err != nil {
			l.Log.Warn("message dropped", "peer", string(ev.From), "err", err)
			return nil
		}
		return []lease.Input{lease.Received{From: ev.From, Message: m}}
	case cluster.Leadership:
		return []lease.Input{lease.Leads{Member: ev.Leader, Term: ev.Term}}
	case cluster.Voters:
		return []lease.Input{lease.Configured{Committed: configuration(ev.Committed), Latest: configuration(ev.Latest)}}
	case cluster.Applied:
		return []lease.Input{lease.Applied{Index: ev.Index}}
	case cluster.Proposed:
		return []lease.Input{lease.Outcome{Tag: ev.Tag, Result: ev.Result, Err: ev.Err}}
	case cluster.Stands, cluster.PeerChanged:
		return l.Standings()
	default:
		return nil
	}
}

func configuration(v cluster.VoterSet) lease.Configuration {
	return lease.Configuration{Index: v.Index, Voters: v.Members}
}

// Do carries out one of the actions that concern the cluster; others are none of its business.
func (l *Link) Do(a lease.Action) {
	switch a := a.(type) {
	case lease.Send:
		l.Cluster.Send(a.To, a.Message.Encode())
	case lease.Propose:
		l.Cluster.Propose(a.Tag, stamped(a.Command, l.Cluster.Self().Node(), time.Now()))
	case lease.RaiseCeiling:
		l.raiseCeiling(a.Promise)
	}
}

// submitWait is how long a command may take to be committed. Whoever wanted it asks again.
const submitWait = 2 * time.Second

// Submit has whoever leads the log commit a command. It does not wait.
func (l *Link) Submit(c fsm.Command) {
	c = stamped(c, l.Cluster.Self().Node(), time.Now())
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), submitWait)
		defer cancel()
		result, err := l.Cluster.Submit(ctx, c)
		switch {
		case err != nil:
			l.Log.Debug("command not committed", "kind", c.Kind(), "err", err)
		case result.Refused != "":
			l.Log.Info("command refused", "kind", c.Kind(), "reason", result.Refused)
		}
	}()
}

// stamped is a command as the log wants it, of a protocol that knows no wall clock: it has an id, says who proposed it and when, and its texts, which may come
// from anywhere, are such as the log takes.
func stamped(c fsm.Command, node string, now time.Time) fsm.Command {
	c.ID, c.Node, c.Time = requestID(node), node, fsm.WallOf(now)
	return c.Clip()
}

// ceilingRetry is how long a failure to note the longest promise lasts: then the next wish for it is tried again.
const ceilingRetry = time.Second

// raiseCeiling writes on a goroutine of its own: the disk may hang, leases must not.
func (l *Link) raiseCeiling(promise time.Duration) {
	if int64(promise) <= l.raising.Load() {
		return
	}
	l.raising.Store(int64(promise))
	go func() {
		if err := l.noteCeiling(promise); err != nil {
			l.Log.Error("cannot note the longest promise; leases of that length are refused here",
				"promise", promise, "err", err)
			time.Sleep(ceilingRetry)
			l.raising.CompareAndSwap(int64(promise), 0)
			return
		}
		l.Inputs <- lease.CeilingRaised{Promise: promise}
	}()
}

// Publish tells the other members what this director could own.
func (l *Link) Publish(groups map[string]lease.Standing) {
	b, err := json.Marshal(groups)
	if err == nil {
		err = l.Cluster.SetStanding(b)
	}
	if err != nil {
		l.Log.Error("cannot publish the standing", "err", err)
	}
}

// Standings returns what directors have published since the last look, as inputs. Events say when to look; a look now and then
// finds what was said while there were too many of them.
func (l *Link) Standings() []lease.Input {
	var all []lease.Input
	for node, s := range l.Cluster.Standings() {
		if l.known[node] == string(s.Data) && l.absent[node] == s.Absent {
			continue // a witness publishes nothing
		}
		l.known[node], l.absent[node] = string(s.Data), s.Absent
		var groups map[string]lease.Standing // none from a director that has just started
		if err := json.Unmarshal(s.Data, &groups); err != nil && len(s.Data) > 0 {
			l.Log.Warn("standing dropped", "node", node, "err", err)
			continue
		}
		all = append(all, lease.Stands{Member: s.Member, Groups: groups, Absent: s.Absent})
	}
	return all
}
