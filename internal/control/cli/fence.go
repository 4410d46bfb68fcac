package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) fenceCommand() *cobra.Command {
	return a.noun("fence", "Switch nodes off, and see what was", a.fenceList(), a.fenceTest(), a.fenceHistory(), a.fenceOff(), a.fenceConfirm())
}

func (a *app) fenceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The fence devices of this node, and the newest fence of each node",
		Long: `Print the devices with which this node could switch others off, as its configuration has them, and what the cluster's
log says of the newest fence of each node. Values of options are never shown.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			ctx, cancel := ask(c.Context())
			defer cancel()
			v, err := a.client.Fences(ctx)
			if err != nil {
				return err
			}
			text, err := a.render(v, func() string { return a.fenceListText(v) }, func() []string {
				var names []string
				for _, d := range v.Devices {
					names = append(names, d.Node)
				}
				return slices.Compact(names)
			}, func() []any { return anys(v.Devices) })
			fmt.Fprint(a.env.Stdout, text)
			return err
		}),
	}
}

func (a *app) fenceListText(v api.FenceList) string {
	var b strings.Builder
	if v.Mode == "" {
		fmt.Fprintf(&b, "%s is a witness: it fences nobody.\n", v.Node)
	} else {
		fmt.Fprintf(&b, "fencing %s\n", v.Mode)
	}
	if len(v.Devices) > 0 {
		t := newTable("NODE", "LEVEL", "DEVICE", "TIMEOUT", "OPTIONS")
		for _, d := range v.Devices {
			t.add(d.Node, strconv.Itoa(d.Level), clean(d.Device), d.TimeoutSeconds.Short(), clean(strings.Join(d.Options, " ")))
		}
		b.WriteString(a.print(t))
	} else if v.Mode != "" {
		b.WriteString("There is no fence device.\n")
	}
	if len(v.Fences) > 0 {
		t := newTable("FENCED", "STAGE", "SINCE", "BY", "METHOD", "REASON")
		for _, f := range v.Fences {
			by := f.By
			if f.Person != "" {
				by = f.Person + " on " + f.By
			}
			t.add(f.Node, f.Stage, moment(f.At), clean(by), clean(f.Method), clean(f.Reason))
		}
		b.WriteString(a.print(t))
	}
	return b.String()
}

func (a *app) fenceTest() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "test [NODE]",
		Short: "Ask fence devices whether they answer; nothing is switched",
		Long: `Have this node ask its fence devices for a node, or all of them, whether they answer, and whether the node is on. Exit
code 1 if one of them does not answer. Run it on every director: each needs its own way to the devices.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.complete(directorNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout+answerMargin)
			defer cancel()
			v, err := a.client.TestFences(ctx, api.FenceRequest{Node: strings.Join(args, ""), TimeoutSeconds: api.SecondsOf(timeout)})
			if err != nil {
				return err
			}
			text, err := a.render(v, func() string {
				t := newTable("NODE", "LEVEL", "DEVICE", "POWER", "TIME", "ERROR")
				for _, check := range v.Checks {
					t.add(check.Node, strconv.Itoa(check.Level), clean(check.Device), check.Power, check.Seconds.Short(), clean(check.Error))
				}
				return a.print(t)
			}, func() []string { return nil }, func() []any { return anys(v.Checks) })
			fmt.Fprint(a.env.Stdout, text)
			if slices.ContainsFunc(v.Checks, func(check api.FenceCheck) bool { return check.Error != "" }) {
				a.exit = api.ExitFailed
			}
			return err
		}),
	}
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the devices")
	_ = c.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	return c
}

func (a *app) fenceHistory() *cobra.Command {
	return &cobra.Command{
		Use:               "history [NODE]",
		Short:             "What the journal says of fences",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.complete(directorNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			ctx, cancel := ask(c.Context())
			defer cancel()
			page, err := a.client.Events(ctx, 0)
			if err != nil {
				return err
			}
			node := strings.Join(args, "")
			page.Events = slices.DeleteFunc(page.Events, func(e api.Event) bool {
				return e.Kind != api.EventFence || node != "" && e.Node != node
			})
			if a.output == "json" {
				return writeJSON(a.env.Stdout, page, true)
			}
			return a.printEvents(page.Events)
		}),
	}
}

func (a *app) fenceOff() *cobra.Command {
	var yes bool
	req := api.FenceRequest{}
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "off NODE",
		Short: "Have this node switch another one off, now",
		Long: `Have this node switch another one off with its fence devices, although it may be well. Nothing is done without a
majority. What it owns is taken over once it is off; to hand it over first: hactl maintenance on NODE.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(a.complete(directorNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			req.Node, req.TimeoutSeconds = args[0], api.SecondsOf(timeout)
			if !yes {
				if err := a.confirm(c.Context(), fmt.Sprintf("Switch %s off.\n", clean(req.Node))); err != nil {
					return err
				}
			}
			return a.fence(c.Context(), req, timeout)
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	fenceFlags(c, &req.Reason, &timeout)
	return c
}

func (a *app) fenceConfirm() *cobra.Command {
	var attest string
	req := api.FenceRequest{Confirm: true}
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "confirm NODE",
		Short: "Say that a node is off, because you have seen to it",
		Long: `Attest that a node is off: its power is cut, and it will not come back by itself. The cluster believes you: what the
node owned is taken over at once. If the node is alive after all, it and its successor may both answer for an address until
the node's lease has run out. Your name goes into the journal. It is refused while the node answers.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(a.complete(directorNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			req.Node, req.TimeoutSeconds = args[0], api.SecondsOf(timeout)
			if attest == "" {
				said, err := a.typed(c.Context(), fmt.Sprintf("%s has no power and stays off? Type its name: ", clean(req.Node)), "--attest "+clean(req.Node))
				if err != nil {
					return err
				}
				attest = said
			}
			if attest != req.Node {
				return &api.Problem{Kind: api.Failed, What: "not done: the names differ"}
			}
			return a.fence(c.Context(), req, timeout)
		}),
	}
	c.Flags().StringVar(&attest, "attest", "", "the `NAME` of the node once more, instead of being asked for it")
	_ = c.RegisterFlagCompletionFunc("attest", cobra.NoFileCompletions)
	fenceFlags(c, &req.Reason, &timeout)
	return c
}

func fenceFlags(c *cobra.Command, reason *string, timeout *time.Duration) {
	c.Flags().StringVar(reason, "reason", "", "why; this `TEXT` goes into the journal")
	c.Flags().DurationVar(timeout, "timeout", 2*time.Minute, "how long to wait for the outcome")
	_ = c.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
}

func (a *app) fence(ctx context.Context, req api.FenceRequest, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout+answerMargin)
	defer cancel()
	v, err := a.client.Fence(ctx, req)
	if err != nil {
		return err
	}
	text, err := a.render(v, func() string { return fmt.Sprintf("%s is off (%s).\n", v.Fence.Node, clean(v.Fence.Method)) },
		func() []string { return []string{v.Fence.Node} }, nil)
	fmt.Fprint(a.env.Stdout, text)
	return err
}
