//go:build interop

package interop_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
)

const (
	askInterval = 10 * time.Millisecond
	// second is the routers' interface on the second segment, and the name of its switch on the asking host.
	second = "eth1"
	// readTime is how long a frame may wait on a busy machine until it is in the record.
	readTime = 100 * time.Millisecond
	// linkLimit bounds the wait for a link that the kernel has been told to set up.
	linkLimit = 3 * time.Second
)

// Addresses of the first segment; the second one has 10.78 in place of 10.77. Router number n has the addresses ending in n.
var (
	asker4       = netip.MustParseAddr("10.77.0.9")
	asker6       = netip.MustParseAddr("fd77::9")
	asker4Second = netip.MustParseAddr("10.78.0.9")
)

// virtual is a virtual router that the routers of a LAN share.
type virtual struct {
	wire  int    // 0: the first segment
	iface string // of the routers
	vrid  uint8
	vips  []netip.Addr
}

// lan is a LAN on which routers meet, and the record of what they did.
type lan struct {
	t        *testing.T
	lab      *lab.Lab
	asker    *lab.Host
	virtuals []virtual
	routers  []*router
	record   *record
	start    time.Time
	dir      string

	mu       sync.Mutex
	stations map[string]string // names by hardware address
}

// newLAN builds a LAN whose routers share the given addresses as one virtual router, once there are few enough others.
func newLAN(t *testing.T, vips ...string) *lan {
	t.Helper()
	takeTurn(t)
	l := bareLAN(t)
	var err error
	l.asker, err = l.lab.AddHost("asker", netip.PrefixFrom(asker4, 24), netip.PrefixFrom(asker6, 64))
	if err != nil {
		t.Fatal(err)
	}
	l.share(0, vrid, vips...)
	return l
}

// bareLAN builds a LAN on which there is nobody yet.
func bareLAN(t *testing.T) *lan {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &lan{t: t, record: &record{}, dir: dir, stations: map[string]string{}, start: time.Now()}
	if l.lab, err = lab.New(context.Background(), lab.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.dump()
		}
		if err := l.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// share adds a virtual router on a wire.
func (l *lan) share(wire int, vrid uint8, vips ...string) {
	l.t.Helper()
	v := virtual{wire: wire, iface: lab.Interface, vrid: vrid, vips: addresses(vips)}
	source := asker4
	if wire == 1 {
		v.iface, source = second, asker4Second
	}
	l.virtuals = append(l.virtuals, v)
	l.ask(v, source)
}

// addresses takes the addresses out of virtual_ipaddress lines.
func addresses(lines []string) []netip.Addr {
	var addrs []netip.Addr
	for _, line := range lines {
		text, _, _ := strings.Cut(strings.Fields(line)[0], "/")
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

// ask starts to ask for a virtual router's addresses and records who answers, until the end of the test.
func (l *lan) ask(v virtual, source netip.Addr) {
	l.t.Helper()
	wire, err := openTap(l.asker, v.iface, func(at time.Time, outgoing bool, f frame) {
		if !outgoing && f.kind == answer && slices.Contains(v.vips, f.addr) {
			l.record.add(event{at: at, router: l.station(f.mac), wire: v.wire, frame: f})
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(askInterval)
		defer tick.Stop()
		for {
			wire.ask(source, asker6, v.vips)
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	l.t.Cleanup(func() {
		close(done)
		<-ended
		wire.close()
	})
}

// station names the owner of a hardware address.
func (l *lan) station(mac net.HardwareAddr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name, ok := l.stations[mac.String()]; ok {
		return name
	}
	return mac.String()
}

func (l *lan) know(mac net.HardwareAddr, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stations[mac.String()] = name
}

// addHost adds the host of router number n and listens to what it sends.
func (l *lan) addHost(n int, name string) *lab.Host {
	l.t.Helper()
	h, err := l.lab.AddHost(fmt.Sprintf("r%d", n), netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", n)),
		netip.MustParsePrefix(fmt.Sprintf("fd77::%d/64", n)))
	if err != nil {
		l.t.Fatal(err)
	}
	l.know(h.MAC(), name)
	l.listen(h, 0, lab.Interface, name)
	return h
}

// listen records what a router sends on a wire, and what arrives there from others.
func (l *lan) listen(h *lab.Host, number int, iface, name string) {
	l.t.Helper()
	wire, err := openTap(h, iface, func(at time.Time, outgoing bool, f frame) {
		switch {
		case outgoing && f.kind != answer:
			l.record.add(event{at: at, router: name, wire: number, frame: f})
		case !outgoing && f.kind != answer:
			l.record.hear(at, f.raw)
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(wire.close)
}

// addSegment connects the routers by a second wire, a switch on the asking host, and adds a virtual router to it.
func (l *lan) addSegment(vrid uint8, vips ...string) {
	l.t.Helper()
	if err := l.buildSegment(); err != nil {
		l.t.Fatalf("build the second segment: %v", err)
	}
	for _, r := range l.routers {
		link, err := r.host.Netlink().LinkByName(second)
		if err != nil {
			l.t.Fatal(err)
		}
		l.know(link.Attrs().HardwareAddr, r.name)
		l.listen(r.host, 1, second, r.name)
	}
	l.share(1, vrid, vips...)
}

func (l *lan) buildSegment() error {
	nl := l.asker.Netlink()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = second
	snooping := false
	if err := nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return err
	}
	bridge, err := nl.LinkByName(second)
	if err != nil {
		return err
	}
	if err := errors.Join(nl.LinkSetUp(bridge), addAddress(nl, bridge, asker4Second.String()+"/24")); err != nil {
		return err
	}
	for i, r := range l.routers {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = second
		port := fmt.Sprintf("port%d", i+1)
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: port, PeerNamespace: netlink.NsFd(l.asker.Namespace())}
		if err := r.host.Netlink().LinkAdd(veth); err != nil {
			return err
		}
		theirs, err := nl.LinkByName(port)
		if err != nil {
			return err
		}
		ours, err := r.host.Netlink().LinkByName(second)
		if err != nil {
			return err
		}
		if err := errors.Join(nl.LinkSetMaster(theirs, bridge), nl.LinkSetUp(theirs), r.host.Netlink().LinkSetUp(ours),
			addAddress(r.host.Netlink(), ours, fmt.Sprintf("10.78.0.%d/24", i+1))); err != nil {
			return err
		}
		for _, end := range []struct {
			nl   *netlink.Handle
			name string
		}{{nl, port}, {r.host.Netlink(), second}} {
			if err := awaitUp(end.nl, end.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func addAddress(nl *netlink.Handle, link netlink.Link, prefix string) error {
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return nl.AddrAdd(link, addr)
}

// awaitUp waits until the kernel takes a link for usable.
func awaitUp(nl *netlink.Handle, name string) error {
	for deadline := time.Now().Add(linkLimit); ; time.Sleep(time.Millisecond) {
		link, err := nl.LinkByName(name)
		switch {
		case err != nil:
			return err
		case link.Attrs().OperState == netlink.OperUp:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s is not up after %s", name, linkLimit)
		}
	}
}

// await waits until a condition holds; whyNot returns nothing when it does. The test fails when it does not within the limit.
func (l *lan) await(limit time.Duration, what string, whyNot func() string) {
	l.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		reason, over := whyNot(), time.Now().After(deadline)
		if reason == "" {
			return
		}
		for _, r := range l.routers {
			if ended := r.ended(); ended != "" {
				reason, over = ended, true
			}
		}
		if over {
			l.t.Fatalf("not within %.1f s: %s (%s)", limit.Seconds(), what, reason)
		}
	}
}

// awaitMaster waits until a router has been the only master of all virtual routers for a while: it alone advertises, it
// alone answers for every address, and only its kernel has them.
func (l *lan) awaitMaster(r *router, limit time.Duration) {
	l.t.Helper()
	l.awaitMasters(limit, slices.Repeat([]*router{r}, len(l.virtuals))...)
}

// awaitMasters waits until each virtual router has had its one master for a while.
func (l *lan) awaitMasters(limit time.Duration, masters ...*router) {
	l.t.Helper()
	began := time.Now()
	for i, r := range masters {
		v := l.virtuals[i]
		l.await(limit-time.Since(began), fmt.Sprintf("%s is the only master of VRID %d with %s", r.name, v.vrid, v.vips[0]), func() string {
			since := time.Now().Add(-r.settle())
			if since.Before(began) {
				return "too early to tell"
			}
			return l.notMaster(v, r, since)
		})
	}
}

// notMaster says why a router was not the only master of a virtual router since an instant, or nothing if it was.
func (l *lan) notMaster(v virtual, r *router, since time.Time) string {
	expected := max(3, int(time.Since(since)/askInterval/20)) // a busy machine asks less often
	if reason := l.record.whyNot(r.name, v, since, expected); reason != "" {
		return reason
	}
	for _, other := range l.routers {
		if other.dead() || other.keepsAddresses() {
			continue
		}
		for _, vip := range v.vips {
			has, err := other.has(v.iface, vip)
			switch {
			case err != nil:
				return err.Error()
			case has != (other == r):
				return fmt.Sprintf("%s in the kernel of %s: %t", vip, other.name, has)
			}
		}
	}
	return ""
}

// staysMaster fails the test unless a router is and remains the only master for a span.
func (l *lan) staysMaster(r *router, span time.Duration) {
	l.t.Helper()
	since := time.Now()
	time.Sleep(span)
	for _, v := range l.virtuals {
		if reason := l.notMaster(v, r, since); reason != "" {
			l.t.Fatalf("%s did not remain the only master: %s", r.name, reason)
		}
	}
}

// firstAdvert waits for a router's first advertisement with a living priority since an instant.
func (l *lan) firstAdvert(r *router, since time.Time, limit time.Duration) time.Time {
	l.t.Helper()
	var at time.Time
	l.await(limit, r.name+" advertises", func() string {
		for _, e := range l.record.adverts(r.name, since) {
			if e.priority > 0 {
				at = e.at
				return ""
			}
		}
		return "silent"
	})
	return at
}

// lastAdvert is the moment of a router's newest advertisement with a living priority.
func (l *lan) lastAdvert(r *router) time.Time {
	l.t.Helper()
	time.Sleep(readTime)
	list := l.record.find(l.start, func(e *event) bool { return e.kind == advert && e.router == r.name && e.priority > 0 })
	if len(list) == 0 {
		l.t.Fatalf("%s has never advertised", r.name)
	}
	return list[len(list)-1].at
}

// dump logs all that helps to understand a failure.
func (l *lan) dump() {
	l.t.Logf("what was seen, in seconds since %s:\n%s", l.start.Format(time.TimeOnly), l.record.timeline(l.start))
	files, _ := filepath.Glob(filepath.Join(l.dir, "*", "*"))
	slices.Sort(files)
	for _, name := range files {
		if ext := filepath.Ext(name); ext != ".conf" && ext != ".log" {
			continue
		}
		if content, err := os.ReadFile(name); err == nil && len(content) > 0 {
			lines := strings.Split(strings.TrimSpace(string(content)), "\n")
			if len(lines) > 80 {
				lines = append([]string{"..."}, lines[len(lines)-80:]...)
			}
			l.t.Logf("%s:\n%s", strings.TrimPrefix(name, l.dir+"/"), strings.Join(lines, "\n"))
		}
	}
}
