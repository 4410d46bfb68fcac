//go:build integ

package balance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
)

const (
	vip     = "10.77.0.200" // of all services
	gateway = "10.77.0.201" // by which real servers reach the client of the service that is translated
	// answerLimit bounds the wait for an answer: a packet that is lost in a failover is sent again after a while.
	answerLimit = 30 * time.Second
)

// methods are the services of TestTraffic, by the port of the VIP.
var methods = []struct {
	name, kind string
	port       int
	client     string
}{
	{"NAT", "NAT", 81, "10.77.0.50"},
	{"DR", "DR", 82, "10.77.0.51"},
	{"TUN", "TUN", 83, "10.77.0.51"},
}

// sysctl sets a kernel parameter of a host.
func sysctl(t testing.TB, h *lab.Host, name, value string) {
	t.Helper()
	check(t, h.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) }))
}

func (f *field) add(name string, addresses ...string) *lab.Host {
	f.t.Helper()
	var all []netip.Prefix
	for _, a := range addresses {
		all = append(all, netip.MustParsePrefix(a+"/24"))
	}
	h, err := f.lab.AddHost(name, all...)
	check(f.t, err)
	return h
}

// addTo puts an address on another interface than the LAN's, which is set up.
func addTo(t testing.TB, h *lab.Host, iface, address string) {
	t.Helper()
	link, err := h.Netlink().LinkByName(iface)
	check(t, err)
	check(t, h.Netlink().LinkSetUp(link))
	addr, err := netlink.ParseAddr(address + "/32")
	check(t, err)
	check(t, h.Netlink().AddrAdd(link, addr))
}

// back is a host that is a real server of all methods.
func (f *field) back(number int) *back {
	f.t.Helper()
	b := &back{name: fmt.Sprintf("rs%d", number), address: fmt.Sprintf("10.77.0.12%d", number)}
	b.host = f.add(b.name, b.address)
	for _, iface := range []string{"all", "default"} {
		sysctl(f.t, b.host, "conf/"+iface+"/arp_ignore", "1")
		sysctl(f.t, b.host, "conf/"+iface+"/arp_announce", "2")
		sysctl(f.t, b.host, "conf/"+iface+"/rp_filter", "0")
	}
	addTo(f.t, b.host, "lo", vip)
	addTo(f.t, b.host, "tunl0", vip)
	sysctl(f.t, b.host, "conf/tunl0/rp_filter", "0")
	_, client, err := net.ParseCIDR(methods[0].client + "/32")
	check(f.t, err)
	check(f.t, b.host.Netlink().RouteAdd(&netlink.Route{Dst: client, Gw: net.ParseIP(gateway)}))
	f.t.Cleanup(b.down)
	b.up(f.t)
	return b
}

type back struct {
	name, address string
	host          *lab.Host
	listeners     []net.Listener
}

// up opens the services. Each says its server's name, and then what it is told.
func (b *back) up(t testing.TB) {
	t.Helper()
	for _, m := range methods {
		var l net.Listener
		check(t, b.host.Do(func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", m.port))
			return err
		}))
		b.listeners = append(b.listeners, l)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					fmt.Fprintln(c, b.name)
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
}

func (b *back) down() {
	for _, l := range b.listeners {
		l.Close()
	}
	b.listeners = nil
}

// session is a connection of a client.
type session struct {
	net.Conn
	method string
	in     *bufio.Reader
	server string
}

// connect opens a connection and reads which server it goes to.
func connect(from *lab.Host, method string, port int) (*session, error) {
	s := &session{method: method}
	err := from.Do(func() (err error) {
		s.Conn, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", vip, port), answerLimit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	s.in = bufio.NewReader(s.Conn)
	if err := s.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return nil, err
	}
	line, err := s.in.ReadString('\n')
	s.server = strings.TrimSpace(line)
	return s, err
}

// echo says something and waits for the answer.
func (s *session) echo(text string) error {
	if err := s.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(s, text+"\n"); err != nil {
		return err
	}
	line, err := s.in.ReadString('\n')
	if err == nil && line != text+"\n" {
		err = fmt.Errorf("%q came back as %q", text, line)
	}
	return err
}

// Connections by each method outlive the director that they went through, whether it ends or is cut off, and no new one goes to a
// server that is known to be down.
func TestTraffic(t *testing.T) {
	f := newField(t)
	clients := map[string]*lab.Host{}
	for i, address := range []string{"10.77.0.50", "10.77.0.51"} {
		clients[address] = f.add(fmt.Sprintf("client%d", i), address)
	}
	one, two := f.back(1), f.back(2)

	config := "global_defs {\n  lvs_sync_daemon eth0 VI_1\n}\n"
	for _, m := range methods {
		config += fmt.Sprintf("virtual_server %s %d {\n  delay_loop 1\n  lb_algo rr\n  lb_kind %s\n  protocol TCP\n", vip, m.port, m.kind)
		for _, b := range []*back{one, two} {
			config += fmt.Sprintf("  real_server %s %d {\n    TCP_CHECK {\n      connect_timeout 1\n    }\n  }\n", b.address, m.port)
		}
		config += "}\n"
	}
	directors := []*director{f.director("d1", "had", 11), f.director("d2", "had", 12)}
	for i, d := range directors {
		for _, name := range []string{"all", "default", "eth0"} {
			sysctl(t, d.host, "conf/"+name+"/rp_filter", "0")
			sysctl(t, d.host, "conf/"+name+"/send_redirects", "0")
		}
		sysctl(t, d.host, "ip_forward", "1")
		d.configure(config + fmt.Sprintf(`vrrp_instance VI_1 {
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority %d
  virtual_ipaddress {
    %s/24
    %s/24
  }
}
`, 200-i, vip, gateway))
	}
	logs := func() {
		if t.Failed() {
			for _, d := range directors {
				t.Logf("%s:\n%s\n%s\nlog:\n%s", d.name, d.run("ipvsadm", "-Ln"), d.run("ipvsadm", "-Lnc"), d.log())
			}
		}
	}
	defer logs()
	holds := func(d *director) func() bool {
		return func() bool {
			link, err := d.host.Netlink().LinkByName(lab.Interface)
			check(t, err)
			all, err := d.host.Netlink().AddrList(link, netlink.FAMILY_V4)
			check(t, err)
			for _, a := range all {
				if a.IP.String() == vip {
					return true
				}
			}
			return false
		}
	}
	directors[0].start()
	if !eventually(settleLimit, holds(directors[0])) {
		t.Fatal("the first director does not take the virtual IP")
	}
	directors[1].start()

	var sessions []*session
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	open := func() {
		for _, m := range methods {
			s, err := connect(clients[m.client], m.name, m.port)
			if err != nil {
				t.Fatal(err)
			}
			sessions = append(sessions, s)
		}
	}
	say := func(when string, times int) {
		t.Helper()
		for _, s := range sessions {
			for i := range times {
				if err := s.echo(fmt.Sprintf("%s %d", when, i)); err != nil {
					t.Errorf("%s: a connection by %s to %s is broken: %v", when, s.method, s.server, err)
					break
				}
			}
		}
	}
	known := func(d *director) {
		t.Helper()
		if !eventually(settleLimit, func() bool { return strings.Count(d.run("ipvsadm", "-Lnc"), "ESTABLISHED") >= len(sessions) }) {
			t.Errorf("%s does not learn of the connections", d.name)
		}
	}
	open()
	say("before", 5)
	known(directors[1])

	directors[0].stop()
	say("after the end of the first director", 60) // so many that the next director learns of them
	open()
	if !holds(directors[1])() {
		t.Error("the second director does not have the virtual IP")
	}
	directors[0].start()
	if !eventually(settleLimit, func() bool { return len(directors[0].table()) == len(methods) }) {
		t.Error("the first director has no table")
	}
	time.Sleep(2 * time.Second) // its daemon listens
	say("with the first director back", 110)
	known(directors[0])

	// A server fails, and the owner is cut off when both know.
	one.down()
	without := func(d *director) func() bool {
		return func() bool {
			for _, e := range d.table() {
				if len(e.Destinations) != 1 {
					return false
				}
			}
			return true
		}
	}
	for _, d := range directors {
		if !eventually(settleLimit, without(d)) {
			t.Errorf("%s does not notice that a server has failed", d.name)
		}
	}
	if _, err := f.lab.CutPort(directors[1].host); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		for _, m := range methods {
			s, err := connect(clients[m.client], m.name, m.port)
			if err != nil {
				t.Fatal(err)
			}
			if s.server != two.name {
				t.Errorf("a new connection by %s goes to %s, which is down", m.name, s.server)
			}
			s.Close()
		}
	}
	say("after the second director was cut off", 5)
	if !holds(directors[0])() {
		t.Error("the first director does not have the virtual IP")
	}
	t.Logf("%d connections outlived two failovers", len(sessions))
}
