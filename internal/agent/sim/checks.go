package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
)

// checks is what the run's observer remembers. It sees everything, as no machine does.
type checks struct {
	holders      map[string]fsm.Member // of (cluster, group, epoch): who ever held a lease of it
	leases       map[string]*observed  // by machine and group
	hashes       map[place]uint64      // of the state after an entry
	terms        map[place]uint64      // of committed entries
	acknowledged []string              // ids of requests that were answered "done"
	sights       map[string]*sight     // by group
}

// place is that of an entry of the log.
type place struct {
	cluster int
	index   uint64
}

// observed is what is known of a machine's leases of a group, over all its processes.
type observed struct {
	epoch    lease.Epoch // of the present lease, or the last one
	until    clock.Time  // the latest deadline that was decided for epoch
	shut     bool        // the guard was shut since: there is no lease any more
	kept     bool        // it is kept without a majority, and the owner says so
	over     lease.Epoch // newest epoch that has lapsed
	released lease.Epoch // newest epoch that was released
}

// leased tells whether the machine's lease of a group is neither over nor given up. That the process may be dead does not
// matter: its kernel keeps the lease.
func (w *world) leased(m *machine, group string) (lease.Epoch, bool) {
	o := w.observed(m, group)
	return o.epoch, m.state != dead && o.epoch != 0 && !o.shut && m.reading() < o.until
}

// sight is who was last seen to answer for a group, and until when.
type sight struct {
	owner *machine
	until instant
}

func newChecks() checks {
	return checks{holders: map[string]fsm.Member{}, leases: map[string]*observed{}, hashes: map[place]uint64{},
		terms: map[place]uint64{}, sights: map[string]*sight{}}
}

func (w *world) observed(m *machine, group string) *observed {
	key := m.name + " " + group
	o := w.checks.leases[key]
	if o == nil {
		o = &observed{}
		w.checks.leases[key] = o
	}
	return o
}

// forget forgets what is known of a machine's leases.
func (w *world) forget(m *machine) {
	for _, g := range w.shape.groups {
		*w.observed(m, g.name) = observed{}
	}
}

// touched looks at a machine whose kernel has changed, or whose clocks have: this is the only way to become visible.
func (w *world) touched(m *machine, group string) {
	epoch, visible := m.visible(group)
	w.see(m, group, visible)
	if !visible {
		return
	}
	w.stats.Checks++
	w.touchedRoaming(m)
	for _, other := range w.machines {
		if other == m {
			continue
		}
		if theirs, too := other.visible(group); too && !w.unprotected(m, other, group) {
			w.violated("S1", "%s answers for %s under epoch %d, and so does %s under epoch %d", m.name, group, epoch,
				other.name, theirs)
		}
	}
	o := w.observed(m, group)
	if w.cfg.Adversarial {
		return // a log that forgets may grant an epoch twice
	}
	switch {
	case epoch == 0 && w.cfg.Arbitrate && o.kept:
	case epoch == 0:
		w.violated("S2", "%s answers for %s without a lease", m.name, group)
	case epoch <= o.over:
		w.violated("S4", "%s answers for %s under epoch %d, whose lease has lapsed", m.name, group, epoch)
	case epoch <= o.released:
		w.violated("S5", "%s answers for %s under epoch %d, which it has released", m.name, group, epoch)
	}
}

func (w *world) touchedAll(m *machine) {
	for _, g := range w.shape.groups {
		w.touched(m, g.name)
	}
}

// unprotected tells whether one of two owners says of itself that it keeps the group without a majority: then nobody has
// promised that it is the only one.
//
// Where the gateway decides, both have to say so, since neither can have a lease that the other one does not know of; and
// both have reached it lately.
func (w *world) unprotected(a, b *machine, group string) bool {
	saying := w.says(a, group) || w.says(b, group)
	if w.cfg.Arbitrate {
		saying = w.says(a, group) && w.says(b, group) && a.blindFor() <= 0 && b.blindFor() <= 0
	}
	if !saying {
		return false
	}
	w.stats.KeptBeside++
	return true
}

// says tells whether a machine says of itself that it keeps a group without a majority.
func (w *world) says(m *machine, group string) bool { return w.observed(m, group).kept }

// announced checks what a machine says on the wire: an advertisement, a gratuitous ARP.
func (w *world) announced(m *machine, group string) {
	w.touchedRoaming(m)
	for _, other := range w.machines {
		if epoch, visible := other.visible(group); visible && other != m && !w.unprotected(m, other, group) {
			w.violated("S1", "%s announces %s while %s answers under epoch %d", m.name, group, other.name, epoch)
		}
	}
}

// see notes who answers for a group, for the statistics.
func (w *world) see(m *machine, group string, visible bool) {
	s := w.checks.sights[group]
	if s == nil {
		s = &sight{}
		w.checks.sights[group] = s
	}
	switch {
	case visible:
		if s.owner != nil {
			w.stats.Dark += max(0, w.now.sub(s.until))
		}
		if s.owner != nil && s.owner != m {
			w.stats.LastMove = time.Duration(w.now)
			w.stats.Takeovers++
			w.stats.Interruption.add(w.now.sub(min(s.until, w.now)))
			w.say("", "%s has moved from %s to %s", group, s.owner.name, m.name)
		}
		s.owner, s.until = m, m.visibleUntil(group)
	case s.owner == m:
		s.until = min(s.until, w.now)
		for _, other := range w.machines { // beside which it was kept
			if _, too := other.visible(group); too && other != m {
				w.see(other, group, true)
			}
		}
	}
}

// decided looks at what a process means to do.
func (w *world) decided(p *process, a director.Action) {
	arm, ok := a.(director.GuardArm)
	if !ok {
		return
	}
	m, o := p.machine, w.observed(p.machine, arm.Group)
	if v, _ := p.director.Group(arm.Group); v.Epoch == arm.Epoch {
		if v.Kept && !o.kept {
			w.stats.Kept++
		}
		o.kept = v.Kept
		if arm.First && v.Taken {
			w.took(m, arm.Group, v.Given)
		}
	} else if arm.First {
		o.kept = false
	}
	if arm.First {
		for _, other := range w.machines {
			if epoch, too := w.leased(other, arm.Group); too && other != m && !w.unprotected(m, other, arm.Group) {
				w.violated("S1", "%s has a lease of epoch %d of %s while that of %s runs, epoch %d", m.name, arm.Epoch,
					arm.Group, other.name, epoch)
			}
		}
		o.epoch, o.until, o.shut = arm.Epoch, 0, false
	}
	if arm.First && !w.cfg.Adversarial && !o.kept {
		key := fmt.Sprintf("%d %s %d", p.cluster, arm.Group, arm.Epoch)
		if holder, known := w.checks.holders[key]; known && holder != p.member {
			w.violated("S3", "%s and %s both hold epoch %d of %s", holder, p.member, arm.Epoch, arm.Group)
		}
		w.checks.holders[key] = p.member
	}
	if arm.Epoch != o.epoch || arm.Until <= o.until {
		return
	}
	o.until = arm.Until
	m.reading()
	w.at(m.clocks.when(arm.Until).add(w.lateness()), func() { w.lapse(m, arm) })
}

// took looks at a takeover without a lease. Who begins it at the word of a dead director's companion is the only one. Otherwise nobody else
// has it who has lost its gateway, and could be heard since.
func (w *world) took(m *machine, group string, given bool) {
	for _, other := range w.machines {
		epoch, visible := other.visible(group)
		switch heard := w.links[other.index][m.index].heard; {
		case other == m || !visible:
		case given:
			w.violated("S1", "%s takes %s over from a life that has died, while %s answers under epoch %d", m.name, group, other.name, epoch)
		case other.blind > 0 && heard > other.blindFrom:
			w.violated("S1", "%s takes %s over, has heard of %s since that lost its gateway, and that answers under epoch %d", m.name,
				group, other.name, epoch)
		}
	}
}

// lapse looks at a machine when a lease's deadline has come, unless it has moved since (S2, S4).
func (w *world) lapse(m *machine, arm director.GuardArm) {
	o := w.observed(m, arm.Group)
	if o.epoch != arm.Epoch || o.until != arm.Until || o.over >= arm.Epoch && arm.Epoch != 0 {
		return
	}
	if now := m.reading(); now < arm.Until { // the clock's rate has changed
		w.at(m.clocks.when(arm.Until).add(w.lateness()), func() { w.lapse(m, arm) })
		return
	}
	o.over = arm.Epoch
	if epoch, visible := m.visible(arm.Group); visible && epoch <= arm.Epoch && !w.cfg.Adversarial {
		w.violated("S2", "%s answers for %s under epoch %d beyond the lease", m.name, arm.Group, epoch)
	}
}

// shut notes that a group's guard is shut because the machine has no lease any more.
func (w *world) shut(m *machine, group string) { w.observed(m, group).shut = true }

func (w *world) shutAll(m *machine) {
	for _, g := range w.shape.groups {
		w.shut(m, g.name)
	}
}

// sending looks at a lease message that leaves: one that gives an epoch up comes after the last moment of visibility.
func (w *world) sending(p *process, m lease.Message) {
	switch {
	case m.Release != nil:
		w.gaveUp(p, m.Release.Group, m.Release.Epoch)
	case m.Waive != nil:
		w.gaveUp(p, m.Waive.Group, m.Waive.Epoch)
	}
}

func (w *world) gaveUp(p *process, group string, epoch lease.Epoch) {
	o := w.observed(p.machine, group)
	o.released = max(o.released, epoch)
	if under, visible := p.machine.visible(group); visible && under <= epoch && !w.cfg.Adversarial && (under != 0 || !o.kept) {
		w.violated("S5", "%s releases epoch %d of %s and answers for it under epoch %d", p.member, epoch, group, under)
	}
}

// committed checks the model of Raft itself: one entry per index.
func (w *world) committed(p *process, index, term uint64) {
	at := place{p.cluster, index}
	if known, ok := w.checks.terms[at]; ok && known != term {
		w.violated("model", "entry %d is committed with terms %d and %d (%s)", index, known, term, p.member)
	}
	w.checks.terms[at] = term
}

// applied compares a replica with the others (S8).
func (w *world) applied(p *process, index uint64, c fsm.Command, result fsm.Result) {
	if w.trace.on {
		p.say("log: %d %s %+v", index, describe(c), result)
	}
	if w.cfg.Adversarial {
		return
	}
	at := place{p.cluster, index}
	if known, ok := w.checks.hashes[at]; ok {
		if index%4 == 0 && known != p.state.Hash() { // what differs once differs for good
			w.violated("S8", "%s has hash %016x after entry %d, others have %016x", p.member, p.state.Hash(), index, known)
		}
		return
	}
	w.checks.hashes[at] = p.state.Hash()
	switch {
	case !result.OK:
		w.stats.Refusals++
	case c.Grant != nil:
		w.stats.Grants++
	case c.Release != nil:
		w.stats.Releases++
		if c.Release.Successor != "" {
			w.stats.Grants++
		}
	}
}

// restored compares a replica that took over a snapshot with the others.
func (w *world) restored(p *process) {
	if known, ok := w.checks.hashes[place{p.cluster, p.state.Applied()}]; ok && known != p.state.Hash() {
		w.violated("S8", "%s has another hash after a snapshot of entry %d", p.member, p.state.Applied())
	}
}

// complete tells whether every machine's member is a voter, as a leader sees it, and no change is open.
func (w *world) complete() bool {
	for _, m := range w.machines {
		if p := m.process; p != nil {
			if r, ok := p.log.(*raft); ok && r.role == leader {
				committed := r.d.configurationAt(r.commit)
				whole := committed.Index == r.latest().Index && len(committed.Voters) == len(w.machines)
				for _, each := range w.machines {
					whole = whole && committed.Has(each.disk.member)
				}
				return whole
			}
		}
	}
	return false
}

// checkRecovered is what must be true some time after the last fault: L1, S7, S8.
func (w *world) checkRecovered() {
	for _, g := range w.shape.groups {
		var owners []string
		for _, m := range w.machines {
			if _, visible := m.visible(g.name); visible {
				owners = append(owners, m.name)
			}
		}
		if len(owners) != 1 {
			w.violated("L1", "%s is owned by %q after %v without faults: %s", g.name, owners, w.recoverySpan(), w.why(g.name))
		}
	}
	if w.anyKept() {
		w.violated("L1", "a group is kept without a lease after %v without faults", w.recoverySpan())
	}
	for _, m := range w.machines {
		p := m.process
		if p == nil {
			w.violated("L1", "%s does not run", m.name)
			return
		}
		first := w.machines[0].process
		if p.state.Applied() != first.state.Applied() || p.state.Hash() != first.state.Hash() {
			w.violated("S8", "%s is at entry %d, hash %016x, and %s at %d, %016x", p.member, p.state.Applied(),
				p.state.Hash(), first.member, first.state.Applied(), first.state.Hash())
		}
		if !w.complete() {
			w.violated("L1", "not every member is a voter")
		}
		w.checkJournal(p)
	}
}

// checkJournal: what was acknowledged is there, and nothing twice (S7).
func (w *world) checkJournal(p *process) {
	seen := map[string]int{}
	events := p.state.Journal(0)
	for _, e := range events {
		if e.ID != "" {
			if seen[e.ID]++; seen[e.ID] > 1 {
				w.violated("S7", "%s has request %s twice", p.member, e.ID)
			}
		}
	}
	if len(events) == fsm.JournalSize || w.clusters > 0 {
		return // the oldest ones are gone, or what only the dead knew
	}
	for _, id := range w.checks.acknowledged {
		if seen[id] == 0 && !strings.HasPrefix(id, "operator") { // a mark that was set already leaves no event
			w.violated("S7", "%s has lost request %s", p.member, id)
		}
	}
}

// why says what the directors think of a group.
func (w *world) why(group string) string {
	var said []string
	for _, m := range w.machines {
		if m.process != nil && m.process.director != nil {
			view, _ := m.process.director.Group(group)
			said = append(said, fmt.Sprintf("%s %+v", m.name, view))
		}
	}
	return strings.Join(said, "; ")
}
