package member

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/control/api"
)

// RemoveMember is part of control.Backend.
func (s *Service) RemoveMember(ctx context.Context, req api.RemovalRequest, by api.Caller) (api.RemovalOutcome, error) {
	outcome := api.RemovalOutcome{Schema: api.Schema, Node: req.Node}
	status := s.cluster.Status()
	voters := status.Voters.Latest.Members
	at := slices.IndexFunc(voters, func(m cluster.MemberID) bool { return m.Node() == req.Node })
	if at < 0 {
		var names []string
		for _, m := range voters {
			names = append(names, m.Node())
		}
		return outcome, api.NoSuchNode(req.Node, names)
	}
	outcome.MemberID = string(voters[at])
	outcome.Told = req.Node == s.node || slices.ContainsFunc(status.Peers, func(p cluster.PeerStatus) bool {
		return p.Name == req.Node && p.Reachable
	})
	view, err := s.confirmedView(ctx) // this member's own copy may be behind
	if err != nil {
		return outcome, s.explain(err)
	}
	var held []string
	for _, g := range view.Groups {
		if g.Owner == req.Node {
			held = append(held, g.Name)
		}
	}
	if outcome.Told && len(held) > 0 {
		return outcome, &api.Problem{Kind: api.Refused, Check: "owner", What: req.Node + " is not removed",
			Why: "it owns " + strings.Join(held, " "), Next: "hactl maintenance on " + req.Node}
	}
	if err := s.cluster.RemoveMember(ctx, req.Node); err != nil {
		return outcome, s.explain(err)
	}
	s.Note(fsm.Note{Kind: api.EventMember, Severity: fsm.Warn, Text: fmt.Sprintf("%s is removed from the cluster", outcome.MemberID),
		Reason: req.Reason, By: by.User})
	if slices.ContainsFunc(view.Maintenance, func(m api.Maintenance) bool { return m.Node == req.Node }) { // drained for this
		if err := s.SetMaintenance(ctx, api.Maintenance{Node: req.Node, By: by.User, Reason: "removed from the cluster"}, false); err != nil {
			return outcome, err
		}
	}
	outcome.Voters = len(voters) - 1
	return outcome, nil
}
