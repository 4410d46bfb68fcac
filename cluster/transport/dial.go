package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// A path that was cut and is whole again must be usable at once, but the kernel repeats a lost SYN only after a second.
// So TCP connections are tried one after the other while earlier ones still wait, and the first that gets through is
// greeted. Greetings cost both sides some computing, so they are few: otherwise machines that are short of it would
// spend the rest on greetings that come too late.
const (
	connectEvery   = 75 * time.Millisecond
	connectTimeout = 300 * time.Millisecond // of most tries
	slowEvery      = 8                      // each 8th try may take longer, for paths that are slow and not broken
	slowTimeout    = 3 * time.Second
	maxConnects    = 6                      // tries under way at the same time
	greetPatience  = time.Second            // after which a greeting without an answer is given company
	maxGreetings   = 2                      // under way at the same time
	greetPause     = 250 * time.Millisecond // after a greeting that failed: the machine is there, the process is not
)

// DialOptions adjust Dial.
type DialOptions struct {
	GreetAfter time.Time   // no greeting before
	Failed     func(error) // hears why a try failed; Dial goes on
	// GiveUp ends the dial at the first answer that says no, instead of trying until ctx ends.
	GiveUp bool
}

// Dial makes a connection to a member, trying until ctx ends or somebody refuses. The error is a *Refusal if the other
// side answered and is not, or will not be, connected; else it tells why there is no path.
func (m *Mux) Dial(ctx context.Context, kind Kind, to Target, options DialOptions) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(m.ctx, cancel)()
	d := &dialing{mux: m, ctx: ctx, kind: kind, to: to, connects: make(chan connected), greetings: make(chan greeted),
		greetAfter: options.GreetAfter}
	conn, err := d.run(options)
	cancel() // whoever comes second gives up
	return conn, err
}

// dialing is one Dial.
type dialing struct {
	mux        *Mux
	ctx        context.Context
	kind       Kind
	to         Target
	greetAfter time.Time

	tries, connecting, greeting int
	slow                        bool // a slow try is under way
	connects                    chan connected
	greetings                   chan greeted
}

type connected struct {
	conn net.Conn
	err  error
	slow bool
}

type greeted struct {
	conn *Conn
	err  error
}

func (d *dialing) run(options DialOptions) (*Conn, error) {
	last := errors.New("no answer")
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return nil, fmt.Errorf("connect to %s at %s: %w", d.to.Node, d.to.Address, last)
		case <-next.C:
			if wait := time.Until(d.greetAfter); d.connecting < maxConnects && d.greeting < maxGreetings && wait < connectTimeout {
				d.connect()
			}
			next.Reset(connectEvery)
		case c := <-d.connects:
			d.connecting--
			if c.slow {
				d.slow = false
			}
			switch {
			case c.err != nil:
				last = c.err
				if options.Failed != nil {
					options.Failed(c.err)
				}
				if options.GiveUp && errors.Is(c.err, syscall.ECONNREFUSED) {
					return nil, fmt.Errorf("connect to %s at %s: %w", d.to.Node, d.to.Address, c.err)
				}
			case d.greeting >= maxGreetings || d.greeting > 0 && time.Now().Before(d.greetAfter):
				_ = c.conn.Close()
			default:
				d.greet(c.conn)
				next.Reset(greetPatience)
			}
		case g := <-d.greetings:
			d.greeting--
			var refusal *Refusal
			switch {
			case g.err == nil:
				return g.conn, nil
			case errors.As(g.err, &refusal):
				return nil, refusal
			}
			last = g.err
			if options.Failed != nil {
				options.Failed(g.err)
			}
			next.Reset(greetPause)
		}
	}
}

// connect starts a try to connect.
func (d *dialing) connect() {
	slow := d.tries%slowEvery == slowEvery-1 && !d.slow
	d.slow = d.slow || slow
	d.tries++
	d.connecting++
	timeout := connectTimeout
	if slow {
		timeout = slowTimeout
	}
	go func() {
		ctx, cancel := context.WithTimeout(d.ctx, timeout)
		defer cancel()
		conn, err := d.mux.cfg.Network.Dial(ctx, d.mux.cfg.Address.Addr(), d.to.Address)
		select {
		case d.connects <- connected{conn, err, slow}:
		case <-d.ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	}()
}

// greet starts a greeting on a new connection.
func (d *dialing) greet(conn net.Conn) {
	wait := time.Until(d.greetAfter)
	d.greetAfter = time.Now().Add(max(wait, 0) + greetPatience)
	d.greeting++
	go func() {
		c, err := d.mux.secure(d.ctx, conn, wait, d.kind, d.to)
		if err != nil {
			_ = conn.Close()
		}
		select {
		case d.greetings <- greeted{c, err}:
		case <-d.ctx.Done():
			if err == nil {
				_ = c.Close()
			}
		}
	}()
}

// secure turns a TCP connection into one that is authenticated.
func (m *Mux) secure(ctx context.Context, conn net.Conn, wait time.Duration, kind Kind, to Target) (*Conn, error) {
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
		}
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, err := m.greet(ctx, conn, kind, to)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	c.Conn = &outgoing{Conn: c.Conn, forget: func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.outgoing, c)
	}}
	m.outgoing[c] = conn
	return c, nil
}

// outgoing takes itself off the list when it is closed.
type outgoing struct {
	net.Conn
	forget func()
}

func (o *outgoing) Close() error {
	err := o.Conn.Close()
	o.forget()
	return err
}

// greet is the connecting side of the handshake.
func (m *Mux) greet(ctx context.Context, conn net.Conn, kind Kind, to Target) (*Conn, error) {
	address := to.Address.Addr().Unmap()
	refuse := func(code Code, node, format string, args ...any) error {
		r := &Refusal{Code: code, Node: node, Address: address, Reason: fmt.Sprintf(format, args...)}
		m.cfg.Gate.Refused(r)
		return r
	}
	secure := tls.Client(conn, m.cfg.Identity.clientConfig())
	if err := secure.HandshakeContext(ctx); err != nil {
		if wentAway(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return nil, refuse(CodeProtocol, "", "its TLS handshake failed: %v", err)
	}
	node, err := m.cfg.Identity.verify(secure.ConnectionState())
	switch {
	case err != nil:
		return nil, refuse(CodeKey, node, "it has another cluster key: %v", err)
	case node != to.Node:
		return nil, refuse(CodeName, node, "%s is expected at this address", to.Node)
	}
	hello := m.cfg.Gate.Self()
	hello.Kind, hello.To = kind, to.Member
	if err := writeHello(secure, hello); err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	answer, err := readHello(secure)
	switch {
	case err != nil && (wentAway(err) || ctx.Err() != nil):
		return nil, fmt.Errorf("greeting: %w", err)
	case err != nil:
		return nil, refuse(CodeProtocol, node, "its greeting is unusable: %v", err)
	case answer.Refused != "":
		r := &Refusal{Code: answer.Code, Node: node, Address: address, Theirs: true, Reason: answer.Refused}
		m.cfg.Gate.Refused(r)
		return nil, r
	}
	if r := m.cfg.Gate.Admit(node, address, answer, false); r != nil {
		m.cfg.Gate.Refused(r)
		return nil, r
	}
	return newConn(secure, node, answer), nil
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
