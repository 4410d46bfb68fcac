package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds on connections.
const (
	maxPendingPerPeer   = 16 // from one peer's address, not authenticated yet; the oldest gives way
	maxPendingStrangers = 8  // from all other addresses together; the newest gives way
	maxRaftPerPeer      = 12 // the one idle for longest gives way
	maxCallsPerPeer     = 8  // the newest gives way
	// A link has one connection per peer; the newest wins.
)

// Network is the door to the sockets.
type Network interface {
	Listen(address netip.AddrPort) (net.Listener, error)
	Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
}

// System is the machine's network.
type System struct {
	// Stall ends a connection whose data the other machine does not acknowledge for that long (TCP_USER_TIMEOUT, RFC 5482);
	// zero: the kernel's limit, which is minutes.
	Stall time.Duration
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// Listen implements Network. What is accepted inherits the limit.
func (s System) Listen(address netip.AddrPort) (net.Listener, error) {
	c := net.ListenConfig{KeepAliveConfig: keepAlive, Control: func(_, _ string, raw syscall.RawConn) error { return s.limit(raw) }}
	listener, err := c.Listen(context.Background(), "tcp", address.String())
	if err != nil {
		return nil, err
	}
	return directListener{listener}, nil
}

// directListener accepts connections as [System] makes them.
type directListener struct{ net.Listener }

// Accept implements net.Listener.
func (l directListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newDirect(conn)
}

// Dial implements Network. TCP_NODELAY is Go's default.
func (s System) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), KeepAliveConfig: keepAlive}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	// The limit not before: it would be one of the greeting of TCP, too.
	quick, err := newDirect(conn)
	if err != nil {
		return nil, err
	}
	if err := s.limit(quick.raw); err != nil {
		return nil, errors.Join(err, quick.Close())
	}
	return quick, nil
}

func (s System) limit(raw syscall.RawConn) (err error) {
	if s.Stall == 0 {
		return nil
	}
	controlled := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(s.Stall.Milliseconds()))
	})
	return cmp.Or(controlled, err)
}

// Target is the other end of an outgoing connection.
type Target struct {
	Node    string
	Address netip.AddrPort
	Member  string // the member it is meant for; empty: whoever has the name
}

// Config is what a Mux is made of.
type Config struct {
	Identity *Identity
	Address  netip.AddrPort // to listen on; outgoing connections come from its address
	Peers    []netip.Addr   // addresses that peers may connect from
	Gate     Gate
	Handlers map[Kind]Handler // for incoming connections
	Network  Network
	Logger   *slog.Logger
}

// Handler works on an incoming connection until it ends. It runs on a goroutine of its own; the connection is closed when
// it returns.
type Handler func(*Conn)

// Conn is an authenticated connection.
type Conn struct {
	net.Conn
	Node  string // of the other side, proved
	Hello Hello  // what it said

	active atomic.Int64 // unix nanoseconds of the last successful read
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.active.Store(time.Now().UnixNano())
	}
	return n, err
}

// Mux is the one port of a member.
type Mux struct {
	cfg      Config
	listener net.Listener // nil: it only dials
	peers    map[netip.Addr]bool
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	pending   map[netip.Addr][]net.Conn // oldest first
	strangers int
	open      map[openKey][]*Conn // oldest first
	outgoing  map[*Conn]net.Conn  // what is below each
}

type openKey struct {
	node string
	kind Kind
}

// Listen opens the port. Serve must be called to accept anything.
func Listen(cfg Config) (*Mux, error) {
	listener, err := cfg.Network.Listen(cfg.Address)
	if err != nil {
		return nil, err
	}
	m := Outgoing(cfg)
	m.listener = listener
	return m, nil
}

// Outgoing makes a Mux without a port, for a process that only speaks: it dials, and accepts nothing.
func Outgoing(cfg Config) *Mux {
	m := &Mux{cfg: cfg, peers: map[netip.Addr]bool{}, pending: map[netip.Addr][]net.Conn{},
		open: map[openKey][]*Conn{}, outgoing: map[*Conn]net.Conn{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	for _, a := range cfg.Peers {
		m.peers[a.Unmap()] = true
	}
	return m
}

// Serve accepts connections until Close.
func (m *Mux) Serve() {
	const longest = time.Second
	wait := 5 * time.Millisecond
	for {
		conn, err := m.listener.Accept()
		if err == nil {
			wait = 5 * time.Millisecond
			m.take(conn)
			continue
		}
		if m.ctx.Err() != nil {
			return
		}
		// Out of descriptors, most likely. Open connections go on.
		m.cfg.Logger.Warn("connection cannot be accepted", "err", err)
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
	}
}

// take starts the handshake of an incoming connection, within the bounds for those who have not proved who they are.
func (m *Mux) take(conn net.Conn) {
	address := addressOf(conn.RemoteAddr())
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		_ = conn.Close()
		return
	case !m.peers[address]:
		if m.strangers >= maxPendingStrangers {
			_ = conn.Close()
			return
		}
		m.strangers++
	case len(m.pending[address]) >= maxPendingPerPeer:
		_ = m.pending[address][0].Close()
		m.pending[address] = m.pending[address][1:]
		fallthrough
	default:
		m.pending[address] = append(m.pending[address], conn)
	}
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		m.accept(conn, address)
	}()
}

func (m *Mux) settled(conn net.Conn, address netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.peers[address] {
		m.strangers--
		return
	}
	m.pending[address] = without(m.pending[address], conn)
	if len(m.pending[address]) == 0 {
		delete(m.pending, address)
	}
}

func without[T comparable](list []T, value T) []T {
	var rest []T
	for _, v := range list {
		if v != value {
			rest = append(rest, v)
		}
	}
	return rest
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// accept authenticates an incoming connection and runs its handler.
func (m *Mux) accept(conn net.Conn, address netip.Addr) {
	defer conn.Close()
	c, refusal := m.welcome(conn, address)
	m.settled(conn, address)
	if refusal != nil {
		m.cfg.Gate.Refused(refusal)
	}
	if c == nil {
		return
	}
	if !m.enter(c) {
		return
	}
	defer m.leave(c)
	m.cfg.Handlers[c.Hello.Kind](c)
}

// welcome is the accepting side of the handshake. Without a connection and a refusal the other side just went away.
func (m *Mux) welcome(conn net.Conn, address netip.Addr) (*Conn, *Refusal) {
	refuse := func(code Code, node string, format string, args ...any) *Refusal {
		return &Refusal{Code: code, Node: node, Address: address, Incoming: true, Reason: fmt.Sprintf(format, args...)}
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	secure := tls.Server(conn, m.cfg.Identity.serverConfig())
	if err := secure.HandshakeContext(m.ctx); err != nil {
		if wentAway(err) {
			return nil, nil
		}
		return nil, refuse(CodeProtocol, "", "its TLS handshake failed: %v", err)
	}
	node, err := m.cfg.Identity.verify(secure.ConnectionState())
	if err != nil {
		return nil, refuse(CodeKey, node, "it has another cluster key: %v", err)
	}
	hello, err := readHello(secure)
	if err != nil {
		if wentAway(err) {
			return nil, nil
		}
		return nil, refuse(CodeProtocol, node, "its greeting is unusable: %v", err)
	}
	refusal := m.cfg.Gate.Admit(node, address, hello, true)
	if refusal == nil && m.cfg.Handlers[hello.Kind] == nil {
		refusal = refuse(CodeProtocol, node, "it wants a connection of the unknown kind %q", hello.Kind)
	}
	answer := m.cfg.Gate.Self()
	answer.Kind = hello.Kind
	if refusal != nil {
		answer.Refused, answer.Code = refusal.Reason, refusal.Code
	}
	if err := writeHello(secure, answer); err != nil {
		return nil, refusal
	}
	if refusal != nil {
		_ = secure.Close()
		return nil, refusal
	}
	_ = conn.SetDeadline(time.Time{})
	return newConn(secure, node, hello), nil
}

func newConn(conn net.Conn, node string, hello Hello) *Conn {
	c := &Conn{Conn: conn, Node: node, Hello: hello}
	c.active.Store(time.Now().UnixNano())
	return c
}

// wentAway tells whether the other side closed the connection, or let it time out, without saying anything wrong.
func wentAway(err error) bool {
	var timeout net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || isReset(err) || errors.As(err, &timeout) && timeout.Timeout()
}

// enter counts an authenticated incoming connection, within the bounds of its kind.
func (m *Mux) enter(c *Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	key := openKey{c.Node, c.Hello.Kind}
	list := m.open[key]
	switch {
	case key.kind == KindLink && len(list) > 0:
		for _, old := range list {
			_ = old.Close()
		}
	case key.kind == KindRaft && len(list) >= maxRaftPerPeer:
		idle := list[0]
		for _, old := range list {
			if old.active.Load() < idle.active.Load() {
				idle = old
			}
		}
		_ = idle.Close()
		list = without(list, idle) // it leaves later, and must not be chosen again until then
	case key.kind == KindCall && len(list) >= maxCallsPerPeer:
		return false
	}
	m.open[key] = append(list, c)
	return true
}

func (m *Mux) leave(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := openKey{c.Node, c.Hello.Kind}
	if m.open[key] = without(m.open[key], c); len(m.open[key]) == 0 {
		delete(m.open, key)
	}
}

// HangupRaft closes the raft connections with one node.
func (m *Mux) HangupRaft(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closeConnections(func(c *Conn) bool { return c.Hello.Kind == KindRaft && c.Node == node })
}

func (m *Mux) closeConnections(which func(*Conn) bool) {
	for _, list := range m.open {
		for _, c := range list {
			if which(c) {
				_ = c.Close()
			}
		}
	}
	for c, below := range m.outgoing {
		if which(c) {
			_ = below.Close()
		}
	}
}

// Close closes the port and every connection, and waits until all handlers have returned.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	m.cancel()
	var err error
	if m.listener != nil {
		err = m.listener.Close()
	}
	for _, list := range m.pending {
		for _, c := range list {
			_ = c.Close()
		}
	}
	m.closeConnections(func(*Conn) bool { return true })
	m.mu.Unlock()
	m.work.Wait()
	return err
}
