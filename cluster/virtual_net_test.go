package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// air is a network in memory: what is sent arrives later, and directions can be cut. What a connection carries waits for
// the cut to end, as TCP would repeat it; packets are lost. All that waits does so on channels and timers, so that time in a
// bubble of testing/synctest can pass.
type air struct {
	mu        sync.Mutex
	random    *rand.Rand
	delay     time.Duration // of everything, at most; drawn anew each time
	cut       map[[2]netip.Addr]bool
	healed    chan struct{} // closed and made anew when a cut ends
	listeners map[netip.AddrPort]*airListener
	packets   map[netip.AddrPort]*airGossip
	ports     uint16
	writes    map[[2]netip.Addr]int // to connections
}

// count is how often something was written from one address to another.
func (a *air) count(from, to netip.Addr) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writes[[2]netip.Addr{from, to}]
}

func newAir(random *rand.Rand) *air {
	return &air{random: random, delay: time.Millisecond, cut: map[[2]netip.Addr]bool{}, writes: map[[2]netip.Addr]int{}, healed: make(chan struct{}),
		listeners: map[netip.AddrPort]*airListener{}, packets: map[netip.AddrPort]*airGossip{}, ports: 30000}
}

func (a *air) set(from, to netip.Addr, cut bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut[[2]netip.Addr{from, to}] = cut
	if !cut {
		close(a.healed)
		a.healed = make(chan struct{})
	}
}

func (a *air) slow(delay time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delay = delay
}

// way is how long something takes from one address to another, or the channel that tells that a cut has ended.
func (a *air) way(from, to netip.Addr) (took time.Duration, cut <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cut[[2]netip.Addr{from, to}] {
		return 0, a.healed
	}
	return time.Duration(a.random.Int64N(int64(a.delay))), nil
}

func (a *air) port() uint16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports++
	return a.ports
}

// Listen implements transport.Network.
func (a *air) Listen(address netip.AddrPort) (net.Listener, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listeners[address] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &airListener{air: a, address: address, incoming: make(chan net.Conn, 128), closed: make(chan struct{})}
	a.listeners[address] = l
	return l, nil
}

type airListener struct {
	air      *air
	address  netip.AddrPort
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (l *airListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *airListener) Close() error {
	l.once.Do(func() {
		l.air.mu.Lock()
		delete(l.air.listeners, l.address)
		l.air.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *airListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.address) }

// Dial implements transport.Network. A lost SYN is not repeated.
func (a *air) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	for _, leg := range [][2]netip.Addr{{from, to.Addr()}, {to.Addr(), from}} {
		took, cut := a.way(leg[0], leg[1])
		if cut != nil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(took):
		}
	}
	a.mu.Lock()
	l := a.listeners[to]
	a.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	near := netip.AddrPortFrom(from, a.port())
	there, back := newAirPipe(a, from, to.Addr()), newAirPipe(a, to.Addr(), from)
	far := &airConn{in: there, out: back, local: to, remote: near}
	select {
	case l.incoming <- far:
		return &airConn{in: back, out: there, local: near, remote: to}, nil
	default:
		return nil, syscall.ECONNREFUSED
	}
}

// airPipe is one direction of a connection.
type airPipe struct {
	air      *air
	from, to netip.Addr
	news     chan struct{} // capacity 1: something was written, or closed

	mu     sync.Mutex
	chunks []airChunk
	last   time.Time // when the newest chunk arrives
	ended  bool      // its writer is gone
	gone   bool      // its reader is gone
}

type airChunk struct {
	data []byte
	at   time.Time // when it arrives
}

func newAirPipe(a *air, from, to netip.Addr) *airPipe {
	return &airPipe{air: a, from: from, to: to, news: make(chan struct{}, 1)}
}

func (p *airPipe) tell() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *airPipe) write(b []byte) (int, error) {
	took, _ := p.air.way(p.from, p.to)
	p.air.mu.Lock()
	p.air.writes[[2]netip.Addr{p.from, p.to}]++
	p.air.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return 0, net.ErrClosed
	case p.gone:
		return 0, syscall.EPIPE
	}
	if at := time.Now().Add(took); at.After(p.last) {
		p.last = at
	}
	p.chunks = append(p.chunks, airChunk{append([]byte(nil), b...), p.last})
	p.tell()
	return len(b), nil
}

// read takes what has arrived. limit is when to give up; its channel tells that the limit has changed.
func (p *airPipe) read(b []byte, deadline *airDeadline) (int, error) {
	for {
		limit, changed := deadline.get()
		_, cut := p.air.way(p.from, p.to)
		p.mu.Lock()
		var wait time.Duration = -1
		switch {
		case p.gone:
			p.mu.Unlock()
			return 0, net.ErrClosed
		case len(p.chunks) == 0 && p.ended && cut == nil:
			p.mu.Unlock()
			return 0, io.EOF
		case len(p.chunks) > 0 && cut == nil:
			head := &p.chunks[0]
			if wait = max(time.Until(head.at), 0); wait == 0 {
				n := copy(b, head.data)
				if head.data = head.data[n:]; len(head.data) == 0 {
					p.chunks = p.chunks[1:]
				}
				p.mu.Unlock()
				return n, nil
			}
		}
		p.mu.Unlock()
		var arrives, expires <-chan time.Time
		if wait > 0 {
			arrives = time.After(wait)
		}
		if !limit.IsZero() {
			left := time.Until(limit)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			expires = time.After(left)
		}
		select {
		case <-p.news:
		case <-arrives:
		case <-expires:
		case <-changed:
		case <-cut:
			p.repeat()
		}
	}
}

// repeat is what TCP does after a cut: its next try comes some time later.
func (p *airPipe) repeat() {
	p.air.mu.Lock()
	again := time.Now().Add(time.Duration(p.air.random.Int64N(int64(400 * time.Millisecond))))
	p.air.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.chunks {
		if p.chunks[i].at.Before(again) {
			p.chunks[i].at = again
		}
	}
	p.last = again
}

type airDeadline struct {
	mu      sync.Mutex
	at      time.Time
	changed chan struct{}
}

func (d *airDeadline) get() (time.Time, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.at, d.changed
}

func (d *airDeadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = at
	if d.changed != nil {
		close(d.changed)
	}
	d.changed = make(chan struct{})
}

type airConn struct {
	in, out       *airPipe
	local, remote netip.AddrPort
	deadline      airDeadline // of reads; writes never wait
}

func (c *airConn) Read(b []byte) (int, error)  { return c.in.read(b, &c.deadline) }
func (c *airConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *airConn) LocalAddr() net.Addr         { return net.TCPAddrFromAddrPort(c.local) }
func (c *airConn) RemoteAddr() net.Addr        { return net.TCPAddrFromAddrPort(c.remote) }

func (c *airConn) Close() error {
	c.out.mu.Lock()
	c.out.ended = true
	c.out.mu.Unlock()
	c.out.tell()
	c.in.mu.Lock()
	c.in.gone = true
	c.in.mu.Unlock()
	c.in.tell()
	return nil
}

func (c *airConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *airConn) SetReadDeadline(t time.Time) error  { c.deadline.set(t); return nil }
func (c *airConn) SetWriteDeadline(t time.Time) error { return nil }

// airGossip is one member's door for memberlist.
type airGossip struct {
	air     *air
	address netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	l       net.Listener
	done    sync.WaitGroup
}

// gossip opens a member's door; it is a seam of openGossip.
func (a *air) gossip(_ *slog.Logger, address netip.AddrPort) (memberlist.NodeAwareTransport, error) {
	l, err := a.Listen(address)
	if err != nil {
		return nil, err
	}
	g := &airGossip{air: a, address: address, packets: make(chan *memberlist.Packet, 64), streams: make(chan net.Conn), l: l}
	a.mu.Lock()
	a.packets[address] = g
	a.mu.Unlock()
	g.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case g.streams <- c:
			case <-l.(*airListener).closed:
				_ = c.Close()
			}
		}
	})
	return g, nil
}

func (g *airGossip) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}

func (g *airGossip) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	took, cut := g.air.way(g.address.Addr(), to.Addr())
	if cut != nil {
		return now, nil
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(g.address)}
	time.AfterFunc(took, func() {
		g.air.mu.Lock()
		there := g.air.packets[to]
		g.air.mu.Unlock()
		if there == nil {
			return
		}
		p.Timestamp = time.Now()
		select {
		case there.packets <- p:
		default:
		}
	})
	return now, nil
}

func (g *airGossip) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return g.WriteTo(b, to.Addr)
}

func (g *airGossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return g.air.Dial(ctx, g.address.Addr(), to)
}

func (g *airGossip) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return g.DialTimeout(to.Addr, timeout)
}

func (g *airGossip) PacketCh() <-chan *memberlist.Packet { return g.packets }
func (g *airGossip) StreamCh() <-chan net.Conn           { return g.streams }

func (g *airGossip) Shutdown() error {
	g.air.mu.Lock()
	if g.air.packets[g.address] == g {
		delete(g.air.packets, g.address)
	}
	g.air.mu.Unlock()
	err := g.l.Close()
	g.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
