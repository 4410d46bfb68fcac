package balancer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/check"
	"github.com/hactl/had/lvs/ipvs"
)

// Kernel is the door to the kernel's IPVS, an *ipvs.Conn. One goroutine calls its methods.
type Kernel interface {
	Services() (map[lvs.ServiceKey]lvs.Service, error)
	Destinations(lvs.ServiceKey) (map[lvs.DestinationKey]lvs.Destination, error)
	Apply([]lvs.Change) []error
	Flush() error
	SetTimeouts(ipvs.Timeouts) error
	Close()
}

// Checks makes the health checks. Its methods do not block, except Close.
type Checks interface {
	Set([]Check, *check.TLS)           // these, and no others
	Suspend(id string, suspended bool) // of one that was set
	Doubt(ids []string)                // what attempts of these find from now on is to be found again, even if it is as before
	Close()                            // blocks until nothing is found any more
}

// Options is what a Balancer is made of.
type Options struct {
	Open   func() (Kernel, error)                        // the door; it is tried again and again
	Checks func(found func(id string, f Finding)) Checks // called once, when Run begins
	Heard  func()                                        // called by Run when checks may say something else; nil: not
	Log    *slog.Logger

	// Keep leaves the table as it is at the end (--dont-release-ipvs).
	Keep bool
}

// Config is what a Balancer is to serve. It must not be changed afterwards.
type Config struct {
	Virtual []conf.VirtualServer
	Groups  []conf.VirtualServerGroup
	Global  *conf.Global

	Scripts  map[*conf.Command]*notify.Script // of the commands of Virtual that can be used
	TLS      *check.TLS                       // of the SSL block; nil: none
	Notifier *notify.Notifier
}

// Finding is a verdict of a check, or of all checks of a server, with the reason for it, one line.
type Finding struct {
	lvs.Verdict
	Reason string
	At     clock.Time // when it was found; by all checks of a server: the latest moment at which it follows from what was found since
}

// Server is a real server of a virtual server, by their names.
type Server struct {
	Virtual string
	Address netip.AddrPort
}

// Override is what people and the cluster say of a server, with the reason for it, one line.
type Override struct {
	lvs.Override
	Reason string
}

// same tells whether two say the same, for whatever reason.
func (o Override) same(p Override) bool {
	return o.Drain == p.Drain && o.Begins == p.Begins && equal(o.Weight, p.Weight) && equal(o.Found, p.Found)
}

func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// Balancer is the load balancer of a director. Make one with New and call Run once; its other methods may be called by any
// goroutine and do not block, except Status.
type Balancer struct {
	opt      Options
	log      *slog.Logger
	requests chan func()
	ended    chan struct{}

	mu      sync.Mutex
	pending pending
	wake    chan struct{} // 1: something is pending

	// What follows belongs to Run.
	cfg       Config
	plan      plan
	checks    Checks
	pool      *lvs.Pool
	changes   map[Server]change // of servers, the latest
	absent    map[string]bool
	overrides map[Server]Override
	table     *table
}

// change is when a server came up or went down.
type change struct {
	at     time.Time
	reason string
}

// pending is what callers ask for until Run takes it. The latest counts, so that it is bounded by the configuration.
type pending struct {
	config    *Config
	overrides map[Server]Override // nil: as they are
	absent    map[string]bool     // nil: as they are
	doubted   map[Server]bool
	findings  map[string]Finding
	order     []string // of findings
}

// New makes a Balancer that serves nothing yet.
func New(opt Options) *Balancer {
	return &Balancer{opt: opt, log: opt.Log, requests: make(chan func()), ended: make(chan struct{}), wake: make(chan struct{}, 1),
		pool: lvs.NewPool(), changes: map[Server]change{}, cfg: Config{Global: &conf.Global{}}, table: newTable(opt.Open, opt.Log)}
}

// Configure replaces what is served and, in the same moment, what people and the cluster say of it; nil: that stays. What is
// in both configurations keeps its state and is not touched in the kernel.
func (b *Balancer) Configure(c Config, all map[Server]Override) {
	b.ask(func(p *pending) {
		p.config = &c
		if all != nil {
			p.overrides = maps.Clone(all)
		}
	})
}

// Override replaces what people and the cluster say of servers, over what the configuration and the checks say.
func (b *Balancer) Override(all map[Server]Override) {
	b.ask(func(p *pending) { p.overrides = maps.Clone(all) })
}

// Absent says which virtual servers, by name, have an address that this machine does not have: checks of those with
// ha_suspend rest.
func (b *Balancer) Absent(names map[string]bool) {
	b.ask(func(p *pending) { p.absent = maps.Clone(names) })
}

// Doubt has the checks of servers find again what they have found, with attempts that begin from now on.
func (b *Balancer) Doubt(servers []Server) {
	b.ask(func(p *pending) {
		if p.doubted == nil {
			p.doubted = map[Server]bool{}
		}
		for _, s := range servers {
			p.doubted[s] = true
		}
	})
}

func (b *Balancer) found(id string, f Finding) {
	b.ask(func(p *pending) {
		if p.findings == nil {
			p.findings = map[string]Finding{}
		}
		if _, waits := p.findings[id]; !waits {
			p.order = append(p.order, id)
		}
		p.findings[id] = f
	})
}

func (b *Balancer) ask(change func(*pending)) {
	b.mu.Lock()
	change(&b.pending)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends, then tells the end and removes from the kernel what is ours.
func (b *Balancer) Run(ctx context.Context) {
	defer close(b.ended)
	b.checks = b.opt.Checks(b.found)
	timer := time.NewTimer(lookInterval)
	defer timer.Stop()
	armed := true
	for ctx.Err() == nil {
		b.take()
		if !armed && b.table.watches() {
			timer.Reset(lookInterval)
			armed = true
		}
		if b.table.work(b.pool.Want()) {
			select { // a long table does not keep a question waiting
			case f := <-b.requests:
				f()
			default:
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-b.wake:
		case f := <-b.requests:
			f()
		case <-timer.C:
			wait := b.table.look(b.pool.Want())
			if armed = b.table.watches(); armed {
				timer.Reset(wait)
			}
		}
	}
	b.checks.Close()
	b.end()
}

// end does what is due at the end.
func (b *Balancer) end() {
	b.tell(b.pool.End().Notices)
	if !b.opt.Keep {
		b.table.clear(b.cfg.Global.LVS.FlushOnStop && !b.cfg.Global.LVS.FlushOnStopVS)
	}
	b.table.close()
}

// take takes in what callers have asked for.
func (b *Balancer) take() {
	b.mu.Lock()
	p := b.pending
	b.pending = pending{}
	b.mu.Unlock()
	overrides := p.overrides
	if overrides == nil {
		overrides = b.overrides
	}
	switch {
	case p.config != nil:
		b.configure(*p.config, overrides)
	case p.overrides != nil:
		b.override(overrides, false)
	}
	if p.absent != nil || p.config != nil {
		if p.absent != nil {
			b.absent = p.absent
		}
		b.suspend(p.config != nil)
	}
	var doubted []string
	for s := range p.doubted {
		for _, c := range b.pool.Checks(s.Virtual, s.Address) {
			doubted = append(doubted, c.ID)
		}
	}
	if len(doubted) > 0 {
		b.checks.Doubt(doubted)
	}
	for _, id := range p.order {
		c := b.plan.checks[id]
		if c == nil {
			continue // of a configuration that is no more
		}
		c.Finding = p.findings[id]
		b.changed(b.pool.Found(c.Virtual, c.Address, id, c.Verdict), c.Reason)
	}
	if b.opt.Heard != nil && (p.config != nil || len(p.order) > 0) {
		b.opt.Heard()
	}
}

func (b *Balancer) configure(c Config, overrides map[Server]Override) {
	p, virtuals, checks := translate(&c)
	for id, found := range p.checks {
		if old := b.plan.checks[id]; old != nil {
			found.Finding = old.Finding
		}
	}
	out := b.pool.Configure(virtuals, c.Global.RSInitNotifies)
	ended := slices.IndexFunc(out.Notices, func(n lvs.Notice) bool { return !n.Ending })
	if ended < 0 {
		ended = len(out.Notices)
	}
	b.tell(out.Notices[:ended]) // with the scripts that they had
	out.Notices = out.Notices[ended:]

	b.cfg, b.plan = c, p
	b.table.settings(c.Global.LVS)
	b.table.locate(p.conf, virtuals)
	maps.DeleteFunc(b.changes, func(s Server, _ change) bool { return p.find(s) == nil })
	b.changed(out, "it is configured so")
	b.override(overrides, true) // of servers that are new
	b.checks.Set(checks, c.TLS)
}

// override gives the Pool what is new in all, and takes back what is not in it; with anew set, all.
func (b *Balancer) override(all map[Server]Override, anew bool) {
	before := b.overrides
	b.overrides = all
	for s := range before {
		if _, stays := all[s]; !stays {
			b.changed(b.pool.Override(s.Virtual, s.Address, lvs.Override{}), "our own checks decide again")
		}
	}
	for s, o := range all {
		if old, had := before[s]; had && !anew && old.same(o) {
			continue
		}
		b.changed(b.pool.Override(s.Virtual, s.Address, o.Override), o.Reason)
	}
}

// suspend lets the checks of virtual servers with ha_suspend rest or go on. anew says that the checks were set anew, and
// none of them rests.
func (b *Balancer) suspend(anew bool) {
	for name, ids := range b.plan.suspends {
		if absent := b.absent[name]; absent || !anew {
			for _, id := range ids {
				b.checks.Suspend(id, absent)
			}
		}
	}
}

// changed takes in what an event has led to, and the reason for it.
func (b *Balancer) changed(out lvs.Outcome, reason string) {
	for _, n := range out.Notices {
		if n.Kind == lvs.ServerUp || n.Kind == lvs.ServerDown {
			b.changes[Server{n.Virtual, n.Server}] = change{at: time.Now(), reason: reason}
		}
	}
	b.table.enqueue(out.Services)
	b.tell(out.Notices)
}

// errEnded says that the Balancer is not there any more.
var errEnded = errors.New("the load balancer has ended")

// inRun has f called by Run, once what the caller has asked for before is taken in, and waits.
func (b *Balancer) inRun(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case b.requests <- func() { b.take(); f(); close(done) }:
		<-done
		return nil
	case <-b.ended:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// find returns the configuration of a server, or nil.
func (p *plan) find(s Server) *conf.RealServer {
	v := p.conf[s.Virtual]
	if v == nil {
		return nil
	}
	if i := slices.IndexFunc(v.Servers, func(r conf.RealServer) bool { return r.Address == s.Address }); i >= 0 {
		return &v.Servers[i]
	}
	return nil
}
