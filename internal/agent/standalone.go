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
