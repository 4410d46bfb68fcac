package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
)

// Config says which run it is to be. The same Config gives the same run.
type Config struct {
	Seed        uint64
	Span        time.Duration // with faults; the time to recover comes on top
	Voters      int           // zero: drawn from the seed
	Groups      int           // zero: drawn from the seed
	Adversarial bool          // the replicated log keeps no promise at all
	Hold        bool          // owners that lose the majority keep what they have
	Arbitrate   bool          // two directors and a gateway, which decides when they lose each other
	Profile     string        // of the faults; empty: drawn from the seed
	Plan        []Fault       // nil: drawn from the seed
	Trace       bool          // keep the last lines for Outcome
	calm        *shape        // a cluster of its own instead of one drawn from the seed
	noRecovery  bool          // end with the faults on
	countFrom   time.Duration // takeovers and darkness

	Lease    lease.Broken
	Director director.Broken
	Broken   Broken
}

// Broken switches off what the shell, the kernel and the disk contribute, so that tests can show that it is needed.
type Broken struct {
	NoGuard       bool // nothing keeps a machine from answering for addresses that it has
	RelativeOnly  bool // the guard has no absolute deadline
	AbsoluteOnly  bool // the guard's elements do not time out
	SlewedTimeout bool // the guard is armed with all that is left of the lease
	KeepLeftovers bool // a start leaves guard and addresses as they are
	WallClock     bool // leases are counted on the wall clock
	ForgetCeiling bool // a restarted voter thinks that it has never promised anything
	SpeakFirst    bool // a companion gives leases up before it has shut the guard
	StoppedIsDead bool // a companion takes a process that is stopped for dead
	ForceUnproved bool // a quorum is forced although the other voters are not off
}

// Outcome is what became of a run.
type Outcome struct {
	Violation   *Violation // nil: none
	Stats       Stats
	Plan        []Fault
	Shape       string
	Owners      map[string]string // at the end: machine by group
	Before      map[string]string // likewise, when counting began
	Heirs       map[string]string // and to whom the owners would have handed over then
	Unprotected bool              // at the end: one of them has no lease
	Trace       []string
}

// Violation is a broken invariant.
type Violation struct {
	Invariant string
	At        time.Duration
	Text      string
}

func (v Violation) String() string { return fmt.Sprintf("%s at %v: %s", v.Invariant, v.At, v.Text) }

// Stats counts what happened in a run, or in many.
type Stats struct {
	Simulated    time.Duration
	Events       uint64
	Messages     uint64
	MessagesLost uint64
	Faults       uint64
	Elections    uint64
	Grants       uint64
	Releases     uint64
	Refusals     uint64 // by the state machine
	Takeovers    uint64 // a group became visible somewhere else than before
	Transitions  uint64
	Checks       uint64 // of "one owner"
	ForcedKills  uint64
	Fences       uint64    // machines that were switched off
	Deaths       uint64    // of processes whose companion acted
	Forced       uint64    // times that a director was made the only voter
	Voids        uint64    // runs that ended early: somebody came back where it did not reach the forced cluster
	Kept         uint64    // groups that their owners kept without a majority
	KeptBeside   uint64    // times that one was seen to have another owner at the same time
	Interruption Histogram // from the old owner's last visible moment to the new owner's first

	Dark     time.Duration // in which a group that once had an owner was answered for by nobody
	LastMove time.Duration // when the last takeover was
}

// world is one run.
type world struct {
	agenda
	trace trace
	cfg   Config
	shape shape
	stats Stats

	plan     []Fault
	machines []*machine
	links    [][]link
	byMember map[fsm.Member]*machine
	roster   []fsm.Member      // all that ever were, in order of appearance
	group    map[string]*group // by name
	ofInst   map[string]string // group of an instance

	lives, commands uint64
	clusters        int           // that were forced: the number of the last one
	void            bool          // nothing is promised any more
	waiting         []fsm.Command // of operators and journals
	violation       *Violation
	checks          checks
}

// Run makes a run.
func Run(cfg Config) Outcome {
	r := newRandom(cfg.Seed, 1)
	formed := newShape(cfg, &r)
	if cfg.calm != nil {
		formed = *cfg.calm
	}
	w := &world{cfg: cfg, shape: formed, byMember: map[fsm.Member]*machine{}, group: map[string]*group{},
		ofInst: map[string]string{}, checks: newChecks()}
	w.trace.on = cfg.Trace
	w.plan = cfg.Plan
	if w.plan == nil {
		planned := newRandom(cfg.Seed, 5)
		w.plan = newPlan(cfg, w.shape, &planned)
	}
	for i := range w.shape.groups {
		g := &w.shape.groups[i]
		w.group[g.name] = g
		for _, name := range g.instances {
			w.ofInst[name] = g.name
		}
	}
	for i := range w.shape.voters {
		m := w.newMachine(i)
		w.machines = append(w.machines, m)
	}
	voters := lease.Configuration{Index: 1, Voters: slices.Clone(w.roster)}
	slices.Sort(voters.Voters)
	for i, m := range w.machines {
		m.disk.raft = raftDisk{base: 1, baseTerm: 1, term: 1, voters: voters}
		row := make([]link, w.shape.voters)
		for j := range row {
			row[j].random = newRandom(cfg.Seed, 4, uint64(i), uint64(j))
		}
		w.links = append(w.links, row)
		w.after(m.random.span(0, 3*time.Second), m.start)
	}
	for _, f := range w.plan {
		w.at(instant(f.At), func() { w.inject(f) })
	}
	var before, heirs map[string]string
	w.at(instant(cfg.countFrom), func() {
		w.stats.Takeovers, w.stats.Dark, w.stats.LastMove = 0, 0, 0
		before = w.owners()
		heirs = map[string]string{}
		for _, m := range w.machines {
			if p := m.process; p != nil && p.director != nil {
				for group, h := range p.director.Heirs() {
					heirs[group] = h.All
				}
			}
		}
	})
	w.runUntil(instant(cfg.Span))
	if w.violation == nil && !w.void && !cfg.Adversarial && !cfg.noRecovery { // a log without promises gives nobody a right to an owner
		w.recover()
	}
	for _, s := range w.checks.sights {
		w.stats.Dark += max(0, w.now.sub(s.until))
	}
	w.stats.Simulated = time.Duration(w.now)
	return Outcome{Violation: w.violation, Stats: w.stats, Plan: w.plan, Shape: w.shape.String(), Owners: w.owners(), Before: before, Heirs: heirs, Unprotected: w.anyKept(),
		Trace: w.trace.all()}
}

// eventsPerSecond bounds what a cluster may do in a second of virtual time: more is a machine that calls for itself
// without end.
const eventsPerSecond = 100_000

func (w *world) runUntil(until instant) {
	second, events := w.now, 0
	for w.violation == nil && !w.void {
		e, ok := w.pop(until)
		if !ok {
			w.now = until
			return
		}
		w.stats.Events++
		if events++; events > eventsPerSecond {
			w.violated("L1", "the cluster is busy with itself")
		}
		if w.now.sub(second) > time.Second {
			second, events = w.now, 0
		}
		e.do()
	}
}

func (w *world) violated(invariant, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{invariant, time.Duration(w.now), fmt.Sprintf(format, args...)}
		w.say("", "VIOLATION %s", w.violation)
	}
}

func (w *world) machineOf(member fsm.Member) *machine { return w.byMember[member] }
func (w *world) instancesOf(group string) []string    { return w.group[group].instances }
func (w *world) groupOf(instance string) string       { return w.ofInst[instance] }

// members lists all members that ever were, in order of appearance.
func (w *world) members() []fsm.Member { return w.roster }

// recoverySpan is within how long after the last fault every group has an owner again: promises run out, two elections,
// the down timer, and a claim that was refused comes again.
func (w *world) recoverySpan() time.Duration {
	span := 2*w.promise() + 2*3*w.shape.election + 5*w.shape.interval + time.Second
	if w.shape.fencing != noFencing { // a last machine is switched off, and comes back
		span += slowestFence + longestOff + w.promise() + 2*3*w.shape.election
	}
	return span
}

// recover lets all faults end and checks what must be true then.
func (w *world) recover() {
	w.say("", "all faults end")
	w.shape.loss, w.shape.late, w.shape.doubled, w.shape.hesitation, w.shape.lateTimers = 0, 0, 0, 0, 0
	w.shape.staleLeaders = false
	longest := time.Duration(0) // what has begun ends by itself
	for _, f := range w.plan {
		longest = max(longest, f.At+f.For-time.Duration(w.now))
	}
	replaced := time.Duration(1)
	if w.clusters > 0 { // all others come back as new members
		replaced = time.Duration(len(w.machines))
	}
	w.runUntil(w.now.add(longest + longestDelay + replaced*w.replacement()))
	w.runUntil(w.now.add(w.recoverySpan()))
	for range 20 { // a group may be on its way to where it is to be
		if w.shape.places.On() && len(w.owners()) < len(w.shape.groups) {
			w.runUntil(w.now.add(50 * time.Millisecond))
		}
	}
	if w.violation == nil && !w.void {
		w.checkRecovered()
	}
}

// owners lists who answers for which group.
func (w *world) owners() map[string]string {
	all := map[string]string{}
	for _, g := range w.shape.groups {
		for _, m := range w.machines {
			if _, visible := m.visible(g.name); visible {
				all[g.name] = m.name
			}
		}
	}
	return all
}

// anyKept tells whether somebody answers for a group without a lease.
func (w *world) anyKept() bool {
	for _, g := range w.shape.groups {
		for _, m := range w.machines {
			if _, visible := m.visible(g.name); visible && w.says(m, g.name) {
				return true
			}
		}
	}
	return false
}

// replacement is how long it may take to make a machine that lost its data a voter again: two changes, each a promise
// apart, after an election.
func (w *world) replacement() time.Duration {
	return 2*(w.promise()+2*time.Second) + 6*w.shape.election
}

// promise is how long a voter promises.
func (w *world) promise() time.Duration { return w.shape.lease*101/100 + w.slack() }

// submit has a command committed by whoever leads, again and again under the same id until somebody has said that it is.
// One command follows another.
func (w *world) submit(c fsm.Command) {
	w.waiting = append(w.waiting, c)
	if len(w.waiting) == 1 {
		w.insist()
	}
}

func (w *world) insist() {
	if len(w.waiting) == 0 {
		return
	}
	c := w.waiting[0]
	for _, m := range w.machines {
		if p := m.process; p != nil && !p.frozen() {
			p.log.submit(c, func(_ fsm.Result, err error) {
				if err == nil && len(w.waiting) > 0 && w.waiting[0].ID == c.ID {
					w.checks.acknowledged = append(w.checks.acknowledged, c.ID)
					w.waiting = w.waiting[1:]
					w.insist()
				}
			})
		}
	}
	w.after(time.Second, func() {
		if len(w.waiting) > 0 && w.waiting[0].ID == c.ID {
			w.insist()
		}
	})
}
