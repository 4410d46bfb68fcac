package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var key = slices.Repeat([]byte{1}, 32)

// member is one Mux with a gate that lets everybody in whose certificate is right.
type member struct {
	*Mux
	name    string
	address netip.AddrPort

	mu       sync.Mutex
	refusals []*Refusal
	messages []string
	hellos   []Hello
	refuse   *Refusal
	id       string
}

func (m *member) Self() Hello {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Hello{Cluster: "edge", ClusterID: m.id, Member: m.name + "/1"}
}

func (m *member) Admit(_ string, _ netip.Addr, h Hello, _ bool) *Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hellos = append(m.hellos, h)
	return m.refuse
}

func (m *member) Refused(r *Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusals = append(m.refusals, r)
}

// lease is the content of the messages of these tests.
const lease Content = 1

func (m *member) take(_ Content, payload []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = append(m.messages, string(payload))
}

func (m *member) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.messages)
}

func (m *member) refused() []*Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.refusals)
}

var base, serial = [2]byte{byte(16 + rand.IntN(200)), byte(rand.IntN(256))}, atomic.Uint32{}

func nextAddress() netip.Addr {
	return netip.AddrFrom4([4]byte{127, base[0], base[1], byte(serial.Add(1))})
}

func newMember(t *testing.T, name string, key []byte, peers []netip.Addr, address netip.Addr, network Network) *member {
	t.Helper()
	identity, err := NewIdentity(key, "edge", name)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{name: name, address: netip.AddrPortFrom(address, 7770)}
	m.Mux, err = Listen(Config{
		Identity: identity, Address: m.address, Peers: peers, Gate: m, Network: network,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Handlers: map[Kind]Handler{
			KindLink: func(c *Conn) {
				_ = ServeLink(c, m.take, func(h Hello) error {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.hellos = append(m.hellos, h)
					return nil
				})
			},
			KindCall: func(c *Conn) {
				_ = ServeCall(context.Background(), c, func(ctx context.Context, method string, body json.RawMessage) (any, error) {
					switch method {
					case "echo":
						return body, nil
					case "wait":
						<-ctx.Done()
						m.take(0, []byte("call was given up"))
						return nil, ctx.Err()
					}
					return nil, errors.New("unknown method")
				})
			},
			KindRaft: func(c *Conn) { _, _ = io.Copy(c, c) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go m.Serve()
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func pair(t *testing.T) (a, b *member) {
	t.Helper()
	x, y := nextAddress(), nextAddress()
	a = newMember(t, "lb1", key, []netip.Addr{y}, x, System{})
	b = newMember(t, "lb2", key, []netip.Addr{x}, y, System{})
	return a, b
}

func (m *member) target() Target {
	return Target{Node: m.name, Address: m.address, Member: m.name + "/1"}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatal(what + ": not within 5 s")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func startLink(t *testing.T, from, to *member, stall time.Duration) (*Link, chan LinkState) {
	t.Helper()
	return startPinging(t, from, to, stall, 50*time.Millisecond)
}

func startPinging(t *testing.T, from, to *member, stall, ping time.Duration) (*Link, chan LinkState) {
	t.Helper()
	states := make(chan LinkState, 1000)
	l := NewLink(from.Mux, LinkConfig{To: to.target(), Stall: stall, Ping: ping, MaxAge: time.Second,
		Self: from.Self, Changed: func(s LinkState) { states <- s }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return l, states
}

func await(t *testing.T, states chan LinkState, what string, is func(LinkState) bool) LinkState {
	t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		select {
		case s := <-states:
			if is(s) {
				return s
			}
		case <-timeout:
			t.Fatal(what + ": not within 5 s")
		}
	}
}

func up(s LinkState) bool   { return s.Up }
func down(s LinkState) bool { return !s.Up }

func TestALinkCarriesMessagesInOrderAndMeasures(t *testing.T) {
	a, b := pair(t)
	l, states := startLink(t, a, b, 200*time.Millisecond)
	if s := await(t, states, "the link is up", up); s.Remote.Member != "lb2/1" || !s.New {
		t.Errorf("%+v", s)
	}
	for i := range 300 {
		l.Send("lb2/1", lease, []byte(fmt.Sprint(i)), 0)
	}
	l.Send("lb2/2", lease, []byte("for another member"), 0)
	l.Send("lb2/1", lease, bytes.Repeat([]byte("x"), MaxMessage+1), 0)
	l.Send("lb2/1", lease, bytes.Repeat([]byte("y"), MaxMessage), 0)
	eventually(t, "all messages arrive", func() bool { return len(b.got()) >= 301 })
	got := b.got()
	for i := range 300 {
		if got[i] != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, got[i])
		}
	}
	if len(got) != 301 || len(got[300]) != MaxMessage {
		t.Errorf("%d messages, the last of %d bytes", len(got), len(got[len(got)-1]))
	}
	if l.Dropped() != 2 {
		t.Errorf("%d dropped", l.Dropped())
	}
	eventually(t, "a round trip is measured", func() bool {
		rtt, heard := l.Traffic()
		return rtt > 0 && rtt < time.Second && time.Since(heard) < time.Second
	})
}

func TestAPatientMessageGoesAlongWithAnother(t *testing.T) {
	a, b := pair(t)
	l, states := startPinging(t, a, b, time.Minute, time.Hour) // a ping would take it along, too
	await(t, states, "the link is up", up)
	eventually(t, "the first ping is answered", func() bool { rtt, _ := l.Traffic(); return rtt > 0 })
	send := func(text string, patience time.Duration) { l.Send("lb2/1", lease, []byte(text), patience) }
	arrived := func(what string, n int) {
		t.Helper()
		eventually(t, what, func() bool { return len(b.got()) == n })
	}

	send("a patient one", time.Hour)
	send("another", time.Minute)
	time.Sleep(50 * time.Millisecond)
	if got := b.got(); len(got) != 0 {
		t.Fatalf("went alone: %q", got)
	}
	send("an urgent one", 0)
	arrived("all three arrive", 3)
	if got := b.got(); got[0] != "a patient one" || got[1] != "another" || got[2] != "an urgent one" {
		t.Errorf("%q", got)
	}

	send("it waits", time.Hour)
	send("this one waits less long", 30*time.Millisecond)
	arrived("both arrive when the patience of one ends", 5)

	send("it waits", time.Hour)
	time.Sleep(20 * time.Millisecond)
	l.Hasten()
	arrived("it arrives when there is haste", 6)
	l.Hasten() // with nothing to send
	l.Accompany()
	send("and waits again", time.Hour)
	time.Sleep(20 * time.Millisecond)
	if n := len(b.got()); n != 6 {
		t.Errorf("%d messages", n)
	}
	l.Accompany()
	arrived("it arrives when this member is awake", 7)
}

func TestAPingThatIsDueSoonGoesAlong(t *testing.T) {
	t.Parallel()
	const ping = 4 * time.Second
	a, b := pair(t)
	l, states := startPinging(t, a, b, time.Minute, ping)
	await(t, states, "the link is up", up)
	answered := func() time.Time { _, heard := l.Traffic(); return heard }
	eventually(t, "the first ping is answered", func() bool { return !answered().IsZero() })
	first := answered()
	time.Sleep(ping / 4)
	l.Accompany()
	time.Sleep(ping / 4)
	if answered() != first {
		t.Error("pinged long before it is due")
	}
	time.Sleep(time.Until(first.Add(ping * 9 / 10)))
	l.Accompany()
	eventually(t, "the second ping is answered", func() bool { return answered() != first })
	if rtt, heard := l.Traffic(); heard.Add(-rtt).Sub(first) >= ping {
		t.Error("not pinged before it was due, although this member was awake")
	}
}

func TestALinkTellsANewHello(t *testing.T) {
	a, b := pair(t)
	l, states := startLink(t, a, b, 200*time.Millisecond)
	await(t, states, "the link is up", up)
	a.mu.Lock()
	a.id = "c1"
	a.mu.Unlock()
	l.Greet()
	eventually(t, "the hello arrives", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.hellos[len(b.hellos)-1].ClusterID == "c1"
	})
}

// pausing is a network whose connections can be made to swallow everything, or to hold it back.
type pausing struct {
	System
	mu   sync.Mutex
	gate chan struct{} // closed: open
}

type pausingConn struct {
	net.Conn
	n *pausing
}

func (n *pausing) wait() {
	n.mu.Lock()
	g := n.gate
	n.mu.Unlock()
	if g != nil {
		<-g
	}
}

func (n *pausing) pause() (resume func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := make(chan struct{})
	n.gate = g
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.gate = nil
		close(g)
	})
}

func (n *pausing) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	c, err := n.System.Dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return &pausingConn{c, n}, nil
}

func (c *pausingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.wait()
	return n, err
}

func TestALinkThatStallsKeepsItsConnectionIfThatRecovers(t *testing.T) {
	x, y := nextAddress(), nextAddress()
	network := &pausing{}
	a := newMember(t, "lb1", key, []netip.Addr{y}, x, network)
	b := newMember(t, "lb2", key, []netip.Addr{x}, y, System{})
	l, states := startLink(t, a, b, 150*time.Millisecond)
	await(t, states, "the link is up", up)
	time.Sleep(100 * time.Millisecond)
	resume := network.pause()
	defer resume()
	await(t, states, "the stall is noticed", down)
	resume()
	await(t, states, "the link is up again", up)
	l.Send("lb2/1", lease, []byte("after"), 0)
	eventually(t, "a message arrives", func() bool { return slices.Contains(b.got(), "after") })
}

func TestALinkReturnsAfterItsPeerWasRestarted(t *testing.T) {
	a, b := pair(t)
	l, states := startLink(t, a, b, 200*time.Millisecond)
	await(t, states, "the link is up", up)
	_ = b.Close()
	await(t, states, "the end is noticed", down)
	again := newMember(t, "lb2", key, []netip.Addr{a.address.Addr()}, b.address.Addr(), System{})
	start := time.Now()
	await(t, states, "the link is up again", up)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	l.Send("lb2/1", lease, []byte("after"), 0)
	eventually(t, "a message arrives", func() bool { return slices.Contains(again.got(), "after") })
}

func TestALinkDropsTheOldestWhenNobodyTakesThem(t *testing.T) {
	a, b := pair(t)
	_ = b.Close()
	l, _ := startLink(t, a, b, 200*time.Millisecond)
	start := time.Now()
	for i := range 3 * linkQueue {
		l.Send("lb2/1", lease, []byte(fmt.Sprint(i)), 0)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("sending blocked for %s", took)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) != linkQueue || string(l.queue[0].payload) != fmt.Sprint(2*linkQueue) {
		t.Errorf("%d messages wait, the first is %s", len(l.queue), l.queue[0].payload)
	}
}

func TestOnlyTheNewestLinkOfAPeerIsKept(t *testing.T) {
	a, b := pair(t)
	var conns []*Conn
	for range 3 {
		c, err := a.Dial(context.Background(), KindLink, b.target(), DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		eventually(t, "it is the only one", func() bool {
			b.Mux.mu.Lock()
			defer b.Mux.mu.Unlock()
			open := b.Mux.open[openKey{"lb1", KindLink}]
			return len(open) == 1 && open[0].RemoteAddr().String() == c.LocalAddr().String()
		})
	}
	_ = conns[2].SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var timeout net.Error
	if _, err := conns[2].Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the newest was closed: %v", err)
	}
}

func TestConnectionsPerPeerAreBounded(t *testing.T) {
	a, b := pair(t)
	count := func(kind Kind) int {
		b.Mux.mu.Lock()
		defer b.Mux.mu.Unlock()
		return len(b.Mux.open[openKey{"lb1", kind}])
	}
	for _, c := range []struct {
		kind  Kind
		limit int
	}{{KindRaft, maxRaftPerPeer}, {KindCall, maxCallsPerPeer}} {
		for range c.limit + 5 {
			conn, err := a.Dial(context.Background(), c.kind, b.target(), DialOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
		if n := count(c.kind); n != c.limit {
			t.Errorf("%d connections of kind %s", n, c.kind)
		}
	}
}

// Connections may come faster than those that give way for them leave.
func TestEachConnectionOfRaftBeyondTheBoundMakesRoom(t *testing.T) {
	m := &Mux{open: map[openKey][]*Conn{}}
	for range maxRaftPerPeer + 5 {
		near, far := net.Pipe()
		defer far.Close()
		defer near.Close()
		if !m.enter(newConn(near, "lb1", Hello{Kind: KindRaft})) {
			t.Fatal("a connection is refused")
		}
		if n := len(m.open[openKey{"lb1", KindRaft}]); n > maxRaftPerPeer {
			t.Fatalf("%d connections", n)
		}
	}
}

func TestAnotherKeyIsRefusedAndNamedByBothSides(t *testing.T) {
	x, y := nextAddress(), nextAddress()
	a := newMember(t, "lb1", key, []netip.Addr{y}, x, System{})
	b := newMember(t, "lb2", slices.Repeat([]byte{2}, 32), []netip.Addr{x}, y, System{})
	_, err := a.Dial(context.Background(), KindCall, b.target(), DialOptions{})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != CodeKey || refusal.Node != "lb2" {
		t.Errorf("%v", err)
	}
	eventually(t, "the other side says so", func() bool {
		return slices.ContainsFunc(b.refused(), func(r *Refusal) bool {
			return r.Code == CodeKey && r.Node == "lb1" && r.Address == x && r.Incoming
		})
	})
}

func TestTheWrongNodeAtAnAddressIsRefused(t *testing.T) {
	a, b := pair(t)
	to := b.target()
	to.Node = "w1"
	_, err := a.Dial(context.Background(), KindCall, to, DialOptions{})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != CodeName || refusal.Node != "lb2" {
		t.Errorf("%v", err)
	}
}

func TestARefusalReachesTheOtherSide(t *testing.T) {
	a, b := pair(t)
	b.mu.Lock()
	b.refuse = &Refusal{Code: CodeCluster, Reason: "another cluster"}
	b.mu.Unlock()
	_, err := a.Dial(context.Background(), KindLink, b.target(), DialOptions{})
	var refusal *Refusal
	if !errors.As(err, &refusal) || !refusal.Theirs || refusal.Code != CodeCluster || refusal.Reason != "another cluster" {
		t.Errorf("%v", err)
	}
}

func TestIdentitiesAreDerivedAndIndependentOfTheClock(t *testing.T) {
	one, err := NewIdentity(key, "edge", "lb1")
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewIdentity(key, "edge", "lb1")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.leaf.Certificate[0], two.leaf.Certificate[0]) {
		t.Error("the same key gives different certificates")
	}
	gossip, err := DeriveKey(key, "gossip", 32)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(gossip, key) {
		t.Error("a derived key is the key itself")
	}
}

// X11 of the fault catalogue: garbage and slow clients, with a link that must not notice.
func TestGarbageAndSlowClientsDisturbNobody(t *testing.T) {
	a, b := pair(t)
	l, states := startLink(t, a, b, 300*time.Millisecond)
	await(t, states, "the link is up", up)
	done := make(chan struct{})
	var clients sync.WaitGroup
	dial := func(from netip.Addr) net.Conn {
		c, err := System{}.Dial(context.Background(), from, b.address)
		if err != nil {
			return nil
		}
		return c
	}
	stranger := nextAddress()
	for i := range 6 {
		clients.Go(func() {
			from := stranger
			if i%2 == 0 {
				from = a.address.Addr() // somebody on the peer's own machine
			}
			for {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
				}
				c := dial(from)
				if c == nil {
					continue
				}
				switch i % 3 {
				case 0: // silent
				case 1: // garbage
					b := make([]byte, 4096)
					for j := range b {
						b[j] = byte(rand.IntN(256))
					}
					_, _ = c.Write(b)
				case 2: // a TLS record that never ends
					_, _ = c.Write([]byte{22, 3, 1, 64, 0, 1})
				}
				clients.Go(func() {
					select {
					case <-done:
					case <-time.After(2 * time.Second):
					}
					_ = c.Close()
				})
			}
		})
	}
	var late int
	for i := range 100 {
		text := fmt.Sprint("m", i)
		start := time.Now()
		l.Send("lb2/1", lease, []byte(text), 0)
		for !slices.Contains(b.got(), text) {
			time.Sleep(time.Millisecond)
			if time.Since(start) > 200*time.Millisecond {
				late++
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
		b.Mux.mu.Lock()
		pending, strangers := len(b.Mux.pending[a.address.Addr()]), b.Mux.strangers
		b.Mux.mu.Unlock()
		if pending > maxPendingPerPeer || strangers > maxPendingStrangers {
			t.Fatalf("%d connections of a peer and %d of strangers are pending", pending, strangers)
		}
	}
	// A new connection gets through all the same.
	c, err := a.Dial(context.Background(), KindRaft, b.target(), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	close(done)
	clients.Wait()
	if late > 5 {
		t.Errorf("%d of 100 messages were late", late)
	}
	for len(states) > 0 {
		if s := <-states; !s.Up {
			t.Errorf("the link went down: %v", s.Err)
		}
	}
}

func TestAnAuthenticatedPeerCannotMakeUsTakeMemory(t *testing.T) {
	a, b := pair(t)
	for _, kind := range []Kind{KindLink, KindCall} {
		c, err := a.Dial(context.Background(), kind, b.target(), DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(binary.BigEndian.AppendUint32(nil, 0xfffffff0))
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.ReadAll(c); err != nil && !isReset(err) {
			t.Errorf("%s: the connection was not closed: %v", kind, err)
		}
		_ = c.Close()
	}
	var limited bytes.Reader
	limited.Reset(binary.BigEndian.AppendUint32(nil, maxHello+1))
	if _, err := readFrame(&limited, maxHello); !errors.Is(err, errFrameTooLong) {
		t.Errorf("%v", err)
	}
}

func TestALargeHelloIsRefused(t *testing.T) {
	a, b := pair(t)
	conn, err := System{}.Dial(context.Background(), a.address.Addr(), b.address)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, a.cfg.Identity.clientConfig())
	defer secure.Close()
	_, _ = secure.Write(binary.BigEndian.AppendUint32(nil, 1<<30))
	_ = secure.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.ReadAll(secure); err != nil && !isReset(err) {
		t.Errorf("the connection was not closed: %v", err)
	}
	eventually(t, "the refusal is noted", func() bool {
		return slices.ContainsFunc(b.refused(), func(r *Refusal) bool { return strings.Contains(r.Reason, "too long") && r.Node == "lb1" })
	})
}

func TestCalls(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	answer, err := a.Call(ctx, b.target(), "echo", json.RawMessage(`{"x":1}`))
	if err != nil || string(answer) != `{"x":1}` {
		t.Errorf("%s, %v", answer, err)
	}
	var remote *AnswerError
	if _, err := a.Call(ctx, b.target(), "nothing", nil); !errors.As(err, &remote) {
		t.Errorf("%v", err)
	}
	if _, err := a.Call(ctx, b.target(), "echo", json.RawMessage(`"`+strings.Repeat("x", MaxCall)+`"`)); !errors.Is(err, errFrameTooLong) {
		t.Errorf("a request that is too long: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := a.Call(short, b.target(), "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	eventually(t, "the handler learns of it", func() bool { return slices.Contains(b.got(), "call was given up") })
}

func TestClosingEndsEverything(t *testing.T) {
	a, b := pair(t)
	_, states := startLink(t, a, b, 200*time.Millisecond)
	await(t, states, "the link is up", up)
	c, err := b.Dial(context.Background(), KindRaft, a.target(), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	closed := make(chan struct{})
	go func() { _ = a.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(3 * time.Second):
		t.Fatal("Close does not return")
	}
	if _, err := a.Dial(context.Background(), KindCall, b.target(), DialOptions{}); err == nil {
		t.Error("it still dials")
	}
}

func FuzzReadHello(f *testing.F) {
	var good bytes.Buffer
	if err := writeHello(&good, Hello{Member: "lb1/1", Cluster: "edge"}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err == nil && h.Protocol != protocol && h.Refused == "" {
			t.Errorf("%+v", h)
		}
	})
}

func TestUnacknowledgedDataEndsAConnection(t *testing.T) {
	const stall = 1500 * time.Millisecond
	dialled, accepted := bothEnds(t, System{Stall: stall})
	for name, c := range map[string]net.Conn{"dialled": dialled, "accepted": accepted} {
		err := c.(*direct).raw.Control(func(fd uintptr) {
			if ms, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || int64(ms) != stall.Milliseconds() {
				t.Errorf("%s: %d ms, %v", name, ms, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
