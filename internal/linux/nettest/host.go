//go:build integ

package nettest

import (
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
)

// Host is a network namespace beside the one of the test.
type Host struct {
	t  testing.TB
	ns *os.File
}

// NewHost makes a namespace that lives until the test ends.
func NewHost(t testing.TB) *Host {
	t.Helper()
	h := &Host{t: t}
	var err error
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		if err == nil {
			err = up("lo")
		}
	})
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// Do runs f on a thread in the host's namespace and waits for it. f must not call t.Fatal.
func (h *Host) Do(f func()) {
	h.t.Helper()
	var err error
	onThread(func() {
		if err = unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err == nil {
			f()
		}
	})
	if err != nil {
		h.t.Fatalf("enter network namespace: %v", err)
	}
}

// onThread runs f on a thread that ends with it, and waits.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// Connect joins the test's namespace and the host by a veth pair, both ends up, which lives until the test ends.
func (h *Host) Connect(mine, theirs string) {
	h.t.Helper()
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: mine},
		PeerName:      theirs,
		PeerNamespace: netlink.NsFd(int(h.ns.Fd())),
	}
	Check(h.t, netlink.LinkAdd(pair))
	h.t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	Check(h.t, up(mine))
	h.Do(func() { Check(h.t, up(theirs)) })
	// A frame that is sent before both ends have noticed that the link works may be lost.
	Eventually(h.t, "the link is up", func() bool { return Link(h.t, mine).Running && h.Link(theirs).Running })
}

// AddAddress adds an address to an interface of the host, without duplicate address detection.
func (h *Host) AddAddress(iface, prefix string) { h.Do(func() { AddAddress(h.t, iface, prefix) }) }

// DeleteAddress removes it.
func (h *Host) DeleteAddress(iface, prefix string) {
	h.Do(func() { DeleteAddress(h.t, iface, prefix) })
}

// Link returns an interface of the host.
func (h *Host) Link(name string) (l link.Link) {
	h.Do(func() { l = Link(h.t, name) })
	return l
}

// AddAddress adds an address to an interface, without duplicate address detection.
func AddAddress(t testing.TB, iface, prefix string) {
	t.Helper()
	l, err := netlink.LinkByName(iface)
	if Check(t, err) {
		Check(t, netlink.AddrAdd(l, netlinkAddr(prefix)))
	}
}

// DeleteAddress removes an address from an interface.
func DeleteAddress(t testing.TB, iface, prefix string) {
	t.Helper()
	l, err := netlink.LinkByName(iface)
	if Check(t, err) {
		Check(t, netlink.AddrDel(l, netlinkAddr(prefix)))
	}
}

func netlinkAddr(prefix string) *netlink.Addr {
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		panic(err)
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

// Link returns an interface as the link monitor sees it.
func Link(t testing.TB, name string) link.Link {
	t.Helper()
	links, err := link.List()
	Check(t, err)
	for _, l := range links {
		if l.Name == name {
			return l
		}
	}
	t.Errorf("interface %s does not exist", name)
	return link.Link{}
}

// LinkLocal waits for an IPv6 link-local address on an interface and returns it.
func LinkLocal(t testing.TB, iface string) netip.Addr {
	t.Helper()
	manager, err := address.New()
	if !Check(t, err) {
		return netip.Addr{}
	}
	defer manager.Close()
	var found netip.Addr
	index := Link(t, iface).Index
	Eventually(t, iface+" has a link-local address", func() bool {
		list, err := manager.List()
		Check(t, err)
		for _, a := range list {
			if a.Index == index && a.Prefix.Addr().IsLinkLocalUnicast() && a.Flags&address.Tentative == 0 {
				found = a.Prefix.Addr()
			}
		}
		return found.IsValid()
	})
	return found
}

// Check reports an error and tells whether there was none. Unlike t.Fatal it may be called by any goroutine.
func Check(t testing.TB, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// Eventually waits up to five seconds for a condition.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// Name returns an interface name that no other call returned.
func Name(prefix string) string {
	names++
	return prefix + strconv.Itoa(names)
}

var names int
