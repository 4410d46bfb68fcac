package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) configReloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon of this node read its configuration again",
		Long: `Make the daemon read its configuration again and apply what is different, as SIGHUP does. Instances that are the same
keep their state, their addresses and their leases, and send nothing. What is gone resigns and leaves; what is new
begins.

A configuration with errors changes nothing, and all of them are printed. Words of the cluster block, and the few others
that are fixed while had runs, make it refuse the reload as a whole.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), reloadTimeout)
			defer cancel()
			outcome, err := a.client.Reload(ctx)
			if err != nil {
				return err
			}
			text, err := a.render(outcome, func() string { return a.reloadText(outcome) },
				func() []string { return changedNames(outcome) }, func() []any { return anys(outcome.Changes) })
			fmt.Fprint(a.env.Stdout, text)
			return err
		}),
	}
}

func changedNames(o api.ReloadOutcome) []string {
	var names []string
	for _, c := range o.Changes {
		names = append(names, c.Name)
	}
	return names
}

func (a *app) reloadText(o api.ReloadOutcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s reloaded on %s: %s; %d unchanged\n", clean(o.Config), clean(o.Node), o.Summary, o.Unchanged)
	for _, c := range o.Changes {
		fmt.Fprintf(&b, "  %s %s %s\n", c.Kind, clean(c.Name), a.paint(c.Change, bold))
	}
	for _, f := range o.Findings {
		fmt.Fprintf(&b, "  %s\n", clean(f))
	}
	return b.String()
}
