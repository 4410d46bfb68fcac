package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/control/api"
)

// Names of the safety checks that can refuse an action; --override takes those that an operator may pass over.
const (
	CheckProtected = "unprotected"    // without a lease there is nothing to hand over
	CheckOwner     = "no-owner"       // nobody owns the group, so nobody can hand it over
	CheckEligible  = "not-eligible"   // the target may not own the group
	CheckAnswers   = "owner-silent"   // the owner does not answer, so it cannot step down
	CheckLastNode  = "last-node"      // nobody would serve the groups of the node; can be overridden
	CheckHandover  = "handover-going" // the group is changing hands already
	CheckConflict  = "two-owners"     // two nodes say that they own it
)

// expectedInterruption is what a planned handover costs: one commit and one announcement on a LAN.
const expectedInterruption = api.Seconds(0.01)

// PlanMove says what req would do to each group. A problem concerns the request as a whole (no such group or node, no
// quorum); what concerns one group is in that step.
func PlanMove(s api.ClusterStatus, req api.MoveRequest) (api.MovePlan, *api.Problem) {
	plan := api.MovePlan{Schema: api.Schema, Steps: []api.MoveStep{}}
	if p := mayChange(s, "move"); p != nil {
		return plan, p
	}
	for _, name := range []string{req.From, req.To} {
		if name != "" && !slices.Contains(NodeNames(s), name) {
			return plan, api.NoSuchNode(name, NodeNames(s))
		}
	}
	if req.All == (len(req.Groups) > 0) || req.All && req.From == "" {
		return plan, &api.Problem{Kind: api.Usage, What: "nothing to move",
			Why: "name one group, or give --all with --from NODE", Next: "hactl move --help"}
	}
	for _, name := range req.Groups {
		k := slices.IndexFunc(s.Groups, func(g api.GroupStatus) bool {
			return g.Name == name || slices.Contains(g.VIPs, withoutPrefix(name))
		})
		if k < 0 {
			return plan, api.NoSuchGroup(name, GroupNames(s))
		}
		plan.Steps = append(plan.Steps, planStep(s.Groups[k], req.From, req.To, s.Groups[k].HeirAlone))
	}
	if req.All {
		for _, g := range s.Groups {
			if g.Owner == req.From {
				plan.Steps = append(plan.Steps, planStep(g, req.From, req.To, g.Heir))
			}
		}
	}
	return plan, nil
}

// Electing tells whether a cluster with quorum has no leader of its log at the moment.
func Electing(s api.ClusterStatus) bool {
	return s.View.Kind != standalone && s.Quorum.OK && s.Leader == ""
}

// Returning tells whether a node has not heard from its log yet that its maintenance is over, and can be expected to: it answers, and its
// disk works.
func Returning(s api.ClusterStatus, node string) bool {
	marked := func(g api.GroupStatus) bool {
		return slices.ContainsFunc(g.Candidates, func(k api.Candidate) bool {
			return k.Node == node && slices.ContainsFunc(k.WhyNot, isMaintenance)
		})
	}
	stuck := func(f api.Finding) bool { return f.Code == "disk" && f.Node == node }
	return slices.ContainsFunc(s.Groups, marked) && !slices.ContainsFunc(s.Findings, stuck)
}

// mayChange refuses what needs the log when there is none.
func mayChange(s api.ClusterStatus, verb string) *api.Problem {
	switch {
	case s.View.Kind == standalone:
		return &api.Problem{Kind: api.Refused, Check: CheckProtected, What: verb + " is refused",
			Why: "there is no cluster block: VRRP alone decides, and priorities are in the file", Next: "had-cluster.conf(5)"}
	case !s.Quorum.OK:
		return &api.Problem{Kind: api.QuorumLost, What: verb + " is refused here until quorum returns",
			Why:  fmt.Sprintf("%s sees %d of %d votes and needs %d", s.Node, s.Quorum.Reachable, s.Quorum.Voters, s.Quorum.Needed),
			Next: "hactl status"}
	case Electing(s):
		return &api.Problem{Kind: api.QuorumLost, What: verb + " is refused at the moment",
			Why: "the log has no leader, although an election takes about a second", Next: "hactl status"}
	}
	return nil
}

// planStep says what moving a group would do. heir is who is to have it by the rules for places if to is empty.
func planStep(g api.GroupStatus, from, to, heir string) api.MoveStep {
	step := api.MoveStep{Group: g.Name, From: g.Owner, To: to, VIPs: g.VIPs, ExpectedInterruptionSeconds: expectedInterruption}
	refuse := func(check, why, next string) api.MoveStep {
		step.Refused = &api.Problem{Kind: api.Refused, Check: check, What: "moving " + g.Name + " is refused", Why: why, Next: next}
		step.ExpectedInterruptionSeconds = 0
		return step
	}
	why := "hactl why " + g.Name
	switch g.State {
	case api.Conflict:
		return refuse(CheckConflict, g.StateText, why)
	case api.Unconfirmed:
		return refuse(CheckAnswers, g.StateText+"; only the owner itself can hand over", why)
	case api.Unprotected, api.Held:
		return refuse(CheckProtected, "no lease stands behind "+g.Name+": "+g.StateText, why)
	case api.HandingOver:
		if g.Successor != to && to != "" {
			return refuse(CheckHandover, fmt.Sprintf("%s is handing over to %s", g.Owner, g.Successor), why)
		}
	}
	if g.Owner == "" {
		return refuse(CheckOwner, orText(g.Name+" has no owner", g.StateText), why)
	}
	if from != "" && g.Owner != from {
		return refuse(CheckOwner, fmt.Sprintf("%s is not with %s but with %s", g.Name, from, g.Owner), why)
	}
	if to == "" {
		if to = heir; to == "" || g.State == api.HandingOver {
			to = g.Successor
		}
		step.To = to
	}
	if to == "" {
		return refuse(CheckEligible, "no other director is eligible: "+whoIsNot(g), why)
	}
	if to == g.Owner {
		step.Nothing, step.ExpectedInterruptionSeconds = true, 0
		return step
	}
	k := slices.IndexFunc(g.Candidates, func(k api.Candidate) bool { return k.Node == to })
	if k < 0 {
		return refuse(CheckEligible, to+" is a witness: it only votes", "hactl cluster members")
	}
	if !g.Candidates[k].Eligible {
		return refuse(CheckEligible, to+" "+candidateText(g.Candidates[k]), why)
	}
	for _, c := range g.Candidates {
		if c.Node == g.Owner && c.EffectivePriority > g.Candidates[k].EffectivePriority {
			step.Warnings = append(step.Warnings, fmt.Sprintf("%s has the higher priority; %s stays with %s until it is moved again or lost",
				g.Owner, g.Name, to))
		}
	}
	return step
}

func whoIsNot(g api.GroupStatus) string {
	var parts []string
	for _, k := range g.Candidates {
		if k.Node != g.Owner {
			parts = append(parts, k.Node+" "+candidateText(k))
		}
	}
	if len(parts) == 0 {
		return "there is none"
	}
	return strings.Join(parts, "; ")
}

// PlanMaintenance says what putting req.Node (or the node that is asked) into maintenance, or taking it out, would do.
func PlanMaintenance(s api.ClusterStatus, req api.MaintenanceRequest) (api.MaintenancePlan, *api.Problem) {
	plan := api.MaintenancePlan{Schema: api.Schema, Node: req.Node, On: req.On}
	if plan.Node == "" {
		plan.Node = s.Node
	}
	if p := mayChange(s, "maintenance"); p != nil {
		return plan, p
	}
	if !slices.Contains(NodeNames(s), plan.Node) {
		return plan, api.NoSuchNode(plan.Node, NodeNames(s))
	}
	if k := slices.IndexFunc(s.Nodes, func(n api.NodeStatus) bool { return n.Name == plan.Node }); req.On && s.Nodes[k].Role == api.Witness {
		return plan, &api.Problem{Kind: api.Refused, Check: CheckEligible, What: "maintenance of " + plan.Node + " is refused",
			Why: plan.Node + " is a witness: it owns nothing that could be drained", Next: "hactl cluster members"}
	}
	marked := slices.ContainsFunc(s.Maintenance, func(m api.Maintenance) bool { return m.Node == plan.Node })
	if !req.On {
		plan.Nothing = !marked
		return plan, nil
	}
	if req.ForSeconds > 0 {
		plan.Until = api.At(s.At.Add(req.ForSeconds.Duration()).Truncate(time.Second))
	}
	var stranded []string
	for _, g := range s.Groups {
		if g.Owner != plan.Node {
			continue
		}
		step := planStep(g, plan.Node, "", g.Heir)
		step.Warnings = nil // this hand-over is not an operator's choice of a place
		if step.Refused != nil {
			stranded = append(stranded, fmt.Sprintf("%s (%s)", g.Name, step.Refused.Why))
		}
		plan.Steps = append(plan.Steps, step)
	}
	if len(stranded) > 0 && !slices.Contains(req.Override, CheckLastNode) {
		plan.Refused = &api.Problem{Kind: api.Refused, Check: CheckLastNode, What: "maintenance of " + plan.Node + " is refused",
			Why:  "nobody would serve " + strings.Join(stranded, ", "),
			Next: "hactl maintenance on " + plan.Node + " --override=" + CheckLastNode}
	}
	return plan, nil
}
