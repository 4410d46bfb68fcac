package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) removeMember() *cobra.Command {
	var confirmed string
	req := api.RemovalRequest{}
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "remove-member NODE",
		Short: "Take a member out of the cluster for good",
		Long: `Take a node's vote away. The leader of the log waits until no promise to the present voters runs any more, which takes
about a lease. It is refused while the node owns a group and answers (hactl maintenance on NODE hands over first), if those who
remain would have no majority that answers, and if no director would remain. Stop the node afterwards, and take its peer
line out of the configuration of the others.

A node that answers is told, and stays out until it is started with an empty data directory. One that does not answer cannot
be told: as long as it is a peer in the configuration of the others it comes back as a new member when it starts.`,
		Example:           `  hactl cluster remove-member lb2 --reason "sold"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(a.complete(nodeNames)),
		RunE: run(func(c *cobra.Command, args []string) error {
			req.Node, req.TimeoutSeconds = args[0], api.SecondsOf(timeout)
			if confirmed == "" {
				said, err := a.typed(c.Context(), fmt.Sprintf("%s is to leave the cluster for good? Type its name: ", clean(req.Node)),
					"--confirm "+clean(req.Node))
				if err != nil {
					return err
				}
				confirmed = said
			}
			if confirmed != req.Node {
				return &api.Problem{Kind: api.Failed, What: "not done: the names differ"}
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout+answerMargin)
			defer cancel()
			v, err := a.client.RemoveMember(ctx, req)
			if err != nil {
				return err
			}
			text, err := a.render(v, func() string {
				line := fmt.Sprintf("%s is no member any more; %d votes are left.\n", clean(v.MemberID), v.Voters)
				if !v.Told {
					line += "It does not answer: unless it is no peer in the configuration any more, it comes back when it starts.\n"
				}
				return line
			}, func() []string { return []string{v.Node} }, nil)
			fmt.Fprint(a.env.Stdout, text)
			return err
		}),
	}
	c.Flags().StringVar(&confirmed, "confirm", "", "the `NAME` of the node once more, instead of being asked for it")
	c.Flags().StringVar(&req.Reason, "reason", "", "why; this `TEXT` goes into the journal")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the outcome")
	for _, flag := range []string{"confirm", "reason", "timeout"} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}
