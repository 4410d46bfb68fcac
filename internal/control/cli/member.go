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

func (a *app) forceQuorum() *cobra.Command {
	var confirmed []string
	req := api.ForceRequest{}
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "force-quorum DEAD...",
		Short: "Go on without a majority that is lost for good: make this node the only voter",
		Long: `Declare all the voters that do not answer dead, for good, and make the director that is asked the only voter. It begins
anew, waits for as long as any of the dead may have had a lease, and then owns what it can. What the dead knew and this node
did not, such as the newest change of the virtual services, is lost.

THE CLUSTER BELIEVES YOU. If the dead are alive where this node cannot reach them, and are a majority, they own the virtual
IPs as well: two owners, until they meet. Whoever of them meets this node again, and was not switched off, is refused, gives
up its data and comes back as a new member.

It is refused while a majority answers, while one of the named answers or advertises, while one that does not answer is not
named, and while one that has a fence device (or, with fencing required, any director) is not off: this node switches it off first. Where
the device cannot tell, look yourself, and say so with --attest. Your name goes into the journal. Read
docs/force-quorum.md first.`,
		Example:           `  hactl cluster force-quorum lb2 w1 --reason "room 2 has burnt down"`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(nodeNames),
		RunE: run(func(c *cobra.Command, args []string) error {
			req.Dead, req.TimeoutSeconds = args, api.SecondsOf(timeout)
			names := strings.Join(args, " ")
			if len(confirmed) == 0 {
				said, err := a.typed(c.Context(), fmt.Sprintf("%s: dead, and will not come back by themselves? Type the names again: ", clean(names)),
					"--confirm "+clean(strings.Join(args, ",")))
				if err != nil {
					return err
				}
				confirmed = strings.Fields(said)
			}
			if !slices.Equal(slices.Sorted(slices.Values(confirmed)), slices.Sorted(slices.Values(args))) {
				return &api.Problem{Kind: api.Failed, What: "not done: the names differ"}
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout+answerMargin)
			defer cancel()
			v, err := a.client.ForceQuorum(ctx, req)
			if err != nil {
				return err
			}
			text, err := a.render(v, func() string {
				return fmt.Sprintf("%s begins anew as the only voter (%s).\nWatch it: hactl cluster status -w\n", v.Node, clean(v.Method))
			}, func() []string { return []string{v.Node} }, nil)
			fmt.Fprint(a.env.Stdout, text)
			return err
		}),
	}
	c.Flags().StringSliceVar(&confirmed, "confirm", nil, "the `NAMES` of the dead once more, with commas, instead of being asked for them")
	c.Flags().StringSliceVar(&req.Attested, "attest", nil, "the `NAMES` of those that you have seen to be off, whatever their fence devices say")
	c.Flags().StringVar(&req.Reason, "reason", "", "why; this `TEXT` goes into the journal")
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for the fence devices")
	for _, flag := range []string{"confirm", "attest", "reason", "timeout"} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}
