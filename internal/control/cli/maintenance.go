package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) maintenanceCommand() *cobra.Command {
	return a.noun("maintenance", "Drain a node and keep it off, for a while", a.maintenanceOn(), a.maintenanceOff(), a.maintenanceList())
}

func (a *app) maintenanceOn() *cobra.Command {
	req := api.MaintenanceRequest{On: true}
	var yes, dryRun bool
	var timeout, span time.Duration
	c := &cobra.Command{
		Use:   "on [NODE]",
		Short: "Move all groups off a node and let it take none",
		Long: `Put a node (default: this one) into maintenance: it hands over all groups that it owns and takes none until the mark is
taken off or --for has passed. It still votes. The mark is replicated: it survives restarts.

It is refused with exit code 5 (last-node) when nobody else could serve a group of the node.`,
		Example:           `  hactl maintenance on lb1 --for 2h --reason "kernel update"`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.complete(directorNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			if span < 0 || c.Flags().Changed("for") && span == 0 {
				return &api.Problem{Kind: api.Usage, What: "--for must be a span above zero, like 2h", Next: "hactl maintenance on --help"}
			}
			req.Node, req.ForSeconds, req.TimeoutSeconds = strings.Join(args, ""), api.SecondsOf(span), api.SecondsOf(timeout)
			return a.maintain(c.Context(), req, yes, dryRun, timeout)
		}),
	}
	c.Flags().DurationVar(&span, "for", 0, "take the mark off by itself after this long; default: never")
	c.Flags().StringSliceVar(&req.Override, "override", nil, "pass over the safety `CHECK` of that name: last-node")
	_ = c.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"30m", "1h", "2h"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("override", cobra.FixedCompletions([]string{"last-node"}, cobra.ShellCompDirectiveNoFileComp))
	a.actionFlags(c, &yes, &dryRun, &req.Reason, &timeout)
	return c
}

func (a *app) maintenanceOff() *cobra.Command {
	var req api.MaintenanceRequest
	var dryRun, yes bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "off [NODE]",
		Short: "Let a node take groups again",
		Long: `Take a node (default: this one) out of maintenance. It may take groups again; with preemption and a higher priority it
does so at once. The command ends when the node itself knows of it, and does not wait for one that does not answer or whose
disk does not work.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.complete(directorNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			req.Node, req.TimeoutSeconds = strings.Join(args, ""), api.SecondsOf(timeout)
			return a.maintain(c.Context(), req, true, dryRun, timeout)
		}),
	}
	a.actionFlags(c, &yes, &dryRun, &req.Reason, &timeout)
	return c
}

func (a *app) maintain(ctx context.Context, req api.MaintenanceRequest, yes, dryRun bool, timeout time.Duration) error {
	planCtx, cancel := ask(ctx)
	defer cancel()
	plan, err := a.client.PlanMaintenance(planCtx, req)
	if err != nil {
		return err
	}
	if dryRun {
		text, err := a.render(plan, func() string { return a.maintenancePlanText(plan) }, func() []string { return []string{plan.Node} }, nil)
		fmt.Fprint(a.env.Stdout, text)
		if err == nil && plan.Refused != nil {
			a.exit = api.ExitRefused
		}
		return err
	}
	if plan.Refused != nil {
		return plan.Refused
	}
	if len(plan.Steps) > 0 && !yes {
		if err := a.confirm(ctx, a.maintenancePlanText(plan)); err != nil {
			return err
		}
	}
	req.Node = plan.Node
	actCtx, cancelAct := context.WithTimeout(ctx, timeout+answerMargin)
	defer cancelAct()
	outcome, err := a.client.Maintenance(actCtx, req)
	if err != nil {
		return err
	}
	text, err := a.render(outcome, func() string { return a.maintenanceText(plan, outcome) }, func() []string { return []string{plan.Node} }, nil)
	fmt.Fprint(a.env.Stdout, text)
	return err
}

func (a *app) maintenancePlanText(p api.MaintenancePlan) string {
	var b strings.Builder
	switch {
	case !p.On && p.Nothing:
		fmt.Fprintf(&b, "%s is not in maintenance: nothing to do\n", p.Node)
		return b.String()
	case !p.On:
		fmt.Fprintf(&b, "Take %s out of maintenance.\n", p.Node)
		return b.String()
	}
	fmt.Fprintf(&b, "Put %s into maintenance%s.\n", p.Node, until(p.Until))
	b.WriteString(a.planText(p.Steps))
	if p.Refused != nil {
		fmt.Fprintf(&b, "%s (%s): %s\n", a.paint("Refused", bad), p.Refused.Check, clean(p.Refused.Why))
	}
	return b.String()
}

func until(t api.Time) string {
	if t.IsZero() {
		return " until it is taken off"
	}
	return " until " + moment(t)
}

func (a *app) maintenanceText(plan api.MaintenancePlan, o api.MaintenanceOutcome) string {
	if !o.On {
		if plan.Nothing {
			return fmt.Sprintf("%s is not in maintenance: nothing to do\n", o.Mark.Node)
		}
		return fmt.Sprintf("%s may take groups again.\n", o.Mark.Node)
	}
	var b strings.Builder
	for _, m := range o.Moved {
		fmt.Fprintf(&b, "%s -> %s, seen after %s\n", m.Group, m.To, m.Seconds.Short())
	}
	for _, g := range o.Remains {
		fmt.Fprintf(&b, "! nobody else could take %s\n", g)
	}
	fmt.Fprintf(&b, "%s takes no groups%s. It still votes. Undo: hactl maintenance off %s\n", o.Mark.Node, until(o.Mark.Until), o.Mark.Node)
	return b.String()
}

func (a *app) maintenanceList() *cobra.Command {
	var every time.Duration
	c := &cobra.Command{
		Use:               "list",
		Short:             "What maintenance is in force, until when, by whom and why",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.reads(&every, func(ctx context.Context, _ []string) (string, error) {
			s, err := a.client.Status(ctx, false)
			if err != nil {
				return "", err
			}
			v := api.MaintenanceList{Schema: api.Schema, Cluster: s.Cluster, Node: s.Node, Consistent: s.Consistent, View: s.View,
				Maintenance: s.Maintenance}
			return a.render(v, func() string {
				if len(v.Maintenance) == 0 {
					return a.listBanner(s) + "No node is in maintenance.\n"
				}
				t := newTable("NODE", "SINCE", "ENDS", "BY", "REASON")
				for _, m := range v.Maintenance {
					began, ends := "", "never"
					if !m.Since.IsZero() {
						began = moment(m.Since)
					}
					if !m.Until.IsZero() {
						ends = moment(m.Until)
					}
					t.add(m.Node, began, ends, clean(m.By), clean(m.Reason))
				}
				return a.listBanner(s) + a.print(t)
			}, func() []string {
				var names []string
				for _, m := range v.Maintenance {
					names = append(names, m.Node)
				}
				return names
			}, func() []any { return anys(v.Maintenance) })
		}),
	}
	watchFlag(c.Flags(), &every)
	return c
}
