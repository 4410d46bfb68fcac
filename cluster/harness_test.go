package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// TestMain runs more tests at a time than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	parallel := "4"
	if raceEnabled {
		parallel = "2"
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fabric is the loopback network with cuts in it. A connection that lost bytes stays broken: what tests see is the
// worst case, in which TCP repeats nothing.
type fabric struct {
	mu    sync.Mutex
	cut   map[[2]netip.Addr]bool // from, to
	conns map[*cutConn]bool
}

func newFabric() *fabric {
	return &fabric{cut: map[[2]netip.Addr]bool{}, conns: map[*cutConn]bool{}}
}

func (f *fabric) isCut(from, to netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut[[2]netip.Addr{from, to}]
}

// set cuts or heals one direction.
func (f *fabric) set(from, to netip.Addr, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[[2]netip.Addr{from, to}] = cut
	if !cut {
		return
	}
	for c := range f.conns {
		if c.local == from && c.remote == to {
			c.deaf.Store(true)
		}
	}
}

// cutConn swallows what is written once its direction was cut.
type cutConn struct {
	net.Conn
	fabric        *fabric
	local, remote netip.Addr
	deaf          atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.deaf.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Close() error {
	c.fabric.mu.Lock()
	delete(c.fabric.conns, c)
	c.fabric.mu.Unlock()
	if c.deaf.Load() {
		// The other side must not learn of it.
		go func() {
			time.Sleep(5 * time.Second)
			_ = c.Conn.Close()
		}()
		_ = c.SetDeadline(time.Unix(1, 0))
		return nil
	}
	return c.Conn.Close()
}

func (f *fabric) wrap(conn net.Conn) net.Conn {
	c := &cutConn{Conn: conn, fabric: f,
		local:  conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(),
		remote: conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	if f.cut[[2]netip.Addr{c.local, c.remote}] {
		c.deaf.Store(true)
	}
	return c
}

func (f *fabric) Listen(address netip.AddrPort) (net.Listener, error) {
	l, err := transport.System{}.Listen(address)
	if err != nil {
		return nil, err
	}
	return &cutListener{l, f}, nil
}

type cutListener struct {
	net.Listener
	fabric *fabric
}

func (l *cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.fabric.wrap(c), nil
}

func (f *fabric) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if f.isCut(from, to.Addr()) || f.isCut(to.Addr(), from) {
		<-ctx.Done() // a lost SYN, or a lost answer to it
		return nil, ctx.Err()
	}
	c, err := transport.System{}.Dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return f.wrap(c), nil
}

// cutGossip drops packets and streams of memberlist.
type cutGossip struct {
	memberlist.NodeAwareTransport
	fabric *fabric
	self   netip.Addr
}

func (g *cutGossip) blocked(addr string) bool {
	to := netip.MustParseAddrPort(addr).Addr()
	return g.fabric.isCut(g.self, to) || g.fabric.isCut(to, g.self)
}

func (g *cutGossip) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (g *cutGossip) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if g.blocked(addr.Addr) {
		return time.Now(), nil
	}
	return g.NodeAwareTransport.WriteToAddress(b, addr)
}

func (g *cutGossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (g *cutGossip) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if g.blocked(addr.Addr) {
		return nil, errors.New("cut")
	}
	return g.NodeAwareTransport.DialAddressTimeout(addr, timeout)
}

// disk is the fault of one member's disk.
type disk struct {
	mu   sync.Mutex
	err  error
	hang chan struct{} // writes wait until it is closed
	slow time.Duration
}

func (d *disk) fault(operation string) error {
	if operation == "get-log" {
		return nil
	}
	d.mu.Lock()
	err, hang, slow := d.err, d.hang, d.slow
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	time.Sleep(slow)
	return err
}

func (d *disk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// setSlow makes every operation take so long.
func (d *disk) setSlow(span time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = span
}

// freeze makes writes hang until the returned function is called.
func (d *disk) freeze() (thaw func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hang := make(chan struct{})
	d.hang = hang
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hang = nil
		close(hang)
	})
}

// world is a set of members in one process.
type world struct {
	t      testing.TB
	fabric *fabric
	name   string
	key    []byte
	port   int
	lease  time.Duration
	peers  []Peer
	dirs   map[string]string
	disks  map[string]*disk
	nodes  map[string]*node
	tweak  func(*Config)
	log    *logSink
	mu     sync.Mutex     // held to change nodes
	opened func(*Cluster) // is called with each member before it runs; may be nil
}

// node is one running member.
type node struct {
	*Cluster
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu     sync.Mutex
	events []Event
}

// started numbers the worlds of this process, so that each has addresses of its own.
var started atomic.Uint32

var base = [2]byte{byte(16 + rand.IntN(200)), byte(rand.IntN(256))}

func newWorld(t testing.TB, lease time.Duration) *world {
	t.Helper()
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = byte(rand.IntN(256))
	}
	w := &world{t: t, fabric: newFabric(), name: "edge", key: key, port: 7770, lease: lease, dirs: map[string]string{},
		disks: map[string]*disk{}, nodes: map[string]*node{}, log: &logSink{t: t}}
	// A directory that goes away while a member that hangs still holds it open must not fail the test.
	root, err := os.MkdirTemp("", "had-cluster-*")
	if err != nil {
		t.Fatal(err)
	}
	number := started.Add(1)
	for i, name := range []string{"lb1", "lb2", "w1"} {
		address := netip.AddrFrom4([4]byte{127, base[0], base[1] + byte(number>>6), byte(number&63)<<2 + byte(i) + 1})
		w.peers = append(w.peers, Peer{Name: name, Address: address, Witness: name == "w1"})
		w.dirs[name] = filepath.Join(root, name)
		w.disks[name] = &disk{}
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.kill()
		}
		_ = os.RemoveAll(root)
	})
	return w
}

func (w *world) peer(name string) Peer {
	i := slices.IndexFunc(w.peers, func(p Peer) bool { return p.Name == name })
	return w.peers[i]
}

var processStart = time.Now()

func testClock() clock.Time { return clock.Time(time.Since(processStart) + time.Hour) }

func (w *world) config(name string) Config {
	self := w.peer(name)
	cfg := Config{
		Name: w.name, Node: name, Key: w.key, DataDir: w.dirs[name], Port: w.port, Self: self, Peers: w.peers,
		Lease: w.lease, Version: "test", Life: rand.Uint64() | 1, Clock: testClock, Logger: w.log.logger(name),
	}
	cfg.seams.network = w.fabric
	cfg.seams.fault = w.disks[name].fault
	cfg.seams.gossip.rejoin = 300 * time.Millisecond
	cfg.seams.gossip.probe = 200 * time.Millisecond
	cfg.seams.gossip.open = func(log *slog.Logger, address netip.AddrPort) (memberlist.NodeAwareTransport, error) {
		door, err := openDoor(log, address)
		return &cutGossip{door, w.fabric, self.Address}, err
	}
	if w.tweak != nil {
		w.tweak(&cfg)
	}
	return cfg
}

// start opens and runs a member.
func (w *world) start(name string) *node {
	w.t.Helper()
	c, err := Open(w.config(name))
	if err != nil {
		w.t.Fatalf("open %s: %v", name, err)
	}
	if w.opened != nil {
		w.opened(c)
	}
	n := &node{Cluster: c, name: name, done: make(chan struct{})}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for e := range c.Events() {
			n.mu.Lock()
			n.events = append(n.events, e)
			n.mu.Unlock()
		}
	}()
	go func() {
		defer close(n.done)
		n.err = c.Run(ctx)
		<-collected
	}()
	w.mu.Lock()
	w.nodes[name] = n
	w.mu.Unlock()
	return n
}

func (n *node) kill() {
	n.cancel()
	<-n.done
}

// restart kills a member and starts it again.
func (w *world) restart(name string) *node {
	w.t.Helper()
	w.nodes[name].kill()
	return w.start(name)
}

func (w *world) startAll(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.start(name)
	}
}

// found starts all members and waits until they are a cluster.
func (w *world) found() {
	w.t.Helper()
	w.startAll("lb1", "lb2", "w1")
	w.whole(10 * time.Second)
}

// whole waits until all members are voters that agree on a leader.
func (w *world) whole(limit time.Duration) {
	w.t.Helper()
	w.eventually(limit, "the cluster is whole", func() error {
		leader := MemberID("")
		for name, n := range w.nodes {
			s := n.Status()
			switch {
			case s.State != StateMember || s.Leader == "":
				return fmt.Errorf("%s: %s, leader %q, %s", name, s.State, s.Leader, s.StateText)
			case len(s.Voters.Committed.Members) != len(w.nodes):
				return fmt.Errorf("%s: voters %v", name, s.Voters)
			case leader != "" && s.Leader != leader:
				return fmt.Errorf("%s follows %s and not %s", name, s.Leader, leader)
			case s.Reachable != len(w.nodes):
				return fmt.Errorf("%s reaches %d voters", name, s.Reachable)
			case !slices.Contains(s.Voters.Committed.Members, n.Self()):
				return fmt.Errorf("%s is not one of the voters %v", name, s.Voters)
			}
			leader = s.Leader
		}
		return nil
	})
}

// transfer gives the leadership to another member, over a connection that works. On a busy machine that may take longer than raft waits.
func (w *world) transfer(from, to *node) {
	w.t.Helper()
	w.eventually(5*time.Second, "leadership of "+to.name, func() error {
		if err := from.host().trans.warm(to.Self()); err != nil {
			return err
		}
		err := from.host().raft.LeadershipTransferToServer(raft.ServerID(to.Self()), raft.ServerAddress(to.Self())).Error()
		if h := to.host(); err != nil && h != nil && h.raft.State() == raft.Leader {
			return nil
		}
		return err
	})
}

// eventually waits for what takes less than the limit on a machine that does nothing else.
func (w *world) eventually(limit time.Duration, what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(2 * limit * patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			for name, n := range w.nodes {
				select {
				case <-n.done:
					w.t.Logf("%s has ended: %v", name, n.err)
				default:
					w.t.Logf("%s: %+v", name, n.Status())
				}
			}
			w.t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// leader waits for a leader among the given members and returns it.
func (w *world) leader(limit time.Duration, names ...string) *node {
	w.t.Helper()
	var leader *node
	w.eventually(limit, fmt.Sprintf("one of %v leads", names), func() error {
		for _, name := range names {
			if n := w.nodes[name]; n.isLeader() {
				leader = n
				return nil
			}
		}
		return errors.New("none does")
	})
	return leader
}

// isolate cuts a member from all others, in both directions.
func (w *world) isolate(name string, cut bool) {
	for _, p := range w.peers {
		if p.Name != name {
			w.fabric.set(w.peer(name).Address, p.Address, cut)
			w.fabric.set(p.Address, w.peer(name).Address, cut)
		}
	}
}

func (w *world) wipe(name string) {
	w.t.Helper()
	if err := os.RemoveAll(w.dirs[name]); err != nil {
		w.t.Fatal(err)
	}
}

var noteSerial atomic.Uint64

func noteCommand(text string) fsm.Command {
	return fsm.Command{ID: fmt.Sprintf("note/%d", noteSerial.Add(1)), Node: "lb1",
		Note: &fsm.Note{Kind: "test", Severity: fsm.Info, Text: text}}
}

// submit commits a note through a member.
func (n *node) submit(t testing.TB, limit time.Duration, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*limit*patience)
	defer cancel()
	if _, err := n.Submit(ctx, noteCommand(text)); err != nil {
		t.Fatalf("submit through %s: %v", n.name, err)
	}
}

// notes are the texts of the notes in a member's journal.
func (n *node) notes() (texts []string) {
	n.Read(func(s *fsm.State) {
		for _, e := range s.Journal(0) {
			if e.Kind == "test" {
				texts = append(texts, e.Text)
			}
		}
	})
	return texts
}

func (n *node) seen(is func(Event) bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.events, is)
}

// logSink keeps what members log, and shows it when a test fails.
type logSink struct {
	t     testing.TB
	mu    sync.Mutex
	lines []string
}

func (s *logSink) logger(node string) *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", node)
}

func (s *logSink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(b))
	return len(b), nil
}

func (s *logSink) contains(match func(line string) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.lines, match)
}

func (s *logSink) dump() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		fmt.Fprint(os.Stderr, line)
	}
}
