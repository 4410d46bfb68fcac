package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/member"
)

// Backend answers the control socket.
func (a *Agent) Backend() control.Backend {
	if a.service != nil {
		return a.service
	}
	return standalone{a}
}

// standalone answers without a cluster: there is only this node, and nothing that could be changed from outside.
type standalone struct{ agent *Agent }

func (s standalone) Report(ctx context.Context) (api.NodeReport, error) { return s.agent.report(ctx) }

func (s standalone) Gather(ctx context.Context, _ bool) (api.Gathered, error) {
	self, err := s.agent.report(ctx)
	return api.Gathered{At: api.At(time.Now()), Self: self, Peers: []api.PeerReport{}}, err
}

func (s standalone) Events(_ context.Context, after uint64) (api.EventPage, <-chan struct{}, error) {
	page, more := s.agent.events.Since(after)
	return page, more, nil
}

func noCluster(what string) error {
	return &api.Problem{Kind: api.Refused, Check: "no-cluster", What: what,
		Why:  "this configuration has no cluster block: VRRP alone decides",
		Next: "add a cluster block, see had-cluster.conf(5)"}
}

func (s standalone) Move(context.Context, api.MoveStep, string, api.Caller) (api.MoveOutcome, error) {
	return api.MoveOutcome{}, noCluster("nothing was moved")
}

func (s standalone) SetMaintenance(context.Context, api.Maintenance, bool) error {
	return noCluster("maintenance was not changed")
}

// LVS is part of control.Backend.
func (s standalone) LVS(ctx context.Context, _ bool) (api.GatheredLVS, error) {
	own := api.NodeLVS{Node: s.agent.node, Services: []api.NodeService{}, File: member.TextsOf(definitionsOf(s.agent.running.Load()))}
	err := viewOf(ctx, s.agent.balancer, connections, &own)
	return api.GatheredLVS{At: api.At(time.Now()), Node: s.agent.node, Self: &own, Peers: []api.LVSPeer{}}, err
}

// ChangeLVS is part of control.Backend.
func (s standalone) ChangeLVS(context.Context, api.LVSRequest, api.Caller) (api.LVSOutcome, error) {
	return api.LVSOutcome{}, &api.Problem{Kind: api.Refused, Check: "no-cluster", What: "the virtual services were not changed",
		Why:  "this configuration has no cluster block: its file alone says what is served",
		Next: "edit the file, then hactl config reload"}
}

func (s standalone) RemoveMember(context.Context, api.RemovalRequest, api.Caller) (api.RemovalOutcome, error) {
	return api.RemovalOutcome{}, noCluster("nobody was removed")
}

func (s standalone) ForceQuorum(context.Context, api.ForceRequest, api.Caller) (api.ForceOutcome, error) {
	return api.ForceOutcome{}, noCluster("there is no quorum to be forced")
}

func (s standalone) Fences(context.Context) (api.FenceList, error) {
	return api.FenceList{}, noCluster("nobody is fenced")
}

func (s standalone) TestFences(context.Context, string) (api.FenceTest, error) {
	return api.FenceTest{}, noCluster("nobody is fenced")
}

func (s standalone) Fence(context.Context, api.FenceRequest, api.Caller) (api.FenceOutcome, error) {
	return api.FenceOutcome{}, noCluster("nothing was switched off")
}

func kindOf(object string) string {
	kind, _, _ := strings.Cut(object, " ")
	return kind
}

func nameOf(object string) string {
	_, name, _ := strings.Cut(object, " ")
	return name
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func (s standalone) Reload(ctx context.Context) (api.ReloadOutcome, error) {
	return s.agent.Reload(ctx)
}
