package vrrp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

var (
	ours   = netip.MustParseAddr("10.0.0.5")
	higher = netip.MustParseAddr("10.0.0.9")
	lower  = netip.MustParseAddr("10.0.0.1")
)

// origin is the reading of the lease clock at which tests begin; spans are told from there.
const origin = clock.Time(1_000_000_000_000)

// router drives one machine. Time stands still except in after and untilDeadline, and after every step the
// State is checked.
type router struct {
	t   *testing.T
	cfg Config
	s   State
	now clock.Time
	got []Action
}

// v3 is a backup of priority 100 in version 3, one second, preempting, ungated; options change it.
func v3(t *testing.T, options ...func(*Config)) *router {
	t.Helper()
	cfg := Config{
		Name: "VI_1", VRID: 51, Version: Version3, Family: IPv4, Priority: 100, AdvertInterval: time.Second,
		DownTimerAdverts: 3, Preempt: true, GARP: DefaultGARP(), Local: ours,
	}
	for _, option := range options {
		option(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return &router{t: t, cfg: cfg, now: origin}
}

func v2(t *testing.T, options ...func(*Config)) *router {
	t.Helper()
	return v3(t, append([]func(*Config){func(c *Config) { c.Version = Version2 }}, options...)...)
}

func gated(c *Config)         { c.Gated = true }
func nopreempt(c *Config)     { c.Preempt = false }
func owner(c *Config)         { c.Priority, c.InitialActive = PriorityOwner, true }
func initialActive(c *Config) { c.InitialActive = true }
func priority(p uint8) func(*Config) {
	return func(c *Config) { c.Priority = p }
}
func interval(d time.Duration) func(*Config) {
	return func(c *Config) { c.AdvertInterval = d }
}
func preemptDelay(d time.Duration) func(*Config) {
	return func(c *Config) { c.PreemptDelay = d }
}

// do steps through the events and leaves the actions of the last one in got.
func (r *router) do(events ...Event) *router {
	r.t.Helper()
	for _, ev := range events {
		r.s, r.got = r.s.Step(&r.cfg, r.now, ev)
		if err := r.s.Check(&r.cfg); err != nil {
			r.t.Fatalf("after %v: %v", ev, err)
		}
	}
	return r
}

// after lets time pass without a tick.
func (r *router) after(d time.Duration) *router {
	r.now = r.now.Add(d)
	return r
}

// untilDeadline lets time pass until the next deadline and ticks.
func (r *router) untilDeadline() *router {
	r.t.Helper()
	if r.s.Deadline() == 0 {
		r.t.Fatalf("no deadline in %+v", r.s)
	}
	r.now = max(r.now, r.s.Deadline())
	return r.do(Tick{})
}

// backup starts the router, active also makes it Active.
func (r *router) backup() *router {
	r.t.Helper()
	r.do(Start{})
	r.wantStatus(Backup)
	return r
}

func (r *router) active() *router {
	r.t.Helper()
	r.backup()
	if r.cfg.Gated {
		r.untilDeadline().do(Granted{})
	} else {
		r.untilDeadline()
	}
	r.wantStatus(Active)
	return r
}

func (r *router) wantStatus(want Status) {
	r.t.Helper()
	if r.s.Status != want {
		r.t.Fatalf("status %v, want %v", r.s.Status, want)
	}
}

// wantActions compares the actions of the last step, by their lines in a trace. A Transition may be given without reason.
func (r *router) wantActions(want ...string) {
	r.t.Helper()
	got := lines(r.got)
	same := slices.EqualFunc(got, want, func(g, w string) bool {
		return g == w || strings.HasPrefix(w, "transition") && !strings.Contains(w, ":") && strings.HasPrefix(g, w+":") ||
			w == "ignored" && strings.HasPrefix(g, "ignored: ")
	})
	if !same {
		r.t.Fatalf("actions\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wantDeadlineIn compares the time left to the next deadline.
func (r *router) wantDeadlineIn(want time.Duration) {
	r.t.Helper()
	if got := r.s.Deadline().Sub(r.now); got != want {
		r.t.Fatalf("deadline in %v, want %v", got, want)
	}
}

func (r *router) wantNoDeadline() {
	r.t.Helper()
	if got := r.s.Deadline(); got != 0 {
		r.t.Fatalf("deadline in %v, want none", got.Sub(r.now))
	}
}

func lines(actions []Action) []string {
	var out []string
	for _, a := range actions {
		out = append(out, a.String())
	}
	return out
}

func heard(p uint8, from netip.Addr) Received {
	return Received{From: from, Priority: p, Interval: time.Second}
}

func TestSkewTimeFollowsTheFormulaOfItsVersion(t *testing.T) {
	tests := []struct {
		version, priority uint8
		interval          time.Duration
		want              time.Duration
	}{
		{2, 100, time.Second, 609375 * time.Microsecond},
		{2, 100, 10 * time.Second, 609375 * time.Microsecond}, // version 2 does not look at the interval
		{2, 255, time.Second, 3906 * time.Microsecond},
		{2, 254, time.Second, 7812 * time.Microsecond},
		{2, 1, time.Second, 996093 * time.Microsecond},
		{3, 100, time.Second, 609375 * time.Microsecond},
		{3, 100, 10 * time.Second, 6093750 * time.Microsecond},
		{3, 255, time.Second, 3906 * time.Microsecond},
		{3, 255, 10 * time.Millisecond, 39 * time.Microsecond},
		{3, 200, 30 * time.Millisecond, 6562 * time.Microsecond},
		{3, 1, 4095 * centisecond, 40790039 * time.Microsecond},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("version %d priority %d interval %v", tt.version, tt.priority, tt.interval), func(t *testing.T) {
			if got := SkewTime(tt.version, tt.priority, tt.interval); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestValidateNamesEveryUnusableValueAtOnce(t *testing.T) {
	cfg := Config{Name: "VI_1", Version: 4, PreemptDelay: -1, TimerExpiredBackup: 255, GARP: GARP{MasterRepeat: -1}}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"identifier 0", "IPv4 nor IPv6", "priority 0", "version 4", "0 advertisements",
		"delay -1ns", "priority 255", "gratuitous"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	for _, version := range []uint8{2, 3} {
		cfg := Config{VRID: 1, Version: version, Family: IPv6, Priority: 1, AdvertInterval: 1500 * time.Millisecond,
			DownTimerAdverts: 1}
		if err := cfg.Validate(); (err == nil) != (version == 3) {
			t.Errorf("1.5 s in version %d: %v", version, err)
		}
	}
}

func TestStatusesHaveTwoNamesEach(t *testing.T) {
	tests := []struct {
		status          Status
		rfc, keepalived string
	}{
		{Initialize, "initialize", "INIT"},
		{Backup, "backup", "BACKUP"},
		{Active, "active", "MASTER"},
		{Fault, "fault", "FAULT"},
	}
	for _, tt := range tests {
		if tt.status.String() != tt.rfc || tt.status.KeepalivedName() != tt.keepalived {
			t.Errorf("status %d is %q and %q, want %q and %q",
				uint8(tt.status), tt.status.String(), tt.status.KeepalivedName(), tt.rfc, tt.keepalived)
		}
	}
}

func TestAnUnknownEventPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	v3(t).do(nil)
}

func TestARouterKnowsWhyItHasBecomeActive(t *testing.T) {
	advert := func(p uint8) Received { return Received{From: lower, Priority: p, Interval: time.Second} }
	for _, test := range []struct {
		name   string
		events []Event
		want   Takeover
	}{
		{"nobody was heard", nil, NoResponse},
		{"a higher priority fell silent", []Event{advert(200)}, NoResponse},
		{"a higher priority resigned", []Event{advert(200), advert(PriorityResign)}, Resigned},
		{"another one followed the one that resigned", []Event{advert(200), advert(PriorityResign), advert(200)}, NoResponse},
		{"a lower priority was heard", []Event{advert(50)}, Preempted},
	} {
		for _, option := range []func(*Config){func(*Config) {}, gated} {
			r := v3(t, option).backup().after(500 * time.Millisecond).do(test.events...).untilDeadline()
			if r.s.Claiming {
				r.do(Granted{})
			}
			r.wantStatus(Active)
			if tr, ok := r.got[len(r.got)-1].(Transition); !ok || tr.Takeover != test.want {
				t.Errorf("%s: %+v, want takeover %d", test.name, r.got, test.want)
			}
		}
	}
}
