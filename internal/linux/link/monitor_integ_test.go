//go:build integ

package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// run starts a Monitor whose events go to handler until the test ends, and waits for the first Synced.
func run(t *testing.T, m *link.Monitor, handler func(link.Event)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	synced, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		ended <- m.Run(ctx, func(ev link.Event) {
			handler(ev)
			if _, ok := ev.(link.Synced); ok {
				once.Do(func() { close(synced) })
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-synced:
	case <-time.After(5 * time.Second):
		t.Fatal("no Synced within 5 s")
	}
}

func open(t *testing.T) *link.Monitor {
	t.Helper()
	m, err := link.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// recorder keeps events and the table that they describe.
type recorder struct {
	mu     sync.Mutex
	events []link.Event
	table  link.Table
}

func (r *recorder) handle(ev link.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
	r.table.Apply(ev)
}

func (r *recorder) has(match func(link.Event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.events, match)
}

func (r *recorder) byName(name string) (link.Link, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.ByName(name)
}

func (r *recorder) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

func veth(t *testing.T, name string) *netlink.Veth {
	t.Helper()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	if !nettest.Check(t, netlink.LinkAdd(pair)) {
		t.FailNow()
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	return pair
}

func manager(t *testing.T) *address.Manager {
	t.Helper()
	m, err := address.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestWhatExistsIsReportedBeforeSynced(t *testing.T) {
	name := nettest.Name("m")
	veth(t, name)
	nettest.AddAddress(t, name, "192.0.2.1/24")
	var r recorder
	run(t, open(t), r.handle)
	index := nettest.Link(t, name).Index
	isLink := func(ev link.Event) bool { c, ok := ev.(link.LinkChanged); return ok && c.Link.Name == name }
	isAddr := func(ev link.Event) bool {
		a, ok := ev.(link.AddressAdded)
		return ok && a.Address.Index == index && a.Address.Prefix == netip.MustParsePrefix("192.0.2.1/24")
	}
	isSynced := func(ev link.Event) bool { return ev == link.Event(link.Synced{}) }
	r.mu.Lock()
	defer r.mu.Unlock()
	l, a, s := slices.IndexFunc(r.events, isLink), slices.IndexFunc(r.events, isAddr), slices.IndexFunc(r.events, isSynced)
	if l < 0 || a < l || s < a {
		t.Errorf("interface is event %d, address %d, Synced %d", l, a, s)
	}
}

func TestInterfaceComesRenamesGoesAndComesAgain(t *testing.T) {
	var r recorder
	run(t, open(t), r.handle)
	name := nettest.Name("m")
	pair := veth(t, name)
	nettest.Eventually(t, "interface appears", func() bool { _, ok := r.byName(name); return ok })
	first, _ := r.byName(name)
	if first.Kind != "veth" || !first.Ethernet || first.MAC.IsZero() || first.MTU != 1500 || !first.Multicast {
		t.Errorf("interface %+v", first)
	}
	peer, err := netlink.LinkByName(name + "p")
	nettest.Check(t, err)
	nettest.Check(t, netlink.LinkSetUp(peer))
	nettest.Check(t, netlink.LinkSetUp(pair))
	nettest.Eventually(t, "interface works", func() bool { l, _ := r.byName(name); return l.Works() })
	nettest.Check(t, netlink.LinkSetDown(peer))
	nettest.Eventually(t, "interface is up without link", func() bool { l, _ := r.byName(name); return l.Up && !l.Running })

	nettest.Check(t, netlink.LinkSetDown(pair))
	nettest.Check(t, netlink.LinkSetName(pair, name+"x"))
	nettest.Eventually(t, "interface is renamed", func() bool {
		return r.has(func(ev link.Event) bool {
			c, ok := ev.(link.LinkChanged)
			return ok && c.Before.Name == name && c.Link.Name == name+"x" && c.Link.Index == first.Index
		})
	})
	if _, ok := r.byName(name); ok {
		t.Error("the old name is still there")
	}
	nettest.Check(t, netlink.LinkDel(pair))
	nettest.Eventually(t, "interface is removed", func() bool {
		return r.has(func(ev link.Event) bool { g, ok := ev.(link.LinkRemoved); return ok && g.Link.Index == first.Index })
	})
	veth(t, name)
	nettest.Eventually(t, "interface is back as another one", func() bool {
		l, ok := r.byName(name)
		return ok && l.Index != first.Index
	})
}

func TestPortThatLeavesABridgeStaysAnInterface(t *testing.T) {
	name := nettest.Name("m")
	pair := veth(t, name)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: nettest.Name("br")}}
	nettest.Check(t, netlink.LinkAdd(bridge))
	defer func() { _ = netlink.LinkDel(bridge) }()
	var r recorder
	run(t, open(t), r.handle)
	nettest.Check(t, netlink.LinkSetMaster(pair, bridge))
	nettest.Eventually(t, "port joins", func() bool { l, _ := r.byName(name); return l.Master == bridge.Index })
	nettest.Check(t, netlink.LinkSetNoMaster(pair))
	nettest.Eventually(t, "port leaves", func() bool { l, ok := r.byName(name); return ok && l.Master == 0 })
	nettest.Check(t, netlink.LinkSetMTU(pair, 1400)) // whatever came before this has been handled
	nettest.Eventually(t, "port has another MTU", func() bool { l, _ := r.byName(name); return l.MTU == 1400 })
	if r.has(func(ev link.Event) bool { g, ok := ev.(link.LinkRemoved); return ok && g.Link.Name == name }) {
		t.Error("the interface was reported as removed")
	}
}

func TestRefreshingAnAddressIsNoEvent(t *testing.T) {
	name := nettest.Name("m")
	veth(t, name)
	index := nettest.Link(t, name).Index
	m := manager(t)
	vips := []address.Address{
		address.Virtual(index, netip.MustParsePrefix("192.0.2.10/32")),
		address.Virtual(index, netip.MustParsePrefix("192.0.2.11/24")),
	}
	for _, vip := range vips {
		nettest.Check(t, m.Put(vip, address.Lifetime{Valid: 10}))
	}
	var r recorder
	run(t, open(t), r.handle)
	r.clear()
	for range 20 {
		for _, vip := range vips {
			nettest.Check(t, m.Put(vip, address.Lifetime{Valid: 20}))
		}
	}
	nettest.Check(t, m.Put(vips[0], address.Lifetime{})) // permanent
	nettest.Check(t, m.Put(vips[0], address.Lifetime{Valid: 20}))
	nettest.Check(t, m.Remove(vips[1]))
	nettest.Eventually(t, "removal", func() bool { return r.has(func(ev link.Event) bool { return isRemoval(ev, vips[1]) }) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) != 1 {
		t.Errorf("events %+v, want only the removal of %v", r.events, vips[1])
	}
}

func isRemoval(ev link.Event, a address.Address) bool {
	removed, ok := ev.(link.AddressRemoved)
	return ok && removed.Address.Index == a.Index && removed.Address.Prefix == a.Prefix
}

// An address that somebody else removes is reported so fast that a consumer that puts it back is done long before 100 ms.
func TestRemovedAddressIsBackInMilliseconds(t *testing.T) {
	const rounds = 50
	name := nettest.Name("m")
	pair := veth(t, name)
	nettest.Check(t, netlink.LinkSetUp(pair))
	index := nettest.Link(t, name).Index
	vip := address.Virtual(index, netip.MustParsePrefix("192.0.2.10/32"))
	m := manager(t)
	nettest.Check(t, m.Put(vip, address.Lifetime{Valid: 60}))
	back := make(chan time.Time, rounds)
	run(t, open(t), func(ev link.Event) {
		if isRemoval(ev, vip) {
			nettest.Check(t, m.Put(vip, address.Lifetime{Valid: 60}))
			back <- time.Now()
		}
	})
	var gaps []time.Duration
	for i := range rounds {
		start := time.Now()
		if i%2 == 0 {
			nettest.DeleteAddress(t, name, "192.0.2.10/32")
		} else { // as "ip addr flush" and systemd-networkd do it: every address of the interface
			list, err := netlink.AddrList(pair, netlink.FAMILY_V4)
			nettest.Check(t, err)
			for _, a := range list {
				nettest.Check(t, netlink.AddrDel(pair, &a))
			}
		}
		select {
		case at := <-back:
			gaps = append(gaps, at.Sub(start))
		case <-time.After(time.Second):
			t.Fatal("not back within a second")
		}
		time.Sleep(2 * time.Millisecond)
	}
	slices.Sort(gaps)
	t.Logf("back after the beginning of the removal: median %v, longest %v (%d times)", gaps[rounds/2], gaps[rounds-1], rounds)
	if gaps[rounds-1] > 100*time.Millisecond {
		t.Errorf("longest gap %v", gaps[rounds-1])
	}
}

// While the consumer is stuck the kernel's queue runs over. Afterwards the consumer's state is the kernel's.
func TestOverflowIsMadeUpFor(t *testing.T) {
	name := nettest.Name("m")
	pair := veth(t, name)
	vip := netip.MustParsePrefix("198.51.100.1/32")
	nettest.AddAddress(t, name, vip.String())
	m := open(t)
	link.ShrinkReceiveBuffer(m)
	var r recorder
	stuck, resume := make(chan struct{}), make(chan struct{})
	var once sync.Once
	run(t, m, func(ev link.Event) {
		r.handle(ev)
		if a, ok := ev.(link.AddressAdded); ok && a.Address.Prefix == netip.MustParsePrefix("10.0.0.0/32") {
			once.Do(func() { close(stuck); <-resume })
		}
	})
	const count = 2000
	for i := range count {
		nettest.AddAddress(t, name, fmt.Sprintf("10.0.%d.%d/32", i/256, i%256))
		if i == 0 {
			<-stuck
		}
	}
	for i := range count / 2 {
		nettest.DeleteAddress(t, name, fmt.Sprintf("10.0.%d.%d/32", i/256, i%256))
	}
	nettest.DeleteAddress(t, name, vip.String())
	nettest.Check(t, netlink.LinkSetMTU(pair, 1300))
	close(resume)
	nettest.Eventually(t, "Synced with the loss", func() bool {
		return r.has(func(ev link.Event) bool {
			s, ok := ev.(link.Synced)
			return ok && errors.Is(s.Lost, unix.ENOBUFS)
		})
	})
	nettest.AddAddress(t, name, "203.0.113.1/32") // heard by notification, after the resync
	index := nettest.Link(t, name).Index
	prefixes := func(list []address.Address) (all []string) {
		for _, a := range list {
			if a.Index == index {
				all = append(all, a.Prefix.String())
			}
		}
		slices.Sort(all)
		return all
	}
	kernel, err := manager(t).List()
	nettest.Check(t, err)
	nettest.Eventually(t, "the table is the kernel's", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		l, _ := r.table.ByIndex(index)
		return l.MTU == 1300 && slices.Equal(prefixes(r.table.Addresses(index)), prefixes(kernel))
	})
	if !r.has(func(ev link.Event) bool {
		removed, ok := ev.(link.AddressRemoved)
		return ok && removed.Address.Prefix == vip
	}) {
		t.Error("an address that went during the loss was not reported as removed")
	}
}

// What other programs write into the group is not taken for the kernel's word.
func TestOnlyTheKernelIsBelieved(t *testing.T) {
	var r recorder
	m := open(t)
	run(t, m, r.handle)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	forged := link.ForgedRemoval(1) // of the loopback interface
	err = unix.Sendto(fd, forged, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: link.Port(m)})
	if err != nil {
		t.Skipf("the kernel does not let another program write to us: %v", err)
	}
	name := nettest.Name("m")
	veth(t, name)
	nettest.Eventually(t, "interface appears", func() bool { _, ok := r.byName(name); return ok })
	if _, ok := r.byName("lo"); !ok {
		t.Error("a forged notification was believed")
	}
}
