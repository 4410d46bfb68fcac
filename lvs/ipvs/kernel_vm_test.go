//go:build integ

package ipvs

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/lvs"
)

// conn returns a Conn to an empty table, which is empty again when the test ends.
func conn(t *testing.T) *Conn {
	t.Helper()
	// The kernel takes no address for a real server's before it has a table of routes.
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	c, err := Open("")
	check(t, err)
	check(t, c.Flush())
	t.Cleanup(func() {
		check(t, c.Flush())
		c.Close()
	})
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a test changes, one by one.
func change(c *Conn, change lvs.Change) error { return c.Apply([]lvs.Change{change})[0] }

func addService(c *Conn, key lvs.ServiceKey, s lvs.Service) error {
	return change(c, lvs.Change{Operation: lvs.AddService, Key: key, Service: s})
}

func setService(c *Conn, key lvs.ServiceKey, s lvs.Service) error {
	return change(c, lvs.Change{Operation: lvs.EditService, Key: key, Service: s})
}

func deleteService(c *Conn, key lvs.ServiceKey) error {
	return change(c, lvs.Change{Operation: lvs.DeleteService, Key: key})
}

func addDestination(c *Conn, key lvs.ServiceKey, dk lvs.DestinationKey, d lvs.Destination) error {
	return change(c, lvs.Change{Operation: lvs.AddDestination, Key: key, Server: dk, Destination: d})
}

func setDestination(c *Conn, key lvs.ServiceKey, dk lvs.DestinationKey, d lvs.Destination) error {
	return change(c, lvs.Change{Operation: lvs.EditDestination, Key: key, Server: dk, Destination: d})
}

func deleteDestination(c *Conn, key lvs.ServiceKey, dk lvs.DestinationKey) error {
	return change(c, lvs.Change{Operation: lvs.DeleteDestination, Key: key, Server: dk})
}

// add puts a whole table into the kernel.
func add(t *testing.T, c *Conn, table lvs.Table) {
	t.Helper()
	plan := lvs.Plan(lvs.Table{}, table, func(lvs.ServiceKey) bool { return false })
	for i, err := range c.Apply(plan) {
		if err != nil {
			t.Errorf("%v: %v", plan[i], err)
		}
	}
}

// same fails unless the kernel has exactly this table.
func same(t *testing.T, c *Conn, want lvs.Table) {
	t.Helper()
	got, err := c.Read()
	check(t, err)
	if reflect.DeepEqual(got, want) {
		return
	}
	for key, e := range want {
		if !reflect.DeepEqual(got[key], e) {
			t.Errorf("%s:\n got %+v\nwant %+v", key, got[key], e)
		}
	}
	for key := range maps.Keys(got) {
		if _, ok := want[key]; !ok {
			t.Errorf("%s is there and not wanted", key)
		}
	}
}

// saved returns what ipvsadm reads (all but thresholds), which knows nothing of this package.
func saved(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ipvsadm", "-Sn").CombinedOutput()
	if err != nil {
		t.Fatalf("ipvsadm: %v: %s", err, out)
	}
	return string(out)
}

func at(p lvs.Protocol, address string) lvs.ServiceKey {
	a := netip.MustParseAddrPort(address)
	return lvs.ServiceKey{Family: familyOf(a), Protocol: p, Address: a}
}

func mark(f lvs.Family, m uint32) lvs.ServiceKey { return lvs.ServiceKey{Family: f, Mark: m} }

func to(address string) lvs.DestinationKey {
	return netip.MustParseAddrPort(address)
}

func one(address string, d lvs.Destination) map[lvs.DestinationKey]lvs.Destination {
	return map[lvs.DestinationKey]lvs.Destination{to(address): d}
}

func entry(s lvs.Service, d map[lvs.DestinationKey]lvs.Destination) lvs.Entry {
	return lvs.Entry{Service: s, Destinations: d}
}

var none = map[lvs.DestinationKey]lvs.Destination{}

// Everything that a table can say is read back as it was written, all at once, and ipvsadm sees it too.
func TestRoundTrip(t *testing.T) {
	rr := lvs.Service{Scheduler: "rr"}
	table := lvs.Table{
		at(lvs.TCP, "192.0.2.1:80"):           entry(rr, one("10.0.0.1:80", lvs.Destination{Weight: 1})),
		at(lvs.UDP, "192.0.2.1:80"):           entry(rr, one("10.0.0.1:81", lvs.Destination{Weight: lvs.MaxWeight})),
		at(lvs.SCTP, "192.0.2.1:80"):          entry(rr, one("10.0.0.1:82", lvs.Destination{Weight: 0})),
		at(lvs.TCP, "[2001:db8::1]:80"):       entry(rr, one("[fd00::1]:8080", lvs.Destination{Weight: 3})),
		mark(lvs.IPv4, 7):                     entry(rr, one("10.0.0.1:0", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.DirectRoute}})),
		mark(lvs.IPv6, 7):                     entry(rr, one("[fd00::1]:0", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.DirectRoute}})),
		mark(lvs.IPv4, 1<<32-1):               entry(rr, none),
		at(lvs.UDP, "192.0.2.2:53"):           entry(lvs.Service{Scheduler: "rr", OnePacket: true}, none),
		at(lvs.TCP, "192.0.2.2:0"):            entry(lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 360, PrefixLen: 32}}, none),
		at(lvs.TCP, "192.0.2.2:24"):           entry(lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 1, PrefixLen: 24}}, none),
		at(lvs.TCP, "192.0.2.2:1"):            entry(lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 1, PrefixLen: 1}}, none),
		at(lvs.TCP, "[2001:db8::2]:56"):       entry(lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 60, PrefixLen: 56}}, none),
		at(lvs.TCP, "[2001:db8::2]:128"):      entry(lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 60, PrefixLen: 128}}, none),
		at(lvs.UDP, "192.0.2.2:5060"):         entry(lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 60, PrefixLen: 32, Engine: "sip"}}, none),
		at(lvs.TCP, "192.0.2.3:1"):            entry(lvs.Service{Scheduler: "sh", Flags: lvs.SchedulerFlags{First: true}}, none),
		at(lvs.TCP, "192.0.2.3:2"):            entry(lvs.Service{Scheduler: "mh", Flags: lvs.SchedulerFlags{Second: true}}, none),
		at(lvs.TCP, "192.0.2.3:3"):            entry(lvs.Service{Scheduler: "mh", Flags: lvs.SchedulerFlags{First: true, Second: true, Third: true}}, none),
		at(lvs.TCP, "192.0.2.4:1"):            entry(rr, one("10.0.0.9:1", lvs.Destination{Weight: 1, Upper: 1000, Lower: 10})),
		at(lvs.TCP, "192.0.2.4:2"):            entry(rr, one("10.0.0.9:2", lvs.Destination{Weight: 1, Upper: 1<<31 - 1})),
		at(lvs.TCP, "192.0.2.5:5"):            entry(rr, one("10.0.0.9:5", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel}})),
		at(lvs.TCP, "192.0.2.5:6"):            entry(rr, one("10.0.0.9:6", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GUE, Port: 6080}})),
		at(lvs.TCP, "192.0.2.5:7"):            entry(rr, one("10.0.0.9:7", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GUE, Port: 6080, Checksum: lvs.RemoteChecksum}})),
		at(lvs.TCP, "192.0.2.5:8"):            entry(rr, one("10.0.0.9:8", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GRE, Checksum: lvs.Checksum}})),
		at(lvs.TCP, "192.0.2.5:9"):            entry(rr, one("10.0.0.9:9", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GRE}})),
		at(lvs.TCP, "192.0.2.6:46"):           entry(rr, one("[fd01::2]:46", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel}})),
		at(lvs.TCP, "[2001:db8::6]:64"):       entry(rr, one("10.0.0.1:64", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel}})),
		at(lvs.TCP, "[2001:db8::6]:66"):       entry(rr, one("[fd01::2]:66", lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GUE, Port: 6080, Checksum: lvs.Checksum}})),
		at(lvs.TCP, "[2001:db8:0:7::9]:2000"): entry(rr, one("[2001:0:0:1::]:2000", lvs.Destination{Weight: 1})), // a zero tail, which may be taken for IPv4
	}
	c := conn(t)
	add(t, c, table)
	same(t, c, table)
	for _, line := range []string{
		"-A -t 192.0.2.2:24 -s rr -p 1 -M 255.255.255.0\n",
		"-A -u 192.0.2.2:5060 -s rr -p 60 --pe sip\n",
		"-A -u 192.0.2.2:53 -s rr -o\n",
		"-A -t 192.0.2.3:1 -s sh -b sh-fallback\n",
		"-A -t [2001:db8::2]:56 -s rr -p 60 -M 56\n",
		"-a -t 192.0.2.5:7 -r 10.0.0.9:7 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum\n",
		"-a -t 192.0.2.6:46 -r [fd01::2]:46 -i -w 1 --tun-type ipip\n",
		"-a -f 7 -r 10.0.0.1:0 -g -w 1\n",
	} {
		if all := saved(t); !strings.Contains(all, line) {
			t.Errorf("ipvsadm does not say %q:\n%s", line, all)
		}
	}
}

func TestSchedulers(t *testing.T) {
	c := conn(t)
	table := lvs.Table{}
	for i, name := range strings.Fields("rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh") {
		table[at(lvs.TCP, fmt.Sprintf("192.0.2.1:%d", i+1))] = lvs.Entry{Service: lvs.Service{Scheduler: name}, Destinations: none}
	}
	add(t, c, table)
	same(t, c, table)
}

// Each field of a service and of a destination can be changed into each other value while it is there.
func TestChanges(t *testing.T) {
	c := conn(t)
	key, dk := at(lvs.TCP, "192.0.2.1:80"), to("10.0.0.1:80")
	services := []lvs.Service{
		{Scheduler: "wlc"},
		{Scheduler: "sh", Flags: lvs.SchedulerFlags{First: true}},
		{Scheduler: "sh", Flags: lvs.SchedulerFlags{Second: true}},
		{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 30, PrefixLen: 16, Engine: "sip"}},
		{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 31, PrefixLen: 32}},
		{Scheduler: "rr"},
	}
	destinations := []lvs.Destination{
		{Weight: 1},
		{Weight: 0, Upper: 10, Lower: 5},
		{Weight: 2, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GUE, Port: 5555}},
		{Weight: 2, Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GRE, Checksum: lvs.Checksum}},
		{Weight: 2, Forwarding: lvs.Forwarding{Method: lvs.Tunnel}},
		{Weight: 2, Forwarding: lvs.Forwarding{Method: lvs.DirectRoute}},
	}
	check(t, addService(c, key, services[0]))
	check(t, addDestination(c, key, dk, destinations[0]))
	for i := range services {
		check(t, setService(c, key, services[i]))
		check(t, setDestination(c, key, dk, destinations[i]))
		same(t, c, lvs.Table{key: entry(services[i], map[lvs.DestinationKey]lvs.Destination{dk: destinations[i]})})
	}
	check(t, deleteDestination(c, key, dk))
	same(t, c, lvs.Table{key: entry(services[len(services)-1], none)})
	check(t, deleteService(c, key))
	same(t, c, lvs.Table{})
}

func TestRefusals(t *testing.T) {
	c := conn(t)
	key, dk, rr := at(lvs.TCP, "192.0.2.1:80"), to("10.0.0.1:80"), lvs.Service{Scheduler: "rr"}
	gone := at(lvs.TCP, "192.0.2.9:80")
	check(t, addService(c, key, rr))
	check(t, addDestination(c, key, dk, lvs.Destination{Weight: 1}))
	for name, test := range map[string]struct{ got, want error }{
		"a service twice":                 {addService(c, key, rr), ErrExists},
		"a change of no service":          {setService(c, gone, rr), ErrNoService},
		"the removal of no service":       {deleteService(c, gone), ErrNoService},
		"a destination twice":             {addDestination(c, key, dk, lvs.Destination{}), ErrExists},
		"a destination of no service":     {addDestination(c, gone, dk, lvs.Destination{}), ErrNoService},
		"a change of no destination":      {setDestination(c, key, to("10.0.0.2:80"), lvs.Destination{}), ErrNoDestination},
		"the removal of no destination":   {deleteDestination(c, key, to("10.0.0.2:80")), ErrNoDestination},
		"a removal from no service":       {deleteDestination(c, gone, dk), ErrNoService},
		"the statistics of no service":    {c.Zero(gone), ErrNoService},
		"a synchronization of no network": {c.StartDaemon(Daemon{Role: Master, Interface: "nowhere"}), nil},
	} {
		if test.want == nil && test.got == nil || test.want != nil && !errors.Is(test.got, test.want) {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
	var missing *MissingError
	if err := addService(c, gone, lvs.Service{Scheduler: "twos"}); !errors.As(err, &missing) || missing.Scheduler != "twos" {
		t.Errorf("a scheduler without a module: %v", err)
	}
	engine := lvs.Service{Scheduler: "rr", Persistence: lvs.Persistence{TimeoutSeconds: 1, PrefixLen: 32, Engine: "none"}}
	if err := addService(c, gone, engine); !errors.As(err, &missing) || missing.Engine != "none" {
		t.Errorf("an engine without a module: %v", err)
	}
	var mixed *MixedError
	if err := addDestination(c, key, to("[fd00::1]:80"), lvs.Destination{Weight: 1}); !errors.As(err, &mixed) {
		t.Errorf("another family by NAT: %v", err)
	}
	same(t, c, lvs.Table{key: entry(rr, map[lvs.DestinationKey]lvs.Destination{dk: {Weight: 1}})})
}

// In a long list of changes each has its own answer: what the kernel refuses keeps it from nothing else.
func TestManyChanges(t *testing.T) {
	c := conn(t)
	key, rr := at(lvs.TCP, "192.0.2.1:80"), lvs.Service{Scheduler: "rr"}
	want := lvs.Table{key: entry(rr, map[lvs.DestinationKey]lvs.Destination{})}
	changes := []lvs.Change{{Operation: lvs.AddService, Key: key, Service: rr}}
	for i := range 1000 {
		dk := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 200), byte(i%200 + 1)}), 80)
		if i%3 == 0 {
			dk = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, byte(i / 200), byte(i % 200)}), 80) // no unicast address
		}
		d := lvs.Destination{Weight: uint32(i)}
		changes = append(changes, lvs.Change{Operation: lvs.AddDestination, Key: key, Server: dk, Destination: d})
		if i%3 > 0 {
			want[key].Destinations[dk] = d
		}
	}
	for i, err := range c.Apply(changes) {
		if refused := i > 0 && (i-1)%3 == 0; refused != (err != nil) {
			t.Errorf("%v: %v", changes[i], err)
		}
	}
	same(t, c, want)
}

// What other programs write is read for what it is, and never for what had might want.
func TestForeignEntries(t *testing.T) {
	c := conn(t)
	for _, args := range []string{
		"-A -t 192.0.2.1:80 -s wrr -p 60 -M 255.0.255.0",
		"-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 7",
		"-A -f 5 -6 -s rr",
	} {
		if out, err := exec.Command("ipvsadm", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ipvsadm %s: %v: %s", args, err, out)
		}
	}
	same(t, c, lvs.Table{
		at(lvs.TCP, "192.0.2.1:80"): entry(
			lvs.Service{Scheduler: "wrr", Persistence: lvs.Persistence{TimeoutSeconds: 60, PrefixLen: foreignPrefix}},
			one("10.0.0.1:80", lvs.Destination{Weight: 7})),
		mark(lvs.IPv6, 5): entry(lvs.Service{Scheduler: "rr"}, none),
	})
}

func TestTimeouts(t *testing.T) {
	c := conn(t)
	before, err := c.Timeouts()
	check(t, err)
	check(t, c.SetTimeouts(Timeouts{TCP: 100 * time.Second, UDP: 50 * time.Second}))
	got, err := c.Timeouts()
	check(t, err)
	if want := (Timeouts{TCP: 100 * time.Second, TCPFin: before.TCPFin, UDP: 50 * time.Second}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	check(t, c.SetTimeouts(before))
}

func TestDaemons(t *testing.T) {
	c := conn(t)
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "sync0"}}
	check(t, netlink.LinkAdd(link))
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	check(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 1, 1, 1), Mask: net.CIDRMask(24, 32)}}))
	check(t, netlink.LinkSetUp(link))

	running := func() map[Role]Daemon {
		all, err := c.Daemons()
		check(t, err)
		found := map[Role]Daemon{}
		for _, d := range all {
			found[d.Role] = d
		}
		return found
	}
	if got := running(); len(got) != 0 {
		t.Fatalf("%+v runs from the start", got)
	}
	check(t, c.StopDaemon(Master)) // there is none
	full := Daemon{Role: Master, Interface: "sync0", ID: 77, MaxLen: 1000, Group: netip.MustParseAddrPort("224.0.0.99:9000"), TTL: 3}
	check(t, c.StartDaemon(full))
	if err := c.StartDaemon(full); !errors.Is(err, ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	check(t, c.StartDaemon(Daemon{Role: Backup, Interface: "sync0", ID: 78}))
	got := running()
	if got[Master] != full {
		t.Errorf("master: %+v, want %+v", got[Master], full)
	}
	if b := got[Backup]; b.Interface != "sync0" || b.ID != 78 || b.Group != defaultGroup || b.TTL != 1 || b.MaxLen == 0 {
		t.Errorf("backup: %+v", b)
	}
	// Mixed families and synchronization exclude each other.
	check(t, addService(c, at(lvs.TCP, "192.0.2.1:80"), lvs.Service{Scheduler: "rr"}))
	tunnel := lvs.Destination{Weight: 1, Forwarding: lvs.Forwarding{Method: lvs.Tunnel}}
	var mixed *MixedError
	if err := addDestination(c, at(lvs.TCP, "192.0.2.1:80"), to("[fd00::1]:80"), tunnel); !errors.As(err, &mixed) {
		t.Errorf("mixed families while synchronized: %v", err)
	}
	check(t, c.StopDaemon(Master))
	check(t, c.StopDaemon(Backup)) // its thread may not have run yet
	if got := running(); len(got) != 0 {
		t.Errorf("%+v runs still", got)
	}
	full.Group = netip.MustParseAddrPort("[ff02::99]:9000")
	check(t, c.StartDaemon(full))
	if got := running(); got[Master] != full {
		t.Errorf("IPv6: %+v, want %+v", got[Master], full)
	}
	check(t, c.StopDaemon(Master))
}

// The numbers of a service and its destination count what went through, and start again when told to.
func TestStatistics(t *testing.T) {
	c := conn(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer server.Close()
	key, dk := at(lvs.TCP, "127.0.0.2:99"), to(server.Addr().String())
	check(t, addService(c, key, lvs.Service{Scheduler: "rr"}))
	check(t, addDestination(c, key, dk, lvs.Destination{Weight: 1}))
	client, err := net.Dial("tcp", "127.0.0.2:99")
	check(t, err)
	defer client.Close()
	if _, err := client.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	until := func(what string, holds func(ServiceStatistics) bool) {
		t.Helper()
		for range 100 { // the kernel adds its processors' numbers up every two seconds
			all, err := c.Statistics()
			check(t, err)
			if holds(all[key]) {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("%s did not come", what)
	}
	until("the traffic", func(s ServiceStatistics) bool {
		d := s.Destinations[dk]
		return s.Connections == 1 && s.BytesIn >= 1000 && s.PacketsIn >= 3 && d.Connections == 1 && d.Active == 1 && d.BytesIn == s.BytesIn
	})
	check(t, c.Zero(key))
	until("zero", func(s ServiceStatistics) bool {
		return s.Connections == 0 && s.BytesIn == 0 && s.Destinations[dk].Active == 1
	})
}
