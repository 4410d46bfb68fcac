package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/eventlog"
)

// Methods that members call on each other.
const (
	methodReport = "report"
	methodView   = "view"
	methodMove   = "move"
)

const (
	reportWait  = 500 * time.Millisecond // for another member's report
	viewWait    = 700 * time.Millisecond // for the leader's confirmation
	observeWait = 10 * time.Millisecond  // between two looks at a move
	askLeader   = 250 * time.Millisecond // between two questions to the leader meanwhile
	settleWait  = time.Second            // for a committed change to show in this member's own state
	expireEvery = 30 * time.Second       // between two looks for maintenance whose time is over: the wall clock may have been set
	expireAgain = time.Second            // after its end could not be committed
	expireWait  = 5 * time.Second        // for its end to be committed; else it is tried again
	eventsKept  = 4096
	notesKept   = 64 // journal notes that wait to be committed

	// refusalShown is how long a refused connection counts as a finding. Who is refused tries again every second.
	refusalShown = 10 * time.Second
)

// Mover asks the lease protocol to move a group: the goroutine that owns the lease.Node answers. It only works on the
// leader.
type Mover func(ctx context.Context, group string, to cluster.MemberID, reason string) error

// Service answers the control socket of a member, and the other members' questions. Its methods are safe for concurrent
// use. Together with Report it is a control.Backend.
type Service struct {
	node     string
	config   cluster.Config
	cluster  *cluster.Cluster
	log      *slog.Logger
	events   *eventlog.Log
	report   func(context.Context) (api.NodeReport, error)
	move     Mover
	reload   func(context.Context) (api.ReloadOutcome, error)
	balancer Balancer // nil on a witness
	fencer   Fencer   // nil on a witness
	notes    chan fsm.Command
	changed  chan struct{} // the log has changed, or its leader
	quorum   bool          // as last noted; the loop's

	mu        sync.Mutex
	journaled uint64 // newest log index that events hold
}

// NewService makes a service and registers its methods with the cluster, so it comes before cluster.Run. report returns
// what this node knows for itself, reload makes it read its configuration again.
func NewService(cfg cluster.Config, c *cluster.Cluster, report func(context.Context) (api.NodeReport, error),
	move Mover, reload func(context.Context) (api.ReloadOutcome, error), b Balancer) *Service {
	node := cfg.Node
	s := &Service{node: node, config: cfg, cluster: c, log: cfg.Logger, events: eventlog.New(node, eventsKept), report: report, move: move,
		reload: reload, balancer: b, notes: make(chan fsm.Command, notesKept), changed: make(chan struct{}, 1)}
	c.Handle(methodReport, func(ctx context.Context, _ string, _ json.RawMessage) (any, error) { return s.report(ctx) })
	c.Handle(methodView, func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
		if err := c.Verify(ctx); err != nil {
			return nil, err
		}
		v := s.localView()
		v.Consistent = true
		return v, nil
	})
	c.Handle(methodMove, func(ctx context.Context, _ string, req json.RawMessage) (any, error) {
		var m moveCall
		if err := json.Unmarshal(req, &m); err != nil {
			return nil, fmt.Errorf("decode move: %w", err)
		}
		return struct{}{}, s.move(ctx, m.Group, m.To, m.Reason)
	})
	s.handleLVS()
	return s
}

type moveCall struct {
	Group  string
	To     cluster.MemberID
	Reason string
}

// Run commits notes to the journal, and as the leader the end of maintenance, until ctx ends. A note that cannot be
// committed within a minute stays local.
func (s *Service) Run(ctx context.Context) {
	expire := time.NewTimer(0)
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
			expire.Reset(s.expire(ctx, time.Now()))
		case <-expire.C:
			expire.Reset(s.expire(ctx, time.Now()))
		case note := <-s.notes:
			submit, cancel := context.WithTimeout(ctx, time.Minute)
			if _, err := s.cluster.Submit(submit, note); err != nil {
				s.log.Debug("event not journaled", "text", note.Note.Text, "err", err)
			}
			cancel()
		}
	}
}

// Note puts an event into the local list at once, and into the cluster's journal when it can. It never blocks.
func (s *Service) Note(e fsm.Note) {
	command := fsm.Command{ID: requestID(s.node), Time: fsm.WallOf(time.Now()), Node: s.node, Note: &e}.Clip()
	n := command.Note
	s.events.Append(api.Event{ID: command.ID, Time: api.At(time.Now()), Severity: api.Severity(n.Severity), Kind: n.Kind,
		Node: s.node, Group: n.Group, Epoch: n.Epoch, Text: n.Text, Reason: n.Reason, By: n.By})
	select {
	case s.notes <- command:
	default:
		s.log.Warn("event not journaled: too many wait", "text", n.Text)
	}
}

// Observe takes into the local list of events what the cluster says. The loop calls it with every event.
func (s *Service) Observe(ev cluster.Event) {
	switch ev := ev.(type) {
	case cluster.Applied:
		s.applied()
		s.nudge()
	case cluster.Leadership:
		s.nudge()
		text := "nobody leads the log"
		if ev.Leader != "" {
			text = fmt.Sprintf("%s leads the log in term %d", ev.Leader.Node(), ev.Term)
		}
		s.local(api.EventLeader, api.Info, ev.Leader.Node(), text)
	case cluster.PeerChanged:
		if ev.Reachable {
			s.local(api.EventMember, api.Info, ev.Name, ev.Name+" answers")
		} else {
			s.local(api.EventMember, api.Warn, ev.Name, ev.Name+" does not answer: "+ev.Reason)
		}
		s.CheckQuorum()
	}
}

// nudge has the end of maintenance looked up: the log has changed, or its leader.
func (s *Service) nudge() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// CheckQuorum notes when a majority ceases to answer this node, or answers again. The loop calls it now and then.
func (s *Service) CheckQuorum() {
	status := s.cluster.Status()
	if status.State != cluster.StateMember || status.Quorum == s.quorum {
		return
	}
	s.quorum = status.Quorum
	text := fmt.Sprintf("%d of %d votes answer", status.Reachable, len(status.Voters.Latest.Members))
	if s.quorum {
		s.local(api.EventQuorum, api.Info, s.node, "a majority answers: "+text)
	} else {
		s.local(api.EventQuorum, api.Error, s.node, "no majority answers, so no lease can be had: "+text)
	}
}

// local keeps an event that only this node has seen.
func (s *Service) local(kind string, severity api.Severity, node, text string) {
	s.events.Append(api.Event{ID: requestID(s.node), Time: api.At(time.Now()), Severity: severity, Kind: kind, Node: node,
		Text: text})
}

// applied takes new journal entries of the replicated state into the local list.
func (s *Service) applied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []fsm.Event
	s.cluster.Read(func(state *fsm.State) { fresh = state.Journal(s.journaled) })
	for _, e := range fresh {
		s.journaled = max(s.journaled, e.Index)
		s.events.Append(api.Event{Index: e.Index, ID: e.ID, Time: wall(e.Time), Severity: api.Severity(e.Severity),
			Kind: e.Kind, Node: e.Node, Group: e.Group, Epoch: e.Epoch, Text: e.Text, Reason: e.Reason, By: e.By})
	}
}

// Reload is part of control.Backend.
func (s *Service) Reload(ctx context.Context) (api.ReloadOutcome, error) { return s.reload(ctx) }

// Report is part of control.Backend.
func (s *Service) Report(ctx context.Context) (api.NodeReport, error) { return s.report(ctx) }

// Events is part of control.Backend.
func (s *Service) Events(_ context.Context, after uint64) (api.EventPage, <-chan struct{}, error) {
	page, more := s.events.Since(after)
	return page, more, nil
}

// Gather is part of control.Backend.
func (s *Service) Gather(ctx context.Context, local bool) (api.Gathered, error) {
	self, err := s.report(ctx)
	if err != nil {
		return api.Gathered{}, err
	}
	status := s.cluster.Status()
	gathered := api.Gathered{At: api.At(time.Now()), Self: self, Peers: make([]api.PeerReport, len(status.Peers))}
	var asked sync.WaitGroup
	for i, p := range status.Peers {
		gathered.Peers[i] = api.PeerReport{Name: p.Name, Role: roleOf(p.Peer), Address: p.Address.String()}
		if local {
			gathered.Peers[i].Error = "not asked"
			continue
		}
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reportWait)
			defer cancel()
			var r api.NodeReport
			if err := s.cluster.Call(ctx, p.Name, methodReport, struct{}{}, &r); err != nil {
				gathered.Peers[i].Error = err.Error()
				return
			}
			gathered.Peers[i].Report = &r
		})
	}
	view := s.localView()
	if !local {
		if confirmed, err := s.confirmedView(ctx); err == nil {
			view = confirmed
		}
	}
	asked.Wait()
	gathered.View = &view
	return gathered, nil
}

// localView is the replicated state as this member has applied it.
func (s *Service) localView() api.View {
	var v fsm.View
	s.cluster.Read(func(state *fsm.State) { v = state.View() })
	status := s.cluster.Status()
	view := api.View{
		Via: s.node, AppliedIndex: v.Applied, Leader: status.Leader.Node(), Term: status.Term,
		Members: []api.Member{}, Groups: []api.GroupRecord{}, Maintenance: []api.Maintenance{},
	}
	if status.Leader != "" {
		view.LeaderSince = api.At(status.LeaderSince)
	}
	peers := map[string]cluster.PeerStatus{}
	for _, p := range status.Peers {
		peers[p.Name] = p
	}
	self := s.config.Self
	for _, id := range status.Voters.Latest.Members {
		p := peers[id.Node()].Peer
		if id.Node() == s.node {
			p = self
		}
		view.Members = append(view.Members, api.Member{ID: string(id), Name: id.Node(), Role: roleOf(p),
			Address: p.Address.String(), Voter: true})
	}
	for _, g := range v.Groups {
		r := api.GroupRecord{Name: g.Name, LastOwner: g.Grant.Member.Node(), Epoch: g.Grant.Epoch, Placed: g.Grant.Placed}
		if g.Held() {
			r.Owner, r.OwnerID, r.Since, r.Reason = r.LastOwner, string(g.Grant.Member), wall(g.GrantedAt), g.Grant.Reason
		} else {
			r.Since, r.Reason = wall(g.ReleasedAt), g.ReleaseReason
		}
		if g.Transfer != nil {
			r.Successor = g.Transfer.To.Node()
		}
		view.Groups = append(view.Groups, r)
	}
	for _, m := range v.Maintenance {
		view.Maintenance = append(view.Maintenance, api.Maintenance{Node: m.Node, Since: wall(m.Since),
			Until: wall(m.Until), By: m.By, Reason: m.Reason})
	}
	if f := v.Forced; f != nil {
		view.Forced = &api.Forced{Node: f.Node, At: wall(f.At), Dead: f.Dead, Method: f.Method, Person: f.Person, Reason: f.Reason}
	}
	for _, f := range v.Fences {
		view.Fences = append(view.Fences, fenceOf(f))
	}
	return view
}

func roleOf(p cluster.Peer) api.Role {
	if p.Witness {
		return api.Witness
	}
	return api.Director
}

func wall(w fsm.Wall) api.Time {
	if w == 0 {
		return api.Time{}
	}
	return api.At(w.Time())
}

// membership is how this member sees its cluster.
func (s *Service) membership(status cluster.Status) *api.Membership {
	cfg := s.config
	m := &api.Membership{
		Name: cfg.Name, ClusterID: status.ClusterID, Leader: status.Leader.Node(), Term: status.Term,
		AppliedIndex: status.AppliedIndex, LeaseSeconds: api.SecondsOf(cfg.Lease), QuorumLoss: "demote",
		Arbitration: "majority", Quorum: status.Quorum, Voters: len(status.Voters.Latest.Members),
		Reachable: status.Reachable, DiskText: status.Disk.Text, Peers: []api.Peer{},
	}
	if status.State != cluster.StateMember {
		m.Founding = status.StateText
	}
	if !status.MajorityAt.IsZero() {
		m.MajorityLastContact = api.At(status.MajorityAt)
	}
	for _, p := range status.Peers {
		peer := api.Peer{Name: p.Name, Role: roleOf(p.Peer), Address: p.Address.String(), Reachable: p.Reachable,
			RTTSeconds: api.SecondsOf(p.RTT), Error: p.Error, Version: p.Version, Gossip: p.Gossip,
			LeaseSeconds: api.SecondsOf(p.Lease), ConfigDiffers: p.ConfigDiff}
		if !p.LastHeard.IsZero() {
			peer.LastHeardSeconds = api.SecondsOf(time.Since(p.LastHeard))
		}
		m.Peers = append(m.Peers, peer)
	}
	return m
}

// findings are what this member's part of the cluster has to complain about.
func (s *Service) findings(status cluster.Status) []api.Finding {
	var all []api.Finding
	for _, r := range status.Refusals {
		if time.Since(r.Last) > refusalShown {
			continue // it does not try any more
		}
		all = append(all, api.Finding{Code: "connection-refused", Severity: api.Warn, Node: s.node,
			Text: fmt.Sprintf("%s (%s): %s", cmpOr(r.Node, "somebody"), r.Address, r.Reason)})
	}
	if !status.Disk.Healthy {
		all = append(all, api.Finding{Code: "disk", Severity: api.Error, Node: s.node, Text: status.Disk.Text,
			Next: "free or replace the disk under the data directory; leases do not need it, changes of ownership do"})
	}
	return all
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// SetMaintenance is part of control.Backend.
func (s *Service) SetMaintenance(ctx context.Context, mark api.Maintenance, on bool) error {
	command := fsm.Command{ID: requestID(s.node), Time: fsm.WallOf(time.Now()), Node: s.node,
		Maintenance: &fsm.Maintenance{Node: mark.Node, On: on, By: mark.By, Reason: mark.Reason}}
	if !mark.Until.IsZero() {
		command.Maintenance.Until = fsm.WallOf(mark.Until.Time)
	}
	result, err := s.cluster.Submit(ctx, command.Clip())
	switch {
	case err != nil:
		return s.explain(err)
	case result.Refused != "":
		return &api.Problem{Kind: api.Refused, What: "maintenance", Why: result.Refused}
	}
	// It is committed. This member's own state shows it soon, unless the disk here does not work.
	settling, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	_ = s.observe(settling, func() bool {
		var marked bool
		s.cluster.Read(func(state *fsm.State) { marked = state.InMaintenance(mark.Node) })
		return marked == on
	})
	return ctx.Err()
}

// expire ends maintenance and drains whose time is over, by the wall clock of this member, if it leads the log. It returns
// when to look again.
func (s *Service) expire(ctx context.Context, now time.Time) (again time.Duration) {
	if s.cluster.Status().Leader != s.cluster.Self() {
		return expireEvery
	}
	return min(s.endMaintenance(ctx, now), s.endDrains(ctx, now))
}

// endMaintenance takes off marks whose time is over, and returns when to look again.
func (s *Service) endMaintenance(ctx context.Context, now time.Time) (again time.Duration) {
	again = expireEvery
	var over []fsm.Mark
	s.cluster.Read(func(state *fsm.State) {
		for _, m := range state.Maintenances() {
			switch left := m.Until.Time().Sub(now); {
			case m.Until == 0:
			case left < 0:
				over = append(over, m)
			default:
				again = min(again, left+time.Millisecond)
			}
		}
	})
	for _, m := range over {
		ctx, cancel := context.WithTimeout(ctx, expireWait)
		command := fsm.Command{ID: requestID(s.node), Time: fsm.WallOf(now), Node: s.node,
			Maintenance: &fsm.Maintenance{Node: m.Node, Until: m.Until, Reason: "its time is over"}}
		if _, err := s.cluster.Submit(ctx, command); err != nil {
			s.log.Warn("cannot end a maintenance", "node", m.Node, "err", err)
			again = expireAgain
		}
		cancel()
	}
	return again
}

// Move is part of control.Backend.
func (s *Service) Move(ctx context.Context, step api.MoveStep, reason string, by api.Caller) (api.MoveOutcome, error) {
	outcome := api.MoveOutcome{Schema: api.Schema, Group: step.Group, From: step.From, To: step.To}
	began := time.Now()
	var before fsm.Grant
	s.cluster.Read(func(state *fsm.State) { before, _ = state.Grant(step.Group) })
	to, err := s.memberOf(step.To)
	if err != nil {
		return outcome, err
	}
	if reason == "" {
		reason = "moved by " + by.User
	} else {
		reason = fmt.Sprintf("moved by %s: %s", by.User, reason)
	}
	move := func() error { return s.cluster.Call(ctx, "", methodMove, moveCall{step.Group, to, reason}, nil) }
	if err := move(); err != nil {
		return outcome, s.explain(err)
	}
	if outcome.Epoch, err = s.awaitGrant(ctx, step.Group, to, before.Epoch, move); err != nil {
		return outcome, err
	}
	outcome.Phases = append(outcome.Phases, api.Phase{
		Text: fmt.Sprintf("lease granted to %s (epoch %d)", step.To, outcome.Epoch), Seconds: api.SecondsOf(time.Since(began))})
	if err := s.observe(ctx, func() bool { return s.ownedBy(ctx, step.To, step.Group) }); err != nil {
		return outcome, err
	}
	outcome.Phases = append(outcome.Phases, api.Phase{
		Text: "answers from " + step.To, Seconds: api.SecondsOf(time.Since(began))})
	return outcome, nil
}

// awaitGrant waits until the log has granted a group to a member after an epoch, and returns the new one. It looks at this
// member's own state, and now and then at the leader's: a member whose disk does not work never gets there itself. While nothing has come
// of it, move asks again: who is to take the group may just be starting, and the leader may have changed.
func (s *Service) awaitGrant(ctx context.Context, group string, to cluster.MemberID, after uint64, move func() error) (epoch uint64, err error) {
	asked := time.Now()
	var refused error
	err = s.observe(ctx, func() bool {
		s.cluster.Read(func(state *fsm.State) {
			if g, _ := state.Grant(group); g.Epoch > after && g.Member == to {
				epoch = g.Epoch
			}
		})
		if epoch == 0 && time.Since(asked) >= askLeader {
			asked = time.Now()
			view, err := s.confirmedView(ctx)
			i := slices.IndexFunc(view.Groups, func(g api.GroupRecord) bool { return g.Name == group })
			switch {
			case err != nil || i < 0:
			case view.Groups[i].Epoch <= after:
				if err := move(); ctx.Err() == nil {
					refused = err
				}
			case view.Groups[i].OwnerID == string(to):
				epoch = view.Groups[i].Epoch
			}
		}
		return epoch > 0
	})
	if err != nil && refused != nil {
		err = fmt.Errorf("%w: %w", refused, err)
	}
	return epoch, err
}

// confirmedView asks the leader for its state.
func (s *Service) confirmedView(ctx context.Context) (view api.View, err error) {
	ctx, cancel := context.WithTimeout(ctx, viewWait)
	defer cancel()
	err = s.cluster.Call(ctx, "", methodView, struct{}{}, &view)
	return view, err
}

// ownedBy asks a node whether it owns a group by now.
func (s *Service) ownedBy(ctx context.Context, node, group string) bool {
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	var r api.NodeReport
	var err error
	if node == s.node {
		r, err = s.report(ctx)
	} else {
		err = s.cluster.Call(ctx, node, methodReport, struct{}{}, &r)
	}
	i := slices.IndexFunc(r.Groups, func(g api.GroupReport) bool { return g.Name == group })
	return err == nil && i >= 0 && r.Groups[i].State == api.GroupOwner
}

func (s *Service) memberOf(node string) (cluster.MemberID, error) {
	for _, id := range s.cluster.Status().Voters.Latest.Members {
		if id.Node() == node {
			return id, nil
		}
	}
	return "", &api.Problem{Kind: api.NotFound, What: "move to " + node, Why: "no member of that name votes"}
}

// observe waits until done answers true.
func (s *Service) observe(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(observeWait)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// explain makes an operator's error of the cluster's.
func (s *Service) explain(err error) error {
	var remote *cluster.RemoteError
	switch {
	case errors.Is(err, cluster.ErrNoLeader):
		return &api.Problem{Kind: api.QuorumLost, What: "nothing was changed", Why: err.Error(),
			Next: "hactl cluster status"}
	case errors.As(err, &remote):
		return &api.Problem{Kind: api.Refused, What: "the leader refused", Why: strings.TrimSpace(remote.Text)}
	}
	return err
}
