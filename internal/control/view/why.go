package view

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hactl/had/internal/control/api"
)

const (
	// driftBound is the relative difference of clock rates that a voter adds to each promise (1%).
	driftBound = 0.01
	// lifetimeSlack is what a voter adds to the promise to an owner whose guard is the lifetime of addresses.
	lifetimeSlack = api.Seconds(1.1)
)

// Why explains one group: why its owner owns it (or why nobody does), why the others do not, and what happens if the
// owner's host fails now. The problem is not-found.
func Why(in api.Gathered, group string) (api.Why, *api.Problem) {
	c := newComposer(in)
	s := Compose(in)
	k := slices.IndexFunc(s.Groups, func(g api.GroupStatus) bool { return g.Name == group })
	if k < 0 {
		k = slices.IndexFunc(s.Groups, func(g api.GroupStatus) bool { return slices.Contains(g.VIPs, withoutPrefix(group)) })
	}
	if k < 0 {
		return api.Why{}, api.NoSuchGroup(group, GroupNames(s))
	}
	g := s.Groups[k]
	return api.Why{
		Schema: api.Schema, Cluster: s.Cluster, Node: s.Node, Consistent: s.Consistent, View: s.View, Group: g,
		Because: c.because(g), Others: c.others(g), IfFails: c.ifFails(s, g),
	}, nil
}

// GroupNames lists the groups of s.
func GroupNames(s api.ClusterStatus) []string {
	names := make([]string, len(s.Groups))
	for i, g := range s.Groups {
		names[i] = g.Name
	}
	return names
}

// NodeNames lists the nodes of s.
func NodeNames(s api.ClusterStatus) []string {
	names := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		names[i] = n.Name
	}
	return names
}

func (c *composer) because(g api.GroupStatus) []string {
	var lines []string
	switch g.State {
	case api.Owned, api.HandingOver:
		line := fmt.Sprintf("%s holds the lease of epoch %d", g.Owner, g.Epoch)
		if g.SinceSeconds > 0 {
			line += ", granted " + g.SinceSeconds.Short() + " ago"
		}
		if r := c.records[g.Name]; r.Owner == g.Owner && r.Reason != "" {
			line += " (" + r.Reason + ")"
		}
		lines = append(lines, line)
		lines = append(lines, fmt.Sprintf("its lease is %gs and has %s left; a majority of voters renews it",
			float64(g.LeaseSeconds), g.LeaseLeftSeconds.Short()))
		if g.State == api.HandingOver {
			lines = append(lines, g.StateText)
		}
		if g.Placement != nil && !g.Placed {
			lines = append(lines, "it "+g.Placement.Text)
		} else {
			lines = append(lines, c.priorityLine(g))
		}
		if !g.Protected && g.State == api.Owned {
			lines = append(lines, orText("UNPROTECTED", g.StateText))
		}
	case api.Held:
		line := fmt.Sprintf("%s held the lease of epoch %d when the majority was lost", g.Owner, g.Epoch)
		if own := groupOf(c.reports[g.Owner], g.Name); own != nil && own.Epoch == 0 {
			line = fmt.Sprintf("%s has taken it over without a lease", g.Owner)
		}
		unprotected := "UNPROTECTED"
		if c.keptFor(g.Owner) == "quorum_loss hold" {
			unprotected += ": quorum_loss is hold, so it keeps the addresses without a majority"
		}
		lines = append(lines, line, orText(unprotected, g.StateText))
	case api.Unprotected:
		if g.Owner != "" {
			lines = append(lines, g.Owner+" won the VRRP election: it hears no advertisement of a higher priority")
		} else {
			lines = append(lines, "VRRP alone decides: "+g.StateText)
		}
		lines = append(lines, "UNPROTECTED: there is no cluster block, so no lease stands behind this")
	case api.Conflict:
		lines = append(lines, g.StateText)
	default:
		lines = append(lines, g.StateText)
		if g.LastOwner != "" {
			line := "its last known owner is " + g.LastOwner
			if !g.Since.IsZero() {
				line += ", until " + g.SinceSeconds.Short() + " ago"
			}
			lines = append(lines, line)
		}
	}
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

// priorityLine says whether VRRP's preference agrees with the owner.
func (c *composer) priorityLine(g api.GroupStatus) string {
	var own int
	for _, k := range g.Candidates {
		if k.Node == g.Owner {
			own = k.EffectivePriority
		}
	}
	for _, k := range g.Candidates {
		if k.Node == g.Owner || !k.Eligible || k.EffectivePriority <= own {
			continue
		}
		line := fmt.Sprintf("%s has the higher priority %d, %s has %d", k.Node, k.EffectivePriority, g.Owner, own)
		if g.Placed {
			return line + ", but an operator moved it to " + g.Owner + ": it stays until moved again or lost"
		}
		for _, i := range instancesOf(c.reports[k.Node], g.Name) {
			switch {
			case !i.Preempt:
				return line + ": nopreempt keeps it where it is"
			case i.PreemptDelaySeconds > 0:
				return line + fmt.Sprintf(": %s preempts after %gs of preempt_delay", k.Node, float64(i.PreemptDelaySeconds))
			}
		}
		return line + ": " + k.Node + " is about to preempt"
	}
	return fmt.Sprintf("its effective priority %d is the highest of the eligible directors", own)
}

func (c *composer) others(g api.GroupStatus) []api.WhyOther {
	var list []api.WhyOther
	for _, k := range g.Candidates {
		if k.Node == g.Owner && g.State != api.Conflict {
			continue
		}
		o := api.WhyOther{Node: k.Node, Because: []string{}}
		for _, r := range k.WhyNot {
			text := r.Text
			if !r.Since.IsZero() {
				text += " (for " + c.ago(r.Since).Short() + ")"
			}
			o.Because = append(o.Because, text)
		}
		r := c.reports[k.Node]
		own := groupOf(r, g.Name)
		if own != nil && own.Claim != nil {
			line := fmt.Sprintf("has been asking for %s, %d times", own.Claim.ForSeconds.Short(), own.Claim.Attempts)
			o.Because = append(o.Because, orText(line, own.Claim.LastRefusal))
		}
		if k.Eligible {
			o.Because = append(o.Because, fmt.Sprintf("eligible, with effective priority %d", k.EffectivePriority))
		}
		for _, i := range instancesOf(r, g.Name) {
			if len(i.FaultReasons) > 0 {
				o.Because = append(o.Because, i.Name+" is in FAULT: "+strings.Join(i.FaultReasons, ", "))
			}
			for _, t := range i.Tracks {
				if !t.Up && t.Weight != 0 {
					o.Because = append(o.Because, orText(fmt.Sprintf("%s %s is down, weight %d", t.Kind, t.Name, t.Weight), t.Text))
				}
			}
			for _, h := range i.Heard {
				if h.AgoSeconds <= i.DownIntervalSeconds {
					o.Because = append(o.Because, fmt.Sprintf("%s heard %s advertise priority %d %s ago", i.Name,
						senderText(c.sender(h), h.Address), h.Priority, h.AgoSeconds.Short()))
				}
			}
		}
		if len(o.Because) == 0 {
			o.Because = append(o.Because, candidateText(k))
		}
		list = append(list, o)
	}
	return list
}

func senderText(node, address string) string {
	if node == "" {
		return address + " (not known as a member)"
	}
	return node
}

func (c *composer) ifFails(s api.ClusterStatus, g api.GroupStatus) api.IfOwnerFails {
	f := api.IfOwnerFails{LeaseLeftSeconds: g.LeaseLeftSeconds, Text: []string{}}
	say := func(format string, args ...any) { f.Text = append(f.Text, fmt.Sprintf(format, args...)) }
	switch {
	case g.State == api.Unprotected:
		say("had cannot tell: without a cluster block nobody knows the other routers before they advertise")
		for _, k := range g.Candidates {
			if g.Owner == "" && k.Eligible {
				f.Successor, f.WithinSeconds, f.DownIntervalSeconds = k.Node, k.DownIntervalSeconds, k.DownIntervalSeconds
				say("%s itself becomes MASTER %s after the last advertisement, if nobody else does", k.Node, k.DownIntervalSeconds.Short())
			}
		}
		return f
	case g.Owner == "" && g.State == api.Conflict:
		say("the other one goes on")
		return f
	case g.Owner == "":
		say("there is no owner that could fail")
		if s.Quorum.OK && g.Successor != "" {
			f.Successor = g.Successor
			say("%s is eligible and takes it once a majority has cleared it", g.Successor)
		}
		return f
	case !s.Quorum.OK:
		say("nobody here would take over: this side has no majority")
		return f
	}
	left := s.Quorum.Reachable
	if c.isVoterReachable(g.Owner, s) {
		left--
	}
	if left < s.Quorum.Needed {
		say("nobody would take over: without %s only %d of %d votes are left, %d are needed",
			g.Owner, left, s.Quorum.Voters, s.Quorum.Needed)
		return f
	}
	if g.Successor == "" {
		say("nobody would take over: no other director is eligible")
		for _, k := range g.Candidates {
			if k.Node != g.Owner {
				say("  %s: %s", k.Node, candidateText(k))
			}
		}
		return f
	}
	for _, k := range g.Candidates {
		if k.Node == g.Successor {
			f.Successor, f.DownIntervalSeconds = k.Node, k.DownIntervalSeconds
		}
	}
	promise := api.Seconds(float64(g.LeaseSeconds) * (1 + driftBound))
	if r := c.reports[g.Owner]; r != nil && r.Guard != nil && r.Guard.Kind == "lifetime" {
		promise += lifetimeSlack
	}
	f.WithinSeconds = max(f.DownIntervalSeconds, promise)
	say("%s would take over within %s, plus one grant (milliseconds)", f.Successor, exact(f.WithinSeconds))
	if g.Heir != "" && g.Heir != f.Successor {
		say("%s is to have it by the rules for places: it takes it from %s afterwards, as failback says, and a planned handover goes to it",
			g.Heir, f.Successor)
	}
	say("%s waits %s (Active_Down_Interval) after the last advertisement of %s", f.Successor, exact(f.DownIntervalSeconds), g.Owner)
	if g.LeaseLeftSeconds > 0 {
		say("the lease of %s has %s left now; voters clear nobody else before %s after its last renewal",
			g.Owner, g.LeaseLeftSeconds.Short(), exact(promise))
	} else {
		say("voters clear nobody else before %s after the last renewal of %s", exact(promise), g.Owner)
	}
	if s.Leader == g.Owner {
		f.NeedsElection = true
		say("%s also leads the log: another leader is elected meanwhile, which adds time only if it takes longer", g.Owner)
	}
	say("%d of %d votes would be left, %d are needed", left, s.Quorum.Voters, s.Quorum.Needed)
	return f
}

// exact prints a bound to the millisecond: rounding down would promise too much.
func exact(s api.Seconds) string { return fmt.Sprintf("%gs", math.Ceil(float64(s)*1000)/1000) }

func (c *composer) isVoterReachable(node string, s api.ClusterStatus) bool {
	for _, n := range s.Nodes {
		if n.Name == node {
			return n.Voter && !slices.Contains(s.Quorum.Unreachable, node)
		}
	}
	return false
}
