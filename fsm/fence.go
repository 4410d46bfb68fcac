package fsm

import (
	"fmt"
	"strings"
)

// Stage says how far the fencing of a node has come.
type Stage string

// The stages. From requested on, the requester alone acts; every other stage is an end.
const (
	FenceRequested Stage = "requested" // somebody is about to switch the node off, or at it
	FenceConfirmed Stage = "confirmed" // it was off, after it was requested
	FenceFailed    Stage = "failed"    // it is not known to have been off
	FenceWithdrawn Stage = "withdrawn" // it answers again, and was left alone
	FenceReturned  Stage = "returned"  // after confirmed: it answers, and what cut it off has been switched on again
)

// Fence says what becomes of a node that is to be switched off. A request commits only where there is a majority, so that
// no node without one ever fences another; and who is to be fenced itself cannot ask for it, so that no two nodes fence each
// other.
type Fence struct {
	Node  string `json:"node"`
	Stage Stage  `json:"stage"`

	// By is the node that acts and Life its process life; both stand in every stage, so that the end of a request is that of
	// this one. An operator's word has no life.
	By   string `json:"by"`
	Life uint64 `json:"life,omitempty"`

	// Request is, in a request, the log index of an open one that it takes over, or zero; in every other stage that of the
	// request which it ends. An operator's word ends none.
	Request uint64 `json:"request,omitempty"`

	// Proved are the leases that the node may have held when it was switched off, as the requester knew them before. Those
	// process lives are over for good; nothing follows for a later one.
	Proved []Proof `json:"proved,omitempty"`

	Method string `json:"method,omitempty"` // how it was switched off
	Reason string `json:"reason,omitempty"` // of the request, or of the failure
	Person string `json:"person,omitempty"` // who asked for it, or says that it is off
}

// Proof names one lease that is void.
type Proof struct {
	Group  string `json:"group"`
	Member Member `json:"member"`
	Life   uint64 `json:"life,omitempty"`
	Epoch  uint64 `json:"epoch"`
}

// mostProofs bounds a command.
const mostProofs = 4096

// FenceRecord is the newest that the log says of the fencing of a node.
type FenceRecord struct {
	Fence
	Index uint64 `json:"index"` // of the request; of an operator's word, its own
	Since Wall   `json:"since,omitempty"`
	At    Wall   `json:"at,omitempty"` // of the newest stage
}

// Open tells whether somebody is about to switch the node off.
func (r FenceRecord) Open() bool { return r.Stage == FenceRequested }

// Held returns the leases that the members of a node hold as far as the log knows: what a fence of the node that is begun
// after this would prove to be void.
func (s *State) Held(node string) (all []Proof) {
	for _, g := range inOrder(s.groups) {
		if g.Held() && g.Grant.Member.Node() == node {
			all = append(all, Proof{Group: g.Name, Member: g.Grant.Member, Life: g.Grant.Life, Epoch: g.Grant.Epoch})
		}
	}
	return all
}

// Fence returns the newest that the log says of the fencing of a node.
func (s *State) Fence(node string) (FenceRecord, bool) {
	r, ok := s.fences[node]
	return r, ok
}

// Fences returns the newest of every node that was ever fenced, by node.
func (s *State) Fences() []FenceRecord { return inOrder(s.fences) }

func (s *State) fence(c Command) Result {
	f := *c.Fence
	if f.Stage == FenceRequested {
		return s.requestFence(c, f)
	}
	record, known := s.fences[f.Node]
	word := f.Stage == FenceConfirmed && f.Person != "" && f.Request == 0
	switch {
	case word:
		record = FenceRecord{Index: s.applied, Since: c.Time}
	case !known || record.Index != f.Request || record.By != f.By || record.Life != f.Life:
		return refused("that is not the newest request to fence %s", f.Node)
	case f.Stage == FenceReturned && record.Stage != FenceConfirmed, f.Stage != FenceReturned && !record.Open():
		return refused("the fencing of %s is %s", f.Node, record.Stage)
	}
	if f.Person == "" {
		f.Person = record.Person
	}
	if f.Reason == "" {
		f.Reason = record.Reason
	}
	proved := f.Proved
	record.Fence, record.At = f, c.Time
	record.Proved = nil
	s.fences[f.Node] = record
	e := Event{Kind: string(KindFence), Severity: Warn, Node: f.Node, Reason: f.Reason, By: f.Person}
	switch f.Stage {
	case FenceConfirmed:
		e.Text = fmt.Sprintf("%s has been switched off by %s with %s", f.Node, f.By, f.Method)
		if word {
			e.Text = fmt.Sprintf("%s says that %s is off", f.Person, f.Node)
		}
	case FenceFailed:
		e.Severity, e.Text = Error, fmt.Sprintf("%s could not switch %s off", f.By, f.Node)
	case FenceWithdrawn:
		e.Text = fmt.Sprintf("%s is left alone", f.Node)
	case FenceReturned:
		e.Severity, e.Text = Info, fmt.Sprintf("%s is back", f.Node)
	}
	s.record(c, e)
	if f.Stage == FenceConfirmed {
		s.prove(c, proved)
	}
	return Result{Epoch: record.Index}
}

func (s *State) requestFence(c Command, f Fence) Result {
	switch open := s.fences[f.Node]; {
	case f.Node == f.By:
		return refused("%s does not fence itself", f.Node)
	case s.fences[f.By].Open():
		return refused("%s is about to be fenced itself, by %s", f.By, s.fences[f.By].By)
	case open.Open() && open.Index != f.Request:
		return refused("%s is about to fence %s", open.By, f.Node)
	case s.InMaintenance(f.Node) && f.Person == "":
		return refused("%s is in maintenance", f.Node)
	}
	f.Request, f.Proved = 0, nil
	s.fences[f.Node] = FenceRecord{Fence: f, Index: s.applied, Since: c.Time, At: c.Time}
	s.record(c, Event{Kind: string(KindFence), Severity: Warn, Node: f.Node,
		Text: fmt.Sprintf("%s is about to switch %s off", f.By, f.Node), Reason: f.Reason, By: f.Person})
	return Result{Epoch: s.applied}
}

// prove marks leases as over. Only the very grant that was proved is touched: a node that has come back meanwhile has
// another one.
func (s *State) prove(c Command, proved []Proof) {
	var groups []string
	for _, p := range proved {
		g := s.groups[p.Group]
		if g == nil || !g.Held() || g.Grant.Member != p.Member || g.Grant.Life != p.Life || g.Grant.Epoch != p.Epoch {
			continue
		}
		g.Released, g.ReleasedBy, g.ReleasedLife = p.Epoch, p.Member, p.Life
		g.ReleasedAt, g.ReleaseReason, g.Transfer = c.Time, p.Member.Node()+" is off", nil
		groups = append(groups, p.Group)
	}
	if len(groups) > 0 {
		c.ID = second(c.ID)
		s.record(c, Event{Kind: string(KindRelease), Severity: Info, Node: c.Fence.Node,
			Text: clipped(fmt.Sprintf("%s does not own %s any more", c.Fence.Node, strings.Join(groups, ", ")), longestText), Reason: "it is off"})
	}
}
