package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

const statusLong = `Print who owns which virtual IP, whether that is safe, how many failures it still survives, what is wrong, and what
changed last. On a node without quorum the answer is that node's own view and is marked LOCAL VIEW.

The exit code is 0 when every group has one owner, 1 when a group has none or two, and 4 without quorum.`

func (a *app) statusCommand() *cobra.Command {
	var local, exitCode bool
	var every time.Duration
	c := &cobra.Command{
		Use:   "status",
		Short: "Who owns what, is it safe, what changed last",
		Long:  statusLong,
		Example: `  hactl status
  hactl status -w
  hactl status -o json | jq -r '.groups[] | "\(.name) \(.owner)"'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.reads(&every, func(ctx context.Context, _ []string) (string, error) {
			s, err := a.client.Status(ctx, local)
			if err != nil {
				return "", err
			}
			a.exit = statusExit(s, exitCode)
			return a.render(s, func() string { return a.statusText(s) },
				func() []string { return []string{s.Cluster} }, nil)
		}),
	}
	c.Flags().BoolVar(&local, "local", false, "ask no other node: what this node knows by itself")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 when degraded or unprotected too")
	watchFlag(c.Flags(), &every)
	return c
}

func statusExit(s api.ClusterStatus, strict bool) int {
	switch s.Verdict {
	case api.NoQuorum:
		return api.ExitNoQuorum
	case api.Critical:
		return api.ExitFailed
	case api.Degraded, api.NotProtected:
		if strict {
			return api.ExitFailed
		}
	}
	return api.ExitOK
}

// render prints v in the format that was asked for: names one per line, lines one JSON value each.
func (a *app) render(v any, text func() string, names func() []string, lines func() []any) (string, error) {
	var b strings.Builder
	switch a.output {
	case "name":
		for _, n := range names() {
			b.WriteString(n + "\n")
		}
	case "jsonl":
		list := []any{v}
		if lines != nil {
			list = lines()
		}
		for _, l := range list {
			if err := writeJSON(&b, l, false); err != nil {
				return "", err
			}
		}
	case "json":
		if err := writeJSON(&b, v, true); err != nil {
			return "", err
		}
	default:
		return text(), nil
	}
	return b.String(), nil
}

func (a *app) statusText(s api.ClusterStatus) string {
	var b strings.Builder
	b.WriteString(a.headline(s) + "\n")
	b.WriteString(a.origin(s.View, s.Consistent, s.At, s.Quorum) + "\n")
	if s.Verdict == api.NoQuorum {
		b.WriteString("  refused here until quorum returns: move, maintenance\n")
	}
	for _, f := range s.Findings {
		if f.Code != "no-quorum" { // the headline says it
			b.WriteString(a.finding(f))
		}
	}
	for _, e := range s.Recent {
		fmt.Fprintf(&b, "  %s %s\n", clockTime(e.Time), clean(e.Text))
	}
	b.WriteString("\n" + a.print(a.nodeTable(s.Nodes)))
	if len(s.Groups) > 0 {
		b.WriteString("\n")
		if s.Verdict == api.NoQuorum {
			b.WriteString(a.print(a.localGroupTable(s)))
		} else {
			b.WriteString(a.print(a.groupTable(s.Groups)))
		}
	}
	if s.Last != nil {
		fmt.Fprintf(&b, "\nLast    %s\n", a.eventText(*s.Last))
	}
	return b.String()
}

func (a *app) headline(s api.ClusterStatus) string {
	name := clean(s.Cluster)
	if name == "" {
		name = s.Node
	}
	symbol, how := a.symbol("●", "*"), good
	switch s.Verdict {
	case api.Degraded, api.NotProtected:
		symbol, how = a.symbol("▲", "!"), warn
	case api.Critical, api.NoQuorum:
		symbol, how = a.symbol("✖", "X"), bad
	}
	line := a.paint(symbol, how) + " " + name + "  " + a.paint(strings.ToUpper(string(s.Verdict)), how) + "   "
	owned := 0
	for _, g := range s.Groups {
		if g.Owner == s.Node {
			owned += len(g.VIPs)
		}
	}
	switch s.Verdict {
	case api.NotProtected:
		return line + "no cluster block: VRRP alone decides"
	case api.NoQuorum:
		line += fmt.Sprintf("this node sees %d of %d votes (needs %d)", s.Quorum.Reachable, s.Quorum.Voters, s.Quorum.Needed)
		if owned == 0 {
			return line + " and owns NO VIPs"
		}
		return line + fmt.Sprintf(" and holds %d VIPs", owned)
	}
	if !s.Protected {
		line += a.paint("UNPROTECTED", bad) + "   "
	}
	switch {
	case s.Survives == nil:
		line += "survives ? more failures"
	case *s.Survives == 1:
		line += "survives 1 more failure"
	default:
		line += fmt.Sprintf("survives %d more failures", *s.Survives)
	}
	line += fmt.Sprintf("   quorum %d/%d", s.Quorum.Reachable, s.Quorum.Voters)
	if s.Leader == "" {
		return line + "   no leader"
	}
	line += fmt.Sprintf("   leader %s (term %d", s.Leader, s.Term)
	if !s.LeaderSince.IsZero() {
		line += ", " + since(s.LeaderSince, s.At)
	}
	return line + ")"
}

// origin says whose view an answer is.
func (a *app) origin(v api.ViewOrigin, consistent bool, at api.Time, q api.Quorum) string {
	switch {
	case consistent:
		return fmt.Sprintf("  view: linearizable via %s, %s", v.Via, moment(at))
	case v.Kind == "standalone":
		return fmt.Sprintf("  view: %s alone, %s", v.Via, moment(at))
	}
	line := fmt.Sprintf("  %s of %s, %s; the cluster may have moved on.", a.paint("LOCAL VIEW", warn), v.Via, moment(at))
	if !q.OK && !q.MajorityLastContact.IsZero() {
		line += " Last contact with a majority " + since(q.MajorityLastContact, at) + " ago."
	}
	return line
}

func moment(t api.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + "Z" }

func clockTime(t api.Time) string { return t.UTC().Format("15:04:05.000") + "Z" }

func since(t, at api.Time) string {
	return api.SecondsOf(max(0, at.Sub(t.Time))).Short()
}

func (a *app) finding(f api.Finding) string {
	mark, how := "!", warn
	switch f.Severity {
	case api.Error:
		how = bad
	case api.Info:
		mark, how = "-", plain
	}
	line := "  " + a.paint(mark, how) + " " + clean(f.Text)
	if f.Next != "" {
		line += "   next: " + clean(f.Next)
	}
	return line + "\n"
}

func (a *app) nodeTable(nodes []api.NodeStatus) *table {
	t := newTable("NODE", "ROLE", "STATE", "GROUPS", "RTT", "HEARD", "GUARD", "CLOCK", "VERSION", "UP")
	for _, n := range nodes {
		groups, heard, up := "", "", ""
		if n.Role != api.Witness {
			groups = fmt.Sprint(n.Groups)
		}
		if n.HeardSeconds > 0 {
			heard = n.HeardSeconds.Short()
		}
		if n.UptimeSeconds > 0 {
			up = n.UptimeSeconds.Short()
		}
		rtt := ""
		if n.RTTSeconds > 0 && n.State != api.NodeUnreachable {
			rtt = n.RTTSeconds.Short()
		}
		t.add(n.Name, string(n.Role), cell{string(n.State), nodeStyle(n.State)}, groups, rtt, heard, guardCell(n.Guard),
			clean(n.ClockSource), clean(n.Version), up)
	}
	return t
}

func nodeStyle(s api.NodeState) style {
	switch s {
	case api.NodeReady:
		return good
	case api.NodeUnreachable, api.NodeFault, api.NodeUnfit:
		return bad
	default:
		return warn
	}
}

func guardCell(guard string) cell {
	switch {
	case strings.HasSuffix(guard, "FAILED"):
		return cell{guard, bad}
	case guard == "none":
		return cell{guard, warn}
	default:
		return cell{guard, plain}
	}
}

func ownershipStyle(o api.Ownership) style {
	switch o {
	case api.Owned:
		return good
	case api.Unowned, api.Claiming, api.Conflict, api.Held:
		return bad
	default:
		return warn
	}
}

func (a *app) groupTable(groups []api.GroupStatus) *table {
	t := newTable("GROUP", "OWNER", "STATE", "LEASE LEFT", "BACKUP", "VIPS", "SINCE")
	for _, g := range groups {
		t.add(g.Name, ownerText(g), cell{string(g.State), ownershipStyle(g.State)}, leaseText(g), backupText(g),
			strings.Join(g.VIPs, " "), sinceText(g))
	}
	return t
}

func ownerText(g api.GroupStatus) string {
	if len(g.Owners) > 0 {
		return strings.Join(g.Owners, ",")
	}
	return g.Owner
}

func leaseText(g api.GroupStatus) string {
	if g.LeaseLeftSeconds <= 0 {
		return ""
	}
	return fmt.Sprintf("%s of %gs", g.LeaseLeftSeconds.Short(), float64(g.LeaseSeconds))
}

func backupText(g api.GroupStatus) string {
	if g.Successor == "" {
		return ""
	}
	return g.Successor + " ready"
}

func sinceText(g api.GroupStatus) string {
	if g.Since.IsZero() {
		return ""
	}
	return g.SinceSeconds.Short()
}

// localGroupTable is for a node without quorum: it answers whether this very node still serves.
func (a *app) localGroupTable(s api.ClusterStatus) *table {
	t := newTable("GROUP", "LAST KNOWN OWNER", "HERE", "STATE", "KERNEL HERE")
	for _, g := range s.Groups {
		owner, here := g.LastOwner, cell{"no", plain}
		if g.Owner != "" {
			owner = g.Owner
		}
		if g.Owner == s.Node {
			here = cell{"YES", bold}
		}
		if owner != "" && !g.Since.IsZero() && g.Owner == "" {
			owner += " (until " + g.SinceSeconds.Short() + " ago)"
		}
		var kernel []string
		for _, v := range g.Addresses {
			kernel = append(kernel, v.Address+" "+map[bool]string{true: "present", false: "absent"}[slices.Contains(v.InKernel, s.Node)])
		}
		t.add(g.Name, owner, here, cell{string(g.State), ownershipStyle(g.State)}, strings.Join(kernel, "  "))
	}
	return t
}
