package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/fsm"
)

func sortedJoins(joins map[string]join) []join {
	return slices.SortedFunc(maps.Values(joins), func(a, b join) int { return cmp.Compare(a.member, b.member) })
}

// promise is the longest span for which a voter may have promised something to an owner: P = D(1+e) + slack, with the
// longest D that any member says it uses.
func (c *Cluster) promise() time.Duration {
	lease := c.cfg.Lease
	c.mu.Lock()
	for _, m := range c.meetings {
		lease = max(lease, time.Duration(m.hello.Lease))
	}
	c.mu.Unlock()
	return lease + lease/100 + c.cfg.Slack
}

// caughtUp is how many entries a member may be behind when it becomes a voter.
const caughtUp = 64

// change is one step towards the voters that there should be.
type change struct {
	what   string
	server raft.Server // whom it is about
	// votes tells that it changes the set of voters, and has to wait until promises to the present ones have run out.
	votes bool
	apply func(r *raft.Raft, index uint64) raft.IndexFuture
}

// nextChange finds the first step that is due. It looks at nothing but its arguments.
func nextChange(committed configuration, joins map[string]join, removals map[string]bool, commitIndex uint64,
	now time.Time) *change {
	remove := func(s raft.Server, why string) *change {
		return &change{
			what: why, server: s, votes: s.Suffrage == raft.Voter,
			apply: func(r *raft.Raft, index uint64) raft.IndexFuture { return r.RemoveServer(s.ID, index, changeWait) },
		}
	}
	for _, s := range committed.servers {
		node := MemberID(s.ID).Node()
		if removals[node] {
			return remove(s, "an operator removes it")
		}
		if j, ok := joins[node]; ok && j.member != MemberID(s.ID) && now.Sub(j.at) < joinForgets {
			return remove(s, fmt.Sprintf("%s has come back as %s", node, j.member))
		}
	}
	for _, j := range sortedJoins(joins) {
		if now.Sub(j.at) >= joinForgets {
			continue
		}
		s, known := committed.has(j.member)
		switch {
		case !known:
			return &change{
				what: "asks to be taken in", server: raft.Server{ID: raft.ServerID(j.member)},
				apply: func(r *raft.Raft, index uint64) raft.IndexFuture {
					return r.AddNonvoter(raft.ServerID(j.member), raft.ServerAddress(j.member), index, changeWait)
				},
			}
		case s.Suffrage != raft.Voter && j.lastIndex+caughtUp >= commitIndex && now.Sub(j.at) < rejoinWindow:
			return &change{
				what: "has caught up and becomes a voter", server: s, votes: true,
				apply: func(r *raft.Raft, index uint64) raft.IndexFuture {
					return r.AddVoter(s.ID, s.Address, index, changeWait)
				},
			}
		}
	}
	return nil
}

// changeVoters takes the next step, if there is one and its time has come. Sets of voters that differ by one member
// have majorities that meet, so a step that changes the voters waits until every promise that counted with the sets
// before the last one has run out, and until MayChange agrees.
func (c *Cluster) changeVoters(ctx context.Context) {
	host := c.host()
	if host == nil {
		return
	}
	committed, latest := c.configurations.get()
	if committed.index == 0 || committed.index != latest.index {
		return // one at a time
	}
	c.mu.Lock()
	for node, j := range c.joins {
		if s, ok := committed.has(j.member); time.Since(j.at) >= joinForgets || ok && s.Suffrage == raft.Voter {
			delete(c.joins, node)
		}
	}
	step := nextChange(committed, c.joins, c.removals, host.raft.CommitIndex(), time.Now())
	since := c.cfg.Clock().Sub(c.changedAt)
	c.mu.Unlock()
	if step == nil {
		return
	}
	if step.votes {
		if since < c.promise() || c.cfg.MayChange != nil && !c.cfg.MayChange() {
			if ok, _ := c.limit.allow("change waits " + string(step.server.ID)); ok {
				c.log.Info("change of the voters waits until no promise to the present ones is left",
					"member", string(step.server.ID), "change", step.what)
			}
			return
		}
	}
	c.log.Info("changing the members", "member", string(step.server.ID), "change", step.what)
	if err := host.wait(step.apply(host.raft, committed.index), changeWait); err != nil {
		c.log.Warn("members could not be changed", "member", string(step.server.ID), "change", step.what, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(changeRetry):
		}
	}
}

// changing tells whether the voters change, or are to be changed by this member if it leads.
func (c *Cluster) changing() bool {
	committed, latest := c.configurations.get()
	leads := c.isLeader()
	c.mu.Lock()
	defer c.mu.Unlock()
	return committed.index != latest.index || leads && len(c.joins)+len(c.removals) > 0
}

// RemoveMember takes a node out of the cluster for good, by way of the leader, which waits until the voters may change. ctx
// bounds it. If the node can be reached it is told, and stays out until it is started with an empty data directory. It is
// refused, as a *RemoteError, if those who remain would have no majority that answers, or no director. A leader that is to
// be removed hands the leadership over first.
func (c *Cluster) RemoveMember(ctx context.Context, node string) error {
	for {
		err := c.Call(ctx, "", methodRemove, removeRequest{Node: node}, nil)
		var remote *RemoteError
		if !errors.Is(err, ErrNoLeader) && !(errors.As(err, &remote) && remote.Text == ErrNotLeader.Error()) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove %s: %w (last error: %w)", node, ctx.Err(), err)
		case <-time.After(callAgain):
		}
	}
}

type removeRequest struct{ Node string }

func (c *Cluster) onRemove(ctx context.Context, from string, q removeRequest) (struct{}, error) {
	done := struct{}{}
	member := func() (MemberID, bool) {
		committed, _ := c.configurations.get()
		for _, s := range committed.servers {
			if MemberID(s.ID).Node() == q.Node {
				return MemberID(s.ID), true
			}
		}
		return "", false
	}
	id, ok := member()
	switch {
	case !c.isLeader():
		return done, ErrNotLeader
	case !ok:
		return done, fmt.Errorf("%w: %s", ErrUnknownNode, q.Node)
	}
	if err := c.mayRemove(id); err != nil {
		return done, err
	}
	if q.Node == c.cfg.Node {
		if err := c.host().handOver(ctx); err != nil {
			return done, fmt.Errorf("%s leads the log, and cannot hand that over: %w", q.Node, err)
		}
		return done, ErrNotLeader
	}
	c.log.Info("removing a member", "member", string(id), "by", from)
	c.mu.Lock()
	c.removals[q.Node] = true
	c.mu.Unlock()
	c.wake()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.removals, q.Node)
	}()
	tick := time.NewTicker(stewardTick)
	defer tick.Stop()
	for {
		if !c.isLeader() {
			return done, ErrNotLeader
		}
		if _, ok := member(); !ok {
			// Nobody who is being removed is taken in again; from here on only the member itself knows that it was.
			if err := c.Call(ctx, q.Node, methodRemoved, removedRequest{Member: id, By: from}, nil); err != nil {
				c.log.Warn("member was removed and cannot be told: it will ask to be taken in when it is back",
					"member", string(id), "err", err)
			}
			return done, nil
		}
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-tick.C:
		}
	}
}

// mayRemove says why the cluster would not do without a member.
func (c *Cluster) mayRemove(gone MemberID) error {
	committed, _ := c.configurations.get()
	rest := slices.DeleteFunc(committed.voters().Members, func(m MemberID) bool { return m == gone })
	c.mu.Lock()
	answering := c.answering(rest)
	c.mu.Unlock()
	if answering <= len(rest)/2 {
		return fmt.Errorf("without %s only %d of %d votes would answer: no majority", gone.Node(), answering, len(rest))
	}
	director := func(m MemberID) bool {
		p, known := c.peers[m.Node()]
		return m == c.self && !c.cfg.Self.Witness || known && !p.Witness
	}
	if !slices.ContainsFunc(rest, director) {
		return fmt.Errorf("without %s there would be no director", gone.Node())
	}
	return nil
}

type removedRequest struct {
	Member MemberID
	By     string
}

func (c *Cluster) onRemoved(_ context.Context, from string, q removedRequest) (struct{}, error) {
	if q.Member != c.self {
		return struct{}{}, fmt.Errorf("this is %s", c.self)
	}
	reason := fmt.Sprintf("by %s, on behalf of %s", from, q.By)
	if err := c.dir.SetRemoved(reason); err != nil {
		return struct{}{}, err
	}
	c.log.Warn("this member is removed from the cluster", "by", q.By)
	c.mu.Lock()
	c.removed = reason
	c.mu.Unlock()
	c.wake()
	return struct{}{}, nil
}

// callAgain is the pause after an answer of somebody who does not lead the log.
const callAgain = 50 * time.Millisecond

// Submit has a command committed by whoever leads, tries again after changes of the leader, and returns its result. The
// command's ID, which it must have, makes it apply once. It returns ErrNoLeader, or the context's error with the outcome
// unknown.
func (c *Cluster) Submit(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	if cmd.ID == "" {
		return fsm.Result{}, errors.New("submit command: it has no id")
	}
	for {
		var result fsm.Result
		err := c.Call(ctx, "", methodSubmit, cmd, &result)
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return fsm.Result{}, fmt.Errorf("submit command: %w (last error: %w)", ctx.Err(), err)
		}
		var remote *RemoteError
		if errors.As(err, &remote) && !retriable[remote.Text] {
			return fsm.Result{}, fmt.Errorf("submit command: %w", err)
		}
		if _, bounded := ctx.Deadline(); !bounded {
			return fsm.Result{}, fmt.Errorf("submit command: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(callAgain):
		}
	}
}

// retriable are the answers of a member that no longer leads, or not yet.
var retriable = map[string]bool{ErrNotLeader.Error(): true, ErrBusy.Error(): true, errOutcome.Error(): true}

// errOutcome tells a caller of Submit to try again: the command's id makes that safe.
var errOutcome = errors.New("the log did not answer in time")

func (c *Cluster) onSubmit(_ context.Context, _ string, cmd fsm.Command) (fsm.Result, error) {
	if err := cmd.Validate(); err != nil {
		return fsm.Result{}, err
	}
	host := c.host()
	if host == nil {
		return fsm.Result{}, ErrNotLeader
	}
	_, result, err := host.propose(cmd)
	switch {
	case err == nil, errors.Is(err, ErrNotLeader), errors.Is(err, ErrBusy):
		return result, err
	default:
		return fsm.Result{}, errOutcome
	}
}
