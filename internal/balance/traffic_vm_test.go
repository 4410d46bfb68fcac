//go:build integ

package balance

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/backend"
)

const (
	vip     = "10.77.0.200" // of all services
	gateway = "10.77.0.201" // by which real servers reach the client of the service that is translated
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

func (f *field) add(name, address string) *lab.Host {
	f.t.Helper()
	h, err := f.lab.AddHost(name, netip.MustParsePrefix(address+"/24"))
	check(f.t, err)
	return h
}

// back is a host that is a real server of all methods.
func (f *field) back(number int) *backend.Server {
	f.t.Helper()
	s, err := backend.Add(f.lab, backend.Plan{Name: fmt.Sprintf("rs%d", number), Address: netip.MustParsePrefix(fmt.Sprintf("10.77.0.12%d/24", number)),
		VIP: netip.MustParseAddr(vip), Client: netip.MustParseAddr(methods[0].client), Gateway: netip.MustParseAddr(gateway)})
	check(f.t, err)
	f.t.Cleanup(func() { s.Close() })
	for _, m := range methods {
		check(f.t, s.Open(m.port))
	}
	return s
}

// session is a connection of a client.
type session struct {
	*backend.Session
	method string
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
		for _, b := range []*backend.Server{one, two} {
			config += fmt.Sprintf("  real_server %s %d {\n    TCP_CHECK {\n      connect_timeout 1\n    }\n  }\n", b.Host.Addr(), m.port)
		}
		config += "}\n"
	}
	directors := []*director{f.director("d1", "had", 11), f.director("d2", "had", 12)}
	for i, d := range directors {
		check(t, backend.Forwards(d.host))
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

	connect := func(method, client string, port int) *backend.Session {
		t.Helper()
		s, err := backend.Connect(clients[client], 0, netip.AddrPortFrom(netip.MustParseAddr(vip), uint16(port)), backend.AnswerLimit)
		if err != nil {
			t.Fatalf("by %s: %v", method, err)
		}
		return s
	}
	var sessions []session
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	open := func() {
		for _, m := range methods {
			sessions = append(sessions, session{connect(m.name, m.client, m.port), m.name})
		}
	}
	say := func(when string, times int) {
		t.Helper()
		for _, s := range sessions {
			for i := range times {
				if err := s.Echo(fmt.Sprintf("%s %d", when, i)); err != nil {
					t.Errorf("%s: a connection by %s to %s is broken: %v", when, s.method, s.Server, err)
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
	one.Close()
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
			s := connect(m.name, m.client, m.port)
			if s.Server != two.Host.Name() {
				t.Errorf("a new connection by %s goes to %s, which is down", m.name, s.Server)
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
