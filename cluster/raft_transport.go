package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/transport"
)

var (
	errStalled = errors.New("a write of this member's log is stuck: it must not look alive as the leader")
	errUnfit   = errors.New("this member cannot write its log: it does not ask for votes")
	errBusy    = errors.New("raft has not answered earlier questions")
	errMoot    = errors.New("this election is over")
)

// raftTransport changes what hashicorp/raft does on the wire, through its public interface only.
//
//   - Heartbeats go through raft's main loop. Its fast path changes term and state beside the main loop, which breaks
//     raft's own guarantees (raft#695). Only while the main loop waits for the disk a heartbeat is
//     answered here, with what is true at that moment and without changing anything: otherwise a leader whose followers
//     have slow disks would lose its office with every entry.
//   - What adds nothing to a log, heartbeats and repeats of the commit index, goes over the links, along with other messages (pulse.go).
//     What a follower has answered is not repeated for long.
//   - A leader whose disk hangs falls silent, so that another one is elected: raft's heartbeats do not depend on the disk.
//   - A member that cannot write does not ask for votes, so that it does not win again and again.
//   - What replicates the log to a member that does not answer is repeated here, at a steady pace. Raft itself pauses for longer and
//     longer, up to ten seconds, in which a member that is back would know nothing of what has been committed.
//   - Pre-votes are delayed by rank and repeated when refused: after the death of a leader all survivors look at their
//     timers at about the same moment, the preferred one asks first, and a voter that has noticed the death a few
//     milliseconds later does not cost it a whole election timeout.
//   - Two that ask each other do not both go on to the vote, which neither would win: whoever asks for votes gives no pre-vote in that
//     term, and whoever has given one to a member that is preferred to itself does not make use of those that it gets.
type raftTransport struct {
	*raft.NetworkTransport
	host    *raftHost
	rpcs    chan raft.RPC // what raft's main loop reads
	pulses  chan struct{} // a token for each question of a leader that raft has not answered yet
	yielded atomic.Int64  // when a pre-vote was given to a preferred member, since the start of the host

	mu        sync.Mutex
	followers map[MemberID]*follower
	stirred   chan struct{} // closed when what rests is to look again
	asked     time.Time     // when heartbeats were last asked for along with a message
}

var _ raft.WithPreVote = (*raftTransport)(nil)

// newRaftTransport wraps a transport. Requests are passed on until the host ends.
func newRaftTransport(network *raft.NetworkTransport, host *raftHost) *raftTransport {
	t := &raftTransport{NetworkTransport: network, host: host, rpcs: make(chan raft.RPC), pulses: make(chan struct{}, openPulses),
		followers: map[MemberID]*follower{}, stirred: make(chan struct{})}
	host.work.Go(func() {
		for {
			select {
			case <-host.ctx.Done():
				return
			case rpc := <-network.Consumer():
				if q, ok := rpc.Command.(*raft.RequestPreVoteRequest); ok && host.runs() {
					t.passPreVote(rpc, q)
				} else {
					t.pass(rpc)
				}
			}
		}
	})
	return t
}

func (t *raftTransport) pass(rpc raft.RPC) {
	select {
	case t.rpcs <- rpc:
	case <-t.host.ctx.Done():
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}

// passPreVote refuses a pre-vote in a term in which this member asks for votes itself, and takes note of one that raft gives to a
// preferred member.
func (t *raftTransport) passPreVote(rpc raft.RPC, q *raft.RequestPreVoteRequest) {
	if term := t.host.raft.CurrentTerm(); t.host.raft.State() == raft.Candidate && term == q.Term {
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: t.host.header(), Term: term}, nil)
		return
	}
	if !t.host.c.preferred(MemberID(q.ID).Node()) {
		t.pass(rpc)
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	t.pass(raft.RPC{Command: q, RespChan: answer})
	t.host.work.Go(func() {
		select {
		case <-t.host.ctx.Done():
			rpc.Respond(nil, raft.ErrTransportShutdown)
		case a := <-answer:
			if r, ok := a.Response.(*raft.RequestPreVoteResponse); ok && r.Granted {
				t.yielded.Store(int64(time.Since(t.host.started)))
			}
			rpc.RespChan <- a
		}
	})
}

// yields tells whether a preferred member may still be winning an election with the pre-vote of this one.
func (t *raftTransport) yields() bool {
	at := time.Duration(t.yielded.Load())
	return at != 0 && time.Since(t.host.started) < at+t.host.rankStep()
}

// Consumer implements raft.Transport.
func (t *raftTransport) Consumer() <-chan raft.RPC { return t.rpcs }

// SetHeartbeatHandler implements raft.Transport. It does not let raft have its fast path.
func (t *raftTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// heartbeat has raft, which is busy, answer a heartbeat, and answers it itself while raft waits for the disk.
func (t *raftTransport) heartbeat(rpc raft.RPC) {
	timer := time.NewTimer(t.host.timing.Heartbeat / 20)
	defer timer.Stop()
	select {
	case t.rpcs <- rpc:
		return
	case <-t.host.ctx.Done():
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return
	case <-timer.C:
	}
	if q, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
		if answer := t.host.answerWhileWriting(q); answer != nil {
			rpc.Respond(answer, nil)
			return
		}
	}
	t.pass(rpc)
}

// AppendEntriesPipeline implements raft.Transport.
func (t *raftTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t *raftTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest,
	r *raft.AppendEntriesResponse) error {
	ask := func() error {
		if t.host.health().Stalled() {
			return errStalled
		}
		if len(q.Entries) == 0 {
			return t.askPulse(MemberID(id), q, r)
		}
		*r = raft.AppendEntriesResponse{}
		return t.NetworkTransport.AppendEntries(id, to, q, r)
	}
	if heartbeat(q) {
		return ask() // raft repeats it soon enough
	}
	t.rest(id, q)
	return t.insist(id, q.Term, ask)
}

// rest waits while a question asks of a follower what that one has answered already: raft repeats it for ever, and a leader that rests
// does so once in a while. It does not wait while something is not committed yet: nobody says when it is.
func (t *raftTransport) rest(id raft.ServerID, q *raft.AppendEntriesRequest) {
	if q.LeaderCommitIndex < q.PrevLogEntry {
		return
	}
	over := time.NewTimer(t.host.timing.Repeat)
	defer over.Stop()
	for {
		t.mu.Lock()
		told, stirred := t.follower(MemberID(id)).told, t.stirred
		t.mu.Unlock()
		if told != newsOf(q) || t.host.last.Load() > q.PrevLogEntry || !t.replicates(id, q.Term) {
			return
		}
		select {
		case <-t.host.ctx.Done():
			return
		case <-over.C:
			return
		case <-stirred:
		}
	}
}

// stir has what rests look again.
func (t *raftTransport) stir() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.stirred)
	t.stirred = make(chan struct{})
}

// forget takes it that a node may have forgotten what it was told, by a start. What it has answered until now does not count.
func (t *raftTransport) forget(node string) {
	t.mu.Lock()
	maps.DeleteFunc(t.followers, func(id MemberID, _ *follower) bool { return id.Node() == node })
	t.mu.Unlock()
	t.stir()
}

// askPulse has a follower answer what adds nothing to its log.
func (t *raftTransport) askPulse(id MemberID, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	ctx, cancel := context.WithTimeout(t.host.ctx, t.host.timing.Transport)
	defer cancel()
	beat, news := heartbeat(q), newsOf(q)
	t.mu.Lock()
	f := t.follower(id)
	before := *f
	if beat {
		f.asking++
		defer func() {
			t.mu.Lock()
			f.asking--
			t.mu.Unlock()
		}()
	}
	t.mu.Unlock()
	patience := t.host.timing.Company
	if beat {
		patience = min(patience, time.Until(before.answered.Add(t.host.timing.Silence)))
	}
	haste := func() bool {
		return t.host.verifying.Load() > 0 || !beat && (before.told != news || t.host.last.Load() > q.PrevLogEntry)
	}
	if haste() {
		patience = 0
	}
	a, err := t.host.c.askPulse(ctx, id, q, patience, haste)
	if err != nil {
		return err
	}
	*r = raft.AppendEntriesResponse{RPCHeader: headerOf(id), Term: a.Term, LastLog: a.LastLog, Success: a.Success,
		NoRetryBackoff: a.NoBackoff}
	t.mu.Lock()
	switch {
	case !a.Success:
		f.told = commitNews{}
	case beat:
		f.answered = time.Now()
	default:
		f.told = news
	}
	t.mu.Unlock()
	if !a.Success {
		t.stir() // raft learns of a later term from what rests, and not from heartbeats
	}
	return nil
}

// awake has a leader ask its followers: this member is awake for a message, and raft's own timer would wake it for that alone.
func (t *raftTransport) awake() {
	if t.host.timing.Silence == 0 || t.host.raft.State() != raft.Leader {
		return
	}
	t.mu.Lock()
	now, due := time.Now(), false
	for _, f := range t.followers {
		due = due || f.asking == 0 && now.Sub(f.answered) >= t.host.timing.Beat/2
	}
	if due = due && now.Sub(t.asked) >= t.host.timing.Beat/2; due {
		t.asked = now
	}
	t.mu.Unlock()
	if due {
		nudge(t.host.ask)
	}
}

// follower is what this member as leader has heard from another one.
type follower struct {
	asking   int       // heartbeats under way
	answered time.Time // when it answered the newest one
	told     commitNews
}

// commitNews is what an idle leader tells a follower of its log: how far it goes, and how far it is committed.
type commitNews struct{ term, last, commit uint64 }

func newsOf(q *raft.AppendEntriesRequest) commitNews {
	return commitNews{q.Term, q.PrevLogEntry, q.LeaderCommitIndex}
}

// follower is what this member has heard from another one. The caller holds mu.
func (t *raftTransport) follower(id MemberID) *follower {
	f := t.followers[id]
	if f == nil {
		f = &follower{}
		t.followers[id] = f
	}
	return f
}

// pulse has raft answer a question of a member that leads. It does not block.
func (t *raftTransport) pulse(from MemberID, p pulse) {
	q := &raft.AppendEntriesRequest{RPCHeader: headerOf(from), Term: p.Term,
		PrevLogEntry: p.PrevLogEntry, PrevLogTerm: p.PrevLogTerm, LeaderCommitIndex: p.Commit}
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: q, RespChan: answer}
	select {
	case t.rpcs <- rpc:
		// Raft has nothing else to do. If its answer is there before whatever came along with the question is worked on, it goes along with
		// the answer to that.
		runtime.Gosched()
		select {
		case a := <-answer:
			t.answerPulse(from, p, a)
		default:
			go t.awaitAnswer(from, p, answer)
		}
		return
	default:
	}
	select {
	case t.pulses <- struct{}{}:
	default:
		t.answerPulse(from, p, raft.RPCResponse{Error: errBusy})
		return
	}
	go func() {
		defer func() { <-t.pulses }()
		if heartbeat(q) {
			t.heartbeat(rpc)
		} else {
			t.pass(rpc)
		}
		t.awaitAnswer(from, p, answer)
	}()
}

func (t *raftTransport) awaitAnswer(from MemberID, p pulse, answer <-chan raft.RPCResponse) {
	select {
	case <-t.host.ctx.Done():
		t.answerPulse(from, p, raft.RPCResponse{Error: raft.ErrTransportShutdown})
	case a := <-answer:
		t.answerPulse(from, p, a)
	}
}

func (t *raftTransport) answerPulse(from MemberID, p pulse, answer raft.RPCResponse) {
	r, ok := answer.Response.(*raft.AppendEntriesResponse)
	if !ok || answer.Error != nil {
		t.host.c.sendPulse(from, pulse{Kind: pulseRefusal, ID: p.ID})
		return
	}
	t.host.c.sendPulse(from, pulse{Kind: pulseAnswer, ID: p.ID, Term: r.Term, LastLog: r.LastLog, Success: r.Success,
		NoBackoff: r.NoRetryBackoff})
	nudge(t.host.contact)
}

// InstallSnapshot implements raft.Transport. A snapshot can be read only once, so that the member has to answer first.
func (t *raftTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest,
	r *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.insist(id, q.Term, func() error { return t.warm(MemberID(id)) }); err != nil {
		return err
	}
	return t.NetworkTransport.InstallSnapshot(id, to, q, r, data)
}

// insist repeats a request to a member until it is answered, as long as this member leads the log in that term and the other one is to
// have it.
func (t *raftTransport) insist(id raft.ServerID, term uint64, ask func() error) error {
	for wait := firstInsist; ; wait = min(2*wait, t.host.timing.Heartbeat/5) {
		err := ask()
		if err == nil || errors.Is(err, errStalled) || !t.host.pause(wait) || !t.replicates(id, term) {
			return err
		}
	}
}

// firstInsist is the first pause between two requests of the same kind; the next ones are twice as long each.
const firstInsist = 10 * time.Millisecond

func (t *raftTransport) replicates(id raft.ServerID, term uint64) bool {
	members := t.host.raft.GetConfiguration().Configuration().Servers
	return t.host.raft.State() == raft.Leader && t.host.raft.CurrentTerm() == term &&
		slices.ContainsFunc(members, func(s raft.Server) bool { return s.ID == id })
}

// RequestVote implements raft.Transport. Raft calls it on a goroutine of its own.
func (t *raftTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest,
	r *raft.RequestVoteResponse) error {
	if !t.host.health().Fit() {
		return errUnfit
	}
	// A voter answers once its vote is on its disk, which may take longer than a request may.
	return t.persist(t.host.electionTimeout(), func() (again bool, err error) {
		if t.host.raft.State() != raft.Candidate || t.host.raft.CurrentTerm() != q.Term {
			return false, errMoot
		}
		*r = raft.RequestVoteResponse{}
		err = t.NetworkTransport.RequestVote(id, to, q, r)
		return err != nil, err // the connection may have been one that had ended
	})
}

// RequestPreVote implements raft.WithPreVote. Raft calls it on a goroutine of its own.
func (t *raftTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest,
	r *raft.RequestPreVoteResponse) error {
	if !t.host.health().Fit() {
		return errUnfit
	}
	if t.host.tricks.rank {
		if delay := t.host.rankDelay(); delay > 0 && !t.host.pause(delay) {
			return errMoot
		}
	}
	return t.persist(t.host.timing.Heartbeat*2/3, func() (again bool, err error) {
		if t.host.raft.State() != raft.Candidate || t.host.raft.CurrentTerm() >= q.Term {
			return false, errMoot
		}
		*r = raft.RequestPreVoteResponse{}
		if !t.yields() {
			err = t.NetworkTransport.RequestPreVote(id, to, q, r)
		}
		r.Granted = r.Granted && !t.yields()
		return err != nil || !r.Granted && r.Term <= q.Term, err
	})
}

// persist repeats a request for a vote until it is answered for good, or for a while: at once if it went into a connection
// that had ended, of which raft may have kept some; quickly as long as voters may not have noticed the death of the leader
// yet, then more rarely.
func (t *raftTransport) persist(limit time.Duration, ask func() (again bool, err error)) error {
	heartbeat := t.host.timing.Heartbeat
	start := time.Now()
	for tries := 1; ; tries++ {
		again, err := ask()
		if again && err != nil && tries <= raftConnections {
			continue
		}
		past := time.Since(start)
		wait := heartbeat / 50
		if past > heartbeat/5 {
			wait = heartbeat / 10
		}
		if !again || !t.host.tricks.retry || past > limit || !t.host.pause(wait) {
			return err
		}
	}
}

// warm opens a connection to another voter, so that an election or a handover does not have to. What it asks for is a vote in no
// term, which nobody gives and which changes nothing.
func (t *raftTransport) warm(voter MemberID) error {
	q := &raft.RequestPreVoteRequest{RPCHeader: t.host.header()}
	return t.NetworkTransport.RequestPreVote(raft.ServerID(voter), raft.ServerAddress(voter), q, &raft.RequestPreVoteResponse{})
}

// raftStream is the stream layer of raft's network transport: raft's addresses are member ids, and a connection reaches
// the member that it names or nobody.
//
// Raft asks for a connection with every request that finds none, and gives up after a while. Dialing goes on without
// it, and the connection serves the next request: on a machine that is short of computing, requests that each start a
// greeting of their own would never see one finished.
type raftStream struct {
	self     MemberID
	mux      *transport.Mux
	target   func(MemberID) (transport.Target, error)
	incoming chan net.Conn
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc

	mu    sync.Mutex
	peers map[MemberID]*raftPeer
	conns map[net.Conn]struct{} // outgoing, open
}

// raftPeer is the dialing of one member.
type raftPeer struct {
	dialing int
	waiting []chan dialed // of requests, oldest first; each has room for one
	spare   []net.Conn    // that nobody waited for any more
}

type dialed struct {
	conn net.Conn
	err  error
}

// Bounds of dialing one member.
const (
	maxRaftDials  = 2
	raftDialLimit = 5 * time.Second
)

// acceptQueue is how many connections may wait for raft to take them; it does so at once.
const acceptQueue = 16

func newRaftStream(self MemberID, mux *transport.Mux, target func(MemberID) (transport.Target, error)) *raftStream {
	s := &raftStream{self: self, mux: mux, target: target, incoming: make(chan net.Conn, acceptQueue),
		peers: map[MemberID]*raftPeer{}, conns: map[net.Conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// handedOver is a connection that raft works on, while the goroutine that accepted it waits for its end.
type handedOver struct {
	net.Conn
	done chan struct{}
	once sync.Once
}

func (h *handedOver) Close() error {
	err := h.Conn.Close()
	h.once.Do(func() { close(h.done) })
	return err
}

// serve gives an incoming connection to raft and returns when raft has closed it.
func (s *raftStream) serve(conn *transport.Conn) {
	h := &handedOver{Conn: conn, done: make(chan struct{})}
	select {
	case s.incoming <- h:
	case <-s.ctx.Done():
		return
	default:
		return
	}
	select {
	case <-h.done:
	case <-s.ctx.Done():
		_ = h.Close()
	}
}

// Accept implements net.Listener.
func (s *raftStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. All connections end too, so that no request of raft's waits for its timeout.
func (s *raftStream) Close() error {
	s.cancel()
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	return nil
}

// tracked is an outgoing connection.
type tracked struct {
	net.Conn
	stream *raftStream
}

func (t *tracked) Close() error {
	t.stream.mu.Lock()
	delete(t.stream.conns, t)
	t.stream.mu.Unlock()
	return t.Conn.Close()
}

// Addr implements net.Listener.
func (s *raftStream) Addr() net.Addr { return memberAddr(s.self) }

// Dial implements raft.StreamLayer.
func (s *raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id := MemberID(address)
	to, err := s.target(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	p := s.peers[id]
	if p == nil {
		p = &raftPeer{}
		s.peers[id] = p
	}
	if n := len(p.spare); n > 0 {
		conn := p.spare[n-1]
		p.spare = p.spare[:n-1]
		s.mu.Unlock()
		return conn, nil
	}
	answer := make(chan dialed, 1)
	p.waiting = append(p.waiting, answer)
	if p.dialing < maxRaftDials {
		p.dialing++
		go s.dial(p, to)
	}
	s.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case a := <-answer:
		return a.conn, a.err
	case <-t.C:
		err = fmt.Errorf("raft connection to %s: not within %s", id, timeout)
	case <-s.ctx.Done():
		err = net.ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w chan dialed) bool { return w == answer })
	select {
	case a := <-answer: // it came at the last moment
		if a.err == nil {
			p.keep(a.conn)
		}
	default:
	}
	return nil, err
}

// dial makes connections to a member as long as requests wait for them.
func (s *raftStream) dial(p *raftPeer, to transport.Target) {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, raftDialLimit)
		conn, err := s.mux.Dial(ctx, transport.KindRaft, to, transport.DialOptions{})
		cancel()
		s.mu.Lock()
		a := dialed{err: fmt.Errorf("raft connection: %w", err)}
		if err == nil {
			t := &tracked{conn, s}
			s.conns[t] = struct{}{}
			a = dialed{conn: t}
		}
		switch {
		case len(p.waiting) > 0:
			p.waiting[0] <- a
			p.waiting = p.waiting[1:]
		case err == nil:
			p.keep(a.conn)
		}
		if s.ctx.Err() != nil && err == nil {
			go a.conn.Close() // Close did not see it
		}
		if len(p.waiting) == 0 || s.ctx.Err() != nil {
			p.dialing--
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// keep saves a connection for the next request.
func (p *raftPeer) keep(conn net.Conn) {
	p.spare = append(p.spare, conn)
	if len(p.spare) > maxRaftDials {
		go p.spare[0].Close()
		p.spare = p.spare[1:]
	}
}

// memberAddr is a member id as the address that raft compares.
type memberAddr MemberID

func (memberAddr) Network() string  { return "had" }
func (a memberAddr) String() string { return string(a) }
