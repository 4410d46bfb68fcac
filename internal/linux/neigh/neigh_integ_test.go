//go:build integ

package neigh_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/arp"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/ndp"
	"github.com/hactl/had/internal/linux/neigh"
	"github.com/hactl/had/internal/linux/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

var (
	vip4 = netip.MustParseAddr("192.0.2.10")
	vip6 = netip.MustParseAddr("2001:db8::10")
)

// lan is this process on one end of a link, and a neighbour on the other.
type lan struct {
	t         *testing.T
	name      string
	neighbour *nettest.Host
	sender    *neigh.Sender
	link      link.Link // our end
	peer      link.Link // its end
}

func setup(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, name: nettest.Name("n"), neighbour: nettest.NewHost(t)}
	l.neighbour.Connect(l.name, "eth0")
	nettest.AddAddress(t, l.name, "192.0.2.1/24")
	nettest.AddAddress(t, l.name, "2001:db8::1/64")
	l.neighbour.AddAddress("eth0", "192.0.2.2/24")
	l.neighbour.AddAddress("eth0", "2001:db8::2/64")
	l.link, l.peer = nettest.Link(t, l.name), l.neighbour.Link("eth0")
	nettest.LinkLocal(t, l.name)
	var err error
	if l.sender, err = neigh.OpenSender(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nettest.Check(t, l.sender.Close()) })
	return l
}

// watcher returns a Watcher that knows the interfaces of this process, and its claims.
func (l *lan) watcher() (*neigh.Watcher, <-chan neigh.Claim) {
	l.t.Helper()
	claims := make(chan neigh.Claim, 1000)
	w := neigh.NewWatcher(slog.New(slog.DiscardHandler), l.sender, func(c neigh.Claim) { claims <- c })
	l.t.Cleanup(w.Close)
	w.HandleLink(link.LinkChanged{Link: l.link})
	linkLocal := netip.PrefixFrom(nettest.LinkLocal(l.t, l.name), 64)
	added := link.AddressAdded{}
	added.Address.Index, added.Address.Prefix = l.link.Index, linkLocal
	w.HandleLink(added)
	return w, claims
}

// gratuitous is a gratuitous ARP request of the neighbour.
func (l *lan) gratuitous(mac ether.MAC, ip netip.Addr) []byte {
	frame, err := arp.NewGratuitous(mac, ip).AppendFrame(nil, ether.Broadcast)
	nettest.Check(l.t, err)
	return frame
}

// unsolicited is an unsolicited neighbour advertisement of the neighbour.
func (l *lan) unsolicited(mac ether.MAC, ip netip.Addr) []byte {
	frame, err := ndp.NewUnsolicited(mac, ip, false).AppendFrame(nil, mac)
	nettest.Check(l.t, err)
	return frame
}

func expect(t *testing.T, claims <-chan neigh.Claim, want neigh.Claim) neigh.Claim {
	t.Helper()
	select {
	case got := <-claims:
		suppressed := got.Suppressed
		got.Suppressed = 0
		if got != want {
			t.Errorf("claim\n got %+v\nwant %+v", got, want)
		}
		got.Suppressed = suppressed
		return got
	case <-time.After(2 * time.Second):
		t.Fatalf("no claim, want %+v", want)
	}
	return neigh.Claim{}
}

func expectNone(t *testing.T, claims <-chan neigh.Claim) {
	t.Helper()
	select {
	case got := <-claims:
		t.Errorf("unexpected claim %+v", got)
	case <-time.After(100 * time.Millisecond):
	}
}

// hardware returns what the neighbour believes to be the hardware address of ip.
func (l *lan) hardware(ip netip.Addr) (mac ether.MAC) {
	l.neighbour.Do(func() {
		list, err := netlink.NeighList(l.peer.Index, netlink.FAMILY_ALL)
		nettest.Check(l.t, err)
		for _, n := range list {
			if addr, _ := netip.AddrFromSlice(n.IP); addr.Unmap() == ip && n.State&netlink.NUD_FAILED == 0 {
				mac, _ = ether.FromSlice(n.HardwareAddr)
			}
		}
	})
	return mac
}

func TestAnnouncementsOnTheWire(t *testing.T) {
	l := setup(t)
	arps := l.neighbour.Sniff("eth0", ether.TypeARP)
	nds := l.neighbour.Sniff("eth0", ether.TypeIPv6)
	nettest.Check(t, l.sender.Announce(l.link, vip4, false))
	want := l.gratuitous(l.link.MAC, vip4)
	nettest.Next(t, arps, time.Second, func(f []byte) bool { return bytes.Equal(f, want) })
	for _, router := range []bool{false, true} {
		// The address need not be on the interface.
		nettest.Check(t, l.sender.Announce(l.link, vip6, router))
		want, err := ndp.NewUnsolicited(l.link.MAC, vip6, router).AppendFrame(nil, l.link.MAC)
		nettest.Check(t, err)
		nettest.Next(t, nds, time.Second, func(f []byte) bool { return bytes.Equal(f, want) })
	}
}

// A neighbour that sent to another machine so far sends to us after the announcement.
func TestAnnouncementsMoveAddresses(t *testing.T) {
	l := setup(t)
	old := ether.MAC{2, 0, 0, 0, 0, 0x77}
	for _, ip := range []netip.Addr{vip4, vip6} {
		l.neighbour.Do(func() {
			nettest.Check(t, netlink.NeighSet(&netlink.Neigh{
				LinkIndex: l.peer.Index, State: unix.NUD_STALE, IP: ip.AsSlice(), HardwareAddr: old[:],
			}))
		})
		if got := l.hardware(ip); got != old {
			t.Fatalf("before: %v is at %v, want %v", ip, got, old)
		}
		nettest.Check(t, l.sender.Announce(l.link, ip, false))
		nettest.Eventually(t, "the neighbour believes us", func() bool { return l.hardware(ip) == l.link.MAC })
	}
}

func TestAnnouncingWhereNothingResolvesIsRefused(t *testing.T) {
	l := setup(t)
	loopback := nettest.Link(t, "lo")
	noARP := l.link
	noARP.NoARP = true
	for _, where := range []link.Link{loopback, noARP} {
		if err := l.sender.Announce(where, vip4, false); !errors.Is(err, neigh.ErrUnable) {
			t.Errorf("Announce on %+v: %v", where, err)
		}
	}
	gone := l.link
	gone.Index = 1 << 20
	for _, ip := range []netip.Addr{vip4, vip6} {
		if err := l.sender.Announce(gone, ip, false); err == nil {
			t.Errorf("Announce of %v on an interface that does not exist succeeded", ip)
		}
	}
}

func TestClaimsOfAStranger(t *testing.T) {
	l := setup(t)
	w, claims := l.watcher()
	w.Watch(l.name, []netip.Addr{vip4, vip6})
	claim := func(ip netip.Addr, kind neigh.Kind) neigh.Claim {
		return neigh.Claim{
			Interface: l.name, Index: l.link.Index, Addr: ip, MAC: l.peer.MAC, Sender: l.peer.MAC, Kind: kind,
		}
	}
	l.neighbour.Inject("eth0", l.gratuitous(l.peer.MAC, vip4))
	expect(t, claims, claim(vip4, neigh.GratuitousARP))
	l.neighbour.Inject("eth0", l.unsolicited(l.peer.MAC, vip6))
	expect(t, claims, claim(vip6, neigh.NeighborAdvertisement))

	// Our own announcements and questions are no claims; neither are other addresses.
	nettest.Check(t, l.sender.Announce(l.link, vip4, false))
	nettest.Check(t, l.sender.Announce(l.link, vip6, false))
	l.neighbour.Inject("eth0", l.gratuitous(l.peer.MAC, vip4.Next()))
	l.neighbour.Inject("eth0", l.unsolicited(l.peer.MAC, vip6.Next()))
	expectNone(t, claims)

	// The watched set is replaced, and ended.
	time.Sleep(150 * time.Millisecond) // equal claims are reported again
	w.Watch(l.name, []netip.Addr{vip6})
	l.neighbour.Inject("eth0", l.gratuitous(l.peer.MAC, vip4))
	l.neighbour.Inject("eth0", l.unsolicited(l.peer.MAC, vip6))
	expect(t, claims, claim(vip6, neigh.NeighborAdvertisement))
	w.Watch(l.name, nil)
	time.Sleep(150 * time.Millisecond)
	l.neighbour.Inject("eth0", l.unsolicited(l.peer.MAC, vip6))
	expectNone(t, claims)
}

// A host that innocently configures the address shows itself when it talks to us.
func TestClaimsOfAHostThatHasTheAddress(t *testing.T) {
	l := setup(t)
	w, claims := l.watcher()
	l.neighbour.AddAddress("eth0", vip4.String()+"/32")
	w.Watch(l.name, []netip.Addr{vip4})
	want := neigh.Claim{
		Interface: l.name, Index: l.link.Index, Addr: vip4, MAC: l.peer.MAC, Sender: l.peer.MAC, Kind: neigh.ARPReply,
	}
	nettest.Check(t, l.sender.Ask(l.link, vip4, netip.Addr{})) // anybody's question will do
	expect(t, claims, want)
}

func TestAnotherInterfaceOfThisMachineIsNoStranger(t *testing.T) {
	l := setup(t)
	w, claims := l.watcher()
	w.Watch(l.name, []netip.Addr{vip4})
	second := link.Link{Index: 99, Name: "second", MAC: ether.MAC{2, 0, 0, 0, 0, 0x55}, Ethernet: true}
	virtual := link.Link{Index: 98, Name: "vrrp.51", MAC: ether.MAC{0, 0, 0x5e, 0, 1, 51}, Ethernet: true}
	w.HandleLink(link.LinkChanged{Link: second})
	w.HandleLink(link.LinkChanged{Link: virtual})
	want := neigh.Claim{Interface: l.name, Index: l.link.Index, Addr: vip4, Kind: neigh.GratuitousARP}
	for _, test := range []struct {
		mac  ether.MAC
		ours bool
	}{{second.MAC, true}, {virtual.MAC, false}} {
		l.neighbour.Inject("eth0", l.gratuitous(test.mac, vip4))
		want.MAC, want.Sender, want.Ours = test.mac, test.mac, test.ours
		expect(t, claims, want)
	}
	w.HandleLink(link.LinkRemoved{Link: second})
	time.Sleep(150 * time.Millisecond)
	l.neighbour.Inject("eth0", l.gratuitous(second.MAC, vip4))
	want.MAC, want.Sender, want.Ours = second.MAC, second.MAC, false
	expect(t, claims, want)
}

func TestWatchingWaitsForTheInterface(t *testing.T) {
	neighbour := nettest.NewHost(t)
	name := nettest.Name("n")
	sender, err := neigh.OpenSender()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { nettest.Check(t, sender.Close()) }()
	claims := make(chan neigh.Claim, 10)
	w := neigh.NewWatcher(slog.New(slog.DiscardHandler), sender, func(c neigh.Claim) { claims <- c })
	defer w.Close()
	w.Watch(name, []netip.Addr{vip4})
	ctx, cancel := context.WithCancel(context.Background())
	monitor, err := link.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- monitor.Run(ctx, w.HandleLink) }()
	defer func() { cancel(); nettest.Check(t, <-ended) }()

	l := &lan{t: t, neighbour: neighbour}
	claimed := func() bool {
		neighbour.Inject("eth0", l.gratuitous(neighbour.Link("eth0").MAC, vip4))
		select {
		case c := <-claims:
			return c.Interface == name
		case <-time.After(20 * time.Millisecond):
			return false
		}
	}
	for range 2 { // it comes, goes, and comes again
		neighbour.Connect(name, "eth0")
		nettest.Eventually(t, "a claim on the new interface", claimed)
		w.Watch(name, nil)
		var limit unix.Rlimit // no file descriptors are left for a while
		nettest.Check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		nettest.Check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}))
		w.Watch(name, []netip.Addr{vip4})
		nettest.Check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if claimed() {
			t.Error("a claim is heard for which no socket could be opened")
		}
		w.Retry()
		nettest.Eventually(t, "a claim when there are file descriptors again", claimed)
		first, err := netlink.LinkByName(name)
		nettest.Check(t, err)
		nettest.Check(t, netlink.LinkSetDown(first)) // down and up again
		nettest.Check(t, netlink.LinkSetUp(first))
		nettest.Eventually(t, "a claim after the link was down", claimed)
		nettest.Check(t, netlink.LinkSetDown(first))
		nettest.Check(t, netlink.LinkSetName(first, name+"x")) // renamed away and back
		nettest.Check(t, netlink.LinkSetName(first, name))
		nettest.Check(t, netlink.LinkSetUp(first))
		nettest.Eventually(t, "a claim after the renaming", claimed)
		nettest.Check(t, netlink.LinkDel(first))
	}
}

func TestSecondLookFindsWhoHasTheAddress(t *testing.T) {
	l := setup(t)
	w, claims := l.watcher()
	l.neighbour.AddAddress("eth0", vip4.String()+"/32")
	l.neighbour.AddAddress("eth0", vip6.String()+"/128")
	addrs := []netip.Addr{vip4, vip4.Next(), vip6, vip6.Next()}
	start := time.Now()
	found, err := w.Ask(context.Background(), l.name, addrs, netip.Addr{}, 2, 200*time.Millisecond)
	nettest.Check(t, err)
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("gave up after %v although two addresses were not answered", took)
	}
	if len(found) != 2 || found[0].Addr != vip4 || found[1].Addr != vip6 {
		t.Fatalf("found %+v", found)
	}
	for _, c := range found {
		if c.MAC != l.peer.MAC || c.Ours {
			t.Errorf("claim %+v, want the neighbour's %v", c, l.peer.MAC)
		}
	}
	start = time.Now()
	found, err = w.Ask(context.Background(), l.name, []netip.Addr{vip4, vip6}, netip.Addr{}, 2, 2*time.Second)
	nettest.Check(t, err)
	if took := time.Since(start); len(found) != 2 || took > time.Second {
		t.Errorf("%d answers after %v", len(found), took)
	} else {
		t.Logf("both answers after %v", took)
	}
	expectNone(t, claims) // nothing is watched
	if got := l.hardware(vip4); !got.IsZero() {
		t.Errorf("the question put %v into the neighbour's cache", got)
	}
}

func TestSecondLookWhenNobodyAnswers(t *testing.T) {
	l := setup(t)
	w, _ := l.watcher()
	// We have the addresses ourselves: that is no answer.
	nettest.AddAddress(t, l.name, vip4.String()+"/32")
	nettest.AddAddress(t, l.name, vip6.String()+"/128")
	found, err := w.Ask(context.Background(), l.name, []netip.Addr{vip4, vip6}, netip.Addr{}, 3, 150*time.Millisecond)
	if err != nil || len(found) != 0 {
		t.Errorf("Ask = %+v, %v", found, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.Ask(ctx, l.name, []netip.Addr{vip4}, netip.Addr{}, 1, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := w.Ask(ctx, "no-such-iface", []netip.Addr{vip4}, netip.Addr{}, 1, time.Minute); !errors.Is(err, neigh.ErrNoInterface) {
		t.Errorf("no interface: %v", err)
	}
}

// A flood of claims neither floods the consumer nor keeps the claims of others from it for long.
func TestStormOfClaims(t *testing.T) {
	l := setup(t)
	w, claims := l.watcher()
	w.Watch(l.name, []netip.Addr{vip4})
	frame := l.gratuitous(l.peer.MAC, vip4)
	start := time.Now()
	l.neighbour.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if nettest.Check(t, err) {
			for range 20_000 {
				_ = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.peer.Index})
			}
			nettest.Check(t, unix.Close(fd))
		}
	})
	flood := time.Since(start)
	time.Sleep(200 * time.Millisecond)
	most := int((flood+200*time.Millisecond)/(100*time.Millisecond)) + 2
	if n := len(claims); n == 0 || n > most {
		t.Errorf("%d claims reported of a flood of %v, want 1 to %d", n, flood, most)
	}
	for len(claims) > 0 {
		<-claims
	}
	other := ether.MAC{2, 0, 0, 0, 0, 0x42}
	nettest.Eventually(t, "another station's claim", func() bool {
		l.neighbour.Inject("eth0", l.gratuitous(other, vip4))
		for {
			select {
			case c := <-claims:
				if c.MAC == other {
					return true
				}
			case <-time.After(20 * time.Millisecond):
				return false
			}
		}
	})
}
