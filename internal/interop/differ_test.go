//go:build interop

package interop_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
)

// TestDifferences plays every scenario once with stock keepalived and once with had, each on a LAN of its own, and compares
// what was to be seen of them. What differs must have been declared and explained in the scenario, and what was declared must
// differ.
//
// It runs before the other tests, which depend more on time, and not beside them.
func TestDifferences(t *testing.T) {
	var repeated tally
	all := allScenarios()
	t.Cleanup(func() { // once all scenarios are over
		t.Logf("%d of %d scenarios were played more than once: %s", len(repeated.names), len(all), strings.Join(repeated.names, "; "))
		if most := len(all) * repeatedPercent / 100; len(repeated.names) > max(most, 1) {
			t.Errorf("that is more than %d: a difference that comes and goes is one", most)
		}
	})
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				var traces [2]trace
				for i, p := range []product{keepalived, had} {
					t.Run(string(p), func(t *testing.T) { traces[i] = play(t, p, s) })
				}
				if t.Failed() {
					return
				}
				lines := compare(traces[0], traces[1])
				wrong := s.judge(lines)
				report := "- only keepalived, + only had; ! not as declared\n" + strings.Join(append(lines, wrong...), "\n")
				switch {
				case len(wrong) == 0:
					t.Log(report)
					return
				case n == attempts:
					t.Error(report)
					return
				}
				t.Logf("attempt %d: %s", n, report)
				if n == 1 {
					repeated.add(s.name)
				}
			}
		})
	}
}

// attempts is how often a scenario is played until it is as declared: a machine that has stood still for a moment makes two
// traces differ once, and not again and again.
const attempts = 3

// repeatedPercent is how many scenarios of a hundred may need more than one attempt.
const repeatedPercent = 5

// allScenarios lists the scenarios of all files.
func allScenarios() []scenario {
	return slices.Concat(timerScenarios, rivalScenarios, wireScenarios, addressScenarios, announcementScenarios, groupScenarios,
		trackScenarios, notifyScenarios, vmacScenarios, routeScenarios, refusalScenarios, reloadScenarios)
}

// tally collects names from tests that run side by side.
type tally struct {
	mu    sync.Mutex
	names []string
}

func (l *tally) add(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = append(l.names, name)
}

// scenario is a part of a router's life.
type scenario struct {
	name string
	// conf is the file of both products; DIR in it is the router's directory, in which there are
	//   notify.sh  a script that records its arguments,
	//   fifo       a named pipe that is read,
	//   ok, ok2    files to be tested for and removed,
	//   number     a file to be written to.
	conf    string
	before  string        // arguments of a command ip on the router before the start
	advert  time.Duration // advert_int; 0: a second
	steps   []step
	differs []explained
}

// explained is a set of lines in which had differs from keepalived on purpose.
type explained struct {
	why   string
	lines []string // each a part of at least one line of the comparison that begins with - or +
}

// step is something that happens to the router, some seconds after what happened before: if the router sends advertisements
// at the time, between two of them.
type step struct {
	after float64
	act
}

// act is what happens.
type act struct {
	name string
	do   func(s *stage) error
	late bool // see phase
	// betweenRuns says that it happens between two runs of a script instead.
	betweenRuns bool
	conf        string // that is in force from then on, if that changes
	// ready, if there is one, tells whether it can happen: a router that is slow to start has not come that far.
	ready func(s *stage) (bool, error)
}

// restTime is the time between the last event and SIGTERM, in seconds.
const restTime = 2.5

// stop is the last event of each scenario.
var stop = act{name: "SIGTERM", do: func(s *stage) error {
	defer func() { s.router.procs = nil }()
	for _, p := range s.router.procs {
		if err := p.Stop(stopLimit); err != nil {
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				return err
			}
		}
		s.note(item{kind: life, text: fmt.Sprintf("exit code %d", p.ExitCode()), first: time.Now()})
	}
	return nil
}, late: true} // keepalived gives scripts a second before it goes on

// judge says what is not as declared: lines of a comparison that nothing explains, and declared differences that are not there.
func (s scenario) judge(lines []string) (wrong []string) {
	known := make([]bool, len(lines))
	for _, d := range s.differs {
		for _, part := range d.lines {
			found := false
			for i, line := range lines {
				if line[0] != ' ' && strings.Contains(line, part) {
					known[i], found = true, true
				}
			}
			if !found {
				wrong = append(wrong, fmt.Sprintf("! no longer differs: %q (%s)", part, d.why))
			}
		}
	}
	for i, line := range lines {
		if line[0] != ' ' && !known[i] {
			wrong = append(wrong, "! "+line)
		}
	}
	return wrong
}

// stage is where a scenario is played: the router on eth0 and eth1, at whose other ends there is a peer that makes things up.
type stage struct {
	*lan
	scenario scenario
	router   *router
	peer     *lab.Host
	mouth    *tap // the peer's eth0
	speech   chan struct{}
	silent   sync.WaitGroup

	mu    sync.Mutex
	trace trace
	ran   time.Time // when exists.sh was run last
}

const (
	routerName, peerName = "r1", "peer"
	// probeAddress is added to and removed from the router to see whether changes are seen.
	probeAddress = "127.0.0.77/32"
)

// play runs a scenario and returns what was to be seen.
func play(t *testing.T, p product, sc scenario) trace {
	s := &stage{lan: bareLAN(t), scenario: sc}
	s.scenario.advert = cmp.Or(sc.advert, time.Second)
	s.build(p)
	if sc.before != "" {
		if err := ip(sc.before).do(s); err != nil {
			t.Fatal(err)
		}
	}
	s.watch()
	s.begin(act{name: "start", late: true})
	s.router.boot()
	for _, e := range append(sc.steps, step{restTime, stop}) {
		time.Sleep(time.Duration(e.after * float64(time.Second)))
		s.untilReady(e.act)
		if e.betweenRuns {
			s.between(s.lastRun)
		} else {
			s.between(s.lastHeard)
		}
		s.begin(e.act)
		if err := e.do(s); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
	}
	time.Sleep(readTime)
	s.hush()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trace.normalised(s.router.dir)
}

// untilReady waits until something can happen, and for what goes along with what it had to wait for.
func (s *stage) untilReady(a act) {
	if a.ready == nil {
		return
	}
	const limit, settle = 10 * time.Second, time.Second
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		switch ready, err := a.ready(s); {
		case err != nil:
			s.t.Fatalf("%s: %v", a.name, err)
		case ready && time.Since(began) < 50*time.Millisecond:
			return
		case ready:
			time.Sleep(settle)
			return
		case time.Since(began) > limit:
			s.t.Fatalf("%s: it cannot happen, after %s", a.name, limit)
		}
	}
}

// build makes the hosts and the files.
func (s *stage) build(p product) {
	add := func(name string, addrs ...string) *lab.Host {
		prefixes := make([]netip.Prefix, len(addrs))
		for i, a := range addrs {
			prefixes[i] = netip.MustParsePrefix(a)
		}
		h, err := s.lab.AddHost(name, prefixes...)
		if err != nil {
			s.t.Fatal(err)
		}
		return h
	}
	s.router = &router{lan: s.lan, name: string(p), product: p, number: 1, host: add(routerName, "10.77.0.1/24", "fd77::1/64"),
		dir: filepath.Join(s.dir, routerName), advert: s.scenario.advert}
	s.routers = append(s.routers, s.router)
	s.peer = add(peerName, "10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", "fd77::3/64")
	if err := s.connect(); err != nil {
		s.t.Fatalf("connect %s: %v", second, err)
	}
	dir := s.router.dir
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	for _, pipe := range []string{"fifo", "notified", "ran"} {
		if err := unix.Mkfifo(filepath.Join(dir, pipe), 0o622); err != nil {
			s.t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, pipe), 0o622); err != nil { // whatever the umask
			s.t.Fatal(err)
		}
	}
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"notify.sh":       {"#!/bin/sh\necho \"$$ $*\" >DIR/notified\n", 0o755},
		"exists.sh":       {"#!/bin/sh\necho >DIR/ran\ntest -e DIR/$1\n", 0o755},
		"keepalived.conf": {s.scenario.conf, 0o644},
		"ok":              {"", 0o644},
		"ok2":             {"", 0o644},
	} {
		path := s.router.write(name, strings.ReplaceAll(file.text, "DIR", dir))
		if err := os.Chmod(path, file.mode); err != nil {
			s.t.Fatal(err)
		}
	}
}

// connect joins eth1 of the router and of the peer.
func (s *stage) connect() error {
	ours, theirs := s.router.host.Netlink(), s.peer.Netlink()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = second
	attrs.HardwareAddr = net.HardwareAddr{0x02, 'h', 'a', 'd', 1, 1}
	attrs.Index = 77 // of the kernel's own choice it could be the other end's, and then a lost carrier is noticed late
	if err := ours.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: second, PeerNamespace: netlink.NsFd(s.peer.Namespace())}); err != nil {
		return err
	}
	for i, nl := range []*netlink.Handle{ours, theirs} {
		link, err := nl.LinkByName(second)
		if err != nil {
			return err
		}
		if err := errors.Join(addAddress(nl, link, fmt.Sprintf("10.78.0.%d/24", i+1)), nl.LinkSetUp(link)); err != nil {
			return err
		}
	}
	if err := errors.Join(awaitUp(ours, second), awaitUp(theirs, second)); err != nil {
		return err
	}
	// The kernel gives each interface a link-local address some time after it is up.
	s.await(linkLimit, "the interfaces have their addresses", func() string {
		list, err := ours.AddrList(nil, netlink.FAMILY_V6)
		if err != nil {
			return err.Error()
		}
		linkLocal := 0
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() {
				linkLocal++
			}
		}
		if linkLocal < 2 {
			return fmt.Sprintf("%d have", linkLocal)
		}
		return ""
	})
	return nil
}

// watch starts to record.
func (s *stage) watch() {
	for _, iface := range []string{lab.Interface, second} {
		ear, err := openTap(s.peer, iface, func(at time.Time, outgoing bool, f frame) {
			switch {
			case outgoing:
			case f.kind == advert:
				s.note(item{kind: adverts, stream: fmt.Sprint(iface, f.ipv6, f.vrid), text: describe(f) + on(iface), first: at})
			case f.kind == claim:
				s.note(item{kind: claims, stream: iface, text: f.addr.String() + f.sender(), first: at})
			}
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(ear.close)
		if iface == lab.Interface {
			s.mouth = ear
		}
	}
	s.follow("fifo", func(line string) { s.note(item{kind: fifo, text: line, first: time.Now()}) })
	s.follow("notified", func(line string) { s.note(item{kind: notified, text: line, first: time.Now()}) })
	s.follow("ran", func(string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ran = time.Now()
	})
	s.monitor()
}

// on tells the second interface from the first.
func on(iface string) string {
	if iface == lab.Interface {
		return ""
	}
	return " on " + iface
}

// follow gives the lines of a named pipe to take.
func (s *stage) follow(name string, take func(line string)) {
	f, err := os.OpenFile(filepath.Join(s.router.dir, name), os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { lines(f, take) })
	s.t.Cleanup(func() {
		f.Close()
		done.Wait()
	})
}

func lines(from io.Reader, take func(line string)) {
	for scanner := bufio.NewScanner(from); scanner.Scan(); {
		take(scanner.Text())
	}
}

// monitor records what changes in the router's kernel.
func (s *stage) monitor() {
	ours, theirs, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer theirs.Close()
	var done sync.WaitGroup
	done.Go(func() { lines(ours, func(line string) { s.note(item{kind: kernel, text: line, first: time.Now()}) }) })
	proc, err := s.router.host.Start(lab.Command{Path: "/sbin/ip", Args: []string{"-o", "monitor", "link", "address", "route", "rule"}, Stdout: theirs})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = proc.KillTree()
		<-proc.Done()
		ours.Close()
		done.Wait()
	})
	nl := s.router.host.Netlink()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		s.t.Fatal(err)
	}
	// It listens once it has told of something.
	probe, err := netlink.ParseAddr(probeAddress)
	if err != nil {
		s.t.Fatal(err)
	}
	s.await(linkLimit, "the kernel's changes are seen", func() string {
		if err := errors.Join(nl.AddrAdd(lo, probe), nl.AddrDel(lo, probe)); err != nil {
			return err.Error()
		}
		time.Sleep(readTime / 4)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.trace.items) == 0 {
			return "they are not"
		}
		return ""
	})
}

// begin begins a new phase.
func (s *stage) begin(a act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace.phases = append(s.trace.phases, phase{name: a.name, late: a.late, start: time.Now()})
}

// note records something.
func (s *stage) note(i item) {
	i.last, i.count = i.first, 1
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace.items = append(s.trace.items, i)
}

// between waits until something that happens once per interval, if it happens at all, has just done so.
func (s *stage) between(latest func() time.Time) {
	last, patience := latest(), s.scenario.advert*13/10
	if time.Since(last) > patience {
		return
	}
	for deadline := time.Now().Add(patience); latest() == last && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(s.scenario.advert * 4 / 10)
}

// lastHeard is when the router last advertised that it is there.
func (s *stage) lastHeard() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range slices.Backward(s.trace.items) {
		if i.kind == adverts && !strings.Contains(i.text, resigns) {
			return i.first
		}
	}
	return time.Time{}
}

// lastRun is when exists.sh was last run.
func (s *stage) lastRun() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran
}

// say makes the peer send an advertisement: what the router itself would send, but of priority 100, with the changes given.
func (s *stage) say(changes ...func(*forgery)) error {
	f := forgery{version: 3, kind: 1, vrid: vrid, priority: 100, ttl: 255, interval: 100, src: netip.MustParseAddr("10.77.0.2"),
		dst: netip.MustParseAddr("224.0.0.18"), vips: []netip.Addr{netip.MustParseAddr("10.77.0.100")}}
	for _, change := range changes {
		change(&f)
	}
	to := s.router.host.MAC()
	if f.dst.IsMulticast() {
		to = groupMAC(f.dst)
	}
	return s.mouth.send(f.frame(s.mouth.mac, to))
}

// hush ends what the peer says again and again.
func (s *stage) hush() {
	if s.speech != nil {
		close(s.speech)
		s.speech = nil
	}
	s.silent.Wait()
}

// hear lets the router hear one advertisement.
func hear(what string, changes ...func(*forgery)) act {
	return act{name: "an advert with " + what, do: func(s *stage) error { return s.say(changes...) }}
}

// meet lets the router meet another one that advertises again and again, until another event says otherwise.
func meet(what string, changes ...func(*forgery)) act {
	return act{name: "a router with " + what, do: func(s *stage) error {
		s.hush()
		speech := make(chan struct{})
		s.speech = speech
		s.silent.Go(func() {
			tick := time.NewTicker(s.scenario.advert)
			defer tick.Stop()
			for {
				if err := s.say(changes...); err != nil {
					s.t.Error(err)
					return
				}
				select {
				case <-tick.C:
				case <-speech:
					return
				}
			}
		})
		return nil
	}}
}

// silence ends a router that was met.
var silence = act{name: "it falls silent", do: func(s *stage) error { s.hush(); return nil }}

// pass lets time pass.
var pass = act{name: "nothing", do: func(*stage) error { return nil }}

// priority changes the priority of a forgery.
func priority(p byte) func(*forgery) { return func(f *forgery) { f.priority = p } }

// version2 makes a forgery one of version 2, with a password or without.
func version2(password string) func(*forgery) {
	return func(f *forgery) {
		f.version, f.interval, f.password = 2, 1, password
		if password != "" {
			f.auth = 1
		}
	}
}

// ipv6 makes a forgery one over IPv6, from the peer's link-local address.
func ipv6(f *forgery) {
	f.src, f.dst = netip.MustParseAddr("fe80::68:6164:ff:2"), netip.MustParseAddr("ff02::12")
	f.vips = addresses([]string{"fe80::77:100", "fd77::100"})
}

// from changes the source of a forgery.
func from(addr string) func(*forgery) {
	return func(f *forgery) { f.src = netip.MustParseAddr(addr) }
}

// to changes the destination of a forgery.
func to(addr string) func(*forgery) {
	return func(f *forgery) { f.dst = netip.MustParseAddr(addr) }
}

// listing changes the addresses of a forgery.
func listing(list ...string) func(*forgery) { return func(f *forgery) { f.vips = addresses(list) } }

// remove lets somebody remove a file of the router's directory, and create one that is not there.
func remove(name string) act {
	return act{name: "remove " + name, betweenRuns: true, do: func(s *stage) error {
		return os.Remove(filepath.Join(s.router.dir, name))
	}}
}

func create(name string) act {
	return act{name: "create " + name, betweenRuns: true, do: func(s *stage) error {
		return os.WriteFile(filepath.Join(s.router.dir, name), nil, 0o644)
	}}
}

// write lets somebody put a text into a file of the router's directory.
func write(name, text string) act {
	return act{name: "write " + text + " to " + name, do: func(s *stage) error {
		return os.WriteFile(filepath.Join(s.router.dir, name), []byte(text+"\n"), 0o644)
	}}
}

// reload makes the router go by another file.
func reload(change, conf string) act {
	return act{name: "reload: " + change, conf: conf, do: func(s *stage) error {
		s.router.write("keepalived.conf", strings.ReplaceAll(conf, "DIR", s.router.dir))
		return s.router.procs[0].Signal(unix.SIGHUP)
	}}
}

// ip runs a command of iproute2 on the router. What it is to remove has to be there.
func ip(args string) act {
	words := strings.Fields(args)
	a := act{name: "ip " + args, do: func(s *stage) error { _, err := s.iproute(words...); return err }}
	if object, what, removes := removal(words); removes {
		a.ready = func(s *stage) (bool, error) {
			out, err := s.iproute(object, "show")
			return slices.Contains(strings.Fields(out), what), err
		}
	}
	return a
}

// removal tells what a command of iproute2 removes, as a list of such objects shows it.
func removal(words []string) (object, what string, removes bool) {
	switch {
	case len(words) < 3 || words[1] != "del" || words[0] == "link": // which the test has made
		return "", "", false
	case words[0] == "rule": // del preference N
		return words[0], words[3] + ":", true
	}
	return words[0], words[2], true
}

func (s *stage) iproute(words ...string) (out string, err error) {
	return out, s.router.host.Do(func() error {
		b, err := exec.Command("/sbin/ip", words...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
		out = string(b)
		return nil
	})
}

// knock asks for an answer of the router: that nobody listens on the port is one.
func knock(addr string) act {
	return act{name: "knock at " + addr, do: func(s *stage) error {
		return s.peer.Do(func() error {
			target := netip.MustParseAddr(addr)
			family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 7, Addr: [4]byte(target.AsSlice())})
			if target.Is6() {
				family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: 7, Addr: target.As16()}
			}
			fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			patience := unix.NsecToTimeval(int64(time.Second / 2))
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
				return err
			}
			s.note(item{kind: life, text: fmt.Sprintf("%s: %v", addr, unix.Connect(fd, to)), first: time.Now()})
			return nil
		})
	}}
}

// unplug takes the router's cable away.
func unplug(iface string) act {
	return act{name: "unplug " + iface, do: func(s *stage) error { return s.cable(iface, false) }}
}

// plug brings it back.
func plug(iface string) act {
	return act{name: "plug " + iface, do: func(s *stage) error { return s.cable(iface, true) }, late: true}
}

func (s *stage) cable(iface string, on bool) error {
	if iface == lab.Interface {
		if !on {
			_, err := s.lab.LinkDown(s.router.host)
			return err
		}
		return errors.Join(s.lab.HealAll(), awaitUp(s.router.host.Netlink(), iface))
	}
	nl := s.peer.Netlink()
	link, err := nl.LinkByName(iface)
	if err != nil {
		return err
	}
	if !on {
		return nl.LinkSetDown(link)
	}
	return errors.Join(nl.LinkSetUp(link), awaitUp(s.router.host.Netlink(), iface))
}
