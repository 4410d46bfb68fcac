package director

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// Log is what a director reads of the state that this member has applied. *fsm.State satisfies it.
type Log interface {
	lease.Log
	Fence(node string) (fsm.FenceRecord, bool)
	Held(node string) []fsm.Proof
}

// Fencing is how this director switches others off that are lost while they hold a group.
type Fencing struct {
	Automatic bool                   // it does; else only an operator can have it done
	Targets   map[string]FenceTarget // the nodes that it has devices for
}

// FenceTarget is a node that can be switched off.
type FenceTarget struct {
	Delay       time.Duration // before it is
	DelayRandom time.Duration // on top of that, at most: another span in every life
}

// fence is what this director does about one node. Everything about it that others must know is in the log; what is here
// belongs to one request of this life.
type fence struct {
	doubt     string      // why the node should be fenced, if it does not answer
	doubtAt   clock.Time  // when it was asked; zero: it was not
	request   uint64      // log index; zero: none yet
	since     clock.Time  // when this life learned of it
	proved    []fsm.Proof // the leases that are over once the node is known to be off
	runAt     clock.Time  // when the device is to be asked; zero: it has been
	outcome   *FenceDone  // until the log has it
	sayAt     clock.Time  // when the outcome is to be proposed, again
	notBefore clock.Time  // no request is proposed earlier
	failures  int         // in a row
	offSince  clock.Time  // when this life learned that the node is off
	returning bool        // it is being switched on
	onAfter   clock.Time  // it is not switched on again earlier
}

// Silence is how long a majority must not have heard of an owner's lease before it counts as lost: two renewals.
func Silence(lease time.Duration) time.Duration { return lease / 2 }

func (m *Machine) silence() time.Duration { return Silence(m.cfg.Lease.Duration) }

// answerSpan is how long a node that is in doubt has to answer.
func (m *Machine) answerSpan() time.Duration {
	return max(m.cfg.Lease.Duration/4, 250*time.Millisecond)
}

// contact is how old the last word of a member may be that counts as present: the lease protocol asks for one that often.
func (m *Machine) contact() time.Duration { return m.node.PingEvery() * 5 / 2 }

// longestFenceRest bounds the pause after failures.
const longestFenceRest = time.Minute

// target notes the nodes that the configuration has fence devices for. What is under way with others goes on.
func (m *Machine) target(f Fencing) {
	m.cfg.Fencing = f
	for node := range f.Targets {
		if m.fences[node] == nil {
			m.fences[node] = &fence{}
		}
	}
}

// answers tells whether a node has been heard within a span.
func (m *Machine) answers(now clock.Time, node string, within time.Duration) bool {
	at := m.node.Heard(node)
	return !at.IsZero() && now.Sub(at) < within
}

// mine tells whether a request is one of this life.
func (m *Machine) mine(r fsm.FenceRecord) bool {
	return r.By == m.cfg.Node && lease.Life(r.Life) == m.cfg.Lease.Life
}

// suspect doubts the owner that stands in the way of a claim, if a majority has not heard of its lease for long: it is asked
// whether it is there. Whoever answers is never fenced, and neither is a node in maintenance.
func (m *Machine) suspect(now clock.Time, g *group, r lease.ClaimRefused) {
	node := r.Holder.Node()
	_, target := m.cfg.Fencing.Targets[node]
	if !m.cfg.Fencing.Automatic || !target || node == m.cfg.Node || g.asked != lease.MasterDown || r.Silent < m.silence() || m.log.InMaintenance(node) {
		return
	}
	f := m.fences[node]
	if !f.doubtAt.IsZero() || now < f.notBefore {
		return
	}
	f.doubtAt = now
	f.doubt = fmt.Sprintf("it held %s, and no majority has heard of it for %v", g.name, r.Silent.Round(time.Millisecond))
	m.apply(now, m.node.Ask(now, node))
}

// ask requests to fence a node that was in doubt and has not answered, if it still holds anything: its leases may be proved to
// be over by now, and it may be about to come back.
func (m *Machine) ask(now clock.Time, node string, f *fence) {
	if f.doubtAt.IsZero() || now < f.doubtAt.Add(m.answerSpan()) {
		return
	}
	asked := f.doubtAt
	f.doubtAt = 0
	if m.node.Heard(node) >= asked || len(m.log.Held(node)) == 0 {
		return
	}
	record, _ := m.log.Fence(node)
	request := fsm.Fence{Node: node, Stage: fsm.FenceRequested, By: m.cfg.Node, Life: uint64(m.cfg.Lease.Life), Reason: f.doubt}
	if record.Open() {
		if m.mine(record) || record.By != m.cfg.Node && m.answers(now, record.By, m.contact()) {
			return // it is under way
		}
		request.Request = record.Index // of somebody who is lost as well
	}
	f.notBefore = now.Add(m.cfg.Lease.Duration)
	m.proposeFence(request)
}

func (m *Machine) proposeFence(f fsm.Fence) { m.do(Submit{Command: fsm.Command{Fence: &f}}) }

// end proposes how a request has ended.
func (m *Machine) end(record fsm.FenceRecord, stage fsm.Stage, with fsm.Fence) {
	with.Node, with.Stage, with.By, with.Life, with.Request = record.Node, stage, record.By, record.Life, record.Index
	m.proposeFence(with)
}

// follow does what the log and the time ask for: it begins what was requested, tells how it ended, and switches on again
// what has come back.
func (m *Machine) follow(now clock.Time) {
	if !m.gated() {
		return
	}
	for _, node := range slices.Sorted(maps.Keys(m.fences)) {
		m.ask(now, node, m.fences[node])
		if record, known := m.log.Fence(node); known && node != m.cfg.Node {
			m.followOne(now, m.fences[node], record)
		}
	}
	if record, _ := m.log.Fence(m.cfg.Node); record.Open() && !m.answers(now, record.By, 2*m.contact()) && m.node.Present(now, m.contact()) {
		if now >= m.withdrawAt {
			m.withdrawAt = now.Add(m.contact())
			m.end(record, fsm.FenceWithdrawn, fsm.Fence{Reason: "it answers, and who wanted to fence it does not"})
		}
	}
}

func (m *Machine) followOne(now clock.Time, f *fence, record fsm.FenceRecord) {
	if f.request != record.Index {
		*f = fence{doubt: f.doubt, doubtAt: f.doubtAt, notBefore: f.notBefore, failures: f.failures, request: record.Index, since: now}
		if record.Open() && m.mine(record) {
			f.runAt = now
			if record.Person == "" {
				f.runAt = now.Add(m.delay(record.Node))
			}
		}
	}
	switch {
	case !record.Open():
		m.ended(now, f, record)
	case !m.mine(record):
	case f.outcome != nil:
		m.tell(now, f, record)
	case f.runAt.IsZero() || now < f.runAt: // at work, or not yet
	case record.Person == "" && m.node.Heard(record.Node) > f.since:
		f.runAt = now.Add(m.cfg.Lease.Duration)
		m.end(record, fsm.FenceWithdrawn, fsm.Fence{Reason: "it answers"})
	case !m.node.Present(now, m.contact()): // with a majority, or not at all
		f.runAt = now.Add(m.cfg.Lease.Duration)
	default:
		f.runAt, f.proved = 0, m.log.Held(record.Node)
		m.do(SwitchOff{Node: record.Node, Request: record.Index})
	}
}

// delay is how long a fence of a node waits: time in which the node may turn out to be alive, or fence this one.
func (m *Machine) delay(node string) time.Duration {
	t := m.cfg.Fencing.Targets[node]
	if t.DelayRandom <= 0 {
		return t.Delay
	}
	return t.Delay + time.Duration(uint64(m.cfg.Lease.Life)%uint64(t.DelayRandom))
}

// ended takes in the end of a request.
func (m *Machine) ended(now clock.Time, f *fence, record fsm.FenceRecord) {
	f.outcome, f.runAt = nil, 0
	switch record.Stage {
	case fsm.FenceConfirmed:
		if f.offSince.IsZero() {
			f.offSince, f.failures = now, 0
		}
		back := m.node.Heard(record.Node)
		if record.By == m.cfg.Node && record.Life != 0 && !f.returning && back > f.offSince.Add(m.contact()) && now >= f.onAfter {
			f.returning = true
			m.do(SwitchOn{Node: record.Node, Request: record.Index})
		}
	case fsm.FenceFailed, fsm.FenceWithdrawn:
		f.offSince = 0
	}
}

// switchedOff takes in what a device has done. Nothing but its word that the node is off counts.
func (m *Machine) switchedOff(now clock.Time, e FenceDone) {
	f := m.fences[e.Node]
	record, _ := m.log.Fence(e.Node)
	if f == nil || f.request != e.Request || record.Index != e.Request || !record.Open() {
		return
	}
	f.outcome = &e
	if e.Failed != "" {
		f.failures = min(f.failures+1, 16)
		f.notBefore = now.Add(min(time.Second<<f.failures, longestFenceRest))
	}
	if m.cfg.Broken.FenceCoversLater {
		f.proved = m.log.Held(e.Node)
	}
	m.tell(now, f, record)
}

// tell proposes an outcome, again and again until the log has it.
func (m *Machine) tell(now clock.Time, f *fence, record fsm.FenceRecord) {
	if now < f.sayAt {
		return
	}
	f.sayAt = now.Add(m.cfg.Lease.Duration)
	if f.outcome.Failed != "" && !m.cfg.Broken.BelieveAnyFence {
		m.end(record, fsm.FenceFailed, fsm.Fence{Reason: f.outcome.Failed})
		return
	}
	m.end(record, fsm.FenceConfirmed, fsm.Fence{Method: f.outcome.Method, Proved: f.proved})
}

// switchedOn takes in what came of SwitchOn.
func (m *Machine) switchedOn(now clock.Time, e FenceDone) {
	f := m.fences[e.Node]
	record, _ := m.log.Fence(e.Node)
	if f == nil || f.request != e.Request || record.Index != e.Request || record.Stage != fsm.FenceConfirmed {
		return
	}
	f.returning, f.onAfter = false, now.Add(longestFenceRest) // should the log refuse it, or the device
	if e.Failed != "" {
		m.do(Journal{Severity: Warn, Kind: "fence", Text: fmt.Sprintf("%s is back, and could not be switched on: %s", e.Node, e.Failed)})
		return
	}
	m.end(record, fsm.FenceReturned, fsm.Fence{})
}

// fenceDeadline is when follow has something to do.
func (m *Machine) fenceDeadline() (at clock.Time) {
	for _, f := range m.fences {
		at = clock.Earliest(at, f.runAt)
		if !f.doubtAt.IsZero() {
			at = clock.Earliest(at, f.doubtAt.Add(m.answerSpan()))
		}
		if f.outcome != nil {
			at = clock.Earliest(at, f.sayAt)
		}
	}
	return at
}
