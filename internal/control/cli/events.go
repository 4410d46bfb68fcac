package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

type eventFilter struct {
	since    string
	from     time.Time
	group    string
	node     string
	severity string
}

func (f *eventFilter) prepare(now time.Time) error {
	if !slices.Contains(severities, f.severity) {
		return &api.Problem{Kind: api.Usage, What: fmt.Sprintf("no severity %q", f.severity),
			Why: "there are " + strings.Join(severities, ", "), Next: "hactl events --help"}
	}
	if f.since == "" {
		return nil
	}
	if d, err := time.ParseDuration(f.since); err == nil && d >= 0 {
		f.from = now.Add(-d)
		return nil
	}
	t, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return &api.Problem{Kind: api.Usage, What: fmt.Sprintf("--since %q is neither a span nor a time", f.since),
			Why: "spans are like 90s, 15m, 1h30m; times like 2026-11-21T10:42:00Z", Next: "hactl events --help"}
	}
	f.from = t
	return nil
}

var severities = []string{"info", "warn", "error"}

func (f *eventFilter) passes(e api.Event) bool {
	return !e.Time.Before(f.from) && (f.group == "" || e.Group == f.group) && (f.node == "" || e.Node == f.node) &&
		slices.Index(severities, string(e.Severity)) >= slices.Index(severities, f.severity)
}

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	f := eventFilter{}
	c := &cobra.Command{
		Use:   "events",
		Short: "The journal: who owned what, why it changed, and who asked for it",
		Long: `Print the journal of the cluster as this node keeps it, oldest first, together with what only this node has seen
(log index 0 in JSON). With -f, print further events as they happen, until interrupted.`,
		Example: `  hactl events --since 1h
  hactl events -f --group VI_WEB
  hactl events -o jsonl | jq -r 'select(.kind == "grant") | .text'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			if err := f.prepare(time.Now()); err != nil {
				return err
			}
			if follow {
				return a.followEvents(c.Context(), &f)
			}
			ctx, cancel := ask(c.Context())
			defer cancel()
			page, err := a.client.Events(ctx, 0)
			if err != nil {
				return err
			}
			page.Events = slices.DeleteFunc(page.Events, func(e api.Event) bool { return !f.passes(e) })
			if a.output == "json" {
				return writeJSON(a.env.Stdout, page, true)
			}
			return a.printEvents(page.Events)
		}),
	}
	flags := c.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on printing events as they happen")
	flags.StringVar(&f.since, "since", "", "only events since `WHEN`: a span (1h) or a time (2026-11-21T10:42:00Z)")
	flags.StringVar(&f.group, "group", "", "only events of this `GROUP`")
	flags.StringVar(&f.node, "node", "", "only events about this `NODE`")
	flags.StringVar(&f.severity, "severity", "info", "only events at least as severe as `LEVEL`: info, warn or error")
	_ = c.RegisterFlagCompletionFunc("group", a.complete(groupNames))
	_ = c.RegisterFlagCompletionFunc("node", a.complete(nodeNames))
	_ = c.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions(severities, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("since", cobra.NoFileCompletions)
	return c
}

func (a *app) followEvents(ctx context.Context, f *eventFilter) error {
	if a.output == "json" {
		a.output = "jsonl" // an endless answer is one value per line
	}
	err := a.client.Follow(ctx, 0, func(page api.EventPage) error {
		return a.printEvents(slices.DeleteFunc(page.Events, func(e api.Event) bool { return !f.passes(e) }))
	})
	if errors.Is(err, context.Canceled) || ctx.Err() != nil {
		return nil // interrupted: that is how following ends
	}
	return err
}

func (a *app) printEvents(events []api.Event) error {
	for _, e := range events {
		var err error
		switch a.output {
		case "jsonl":
			err = writeJSON(a.env.Stdout, e, false)
		case "name":
			_, err = fmt.Fprintln(a.env.Stdout, e.ID)
		default:
			_, err = fmt.Fprintf(a.env.Stdout, "%s\n", a.eventText(e))
		}
		if err != nil {
			return fmt.Errorf("print event: %w", err)
		}
	}
	return nil
}

// eventText is one line: time, severity, kind, group or node, text.
func (a *app) eventText(e api.Event) string {
	how := map[api.Severity]style{api.Warn: warn, api.Error: bad}[e.Severity]
	about := e.Group
	if about == "" {
		about = e.Node
	}
	if about == "" {
		about = "-"
	}
	text := clean(e.Text)
	if e.Reason != "" && !strings.Contains(e.Text, e.Reason) {
		text += fmt.Sprintf(" (%s)", clean(e.Reason))
	}
	if e.By != "" && !strings.Contains(e.Text, "by "+e.By) {
		text += " by " + clean(e.By)
	}
	return fmt.Sprintf("%s  %s  %-11s  %-8s  %s", e.Time, a.paint(fmt.Sprintf("%-5s", e.Severity), how), e.Kind, about, text)
}
