package balancer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/check"
	"github.com/hactl/had/lvs/ipvs"
)

// kernel plays the kernel.
type kernel struct {
	mu       sync.Mutex
	table    lvs.Table
	changes  []string
	refuse   func(lvs.Change) error
	timeouts ipvs.Timeouts
	flushes  int
	cost     time.Duration // of reading the destinations of a service
	spent    time.Duration // on that
}

func (k *kernel) do(c lvs.Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		if err := k.refuse(c); err != nil {
			return err
		}
	}
	e, exists := k.table[c.Key]
	_, has := e.Destinations[c.Server]
	switch {
	case c.Operation == lvs.AddService && exists, c.Operation == lvs.AddDestination && has:
		return ipvs.ErrExists
	case c.Operation != lvs.AddService && !exists:
		return ipvs.ErrNoService
	case (c.Operation == lvs.EditDestination || c.Operation == lvs.DeleteDestination) && !has:
		return ipvs.ErrNoDestination
	}
	k.changes = append(k.changes, c.String())
	k.table.Apply(c)
	return nil
}

func (k *kernel) Services() (map[lvs.ServiceKey]lvs.Service, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[lvs.ServiceKey]lvs.Service{}
	for key, e := range k.table {
		all[key] = e.Service
	}
	return all, nil
}

func (k *kernel) Destinations(key lvs.ServiceKey) (map[lvs.DestinationKey]lvs.Destination, error) {
	k.mu.Lock()
	k.spent += k.cost
	cost, all := k.cost, maps.Clone(k.table[key].Destinations)
	k.mu.Unlock()
	time.Sleep(cost)
	return all, nil
}

func (k *kernel) Apply(changes []lvs.Change) (errs []error) {
	for _, c := range changes {
		errs = append(errs, k.do(c))
	}
	return errs
}

func (k *kernel) Flush() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flushes++
	clear(k.table)
	return nil
}

func (k *kernel) SetTimeouts(t ipvs.Timeouts) error { k.timeouts = t; return nil }
func (k *kernel) Close()                            {}

// done returns the changes since the last call.
func (k *kernel) done() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	changes := k.changes
	k.changes = nil
	return changes
}

// checks plays what makes checks.
type checks struct {
	found     func(string, Finding)
	set       []Check
	suspended map[string]bool
	doubted   []string
}

func (c *checks) Set(all []Check, _ *check.TLS)   { c.set, c.suspended = all, map[string]bool{} }
func (c *checks) Suspend(id string, resting bool) { c.suspended[id] = resting }
func (c *checks) Doubt(ids []string)              { c.doubted = append(c.doubted, ids...) }
func (c *checks) Close()                          {}

// ear hears notifications.
type ear struct {
	mu    sync.Mutex
	lines []string
	mails int
}

func (e *ear) Tell(notify.Change) {}

func (e *ear) TellServer(c notify.ServerChange) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, c.Line())
	if c.Mail {
		e.mails++
	}
}

// heard returns the lines since the last call.
func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	lines := e.lines
	e.lines = nil
	return lines
}

// director is a Balancer with all that surrounds it.
type director struct {
	t      *testing.T
	b      *Balancer
	kernel *kernel
	checks *checks
	ear    *ear
	log    *strings.Builder
	stop   func()
}

// start makes a Balancer that serves the text, in a bubble.
func start(t *testing.T, text string, prepare func(*director, *Options)) *director {
	d := &director{t: t, kernel: &kernel{table: lvs.Table{}}, checks: &checks{}, ear: &ear{}, log: &strings.Builder{}}
	opt := Options{
		Open:   func() (Kernel, error) { return d.kernel, nil },
		Checks: func(found func(string, Finding)) Checks { d.checks.found = found; return d.checks },
		Log:    slog.New(slog.NewTextHandler(d.log, nil)),
	}
	if prepare != nil {
		prepare(d, &opt)
	}
	d.b = New(opt)
	ctx, cancel := context.WithCancel(t.Context())
	go d.b.Run(ctx)
	d.stop = func() { cancel(); <-d.b.ended }
	t.Cleanup(d.stop)
	d.configure(text)
	return d
}

// load reads a configuration.
func load(t *testing.T, text string) *conf.Config {
	t.Helper()
	c, findings := conf.Load(conf.Options{Path: "had.conf", Files: fstest.MapFS{"had.conf": {Data: []byte(text), Mode: 0o644}}})
	for _, f := range findings {
		if f.Severity == conf.Error {
			t.Fatal(f)
		}
	}
	return c
}

func (d *director) configure(text string) {
	d.t.Helper()
	d.configureWith(text, nil)
}

func (d *director) configureWith(text string, all map[Server]Override) {
	d.t.Helper()
	c := load(d.t, text)
	d.b.Configure(Config{Virtual: c.VirtualServers, Groups: c.VirtualServerGroups, Global: &c.Global,
		Notifier: &notify.Notifier{Runner: &notify.Runner{}, Receivers: []notify.Receiver{d.ear}, Logger: d.b.log}}, all)
	synctest.Wait()
}

// find gives a verdict about the server of an address.
func (d *director) find(server string, up bool) {
	for _, c := range d.checks.set {
		if strings.Contains(c.ID, server+":80, ") {
			d.checks.found(c.ID, Finding{Verdict: lvs.Verdict{Up: up}, Reason: "connection refused"})
		}
	}
	synctest.Wait()
}

// expect compares what the kernel was told with what it should be told, whatever the order.
func (d *director) expect(want ...string) {
	d.t.Helper()
	got := d.kernel.done()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		d.t.Errorf("changes\n%s\nwant\n%s\nlog:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), d.log)
	}
}

// later waits for the next looks at the kernel.
func later(span time.Duration) {
	time.Sleep(span)
	synctest.Wait()
}

const plain = `
virtual_server 192.0.2.1 80 {
    lb_algo rr
    lb_kind NAT
    protocol TCP
    smtp_alert
    real_server 10.0.0.1 80 {
        TCP_CHECK {
        }
    }
    real_server 10.0.0.2 80 {
        TCP_CHECK {
        }
    }
}
`

var (
	web     = lvs.ServiceKey{Family: lvs.IPv4, Protocol: lvs.TCP, Address: netip.MustParseAddrPort("192.0.2.1:80")}
	first   = netip.MustParseAddrPort("10.0.0.1:80")
	second  = netip.MustParseAddrPort("10.0.0.2:80")
	foreign = lvs.ServiceKey{Family: lvs.IPv4, Mark: 9}
)

// filled is the table that plain asks for, and a service of somebody else.
func filled() lvs.Table {
	return lvs.Table{
		web: {Service: lvs.Service{Scheduler: "rr"}, Destinations: map[lvs.DestinationKey]lvs.Destination{
			first: {Weight: 1}, second: {Weight: 1}}},
		foreign: {Service: lvs.Service{Scheduler: "wlc"}, Destinations: map[lvs.DestinationKey]lvs.Destination{first: {Weight: 3}}},
	}
}

func TestServesAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, func(d *director, _ *Options) { d.kernel.table = lvs.Table{foreign: filled()[foreign]} })
		d.expect("add service TCP 192.0.2.1:80", "add server 10.0.0.1:80 of TCP 192.0.2.1:80", "add server 10.0.0.2:80 of TCP 192.0.2.1:80")
		d.find("10.0.0.1", true)
		d.expect()
		d.find("10.0.0.1", false)
		d.expect("delete server 10.0.0.1:80 of TCP 192.0.2.1:80")
		d.find("10.0.0.1", true)
		d.expect("add server 10.0.0.1:80 of TCP 192.0.2.1:80")
		want := []string{"RS [10.0.0.1]:tcp:80 [192.0.2.1]:tcp:80 DOWN", "RS [10.0.0.1]:tcp:80 [192.0.2.1]:tcp:80 UP"}
		if got := d.ear.heard(); !slices.Equal(got, want) || d.ear.mails != 2 {
			t.Errorf("told %q with %d mails, want %q", got, d.ear.mails, want)
		}
		if !reflect.DeepEqual(d.kernel.table, filled()) {
			t.Errorf("the table is %v", d.kernel.table)
		}
		d.stop()
		d.expect("delete service TCP 192.0.2.1:80")
		if _, stays := d.kernel.table[foreign]; !stays || d.kernel.flushes != 0 {
			t.Error("the service of somebody else is gone")
		}
	})
}

func TestAdoptsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, func(d *director, opt *Options) { d.kernel.table, opt.Keep = filled(), true })
		later(5 * time.Second)
		d.expect()
		d.stop()
		d.expect()
		if strings.Contains(d.log.String(), "level=WARN") {
			t.Errorf("log:\n%s", d.log)
		}
	})
}

func TestRepairsWhatOthersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, nil)
		d.expect("add service TCP 192.0.2.1:80", "add server 10.0.0.1:80 of TCP 192.0.2.1:80", "add server 10.0.0.2:80 of TCP 192.0.2.1:80")
		for _, change := range []struct {
			what func(lvs.Table)
			want []string
		}{
			{func(t lvs.Table) { clear(t); t[foreign] = filled()[foreign] }, []string{"add service TCP 192.0.2.1:80",
				"add server 10.0.0.1:80 of TCP 192.0.2.1:80", "add server 10.0.0.2:80 of TCP 192.0.2.1:80"}},
			{func(t lvs.Table) { t[web].Destinations[first] = lvs.Destination{Weight: 7} }, []string{"edit server 10.0.0.1:80 of TCP 192.0.2.1:80"}},
			{func(t lvs.Table) { t[web].Destinations[netip.MustParseAddrPort("10.0.0.9:80")] = lvs.Destination{} },
				[]string{"delete server 10.0.0.9:80 of TCP 192.0.2.1:80"}},
		} {
			d.kernel.mu.Lock()
			change.what(d.kernel.table)
			d.kernel.mu.Unlock()
			later(time.Second)
			d.expect(change.want...)
		}
		if s, _ := d.b.Status(t.Context()); s.Repaired != 3 {
			t.Errorf("repaired %d", s.Repaired)
		}
		if !reflect.DeepEqual(d.kernel.table, filled()) {
			t.Errorf("the table is %v", d.kernel.table)
		}
	})
}

// TestNoticesAChangeWhileAVerdictComes: the table changes under the Balancer's hands.
func TestNoticesAChangeWhileAVerdictComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, nil)
		d.kernel.done()
		d.kernel.mu.Lock()
		clear(d.kernel.table)
		d.kernel.mu.Unlock()
		d.find("10.0.0.1", false)
		later(2 * time.Second)
		d.expect("add service TCP 192.0.2.1:80", "add server 10.0.0.2:80 of TCP 192.0.2.1:80")
	})
}

func TestARefusedEntryKeepsNobodyFromBeingServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		two := plain + strings.ReplaceAll(strings.ReplaceAll(plain, "192.0.2.1", "192.0.2.2"), "rr", "mh")
		var refusing atomic.Bool
		var asked atomic.Int64
		refusing.Store(true)
		d := start(t, two, func(d *director, _ *Options) {
			d.kernel.refuse = func(c lvs.Change) error {
				if refusing.Load() && (c.Service.Scheduler == "mh" || c.Server == second && c.Key == web) {
					asked.Add(1)
					return errors.New("not today")
				}
				return nil
			}
		})
		d.expect("add service TCP 192.0.2.1:80", "add server 10.0.0.1:80 of TCP 192.0.2.1:80")
		s, _ := d.b.Status(t.Context())
		if len(s.Refused) != 2 {
			t.Fatalf("%+v", s.Refused)
		}
		var where []string
		for _, r := range s.Refused {
			where = append(where, r.Where+": "+r.Change+": "+r.Why)
		}
		slices.Sort(where)
		want := []string{"had.conf:11:5, real_server 10.0.0.2:80: add server 10.0.0.2:80 of TCP 192.0.2.1:80: not today",
			"had.conf:17:1, virtual_server TCP 192.0.2.2:80: add service TCP 192.0.2.2:80: not today"}
		if !slices.Equal(where, want) {
			t.Errorf("refused:\n%s\nwant\n%s", strings.Join(where, "\n"), strings.Join(want, "\n"))
		}
		later(5 * time.Minute)
		if errors := strings.Count(d.log.String(), "level=ERROR"); errors != 2 || asked.Load() < 10 || asked.Load() > 40 {
			t.Errorf("%d errors in the log, the kernel was asked %d times", errors, asked.Load())
		}
		d.expect()
		refusing.Store(false)
		later(2 * time.Minute)
		d.expect("add server 10.0.0.2:80 of TCP 192.0.2.1:80", "add service TCP 192.0.2.2:80",
			"add server 10.0.0.1:80 of TCP 192.0.2.2:80", "add server 10.0.0.2:80 of TCP 192.0.2.2:80")
		if s, _ := d.b.Status(t.Context()); len(s.Refused) != 0 {
			t.Errorf("still refused: %+v", s.Refused)
		}
	})
}

func TestWaitsForAKernelWithIPVS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var missing atomic.Bool
		missing.Store(true)
		d := start(t, "global_defs {\n lvs_timeouts tcp 10\n}\n"+plain, func(d *director, opt *Options) {
			opt.Open = func() (Kernel, error) {
				if missing.Load() {
					return nil, errors.New("no module")
				}
				return d.kernel, nil
			}
		})
		later(time.Minute)
		d.find("10.0.0.1", false)
		if s, _ := d.b.Status(t.Context()); s.Missing != "no module" || strings.Count(d.log.String(), "level=ERROR") != 1 {
			t.Errorf("status %q, log:\n%s", s.Missing, d.log)
		}
		missing.Store(false)
		later(time.Minute + time.Second)
		d.expect("add service TCP 192.0.2.1:80", "add server 10.0.0.2:80 of TCP 192.0.2.1:80")
		if d.kernel.timeouts.TCP != 10*time.Second {
			t.Errorf("timeouts %v", d.kernel.timeouts)
		}
		if s, _ := d.b.Status(t.Context()); s.Missing != "" {
			t.Errorf("status %q", s.Missing)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, nil)
		d.find("10.0.0.1", false)
		d.kernel.done()
		d.ear.heard()
		d.configure(plain)
		d.expect()
		d.configure(strings.ReplaceAll(plain, "lb_algo rr", "lb_algo sh"))
		d.expect("edit service TCP 192.0.2.1:80")
		d.configure(strings.ReplaceAll(plain, "192.0.2.1 80", "192.0.2.1 81"))
		d.expect("add service TCP 192.0.2.1:81", "add server 10.0.0.1:80 of TCP 192.0.2.1:81", "add server 10.0.0.2:80 of TCP 192.0.2.1:81",
			"delete service TCP 192.0.2.1:80")
		if got := d.ear.heard(); len(got) != 0 {
			t.Errorf("told %q", got)
		}
		d.configure("")
		d.expect("delete service TCP 192.0.2.1:81")
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, "global_defs {\n lvs_flush\n lvs_flush_on_stop\n}\n"+plain, func(d *director, _ *Options) { d.kernel.table = filled() })
		if d.kernel.flushes != 1 || len(d.kernel.table) != 1 {
			t.Errorf("%d flushes, left is %v", d.kernel.flushes, d.kernel.table)
		}
		d.configure("global_defs {\n lvs_flush\n lvs_flush_on_stop\n}\n" + plain)
		d.stop()
		if d.kernel.flushes != 2 || len(d.kernel.table) != 0 {
			t.Errorf("%d flushes, left is %v", d.kernel.flushes, d.kernel.table)
		}
	})
}

func TestOmegaIsToldAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, strings.Replace(plain, "protocol TCP", "protocol TCP\nomega", 1), nil)
		d.stop()
		want := []string{"RS [10.0.0.1]:tcp:80 [192.0.2.1]:tcp:80 DOWN", "RS [10.0.0.2]:tcp:80 [192.0.2.1]:tcp:80 DOWN", "VS [192.0.2.1]:tcp:80 DOWN"}
		if got := d.ear.heard(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

func TestChecksRestWhileTheAddressIsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		suspending := strings.Replace(plain, "protocol TCP", "protocol TCP\nha_suspend", 1)
		d := start(t, suspending, nil)
		resting := func() (n int) {
			for _, s := range d.checks.suspended {
				if s {
					n++
				}
			}
			return n
		}
		for _, absent := range []bool{true, false, true} {
			d.b.Absent(map[string]bool{"TCP 192.0.2.1:80": absent})
			synctest.Wait()
			if got := resting(); got != map[bool]int{true: 2}[absent] {
				t.Errorf("absent %v: %d checks rest", absent, got)
			}
		}
		d.configure(suspending)
		if resting() != 2 {
			t.Error("a reload wakes the checks")
		}
		d.configure(plain)
		if resting() != 0 {
			t.Error("checks rest without ha_suspend")
		}
	})
}

func TestOverridesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, nil)
		d.kernel.done()
		one := Server{"TCP 192.0.2.1:80", first}
		d.b.Override(map[Server]Override{one: {lvs.Override{Found: &lvs.Verdict{}}, "lb2 says so"}})
		synctest.Wait()
		d.expect("delete server 10.0.0.1:80 of TCP 192.0.2.1:80")
		d.configure(strings.Replace(plain, "real_server 10.0.0.1 80", "real_server 10.0.0.3 80", 1))
		d.expect("add server 10.0.0.3:80 of TCP 192.0.2.1:80")
		d.configure(plain)
		d.expect("delete server 10.0.0.3:80 of TCP 192.0.2.1:80")
		s, err := d.b.Status(t.Context())
		if err != nil || s.Services[0].View.Servers[0].Up || s.Services[0].Servers[0].Reason != "lb2 says so" {
			t.Errorf("%v %+v", err, s.Services)
		}
		d.b.Override(map[Server]Override{})
		synctest.Wait()
		d.expect("add server 10.0.0.1:80 of TCP 192.0.2.1:80")
	})
}

// Who asks for something and then for the status is told of a state that has it.
func TestStatusKnowsWhatWasAskedForBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, plain, nil)
		one := Server{"TCP 192.0.2.1:80", first}
		for i := range 50 {
			up := i%2 == 1
			d.b.Override(map[Server]Override{one: {lvs.Override{Found: &lvs.Verdict{Up: up}}, "the cluster says so"}})
			if s, err := d.b.Status(t.Context()); err != nil || s.Services[0].View.Servers[0].Up != up {
				t.Fatalf("%d: %v, up %t, want %t", i, err, s.Services[0].View.Servers[0].Up, up)
			}
		}
	})
}

// One verdict in a large table is one change. What others change in it is found soon, at a price: it takes 160 ms of the virtual
// machine's time to read the destinations of all.
func TestALargeTableChangesInProportion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&text, "virtual_server 10.1.%d.%d 80 {\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n", i/250, i%250+1)
			for n := range 10 {
				fmt.Fprintf(&text, "real_server 10.0.0.%d 80 {\nTCP_CHECK {\n}\n}\n", n+1)
			}
			text.WriteString("}\n")
		}
		d := start(t, text.String(), nil)
		if got := len(d.kernel.done()); got != 11000 {
			t.Errorf("%d changes", got)
		}
		d.checks.found(d.checks.set[4711].ID, Finding{})
		synctest.Wait()
		if got := d.kernel.done(); len(got) != 1 {
			t.Errorf("one verdict makes %d changes", len(got))
		}
		later(10 * time.Second)
		d.expect()
		d.kernel.mu.Lock()
		d.kernel.cost = 160 * time.Microsecond
		var want []string
		for key, e := range d.kernel.table {
			if len(want) < 20 {
				e.Destinations[first] = lvs.Destination{Weight: 7}
				want = append(want, fmt.Sprintf("edit server %s of %s", first, key))
			}
		}
		d.kernel.mu.Unlock()
		later(5 * time.Second)
		d.expect(want...)
		d.kernel.mu.Lock()
		defer d.kernel.mu.Unlock()
		if spent := d.kernel.spent; spent > 5*time.Second/15 {
			t.Errorf("%s of 5 s is spent on reading", spent)
		} else {
			t.Logf("%s of 5 s is spent on reading", spent)
		}
	})
}

// TestNeverServesWhatTheClusterSaysIsDown: not even for a moment, when it is configured, and not when it is configured anew.
func TestNeverServesWhatTheClusterSaysIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, "", nil)
		down := map[Server]Override{{Virtual: web.String(), Address: first}: {lvs.Override{Found: &lvs.Verdict{}}, "lb2 says so"}}
		d.configureWith(plain, down)
		d.expect("add service TCP 192.0.2.1:80", "add server 10.0.0.2:80 of TCP 192.0.2.1:80")
		third := strings.Replace(plain, "real_server 10.0.0.1 80", "real_server 10.0.0.3 80 {\n}\nreal_server 10.0.0.1 80", 1)
		down[Server{web.String(), netip.MustParseAddrPort("10.0.0.3:80")}] = Override{lvs.Override{Found: &lvs.Verdict{}}, "lb2 says so"}
		d.configureWith(third, down)
		d.expect()
		d.configureWith(third, map[Server]Override{})
		d.expect("add server 10.0.0.1:80 of TCP 192.0.2.1:80", "add server 10.0.0.3:80 of TCP 192.0.2.1:80")
	})
}

// What all checks of a server have found together is as old as the oldest of them while it is up, and as new as the newest failure.
func TestFindingsOfAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, "virtual_server 192.0.2.1 80 {\nlb_algo rr\nprotocol TCP\nreal_server 10.0.0.1 80 {\nTCP_CHECK {\n}\nPING_CHECK {\n}\n}\n"+
			"real_server 10.0.0.2 80 {\n}\n}\n", nil)
		look := func() (all [2]*Finding) {
			s, err := d.b.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return [2]*Finding{s.Services[0].Servers[0].Found, s.Services[0].Servers[1].Found}
		}
		if all := look(); all[0] != nil || !all[1].Up || all[1].At != math.MaxInt64 {
			t.Errorf("before the first attempt: %+v", all)
		}
		for i, step := range []struct {
			check int
			up    bool
			want  Finding
		}{
			{0, true, Finding{}},
			{1, true, Finding{lvs.Verdict{Up: true}, "check 1", 10}},
			{0, true, Finding{lvs.Verdict{Up: true}, "check 1", 11}},
			{1, false, Finding{lvs.Verdict{}, "check 1", 13}},
			{0, false, Finding{lvs.Verdict{}, "check 0", 14}},
			{1, false, Finding{lvs.Verdict{}, "check 0", 15}},
			{1, true, Finding{lvs.Verdict{}, "check 0", 14}},
			{0, true, Finding{lvs.Verdict{Up: true}, "check 1", 16}},
		} {
			d.checks.found(d.checks.set[step.check].ID,
				Finding{Verdict: lvs.Verdict{Up: step.up}, Reason: fmt.Sprint("check ", step.check), At: clock.Time(10 + i)})
			synctest.Wait()
			if got := look()[0]; got == nil && step.want != (Finding{}) || got != nil && *got != step.want {
				t.Errorf("after step %d: %+v, want %+v", i, got, step.want)
			}
		}
		d.b.Doubt([]Server{{"TCP 192.0.2.1:80", netip.MustParseAddrPort("10.0.0.1:80")}, {"TCP 192.0.2.9:80", netip.AddrPort{}}})
		synctest.Wait()
		if len(d.checks.doubted) != 2 {
			t.Errorf("doubted: %v", d.checks.doubted)
		}
	})
}
