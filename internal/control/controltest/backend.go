package controltest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/eventlog"
)

// Backend serves a Gathered and carries actions out on it. It implements control.Backend.
type Backend struct {
	Log *eventlog.Log
	// Block makes Move and SetMaintenance wait until their context ends.
	Block bool
	// Stuck makes SetMaintenance commit its mark without any group leaving the node.
	Stuck bool
	// Broken are the errors that a reload finds.
	Broken []string
	// Services are what LVS returns.
	Services api.GatheredLVS

	mu    sync.Mutex
	state api.Gathered
	calls []string
}

// NewBackend serves in, with the events of Events.
func NewBackend(in api.Gathered) *Backend {
	b := &Backend{state: in, Log: eventlog.New(in.Self.Node, 64)}
	for _, e := range Events() {
		b.Log.Append(e)
	}
	return b
}

// Events are those of every scenario.
func Events() []api.Event {
	at := func(clock string) api.Time {
		var t api.Time
		if err := t.UnmarshalJSON([]byte(`"2026-11-21T` + clock + `Z"`)); err != nil {
			panic(err)
		}
		return t
	}
	return []api.Event{
		{Index: 88100, ID: "a", Time: at("09:30:11.204"), Severity: api.Info, Kind: api.EventGrant, Node: "lb2", Group: "VI_DB", Epoch: 9,
			Text: "lb1 -> lb2", Reason: "kernel update", By: "alice"},
		{ID: "b", Time: at("10:51:30.812"), Severity: api.Warn, Kind: api.EventMember, Node: "lb2", Text: "lost lb1, w1"},
		{ID: "c", Time: at("10:51:33.312"), Severity: api.Warn, Kind: api.EventLapse, Node: "lb2", Group: "VI_DB", Epoch: 9,
			Text: "lease of lb2 lapsed; 192.0.2.20 removed, verified absent from the kernel"},
		{Index: 88213, ID: "d", Time: at("10:51:34.112"), Severity: api.Info, Kind: api.EventGrant, Node: "lb1", Group: "VI_DB", Epoch: 10,
			Text: "lb1 owns 192.0.2.20", Reason: "lb2 advertised no more"},
	}
}

// Calls lists the actions asked for so far.
func (b *Backend) Calls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.calls...)
}

// Report returns the report of the node that is asked.
func (b *Backend) Report(context.Context) (api.NodeReport, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.Self, nil
}

// Gather returns the state; with local set, without the peers' reports.
func (b *Backend) Gather(_ context.Context, local bool) (api.Gathered, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := json.Marshal(b.state) // a copy that actions do not touch
	if err != nil {
		return api.Gathered{}, err
	}
	var in api.Gathered
	if err := json.Unmarshal(text, &in); err != nil {
		return api.Gathered{}, err
	}
	if local && in.View != nil {
		in.View.Consistent, in.View.Via = false, in.Self.Node
		for i := range in.Peers {
			in.Peers[i].Report, in.Peers[i].Error = nil, "not asked"
		}
	}
	return in, nil
}

// Move makes step.To the owner at once.
func (b *Backend) Move(ctx context.Context, step api.MoveStep, reason string, by api.Caller) (api.MoveOutcome, error) {
	if b.Block {
		<-ctx.Done()
		return api.MoveOutcome{}, fmt.Errorf("%s has released nothing: %w", step.From, ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf("move %s %s->%s reason=%q by=%s", step.Group, step.From, step.To, reason, by.User))
	epoch := b.move(step.Group, step.From, step.To)
	return api.MoveOutcome{Group: step.Group, From: step.From, To: step.To, Epoch: epoch, InterruptionSeconds: 0.0062,
		Phases: []api.Phase{{Text: "released by " + step.From, Seconds: 0.0021}, {Text: "granted to " + step.To, Seconds: 0.0015},
			{Text: "announced by " + step.To, Seconds: 0.0026}}}, nil
}

func (b *Backend) report(node string) *api.NodeReport {
	if b.state.Self.Node == node {
		return &b.state.Self
	}
	for i := range b.state.Peers {
		if b.state.Peers[i].Name == node {
			return b.state.Peers[i].Report
		}
	}
	return nil
}

func (b *Backend) move(group, from, to string) (epoch uint64) {
	r := record(b.state.View, group)
	r.Owner, r.LastOwner, r.Epoch = to, to, r.Epoch+1
	drop(b.report(from), group, api.GroupBackup)
	take(b.report(to), group, r.Epoch, api.At(Now))
	return r.Epoch
}

// RemoveMember takes a member's vote away at once.
func (b *Backend) RemoveMember(_ context.Context, req api.RemovalRequest, by api.Caller) (api.RemovalOutcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.state.View.Members, func(m api.Member) bool { return m.Name == req.Node })
	if i < 0 {
		return api.RemovalOutcome{}, &api.Problem{Kind: api.NotFound, What: "no member " + req.Node}
	}
	b.calls = append(b.calls, fmt.Sprintf("remove %s reason=%q by=%s", req.Node, req.Reason, by.User))
	outcome := api.RemovalOutcome{Schema: api.Schema, Node: req.Node, MemberID: b.state.View.Members[i].ID, Told: true}
	b.state.View.Members = slices.Delete(b.state.View.Members, i, i+1)
	outcome.Voters = len(b.state.View.Members)
	return outcome, nil
}

// ForceQuorum refuses while there is a majority.
func (b *Backend) ForceQuorum(_ context.Context, req api.ForceRequest, by api.Caller) (api.ForceOutcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Self.Cluster.Quorum {
		return api.ForceOutcome{}, &api.Problem{Kind: api.Refused, Check: "force-quorum", What: "the quorum is not forced", Why: "a majority answers"}
	}
	b.calls = append(b.calls, fmt.Sprintf("force %v attested=%v reason=%q by=%s", req.Dead, req.Attested, req.Reason, by.User))
	return api.ForceOutcome{Schema: api.Schema, Node: b.state.Self.Node, Dead: req.Dead, Method: "a person's word"}, nil
}

// Fences returns one device of lb1, and what the view holds.
func (b *Backend) Fences(context.Context) (api.FenceList, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return api.FenceList{Schema: api.Schema, Node: b.state.Self.Node, Mode: "required", Fences: append([]api.Fence{}, b.state.View.Fences...),
		Devices: []api.FenceDevice{{Node: "lb1", Device: "fence_ipmilan", Level: 1, Options: []string{"ip", "username", "password"},
			TimeoutSeconds: api.SecondsOf(20 * time.Second)}}}, nil
}

// TestFences finds lb1 on.
func (b *Backend) TestFences(_ context.Context, node string) (api.FenceTest, error) {
	if node != "" && node != "lb1" {
		return api.FenceTest{}, &api.Problem{Kind: api.NotFound, What: "no fence device of " + node + " was asked"}
	}
	return api.FenceTest{Schema: api.Schema, Node: b.state.Self.Node, Checks: []api.FenceCheck{
		{Node: "lb1", Device: "fence_ipmilan", Level: 1, Power: "on", Seconds: api.SecondsOf(400 * time.Millisecond)},
		{Node: "lb1", Device: "fence_apc", Level: 2, Error: "fence_apc monitor: no answer within the timeout of 20s", Seconds: api.SecondsOf(20 * time.Second)}}}, nil
}

// Fence switches a node off at once.
func (b *Backend) Fence(_ context.Context, req api.FenceRequest, by api.Caller) (api.FenceOutcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf("fence %s confirm=%v reason=%q by=%s", req.Node, req.Confirm, req.Reason, by.User))
	f := api.Fence{Node: req.Node, Stage: "confirmed", By: b.state.Self.Node, Since: api.At(Now), At: api.At(Now), Method: "fence_ipmilan",
		Reason: req.Reason, Person: by.User}
	if req.Confirm {
		f.Method = "a person's word"
	}
	b.state.View.Fences = append(b.state.View.Fences, f)
	return api.FenceOutcome{Schema: api.Schema, Fence: f}, nil
}

// SetMaintenance sets the mark and moves the node's groups away.
func (b *Backend) SetMaintenance(ctx context.Context, mark api.Maintenance, on bool) error {
	if b.Block {
		<-ctx.Done()
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf("maintenance %s on=%v until=%v reason=%q by=%s", mark.Node, on, !mark.Until.IsZero(), mark.Reason, mark.By))
	if !on {
		b.state.View.Maintenance = nil
		return nil
	}
	b.state.View.Maintenance = append(b.state.View.Maintenance, mark)
	if b.Stuck {
		return nil
	}
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[mark.Node]
	if b.report(other) == nil {
		return nil
	}
	for _, g := range groups {
		if record(b.state.View, g.name).Owner == mark.Node {
			b.move(g.name, mark.Node, other)
		}
	}
	return nil
}

// Reload finds one instance changed, or the errors of Broken.
func (b *Backend) Reload(context.Context) (api.ReloadOutcome, error) {
	if len(b.Broken) > 0 {
		return api.ReloadOutcome{}, &api.Problem{Kind: api.Refused, Check: "config-errors",
			What: fmt.Sprintf("the configuration has errors (%d); the running one stays", len(b.Broken)), Details: b.Broken,
			Next: "correct the file, then hactl config reload"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, "reload")
	return api.ReloadOutcome{Schema: api.Schema, Node: b.state.Self.Node, Config: "/etc/keepalived/keepalived.conf",
		Summary: "1 instance changed", Unchanged: 3, Findings: []string{},
		Changes: []api.ReloadChange{{Kind: "vrrp_instance", Name: "VI_WEB", Change: "changed"}}}, nil
}

// LVS returns Services.
func (b *Backend) LVS(_ context.Context, local bool) (api.GatheredLVS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.Services
	if local {
		in.Consistent, in.Peers = false, nil
	}
	return in, nil
}

// ChangeLVS notes what was asked for.
func (b *Backend) ChangeLVS(_ context.Context, req api.LVSRequest, by api.Caller) (api.LVSOutcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf("lvs %s %q %q by=%s", req.Do, req.Service, req.Server, by.User))
	if req.Expect != nil && *req.Expect != b.Services.Table.Version {
		return api.LVSOutcome{}, &api.Problem{Kind: api.Refused, Check: "version", What: "the virtual services were not changed",
			Why: fmt.Sprintf("version %d has been replaced by version %d", *req.Expect, b.Services.Table.Version), Next: "hactl lvs list"}
	}
	o := api.LVSOutcome{Schema: api.Schema, Version: b.Services.Table.Version + 1, Changed: []string{strings.TrimSpace(req.Service + " " + req.Server)}}
	if req.Text != "" {
		o.Changed = []string{strings.Join(strings.Fields(req.Text), " ")}
	}
	if req.ForSeconds > 0 {
		o.Until = api.At(Now.Add(req.ForSeconds.Duration()))
	}
	return o, nil
}

// Events serves Log.
func (b *Backend) Events(_ context.Context, after uint64) (api.EventPage, <-chan struct{}, error) {
	page, changed := b.Log.Since(after)
	return page, changed, nil
}
