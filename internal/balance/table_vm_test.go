//go:build integ

package balance

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/lvs"
)

// repairLimit is how long a table that somebody else has changed may stay wrong; the machine is a slow one.
const repairLimit = 3 * time.Second

// alone is a director with had and a table that is complete.
func alone(t *testing.T, file string) (d *director, table string) {
	t.Helper()
	d = newField(t).director("had", "had", 2)
	d.configure(file)
	d.start()
	if !eventually(settleLimit, func() bool { return len(d.table()) > 0 }) {
		t.Fatalf("there is no table. Log:\n%s", d.log())
	}
	time.Sleep(time.Second)
	return d, d.saved()
}

// restored waits until the table is as it was.
func (d *director) restored(what, table string) {
	d.t.Helper()
	start := time.Now()
	if !eventually(repairLimit, func() bool { return d.saved() == table }) {
		d.t.Errorf("%s is not put right:\n%s\nwant:\n%s\nlog:\n%s", what, d.saved(), table, d.log())
		return
	}
	d.t.Logf("%s: put right within %s", what, time.Since(start).Round(10*time.Millisecond))
}

// What others do to had's services is undone within about a second; what they do beside them is theirs.
func TestTableIsKept(t *testing.T) {
	d, table := alone(t, service("192.0.2.1 80", rr, nat, tcp, two)+service("fwmark 7", rr, dr, server("10.77.0.101")))
	foreign := "-A -t 203.0.113.1:80 -s wlc\n"
	for _, act := range []string{
		"-C",
		"-e -t 192.0.2.1:80 -r 10.77.0.101:80 -m -w 9",
		"-e -t 192.0.2.1:80 -r 10.77.0.101:80 -g -w 1",
		"-d -t 192.0.2.1:80 -r 10.77.0.102:80",
		"-a -t 192.0.2.1:80 -r 10.77.0.103:80 -m",
		"-E -t 192.0.2.1:80 -s lc -p 5",
		"-D -f 7",
	} {
		d.run("ipvsadm", strings.Fields(act)...)
		d.restored("ipvsadm "+act, table)
	}
	d.run("ipvsadm", strings.Fields(foreign)...)
	d.configure(service("192.0.2.1 80", "lb_algo lc", nat, tcp, two))
	d.reload()
	if !eventually(settleLimit, func() bool { return strings.Contains(d.saved(), "-s lc") && !strings.Contains(d.saved(), "-f 7") }) {
		t.Errorf("the reload changes nothing:\n%s", d.saved())
	}
	if !strings.Contains(d.saved(), foreign) {
		t.Errorf("a reload took what is not ours:\n%s", d.saved())
	}
	d.stop()
	if got := d.saved(); got != foreign {
		t.Errorf("left at the end:\n%s\nwant:\n%s", got, foreign)
	}
}

// A program that finds at its start the table that it wants leaves it alone: connections go on, statistics are not reset.
func TestIdenticalTableIsAdopted(t *testing.T) {
	f := newField(t)
	f.open("10.77.0.101:80", greet("one\n"))
	d := f.director("had", "had", 2)
	key := lvs.ServiceKey{Family: lvs.IPv4, Protocol: lvs.TCP, Address: netip.MustParseAddrPort("10.77.0.2:80")}
	d.configure(service("10.77.0.2 80", rr, nat, tcp, server("10.77.0.101 80", "weight 5")))
	d.start()
	if !eventually(settleLimit, func() bool { return len(d.table()[key].Destinations) == 1 }) {
		t.Fatalf("there is no table. Log:\n%s", d.log())
	}
	var c net.Conn
	check(t, d.host.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", "10.77.0.2:80", 5*time.Second)
		return err
	}))
	defer c.Close()
	line := make([]byte, 4)
	check(t, c.SetDeadline(time.Now().Add(time.Minute)))
	if _, err := io.ReadFull(c, line); err != nil {
		t.Fatal(err)
	}
	counted := func() bool {
		all, err := d.kernel.Statistics()
		check(t, err)
		return all[key].Connections == 1 && all[key].Destinations[netip.MustParseAddrPort("10.77.0.101:80")].Active == 1
	}
	if !eventually(settleLimit, counted) {
		t.Fatal("the connection is not counted")
	}
	check(t, d.proc.Signal(syscall.SIGKILL))
	<-d.proc.Done()
	d.start()
	time.Sleep(5 * time.Second)
	if !counted() {
		t.Error("the statistics were reset")
	}
	if _, err := c.Write([]byte("more\n")); err != nil {
		t.Error(err)
	}
	d.stop()
}

// What the kernel does not take is named with its place in the file, and the rest is served.
func TestRefusedEntries(t *testing.T) {
	d, table := alone(t, service("192.0.2.1 80", rr, nat, tcp, two)+
		service("192.0.2.2 80", "lb_algo twos", nat, tcp, two)+
		service("192.0.2.3 80", rr, nat, tcp, server("10.77.0.101 80"), server("224.0.0.9 80"))+
		service("192.0.2.4 5060", rr, "persistence_timeout 60\npersistence_engine nothing", nat, udp, server("10.77.0.101 5060")))
	for _, want := range []string{"-A -t 192.0.2.1:80", "-a -t 192.0.2.1:80 -r 10.77.0.102:80", "-a -t 192.0.2.3:80 -r 10.77.0.101:80"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is missing:\n%s", want, table)
		}
	}
	for want, at := range map[string]string{
		"no scheduler twos":             "virtual_server TCP 192.0.2.2:80",
		"must be a unicast one":         "real_server 224.0.0.9:80",
		"no persistence engine nothing": "virtual_server UDP 192.0.2.4:5060",
	} {
		if !slices.ContainsFunc(strings.Split(d.log(), "\n"), func(line string) bool {
			return strings.Contains(line, want) && strings.Contains(line, "keepalived.conf:") && strings.Contains(line, at)
		}) {
			t.Errorf("the log does not say %q of %s:\n%s", want, at, d.log())
		}
	}
	d.stop()
}
