package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func writeJSON(w io.Writer, v any, indent bool) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if indent {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("print answer: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// listBanner warns above a list that is only one node's view, or not protected. A list that needs no warning has none.
func (a *app) listBanner(s api.ClusterStatus) string {
	var b strings.Builder
	if s.View.Kind == "local" {
		b.WriteString(a.origin(s.View, false, s.At, s.Quorum) + "\n")
	}
	if !s.Protected {
		for _, f := range s.Findings {
			if strings.HasPrefix(f.Text, "UNPROTECTED") || f.Code == "conflict" {
				b.WriteString(a.finding(f))
			}
		}
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

func (a *app) noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(verbs...)
	return c
}

func (a *app) clusterCommand() *cobra.Command {
	var every time.Duration
	members := &cobra.Command{
		Use:               "members",
		Short:             "The members, their votes and their member ids",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.reads(&every, func(ctx context.Context, _ []string) (string, error) {
			s, err := a.client.Status(ctx, false)
			if err != nil {
				return "", err
			}
			v := api.Members{Schema: api.Schema, Cluster: s.Cluster, Node: s.Node, Consistent: s.Consistent, View: s.View, Members: s.Nodes}
			return a.render(v, func() string {
				t := newTable("NODE", "ROLE", "VOTES", "LEADER", "STATE", "ADDRESS", "MEMBER ID", "VERSION")
				for _, n := range s.Nodes {
					t.add(n.Name, string(n.Role), yesNo(n.Voter), yesNo(n.Leader), cell{string(n.State), nodeStyle(n.State)},
						n.Address, n.MemberID, clean(n.Version))
				}
				return a.listBanner(s) + a.print(t)
			}, func() []string { return nodeNames(s) }, func() []any { return anys(s.Nodes) })
		}),
	}
	watchFlag(members.Flags(), &every)
	status := a.statusCommand()
	status.Short += " (same as hactl status)"
	return a.noun("cluster", "The cluster as a whole", status, members, a.removeMember(), a.forceQuorum())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

func (a *app) vipCommand() *cobra.Command {
	var every time.Duration
	list := &cobra.Command{
		Use:               "list",
		Short:             "Every virtual IP: who owns it and whose kernel has it",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.reads(&every, func(ctx context.Context, _ []string) (string, error) {
			s, err := a.client.Status(ctx, false)
			if err != nil {
				return "", err
			}
			v := api.VIPs{Schema: api.Schema, Cluster: s.Cluster, Node: s.Node, Consistent: s.Consistent, View: s.View, VIPs: []api.VIPStatus{}}
			var names []string
			for _, g := range s.Groups {
				v.VIPs = append(v.VIPs, g.Addresses...)
				names = append(names, g.VIPs...)
			}
			return a.render(v, func() string { return a.listBanner(s) + a.print(a.vipTable(s, v.VIPs)) },
				func() []string { return names }, func() []any { return anys(v.VIPs) })
		}),
	}
	watchFlag(list.Flags(), &every)
	return a.noun("vip", "Virtual IP addresses", list)
}

func (a *app) vipTable(s api.ClusterStatus, vips []api.VIPStatus) *table {
	t := newTable("VIP", "GROUP", "OWNER", "STATE", "IN KERNEL", "LEASE LEFT", "DEV", "ANNOUNCED", "DUPLICATE PROBE")
	for _, v := range vips {
		left, announced, probe := "", "", clean(v.DuplicateProbe)
		if v.LeaseLeftSeconds > 0 {
			left = v.LeaseLeftSeconds.Short()
		}
		if !v.Announced.IsZero() {
			announced = since(v.Announced, s.At) + " ago"
		}
		if !v.DuplicateProbeAt.IsZero() {
			probe += " " + since(v.DuplicateProbeAt, s.At) + " ago"
		}
		kernel := cell{strings.Join(v.InKernel, ","), plain}
		if len(v.InKernel) > 1 || v.Owner != "" && len(v.InKernel) == 1 && v.InKernel[0] != v.Owner {
			kernel.how = warn
		}
		t.add(v.Address, v.Group, v.Owner, cell{v.State, ownershipStyle(api.Ownership(v.State))}, kernel, left, v.Device, announced, probe)
	}
	return t
}

func (a *app) groupCommand() *cobra.Command {
	var every time.Duration
	list := &cobra.Command{
		Use:   "list",
		Short: "Every ownership group: owner, lease and who would take over",
		Long: `Print every ownership group. A group is what moves as one: a vrrp_sync_group, or a vrrp_instance outside any.
BACKUP names the director that would take over if the owner failed now. The JSON also has the routes and rules that come
and go with each instance.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.reads(&every, func(ctx context.Context, _ []string) (string, error) {
			s, err := a.client.Status(ctx, false)
			if err != nil {
				return "", err
			}
			v := api.Groups{Schema: api.Schema, Cluster: s.Cluster, Node: s.Node, Consistent: s.Consistent, View: s.View, Groups: s.Groups}
			return a.render(v, func() string {
				t := newTable("GROUP", "OWNER", "STATE", "EPOCH", "LEASE LEFT", "BACKUP", "PRIORITIES", "VRRP", "SINCE")
				for _, g := range s.Groups {
					t.add(g.Name, ownerText(g), cell{string(g.State), ownershipStyle(g.State)}, fmt.Sprint(g.Epoch), leaseText(g),
						backupText(g), prioritiesText(g), instancesText(g, s.Nodes), sinceText(g))
				}
				return a.listBanner(s) + a.print(t)
			}, func() []string { return groupNames(s) }, func() []any { return anys(s.Groups) })
		}),
	}
	watchFlag(list.Flags(), &every)
	return a.noun("group", "Ownership groups: what moves as one", list)
}

func prioritiesText(g api.GroupStatus) string {
	var parts []string
	for _, k := range g.Candidates {
		if k.State != "" {
			parts = append(parts, fmt.Sprintf("%s=%d", k.Node, k.EffectivePriority))
		}
	}
	return strings.Join(parts, " ")
}

func instancesText(g api.GroupStatus, nodes []api.NodeStatus) string {
	var parts []string
	for _, i := range g.Instances {
		var states []string
		for _, n := range nodes {
			if state, ok := i.States[n.Name]; ok {
				states = append(states, n.Name+" "+state)
			}
		}
		parts = append(parts, fmt.Sprintf("%s/%d %s", i.Interface, i.VRID, strings.Join(states, ", ")))
	}
	return strings.Join(parts, "; ")
}

func (a *app) whyCommand() *cobra.Command {
	var every time.Duration
	c := &cobra.Command{
		Use:   "why GROUP",
		Short: "Why a group is where it is, and what happens if its owner fails now",
		Long: `Say why this node owns the group (or why nobody does), why the others do not, and what would follow if the owner's
host failed at this moment: who takes over and how long that takes, or that nobody would. GROUP may also be one of the
group's virtual IPs.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(a.complete(groupsAndVIPs)),
		RunE: a.reads(&every, func(ctx context.Context, args []string) (string, error) {
			w, err := a.client.Why(ctx, args[0])
			if err != nil {
				return "", err
			}
			return a.render(w, func() string { return a.whyText(w) }, func() []string { return []string{w.Group.Owner} }, nil)
		}),
	}
	watchFlag(c.Flags(), &every)
	return c
}

func (a *app) whyText(w api.Why) string {
	var b strings.Builder
	g := w.Group
	owner := ownerText(g)
	if owner == "" {
		owner = "nobody"
	}
	fmt.Fprintf(&b, "%s (%s): %s, %s\n", g.Name, strings.Join(g.VIPs, " "), a.paint(owner, bold),
		a.paint(string(g.State), ownershipStyle(g.State)))
	if !w.Consistent && w.View.Kind == "local" {
		fmt.Fprintf(&b, "  %s of %s; the cluster may have moved on.\n", a.paint("LOCAL VIEW", warn), w.View.Via)
	}
	section := func(title string, lines []string) {
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, l := range lines {
			fmt.Fprintf(&b, "  %s\n", clean(l))
		}
	}
	section("Why "+owner, w.Because)
	for _, o := range w.Others {
		section("Why not "+o.Node, o.Because)
	}
	title := "If " + g.Owner + " fails now"
	if g.Owner == "" {
		title = "What next"
	}
	section(title, w.IfFails.Text)
	return b.String()
}
