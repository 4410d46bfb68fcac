//go:build interop

package interop_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
)

const (
	// stopLimit is how long a daemon may take to end after SIGTERM.
	stopLimit = 5 * time.Second
	// cleanLimit is how long a daemon may take to remove what an earlier life left behind.
	cleanLimit = 5 * time.Second
)

// product is a program that speaks VRRP.
type product string

const (
	had        product = "had"
	keepalived product = "keepalived"
	vrrpd      product = "vrrpd"
	hawitness  product = "hawitness" // speaks no VRRP
	bfdd       product = "bfdd"      // nor does this
)

// program returns the path of a program that `make build` makes.
func program(name string) string {
	dir := os.Getenv("HAD_BIN")
	if dir == "" {
		dir = "../../bin"
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		panic(err)
	}
	return path
}

// router is a host on which a product speaks VRRP.
type router struct {
	lan     *lan
	name    string
	product product
	number  int
	host    *lab.Host
	dir     string
	advert  time.Duration // advert_int
	procs   []*lab.Proc   // in the order in which they were started
	cut     *lab.Fault    // while it is dead
}

// addRouter adds a host for a product that speaks with the given advert_int.
func (l *lan) addRouter(p product, advertInterval time.Duration) *router {
	l.t.Helper()
	r := &router{lan: l, product: p, number: len(l.routers) + 1, advert: advertInterval}
	r.name = fmt.Sprintf("%s on r%d", p, r.number)
	r.host = l.addHost(r.number, r.name)
	r.dir = filepath.Join(l.dir, fmt.Sprintf("r%d", r.number))
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.routers = append(l.routers, r)
	return r
}

// settle is how long a router must be alone to be called the only master: long enough for one advertisement.
func (r *router) settle() time.Duration { return r.advert*5/4 + 100*time.Millisecond }

func (r *router) source4() string { return fmt.Sprintf("10.77.0.%d", r.number) }
func (r *router) source6() string { return fmt.Sprintf("fd77::%d", r.number) }

// write stores a file of the router and returns its path.
func (r *router) write(name, content string) string {
	r.lan.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.lan.t.Fatal(err)
	}
	return path
}

// configure makes r a virtual router of a combination, which talks to peer.
func (r *router) configure(c combination, peer *router, priority int, lines ...string) {
	r.lan.t.Helper()
	if r.product == vrrpd {
		r.configureFRR(c, priority)
		return
	}
	r.write("keepalived.conf", configuration(c.instance(r, peer, priority, lines...)))
}

func (r *router) socket() string { return filepath.Join(r.dir, "had.sock") }

// clean removes what a loss of power would: the files in /run.
func (r *router) clean() {
	r.lan.t.Helper()
	stale, err := filepath.Glob(filepath.Join(r.dir, "*.pid"))
	if err != nil {
		r.lan.t.Fatal(err)
	}
	for _, file := range stale {
		if err := os.Remove(file); err != nil {
			r.lan.t.Fatal(err)
		}
	}
}

// boot starts the router's program. As after a loss of power there are no files in its /run.
func (r *router) boot() {
	r.lan.t.Helper()
	r.clean()
	file := filepath.Join(r.dir, "keepalived.conf")
	switch r.product {
	case had:
		r.run(program("had"), "-f", file, "-n", "-l", "-D", "--control-socket", r.socket())
	case keepalived:
		r.run("/usr/sbin/keepalived", "-f", file, "-n", "-l", "-D", "-P", "-p", filepath.Join(r.dir, "parent.pid"),
			"-r", filepath.Join(r.dir, "vrrp.pid"))
	case hawitness:
		r.run(program("hawitness"), "-f", file)
	case vrrpd, bfdd:
		r.bootFRR()
	}
}

// run starts a program on the router.
func (r *router) run(path string, args ...string) {
	r.lan.t.Helper()
	p, err := r.host.Start(lab.Command{Path: path, Args: args, LogFile: filepath.Join(r.dir, filepath.Base(path)+".log")})
	if err != nil {
		r.lan.t.Fatal(err)
	}
	r.procs = append(r.procs, p)
}

// ended names a program of the router that has ended by itself.
func (r *router) ended() string {
	for _, p := range r.procs {
		if !p.Running() {
			return fmt.Sprintf("a program on %s has ended with exit code %d", r.name, p.ExitCode())
		}
	}
	return ""
}

// die makes an end of the router as a loss of power does, as far as the others can see: its processes are killed without a
// word, and its kernel, which still has the addresses, is off the LAN.
func (r *router) die() {
	r.lan.t.Helper()
	r.kill()
	cut, err := r.lan.lab.CutPort(r.host)
	if err != nil {
		r.lan.t.Fatal(err)
	}
	r.cut = cut
}

func (r *router) dead() bool { return r.cut != nil }

// kill ends the processes by SIGKILL. They are stopped first, and children killed before their parents, at whose end the kernel lets
// them go on: a child that outlives its parent for a moment must not say goodbye.
func (r *router) kill() {
	r.lan.t.Helper()
	for _, p := range r.procs {
		if err := p.SignalTree(syscall.SIGSTOP); err != nil {
			r.lan.t.Fatal(err)
		}
	}
	for _, p := range r.procs {
		if err := p.KillTree(); err != nil {
			r.lan.t.Fatal(err)
		}
	}
	for _, p := range r.procs {
		<-p.Done()
	}
	r.procs = nil
}

// revive boots a dead router and, once its program has removed the addresses of the earlier life, connects it again.
func (r *router) revive() {
	r.lan.t.Helper()
	r.boot()
	r.lan.await(cleanLimit, r.name+" has removed the addresses that its earlier life left behind", func() string {
		for _, v := range r.lan.virtuals {
			for _, vip := range v.vips {
				if has, err := r.has(v.iface, vip); err != nil || has && !r.keepsAddresses() {
					return fmt.Sprintf("%s: %t, %v", vip, has, err)
				}
			}
		}
		return ""
	})
	if err := r.cut.Heal(); err != nil {
		r.lan.t.Fatal(err)
	}
	r.cut = nil
}

// shutdown ends the program by SIGTERM.
func (r *router) shutdown() {
	r.lan.t.Helper()
	for i := len(r.procs) - 1; i >= 0; i-- {
		if err := r.procs[i].Stop(stopLimit); err != nil {
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				r.lan.t.Fatal(err)
			}
		}
	}
	r.procs = nil
}

// has tells whether an address is in the router's kernel, on an interface or, if that is not named, on any.
func (r *router) has(iface string, addr netip.Addr) (bool, error) {
	nl := r.host.Netlink()
	var link netlink.Link // nil: all
	if iface != "" {
		var err error
		if link, err = nl.LinkByName(iface); err != nil {
			return false, fmt.Errorf("find %s on %s: %w", iface, r.name, err)
		}
	}
	list, err := nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", r.name, err)
	}
	for _, a := range list {
		if a.IP.Equal(net.IP(addr.AsSlice())) {
			return true, nil
		}
	}
	return false, nil
}

// keepsAddresses says that the product has its addresses configured whether it is master or not.
func (r *router) keepsAddresses() bool { return r.product == vrrpd }

// log returns what the router's program has written.
func (r *router) log() string {
	content, err := os.ReadFile(filepath.Join(r.dir, string(r.product)+".log"))
	if err != nil {
		return ""
	}
	return string(content)
}

// logged tells whether the program has written a line with all of these words.
func (r *router) logged(words ...string) bool {
	for line := range strings.Lines(r.log()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}
