//go:build integ

package operation

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
)

const (
	crowd       = 500 // instances
	crowdIface  = "crowd0"
	crowdAdvert = time.Second
	changedOne  = 77 // of the crowd
	crowdStart  = 30 * time.Second
	crowdWatch  = 4 * time.Second // before and after the reload
)

// crowdConfig is a file of 500 instances, half of them on each of two interfaces. One of them has the address given.
func crowdConfig(address string) string {
	var b strings.Builder
	b.WriteString("global_defs {\n    vrrp_garp_master_delay 0\n    vrrp_version 3\n}\n")
	for i := range crowd {
		iface, vip := lab.Interface, crowdVIP(i)
		if i%2 == 1 {
			iface = crowdIface
		}
		if i == changedOne {
			vip = address
		}
		fmt.Fprintf(&b, "vrrp_instance I%d {\n    interface %s\n    state MASTER\n    priority 200\n    virtual_router_id %d\n"+
			"    advert_int 1\n    virtual_ipaddress {\n        %s\n    }\n}\n", i, iface, i/2+1, vip)
	}
	return b.String()
}

func crowdVIP(i int) string { return fmt.Sprintf("10.99.%d.%d", i/250, i%250+1) }

// crowdRecord is what was seen of a crowd: advertisements by interface and VRID, announced addresses, and addresses that
// came and went.
type crowdRecord struct {
	mu        sync.Mutex
	adverts   map[string][]time.Time
	announced map[string]int
	changes   []string
}

func (r *crowdRecord) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adverts, r.announced, r.changes = map[string][]time.Time{}, map[string]int{}, nil
}

// summary counts pairs of advertisements of one router that came closer together than half an interval, and the silences.
func (r *crowdRecord) summary() (early, silent, routers int) {
	for _, times := range r.adverts {
		routers++
		for i := 1; i < len(times); i++ {
			switch gap := times[i].Sub(times[i-1]); {
			case gap < crowdAdvert/2:
				early++
			case gap > 3*crowdAdvert:
				silent++
			}
		}
	}
	return early, silent, routers
}

// watchCrowd records what a host sends and how its addresses change.
func watchCrowd(t *testing.T, host *lab.Host) *crowdRecord {
	t.Helper()
	r := &crowdRecord{}
	r.reset()
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	updates := make(chan netlink.AddrUpdate, 4096)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(host.Do(func() error { return netlink.AddrSubscribe(updates, done) }))
	go func() {
		for u := range updates {
			r.mu.Lock()
			r.changes = append(r.changes, fmt.Sprintf("%s new=%v", u.LinkAddress.IP, u.NewAddr))
			r.mu.Unlock()
		}
	}()
	for _, iface := range []string{lab.Interface, crowdIface} {
		link, err := host.Netlink().LinkByName(iface)
		must(err)
		var fd int
		must(host.Do(func() (err error) {
			fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
				err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: link.Attrs().Index})
			}
			return err
		}))
		file := os.NewFile(uintptr(fd), "crowd")
		t.Cleanup(func() { file.Close() })
		go r.read(iface, file)
	}
	return r
}

func (r *crowdRecord) read(iface string, file *os.File) {
	buffer := make([]byte, 4096)
	for {
		n, err := file.Read(buffer)
		if err != nil {
			return
		}
		f := buffer[:n]
		r.mu.Lock()
		switch {
		case n > 28 && f[0] == 0x45 && f[9] == 112:
			key := fmt.Sprintf("%s/%d", iface, f[21])
			r.adverts[key] = append(r.adverts[key], time.Now())
		case n >= 28 && bytes.Equal(f[:4], []byte{0, 1, 8, 0}) && bytes.Equal(f[14:18], f[24:28]):
			r.announced[netip.AddrFrom4([4]byte(f[14:18])).String()]++
		}
		r.mu.Unlock()
	}
}

// playCrowd starts a program on a file of 500 instances and reloads it with one address changed.
func playCrowd(t *testing.T, start func(host *lab.Host, file, dir string) *lab.Proc, reload func(p *lab.Proc, dir string)) *crowdRecord {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "crowd") // short: it is part of a socket's path
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := lab.New(t.Context(), lab.Options{})
	must(err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	host, err := l.AddHost("r1", netip.MustParsePrefix("10.77.0.1/24"))
	must(err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = crowdIface
	must(host.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "crowd1"}))
	var link netlink.Link
	for _, name := range []string{"crowd1", crowdIface} {
		link, err = host.Netlink().LinkByName(name)
		must(err)
		must(host.Netlink().LinkSetUp(link))
	}
	addr, err := netlink.ParseAddr("10.78.0.1/24")
	must(err)
	must(host.Netlink().AddrAdd(link, addr))
	record := watchCrowd(t, host)

	file := filepath.Join(dir, "keepalived.conf")
	must(os.WriteFile(file, []byte(crowdConfig(crowdVIP(changedOne))), 0o600))
	proc := start(host, file, dir)
	count := func() int {
		addrs, err := host.Netlink().AddrList(nil, netlink.FAMILY_V4)
		for errors.Is(err, netlink.ErrDumpInterrupted) { // they are changing
			addrs, err = host.Netlink().AddrList(nil, netlink.FAMILY_V4)
		}
		must(err)
		n := 0
		for _, a := range addrs {
			if strings.HasPrefix(a.IP.String(), "10.99.") {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(crowdStart); count() < crowd; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d addresses after %s", count(), crowd, crowdStart)
		}
	}
	time.Sleep(2 * crowdAdvert) // announcements of the start are over
	record.reset()
	time.Sleep(crowdWatch)
	must(os.WriteFile(file, []byte(crowdConfig("10.99.9.9")), 0o600))
	reload(proc, dir)
	time.Sleep(crowdWatch)
	if n := count(); n != crowd {
		t.Errorf("%d addresses after the reload, want %d", n, crowd)
	}
	record.mu.Lock() // what follows is the end
	t.Cleanup(record.mu.Unlock)
	must(proc.Signal(syscall.SIGTERM))
	return record
}

// A reload that changes one address of 500 instances touches that one alone: the others send nothing beyond their turn, and
// their addresses stay where they are. Stock keepalived plays the same beside it, for comparison.
func TestReloadOfManyInstances(t *testing.T) {
	t.Parallel()
	r := playCrowd(t, func(host *lab.Host, file, dir string) *lab.Proc {
		p, err := host.Start(lab.Command{Path: binaries.Had, LogFile: filepath.Join(dir, "log"),
			Args: []string{"-f", file, "-n", "--control-socket", filepath.Join(dir, "had.sock")}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(dir, "log"))
				t.Logf("the end of the log:\n%s", log[max(0, len(log)-8<<10):])
			}
		})
		return p
	}, func(_ *lab.Proc, dir string) {
		out, err := exec.Command(binaries.Hactl, "-s", filepath.Join(dir, "had.sock"), "config", "reload").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "1 instance changed; 499 unchanged") {
			t.Fatalf("hactl config reload: %v\n%s", err, out)
		}
	})
	early, silent, routers := r.summary()
	t.Logf("had: %d routers, %d advertisements out of turn, %d silences, changes of addresses: %v, announced: %v",
		routers, early, silent, r.changes, r.announced)
	if routers != crowd || early > 0 || silent > 0 {
		t.Errorf("%d routers, %d advertisements out of turn, %d silences", routers, early, silent)
	}
	if want := []string{crowdVIP(changedOne) + " new=false", "10.99.9.9 new=true"}; !slices.Equal(r.changes, want) {
		t.Errorf("changes of addresses: %q, want %q", r.changes, want)
	}
	if len(r.announced) != 1 || r.announced["10.99.9.9"] == 0 {
		t.Errorf("announced: %v, want the new address alone", r.announced)
	}
}

func TestReloadOfManyInstancesByKeepalived(t *testing.T) {
	path, err := exec.LookPath("keepalived")
	if err != nil {
		t.Skip("keepalived is not installed")
	}
	t.Parallel()
	r := playCrowd(t, func(host *lab.Host, file, dir string) *lab.Proc {
		p, err := host.Start(lab.Command{Path: path, LogFile: filepath.Join(dir, "log"), Args: []string{"-n", "-l", "-P", "-f", file,
			"-p", filepath.Join(dir, "pid"), "-r", filepath.Join(dir, "vrrp.pid")}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}, func(p *lab.Proc, _ string) {
		if err := p.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	})
	early, silent, routers := r.summary()
	t.Logf("keepalived: %d routers, %d advertisements out of turn, %d silences, changes of addresses: %v, %d addresses announced",
		routers, early, silent, r.changes, len(r.announced))
}

// A reload with a cluster: the owner keeps its lease and answers every request, whatever is added, changed and removed
// around it. A configuration with errors, or with another cluster block, changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, other := s.awaitWhole()
	epoch := func() uint64 {
		status, err := s.Status(s.ctx, owner)
		s.must(err)
		for _, g := range status.Groups {
			if g.Name == s.Group() {
				return g.Epoch
			}
		}
		s.t.Fatalf("no group %s", s.Group())
		return 0
	}
	first := epoch()
	extra := func(vrid int, vip string) string {
		return fmt.Sprintf("vrrp_instance EXTRA%d {\n    interface %s\n    virtual_router_id %d\n    advert_int 1\n"+
			"    virtual_ipaddress {\n        %s/24\n    }\n}\n", vrid, lab.Interface, vrid, vip)
	}
	const vip, another = "10.77.0.160", "10.77.0.161"
	has := func(address string, want bool) {
		s.t.Helper()
		s.eventually(recoverLimit, func() error {
			holders := 0
			for _, n := range s.Directors() {
				if has, err := n.Host.HasAddr(netip.MustParseAddr(address)); err != nil {
					return err
				} else if has {
					holders++
				}
			}
			if want && holders != 1 || !want && holders != 0 {
				return fmt.Errorf("%d directors have %s", holders, address)
			}
			return nil
		})
	}
	reload := func(texts ...string) {
		s.t.Helper()
		for _, n := range s.Directors() {
			out, err := s.Hactl(s.ctx, n, "config", "reload")
			s.must(err)
			s.says(out, texts...)
		}
	}
	write := func(change func(text string) string) {
		for _, n := range s.Directors() {
			s.must(os.WriteFile(n.Config(), []byte(change(s.Configuration(n))), 0o600))
		}
	}
	s.undisturbed("one after the other", owner, func(s *stage) {
		s.run("an instance comes", func(s *stage) {
			write(func(text string) string { return text + extra(77, vip) })
			reload("1 instance added", "vrrp_instance EXTRA77 added")
			has(vip, true)
		})
		s.run("its address changes", func(s *stage) {
			write(func(text string) string { return text + extra(77, another) })
			reload("1 instance changed")
			has(another, true)
			has(vip, false)
		})
		s.run("the owner's group gets another address, and loses it", func(s *stage) {
			line := site4(s)
			write(func(text string) string {
				return strings.Replace(text, line, line+"\n        "+vip+"/24", 1) + extra(77, another)
			})
			reload("1 instance changed")
			has(vip, true)
			write(func(text string) string { return text + extra(77, another) })
			reload("1 instance changed")
			has(vip, false)
		})
		s.run("an instance goes, by SIGHUP", func(s *stage) {
			write(func(text string) string { return text })
			for _, n := range s.Directors() {
				mark := s.logMark(n)
				s.must(n.Proc.Signal(syscall.SIGHUP))
				s.awaitLog(n, mark, "configuration reloaded", "1 instance removed")
			}
			has(another, false)
		})
		s.run("a file with errors changes nothing", func(s *stage) {
			text := s.Configuration(owner) + "vrrp_instance BAD {\n    virtual_router_id 256\n    priority 256\n}\n"
			s.must(os.WriteFile(owner.Config(), []byte(text), 0o600))
			mark := s.logMark(owner)
			_, errs := s.hactl(owner, api.ExitRefused, "config", "reload")
			line := strings.Count(s.Configuration(owner), "\n")
			s.says(errs, "config-errors", fmt.Sprintf("%s:%d:", owner.Config(), line+2), fmt.Sprintf("%s:%d:", owner.Config(), line+3))
			s.awaitLog(owner, mark, fmt.Sprintf("%s:%d:", owner.Config(), line+2))
			s.awaitLog(owner, mark, "the running one stays")
		})
		s.run("the cluster block cannot change", func(s *stage) {
			s.configure(owner, "    port ", "    lease 9\n    port ")
			_, errs := s.hactl(owner, api.ExitRefused, "config", "reload")
			s.says(errs, "fixed-words", "cluster lease", "restart had")
			s.configure(owner)
			_, errs = s.hactl(s.Witness(), api.ExitRefused, "config", "reload")
			s.says(errs, "a witness reads the cluster block only")
		})
	})
	if now := epoch(); now != first {
		t.Errorf("epoch %d, before the reloads %d", now, first)
	}
	status, err := s.Status(s.ctx, other)
	s.must(err)
	if len(status.Groups) != 1 {
		t.Logf("groups that the log still knows: %d", len(status.Groups))
	}
}

// site4 is the line of the configuration with the group's address.
func site4(s *stage) string {
	for line := range strings.Lines(s.Configuration(s.Nodes[0])) {
		if strings.Contains(line, s.VIPs[0].String()) {
			return strings.TrimRight(line, "\n")
		}
	}
	s.t.Fatal("no address in the configuration")
	return ""
}
