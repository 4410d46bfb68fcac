//go:build integ

package guard

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/lab/need"
)

// The test LAN: a guarded machine and a prober, each in a namespace of its own, joined by a veth pair.
var (
	machineMAC = net.HardwareAddr{0x02, 0x0d, 0, 0, 0, 1}
	proberMAC  = net.HardwareAddr{0x02, 0x0d, 0, 0, 0, 2}
	machine4   = netip.MustParseAddr("10.9.0.1")
	machine6   = netip.MustParseAddr("fd00:9::1")
	prober4    = netip.MustParseAddr("10.9.0.2")
	prober6    = netip.MustParseAddr("fd00:9::2")
	asker4     = netip.MustParseAddr("10.9.0.3") // in ARP requests
	asker6     = netip.MustParseAddr("fd00:9::3")
	vip4       = netip.MustParseAddr("10.9.0.100")
	vip6       = netip.MustParseAddr("fd00:9::100")
)

const (
	group = "VG_1"
	vrid  = 51
)

func testSpec() Spec {
	return Spec{Groups: []fencing.GuardedGroup{{
		Name:      group,
		Addresses: []netip.Addr{vip4, vip6},
		Routers: []fencing.VirtualRouter{
			{Interface: "eth0", VRID: vrid, Family: fencing.IPv4}, {Interface: "eth0", VRID: vrid, Family: fencing.IPv6},
		},
	}}}
}

func testClock(t testing.TB) func() clock.Time {
	t.Helper()
	c, err := leaseclock.New()
	if err != nil {
		t.Fatal(err)
	}
	return c.Now
}

func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	if os.Getuid() != 0 {
		need.Skip(t, "needs root to make network namespaces")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// in runs f on a thread inside the namespace.
func in(t testing.TB, ns netns.NsHandle, f func() error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
	err = f()
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

type lan struct {
	machine, prober netns.NsHandle
}

func newLAN(t testing.TB) lan {
	t.Helper()
	l := lan{machine: newNamespace(t), prober: newNamespace(t)}
	in(t, l.machine, func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0", HardwareAddr: machineMAC}, PeerName: "eth0",
			PeerHardwareAddr: proberMAC, PeerNamespace: netlink.NsFd(l.prober),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		return setUp("eth0", machine4, machine6)
	})
	in(t, l.prober, func() error { return setUp("eth0", prober4, prober6) })
	in(t, l.machine, func() error {
		for _, a := range []netip.Addr{prober4, prober6} {
			if err := addNeighbour("eth0", a, proberMAC); err != nil {
				return err
			}
		}
		for _, a := range []netip.Addr{vip4, vip6} {
			if err := addAddress("eth0", a, a.BitLen()); err != nil {
				return err
			}
		}
		return nil
	})
	p := startProber(t, l)
	for started := p.now(); !p.hasEachAnswer(); time.Sleep(5 * time.Millisecond) {
		if p.now().Sub(started) > 10*time.Second {
			t.Fatal("the LAN does not work without a guard")
		}
	}
	p.results()
	return l
}

func setUp(name string, addresses ...netip.Addr) error {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0)
	for _, device := range []string{"lo", name} {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("find %s: %w", device, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", device, err)
		}
	}
	for _, a := range addresses {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		if err := addAddress(name, a, bits); err != nil {
			return err
		}
	}
	return nil
}

func addAddress(name string, a netip.Addr, bits int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	flags := 0
	if a.Is6() {
		flags = unix.IFA_F_NODAD
	}
	err = netlink.AddrAdd(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: flags,
	})
	if err != nil {
		return fmt.Errorf("add %v to %s: %w", a, name, err)
	}
	return nil
}

func addNeighbour(name string, a netip.Addr, mac net.HardwareAddr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
	})
}

// probeKind is a way to ask whether somebody uses the virtual IP.
type probeKind int

const (
	probeARP probeKind = iota
	probeICMP
	probeND
	probeICMPv6
	probeKinds
)

func (k probeKind) String() string { return [...]string{"ARP", "ICMP", "ND", "ICMPv6"}[k] }

// probe is one question. It was handed to the kernel between before and after, and the answer was read at answer.
type probe struct {
	before, after, answer clock.Time // the latter two are zero until they happen
}

func (p probe) answered() bool { return !p.answer.IsZero() }

// prober asks each millisecond, in all ways, and notes which question was answered.
type prober struct {
	now  func() clock.Time
	fd   int
	vip4 netip.Addr
	vip6 netip.Addr
	to   net.HardwareAddr

	mu     sync.Mutex
	probes [probeKinds][]probe
	stop   chan struct{}
	done   sync.WaitGroup
}

// probeInterval is a millisecond, or what HAD_TEST_PROBE_INTERVAL says: an emulated machine cannot keep up with that.
var probeInterval = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("HAD_TEST_PROBE_INTERVAL")); err == nil {
		return d
	}
	return time.Millisecond
}()

// startProber asks for vip4 and vip6 until results is called.
func startProber(t testing.TB, l lan) *prober {
	return startProberFor(t, l, vip4, vip6, machineMAC)
}

func startProberFor(t testing.TB, l lan, vip4, vip6 netip.Addr, to net.HardwareAddr) *prober {
	t.Helper()
	p := &prober{now: testClock(t), vip4: vip4, vip6: vip6, to: to, stop: make(chan struct{})}
	in(t, l.prober, func() error {
		var err error
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(int64(20 * time.Millisecond))
		if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return err
		}
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	})
	p.done.Add(2)
	go p.send()
	go p.receive()
	t.Cleanup(func() { p.results(); unix.Close(p.fd) })
	return p
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// results ends the probing and returns what was seen.
func (p *prober) results() [probeKinds][]probe {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.done.Wait()
	return p.probes
}

// observe waits until 20 more rounds of questions have been asked.
func (p *prober) observe() {
	rounds := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.probes[probeKinds-1])
	}
	for end := rounds() + 20; rounds() < end; {
		time.Sleep(probeInterval)
	}
}

// hasEachAnswer tells whether each kind of question has been answered.
func (p *prober) hasEachAnswer() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, probes := range p.probes {
		if judge(probes).answered == 0 {
			return false
		}
	}
	return true
}

func (p *prober) send() {
	defer p.done.Done()
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15) // this thread; it dies with the goroutine
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for tick := uint32(0); ; tick++ {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		for kind := range probeKinds {
			frame := p.frame(kind, tick)
			p.mu.Lock()
			p.probes[kind] = append(p.probes[kind], probe{before: p.now()})
			p.mu.Unlock()
			_, err := unix.Write(p.fd, frame)
			p.mu.Lock()
			p.probes[kind][tick].after = p.now()
			p.mu.Unlock()
			if err != nil {
				panic(fmt.Sprintf("send %v probe: %v", kind, err))
			}
		}
	}
}

func (p *prober) receive() {
	defer p.done.Done()
	frame := make([]byte, 2048)
	stopped := false
	for {
		n, err := unix.Read(p.fd, frame)
		if err == unix.EAGAIN {
			if stopped {
				return
			}
			select {
			case <-p.stop:
				stopped = true // one more timeout for late answers
			default:
			}
			continue
		}
		if err != nil {
			continue
		}
		if kind, tick, ok := p.recognize(frame[:n]); ok {
			p.mu.Lock()
			if int(tick) < len(p.probes[kind]) {
				p.probes[kind][tick].answer = p.now()
			}
			p.mu.Unlock()
		}
	}
}

// tagMAC carries the number of the probe; answers come back to it.
func tagMAC(tick uint32) net.HardwareAddr {
	return binary.BigEndian.AppendUint32([]byte{0x02, 0xaa}, tick)
}

func (p *prober) frame(kind probeKind, tick uint32) []byte {
	switch kind {
	case probeARP:
		f := ethernet(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, unix.ETH_P_ARP)
		f = append(f, 0, 1, 8, 0, 6, 4, 0, 1)
		f = append(append(f, tagMAC(tick)...), asker4.AsSlice()...)
		return append(append(f, 0, 0, 0, 0, 0, 0), p.vip4.AsSlice()...)
	case probeICMP:
		return append(ethernet(p.to, unix.ETH_P_IP), ipv4Packet(unix.IPPROTO_ICMP, prober4, p.vip4, echo(8, tick))...)
	case probeND:
		target := p.vip6.As16()
		group := netip.MustParseAddr("ff02::1:ff00:0").As16()
		copy(group[13:], target[13:])
		ns := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
		ns = append(append(ns, 1, 1), tagMAC(tick)...)
		to := net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}
		return append(ethernet(to, unix.ETH_P_IPV6), icmpv6Packet(asker6, netip.AddrFrom16(group), ns)...)
	default:
		return append(ethernet(p.to, unix.ETH_P_IPV6), icmpv6Packet(prober6, p.vip6, echo(128, tick))...)
	}
}

// recognize tells which probe a frame answers.
func (p *prober) recognize(f []byte) (probeKind, uint32, bool) {
	if len(f) < 14+20 {
		return 0, 0, false
	}
	payload := f[14:]
	tag := binary.BigEndian.Uint32(f[2:])
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_ARP:
		reply := len(payload) >= 28 && payload[7] == 2 && netip.AddrFrom4([4]byte(payload[14:])) == p.vip4
		return probeARP, tag, reply && f[0] == 0x02 && f[1] == 0xaa
	case unix.ETH_P_IP:
		reply := len(payload) >= 28 && payload[9] == unix.IPPROTO_ICMP && payload[20] == 0 &&
			netip.AddrFrom4([4]byte(payload[12:])) == p.vip4
		if reply {
			return probeICMP, binary.BigEndian.Uint32(payload[24:]), true
		}
	case unix.ETH_P_IPV6:
		if len(payload) < 48 || payload[6] != unix.IPPROTO_ICMPV6 {
			return 0, 0, false
		}
		switch {
		case payload[40] == 129 && netip.AddrFrom16([16]byte(payload[8:])) == p.vip6:
			return probeICMPv6, binary.BigEndian.Uint32(payload[44:]), true
		case payload[40] == 136 && len(payload) >= 64 && netip.AddrFrom16([16]byte(payload[48:])) == p.vip6:
			return probeND, tag, f[0] == 0x02 && f[1] == 0xaa
		}
	}
	return 0, 0, false
}

func ethernet(to net.HardwareAddr, ethertype uint16) []byte {
	f := append(make([]byte, 0, 128), to...)
	return binary.BigEndian.AppendUint16(append(f, proberMAC...), ethertype)
}

// echo is an ICMP echo request whose identifier and sequence number are the number of the probe.
func echo(icmpType byte, tick uint32) []byte {
	m := binary.BigEndian.AppendUint32([]byte{icmpType, 0, 0, 0}, tick)
	if icmpType == 8 {
		binary.BigEndian.PutUint16(m[2:], checksum(m, 0))
	}
	return m
}

func ipv4Packet(protocol byte, from, to netip.Addr, payload []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	h = append(append(h, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(h[10:], checksum(h, 0))
	return append(h, payload...)
}

func icmpv6Packet(from, to netip.Addr, message []byte) []byte {
	h := []byte{0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255}
	h = append(append(h, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(message[2:], checksum(append(h[8:40:40], message...), uint32(len(message))+58))
	return append(h, message...)
}

func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// verdict sums up the answers of one kind.
type verdict struct {
	probes, answered int
	first, last      clock.Time // sending of the first and the last question that was answered; zero if none was
}

func judge(probes []probe) verdict {
	v := verdict{probes: len(probes)}
	for _, p := range probes {
		if p.answered() {
			v.answered++
			if v.first.IsZero() {
				v.first = p.before
			}
			v.last = p.before
		}
	}
	return v
}

// answeredBetween counts the questions that were surely asked within a span, and those of them that were answered.
func answeredBetween(probes []probe, from, to clock.Time) (asked, answered int) {
	for _, p := range probes {
		if p.before.Before(from) || p.after.IsZero() || to.Before(p.after) {
			continue
		}
		asked++
		if p.answered() {
			answered++
		}
	}
	return asked, answered
}
