package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hactl/had/cluster/store"
	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// MemberID is the raft server id of a member: node name, slash, eight hex digits of its data directory.
type MemberID = fsm.Member

// Config is what a Cluster is made of. All members must have the same Name, Key, Port, Peers and Lease.
type Config struct {
	Name    string // of the cluster
	Node    string // of this member: one of Peers
	Key     []byte // KeySize bytes, see ReadKey
	DataDir string // made with mode 0700 if it does not exist
	Port    int    // TCP, on Self.Address; gossip uses Port+1, TCP and UDP

	Self  Peer
	Peers []Peer // all members, Self included

	Lease time.Duration // D: the lease duration, from which raft's timeouts are derived
	Slack time.Duration // how late the guard of a member may be; part of the longest promise

	Version string            // of the program, shown to the peers
	Life    uint64            // random id of this process life, not zero
	Clock   func() clock.Time // the lease clock
	Logger  *slog.Logger

	// MayChange tells the leader whether the voters may be changed now: the owner of every group must have renewed with
	// the present configuration, or have lapsed. It is called about once a second while a change is due, from a
	// goroutine of this package. nil means always.
	MayChange func() bool

	seams seams
}

// seams are where tests reach in; production leaves them zero.
type seams struct {
	network transport.Network
	fault   store.Fault
	tricks  *tricks
	gossip  gossipSeams
	barrier func() error // what raft answers to a barrier, if it is not nil
}

// Peer is a configured member.
type Peer struct {
	Name    string
	Address netip.Addr
	Witness bool
}

// Cluster is this process's part in a cluster. All methods may be called from any goroutine.
type Cluster struct {
	cfg    Config
	log    *slog.Logger
	timing timing
	tricks tricks
	self   MemberID
	digest string          // of the configured peers
	peers  map[string]Peer // others
	names  []string        // of others, sorted

	dir            *store.Directory
	mux            *transport.Mux
	links          map[string]*transport.Link
	gossip         *gossip
	pulses         pulses
	box            *mailbox
	configurations *configurations
	limit          limiter
	handlers       map[string]Handler
	kick           chan struct{} // something happened that the steward should look at
	failed         chan error    // capacity 1
	notes          chan noteRun  // run numbers of peers to remember

	closeOnce sync.Once
	closeErr  error

	mu         sync.Mutex
	running    bool
	clusterID  string
	removed    string
	text       string // what founding or joining waits for
	meetings   map[string]*meeting
	refusals   []Refusal
	raftLog    *store.Log
	raft       *raftHost
	starting   chan struct{} // closed when the start of raft that is under way has ended; nil: none is
	closed     bool
	broken     string          // why raft does not run although it should
	joins      map[string]join // by node; of this member as leader
	removals   map[string]bool // nodes that an operator wants out
	voters     Voters
	changedAt  clock.Time // when the voters were last seen to change, or to be committed
	majorityAt time.Time
}

// meeting is what is known of a peer from greetings and traffic.
type meeting struct {
	hello  transport.Hello // the newest
	up     bool
	outage bool // it was up before
	err    error
	since  time.Time // of the newest change of up
	warmed *raftHost // that has a connection to it
}

// RestartError is returned by Run when this member's data turned out to be unusable, or older than what the peers know
// of it. Opening the same directory again moves it aside, and the node comes back as a new member.
type RestartError struct{ Reason string }

func (e *RestartError) Error() string { return "this member must start anew: " + e.Reason }

const maxName = 64

func (cfg *Config) check() error {
	bad := func(format string, args ...any) error { return &ConfigError{fmt.Sprintf(format, args...)} }
	if cfg.Name == "" || len(cfg.Name) > maxName {
		return bad("the name must have 1 to %d bytes", maxName)
	}
	if len(cfg.Key) != KeySize {
		return bad("the key has %d bytes instead of %d", len(cfg.Key), KeySize)
	}
	if cfg.Port < 1 || cfg.Port > 65534 {
		return bad("port %d is not in 1..65534", cfg.Port)
	}
	if cfg.Lease <= 0 {
		return bad("the lease is not positive")
	}
	if cfg.Life == 0 || cfg.Clock == nil || cfg.Logger == nil {
		return bad("life, clock and logger are required")
	}
	names, addresses := map[string]bool{}, map[netip.Addr]bool{}
	self := false
	for _, p := range cfg.Peers {
		switch {
		case p.Name == "" || len(p.Name) > maxName:
			return bad("peer %q: a name must have 1 to %d bytes", p.Name, maxName)
		case slices.Contains([]byte(p.Name), '/'):
			return bad("peer %q: a name must not have a slash in it", p.Name)
		case names[p.Name]:
			return bad("peer %s is there twice", p.Name)
		case !p.Address.IsValid() || p.Address.IsUnspecified() || p.Address.IsMulticast():
			return bad("peer %s: %s is not an address of a machine", p.Name, p.Address)
		case addresses[p.Address]:
			return bad("peer %s: another one has the address %s", p.Name, p.Address)
		}
		names[p.Name], addresses[p.Address] = true, true
		self = self || p == cfg.Self
	}
	if !self || cfg.Self.Name != cfg.Node {
		return bad("node %s is not one of the peers", cfg.Node)
	}
	if !slices.ContainsFunc(cfg.Peers, func(p Peer) bool { return !p.Witness }) {
		return bad("all peers are witnesses")
	}
	return nil
}

// digestOf tells two lists of peers apart.
func digestOf(peers []Peer) string {
	sorted := slices.SortedFunc(slices.Values(peers), func(a, b Peer) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	h := sha256.New()
	for _, p := range sorted {
		fmt.Fprintf(h, "%s %s %t\n", p.Name, p.Address, p.Witness)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Open takes the data directory, listens on both ports and starts to look for the peers; founding or joining a cluster
// goes on in the background while Run runs. Errors that an operator can act on: *DataDirError, *DirectoryInUseError,
// *ListenError, *ConfigError. Close must be called even if Run never was.
func Open(cfg Config) (*Cluster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Logger.With("component", "cluster"), timing: timingFor(cfg.Lease), tricks: allTricks,
		digest: digestOf(cfg.Peers), peers: map[string]Peer{}, links: map[string]*transport.Link{}, box: newMailbox(),
		handlers: map[string]Handler{}, kick: make(chan struct{}, 1), failed: make(chan error, 1),
		notes: make(chan noteRun, 16), meetings: map[string]*meeting{}, joins: map[string]join{},
		removals: map[string]bool{}, changedAt: cfg.Clock(),
	}
	if cfg.seams.tricks != nil {
		c.tricks = *cfg.seams.tricks
	}
	if cfg.seams.network == nil {
		stall, _, _ := linkTimes(c.cfg.Lease)
		c.cfg.seams.network = transport.System{Stall: max(stall, shortestUserTimeout)}
	}
	for _, p := range cfg.Peers {
		if p.Name != cfg.Node {
			c.peers[p.Name] = p
			c.meetings[p.Name] = &meeting{err: errors.New("not met yet")}
		}
	}
	c.names = slices.Sorted(maps.Keys(c.peers))
	c.configurations = &configurations{changed: c.votersChanged}
	c.registerMethods()
	if err := c.openDir(); err != nil {
		return nil, err
	}
	if err := c.openNetwork(); err != nil {
		return nil, errors.Join(err, c.dir.Close())
	}
	return c, nil
}

func (c *Cluster) openDir() error {
	dir, err := store.Open(store.Options{Dir: c.cfg.DataDir, Node: c.cfg.Node, Cluster: c.cfg.Name, Logger: c.log,
		Fault: c.cfg.seams.fault})
	var inUse *store.InUseError
	switch {
	case errors.As(err, &inUse):
		return &DirectoryInUseError{Dir: c.cfg.DataDir, PID: inUse.PID}
	case err != nil:
		return &DataDirError{Dir: c.cfg.DataDir, Err: err}
	}
	record := dir.Record()
	c.dir, c.self, c.clusterID, c.removed = dir, record.Member, record.ClusterID, record.Removed
	return nil
}

func (c *Cluster) openNetwork() error {
	identity, err := transport.NewIdentity(c.cfg.Key, c.cfg.Name, c.cfg.Node)
	if err != nil {
		return err
	}
	address := netip.AddrPortFrom(c.cfg.Self.Address, uint16(c.cfg.Port))
	var from []netip.Addr
	for _, p := range c.peers {
		from = append(from, p.Address)
	}
	c.mux, err = transport.Listen(transport.Config{
		Identity: identity, Address: address, Peers: from, Gate: (*gate)(c), Network: c.cfg.seams.network, Logger: c.log,
		Handlers: map[transport.Kind]transport.Handler{
			transport.KindLink: c.serveLink,
			transport.KindCall: c.serveCall,
			transport.KindRaft: c.serveRaft,
		},
	})
	if err != nil {
		return &ListenError{Purpose: "cluster", Network: "tcp", Address: address, Err: plainListenError(err)}
	}
	if c.gossip, err = openGossip(c); err != nil {
		return errors.Join(err, c.mux.Close())
	}
	stall, ping, maxAge := linkTimes(c.cfg.Lease)
	for _, p := range c.peers {
		to, _ := c.targetNode(p.Name)
		c.links[p.Name] = transport.NewLink(c.mux, transport.LinkConfig{
			To: to, Stall: stall, Ping: ping, MaxAge: maxAge, Self: (*gate)(c).Self,
			Changed: func(s transport.LinkState) { c.linkChanged(p.Name, s) },
		})
	}
	return nil
}

// plainListenError says in words what the two usual mistakes are.
func plainListenError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another program uses this port (%w)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine does not have this address (%w)", err)
	}
	return err
}

// Run works until ctx ends, then closes everything and returns nil. An error means that this member cannot go on:
// *RestartError if it can after it has been opened again.
func (c *Cluster) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("cluster runs already")
	}
	c.running = true
	c.mu.Unlock()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	start := func(f func(context.Context)) {
		work.Add(1)
		go func() {
			defer work.Done()
			f(inner)
		}()
	}
	start(c.box.run)
	start(c.gossip.run)
	start(c.rememberRuns)
	start(c.steward)
	for _, l := range c.links {
		start(l.Run)
	}
	c.log.Info("cluster member is up", "member", string(c.self), "cluster_id", c.id(),
		"address", c.cfg.Self.Address.String(), "port", c.cfg.Port)
	start(func(context.Context) { c.mux.Serve() })
	var err error
	select {
	case <-ctx.Done():
	case err = <-c.failed:
	}
	cancel()
	closeErr := c.Close()
	// A part that waits for a disk, or for a log entry that is lost, may never end. It does no harm any more.
	ended := make(chan struct{})
	go func() { work.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(shutdownWait):
		c.log.Warn("a part of the cluster member does not end and is left behind")
	}
	return errors.Join(err, closeErr)
}

// fail ends Run with an error. It never blocks.
func (c *Cluster) fail(err error) {
	select {
	case c.failed <- err:
		c.log.Error("cluster member cannot go on", "err", err)
	default:
	}
}

// condemn gives up this member's data: the node comes back as a new member when it is opened again.
func (c *Cluster) condemn(reason string) {
	go func() {
		// Writing may hang; without the mark the next start may take the same data again, and find the same fault.
		done := make(chan error, 1)
		go func() { done <- c.dir.Condemn(reason) }()
		select {
		case err := <-done:
			if err != nil {
				c.log.Error("data directory cannot be marked as unusable", "err", err)
			}
		case <-time.After(shutdownWait):
		}
		c.fail(&RestartError{Reason: reason})
	}()
}

// Close ends everything at once; to the peers it looks like a crash. See Leave for the polite way. Run calls it.
func (c *Cluster) Close() error {
	c.closeOnce.Do(func() {
		c.gossip.close()
		c.mu.Lock()
		c.closed = true
		starting := c.starting
		c.mu.Unlock()
		if starting != nil {
			select {
			case <-starting:
			case <-time.After(shutdownWait):
			}
		}
		c.mu.Lock()
		host, log, starting := c.raft, c.raftLog, c.starting
		c.raft, c.raftLog = nil, nil
		c.mu.Unlock()
		var ended <-chan struct{}
		if host != nil {
			ended = host.stop()
		}
		c.closeErr = c.mux.Close()
		if log != nil {
			closed := make(chan error, 1)
			go func() {
				// Raft must not find its log closed, neither while it ends nor while it starts.
				if ended != nil {
					<-ended
				}
				if starting != nil {
					<-starting
				}
				closed <- log.Close()
			}()
			select {
			case err := <-closed:
				c.closeErr = errors.Join(c.closeErr, err)
			case <-time.After(shutdownWait):
				c.log.Warn("the disk does not let the log be closed")
			}
		}
		c.closeErr = errors.Join(c.closeErr, c.dir.Close())
	})
	return c.closeErr
}

// Events is what happens, in order. The channel is bounded; when its reader is late, the oldest events of the same kind
// are dropped, and dropped Applied events are announced by Applied.Missed. It is closed when Run has ended.
func (c *Cluster) Events() <-chan Event { return c.box.out }

// Self is the id of this member.
func (c *Cluster) Self() MemberID { return c.self }

// wake makes the steward look at things now.
func (c *Cluster) wake() {
	nudge(c.kick)
}

// Send gives a message to a member, over a connection that is kept open. It never blocks: each peer has a queue of its
// own, and when it is full the oldest message is dropped. Nothing says whether it arrived. The payload must not be
// changed afterwards; it is at most MaxMessage bytes. A message to Self comes back as an event.
func (c *Cluster) Send(to MemberID, payload []byte) {
	if to == c.self {
		c.box.put(Message{From: to, Payload: payload})
		return
	}
	for node, link := range c.links {
		if node == to.Node() {
			link.Send(string(to), contentMessage, payload, 0)
		} else {
			link.Accompany()
		}
	}
}

func (c *Cluster) serveLink(conn *transport.Conn) {
	from := MemberID(conn.Hello.Member)
	c.met(conn.Node, conn.Hello)
	address := c.peers[conn.Node].Address.Unmap()
	err := transport.ServeLink(conn, func(content transport.Content, payload []byte) {
		switch content {
		case contentMessage:
			c.box.put(Message{From: from, Payload: payload})
			if host := c.host(); host != nil {
				host.trans.awake()
			}
		case contentPulse:
			c.tookPulse(from, payload)
		}
	}, func(h transport.Hello) error {
		h.Kind = transport.KindLink
		if r := (*gate)(c).Admit(conn.Node, address, h, true); r != nil {
			(*gate)(c).Refused(r)
			return r
		}
		if h.Member != string(from) {
			return fmt.Errorf("%s now calls itself %s", from, h.Member)
		}
		c.met(conn.Node, h)
		return nil
	})
	c.log.Debug("incoming link has ended", "peer", conn.Node, "err", err)
}

// met notes what a peer says about itself.
func (c *Cluster) met(node string, h transport.Hello) {
	c.mu.Lock()
	m := c.meetings[node]
	if m.hello.Life == h.Life && m.hello.ClusterID != "" && h.ClusterID == "" {
		c.mu.Unlock()
		return // older: nobody leaves a cluster within a life
	}
	m.hello = h
	host := c.raft
	c.mu.Unlock()
	if host != nil {
		host.trans.forget(node)
	}
	c.wake()
}

func (c *Cluster) serveRaft(conn *transport.Conn) {
	c.mu.Lock()
	host := c.raft
	c.mu.Unlock()
	if host != nil {
		host.stream.serve(conn)
	}
}

// linkChanged is told how the link to a peer does.
func (c *Cluster) linkChanged(node string, s transport.LinkState) {
	if s.Up {
		c.met(node, s.Remote)
	}
	if !s.Up {
		c.noteMajority() // there may have been one until now
	}
	c.mu.Lock()
	m := c.meetings[node]
	was := m.up
	m.up, m.err = s.Up, s.Err
	if was != s.Up {
		m.since = time.Now()
	}
	outage := m.outage
	m.outage = !s.Up && (was || outage)
	if s.New {
		m.warmed = nil
	}
	event := PeerChanged{Name: node, Member: MemberID(m.hello.Member), Reachable: s.Up}
	c.mu.Unlock()
	if s.New {
		c.pulses.lose(node)
	}
	if s.New && outage {
		// Raft's requests that were under way would wait for their timeout although the path is whole again.
		c.mux.HangupRaft(node)
	}
	if was == s.Up {
		return
	}
	if s.Up {
		c.gossip.again()
		c.log.Info("peer answers", "peer", node, "member", string(event.Member), "version", s.Remote.Version)
	} else {
		event.Reason = s.Err.Error()
		c.log.Warn("peer does not answer", "peer", node, "err", s.Err)
	}
	c.box.put(event)
	c.wake()
}

func (c *Cluster) targetNode(node string) (transport.Target, error) {
	p, ok := c.peers[node]
	if !ok {
		return transport.Target{}, fmt.Errorf("%w: %s", ErrUnknownNode, node)
	}
	return transport.Target{Node: node, Address: netip.AddrPortFrom(p.Address, uint16(c.cfg.Port))}, nil
}

// rank is how many others should ask for votes before this member when gone has died.
func (c *Cluster) rank(gone string) int {
	rank := 0
	for _, p := range c.peers {
		if p.Name != gone && c.precedes(p) {
			rank++
		}
	}
	return rank
}

// precedes tells whether a peer asks for votes before this member does.
func (c *Cluster) precedes(p Peer) bool {
	return !p.Witness && c.cfg.Self.Witness || p.Witness == c.cfg.Self.Witness && p.Name < c.cfg.Node
}

// preferred tells whether a node is a peer that asks for votes before this member does.
func (c *Cluster) preferred(node string) bool {
	p, known := c.peers[node]
	return known && c.precedes(p)
}

// roundTrip is the longest of the newest round trips to peers that answer.
func (c *Cluster) roundTrip() time.Duration {
	var longest time.Duration
	for node, link := range c.links {
		c.mu.Lock()
		up := c.meetings[node].up
		c.mu.Unlock()
		if rtt, _ := link.Traffic(); up {
			longest = max(longest, rtt)
		}
	}
	return longest
}

// votersChanged is called by configurations.
func (c *Cluster) votersChanged(v Voters) {
	c.mu.Lock()
	old := c.voters
	if !slices.Equal(v.Committed.Members, old.Committed.Members) || !slices.Equal(v.Latest.Members, old.Latest.Members) {
		c.changedAt = c.cfg.Clock()
	}
	c.voters = v
	c.mu.Unlock()
	c.log.Info("voters", "committed", fmt.Sprint(v.Committed.Members), "index", v.Committed.Index,
		"latest", fmt.Sprint(v.Latest.Members), "latest_index", v.Latest.Index)
	c.box.put(v)
	c.wake()
}

func (c *Cluster) host() *raftHost {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raft
}

// Propose asks the log to commit a command. It never blocks; the outcome comes as the event Proposed with the same tag.
// Its Err is ErrNotLeader if nothing was proposed, ErrBusy if too many proposals are open, and anything else if the
// outcome is unknown: the command may still be applied later.
func (c *Cluster) Propose(tag uint64, cmd fsm.Command) {
	host := c.host()
	if host == nil || !host.mayPropose() {
		c.box.put(Proposed{Tag: tag, Err: ErrNotLeader})
		return
	}
	go func() {
		index, result, err := host.propose(cmd)
		c.box.put(Proposed{Tag: tag, Index: index, Result: result, Err: err})
	}()
}

// Read calls f with the state that this member has applied. f must not keep the pointer and must not block.
func (c *Cluster) Read(f func(*fsm.State)) {
	if host := c.host(); host != nil {
		host.replica.read(f)
		return
	}
	f(fsm.New())
}

// State is a copy of the state that this member has applied, for display.
func (c *Cluster) State() (view fsm.View) {
	c.Read(func(s *fsm.State) { view = s.View() })
	return view
}

// Verify returns nil if this member led the log, confirmed by a majority, at some moment after the call, and has
// applied all that was committed before. It is for displays only.
func (c *Cluster) Verify(ctx context.Context) error {
	host := c.host()
	if host == nil {
		return ErrNotLeader
	}
	return host.verify(ctx)
}

// SetStanding publishes what this member says of itself: opaque bytes, at most MaxStanding. Members that are alive are told
// at once, and some times more, because that may get lost; others hear of it by gossip. It returns an error only if b is too
// long.
func (c *Cluster) SetStanding(b []byte) error {
	if len(b) > MaxStanding {
		return fmt.Errorf("publish standing: %d bytes, more than %d", len(b), MaxStanding)
	}
	c.gossip.setStanding(b)
	return nil
}

// Standings returns the newest standing of each member that was heard of, this one included, by node name. Hints.
func (c *Cluster) Standings() map[string]Standing { return c.gossip.all() }

// PromiseCeiling is the longest promise noted by any life of this data directory; 0 if it is new.
func (c *Cluster) PromiseCeiling() time.Duration { return c.dir.Record().Ceiling }

// SetPromiseCeiling notes a longer promise durably. It blocks on the disk.
func (c *Cluster) SetPromiseCeiling(d time.Duration) error { return c.dir.RaiseCeiling(d) }

// Leave prepares for a planned stop: it hands over the leadership of the log if it can, and tells the peers that this
// member goes on purpose. The member stays one of the voters and comes back when it is started again. Run and Close
// still have to end.
func (c *Cluster) Leave(ctx context.Context) error {
	var err error
	if host := c.host(); host != nil {
		if l, _ := host.current(); l.Self {
			err = host.handOver(ctx)
		}
	}
	c.gossip.leave()
	return err
}

// noteRun is a peer's run number to be remembered.
type noteRun struct {
	member MemberID
	run    uint64
}

// rememberRuns writes run numbers of peers down, away from those who must not wait for the disk.
func (c *Cluster) rememberRuns(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-c.notes:
			// A disk that hangs must not keep Run from ending.
			done := make(chan error, 1)
			go func() { done <- c.dir.NoteRun(n.member, n.run) }()
			select {
			case <-ctx.Done():
				return
			case err := <-done:
				if err != nil {
					c.log.Debug("run number of a peer cannot be written", "peer", string(n.member), "err", err)
				}
			}
		}
	}
}

// Call asks a member by node name, or the leader with node "", and stores its answer in resp (a pointer, or nil). ctx
// bounds it; without a deadline it ends after DefaultCallTimeout. Errors: ErrNoLeader, ErrUnknownNode,
// *UnreachableError, *RemoteError, or the context's.
func (c *Cluster) Call(ctx context.Context, node, method string, req, resp any) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultCallTimeout)
		defer cancel()
	}
	if node == "" {
		leader := c.leader()
		if leader == "" {
			return ErrNoLeader
		}
		node = leader.Node()
	}
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode request %s: %w", method, err)
	}
	var answer json.RawMessage
	if node == c.cfg.Node {
		answer, err = c.callSelf(ctx, method, body)
	} else {
		var to transport.Target
		if to, err = c.targetNode(node); err != nil {
			return err
		}
		answer, err = c.mux.Call(ctx, to, method, body)
	}
	var remote *transport.AnswerError
	switch {
	case errors.As(err, &remote):
		return &RemoteError{Node: node, Method: method, Text: remote.Text}
	case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("call %s on %s: %w", method, node, err)
	case err != nil:
		return &UnreachableError{Node: node, Err: err}
	}
	if resp == nil {
		return nil
	}
	if err := json.Unmarshal(answer, resp); err != nil {
		return fmt.Errorf("decode answer of %s to %s: %w", node, method, err)
	}
	return nil
}

func (c *Cluster) callSelf(ctx context.Context, method string, body json.RawMessage) (json.RawMessage, error) {
	answer, err := c.dispatch(ctx, c.cfg.Node, method, body)
	if err != nil {
		return nil, &transport.AnswerError{Text: err.Error()}
	}
	return json.Marshal(answer)
}

// Handler answers requests of one method. from is the authenticated node name of the caller. ctx ends with the
// caller's deadline, or when it hangs up. What it returns is sent as JSON; its error's text reaches the caller as
// *RemoteError.
type Handler func(ctx context.Context, from string, req json.RawMessage) (any, error)

// Handle registers the handler of a method. It must be called before Run. Names that begin with "cluster." are taken.
func (c *Cluster) Handle(method string, h Handler) {
	if c.handlers[method] != nil {
		panic("cluster: method " + method + " is handled already")
	}
	c.handlers[method] = h
}

func (c *Cluster) dispatch(ctx context.Context, from, method string, body json.RawMessage) (any, error) {
	h := c.handlers[method]
	if h == nil {
		return nil, fmt.Errorf("unknown method %s", method)
	}
	return h(ctx, from, body)
}

func (c *Cluster) serveCall(conn *transport.Conn) {
	answer := func(ctx context.Context, method string, body json.RawMessage) (any, error) {
		return c.dispatch(ctx, conn.Node, method, body)
	}
	err := transport.ServeCall(context.Background(), conn, answer)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.log.Debug("incoming call has ended", "peer", conn.Node, "err", err)
	}
}

// leader is the leader of the log as far as this member knows.
func (c *Cluster) leader() MemberID {
	host := c.host()
	if host == nil {
		return ""
	}
	l, _ := host.current()
	return l.Leader
}
