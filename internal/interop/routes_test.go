//go:build interop

package interop_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/linux/sysctl"
)

// forwardingLimit is how long both daemons may take to do what was asked for.
const forwardingLimit = 10 * time.Second

// calm is what keepalived 2.2.7 needs after it has become master, or it overlooks what somebody removes.
const calm = time.Second

// forwardingFile is a configuration with all that keepalived 2.2.7 and the kernel understand of routes and rules. FIFO
// stands for a path.
const forwardingFile = `
global_defs {
    router_id interop
    vrrp_notify_fifo FIFO
}
track_group G {
    group { VI }
}
static_ipaddress {
    10.90.0.1/24 dev eth2
    10.90.1.1/24 dev eth2 no_track
    fd90::1/64 dev eth2
}
static_routes {
    10.101.0.0/24 via 10.78.0.9 dev eth1
    10.101.1.0/24 via 10.78.0.9 dev eth1 src 10.78.0.1 table 200 no_track
    10.101.2.0/24 via 10.79.0.9 dev eth2 track_group G
    fd95::/48 via fd78::9 dev eth1
}
static_rules {
    from 10.3.0.0/16 table 33
    from fd77::/64 table 34 preference 400
    from 10.3.1.0/24 table 33 preference 401 no_track
}
vrrp_instance VI {
    state BACKUP
    interface eth0
    version 3
    virtual_router_id 51
    priority 200
    advert_int 0.2
    promote_secondaries
    virtual_ipaddress {
        10.77.0.100/24
    }
    virtual_routes {
        10.100.0.0/24 via 10.77.0.9
        10.100.1.0/24 dev eth1
        10.100.2.0/24 via 10.77.0.9 dev eth0 src 10.77.0.100 metric 50
        10.100.3.0/24 via 10.77.0.9 table 100 mtu lock 1400 advmss 1360
        10.100.4.0/24 via 10.77.0.9 table 1000 hoplimit 9 window 70000
        10.100.4.0/24 via 10.77.0.9 table 1000 metric 3 rtt 250ms rttvar 2s rto_min 300ms
        10.100.4.0/24 via 10.77.0.9 table 1000 metric 4 rtt lock 2400 rttvar 1200 rto_min lock 300
        10.100.4.0/24 via 10.77.0.9 table 1000 metric 5 rtt 100 rto_min 1s
        blackhole 10.100.5.0/24
        unreachable 10.100.6.0/24
        prohibit 10.100.7.0/24 metric 7
        throw 10.100.8.0/24
        local 10.100.9.1/32 dev eth1 scope host table 255
        10.100.10.0/24 nexthop via 10.77.0.9 dev eth0 weight 2 nexthop via 10.78.0.9 dev eth1 weight 5
        10.100.10.0/24 metric 8 nexthop via 10.77.0.9 dev eth0 realms 4 nexthop via 10.97.0.9 dev eth1 onlink
        10.100.11.0/24 via 10.99.0.9 dev eth0 onlink
        10.100.12.0/24 via 10.77.0.9 initcwnd 20 initrwnd 30 quickack 1 features ecn fastopen_no_cookie 1
        10.100.12.0/24 via 10.77.0.9 metric 2 congctl reno cwnd lock 3 ssthresh 9 reordering 7
        10.100.12.0/24 via 10.77.0.9 metric 3 congctl lock reno
        10.100.13.0/24 via 10.77.0.9 realms 3/4
        10.100.14.0/24 via 10.77.0.9 tos 0x10
        10.100.15.0/24 via 10.77.0.9 scope site
        10.100.16.0/24 via 10.77.0.9 dev eth0 protocol static no_track
        10.100.16.0/24 via 10.77.0.9 dev eth0 protocol static metric 2
        10.100.18.0/24 encap ip id 55 dst 10.77.0.8 src 10.77.0.1 ttl 9 tos 0x10 via 10.77.0.9 dev eth0
        10.100.19.0/24 encap ip6 id 55 dst fd77::8 src fd77::1 hoplimit 9 tc 8 via 10.77.0.9 dev eth0
        10.100.21.0/24 via 10.77.0.9 dev eth0 add
        10.100.21.0/24 via 10.77.0.8 dev eth0 append
        10.100.21.0/24 via 10.77.0.7 dev eth0 prepend
        10.100.22.0/24 via 10.77.0.9 or 10.77.0.8
        default via 10.77.0.9 metric 900
        fd91::/48 via fd77::9
        fd91:1::/48 via fd77::9 metric 40 expires 600
        fd91:2::/48 from fd77::/64 via fd77::9
        fd91:3::/48 via fd77::9 pref high
        fd91:4::/48 via fd77::9 dev eth0
        fd91:4:1::/48 via fd77::9 pref low
        blackhole fd91:5::/48
        unreachable fd91:6::/48 metric 9
        fd91:7::/48 nexthop via fd77::9 dev eth0 nexthop via fd78::9 dev eth1 weight 3
        fd91:8::/48 via fd77::9 hoplimit 33 mtu 1300
        fd91:9::/48 dev eth1 table 77
    }
    virtual_rules {
        from 10.1.0.0/16 table 100 preference 1000
        from 10.2.0.0/16 table 1000
        from 10.2.0.0/24 lookup 1000
        to 10.5.0.0/16 lookup main priority 1001
        not from 10.6.0.0/16 to 10.7.0.0/16 table 5 order 1002
        fwmark 5 table 6 preference 1003
        fwmark 5/0xf table 6 preference 1004
        iif eth1 table 7 preference 1005
        oif eth1 dev eth0 table 7 preference 1006
        from 10.8.0.0/16 blackhole preference 1007
        from 10.8.0.0/16 type unreachable preference 1008
        from 10.8.0.0/16 prohibit preference 1009
        from 10.8.0.0/16 nop preference 1010
        from 10.8.0.0/16 goto 1020 preference 1011
        from 10.9.0.0/16 table 300 suppress_prefixlength 0 preference 1012
        from 10.9.0.0/16 table 300 suppress_ifgroup 3 preference 1013
        from 10.9.0.0/16 uidrange 100-200 table 30 preference 1014
        from 10.9.0.0/16 ipproto tcp dport 80-90 sport 1000-2000 table 30 preference 1015
        from 10.9.0.0/16 tos 0x10 table 30 preference 1016
        from 10.9.0.0/16 tunnel-id 77 table 30 preference 1017
        from 10.9.0.0/16 realms 5/6 table 30 preference 1018
        l3mdev preference 1019
        from 10.9.0.0/16 protocol 4 table 30 preference 1020 no_track
        from fd77::/64 table 9 preference 1022
        to fd78::/64 table 9
    }
}
`

// forwardingChanges are texts of the file, and what takes their places in a reload: lines go, come and change.
var forwardingChanges = []string{
	"        10.100.0.0/24 via 10.77.0.9\n", "        10.110.0.0/24 via 10.77.0.9\n        10.100.0.0/24 via 10.77.0.9\n",
	"        10.100.1.0/24 dev eth1\n", "",
	"mtu lock 1400 advmss 1360", "mtu 1420 advmss 1360",
	"fd91:8::/48 via fd77::9 hoplimit 33 mtu 1300", "fd91:8::/48 via fd77::9 hoplimit 34 mtu 1300",
	"fwmark 5 table 6 preference 1003", "fwmark 7 table 6 preference 1030",
	"    10.101.2.0/24 via 10.79.0.9 dev eth2 track_group G\n", "    10.111.0.0/24 via 10.79.0.9 dev eth2 track_group G\n",
	"from fd77::/64 table 34 preference 400", "from fd77::/64 table 34 preference 402",
	"10.90.0.1/24 dev eth2", "10.90.2.1/24 dev eth2",
}

// forwarder is a daemon with forwardingFile on a LAN of its own, and what it has told its pipe.
type forwarder struct {
	t    *testing.T
	name string
	host *lab.Host
	lab  *lab.Lab
	proc *lab.Proc
	file string

	mu   sync.Mutex
	told string
}

func newForwarder(t *testing.T, p product) *forwarder {
	t.Helper()
	dir := t.TempDir()
	l, err := lab.New(context.Background(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	t.Cleanup(func() {
		if text, _ := os.ReadFile(log); t.Failed() {
			t.Logf("%s:\n%s", p, text)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &forwarder{t: t, name: string(p), lab: l}
	if f.host, err = l.AddHost("router", netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fd77::1/64")); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"eth1", "eth2"} {
		f.addInterface(name, fmt.Sprintf("10.%d.0.1/24", 78+i), fmt.Sprintf("fd%d::1/64", 78+i))
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := pipe.Read(b)
			f.mu.Lock()
			f.told += string(b[:n])
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	file := filepath.Join(dir, "keepalived.conf")
	f.file = file
	if err := os.WriteFile(file, []byte(strings.Replace(forwardingFile, "FIFO", fifo, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	command := lab.Command{Path: program("had"), LogFile: log,
		Args: []string{"-f", file, "-n", "-l", "-D", "--control-socket", filepath.Join(dir, "had.sock")}}
	if p == keepalived {
		command.Path = "/usr/sbin/keepalived"
		command.Args = []string{"-f", file, "-n", "-l", "-D", "-P", "-p", filepath.Join(dir, "parent.pid"),
			"-r", filepath.Join(dir, "vrrp.pid")}
	}
	if f.proc, err = f.host.Start(command); err != nil {
		t.Fatal(err)
	}
	return f
}

// addInterface adds an interface with the other end of its cable beside it.
func (f *forwarder) addInterface(name string, prefixes ...string) {
	f.t.Helper()
	nl := f.host.Netlink()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"})
	for _, end := range []string{name, name + "p"} {
		link, findErr := nl.LinkByName(end)
		if err = errors.Join(err, findErr); err == nil {
			err = nl.LinkSetUp(link)
		}
	}
	link, findErr := nl.LinkByName(name)
	err = errors.Join(err, findErr)
	for _, prefix := range prefixes {
		if err == nil {
			err = addAddress(nl, link, prefix)
		}
	}
	if err = errors.Join(err, awaitUp(nl, name)); err != nil {
		f.t.Fatal(err)
	}
}

// reload gives the daemon the file with texts replaced, in pairs.
func (f *forwarder) reload(pairs ...string) error {
	text, err := os.ReadFile(f.file)
	if err != nil {
		return err
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			return fmt.Errorf("%q is not in the file", pairs[i])
		}
	}
	if err := os.WriteFile(f.file, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
		return err
	}
	return f.proc.Signal(syscall.SIGHUP)
}

func (f *forwarder) hasRoute(destination string) bool {
	f.t.Helper()
	_, prefix, err := net.ParseCIDR(destination)
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := f.host.Netlink().RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: prefix}, netlink.RT_FILTER_DST)
	if err != nil {
		f.t.Fatal(err)
	}
	return len(list) > 0
}

// states is what the instance has reported, in order.
func (f *forwarder) states() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for line := range strings.Lines(f.told) {
		if words := strings.Fields(line); len(words) > 2 {
			all = append(all, words[2])
		}
	}
	return all
}

// entries lists the routes, rules and addresses of the host in full, but for the kernel's own.
func (f *forwarder) entries() []string {
	f.t.Helper()
	names := map[uint32]string{}
	links, err := f.host.Netlink().LinkList()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, l := range links {
		names[uint32(l.Attrs().Index)] = l.Attrs().Name
	}
	var all []string
	for _, l := range links {
		list, err := f.host.Netlink().AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, a := range list {
			if !a.IP.IsLinkLocalUnicast() {
				all = append(all, fmt.Sprintf("address %v of %s, scope %d", a.IPNet, l.Attrs().Name, a.Scope))
			}
		}
	}
	err = f.host.Do(func() error {
		for _, dump := range []struct {
			request int
			answer  uint16
			line    func([]byte, map[uint32]string) (string, error)
		}{{unix.RTM_GETROUTE, unix.RTM_NEWROUTE, routeLine}, {unix.RTM_GETRULE, unix.RTM_NEWRULE, ruleLine}} {
			req := nl.NewNetlinkRequest(dump.request, unix.NLM_F_DUMP)
			req.AddData(&nl.RtMsg{})
			payloads, err := req.Execute(unix.NETLINK_ROUTE, dump.answer)
			if err != nil {
				return err
			}
			for _, payload := range payloads {
				line, err := dump.line(payload, names)
				if err != nil {
					return err
				}
				if line != "" {
					all = append(all, line)
				}
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// routeLine prints all that the kernel says of a route; nothing of its own.
func routeLine(payload []byte, names map[uint32]string) (string, error) {
	msg := nl.DeserializeRtMsg(payload)
	if msg.Protocol == unix.RTPROT_KERNEL || msg.Protocol == unix.RTPROT_RA {
		return "", nil
	}
	attrs, err := nl.ParseRouteAttr(payload[unix.SizeofRtMsg:])
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("route IPv%d to /%d from /%d tos %d protocol %d scope %d type %d flags %#x", map[uint8]int{unix.AF_INET: 4,
		unix.AF_INET6: 6}[msg.Family], msg.Dst_len, msg.Src_len, msg.Tos, msg.Protocol, msg.Scope, msg.Type, msg.Flags)
	for _, a := range attrs {
		line += ", " + routeAttribute(a.Attr.Type, a.Value, names)
	}
	return line, nil
}

func routeAttribute(kind uint16, value []byte, names map[uint32]string) string {
	switch kind {
	case unix.RTA_DST, unix.RTA_SRC, unix.RTA_GATEWAY, unix.RTA_PREFSRC:
		return fmt.Sprintf("%s %v", map[uint16]string{unix.RTA_DST: "to", unix.RTA_SRC: "from", unix.RTA_GATEWAY: "via",
			unix.RTA_PREFSRC: "src"}[kind], net.IP(value))
	case unix.RTA_TABLE:
		return fmt.Sprintf("table %d", binary.NativeEndian.Uint32(value))
	case unix.RTA_OIF:
		return "dev " + names[binary.NativeEndian.Uint32(value)]
	case unix.RTA_CACHEINFO: // counts use and time
		return fmt.Sprintf("expires %t", len(value) > 12 && binary.NativeEndian.Uint32(value[8:]) != 0)
	case unix.RTA_MULTIPATH:
		line := "hops"
		for len(value) >= unix.SizeofRtNexthop {
			hop := nl.DeserializeRtNexthop(value)
			length := int(hop.RtNexthop.Len)
			line += fmt.Sprintf(" (flags %#x weight %d dev %s", hop.Flags, hop.Hops+1, names[uint32(hop.Ifindex)])
			attrs, err := nl.ParseRouteAttr(value[unix.SizeofRtNexthop:length])
			if err != nil {
				return err.Error()
			}
			for _, a := range attrs {
				line += " " + routeAttribute(a.Attr.Type, a.Value, names)
			}
			line, value = line+")", value[min((length+3)/4*4, len(value)):]
		}
		return line
	}
	return fmt.Sprintf("%d=%x", kind, value)
}

// ruleLine prints all that the kernel says of a rule; nothing of its own.
func ruleLine(payload []byte, _ map[uint32]string) (string, error) {
	msg := nl.DeserializeRtMsg(payload)
	attrs, err := nl.ParseRouteAttr(payload[unix.SizeofRtMsg:])
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("rule family %d to /%d from /%d tos %d action %d flags %#x", msg.Family, msg.Dst_len, msg.Src_len, msg.Tos,
		msg.Type, msg.Flags&^unix.FIB_RULE_UNRESOLVED) // whether the target of a goto exists
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.FRA_PRIORITY:
			line += fmt.Sprintf(", priority %d", binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == unix.FRA_PROTOCOL && a.Value[0] == unix.RTPROT_KERNEL:
			return "", nil
		default:
			line += fmt.Sprintf(", %d=%x", a.Attr.Type, a.Value)
		}
	}
	return line, nil
}

// without returns the lines of a that b does not have.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return slices.Contains(b, line) })
}

// TestForwarding gives had and keepalived the same file and the same events, and compares every route, rule and address
// that the kernel then has, and every state that was reported.
func TestForwarding(t *testing.T) {
	t.Parallel()
	theirs, ours := newForwarder(t, keepalived), newForwarder(t, had)
	both := []*forwarder{theirs, ours}
	// reached waits until both have reported the states, and then have the same entries; those are returned.
	reached := func(what string, states ...string) []string {
		t.Helper()
		var last [2][]string
		for deadline := time.Now().Add(forwardingLimit); ; time.Sleep(50 * time.Millisecond) {
			same := slices.Equal(theirs.states(), states) && slices.Equal(ours.states(), states)
			entries := [2][]string{theirs.entries(), ours.entries()}
			same = same && slices.Equal(entries[0], entries[1]) && slices.Equal(entries[0], last[0])
			if same {
				return entries[0]
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: keepalived has been %v, had %v, want %v\nonly keepalived has:\n%s\nonly had has:\n%s", what,
					theirs.states(), ours.states(), states, strings.Join(without(entries[0], entries[1]), "\n"),
					strings.Join(without(entries[1], entries[0]), "\n"))
			}
			last = entries
		}
	}
	each := func(change func(f *forwarder) error) {
		t.Helper()
		for _, f := range both {
			if err := change(f); err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
		}
	}
	promoted := func(want int) {
		t.Helper()
		each(func(f *forwarder) error {
			return f.host.Do(func() error {
				if got, err := sysctl.IPv4("eth0", "promote_secondaries").GetInt(); err != nil || got != want {
					return fmt.Errorf("promote_secondaries is %d, want %d: %v", got, want, err)
				}
				return nil
			})
		})
	}

	states := []string{"BACKUP", "MASTER"}
	master := reached("as master", states...)
	if lines := len(strings.Split(forwardingFile, "\n")); len(master) < 60 {
		t.Fatalf("%d lines gave %d entries:\n%s", lines, len(master), strings.Join(master, "\n"))
	}
	promoted(1)
	back := func(what string, news ...string) {
		t.Helper()
		states = append(states, news...)
		if now := reached(what, states...); !slices.Equal(now, master) {
			t.Fatalf("%s: gone: %q, new: %q", what, without(master, now), without(now, master))
		}
	}
	route := func(f *forwarder, destination string) error {
		_, prefix, err := net.ParseCIDR(destination)
		if err != nil {
			return err
		}
		list, err := f.host.Netlink().RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: prefix}, netlink.RT_FILTER_DST)
		if err != nil || len(list) == 0 {
			return fmt.Errorf("%d routes to %s: %w", len(list), destination, err)
		}
		return f.host.Netlink().RouteDel(&list[0])
	}
	rule := func(f *forwarder, priority int) error {
		list, err := f.host.Netlink().RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Priority: priority},
			netlink.RT_FILTER_PRIORITY)
		if err != nil || len(list) != 1 {
			return fmt.Errorf("%d rules of priority %d: %w", len(list), priority, err)
		}
		return f.host.Netlink().RuleDel(&list[0])
	}
	address := func(f *forwarder, prefix string) error {
		link, err := f.host.Netlink().LinkByName("eth2")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		return f.host.Netlink().AddrDel(link, addr)
	}

	each(func(f *forwarder) error { return route(f, "10.101.0.0/24") })
	back("a static route was removed")
	each(func(f *forwarder) error { return route(f, "fd95::/48") })
	back("a static IPv6 route was removed")
	each(func(f *forwarder) error { return rule(f, 16384) })
	back("a static rule was removed")
	each(func(f *forwarder) error { return address(f, "10.90.0.1/24") })
	back("a static address was removed")
	each(func(f *forwarder) error { return route(f, "10.100.11.0/24") })
	back("a virtual route was removed", "BACKUP", "MASTER")
	time.Sleep(calm)
	// (That a virtual IPv6 route is removed keepalived 2.2.7 overlooks in any case.)
	each(func(f *forwarder) error { return rule(f, 1000) })
	back("a virtual rule was removed", "BACKUP", "MASTER")
	each(func(f *forwarder) error { return f.reload(forwardingChanges...) })
	// There is no sign of the end of a reload; the routes that it brings are one.
	for deadline := time.Now().Add(forwardingLimit); !ours.hasRoute("10.110.0.0/24") || !theirs.hasRoute("10.110.0.0/24"); {
		if time.Now().After(deadline) {
			t.Fatal("reloaded, and the new route is not there")
		}
		time.Sleep(50 * time.Millisecond)
	}
	master = reached("reloaded", states...)
	for _, text := range []string{"to 10.100.1.0,", "to 10.101.2.0,", "priority 1003,", "priority 400,", "10.90.0.1/24"} {
		if slices.ContainsFunc(master, func(line string) bool { return strings.Contains(line, text) }) {
			t.Errorf("still there after the reload: %s", text)
		}
	}
	for _, name := range []string{"eth1", "eth2"} { // a virtual route and a rule name the one, a track_group the other
		set := func(change func(netlink.Link) error) func(f *forwarder) error {
			return func(f *forwarder) error {
				link, err := f.host.Netlink().LinkByName(name)
				if err != nil {
					return err
				}
				return change(link)
			}
		}
		each(func(f *forwarder) error { return set(f.host.Netlink().LinkSetDown)(f) })
		states = append(states, "FAULT")
		reached(name+" is down", states...)
		each(func(f *forwarder) error { return set(f.host.Netlink().LinkSetUp)(f) })
		states = append(states, "BACKUP", "MASTER")
		// What the file says not to track is gone with its interface, and IPv6 addresses are, too.
		now := reached(name+" is up again", states...)
		for _, line := range without(master, now) {
			if !strings.Contains(line, "10.101.1.0") && !strings.Contains(line, "fd78::") && !strings.Contains(line, "fd79::1") {
				t.Errorf("%s is up again, and this is not: %s", name, line)
			}
		}
		master = now
	}
	each(func(f *forwarder) error { return route(f, "10.100.16.0/24") }) // the one that is not tracked
	each(func(f *forwarder) error { return rule(f, 1020) })
	each(func(f *forwarder) error { return rule(f, 401) })
	each(func(f *forwarder) error { return address(f, "10.90.1.1/24") })
	time.Sleep(time.Second)
	if now := reached("what is not tracked was removed", states...); len(without(now, master)) > 0 || len(without(master, now)) != 4 {
		t.Errorf("gone: %q, new: %q", without(master, now), without(now, master))
	}
	each(func(f *forwarder) error { return f.proc.Stop(stopLimit) })
	for _, line := range reached("stopped", append(states, "STOP")...) {
		if !strings.HasPrefix(line, "address ") {
			t.Errorf("left behind: %s", line)
		}
	}
	promoted(0)
}
