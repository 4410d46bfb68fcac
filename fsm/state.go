package fsm

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
)

// RequestsKept is how many request ids a State remembers.
const RequestsKept = 1024

// State is the replicated state. Make one with New.
type State struct {
	applied     uint64
	clusterID   string
	former      []string // cluster ids before it, the oldest first
	forced      *Forced  // the newest time
	groups      map[string]*Group
	maintenance map[string]Mark
	fences      map[string]FenceRecord
	balancer    balancer

	journal  ring[Event]
	requests ring[request]
	results  map[string]Result // of the ids in requests
	digest   uint64            // over all events and requests that ever were, so that Hash needs not read the rings
}

// Group is what the log says about an ownership group.
type Group struct {
	Name      string `json:"name"`
	Grant     Grant  `json:"grant"` // the newest
	GrantedAt Wall   `json:"granted_at,omitempty"`
	GrantedBy uint64 `json:"granted_by"` // log index

	Released      uint64 `json:"released,omitempty"` // newest epoch released; never above that of Grant
	ReleasedBy    Member `json:"released_by,omitempty"`
	ReleasedLife  uint64 `json:"released_life,omitempty"` // the process life that was granted it
	ReleasedAt    Wall   `json:"released_at,omitempty"`
	ReleaseReason string `json:"release_reason,omitempty"`

	Transfer *Transfer `json:"transfer,omitempty"` // waits for the owner's release
}

// Held tells whether the newest grant has not been released. It says nothing about whether its lease still runs.
func (g Group) Held() bool { return g.Released < g.Grant.Epoch }

// Mark says that a node is in maintenance, and since when.
type Mark struct {
	Maintenance
	Since Wall `json:"since,omitempty"`
}

// Result tells what became of a command. OK and an empty Refused say the same.
type Result struct {
	OK      bool   `json:"ok,omitempty"`
	Refused string `json:"refused,omitempty"` // why the command changed nothing
	Epoch   uint64 `json:"epoch,omitempty"`   // granted or, without a successor, released
	Version uint64 `json:"version,omitempty"` // of the virtual services that were changed
}

type request struct {
	ID     string `json:"id"`
	Result Result `json:"result"`
}

// New returns the state before the first command.
func New() *State {
	return &State{
		groups: map[string]*Group{}, maintenance: map[string]Mark{}, fences: map[string]FenceRecord{}, results: map[string]Result{},
		balancer: balancer{services: map[string]*Service{}},
		journal:  ring[Event]{size: JournalSize}, requests: ring[request]{size: RequestsKept},
	}
}

// Apply changes the state by the command at index in the log. A command that its rules refuse is not an error: the
// Result says so, on every replica alike. An error means that this program cannot know what the other replicas do with
// the command, or that the log goes backwards: the node must stop.
func (s *State) Apply(index uint64, c Command) (Result, error) {
	if index <= s.applied {
		return Result{}, fmt.Errorf("apply log entry %d: entry %d is applied already", index, s.applied)
	}
	if err := c.Validate(); err != nil {
		return Result{}, fmt.Errorf("apply log entry %d: %w", index, err)
	}
	s.applied = index
	if result, again := s.results[c.ID]; again && c.ID != "" {
		return result, nil
	}
	var result Result
	switch c.Kind() {
	case KindFound:
		result = s.found(c)
	case KindForce:
		result = s.force(c)
	case KindGrant:
		result = s.grant(c)
	case KindTransfer:
		result = s.transfer(c)
	case KindRelease:
		result = s.release(c)
	case KindMaintenance:
		result = s.setMaintenance(c)
	case KindNote:
		result = s.note(c)
	case KindFence:
		result = s.fence(c)
	case KindSeed:
		result = s.seed(c)
	case KindBalance:
		result = s.balance(c)
	case KindVerdicts:
		result = s.verdicts(c)
	}
	result.OK = result.Refused == ""
	s.remember(c.ID, result)
	return result, nil
}

func refused(format string, args ...any) Result { return Result{Refused: fmt.Sprintf(format, args...)} }

func (s *State) found(c Command) Result {
	if s.clusterID != "" {
		return refused("the cluster has been founded as %s", s.clusterID)
	}
	s.clusterID = c.Found.ClusterID
	s.record(c, Event{Severity: Info, Node: c.Node, Text: fmt.Sprintf("the cluster is founded as %s", s.clusterID)})
	return Result{}
}

// Forced is what the log says of the newest time that a majority was done without.
type Forced struct {
	Force
	Node string `json:"node"` // that was made the only voter
	At   Wall   `json:"at,omitempty"`
}

func (s *State) force(c Command) Result {
	f := *c.Force
	if s.clusterID == f.ClusterID {
		return refused("the cluster is %s already", f.ClusterID)
	}
	for _, id := range []string{s.clusterID, f.Former} { // they differ if the log does not have all that was forced before
		if id != "" && !slices.Contains(s.former, id) {
			s.former = append(s.former, id)
		}
	}
	s.clusterID, s.forced = f.ClusterID, &Forced{Force: f, Node: c.Node, At: c.Time}
	text := fmt.Sprintf("%s is the only voter: %s declared dead; the cluster goes on as %s", c.Node, strings.Join(f.Dead, ", "), f.ClusterID)
	if f.Method != "" {
		text += " (" + f.Method + ")"
	}
	s.record(c, Event{Severity: Error, Node: c.Node, Text: text, Reason: f.Reason, By: f.Person})
	return Result{}
}

func (s *State) grant(c Command) Result {
	g := *c.Grant
	if epoch := s.Epoch(g.Group); g.Epoch <= epoch {
		return refused("epoch %d of %s is not newer than %d", g.Epoch, g.Group, epoch)
	}
	if s.InMaintenance(g.Member.Node()) {
		return refused("%s is in maintenance", g.Member.Node())
	}
	if last := s.groups[g.Group]; g.Proved && last != nil && last.Held() && last.Grant.Member.Node() != g.Member.Node() {
		return refused("%s holds %s, and is not proved to be off", last.Grant.Member.Node(), g.Group)
	}
	s.setOwner(c, g)
	s.record(c, Event{Severity: Info, Node: g.Member.Node(), Group: g.Group, Epoch: g.Epoch,
		Text: fmt.Sprintf("%s may own %s", g.Member.Node(), g.Group), Reason: g.Reason})
	return Result{Epoch: g.Epoch}
}

func (s *State) setOwner(c Command, grant Grant) {
	group := s.groups[grant.Group]
	if group == nil {
		group = &Group{Name: grant.Group}
		s.groups[grant.Group] = group
	}
	group.Grant, group.GrantedAt, group.GrantedBy, group.Transfer = grant, c.Time, s.applied, nil
}

func (s *State) transfer(c Command) Result {
	t := *c.Transfer
	group := s.groups[t.Group]
	switch {
	case group == nil:
		return refused("nobody owns %s", t.Group)
	case t.FromEpoch != group.Grant.Epoch:
		return refused("the epoch of %s is %d, not %d", t.Group, group.Grant.Epoch, t.FromEpoch)
	case !group.Held():
		return refused("%s has released %s", group.Grant.Member.Node(), t.Group)
	case t.To == group.Grant.Member:
		return refused("%s owns %s already", t.To.Node(), t.Group)
	case s.InMaintenance(t.To.Node()):
		return refused("%s is in maintenance", t.To.Node())
	}
	group.Transfer = &t
	owner := group.Grant.Member.Node()
	s.record(c, Event{Severity: Info, Node: owner, Group: t.Group, Epoch: t.FromEpoch,
		Text: fmt.Sprintf("%s is asked to hand %s to %s", owner, t.Group, t.To.Node()), Reason: t.Reason})
	return Result{Epoch: t.FromEpoch}
}

func (s *State) release(c Command) Result {
	r := *c.Release
	group := s.groups[r.Group]
	switch {
	case group == nil:
		return refused("nobody owns %s", r.Group)
	case r.Epoch != group.Grant.Epoch:
		return refused("the epoch of %s is %d, not %d", r.Group, group.Grant.Epoch, r.Epoch)
	case r.Member != group.Grant.Member:
		return refused("%s owns %s, not %s", group.Grant.Member, r.Group, r.Member)
	case r.Life != group.Grant.Life:
		return refused("epoch %d of %s was granted to life %x of %s, not to %x", r.Epoch, r.Group, group.Grant.Life,
			r.Member, r.Life)
	case !group.Held():
		return refused("%s has released %s before", r.Member.Node(), r.Group)
	}
	owner := r.Member.Node()
	group.Released, group.ReleasedBy, group.ReleasedLife = r.Epoch, r.Member, r.Life
	group.ReleasedAt, group.ReleaseReason, group.Transfer = c.Time, r.Reason, nil
	s.record(c, Event{Kind: string(KindRelease), Severity: Info, Node: owner, Group: r.Group, Epoch: r.Epoch,
		Text: fmt.Sprintf("%s has given %s up", owner, r.Group), Reason: r.Reason})
	if r.Successor == "" {
		return Result{Epoch: r.Epoch}
	}
	// The successor is granted even if it has gone into maintenance meanwhile: it then resigns, which is another
	// handover; taking its grant away here would leave the group without an owner.
	next := Grant{Group: r.Group, Member: r.Successor, Epoch: r.Epoch + 1, ClaimID: r.SuccessorClaimID,
		Life: r.SuccessorLife, Placed: r.Placed, Reason: r.Reason}
	s.setOwner(c, next)
	c.ID = second(c.ID)
	s.record(c, Event{Kind: string(KindGrant), Severity: Info, Node: next.Member.Node(), Group: next.Group,
		Epoch: next.Epoch, Text: fmt.Sprintf("%s may own %s, handed over by %s", next.Member.Node(), next.Group, owner),
		Reason: next.Reason})
	return Result{Epoch: next.Epoch}
}

// second returns the id of the second event of an entry.
func second(id string) string {
	if id == "" {
		return ""
	}
	return id + "/2"
}

func (s *State) setMaintenance(c Command) Result {
	m := *c.Maintenance
	old, marked := s.maintenance[m.Node]
	if !m.On {
		if !marked {
			return refused("%s is not in maintenance", m.Node)
		}
		if m.Until != 0 && m.Until != old.Until {
			return refused("the maintenance of %s that ends at %s has been replaced", m.Node, m.Until)
		}
		delete(s.maintenance, m.Node)
		s.record(c, Event{Severity: Info, Node: m.Node, Text: m.Node + " is back from maintenance", Reason: m.Reason, By: m.By})
		return Result{}
	}
	mark := Mark{Maintenance: m, Since: c.Time}
	if marked {
		mark.Since = old.Since
	}
	s.maintenance[m.Node] = mark
	text := m.Node + " is in maintenance"
	if m.Until != 0 {
		text += " until " + m.Until.String()
	}
	s.record(c, Event{Severity: Info, Node: m.Node, Text: text, Reason: m.Reason, By: m.By})
	return Result{}
}

func (s *State) note(c Command) Result {
	n := *c.Note
	s.record(c, Event{Kind: n.Kind, Severity: n.Severity, Node: c.Node, Group: n.Group, Epoch: n.Epoch,
		Text: n.Text, Reason: n.Reason, By: n.By})
	return Result{}
}

// record puts an event of c into the journal.
func (s *State) record(c Command, e Event) {
	e.Index, e.ID, e.Time = s.applied, c.ID, c.Time
	if e.Kind == "" {
		e.Kind = string(c.Kind())
	}
	s.journal.add(e)
	s.mix(e)
}

// remember keeps the outcome of a request.
func (s *State) remember(id string, result Result) {
	if id == "" {
		return
	}
	r := request{ID: id, Result: result}
	s.results[id] = result
	if oldest, removed := s.requests.add(r); removed {
		delete(s.results, oldest.ID)
	}
	s.mix(r)
}

// mix adds v to the running digest.
func (s *State) mix(v any) { s.digest = hash(s.digest, v) }

// hash continues a 64-bit FNV-1a digest with the encoding of plain data.
func hash(seed uint64, v any) uint64 {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("fsm: plain data cannot be encoded: %v", err))
	}
	h := fnv.New64a()
	_ = binary.Write(h, binary.BigEndian, seed) // a hash takes everything
	_, _ = h.Write(b)
	return h.Sum64()
}

// Hash returns a digest of the whole state. Replicas that have applied the same log up to the same index return the
// same; it finds accidents, not attacks.
func (s *State) Hash() uint64 {
	return hash(s.digest, struct {
		Applied     uint64
		ClusterID   string
		Groups      []Group
		Maintenance []Mark
		Changed     uint64   `json:",omitempty"` // absent as long as there are no virtual services
		Digest      uint64   `json:",omitempty"`
		Seeding     *seeding `json:",omitempty"`

		Fences []FenceRecord `json:",omitempty"`

		Former []string `json:",omitempty"`
		Forced *Forced  `json:",omitempty"`
	}{s.applied, s.clusterID, s.Groups(), s.Maintenances(), s.balancer.changed, s.balancer.digest, s.balancer.seeding, s.Fences(),
		s.former, s.forced})
}

// Applied returns the index of the last command applied, or restored.
func (s *State) Applied() uint64 { return s.applied }

// ClusterID returns the identity that the cluster was founded with; empty before.
func (s *State) ClusterID() string { return s.clusterID }

// Superseded tells whether the cluster was known by another id before somebody was made its only voter.
func (s *State) Superseded(clusterID string) bool { return slices.Contains(s.former, clusterID) }

// Epoch returns the newest epoch granted for a group, zero if it never was.
func (s *State) Epoch(group string) uint64 {
	if g := s.groups[group]; g != nil {
		return g.Grant.Epoch
	}
	return 0
}

// Released returns the newest epoch of a group that its owner has released.
func (s *State) Released(group string) uint64 {
	if g := s.groups[group]; g != nil {
		return g.Released
	}
	return 0
}

// ReleasedBy returns whose the newest released epoch of a group was: the member and its process life.
func (s *State) ReleasedBy(group string) (member Member, life, epoch uint64) {
	if g := s.groups[group]; g != nil {
		return g.ReleasedBy, g.ReleasedLife, g.Released
	}
	return "", 0, 0
}

// Grant returns the newest grant of a group.
func (s *State) Grant(group string) (Grant, bool) {
	if g := s.groups[group]; g != nil {
		return g.Grant, true
	}
	return Grant{}, false
}

// Owner returns whom the newest grant of a group names. It holds the group as far as the log knows, unless held is
// false because it has released it or nobody was ever granted it.
func (s *State) Owner(group string) (owner Member, epoch uint64, held bool) {
	if g := s.groups[group]; g != nil {
		return g.Grant.Member, g.Grant.Epoch, g.Held()
	}
	return "", 0, false
}

// Placed tells whether the newest grant of a group follows an operator's wish.
func (s *State) Placed(group string) bool {
	g := s.groups[group]
	return g != nil && g.Grant.Placed
}

// PendingTransfer returns the handover that a group's owner is asked for.
func (s *State) PendingTransfer(group string) (Transfer, bool) {
	if g := s.groups[group]; g != nil && g.Transfer != nil {
		return *g.Transfer, true
	}
	return Transfer{}, false
}

// Groups returns copies of all groups that were ever granted, by name.
func (s *State) Groups() []Group {
	groups := make([]Group, 0, len(s.groups))
	for _, known := range inOrder(s.groups) {
		g := *known
		if g.Transfer != nil {
			t := *g.Transfer
			g.Transfer = &t
		}
		groups = append(groups, g)
	}
	return groups
}

// InMaintenance tells whether a node is marked.
func (s *State) InMaintenance(node string) bool {
	_, marked := s.maintenance[node]
	return marked
}

// Maintenance returns the mark of a node.
func (s *State) Maintenance(node string) (Mark, bool) {
	m, marked := s.maintenance[node]
	return m, marked
}

// Maintenances returns all marks, by node.
func (s *State) Maintenances() []Mark { return inOrder(s.maintenance) }

// inOrder returns the values of m in the order of their keys.
func inOrder[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[key])
	}
	return values
}

// Journal returns the kept events of log entries after since, the oldest first.
func (s *State) Journal(since uint64) []Event {
	events := s.journal.all()
	from, _ := slices.BinarySearchFunc(events, since, func(e Event, since uint64) int {
		if e.Index <= since {
			return -1
		}
		return 1
	})
	return events[from:]
}

// View is a copy of a State for display.
type View struct {
	Applied     uint64
	ClusterID   string
	Hash        uint64
	Groups      []Group       // by name
	Maintenance []Mark        // by node
	Fences      []FenceRecord // by node
	Forced      *Forced       // nil: never
}

// View returns a copy of the state, without the journal.
func (s *State) View() View {
	return View{Applied: s.applied, ClusterID: s.clusterID, Hash: s.Hash(), Groups: s.Groups(),
		Maintenance: s.Maintenances(), Fences: s.Fences(), Forced: s.forced}
}
