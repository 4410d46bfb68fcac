package speaker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/rawsock"
	"github.com/hactl/had/vrrp/packet"
)

// fakeSocket is a socket without a network.
type fakeSocket struct {
	config  rawsock.Config
	mu      sync.Mutex
	sent    []rawsock.Datagram
	refuse  netip.Addr // destination that cannot be sent to
	receive chan rawsock.Datagram
	closed  chan struct{}
}

func (s *fakeSocket) Send(src, dst netip.Addr, message []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dst == s.refuse {
		return errors.New("unreachable")
	}
	s.sent = append(s.sent, rawsock.Datagram{Src: src, Dst: dst, TTL: s.config.TTL, Payload: slices.Clone(message)})
	return nil
}

func (s *fakeSocket) Receive() (rawsock.Datagram, error) {
	select {
	case d := <-s.receive:
		return d, nil
	case <-s.closed:
		return rawsock.Datagram{}, os.ErrClosed
	}
}

func (s *fakeSocket) Close() error {
	close(s.closed)
	return nil
}

// fakeNet is a Hub on fake sockets and the log of what it does.
type fakeNet struct {
	t       *testing.T
	hub     *Hub
	mu      sync.Mutex
	log     []string
	sockets []*fakeSocket
	refuse  error // of opening a socket
}

func newFakeNet(t *testing.T, options Options) *fakeNet {
	n := &fakeNet{t: t}
	options.Log = slog.New(slog.DiscardHandler)
	if options.Sender == nil {
		options.Sender = n
	}
	n.hub = New(options)
	n.hub.open = n.open
	t.Cleanup(func() {
		if err := n.hub.Close(); err != nil {
			t.Error(err)
		}
		for _, s := range n.sockets {
			<-s.closed
		}
	})
	return n
}

func (n *fakeNet) open(config rawsock.Config) (socket, error) {
	if n.refuse != nil {
		return nil, n.refuse
	}
	s := &fakeSocket{config: config, receive: make(chan rawsock.Datagram, 10), closed: make(chan struct{})}
	n.sockets = append(n.sockets, s)
	return s, nil
}

func (n *fakeNet) Announce(l link.Link, addr netip.Addr, router bool) error {
	n.add("announce %v on %s, router %v", addr, l.Name, router)
	return nil
}

func (n *fakeNet) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

// takeLog returns the log since the last call.
func (n *fakeNet) takeLog() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	log := n.log
	n.log = nil
	return log
}

// last returns the socket that was opened last.
func (n *fakeNet) last() *fakeSocket {
	n.t.Helper()
	if len(n.sockets) == 0 {
		n.t.Fatal("no socket was opened")
	}
	return n.sockets[len(n.sockets)-1]
}

func (n *fakeNet) config(vrid uint8) Config {
	name := fmt.Sprint("V", vrid)
	return Config{
		Name: name, Interface: "eth0", Version: 3, VRID: vrid, Interval: time.Second,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, vrid})},
		OnStatus: func(s Status) {
			n.add("%s: index %d, source %v, %v", name, s.Index, s.Source, s.Err)
		},
		OnRejected: func(r Rejected) { n.add("%s: rejected from %v: %v", name, r.From, r.Verdict) },
	}
}

func (n *fakeNet) mustOpen(c Config) *Speaker {
	n.t.Helper()
	s, err := n.hub.Open(c, func(r Received) {
		n.add("%s: priority %d from %v, differs %v", c.Name, r.Advertisement.Priority, r.From, r.AddressesDiffer)
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

var eth0 = link.Link{Index: 2, Name: "eth0", MAC: ether.MAC{2}, MTU: 1500, Multicast: true, Ethernet: true}

func (n *fakeNet) addLink(l link.Link, prefixes ...string) {
	n.hub.HandleLink(link.LinkChanged{Link: l})
	for _, prefix := range prefixes {
		n.hub.HandleLink(link.AddressAdded{Address: onLink(l, prefix)})
	}
}

func onLink(l link.Link, prefix string) address.Address {
	return address.Address{Index: l.Index, Prefix: netip.MustParsePrefix(prefix)}
}

func expectLog(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("log\n got %q\nwant %q", got, want)
	}
}

func TestSpeakerFollowsItsInterface(t *testing.T) {
	n := newFakeNet(t, Options{})
	s := n.mustOpen(n.config(51))
	if err := s.Status().Err; !errors.Is(err, ErrNoInterface) {
		t.Errorf("status without interface: %v", err)
	}
	if err := s.Send(100); !errors.Is(err, ErrNoInterface) {
		t.Errorf("Send without interface: %v", err)
	}
	expectLog(t, n.takeLog())

	n.addLink(eth0)
	expectLog(t, n.takeLog(), "V51: index 2, source invalid IP, eth0: interface has no address to speak from")
	n.hub.HandleLink(link.AddressAdded{Address: onLink(eth0, "192.0.2.1/24")})
	n.hub.HandleLink(link.AddressAdded{Address: onLink(eth0, "192.0.2.2/24")}) // changes nothing
	expectLog(t, n.takeLog(), "V51: index 2, source 192.0.2.1, <nil>")
	if err := s.Send(100); err != nil {
		t.Error(err)
	}
	n.hub.HandleLink(link.AddressRemoved{Address: onLink(eth0, "192.0.2.1/24")})
	expectLog(t, n.takeLog(), "V51: index 2, source 192.0.2.2, <nil>")

	first := n.last()
	renamed := eth0
	renamed.Name = "lan0"
	n.hub.HandleLink(link.LinkChanged{Before: eth0, Link: renamed})
	expectLog(t, n.takeLog(), "V51: index 0, source invalid IP, eth0: interface does not exist")
	<-first.closed
	n.hub.HandleLink(link.LinkChanged{Before: renamed, Link: eth0})
	expectLog(t, n.takeLog(), "V51: index 2, source 192.0.2.2, <nil>")

	second := n.last()
	n.hub.HandleLink(link.AddressRemoved{Address: onLink(eth0, "192.0.2.2/24")})
	n.hub.HandleLink(link.LinkRemoved{Link: eth0})
	again := eth0
	again.Index = 9
	n.addLink(again, "192.0.2.1/24")
	expectLog(t, n.takeLog(),
		"V51: index 2, source invalid IP, eth0: interface has no address to speak from",
		"V51: index 0, source invalid IP, eth0: interface does not exist",
		"V51: index 9, source invalid IP, eth0: interface has no address to speak from",
		"V51: index 9, source 192.0.2.1, <nil>")
	<-second.closed
	want := rawsock.Config{Interface: "eth0", Index: 9, Group: packet.GroupIPv4, TTL: 255}
	if got := n.last().config; got != want {
		t.Errorf("socket %+v, want %+v", got, want)
	}
	if sent := s.Counters(); sent.Sent != 1 || sent.SendErrors != 1 {
		t.Errorf("counters %+v", sent)
	}
}

// An interface that was deleted and created again while the monitor could not hear it.
func TestSocketsOfAnInterfaceWithAnotherIndexAreOpenedAgain(t *testing.T) {
	n := newFakeNet(t, Options{})
	n.addLink(eth0, "192.0.2.1/24")
	one, two := n.mustOpen(n.config(51)), n.mustOpen(n.config(52))
	first := n.last()
	again := eth0
	again.Index = 9
	n.hub.HandleLink(link.LinkRemoved{Link: eth0})
	n.addLink(again, "192.0.2.1/24")
	<-first.closed
	for _, s := range []*Speaker{one, two} {
		if err := s.Send(1); err != nil {
			t.Error(err)
		}
	}
	if len(n.sockets) != 2 || len(n.last().sent) != 2 {
		t.Errorf("%d sockets, %d messages sent by the last", len(n.sockets), len(n.last().sent))
	}
}

func TestIPv6SocketIsOpenedAgainWhenTheKernelHadGivenUpIPv6(t *testing.T) {
	n := newFakeNet(t, Options{})
	config := n.config(51)
	config.IPv6, config.Addresses = true, []netip.Addr{netip.MustParseAddr("fe80::51")}
	n.addLink(eth0, "fe80::1/64")
	n.mustOpen(config)
	small := eth0
	small.MTU = 1000
	n.hub.HandleLink(link.LinkChanged{Before: eth0, Link: small})
	n.hub.HandleLink(link.LinkChanged{Before: small, Link: eth0})
	if len(n.sockets) != 2 {
		t.Errorf("%d sockets were opened, want 2", len(n.sockets))
	}
}

func TestVirtualAddressesAreNoSources(t *testing.T) {
	n := newFakeNet(t, Options{})
	n.addLink(eth0, "192.0.2.51/24", "192.0.2.77/32", "192.0.2.52/32", "192.0.2.1/24")
	config := n.config(51)
	config.Excluded = []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	s := n.mustOpen(config)
	if got := s.Status().Source; got != netip.MustParseAddr("192.0.2.52") {
		t.Errorf("source %v", got)
	}
	other := n.mustOpen(n.config(52)) // makes 192.0.2.52 a virtual address
	expectLog(t, n.takeLog(), "V51: index 2, source 192.0.2.1, <nil>")
	if got := other.Status().Source; got != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("source %v", got)
	}
}

func TestAnInterfaceWithoutAddressesSpeaksFromTheOneBelow(t *testing.T) {
	n := newFakeNet(t, Options{})
	four, six := n.config(51), n.config(52)
	four.Interface, four.Base = "vrrp.51", "eth0"
	six.Interface, six.Base, six.IPv6, six.Addresses = "vrrp.52", "eth0", true, []netip.Addr{netip.MustParseAddr("fe80::52")}
	n.mustOpen(four)
	n.mustOpen(six)
	vmac4, vmac6 := eth0, eth0
	vmac4.Index, vmac4.Name, vmac6.Index, vmac6.Name = 3, "vrrp.51", 4, "vrrp.52"
	n.addLink(vmac4, "192.0.2.51/24")
	expectLog(t, n.takeLog(), "V51: index 3, source invalid IP, vrrp.51: interface has no address to speak from")
	n.addLink(eth0, "192.0.2.1/24", "fe80::1/64")
	expectLog(t, n.takeLog(), "V51: index 3, source 192.0.2.1, <nil>")
	n.addLink(vmac6) // IPv6 cannot use a source that the interface has not
	expectLog(t, n.takeLog(), "V52: index 4, source invalid IP, vrrp.52: interface has no address to speak from")
	n.hub.HandleLink(link.AddressAdded{Address: onLink(vmac6, "fe80::1/64")})
	expectLog(t, n.takeLog(), "V52: index 4, source fe80::1, <nil>")
	n.hub.HandleLink(link.AddressRemoved{Address: onLink(eth0, "192.0.2.1/24")})
	expectLog(t, n.takeLog(), "V51: index 3, source invalid IP, vrrp.51: interface has no address to speak from")
}

func TestRoutersOfOneKindShareASocket(t *testing.T) {
	n := newFakeNet(t, Options{})
	n.addLink(eth0, "192.0.2.1/24", "fe80::1/64")
	six := n.config(51)
	six.IPv6, six.Addresses = true, []netip.Addr{netip.MustParseAddr("fe80::51")}
	group := n.config(51)
	group.Group = netip.MustParseAddr("224.0.0.77")
	unicast := n.config(51)
	unicast.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.2")}}
	speakers := []*Speaker{
		n.mustOpen(n.config(51)), n.mustOpen(n.config(52)), n.mustOpen(six), n.mustOpen(group), n.mustOpen(unicast),
	}
	if len(n.sockets) != 4 {
		t.Errorf("%d sockets, want 4: of IPv4, IPv6, the other group, unicast", len(n.sockets))
	}
	shared := n.sockets[0]
	speakers[0].Close()
	speakers[0].Close() // again
	select {
	case <-shared.closed:
		t.Error("the socket is closed while a router uses it")
	default:
	}
	speakers[1].Close()
	<-shared.closed
	if err := speakers[1].Send(1); err == nil {
		t.Error("a closed Speaker sends")
	}
	expectLog(t, n.takeLog()) // closing is no change of status
}

func TestOpenRefuses(t *testing.T) {
	n := newFakeNet(t, Options{})
	n.mustOpen(n.config(51))
	unicast := n.config(53)
	unicast.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.2")}}
	n.mustOpen(unicast)
	change := func(f func(c *Config)) Config {
		c := n.config(60)
		f(&c)
		return c
	}
	for name, c := range map[string]Config{
		"the same router":           n.config(51),
		"a unicast peer in common":  unicast,
		"VRID 0":                    change(func(c *Config) { c.VRID = 0 }),
		"version 4":                 change(func(c *Config) { c.Version = 4 }),
		"interval of version 2":     change(func(c *Config) { c.Version, c.Interval = 2, 1500*time.Millisecond }),
		"source of another family":  change(func(c *Config) { c.Source = netip.MustParseAddr("fe80::1") }),
		"address of another family": change(func(c *Config) { c.Addresses = []netip.Addr{netip.MustParseAddr("fe80::1")} }),
		"group is no group":         change(func(c *Config) { c.Group = netip.MustParseAddr("192.0.2.1") }),
		"no interface":              change(func(c *Config) { c.Interface = "" }),
		"peer of another family": change(func(c *Config) {
			c.Peers = []packet.Peer{{Addr: netip.MustParseAddr("fe80::1")}}
		}),
		"TTL 256": change(func(c *Config) { c.UnicastTTL = 256 }),
	} {
		if _, err := n.hub.Open(c, nil); err == nil {
			t.Errorf("%s: opened", name)
		} else if strings.Contains(name, "common") != errors.Is(err, ErrDuplicate) && name != "the same router" {
			t.Errorf("%s: %v", name, err)
		}
	}
	unicast.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.3")}}
	n.mustOpen(unicast) // other peers: another router
}

func TestMulticastNeedsAnInterfaceThatHasIt(t *testing.T) {
	n := newFakeNet(t, Options{})
	without := eth0
	without.Multicast = false
	n.addLink(without, "192.0.2.1/24")
	s := n.mustOpen(n.config(51))
	if err := s.Status().Err; !errors.Is(err, ErrNoMulticast) {
		t.Errorf("status %v", err)
	}
	unicast := n.config(52)
	unicast.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.2")}}
	if err := n.mustOpen(unicast).Status().Err; err != nil {
		t.Errorf("unicast: %v", err)
	}
}

func TestUnicastWithoutInterface(t *testing.T) {
	n := newFakeNet(t, Options{})
	config := n.config(51)
	config.Interface, config.Source = "", netip.MustParseAddr("192.0.2.1")
	config.Peers = []packet.Peer{{Addr: netip.MustParseAddr("198.51.100.1")}}
	if err := n.mustOpen(config).Send(1); err != nil {
		t.Error(err)
	}
	if want := (rawsock.Config{TTL: 255}); n.last().config != want {
		t.Errorf("socket %+v, want %+v", n.last().config, want)
	}
}

func TestSocketThatTheKernelRefusesIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.refuse = errors.New("operation not permitted")
		n.addLink(eth0, "192.0.2.1/24")
		s := n.mustOpen(n.config(51))
		if err := s.Status().Err; !errors.Is(err, n.refuse) {
			t.Errorf("status %v", err)
		}
		time.Sleep(3*retryInterval + time.Millisecond)
		n.hub.mu.Lock()
		n.refuse = nil
		n.hub.mu.Unlock()
		time.Sleep(retryInterval)
		synctest.Wait()
		expectLog(t, n.takeLog(), "V51: index 2, source 192.0.2.1, <nil>")
		if err := s.Send(1); err != nil {
			t.Error(err)
		}
	})
}

func TestSendToPeers(t *testing.T) {
	n := newFakeNet(t, Options{})
	n.addLink(eth0, "192.0.2.1/24")
	config := n.config(51)
	near, far := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2")
	config.Peers = []packet.Peer{{Addr: near}, {Addr: far}}
	config.UnicastTTL = 7
	s := n.mustOpen(config)
	n.last().refuse = near
	for _, priority := range []uint8{100, 0} {
		if err := s.Send(priority); err == nil || !strings.Contains(err.Error(), "unreachable") {
			t.Errorf("Send: %v", err)
		}
	}
	sent := n.last().sent
	if len(sent) != 2 || sent[0].Dst != far || sent[0].TTL != 7 {
		t.Fatalf("sent %+v", sent)
	}
	for _, d := range sent {
		expect := config.expect(config.Options)
		if _, verdict := packet.Parse(d.Payload, packet.Meta{Src: d.Src, Dst: d.Dst, TTL: 7}, expect); verdict != packet.OK {
			t.Errorf("sent %x: %v", d.Payload, verdict)
		}
	}
	if c := s.Counters(); c.Sent != 2 || c.SentZero != 1 || c.SendErrors != 2 {
		t.Errorf("counters %+v", c)
	}
}
