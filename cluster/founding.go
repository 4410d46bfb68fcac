package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/store"
	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fsm"
)

// How a member comes to its cluster.
//
// A member without a cluster id is new. When all configured members answer, all are new, and all have the same list of
// peers, the director whose name comes first founds the cluster: it writes the first configuration, with everybody's
// member id, into its own log and sends it to the others, who do the same. Any majority of them can go on from there,
// whoever is lost in between.
//
// A new member that meets one with a cluster id asks to be taken in. So does one that the leader does not speak to.

// Methods that members serve each other.
const (
	methodFound   = "cluster.found"
	methodJoin    = "cluster.join"
	methodFitness = "cluster.fitness"
	methodSubmit  = "cluster.submit"
	methodRemove  = "cluster.remove"
	methodRemoved = "cluster.removed"
)

type foundRequest struct {
	ClusterID string
	Voters    []MemberID
	Peers     string // digest
}

type joinRequest struct {
	Member    MemberID
	LastIndex uint64
	Blank     bool // it has no configuration yet
}

type joinAnswer struct {
	Leader   MemberID // who decides, if it is not the one that was asked
	Accepted bool
	Gone     bool // it was a member, and is none any more: it has to come back as a new one
}

// join is a request that the leader remembers.
type join struct {
	member    MemberID
	lastIndex uint64
	at        time.Time
}

const (
	stewardTick  = 500 * time.Millisecond
	stewardCalm  = 30 * time.Second // while there is nothing to do: what makes work wakes the steward
	joinEvery    = 500 * time.Millisecond
	callLimit    = 2 * time.Second
	joinForgets  = 5 * time.Second // the leader forgets who does not ask again
	lonelyAfter  = 3 * time.Second // without a leader, or unknown to it, a member asks whether it still belongs
	raftRetry    = time.Second
	changeRetry  = time.Second
	changeWait   = 10 * time.Second // for a change of the configuration to be committed
	rejoinWindow = 2 * time.Second  // how fresh the newest request of a member must be when it becomes a voter
)

func (c *Cluster) registerMethods() {
	c.handlers[methodFound] = typed(c.onFound)
	c.handlers[methodJoin] = typed(c.onJoin)
	c.handlers[methodFitness] = typed(c.onFitness)
	c.handlers[methodSubmit] = typed(c.onSubmit)
	c.handlers[methodRemove] = typed(c.onRemove)
	c.handlers[methodRemoved] = typed(c.onRemoved)
	c.handlers[methodLastWords] = typed(c.onLastWords)
}

// typed decodes a request for a handler.
func typed[Q, A any](f func(ctx context.Context, from string, q Q) (A, error)) Handler {
	return func(ctx context.Context, from string, req json.RawMessage) (any, error) {
		var q Q
		if err := json.Unmarshal(req, &q); err != nil {
			return nil, fmt.Errorf("decode request: %w", err)
		}
		return f(ctx, from, q)
	}
}

// steward brings this member into its cluster and, while it leads, changes the voters. It is the only goroutine that
// starts and stops raft, except for Close.
func (c *Cluster) steward(ctx context.Context) {
	tick := time.NewTimer(stewardTick)
	defer tick.Stop()
	var lastJoin, lonelySince, lastStart time.Time
	for {
		again := stewardTick
		c.noteMajority()
		switch {
		case c.isRemoved():
			c.say("removed from the cluster on purpose; start it with an empty data directory to bring it back")
			c.stopRaft()
		case c.id() == "":
			if c.meetOthers(ctx) {
				lastJoin = time.Now()
			} else if time.Since(lastJoin) >= joinEvery && c.askToJoin(ctx) {
				lastJoin = time.Now()
			}
		case c.host() == nil:
			if time.Since(lastStart) >= raftRetry && c.mayStart() {
				lastStart = time.Now()
				c.runRaft()
			}
		default:
			c.warmUp()
			if c.belongs() {
				lonelySince = time.Time{}
				c.say("")
				if !c.changing() {
					again = stewardCalm
				}
			} else if lonelySince.IsZero() {
				lonelySince = time.Now()
			}
			if c.isLeader() {
				c.changeVoters(ctx)
			} else if !lonelySince.IsZero() && time.Since(lastJoin) >= joinEvery && c.lonely(lonelySince) {
				lastJoin = time.Now()
				c.askToJoin(ctx)
			}
		}
		tick.Reset(again)
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-tick.C:
		}
	}
}

func (c *Cluster) id() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clusterID
}

func (c *Cluster) isRemoved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removed != ""
}

// say sets the text of the status.
func (c *Cluster) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.mu.Lock()
	changed := c.text != text
	c.text = text
	c.mu.Unlock()
	if changed && text != "" {
		c.log.Info("cluster membership", "waits_for", text)
	}
}

// meetOthers founds the cluster if that is due and this member's task. It tells whether it did.
func (c *Cluster) meetOthers(ctx context.Context) bool {
	voters := []MemberID{c.self}
	var silent, others, differ []string
	c.mu.Lock()
	for _, name := range c.names {
		m := c.meetings[name]
		switch {
		case !m.up:
			silent = append(silent, name)
		case m.hello.ClusterID != "":
			others = append(others, name)
		case m.hello.Peers != c.digest:
			differ = append(differ, name)
		default:
			voters = append(voters, MemberID(m.hello.Member))
		}
	}
	c.mu.Unlock()
	switch {
	case len(others) > 0:
		return false // askToJoin
	case len(differ) > 0:
		c.say("a new cluster waits: %v have another list of peers in their configuration", differ)
		return false
	case len(silent) > 0:
		c.say("a new cluster waits until all its members have met: %v do not answer", silent)
		return false
	case c.founder() != c.cfg.Node:
		c.say("a new cluster waits for %s to found it", c.founder())
		return false
	}
	slices.Sort(voters)
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		c.log.Error("cluster id cannot be chosen", "err", err)
		return false
	}
	q := foundRequest{ClusterID: hex.EncodeToString(id), Voters: voters, Peers: c.digest}
	if err := c.found(q); err != nil {
		// What was begun is taken back at the next start: nobody relies on it yet.
		c.fail(&RestartError{Reason: err.Error()})
		return false
	}
	var calls sync.WaitGroup
	for _, name := range c.names {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			if err := c.Call(ctx, name, methodFound, q, nil); err != nil {
				c.log.Warn("peer did not take part in founding; it will when raft reaches it", "peer", name, "err", err)
			}
		})
	}
	calls.Wait()
	return true
}

// founder is the director whose name comes first.
func (c *Cluster) founder() string {
	var first string
	for _, p := range c.cfg.Peers {
		if !p.Witness && (first == "" || p.Name < first) {
			first = p.Name
		}
	}
	return first
}

// found makes this member part of a new cluster.
func (c *Cluster) found(q foundRequest) error {
	if !slices.Contains(q.Voters, c.self) {
		return fmt.Errorf("found the cluster: member %s is not in it", c.self)
	}
	if !c.mayStart() {
		return errors.New("found the cluster: this member starts or stops")
	}
	defer c.started()
	if c.id() != "" {
		return errors.New("found the cluster: this member belongs to one already")
	}
	if err := c.dir.SetClusterID(q.ClusterID); err != nil {
		return fmt.Errorf("found the cluster: %w", err)
	}
	first := &raft.Configuration{}
	for _, m := range q.Voters {
		first.Servers = append(first.Servers,
			raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m), Address: raft.ServerAddress(m)})
	}
	c.log.Info("cluster is founded", "cluster_id", q.ClusterID, "voters", fmt.Sprint(q.Voters))
	c.setID(q.ClusterID)
	return c.bringUp(first)
}

func (c *Cluster) setID(id string) {
	c.mu.Lock()
	c.clusterID = id
	c.mu.Unlock()
	c.greet()
	c.wake()
}

// greet tells everybody what this member says of itself now.
func (c *Cluster) greet() {
	for _, l := range c.links {
		l.Greet()
	}
}

func (c *Cluster) onFound(_ context.Context, from string, q foundRequest) (struct{}, error) {
	if from != c.founder() || q.Peers != c.digest {
		return struct{}{}, fmt.Errorf("%s is not the one to found this cluster", from)
	}
	return struct{}{}, c.found(q)
}

// adopt makes this member part of a cluster that has it in its configuration. It does not block.
func (c *Cluster) adopt(id string) {
	if c.id() != "" || !c.mayStart() {
		return
	}
	go func() {
		defer c.started()
		if err := c.dir.SetClusterID(id); err != nil {
			c.log.Error("cluster id cannot be written", "err", err)
			return
		}
		c.log.Info("member belongs to a cluster now", "cluster_id", id)
		c.setID(id)
	}()
}

// mayStart takes the right to start raft, unless somebody has it. started gives it back.
func (c *Cluster) mayStart() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.starting != nil || c.closed {
		return false
	}
	c.starting = make(chan struct{})
	return true
}

func (c *Cluster) started() {
	c.mu.Lock()
	close(c.starting)
	c.starting = nil
	c.mu.Unlock()
	c.wake()
}

// runRaft starts raft on what this member has.
func (c *Cluster) runRaft() {
	defer c.started()
	err := c.bringUp(nil)
	c.mu.Lock()
	c.broken = ""
	if err != nil {
		c.broken = err.Error()
	}
	c.mu.Unlock()
	if err != nil {
		if ok, _ := c.limit.allow("start raft"); ok {
			c.log.Error("raft cannot be started, will try again", "err", err)
		}
	}
}

// bringUp opens the log and starts raft. The caller has set starting.
func (c *Cluster) bringUp(first *raft.Configuration) error {
	c.mu.Lock()
	log := c.raftLog
	c.mu.Unlock()
	if log == nil {
		err := c.recoverForced()
		if err != nil {
			return err
		}
		log, err = c.dir.OpenLog(store.LogHooks{
			Configuration: func(e *raft.Log) { c.configurations.appended(e.Index, raft.DecodeConfiguration(e.Data)) },
			Truncated:     c.configurations.truncated,
			Damaged:       func(err error) { c.condemn(fmt.Sprintf("its log is damaged: %v", err)) },
		})
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.raftLog = log
		c.mu.Unlock()
	}
	host, err := c.startRaft(log, first)
	if err != nil {
		return err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.raft = host
	}
	c.mu.Unlock()
	if closed {
		host.stop()
		return ErrClosed
	}
	c.greet() // it does not know what is committed, whatever it was told before
	c.wake()
	return nil
}

// stopRaft ends raft for good.
func (c *Cluster) stopRaft() {
	c.mu.Lock()
	host := c.raft
	c.raft = nil
	c.mu.Unlock()
	if host != nil {
		host.stop()
	}
}

// rebuild replaces a raft object that is of no more use. It does not block.
func (c *Cluster) rebuild(host *raftHost, reason string) {
	c.log.Error("raft is started anew", "reason", reason)
	go func() {
		c.mu.Lock()
		mine := c.raft == host
		if mine {
			c.raft = nil
		}
		c.mu.Unlock()
		if !mine {
			return
		}
		select {
		case <-host.stop():
			c.wake()
		default:
			c.fail(&RestartError{Reason: "raft cannot be stopped: " + reason})
		}
	}()
}

// warmUp opens raft connections to voters that have become reachable.
func (c *Cluster) warmUp() {
	_, latest := c.configurations.get()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raft == nil {
		return
	}
	for _, id := range latest.voters().Members {
		if m := c.meetings[id.Node()]; m != nil && m.up && m.hello.Member == string(id) && m.warmed != c.raft {
			m.warmed = c.raft
			go c.raft.trans.warm(id)
		}
	}
}

// isVoter tells whether this member is a voter of the newest configuration that it knows.
func (c *Cluster) isVoter() bool {
	_, latest := c.configurations.get()
	s, ok := latest.has(c.self)
	return ok && s.Suffrage == raft.Voter
}

func (c *Cluster) isLeader() bool {
	host := c.host()
	if host == nil {
		return false
	}
	l, _ := host.current()
	return l.Self
}

// belongs tells whether this member is a voter and hears of a leader.
func (c *Cluster) belongs() bool { return c.isVoter() && c.leader() != "" }

// lonely tells whether it is time to ask whether this member still belongs to the cluster. A voter that hears of no
// leader may just be in an election.
func (c *Cluster) lonely(since time.Time) bool {
	if !c.isVoter() {
		c.say("waits to be made a voter")
		return true
	}
	c.say("no leader of the log")
	return time.Since(since) > max(lonelyAfter, 10*c.timing.Heartbeat)
}

// askToJoin asks the members that answer and belong to a cluster to take this member in. It tells whether anybody was
// there to be asked.
func (c *Cluster) askToJoin(ctx context.Context) bool {
	ours := c.id()
	type candidate struct{ name, cluster string }
	var candidates []candidate
	c.mu.Lock()
	for _, name := range c.names {
		if m := c.meetings[name]; m.up && m.hello.ClusterID != "" && (ours == "" || m.hello.ClusterID == ours) {
			candidates = append(candidates, candidate{name, m.hello.ClusterID})
		}
	}
	c.mu.Unlock()
	if len(candidates) == 0 {
		return false
	}
	q := joinRequest{Member: c.self, Blank: true}
	if host := c.host(); host != nil {
		q.LastIndex = host.raft.LastIndex()
		_, latest := c.configurations.get()
		q.Blank = latest.index == 0
	}
	for _, to := range candidates {
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		var a joinAnswer
		err := c.Call(ctx, to.name, methodJoin, q, &a)
		cancel()
		switch {
		case err != nil:
			c.log.Debug("asked to be taken in", "peer", to.name, "err", err)
		case a.Gone && c.isRemoved(): // it was told so meanwhile
			return true
		case a.Gone:
			c.condemn(fmt.Sprintf("%s, the leader, does not know member %s any more", to.name, c.self))
			return true
		case a.Accepted:
			if ours == "" {
				c.say("new here, is being taken in")
				c.adopt(to.cluster)
			}
			return true
		}
	}
	if ours == "" {
		c.say("new here, asks to be taken in: nobody of those who answer knows a leader; it takes a majority of the old voters")
	}
	return true
}

// onJoin is the leader's answer to a member that wants to be taken in.
func (c *Cluster) onJoin(ctx context.Context, from string, q joinRequest) (joinAnswer, error) {
	if q.Member.Node() != from {
		return joinAnswer{}, fmt.Errorf("%s asks for %s", from, q.Member)
	}
	if !c.isLeader() {
		return joinAnswer{Leader: c.leader()}, nil
	}
	if c.beingRemoved(from) {
		return joinAnswer{}, fmt.Errorf("%s is being removed", from)
	}
	_, latest := c.configurations.get()
	_, known := latest.has(q.Member)
	if !known && !q.Blank {
		if err := c.Verify(ctx); err != nil {
			return joinAnswer{}, err
		}
		return joinAnswer{Gone: true}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joins[from] = join{member: q.Member, lastIndex: q.LastIndex, at: time.Now()}
	c.wake()
	return joinAnswer{Accepted: true}, nil
}

// beingRemoved tells whether this member is about to take a node out of the cluster.
func (c *Cluster) beingRemoved(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removals[node]
}

type fitness struct {
	Fit       bool
	LastIndex uint64
}

func (c *Cluster) onFitness(context.Context, string, struct{}) (fitness, error) {
	host := c.host()
	if host == nil {
		return fitness{}, nil
	}
	return fitness{Fit: host.health().Fit(), LastIndex: host.raft.LastIndex()}, nil
}

// errLags is that of a director that will have all of the log in a moment.
var errLags = errors.New("it has not all of the log")

// successor is the director that may be given the leadership of a log that ends at lastIndex. The error is errLags if
// there is one that only has to catch up.
func (c *Cluster) successor(ctx context.Context, lastIndex uint64) (MemberID, error) {
	committed, _ := c.configurations.get()
	err := errors.New("no other director is a voter")
	for _, id := range committed.voters().Members {
		p, ok := c.peers[id.Node()]
		if !ok || p.Witness {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, c.timing.Heartbeat)
		var f fitness
		callErr := c.Call(ctx, p.Name, methodFitness, struct{}{}, &f)
		cancel()
		switch {
		case callErr != nil:
			err = callErr
		case !f.Fit:
			err = fmt.Errorf("%s cannot write its log", p.Name)
		case f.LastIndex < lastIndex:
			err = fmt.Errorf("%s: %w", p.Name, errLags)
		default:
			return id, nil
		}
	}
	return "", fmt.Errorf("find a director to lead: %w", err)
}

// leading is called when this member has begun to lead in term.
func (c *Cluster) leading(h *raftHost, term uint64) {
	var founded string
	h.replica.read(func(s *fsm.State) { founded = s.ClusterID() })
	cmd := fsm.Command{Time: fsm.WallOf(time.Now()), Node: c.cfg.Node}
	force := c.dir.Record().Force
	switch id := c.id(); {
	case force != nil && force.ClusterID == id && founded != id:
		cmd.ID, cmd.Force = "force/"+id, &force.Force
		cmd = cmd.Clip()
	case founded == "":
		cmd.ID, cmd.Found = "found/"+id, &fsm.Found{ClusterID: id}
	}
	if cmd.ID != "" {
		if _, _, err := h.propose(cmd); err != nil {
			c.log.Warn("cluster id could not be written into the log", "err", err)
		}
	}
	c.wake()
	if !c.cfg.Self.Witness {
		return
	}
	// A witness leads only as long as no director can.
	for h.pause(time.Second) && h.leads(term) {
		ctx, cancel := context.WithTimeout(h.ctx, callLimit)
		err := h.handOver(ctx)
		cancel()
		if err == nil {
			return
		}
		c.log.Debug("witness keeps the leadership of the log", "err", err)
	}
}

var _ transport.Gate = (*gate)(nil)
