package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

// answerMargin is how much longer the client waits than the daemon.
const answerMargin = 5 * time.Second

func (a *app) moveCommand() *cobra.Command {
	var req api.MoveRequest
	var yes, dryRun bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "move GROUP [--to NODE] | move --all --from NODE [--to NODE]",
		Short: "Move a group to another director, planned: release, then acquire",
		Long: `Move a group (or all groups of a node) to another director. The owner withdraws first, then the new owner is granted
the next epoch, so there is never a second owner; the interruption is a few milliseconds. Without --to the director
is chosen that the rules for places would have without its owner, or else the one that would take over anyway. The group stays where it was moved until it is moved again or its owner is lost,
even if another director has a higher priority.

The command prints its plan and asks before it acts. It returns when the outcome has been observed. Interrupting it ends
the waiting, not the move.`,
		Example: `  hactl move VI_WEB --to lb2 --reason "kernel update"
  hactl move --all --from lb1 --yes
  hactl move VI_WEB --to lb2 --dry-run`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.complete(groupNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			req.Groups, req.TimeoutSeconds = args, api.SecondsOf(timeout)
			return a.move(c.Context(), req, yes, dryRun, timeout)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&req.To, "to", "", "director `NODE` that takes the group; default: the one that the rules for places would have, or that would take over")
	flags.StringVar(&req.From, "from", "", "move only what this `NODE` owns")
	flags.BoolVar(&req.All, "all", false, "move every group that --from owns")
	_ = c.RegisterFlagCompletionFunc("to", a.complete(directorNames))
	_ = c.RegisterFlagCompletionFunc("from", a.complete(directorNames))
	a.actionFlags(c, &yes, &dryRun, &req.Reason, &timeout)
	return c
}

// actionFlags are those of every command that changes something.
func (a *app) actionFlags(c *cobra.Command, yes, dryRun *bool, reason *string, timeout *time.Duration) {
	flags := c.Flags()
	flags.BoolVarP(yes, "yes", "y", false, "do not ask")
	flags.BoolVar(dryRun, "dry-run", false, "print the plan only; exit 5 if it would be refused")
	flags.StringVar(reason, "reason", "", "why; this `TEXT` goes into the journal")
	flags.DurationVar(timeout, "timeout", 30*time.Second, "how long to wait for the outcome")
	_ = c.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
}

func (a *app) move(ctx context.Context, req api.MoveRequest, yes, dryRun bool, timeout time.Duration) error {
	planCtx, cancel := ask(ctx)
	defer cancel()
	plan, err := a.client.PlanMove(planCtx, req)
	if err != nil {
		return err
	}
	work := 0
	var refused *api.Problem
	for _, step := range plan.Steps {
		switch {
		case step.Refused != nil:
			refused = step.Refused
		case !step.Nothing:
			work++
		}
	}
	if dryRun {
		text, err := a.render(plan, func() string { return a.planText(plan.Steps) }, func() []string { return stepGroups(plan.Steps) }, nil)
		fmt.Fprint(a.env.Stdout, text)
		if err == nil && refused != nil {
			a.exit = api.ExitRefused
		}
		return err
	}
	if refused != nil {
		if len(plan.Steps) > 1 {
			fmt.Fprint(a.env.Stderr, a.planText(plan.Steps))
		}
		return refused
	}
	if work > 0 && !yes {
		if err := a.confirm(ctx, a.planText(plan.Steps)); err != nil {
			return err
		}
	}
	outcomes := []api.MoveOutcome{}
	for _, step := range plan.Steps {
		one := api.MoveRequest{Groups: []string{step.Group}, From: step.From, To: step.To, Reason: req.Reason, TimeoutSeconds: req.TimeoutSeconds}
		stepCtx, cancel := context.WithTimeout(ctx, timeout+answerMargin)
		outcome, err := a.client.Move(stepCtx, one)
		cancel()
		if err != nil {
			return err
		}
		outcomes = append(outcomes, outcome)
		if a.output == "table" {
			fmt.Fprint(a.env.Stdout, a.outcomeText(outcome))
		}
	}
	switch a.output {
	case "table":
		if len(outcomes) == 0 {
			fmt.Fprintf(a.env.Stdout, "%s owns nothing: nothing to move\n", req.From)
		}
		return nil
	case "json":
		return writeJSON(a.env.Stdout, struct {
			Schema   string            `json:"schema"`
			Outcomes []api.MoveOutcome `json:"outcomes"`
		}{api.Schema, outcomes}, true)
	case "name":
		fmt.Fprintln(a.env.Stdout, strings.Join(stepGroups(plan.Steps), "\n"))
		return nil
	default:
		for _, o := range outcomes {
			if err := writeJSON(a.env.Stdout, o, false); err != nil {
				return err
			}
		}
		return nil
	}
}

func stepGroups(steps []api.MoveStep) []string {
	names := make([]string, len(steps))
	for i, s := range steps {
		names[i] = s.Group
	}
	return names
}

func (a *app) planText(steps []api.MoveStep) string {
	var b strings.Builder
	for _, s := range steps {
		switch {
		case s.Refused != nil:
			fmt.Fprintf(&b, "%s %s: %s (%s)\n", a.paint("Refused", bad), s.Group, clean(s.Refused.Why), s.Refused.Check)
		case s.Nothing:
			fmt.Fprintf(&b, "Nothing to do for %s: %s owns it\n", s.Group, s.To)
		default:
			fmt.Fprintf(&b, "Move %s (%s): %s -> %s. Expected interruption about %s.\n", s.Group, strings.Join(s.VIPs, ", "), s.From, s.To,
				s.ExpectedInterruptionSeconds.Short())
		}
		for _, w := range s.Warnings {
			fmt.Fprintf(&b, "  ! %s\n", clean(w))
		}
	}
	return b.String()
}

func (a *app) outcomeText(o api.MoveOutcome) string {
	if o.Nothing {
		return fmt.Sprintf("%s: nothing to do, %s owns it\n", o.Group, o.To)
	}
	line := fmt.Sprintf("%s: %s -> %s, epoch %d", o.Group, o.From, o.To, o.Epoch)
	for _, p := range o.Phases {
		line += fmt.Sprintf(" | %s %s", clean(p.Text), p.Seconds.Short())
	}
	if o.InterruptionSeconds > 0 {
		line += " | interruption " + o.InterruptionSeconds.Short()
	}
	if o.Text != "" {
		line += " | " + clean(o.Text)
	}
	return line + "\n"
}

// confirm shows a plan on stderr and asks for a yes.
func (a *app) confirm(ctx context.Context, plan string) error {
	fmt.Fprint(a.env.Stderr, plan)
	said, err := a.typed(ctx, "Proceed? [y/N] ", "--yes")
	if err != nil {
		return err
	}
	if said = strings.ToLower(said); said != "y" && said != "yes" {
		return &api.Problem{Kind: api.Failed, What: "not done: nobody said yes"}
	}
	return nil
}

// typed asks for a line on stderr. Without a terminal to ask on it refuses, and names the flag that stands for the answer.
// When ctx ends, the goroutine that reads the terminal is left behind; the process is about to end.
func (a *app) typed(ctx context.Context, question, instead string) (string, error) {
	if !a.env.StdinTTY {
		return "", &api.Problem{Kind: api.Usage, What: "not done: this needs a yes, and there is no terminal to ask on",
			Next: "repeat the command with " + instead}
	}
	fmt.Fprint(a.env.Stderr, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.env.Stdin).ReadString('\n') // an error is no yes
		answer <- strings.TrimSpace(line)
	}()
	select {
	case said := <-answer:
		return said, nil
	case <-ctx.Done():
		fmt.Fprintln(a.env.Stderr)
		return "", nil
	}
}
