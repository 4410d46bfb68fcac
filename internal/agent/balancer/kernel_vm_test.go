//go:build integ

package balancer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/vm"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

// These tests run in a virtual machine, all in one: TestMain starts it and says what it says.
func TestMain(m *testing.M) {
	vm.Init()
	if vm.Inside() {
		os.Exit(lab.Main(m.Run))
	}
	os.Exit(vm.Machine{Modules: vm.Balancing}.Main())
}

// counting is the kernel's table with a count of what is changed in it.
type counting struct {
	*ipvs.Conn
	changes int
}

func (c *counting) Apply(changes []lvs.Change) []error {
	c.changes += len(changes)
	return c.Conn.Apply(changes)
}

// served is a Balancer on the real kernel.
type served struct {
	t      *testing.T
	b      *Balancer
	checks *checks
	door   *counting
	log    *strings.Builder
	stop   func()
}

func serve(t *testing.T, cfg *conf.Config, keep bool) *served {
	t.Helper()
	s := &served{t: t, checks: &checks{}, door: &counting{}, log: &strings.Builder{}}
	s.b = New(Options{Keep: keep, Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Open: func() (Kernel, error) {
			c, err := ipvs.Open("")
			s.door.Conn = c
			return s.door, err
		},
		Checks: func(found func(string, Finding)) Checks { s.checks.found = found; return s.checks }})
	ctx, cancel := context.WithCancel(t.Context())
	s.b.Configure(Config{Virtual: cfg.VirtualServers, Groups: cfg.VirtualServerGroups, Global: &cfg.Global}, nil)
	go s.b.Run(ctx)
	s.stop = func() { cancel(); <-s.b.ended }
	t.Cleanup(s.stop)
	return s
}

// settle waits until the kernel has what is wanted, and returns that.
func (s *served) settle(look *ipvs.Conn) lvs.Table {
	s.t.Helper()
	var have, want lvs.Table
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		pending := 1
		if err := s.b.inRun(s.t.Context(), func() { want, pending = clone(s.b.pool.Want()), len(s.b.table.queue) }); err != nil {
			s.t.Fatal(err)
		}
		if pending > 0 {
			continue
		}
		var err error
		if have, err = look.Read(); err != nil {
			s.t.Fatal(err)
		}
		if reflect.DeepEqual(have, want) {
			return want
		}
	}
	s.t.Fatalf("the kernel has\n%v\nwant\n%v\nlog:\n%s", have, want, s.log)
	return nil
}

func open(t *testing.T) *ipvs.Conn {
	t.Helper()
	lo, err := netlink.LinkByName("lo") // the kernel takes no address for a real server's before it has a table of routes
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := ipvs.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
		c.Close()
	})
	return c
}

const variety = `
virtual_server_group many {
    192.0.2.16-18 80
    2001:db8::10-12 80
    fwmark 7
}
virtual_server 192.0.2.1 80 {
    lb_algo mh
    mh-port
    lb_kind DR
    protocol TCP
    persistence_timeout 60
    persistence_granularity 255.255.255.0
    sorry_server 10.0.9.9 80
    sorry_server_inhibit
    real_server 10.0.0.1 80 {
        weight 70000
        uthreshold 100
        lthreshold 50
    }
    real_server 2001:db8:1::1 80 {
        lvs_method TUN type gue port 6080 csum
    }
}
virtual_server 2001:db8::1 53 {
    lb_algo rr
    lb_kind NAT
    protocol UDP
    ops
    real_server 2001:db8:1::1 5353 {
    }
}
virtual_server fwmark 5 {
    lb_algo wlc
    lb_kind TUN
    persistence_timeout
    real_server 10.0.0.1 {
    }
}
virtual_server group many {
    lb_algo sh
    lb_kind NAT
    protocol TCP
    real_server 10.0.0.1 8080 {
    }
    real_server 2001:db8:1::1 {
    }
}
`

func TestTheRealKernel(t *testing.T) {
	look := open(t)
	cfg := load(t, variety)
	s := serve(t, cfg, true)
	want := s.settle(look)
	if len(want) != 10 {
		t.Errorf("%d services", len(want))
	}
	s.stop()
	again := serve(t, cfg, false)
	again.settle(look)
	if again.door.changes != 0 {
		t.Errorf("an identical table is changed %d times:\n%s", again.door.changes, again.log)
	}
	time.Sleep(3 * time.Second)
	if again.door.changes != 0 {
		t.Errorf("a table that nobody touches is changed %d times:\n%s", again.door.changes, again.log)
	}
	if err := look.Flush(); err != nil {
		t.Fatal(err)
	}
	flushed := time.Now()
	again.settle(look)
	t.Logf("a flushed table is complete again after %v", time.Since(flushed))
	again.stop()
	if left, err := look.Read(); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWhatTheRealKernelRefuses(t *testing.T) {
	look := open(t)
	broken := strings.Replace(variety, "    ops\n", "    persistence_timeout 5\n    persistence_engine nothing\n", 1)
	s := serve(t, load(t, broken), false)
	var have lvs.Table
	var status Status
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && (len(have) != 9 || len(status.Refused) != 1); time.Sleep(50 * time.Millisecond) {
		var err error
		if have, err = look.Read(); err != nil {
			t.Fatal(err)
		}
		if status, err = s.b.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(have) != 9 || len(status.Refused) != 1 || !strings.Contains(status.Refused[0].Where, "had.conf:25:") ||
		!strings.Contains(status.Refused[0].Why, "nothing") {
		t.Errorf("%d services, refused %+v", len(have), status.Refused)
	}
}

// TestALargeTable has 1000 services with 10 servers each. The machine is an emulated one: the times are no more than a hint.
func TestALargeTable(t *testing.T) {
	look := open(t)
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "virtual_server 10.1.%d.%d 80 {\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n", i/250, i%250+1)
		for n := range 10 {
			fmt.Fprintf(&text, "real_server 10.0.0.%d 80 {\nTCP_CHECK {\n}\n}\n", n+1)
		}
		text.WriteString("}\n")
	}
	cfg := load(t, text.String())
	start := time.Now()
	s := serve(t, cfg, false)
	s.settle(look)
	filled := time.Since(start)
	start = time.Now()
	if _, err := look.Read(); err != nil {
		t.Fatal(err)
	}
	read, changes := time.Since(start), s.door.changes
	start = time.Now()
	s.checks.found(s.checks.set[4711].ID, Finding{})
	for s.door.changes == changes && time.Since(start) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	t.Logf("filled after %v, read in %v, one change after %v", filled, read, time.Since(start))
	if got := s.door.changes - changes; got != 1 {
		t.Errorf("one verdict makes %d changes", got)
	}
}

func clone(t lvs.Table) lvs.Table {
	c := maps.Clone(t)
	for key, e := range c {
		e.Destinations = maps.Clone(e.Destinations)
		c[key] = e
	}
	return c
}
