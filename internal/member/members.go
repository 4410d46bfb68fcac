package member

import (
	"context"
	"errors"
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

// ForceQuorum is part of control.Backend.
func (s *Service) ForceQuorum(ctx context.Context, req api.ForceRequest, by api.Caller) (api.ForceOutcome, error) {
	outcome := api.ForceOutcome{Schema: api.Schema, Node: s.node, Dead: req.Dead}
	refuse := func(check, why, next string) (api.ForceOutcome, error) {
		return outcome, &api.Problem{Kind: api.Refused, Check: check, What: "the quorum is not forced", Why: why, Next: next}
	}
	for _, node := range req.Attested {
		if !slices.Contains(req.Dead, node) {
			return refuse("force-quorum", node+" is attested to be off, and is not among the dead", "")
		}
	}
	if err := s.cluster.MayForce(ctx, req.Dead); err != nil {
		return refuse("force-quorum", err.Error(), "hactl cluster status")
	}
	switch from, err := s.heard(ctx); {
	case err != nil:
		return outcome, err
	case from != "":
		return refuse("force-quorum", from, "find out who that is: hactl cluster status")
	}
	var methods []string
	for _, node := range req.Dead {
		method, err := s.seenOff(ctx, node, slices.Contains(req.Attested, node))
		if err != nil {
			return refuse("fence", err.Error(), "see to it that it is off, then repeat the command with --attest "+node)
		}
		methods = append(methods, node+": "+method)
	}
	outcome.Method = strings.Join(methods, ", ")
	err := s.cluster.ForceQuorum(ctx, fsm.Force{Dead: req.Dead, Method: outcome.Method, Person: by.User, Reason: req.Reason})
	var refused *cluster.ForceError
	if errors.As(err, &refused) {
		return refuse("force-quorum", err.Error(), "hactl cluster status")
	}
	return outcome, err
}

// heard says whose advertisements arrive for a group of this node: somebody owns it, be it that the cluster's port is cut off.
func (s *Service) heard(ctx context.Context) (string, error) {
	r, err := s.report(ctx)
	if err != nil {
		return "", err
	}
	for _, i := range r.Instances {
		for _, h := range i.Heard {
			if h.Priority > 0 && h.AgoSeconds <= i.DownIntervalSeconds {
				return fmt.Sprintf("%s advertises virtual router %d on %s: it is alive", h.Address, i.VRID, i.Interface), nil
			}
		}
	}
	return "", nil
}

// seenOff has a dead node switched off if this one can, and says how it is known to be off. An error means that nobody knows.
func (s *Service) seenOff(ctx context.Context, node string, attested bool) (string, error) {
	witness := slices.ContainsFunc(s.config.Peers, func(p cluster.Peer) bool { return p.Name == node && p.Witness })
	mode := ""
	if s.fencer != nil {
		mode, _ = s.fencer.Devices()
	}
	switch {
	case attested, witness, !s.canFence(node) && mode != "required":
		return "a person's word", nil
	case !s.canFence(node):
		return "", fmt.Errorf("fencing is required, and %s has no fence device for %s", s.node, node)
	}
	method, err := s.fencer.Off(ctx, node)
	if err != nil {
		return "", fmt.Errorf("%s could not be switched off: %w", node, err)
	}
	return method, nil
}
