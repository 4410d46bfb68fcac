//go:build interop

package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
)

// virtualMAC is the address of the virtual router of a combination (RFC 9568 section 7.3).
func (c combination) virtualMAC() net.HardwareAddr {
	if c.ipv6 {
		return net.HardwareAddr{0, 0, 0x5e, 0, 2, vrid}
	}
	return net.HardwareAddr{0, 0, 0x5e, 0, 1, vrid}
}

// listenAnswers records what a router answers at its own interface: two routers with one MAC address look alike elsewhere.
func (l *lan) listenAnswers(r *router) {
	l.t.Helper()
	wire, err := openTap(r.host, lab.Interface, func(at time.Time, outgoing bool, f frame) {
		if outgoing && f.kind == answer {
			l.record.add(event{at: at, router: r.name, frame: f})
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(wire.close)
}

// awaitVMACMaster waits until a router has been the only one to advertise and to answer for a while, and checks the MAC
// addresses that it does so with.
func (l *lan) awaitVMACMaster(r *router, c combination, advertMAC net.HardwareAddr, limit time.Duration) {
	l.t.Helper()
	began := time.Now()
	l.await(limit, r.name+" is the only master with the virtual MAC address", func() string {
		since := time.Now().Add(-r.settle())
		if since.Before(began) {
			return "too early to tell"
		}
		spoke, answers := 0, map[netip.Addr]int{}
		for _, e := range l.record.find(since, func(e *event) bool { return e.kind == answer || e.kind == advert && e.priority > 0 }) {
			switch {
			case !slices.ContainsFunc(l.routers, func(r *router) bool { return r.name == e.router }):
				// An answer as the asking host sees it.
			case e.router != r.name && !l.deadRouter(e.router):
				return fmt.Sprintf("%s: %s", e.router, e.kind)
			case e.router != r.name:
			case e.kind == answer && slices.Contains(l.virtuals[0].vips, e.addr):
				if !bytes.Equal(e.mac, c.virtualMAC()) {
					return fmt.Sprintf("%s answers for %s as %s", e.router, e.addr, e.mac)
				}
				answers[e.addr]++
			case e.kind == advert:
				if !bytes.Equal(e.mac, advertMAC) {
					return fmt.Sprintf("%s advertises as %s", e.router, e.mac)
				}
				spoke++
			}
		}
		for _, vip := range l.virtuals[0].vips {
			if answers[vip] < 3 {
				return fmt.Sprintf("%d answers for %s", answers[vip], vip)
			}
		}
		if spoke == 0 {
			return "no advertisement"
		}
		return ""
	})
}

func (l *lan) deadRouter(name string) bool {
	return slices.ContainsFunc(l.routers, func(r *router) bool { return r.name == name && r.dead() })
}

// TestVMACElection lets had and keepalived elect each other with use_vmac.
func TestVMACElection(t *testing.T) {
	t.Parallel()
	for _, c := range []combination{{version: 2}, {version: 3}, {version: 3, ipv6: true}} {
		for _, base := range []bool{false, true} {
			for _, p := range pairings {
				if p == yardstick && !everything && c.version == 2 {
					continue
				}
				how := "use_vmac"
				if base {
					how += " and vmac_xmit_base"
				}
				t.Run(fmt.Sprintf("%s elect each other with %s in %s", p, how, c), func(t *testing.T) {
					t.Parallel()
					vmacElection(t, p, c, base)
				})
			}
		}
	}
}

func vmacElection(t *testing.T, p pairing, c combination, base bool) {
	lines := []string{"use_vmac"}
	if base {
		lines = append(lines, "vmac_xmit_base")
	}
	l := newLAN(t, c.vips()...)
	high, low := l.addRouter(p.high, c.advertInterval()), l.addRouter(p.low, c.advertInterval())
	mac := func(r *router) net.HardwareAddr {
		if base {
			return r.host.MAC()
		}
		return c.virtualMAC()
	}
	for _, r := range l.routers {
		l.listenAnswers(r)
	}
	high.configure(c, low, highPriority, lines...)
	low.configure(c, high, lowPriority, lines...)
	low.boot()
	l.awaitVMACMaster(low, c, mac(low), c.electionLimit())
	high.boot()
	l.awaitVMACMaster(high, c, mac(high), c.electionLimit())
	for _, e := range l.record.find(l.start, func(e *event) bool { return e.kind == claim }) {
		if !bytes.Equal(e.mac, c.virtualMAC()) {
			t.Errorf("%s announces %s as %s", e.router, e.addr, e.mac)
		}
	}
	high.die()
	l.awaitVMACMaster(low, c, mac(low), c.down(lowPriority)+low.settle()+tolerance)
	low.shutdown()
	if links := macvlans(t, low); len(links) > 0 {
		t.Errorf("after its end %s has %s", low.name, links)
	}
}

// macvlans describes the macvlans of a router, with all that a stranger can see of them.
func macvlans(t *testing.T, r *router) (described []string) {
	t.Helper()
	nl := r.host.Netlink()
	links, err := nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		m, ok := l.(*netlink.Macvlan)
		if !ok {
			continue
		}
		parent, err := nl.LinkByIndex(m.ParentIndex)
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := nl.AddrList(m, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, a := range addrs {
			list = append(list, fmt.Sprintf("%v scope %d flags %#x preferred %d", a.IPNet, a.Scope, a.Flags, a.PreferedLft))
		}
		slices.Sort(list)
		described = append(described, fmt.Sprintf("%s on %s: %s mode %d mtu %d group %d %s; addresses %s; %s", m.Name, parent.Attrs().Name,
			m.HardwareAddr, m.Mode, m.MTU, m.Group, m.Flags, strings.Join(list, ", "), parameters(t, r, m.Name)))
	}
	return described
}

// parameters lists the kernel parameters of an interface that matter to a virtual router.
func parameters(t *testing.T, r *router, iface string) string {
	t.Helper()
	var list []string
	err := r.host.Do(func() error {
		for _, name := range []string{"ipv4/rp_filter", "ipv4/accept_local", "ipv4/arp_ignore", "ipv4/arp_filter",
			"ipv4/promote_secondaries", "ipv6/disable_ipv6", "ipv6/addr_gen_mode"} {
			family, parameter, _ := strings.Cut(name, "/")
			value, err := os.ReadFile(filepath.Join("/proc/sys/net", family, "conf", iface, parameter))
			if err != nil {
				return err
			}
			list = append(list, parameter+" "+strings.TrimSpace(string(value)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, ", ")
}

// TestVMACInterfaces compares the interfaces that had makes with those that keepalived makes of the same file.
func TestVMACInterfaces(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		c      combination
		change func(*instance)
	}{
		{"use_vmac", quick, func(i *instance) { i.lines = append(i.lines, "use_vmac") }},
		{"use_vmac over IPv6", combination{version: 3, ipv6: true}, func(i *instance) { i.lines = append(i.lines, "use_vmac") }},
		{"use_vmac with a name", quick, func(i *instance) { i.lines = append(i.lines, "use_vmac vip0") }},
		{"use_vmac with a MAC address", quick, func(i *instance) { i.lines = append(i.lines, "use_vmac vip0 02:11:22:33:44:55") }},
		{"use_vmac with the beginning of a MAC address", quick,
			func(i *instance) { i.lines = append(i.lines, "use_vmac vip0 02:11:22:33:44") }},
		{"vmac_xmit_base over IPv6", combination{version: 3, ipv6: true},
			func(i *instance) { i.lines = append(i.lines, "use_vmac", "vmac_xmit_base") }},
		{"vmac_prefix", quick, func(i *instance) {
			i.global, i.lines = "vmac_prefix v", append(i.lines, "use_vmac")
		}},
		{"use_vmac_addr", quick, func(i *instance) {
			i.lines = append(i.lines, "use_vmac", "use_vmac_addr")
			i.vips = append(i.vips, "10.78.0.100/24 dev "+second)
		}},
		{"use_vmac of one address", quick, func(i *instance) {
			i.lines = append(i.lines, "use_vmac")
			i.vips = append(i.vips, "10.78.0.100/24 dev "+second+" use_vmac", "10.78.0.101/24 dev "+second)
		}},
	} {
		t.Run("had makes the interfaces that keepalived makes of "+test.name, func(t *testing.T) {
			t.Parallel()
			made := func(p product) []string {
				l := newLAN(t)
				r := l.addRouter(p, test.c.advertInterval())
				l.virtuals = nil
				if err := l.buildSegment(); err != nil {
					t.Fatal(err)
				}
				i := test.c.instance(r, r, highPriority)
				test.change(&i)
				r.write("keepalived.conf", configuration(i))
				r.boot()
				l.await(test.c.electionLimit()+linkLimit, r.name+" has all addresses", func() string {
					for _, vip := range addresses(i.vips) {
						switch has, err := r.has("", vip); {
						case err != nil:
							return err.Error()
						case !has:
							return vip.String() + " is missing"
						}
					}
					return ""
				})
				time.Sleep(3 * readTime)
				return macvlans(t, r)
			}
			theirs, ours := made(keepalived), made(had)
			if len(theirs) == 0 {
				t.Error("keepalived made none")
			}
			if !slices.Equal(theirs, ours) {
				t.Errorf("interfaces differ:\nkeepalived: %s\n       had: %s", strings.Join(theirs, "\n            "),
					strings.Join(ours, "\n            "))
			}
		})
	}
}

// TestExtraAnnouncements counts the announcements of addresses that are not on the interface that advertises.
func TestExtraAnnouncements(t *testing.T) {
	t.Parallel()
	for _, p := range []product{keepalived, had} {
		for _, test := range []struct{ word, own string }{{"garp_extra_if 1", " use_vmac"}, {"garp_extra_if all 1", ""}} {
			t.Run(fmt.Sprintf("%s announces addresses elsewhere now and then: %s%s", p, test.word, test.own), func(t *testing.T) {
				t.Parallel()
				extraAnnouncements(t, p, test.word, test.own)
			})
		}
	}
}

func extraAnnouncements(t *testing.T, p product, word, own string) {
	const elsewhere, periods = "10.78.0.100", 3
	l := newLAN(t, quick.vips()...)
	r := l.addRouter(p, quick.advertInterval())
	l.addSegment(vrid+1, elsewhere)
	i := quick.instance(r, r, highPriority, "use_vmac", word, "garp_master_repeat 1", "garp_master_delay 0")
	i.vips = append(i.vips, elsewhere+"/24 dev "+second+own)
	r.write("keepalived.conf", configuration(i))
	r.boot()
	began := l.firstAdvert(r, l.start, quick.electionLimit())
	claims := map[netip.Addr]int{}
	l.await(periods*time.Second+startTime+tolerance, fmt.Sprintf("%s has made %d announcements after the first", r.name, periods), func() string {
		clear(claims)
		for _, e := range l.record.find(began.Add(time.Second/2), func(e *event) bool { return e.kind == claim }) {
			claims[e.addr]++
		}
		if n := claims[netip.MustParseAddr(elsewhere)]; n < periods {
			return fmt.Sprint(n)
		}
		return ""
	})
	if len(claims) > 1 {
		t.Errorf("announcements of others, too: %v", claims)
	}
}

// TestVMACRemovedByHand deletes the VMAC of a master.
func TestVMACRemovedByHand(t *testing.T) {
	t.Parallel()
	c := quick
	l := newLAN(t, c.vips()...)
	r, peer := l.addRouter(had, c.advertInterval()), l.addRouter(keepalived, c.advertInterval())
	for _, r := range l.routers {
		l.listenAnswers(r)
	}
	r.configure(c, peer, highPriority, "use_vmac")
	peer.configure(c, r, lowPriority, "use_vmac")
	r.boot()
	peer.boot()
	l.awaitVMACMaster(r, c, c.virtualMAC(), c.electionLimit())
	link, err := r.host.Netlink().LinkByName(fmt.Sprintf("vrrp.%d", vrid))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.host.Netlink().LinkDel(link); err != nil {
		t.Fatal(err)
	}
	l.await(startTime, r.name+" gives up", func() string {
		if !r.logged("to=FAULT") {
			return "it has not been in FAULT"
		}
		return ""
	})
	l.awaitVMACMaster(r, c, c.virtualMAC(), 2*c.electionLimit())
}

// accepts tells whether a host takes packets for an address: then its kernel says that nobody listens there.
func (l *lan) accepts(addr netip.Addr) (bool, error) {
	var conn net.Conn
	if err := l.asker.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(addr, 9).String())
		return err
	}); err != nil {
		return false, err
	}
	defer conn.Close()
	for range 3 {
		if _, err := conn.Write([]byte("?")); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return false, err
		}
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return true, nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return false, err
		}
	}
	return false, nil
}

// TestAcceptMode asks who takes packets for the virtual addresses.
func TestAcceptMode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		c       combination
		owner   bool
		lines   []string
		accepts bool
	}{
		{name: "by default", c: quick, accepts: true},
		{name: "with no_accept", c: quick, lines: []string{"no_accept"}},
		{name: "with no_accept on a VMAC", c: quick, lines: []string{"no_accept", "use_vmac"}},
		{name: "with no_accept over IPv6", c: combination{version: 3, ipv6: true}, lines: []string{"no_accept"}},
		{name: "in strict mode", c: quick, lines: []string{"strict_mode on"}},
		{name: "with accept in strict mode", c: quick, lines: []string{"strict_mode on", "accept"}, accepts: true},
		{name: "as the owner with no_accept", c: quick, owner: true, lines: []string{"no_accept"}, accepts: true},
	} {
		for _, p := range []product{keepalived, had} {
			t.Run(fmt.Sprintf("%s takes packets for its addresses %s: %t", p, test.name, test.accepts), func(t *testing.T) {
				t.Parallel()
				l := newLAN(t, test.c.vips()...)
				r := l.addRouter(p, test.c.advertInterval())
				l.listenAnswers(r)
				i := test.c.instance(r, r, highPriority, test.lines...)
				if test.owner {
					i.state, i.priority = "MASTER", 255
				}
				r.write("keepalived.conf", configuration(i))
				r.boot()
				l.await(test.c.electionLimit(), r.name+" answers for its addresses", func() string {
					for _, vip := range l.virtuals[0].vips {
						if len(l.record.find(l.start, func(e *event) bool { return e.kind == answer && e.router == r.name && e.addr == vip })) == 0 {
							return "not for " + vip.String()
						}
					}
					return ""
				})
				for _, vip := range l.virtuals[0].vips {
					if vip.IsLinkLocalUnicast() {
						vip = vip.WithZone(lab.Interface)
					}
					if got, err := l.accepts(vip); err != nil || got != test.accepts {
						t.Errorf("%s takes packets for %s: %t, %v", r.name, vip, got, err)
					}
				}
			})
		}
	}
}

// TestDisableLocalIGMP reads the kernel's parameter while a router runs and after it.
func TestDisableLocalIGMP(t *testing.T) {
	t.Parallel()
	for _, p := range []product{keepalived, had} {
		t.Run(fmt.Sprintf("%s keeps the kernel from reporting link-local groups", p), func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, quick.vips()...)
			r := l.addRouter(p, quick.advertInterval())
			i := quick.instance(r, r, highPriority)
			i.global = "disable_local_igmp"
			r.write("keepalived.conf", configuration(i))
			reports := func() (value string) {
				if err := r.host.Do(func() error {
					b, err := os.ReadFile("/proc/sys/net/ipv4/igmp_link_local_mcast_reports")
					value = strings.TrimSpace(string(b))
					return err
				}); err != nil {
					t.Fatal(err)
				}
				return value
			}
			before := reports()
			r.boot()
			l.firstAdvert(r, l.start, quick.electionLimit())
			if got := reports(); got != "0" {
				t.Errorf("%s while %s runs", got, r.name)
			}
			r.shutdown()
			if got := reports(); got != before {
				t.Errorf("%s after its end, %s before", got, before)
			}
		})
	}
}
