package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/store"
	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock/alarm"
)

// Raft's bounds. The log of a cluster is short: nothing is written while nothing changes.
const (
	trailingLogs      = 8192 // kept behind a snapshot, so that a follower rarely needs one
	snapshotThreshold = 4096 // entries
	snapshotInterval  = 2 * time.Minute
	maxAppendEntries  = 64
	logCacheSize      = 256
	raftConnections   = 2 // kept open per peer
	openProposals     = 256
	openPulses        = 16               // of a leader that are not answered yet: more come only while raft hangs
	lookAnyway        = 30 * time.Second // who leads is looked up that often even if raft says nothing: its changes may get lost
	shutdownWait      = 3 * time.Second
)

// tricks can be switched off to measure what they bring.
type tricks struct{ poke, rank, retry bool }

var allTricks = tricks{poke: true, rank: true, retry: true}

// raftHost is one raft object and what belongs to it. It is made anew when raft has to be.
type raftHost struct {
	c       *Cluster
	self    MemberID
	timing  timing
	tricks  tricks
	log     *store.Log
	replica *replica
	stream  *raftStream
	network *raft.NetworkTransport
	trans   *raftTransport
	raft    *raft.Raft
	running chan struct{} // closed when raft is set
	started time.Time

	ctx    context.Context // ends with the host
	cancel context.CancelFunc
	work   sync.WaitGroup

	lastLeader atomic.Pointer[MemberID] // the newest leader known, also while there is none
	proposals  chan struct{}            // one token per open proposal
	contact    chan struct{}            // 1: this member has answered its leader
	ask        chan struct{}            // 1: this member, if it leads, is to ask its followers now
	last       atomic.Uint64            // index of the newest entry that was written in this life
	verifying  atomic.Int64             // calls of verify under way: heartbeats do not wait for company
	spreading  atomic.Int64             // changes that followers are to hear of at once; zero: none is under way

	mu         sync.Mutex
	leadership Leadership
	since      time.Time
	handedOver uint64 // term in which a transfer was tried
}

func (h *raftHost) health() *store.Health { return h.log.Health() }

// startRaft makes a raft object on the open log. It blocks on the disk. first is the configuration of a cluster that is
// founded now, or nil.
func (c *Cluster) startRaft(log *store.Log, first *raft.Configuration) (h *raftHost, err error) {
	defer func() {
		// NewRaft panics on a log that it cannot make sense of.
		if r := recover(); r != nil {
			err = fmt.Errorf("start raft: %v", r)
		}
		if err != nil && h != nil {
			h.cancel()
			h.closeTransport()
			h = nil
		}
	}()
	logger := newLibraryLog(c.log, "raft")
	snapshots, err := c.dir.OpenSnapshots(store.SnapshotHooks{
		Configuration: c.configurations.commit,
		Looping:       func(err error) { c.condemn(fmt.Sprintf("its log cannot be brought up to date: %v", err)) },
	}, logger)
	if err != nil {
		return nil, err
	}
	h = &raftHost{c: c, self: c.self, timing: c.timing, tricks: c.tricks, log: log, started: time.Now(),
		running: make(chan struct{}), proposals: make(chan struct{}, openProposals), contact: make(chan struct{}, 1),
		ask: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.replica = newReplica(h.ifCurrent(func(a Applied) { c.box.put(a) }), c.configurations.commit, c.fail)
	h.stream = newRaftStream(h.self, c.mux, c.targetOf)
	h.network = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: h.stream, MaxPool: raftConnections, MaxRPCsInFlight: 1, Timeout: h.timing.Transport, Logger: logger,
	})
	h.trans = newRaftTransport(h.network, h)
	cache, err := raft.NewLogCache(logCacheSize, appended{log, h})
	if err != nil {
		return h, fmt.Errorf("start raft: %w", err)
	}
	config := c.raftConfig()
	config.Logger = logger
	if first != nil {
		if err := raft.BootstrapCluster(config, cache, log, snapshots, h.trans, *first); err != nil {
			return h, fmt.Errorf("write the first configuration: %w", err)
		}
	}
	h.raft, err = raft.NewRaft(config, h.replica, cache, log, snapshots, h.trans)
	if err != nil {
		return h, fmt.Errorf("start raft: %w", err)
	}
	close(h.running)
	h.work.Add(2)
	go h.watchLeadership()
	go h.watchContact()
	return h, nil
}

func (c *Cluster) raftConfig() *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(c.self)
	config.HeartbeatTimeout = c.timing.Heartbeat
	config.ElectionTimeout = c.timing.Heartbeat
	config.LeaderLeaseTimeout = c.timing.Lease
	config.CommitTimeout = c.timing.Commit
	config.MaxAppendEntries = maxAppendEntries
	config.TrailingLogs = trailingLogs
	config.SnapshotThreshold = snapshotThreshold
	config.SnapshotInterval = snapshotInterval
	config.ShutdownOnRemove = false
	config.NoLegacyTelemetry = true
	return config
}

// ifCurrent keeps a host that was given up from reporting.
func (h *raftHost) ifCurrent(f func(Applied)) func(Applied) {
	return func(a Applied) {
		if h.ctx.Err() == nil {
			f(a)
		}
	}
}

// stop ends raft. A raft object that is stuck in a write is left behind after a while; ended is closed when it has really
// ended.
func (h *raftHost) stop() (ended <-chan struct{}) {
	h.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.raft.Shutdown().Error()
		h.work.Wait()
	}()
	h.closeTransport()
	select {
	case <-done:
	case <-time.After(shutdownWait):
	}
	return done
}

func (h *raftHost) closeTransport() {
	_ = h.network.Close() // the listener; it has no other errors
	h.network.CloseStreams()
}

// pause waits, unless the host ends.
func (h *raftHost) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-h.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// hasten has everything go out that waits for company, and what rests look again.
func (h *raftHost) hasten() {
	h.trans.stir()
	for _, link := range h.c.links {
		link.Hasten()
	}
}

// appended is the log as raft writes it, with word of what is new. A leader that tells a follower nothing new, and waits for company to
// do it, cannot send it a new entry before that has been answered: at best while the entry is written, and after that if it began
// meanwhile.
type appended struct {
	raft.LogStore
	host *raftHost
}

// StoreLogs implements raft.LogStore.
func (a appended) StoreLogs(entries []*raft.Log) error {
	a.host.hasten()
	err := a.LogStore.StoreLogs(entries)
	if err == nil && len(entries) > 0 {
		a.host.last.Store(entries[len(entries)-1].Index)
		a.host.hasten()
	}
	return err
}

// runs tells whether raft is there.
func (h *raftHost) runs() bool {
	select {
	case <-h.running:
		return true
	default:
		return false
	}
}

// header is that of requests and answers that raft does not make itself.
func (h *raftHost) header() raft.RPCHeader { return headerOf(h.self) }

func headerOf(member MemberID) raft.RPCHeader {
	id := []byte(member)
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: id, Addr: id}
}

// electionTimeout is how long a candidate waits for votes: each costs its voter two writes, after two of the candidate's.
func (h *raftHost) electionTimeout() time.Duration {
	const longest = 30 * time.Second
	return min(max(h.timing.Heartbeat, 8*h.health().Recent()), longest)
}

// answerWhileWriting answers a heartbeat of the present leader while raft's main loop waits for the disk; nil if that is
// not so. Nothing that the answer says can change before the write has ended.
func (h *raftHost) answerWhileWriting(q *raft.AppendEntriesRequest) *raft.AppendEntriesResponse {
	if !h.runs() {
		return nil
	}
	term := h.raft.CurrentTerm()
	_, leader := h.raft.LeaderWithID()
	if !h.health().Writing() || h.raft.State() != raft.Follower || q.Term != term || leader != raft.ServerID(q.ID) {
		return nil
	}
	return &raft.AppendEntriesResponse{RPCHeader: h.header(), Term: term, LastLog: h.raft.LastIndex(), Success: true}
}

// rankDelay is how long this member lets others ask for votes first. Directors come before witnesses, in the order of
// their names; the last leader does not count, because it is the one that is gone.
func (h *raftHost) rankDelay() time.Duration {
	var gone string
	if last := h.lastLeader.Load(); last != nil {
		gone = last.Node()
	}
	return time.Duration(h.c.rank(gone)) * h.rankStep()
}

// rankStep is how long an election takes, and so how much longer the next in rank waits.
func (h *raftHost) rankStep() time.Duration {
	return h.timing.rankStep(h.health().Recent(), h.c.roundTrip())
}

// watchContact has a leader ask its followers when this member is awake, and a follower notice a dead leader after T instead of up to
// 3 T: lowering HeartbeatTimeout makes raft look at its timer at once.
func (h *raftHost) watchContact() {
	defer h.work.Done()
	if !h.tricks.poke {
		return
	}
	t := h.timing.Heartbeat
	set := func(heartbeat, election time.Duration) {
		reload := h.raft.ReloadableConfig()
		reload.HeartbeatTimeout, reload.ElectionTimeout = heartbeat, election
		if err := h.raft.ReloadConfig(reload); err != nil {
			h.c.log.Error("raft's timeouts cannot be set", "err", err)
		}
	}
	states, end := h.observe(1, func(data any) bool { _, state := data.(raft.RaftState); return state })
	defer end()
	var timer alarm.Alarm
	defer timer.Stop()
	for {
		election := h.electionTimeout()
		contact := h.raft.LastContact()
		if contact.Before(h.started) {
			contact = h.started
		}
		wait := time.Until(contact.Add(t)) + time.Millisecond
		if wait <= 0 {
			wait = t / 10
			switch h.raft.State() {
			case raft.Follower:
				if h.health().Fit() {
					set(t+time.Millisecond, election+time.Millisecond)
					set(t, election)
				}
			case raft.Candidate:
				set(t, election) // counts from its next try on
			case raft.Leader:
				// Its followers' timeouts are theirs; its own only says how often it sends heartbeats.
				if beat := beats * h.timing.Beat; h.raft.ReloadableConfig().HeartbeatTimeout != beat {
					set(beat, max(beat, election))
				}
				wait = lookAnyway
			}
		}
		timer.Set(wait)
		select {
		case <-h.ctx.Done():
			return
		case <-states:
		case <-h.contact:
		case <-h.ask:
			h.raft.VerifyLeader() // which has raft send heartbeats; nobody needs what becomes of it
		case <-timer.C:
		}
	}
}

// observe returns what raft says of itself, as far as it is wanted, until end is called. What does not fit into the channel is lost.
func (h *raftHost) observe(size int, wanted func(data any) bool) (said <-chan raft.Observation, end func()) {
	all := make(chan raft.Observation, size)
	observer := raft.NewObserver(all, false, func(o *raft.Observation) bool { return wanted(o.Data) })
	h.raft.RegisterObserver(observer)
	return all, func() { h.raft.DeregisterObserver(observer) }
}

// watchLeadership reports who leads.
func (h *raftHost) watchLeadership() {
	defer h.work.Done()
	changes, end := h.observe(64, func(data any) bool {
		switch data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	defer end()
	tick := time.NewTicker(lookAnyway)
	defer tick.Stop()
	var led uint64 // the term for which leading was started
	for {
		h.trans.stir()
		term := h.raft.CurrentTerm()
		_, id := h.raft.LeaderWithID()
		leader := MemberID(id)
		leading := h.raft.State() == raft.Leader
		if leader != "" {
			h.lastLeader.Store(&leader)
		}
		switch {
		case leading && led != term:
			led = term
			h.work.Add(1)
			go h.lead(term)
		case leading: // lead reports
		default:
			if leader == h.self {
				leader = ""
			}
			h.report(Leadership{Leader: leader, Term: term})
		}
		select {
		case <-h.ctx.Done():
			h.report(Leadership{Term: term})
			return
		case <-changes:
		case <-tick.C:
		}
	}
}

func (h *raftHost) report(l Leadership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leadership == l {
		return
	}
	if h.leadership.Leader != l.Leader {
		h.since = time.Now()
		h.c.log.Info("leader of the log", "leader", string(l.Leader), "term", l.Term)
		h.c.wake()
	}
	h.leadership = l
	h.c.box.put(l)
}

func (h *raftHost) current() (Leadership, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leadership, h.since
}

// leads tells whether this member led in term a moment ago.
func (h *raftHost) leads(term uint64) bool {
	return h.ctx.Err() == nil && h.raft.State() == raft.Leader && h.raft.CurrentTerm() == term
}

// lead begins a term as leader: when all earlier entries are applied here it is reported.
func (h *raftHost) lead(term uint64) {
	defer h.work.Done()
	var stuck time.Time
	for h.leads(term) {
		err := h.barrier(term)
		switch {
		case err == nil:
			if h.leads(term) {
				h.report(Leadership{Leader: h.self, Term: term, Self: true})
				h.c.leading(h, term)
			}
			return
		case errors.Is(err, raft.ErrLeadershipTransferInProgress):
			// raft#696: after an interrupted transfer this answer may come for ever.
			if stuck.IsZero() {
				stuck = time.Now()
			}
			if time.Since(stuck) > 2*h.timing.Heartbeat+h.timing.Transport {
				h.c.rebuild(h, "it answers every proposal with: "+err.Error())
				return
			}
		}
		if !h.pause(20 * time.Millisecond) {
			return
		}
	}
}

// barrier waits until all that was committed before term is applied, or until this member does not lead any more. One
// entry is enough, however long a slow disk takes for it.
func (h *raftHost) barrier(term uint64) error {
	if seam := h.c.cfg.seams.barrier; seam != nil {
		if err := seam(); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go func() { done <- h.raft.Barrier(h.timing.Transport).Error() }()
	for {
		select {
		case err := <-done:
			return err
		case <-h.ctx.Done():
			return ErrClosed
		case <-time.After(h.timing.Heartbeat):
			if !h.leads(term) {
				return ErrNotLeader
			}
		}
	}
}

var errFutureTimeout = errors.New("raft did not answer in time")

// wait bounds the wait for a future. Raft's futures have no deadline: they hang while its main loop does.
func (h *raftHost) wait(future raft.Future, limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- future.Error() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errFutureTimeout
	case <-h.ctx.Done():
		return h.ctx.Err()
	}
}

// mayPropose tells whether it is worth starting a proposal.
func (h *raftHost) mayPropose() bool { return h.raft.State() == raft.Leader }

// propose commits a command and returns its result. The error is ErrNotLeader if nothing was proposed, ErrBusy if too
// many proposals are open, else the outcome is unknown.
func (h *raftHost) propose(cmd fsm.Command) (index uint64, result fsm.Result, err error) {
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		return 0, fsm.Result{}, err
	}
	if !h.mayPropose() {
		return 0, fsm.Result{}, ErrNotLeader
	}
	select {
	case h.proposals <- struct{}{}:
	default:
		return 0, fsm.Result{}, ErrBusy
	}
	limit := max(2*time.Second, 4*h.timing.Heartbeat, h.electionTimeout())
	future := h.raft.Apply(data, limit)
	released := make(chan error, 1)
	go func() {
		// A future of a raft object that hangs keeps its token: that bounds what piles up.
		err := future.Error()
		<-h.proposals
		released <- err
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err = <-released:
	case <-t.C:
		err = ErrUnknown
	case <-h.ctx.Done():
		err = ErrUnknown
	}
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return 0, fsm.Result{}, ErrNotLeader
	case err != nil:
		return 0, fsm.Result{}, fmt.Errorf("commit: %w", err)
	}
	if concernsAll(cmd.Kind()) {
		h.spread()
	}
	switch answer := future.Response().(type) {
	case fsm.Result:
		return future.Index(), answer, nil
	case error:
		return future.Index(), fsm.Result{}, answer
	default:
		return future.Index(), fsm.Result{}, fmt.Errorf("commit: unexpected answer %T", answer)
	}
}

// concernsAll tells whether every director acts on a command, and not only whoever is told of its outcome.
func concernsAll(k fsm.Kind) bool {
	return k == fsm.KindSeed || k == fsm.KindBalance || k == fsm.KindVerdicts
}

// spread lets the followers know at once what is committed. By itself raft says it with the next entry, or when an idle leader
// next speaks (timing.Commit); so there is a next entry. One at a time will do, and one more for what was committed meanwhile.
func (h *raftHost) spread() {
	if h.spreading.Add(1) > 1 {
		return
	}
	go func() {
		for before := h.spreading.Load(); ; before = h.spreading.Load() {
			if err := h.raft.Barrier(h.timing.Transport).Error(); err != nil {
				h.c.log.Debug("followers hear of a change later", "err", err)
			}
			if h.spreading.CompareAndSwap(before, 0) {
				return
			}
		}
	}()
}

// verify returns nil if this member led at some moment after the call, and has applied all that was committed before.
func (h *raftHost) verify(ctx context.Context) error {
	commit := h.raft.CommitIndex()
	limit := h.timing.Transport
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	if h.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	h.verifying.Add(1)
	defer h.verifying.Add(-1)
	h.hasten()
	verified := make(chan error, 1)
	go func() { verified <- h.raft.VerifyLeader().Error() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-verified:
		if err != nil {
			return ErrNotLeader
		}
	case <-t.C:
		return ErrUnknown
	case <-ctx.Done():
		return ctx.Err()
	}
	for h.raft.AppliedIndex() < commit {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !h.pause(time.Millisecond) {
			return ErrClosed
		}
	}
	return nil
}

// handOver gives the leadership to a director that answers, has a working disk and the whole log. At most one attempt is
// made in a term: one that is interrupted may leave raft unusable (raft#696).
func (h *raftHost) handOver(ctx context.Context) error {
	term := h.raft.CurrentTerm()
	if h.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	to, err := h.ready(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	tried := h.handedOver == term
	h.handedOver = term
	h.mu.Unlock()
	if tried {
		return errors.New("handing over has been tried in this term")
	}
	h.c.log.Info("handing over the leadership of the log", "to", string(to), "term", term)
	future := h.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
	return h.wait(future, 2*h.timing.Heartbeat+h.timing.Transport)
}

// ready waits for a director that may lead, with a connection over which it can be told so: the one that raft kept from an
// earlier request may have ended. It waits for what a moment brings, and not longer than an election takes to begin.
func (h *raftHost) ready(ctx context.Context) (MemberID, error) {
	ctx, cancel := context.WithTimeout(ctx, h.timing.Heartbeat)
	defer cancel()
	for {
		to, err := h.c.successor(ctx, h.raft.LastIndex())
		if err == nil {
			if err = h.trans.warm(to); err == nil {
				return to, nil
			}
		} else if !errors.Is(err, errLags) {
			return "", err
		}
		if !h.pause(h.timing.Heartbeat/20) || ctx.Err() != nil {
			return "", err
		}
	}
}

// targetOf is where a member is connected to.
func (c *Cluster) targetOf(member MemberID) (transport.Target, error) {
	t, err := c.targetNode(member.Node())
	t.Member = string(member)
	return t, err
}
