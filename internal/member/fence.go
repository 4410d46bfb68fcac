package member

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/control/api"
)

// Fencer is what a director can do to others. Its methods are safe for concurrent use; Test and Off take their time.
type Fencer interface {
	Devices() (mode string, devices []api.FenceDevice)
	Test(ctx context.Context, node string) []api.FenceCheck
	// Off switches a node off with the devices that this node has for it, and says how. An error means that it may be on.
	Off(ctx context.Context, node string) (method string, err error)
}

// SetFencer comes before Run and before the control socket is served. A witness has none.
func (s *Service) SetFencer(f Fencer) { s.fencer = f }

func fenceOf(r fsm.FenceRecord) api.Fence {
	return api.Fence{Node: r.Node, Stage: string(r.Stage), By: r.By, Since: wall(r.Since), At: wall(r.At), Method: r.Method,
		Reason: r.Reason, Person: r.Person}
}

// Fences is part of control.Backend.
func (s *Service) Fences(context.Context) (api.FenceList, error) {
	list := api.FenceList{Schema: api.Schema, Node: s.node, Devices: []api.FenceDevice{}, Fences: []api.Fence{}}
	if s.fencer != nil {
		list.Mode, list.Devices = s.fencer.Devices()
	}
	s.cluster.Read(func(state *fsm.State) {
		for _, r := range state.Fences() {
			list.Fences = append(list.Fences, fenceOf(r))
		}
	})
	return list, nil
}

// TestFences is part of control.Backend.
func (s *Service) TestFences(ctx context.Context, node string) (api.FenceTest, error) {
	test := api.FenceTest{Schema: api.Schema, Node: s.node}
	if s.fencer != nil {
		test.Checks = s.fencer.Test(ctx, node)
	}
	if len(test.Checks) == 0 {
		what := "no fence device was asked"
		if node != "" {
			what = "no fence device of " + node + " was asked"
		}
		return test, &api.Problem{Kind: api.NotFound, What: what, Why: s.node + " has none in its configuration"}
	}
	return test, ctx.Err()
}

// Fence is part of control.Backend.
func (s *Service) Fence(ctx context.Context, req api.FenceRequest, by api.Caller) (api.FenceOutcome, error) {
	refuse := func(why, next string) (api.FenceOutcome, error) {
		return api.FenceOutcome{}, &api.Problem{Kind: api.Refused, Check: "fence", What: req.Node + " is not fenced", Why: why, Next: next}
	}
	status := s.cluster.Status()
	known := slices.ContainsFunc(s.config.Peers, func(p cluster.Peer) bool { return p.Name == req.Node && !p.Witness })
	f := fsm.Fence{Node: req.Node, Stage: fsm.FenceRequested, By: s.node, Life: s.config.Life, Reason: req.Reason, Person: by.User}
	switch {
	case !known:
		return api.FenceOutcome{}, &api.Problem{Kind: api.NotFound, What: "there is no director " + req.Node, Next: "hactl cluster status"}
	case req.Node == s.node:
		return refuse("no node fences itself", "")
	case req.Confirm:
		for _, p := range status.Peers {
			if p.Name == req.Node && p.Reachable {
				return refuse(req.Node+" answers this node: it is not off", "hactl cluster status")
			}
		}
		f.Stage, f.Life, f.Method = fsm.FenceConfirmed, 0, "a person's word"
		s.cluster.Read(func(state *fsm.State) { f.Proved = state.Held(req.Node) })
	case !s.canFence(req.Node):
		return refuse(s.node+" has no fence device for it", "hactl fence list")
	}
	command := fsm.Command{ID: requestID(s.node), Time: fsm.WallOf(time.Now()), Node: s.node, Fence: &f}
	result, err := s.cluster.Submit(ctx, command.Clip())
	switch {
	case err != nil:
		return api.FenceOutcome{}, s.explain(err)
	case result.Refused != "":
		return refuse(result.Refused, "")
	}
	var record fsm.FenceRecord
	err = s.observe(ctx, func() bool {
		s.cluster.Read(func(state *fsm.State) { record, _ = state.Fence(req.Node) })
		return record.Index >= result.Epoch && record.Index > 0 && !record.Open()
	})
	switch {
	case err != nil:
		return api.FenceOutcome{}, err
	case record.Stage != fsm.FenceConfirmed && record.Stage != fsm.FenceReturned:
		return api.FenceOutcome{}, &api.Problem{Kind: api.Failed, What: fmt.Sprintf("%s is not known to be off", req.Node), Why: record.Reason,
			Next: "hactl fence test " + req.Node}
	}
	return api.FenceOutcome{Schema: api.Schema, Fence: fenceOf(record)}, nil
}

func (s *Service) canFence(node string) bool {
	if s.fencer == nil {
		return false
	}
	_, devices := s.fencer.Devices()
	return slices.ContainsFunc(devices, func(d api.FenceDevice) bool { return d.Node == node })
}
