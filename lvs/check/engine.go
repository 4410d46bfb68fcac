package check

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/lvs/check/verdict"
)

// Bounds of an Engine.
const (
	attemptsMax = 4096 // attempts over the network under way at once
	scriptsMax  = 64   // scripts under way at once

	// An attempt over the network may take as long as the interval, or if that is longer so many times the time for
	// connecting and each read: a server that sends a byte now and then is not up.
	patience = 4

	lateAfter = 5 * time.Second // an attempt that has to wait longer than this is worth a line in the log

	// gather is the least time between two passes of the loop: attempts that are due within it begin together, and those that
	// end within it are judged together. To wake this process costs more than an attempt.
	gather = 10 * time.Millisecond
)

// Options are what an Engine needs of its surroundings.
type Options struct {
	// Now reads the clock of schedules. It is called by any goroutine.
	Now func() clock.Time

	// Report is called with the first verdict of each check, with each change, and with what Doubt asks for, by one goroutine,
	// in order. The Engine stands still until it returns. It may call the Engine's methods, except Close.
	Report func(Result)

	// Run runs a script for Misc and blocks until none of its processes is left: at the latest soon after timeout or the end
	// of ctx. err says why the script has no exit status. It is called by many goroutines. nil: there are no scripts.
	Run func(ctx context.Context, script any, timeout time.Duration) (status int, err error)

	Log *slog.Logger
}

// Engine makes the attempts of many checks. Its methods may be called by any goroutine and do not block, except Close.
type Engine struct {
	options  Options
	searches chan struct{} // slots for searching long bodies
	seed     maphash.Seed
	ctx      context.Context
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	pending pending
	wake    chan struct{} // 1: something is pending

	// What follows belongs to the loop.
	checks   map[string]*entry
	lanes    [2]lane
	connects connects
	now      clock.Time // of this pass
	late     clock.Time // when lateness was last logged
}

// pending is what callers ask for, and what has ended, until the loop takes it.
type pending struct {
	checks    []Check // with set
	set       bool
	suspended map[string]bool
	doubted   map[string]bool
	inputs    map[string]verdict.Outcome
	connected []int32 // connections that are made or refused
	ended     []ending
}

// entry is one check.
type entry struct {
	id      string
	probe   Probe
	prober  prober // nil: an Input, or a check that cannot be made
	config  verdict.Config
	state   verdict.State
	reason  string // of the verdict that was reported last
	notes   bool   // see Check.LogFailures
	removed bool   // the check is there no more
	lane    *lane

	// An entry is in the heap of its lane while it waits for an attempt, and in that of connects while it waits for a connection.
	at    clock.Time // that it waits for
	index int        // -1: in neither heap

	connection connection
	cancel     context.CancelFunc // ends the attempt under way, if that has a goroutine
}

// ending is the end of an attempt.
type ending struct {
	entry   *entry
	outcome verdict.Outcome
}

// lane is a kind of attempts with a bound of its own: those over the network, and scripts.
type lane struct {
	due     timeHeap
	running int
	max     int
}

// New returns an Engine without checks. Close ends it.
func New(options Options) *Engine {
	e := newEngine(options, attemptsMax, scriptsMax)
	go e.loop()
	return e
}

// newEngine returns an Engine whose loop does not run yet.
func newEngine(options Options, attempts, scripts int) *Engine {
	e := &Engine{
		options:  options,
		searches: make(chan struct{}, searchSlots),
		seed:     maphash.MakeSeed(),
		ended:    make(chan struct{}),
		wake:     make(chan struct{}, 1),
		checks:   map[string]*entry{},
		lanes:    [2]lane{{max: attempts}, {max: scripts}},
	}
	e.connects.tell = func(ids []int32) {
		e.ask(func(p *pending) { p.connected = append(p.connected, ids...) })
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Set replaces the checks. One whose ID and Probe are as before keeps its state, and takes over what else has changed.
// Others begin anew; those that are not in the list any more end. IDs are unique.
func (e *Engine) Set(checks []Check) {
	e.ask(func(p *pending) { p.checks, p.set = checks, true })
}

// Suspend stops the attempts of a check or lets them go on. While it is suspended its verdict stays as it is. Checks that
// Set makes later are not suspended.
func (e *Engine) Suspend(id string, suspended bool) {
	e.ask(func(p *pending) {
		if p.suspended == nil {
			p.suspended = map[string]bool{}
		}
		p.suspended[id] = suspended
	})
}

// Doubt has the verdicts of checks reported once more, as soon as attempts that begin from now on have borne them out, if they do not
// change them. The next attempts begin at once. Those of checks without attempts, which are always up to date, are reported at once.
func (e *Engine) Doubt(ids []string) {
	e.ask(func(p *pending) {
		if p.doubted == nil {
			p.doubted = map[string]bool{}
		}
		for _, id := range ids {
			p.doubted[id] = true
		}
	})
}

// Input gives the outcome of an Input. Only the latest counts.
func (e *Engine) Input(id string, outcome verdict.Outcome) {
	e.ask(func(p *pending) {
		if p.inputs == nil {
			p.inputs = map[string]verdict.Outcome{}
		}
		p.inputs[id] = outcome
	})
}

func (e *Engine) ask(change func(*pending)) {
	e.mu.Lock()
	change(&e.pending)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Close ends all checks and blocks until nothing is left of them, processes of scripts included. Nothing is reported
// afterwards.
func (e *Engine) Close() {
	e.cancel()
	<-e.ended
}

func (e *Engine) loop() {
	defer close(e.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for e.ctx.Err() == nil {
		next := e.pass()
		timer.Reset(gather)
		select {
		case <-timer.C:
		case <-e.ctx.Done():
		}
		if next <= gather {
			continue
		}
		timer.Reset(next - gather)
		select {
		case <-timer.C:
		case <-e.wake:
		case <-e.ctx.Done():
		}
	}
	for _, x := range e.connects.waiting {
		x.lane.running--
	}
	e.connects.close()
	for {
		e.mu.Lock()
		for _, end := range e.pending.ended {
			end.entry.lane.running--
		}
		e.pending.ended = nil
		e.mu.Unlock()
		if e.lanes[0].running+e.lanes[1].running == 0 {
			return
		}
		<-e.wake
	}
}

// pass does all that is to be done now, and returns the time until there is more.
func (e *Engine) pass() time.Duration {
	e.now = e.options.Now()
	e.take()
	e.expire()
	return e.start()
}

// expire ends the connections that were not made in time.
func (e *Engine) expire() {
	for until := &e.connects.until; len(*until) > 0 && !e.now.Before((*until)[0].at); {
		e.connected((*until)[0], os.ErrDeadlineExceeded)
	}
}

// start begins the attempts that are due, as far as there is room, and returns the time until the next is due, or the next
// connection takes too long.
func (e *Engine) start() time.Duration {
	next := time.Duration(math.MaxInt64)
	for i := range e.lanes {
		l := &e.lanes[i]
		for len(l.due) > 0 && l.running < l.max {
			x := l.due[0]
			wait := x.at.Sub(e.now)
			if wait > 0 {
				next = min(next, wait)
				break
			}
			if -wait > lateAfter && e.now.Sub(e.late) > time.Minute {
				e.late = e.now
				e.options.Log.Warn("health checks are late", "by", (-wait).Round(time.Second), "check", x.id, "under_way", l.running)
			}
			heap.Pop(&l.due)
			e.step(x, verdict.Tick{})
		}
	}
	if until := e.connects.until; len(until) > 0 {
		next = min(next, until[0].at.Sub(e.now))
	}
	return next
}

// step gives an event to a check and does what follows.
func (e *Engine) step(x *entry, event verdict.Event) {
	var action verdict.Action
	x.state, action = x.state.Step(&x.config, e.now, event)
	switch action := action.(type) {
	case verdict.Attempt:
		e.begin(x, action.Step)
		return
	case verdict.Report:
		x.reason = action.Reason
		e.report(x)
	case verdict.Note:
		if x.notes {
			e.options.Log.Info("health check attempt failed", "check", x.id, "reason", action.Reason)
		}
	}
	if x.prober != nil && !x.state.Due.IsZero() {
		x.wait()
	}
}

// report reports the verdict of a check as of now.
func (e *Engine) report(x *entry) {
	e.options.Report(Result{ID: x.id, Up: x.state.Up, Adjust: x.state.Adjust, Reason: x.reason, At: e.now})
}

// wait lets a check wait for its next attempt.
func (x *entry) wait() {
	x.at = x.state.Due
	if x.index < 0 {
		heap.Push(&x.lane.due, x)
	} else {
		heap.Fix(&x.lane.due, x.index)
	}
}

// begin begins an attempt of a check.
func (e *Engine) begin(x *entry, step int) {
	x.lane.running++
	var ctx context.Context
	switch p := x.prober.(type) {
	case *connector:
		if err := e.connects.begin(x, p.Endpoint, e.now.Add(p.Timeout)); err != nil {
			e.end(ending{x, p.outcome(err)})
		}
	case attempter:
		limit := x.limit()
		if limit > 0 {
			ctx, x.cancel = context.WithTimeout(e.ctx, limit)
		} else {
			ctx, x.cancel = context.WithCancel(e.ctx)
		}
		go e.attempt(ctx, x, p, limit, step)
	}
}

// connected ends an attempt whose connection was made, or was not because of err.
func (e *Engine) connected(x *entry, err error) {
	e.connects.end(x)
	e.end(ending{x, x.prober.(*connector).outcome(err)})
}

// attempt makes one attempt of a check. It is the attempt's own goroutine.
func (e *Engine) attempt(ctx context.Context, x *entry, p attempter, limit time.Duration, step int) {
	outcome := p.attempt(ctx, step)
	if !outcome.OK && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		outcome.Reason += fmt.Sprintf(", given up after %v", limit)
	}
	e.ask(func(p *pending) { p.ended = append(p.ended, ending{x, outcome}) })
}

// limit bounds an attempt as a whole; 0: it bounds itself.
func (x *entry) limit() time.Duration {
	if p, ok := x.probe.(interface{ timeout() time.Duration }); ok {
		return max(x.config.Interval, patience*p.timeout())
	}
	return 0
}

func (e *Engine) end(end ending) {
	x := end.entry
	x.lane.running--
	if x.cancel != nil {
		x.cancel()
		x.cancel = nil
	}
	if !x.removed {
		e.step(x, verdict.Done{Outcome: end.outcome})
	}
}

// take does what callers have asked for.
func (e *Engine) take() {
	e.mu.Lock()
	p := e.pending
	e.pending = pending{}
	e.mu.Unlock()
	for _, id := range p.connected {
		if x := e.connects.waiting[id]; x != nil {
			e.connected(x, x.connection.result())
		}
	}
	for _, end := range p.ended {
		e.end(end)
	}
	if p.set {
		e.set(p.checks)
	}
	for id, suspended := range p.suspended {
		if x := e.checks[id]; x != nil && x.state.Suspended != suspended {
			if suspended {
				e.step(x, verdict.Suspend{})
			} else {
				e.step(x, verdict.Resume{})
			}
		}
	}
	for id := range p.doubted {
		switch x := e.checks[id]; {
		case x == nil:
		case x.prober != nil:
			e.step(x, verdict.Doubt{})
		case x.state.Known:
			e.report(x)
		}
	}
	for id, outcome := range p.inputs {
		if x := e.checks[id]; x != nil {
			if _, ok := x.probe.(Input); ok {
				e.step(x, verdict.Done{Outcome: outcome})
			}
		}
	}
}

func (e *Engine) set(checks []Check) {
	wanted := make(map[string]bool, len(checks))
	for _, c := range checks {
		wanted[c.ID] = true
	}
	for id, x := range e.checks {
		if !wanted[id] {
			e.remove(x)
		}
	}
	for _, c := range checks {
		switch x := e.checks[c.ID]; {
		case x == nil:
			e.add(c)
		case same(c.Probe, x.probe):
			e.update(x, c)
		default:
			e.remove(x)
			e.add(c)
		}
	}
}

// add begins a check.
func (e *Engine) add(c Check) {
	x := &entry{id: c.ID, probe: c.Probe, config: c.config(), notes: c.LogFailures, lane: e.laneOf(c.Probe), index: -1}
	x.state = verdict.Begin(&x.config, e.now, e.fraction(c.ID))
	e.checks[c.ID] = x
	var err error
	if x.prober, err = c.Probe.prepare(e); err != nil {
		e.step(x, verdict.Done{Outcome: failed("cannot check: " + err.Error())})
		return
	}
	if x.prober != nil {
		x.wait()
	}
}

// fraction returns a number in [0, 1) that is random, and the same for one ID.
func (e *Engine) fraction(id string) float64 {
	return float64(maphash.String(e.seed, id)>>11) / (1 << 53)
}

// update gives a check what has changed besides what decides its verdict.
func (e *Engine) update(x *entry, c Check) {
	interval := x.config.Interval
	x.probe, x.config, x.notes = c.Probe, c.config(), c.LogFailures
	prober, err := c.Probe.prepare(e)
	if err != nil || prober == nil {
		return
	}
	x.prober = prober
	if sooner := e.now.Add(x.config.Interval); x.config.Interval < interval && sooner.Before(x.state.Due) {
		x.state.Due = sooner
		x.wait()
	}
}

func (e *Engine) remove(x *entry) {
	x.removed = true
	delete(e.checks, x.id)
	switch {
	case x.connection.id != 0:
		e.connects.end(x)
		x.lane.running--
	case x.cancel != nil:
		x.cancel()
	case x.index >= 0:
		heap.Remove(&x.lane.due, x.index)
	}
}

func (e *Engine) laneOf(p Probe) *lane {
	if _, ok := p.(Misc); ok {
		return &e.lanes[1]
	}
	return &e.lanes[0]
}

// timeHeap has the check on top that waits for the earliest time.
type timeHeap []*entry

func (h timeHeap) Len() int           { return len(h) }
func (h timeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop serve package heap.
func (h *timeHeap) Push(x any) {
	entry := x.(*entry)
	entry.index = len(*h)
	*h = append(*h, entry)
}

func (h *timeHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	last.index = -1
	return last
}
