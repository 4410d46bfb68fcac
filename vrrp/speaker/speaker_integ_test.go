//go:build integ

package speaker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/linux/arp"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/ndp"
	"github.com/hactl/had/internal/linux/neigh"
	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/vrrp/packet"
	"github.com/hactl/had/vrrp/speaker"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// station is a machine that speaks VRRP: a Hub that follows the interfaces of its namespace.
type station struct {
	*speaker.Hub
	t        *testing.T
	inside   func(func())
	received chan speaker.Received
	rejected chan speaker.Rejected
	status   chan speaker.Status
}

// start runs a station in the namespace that inside enters. It ends with the test.
func start(t *testing.T, inside func(func())) *station {
	t.Helper()
	s := &station{
		t:        t,
		inside:   inside,
		received: make(chan speaker.Received, 100),
		rejected: make(chan speaker.Rejected, 100),
		status:   make(chan speaker.Status, 100),
	}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	var sender *neigh.Sender
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		inside(func() {
			var err error
			sender, err = neigh.OpenSender()
			nettest.Check(t, err)
			s.Hub = speaker.New(speaker.Options{Log: log, Sender: sender})
			close(ready)
			monitor, err := link.Open(log)
			if nettest.Check(t, err) {
				nettest.Check(t, monitor.Run(ctx, s.HandleLink))
			}
		})
	}()
	<-ready
	t.Cleanup(func() {
		cancel()
		<-ended
		nettest.Check(t, s.Close())
		nettest.Check(t, sender.Close())
	})
	return s
}

func here(f func()) { f() }

// open opens a router in the station's namespace.
func (s *station) open(c speaker.Config) (opened *speaker.Speaker) {
	s.t.Helper()
	var err error
	s.inside(func() { opened, err = s.Open(c, func(r speaker.Received) { s.received <- r }) })
	if err != nil {
		s.t.Fatal(err)
	}
	return opened
}

// speak opens a router and waits until it can speak.
func (s *station) speak(c speaker.Config) *speaker.Speaker {
	s.t.Helper()
	c.OnRejected = func(r speaker.Rejected) { s.rejected <- r }
	c.OnStatus = func(status speaker.Status) { s.status <- status }
	opened := s.open(c)
	for deadline := time.Now().Add(5 * time.Second); opened.Status().Err != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s cannot speak: %v", c.Name, opened.Status().Err)
		}
	}
	return opened
}

func (s *station) next() speaker.Received {
	s.t.Helper()
	select {
	case r := <-s.received:
		return r
	case r := <-s.rejected:
		s.t.Fatalf("rejected: %+v", r)
	case <-time.After(2 * time.Second):
		s.t.Fatal("nothing received")
	}
	return speaker.Received{}
}

func (s *station) expectRejected(want packet.Verdict) {
	s.t.Helper()
	select {
	case r := <-s.received:
		s.t.Errorf("received %+v, want rejection for %v", r, want)
	case r := <-s.rejected:
		if r.Verdict != want {
			s.t.Errorf("rejected for %v, want %v", r.Verdict, want)
		}
	case <-time.After(2 * time.Second):
		s.t.Errorf("nothing received, want rejection for %v", want)
	}
}

// lan connects this namespace with a host and gives both ends addresses.
func lan(t *testing.T) (name string, host *nettest.Host) {
	t.Helper()
	name, host = nettest.Name("s"), nettest.NewHost(t)
	host.Connect(name, "eth0")
	nettest.AddAddress(t, name, "192.0.2.1/24")
	nettest.AddAddress(t, name, "2001:db8::1/64")
	host.AddAddress("eth0", "192.0.2.2/24")
	host.AddAddress("eth0", "2001:db8::2/64")
	return name, host
}

// Both ends hear each other in every combination of version, family and delivery.
func TestAdvertisementsInEveryCombination(t *testing.T) {
	name, host := lan(t)
	a, b := start(t, here), start(t, host.Do)
	var linkLocalA, linkLocalB netip.Addr
	linkLocalA = nettest.LinkLocal(t, name)
	host.Do(func() { linkLocalB = nettest.LinkLocal(t, "eth0") })
	sealed := packet.Seal{Keys: []packet.Key{{ID: 7, Secret: make([]byte, 32)}}, Active: 7, Window: 5 * time.Second,
		Sign: true, Require: true}
	for i, c := range combinations() {
		version, ipv6, delivery, vrid := c.version, c.ipv6, c.delivery, uint8(i+1)
		t.Run(fmt.Sprintf("version %d, IPv6 %v, %s, authentication %s", version, ipv6, delivery, c.auth), func(t *testing.T) {
			base := speaker.Config{
				Name: "V", Version: version, IPv6: ipv6, VRID: vrid, Interval: time.Second,
				Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")},
			}
			fromA, fromB := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
			if ipv6 {
				base.Addresses = []netip.Addr{netip.MustParseAddr("fe80::51"), netip.MustParseAddr("2001:db8::51")}
				fromA, fromB = linkLocalA, linkLocalB
			}
			switch c.auth {
			case "PASS":
				base.Auth = packet.Password("secret")
			case "HMAC":
				base.Seal = &sealed
			}
			configA, configB := base, base
			configA.Interface, configB.Interface = name, "eth0"
			if delivery == "unicast from a given source" {
				if ipv6 {
					fromA, fromB = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
				}
				configA.Source, configB.Source = fromA, fromB
			}
			if delivery != "multicast" {
				configA.Peers = []packet.Peer{{Addr: fromB}}
				configB.Peers = []packet.Peer{{Addr: fromA}}
				configA.CheckSource, configB.CheckSource = true, true
			}
			one, two := a.speak(configA), b.speak(configB)
			defer one.Close()
			defer two.Close()
			nettest.Check(t, one.Send(100))
			got := b.next()
			if got.From != fromA || got.Advertisement.Priority != 100 || got.Advertisement.Interval != time.Second ||
				got.AddressesDiffer {
				t.Errorf("received %+v", got)
			}
			nettest.Check(t, two.Send(0))
			if got := a.next(); got.From != fromB || got.Advertisement.Priority != 0 {
				t.Errorf("received %+v", got)
			}
			if c := one.Counters(); c.Sent != 1 || c.Received != 1 || c.ReceivedZero != 1 || c.Own != 0 {
				t.Errorf("counters %+v", c)
			}
		})
	}
}

// combination is a way of speaking VRRP.
type combination struct {
	version        uint8
	ipv6           bool
	delivery, auth string
}

func combinations() (all []combination) {
	for _, version := range []uint8{2, 3} {
		for _, ipv6 := range []bool{false, true} {
			for _, delivery := range []string{"multicast", "unicast", "unicast from a given source"} {
				plain := "none"
				if version == 2 {
					plain = "PASS"
				}
				all = append(all, combination{version, ipv6, delivery, plain}, combination{version, ipv6, delivery, "HMAC"})
			}
		}
	}
	return all
}

func TestMismatchesAreNamed(t *testing.T) {
	name, host := lan(t)
	a, b := start(t, here), start(t, host.Do)
	base := speaker.Config{
		Name: "V", Version: 2, VRID: 51, Interval: time.Second, Auth: packet.Password("secret"),
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
	}
	configB := base
	configB.Interface = "eth0"
	b.speak(configB)
	for _, test := range []struct {
		name   string
		change func(c *speaker.Config)
		want   packet.Verdict
	}{
		{"wrong password", func(c *speaker.Config) { c.Auth = packet.Password("wrong") }, packet.AuthFailure},
		{"no authentication", func(c *speaker.Config) { c.Auth = packet.Auth{} }, packet.AuthTypeMismatch},
		{"another interval", func(c *speaker.Config) { c.Interval = 2 * time.Second }, packet.Interval},
		{"another version", func(c *speaker.Config) { c.Version, c.Auth = 3, packet.Auth{} }, packet.Version},
		{"unicast", func(c *speaker.Config) {
			c.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.2")}}
		}, packet.Delivery},
	} {
		t.Run(test.name, func(t *testing.T) {
			configA := base
			configA.Interface = name
			test.change(&configA)
			one := a.speak(configA)
			defer one.Close()
			nettest.Check(t, one.Send(100))
			b.expectRejected(test.want)
		})
	}
}

// A speaker whose interface does not exist yet begins when it comes, and again when it comes again.
func TestSpeakerWaitsForItsInterface(t *testing.T) {
	host := nettest.NewHost(t)
	name := nettest.Name("s")
	a, b := start(t, here), start(t, host.Do)
	config := speaker.Config{
		Name: "V", Version: 3, VRID: 51, Interval: time.Second, Interface: name,
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
	}
	there := config
	there.Interface = "eth0"
	one, two := a.open(config), b.open(there)
	for range 2 {
		host.Connect(name, "eth0")
		nettest.AddAddress(t, name, "192.0.2.1/24")
		host.AddAddress("eth0", "192.0.2.2/24")
		exchange := func() {
			t.Helper()
			nettest.Eventually(t, "both can speak", func() bool {
				return one.Status().Err == nil && two.Status().Err == nil &&
					nettest.Link(t, name).Running && host.Link("eth0").Running
			})
			nettest.Check(t, one.Send(100))
			b.next()
			nettest.Check(t, two.Send(100))
			a.next()
		}
		exchange()
		l, err := netlink.LinkByName(name)
		nettest.Check(t, err)
		nettest.Check(t, netlink.LinkSetDown(l)) // groups survive
		nettest.Check(t, netlink.LinkSetUp(l))
		exchange()
		nettest.DeleteAddress(t, name, "192.0.2.1/24")
		nettest.Eventually(t, "no source", func() bool { return one.Status().Err != nil })
		nettest.AddAddress(t, name, "192.0.2.1/24")
		exchange()
		nettest.Check(t, netlink.LinkDel(l))
		nettest.Eventually(t, "no interface", func() bool { return one.Status().Index == 0 && two.Status().Index == 0 })
	}
}

func TestAnnouncementsReachTheNeighbour(t *testing.T) {
	name, host := lan(t)
	a := start(t, here)
	s := a.speak(speaker.Config{
		Name: "V", Version: 3, VRID: 51, Interval: time.Second, Interface: name,
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
	})
	nettest.Eventually(t, "IPv6 works", func() bool { return nettest.LinkLocal(t, name).IsValid() })
	mac := nettest.Link(t, name).MAC
	arps, nds := host.Sniff("eth0", ether.TypeARP), host.Sniff("eth0", ether.TypeIPv6)
	vip4, vip6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::51")
	const addresses, repeat = 50, 5
	var targets []speaker.Target
	for range addresses {
		targets = append(targets, speaker.Target{Interface: name, Address: vip4},
			speaker.Target{Interface: name, Address: vip6})
		vip4, vip6 = vip4.Next(), vip6.Next()
	}
	start := time.Now()
	s.Announce(targets, repeat, func() bool { return true })
	seen := make(map[netip.Addr]int)
	for range addresses * repeat {
		f := nettest.Next(t, arps, 2*time.Second, func(f []byte) bool {
			m, err := arp.Parse(f[ether.HeaderLen:])
			return err == nil && m == arp.NewGratuitous(mac, m.SenderIP)
		})
		m, _ := arp.Parse(f.Data[ether.HeaderLen:])
		seen[m.SenderIP]++
		f = nettest.Next(t, nds, 2*time.Second, func(f []byte) bool {
			m, err := ndp.Parse(f[ether.HeaderLen:])
			return err == nil && m == ndp.NewUnsolicited(mac, m.Target, false)
		})
		n, _ := ndp.Parse(f.Data[ether.HeaderLen:])
		seen[n.Target]++
	}
	t.Logf("%d frames after %v", 2*addresses*repeat, time.Since(start))
	for _, target := range targets {
		if seen[target.Address] != repeat {
			t.Errorf("%v was announced %d times, want %d", target.Address, seen[target.Address], repeat)
		}
	}
}
