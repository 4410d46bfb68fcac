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

func (a *app) isOwnerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "is-owner GROUP|VIP",
		Short: "Exit 0 if this node owns the group or address now, else 1; prints nothing",
		Long: `Tell by the exit code whether this very node owns the group, or the group of the address, at this moment: 0 if so, 1 if
not, 6 if it knows no such group or address, 3 if the daemon does not answer. It asks no other node and prints nothing,
so it can stand in a script where a state file written by a notify script used to be.`,
		Example:           `  hactl is-owner VI_WEB && run-the-backup-job`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(a.complete(groupsAndVIPs)),
		RunE: run(func(c *cobra.Command, args []string) error {
			ctx, cancel := ask(c.Context())
			defer cancel()
			report, err := a.client.Report(ctx)
			if err != nil {
				return err
			}
			for _, g := range report.Groups {
				has := slices.ContainsFunc(g.Addresses, func(v api.AddressReport) bool { return strings.Split(v.Address, "/")[0] == args[0] })
				if g.Name != args[0] && !has {
					continue
				}
				if g.State != api.GroupOwner || !g.Unprotected && g.LeaseLeftSeconds <= 0 {
					a.exit = api.ExitFailed
				}
				return nil
			}
			return &api.Problem{Kind: api.NotFound, What: fmt.Sprintf("%s has no group or virtual IP %q", report.Node, args[0]), Next: "hactl vip list"}
		}),
	}
}

const pollInterval = 250 * time.Millisecond

func (a *app) waitCommand() *cobra.Command {
	var condition string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait --for=CONDITION",
		Short: "Wait until the cluster is healthy, has quorum, or a group has an owner",
		Long: `Wait until a condition is met, then exit 0. After --timeout exit 124 and say what was missing. A daemon that does not
answer is waited for. Conditions:

  healthy        the verdict of hactl status is HEALTHY
  quorum         this node sees a majority and a leader
  owner=GROUP    the group has an owner
  owner=GROUP:N  node N owns the group`,
		Example:           `  hactl wait --for=owner=VI_WEB:lb2 --timeout 10s`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			met, err := parseCondition(condition)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			missing := ""
			for {
				status, err := a.client.Status(ctx, false)
				var problem *api.Problem
				switch {
				case err == nil:
					var known *api.Problem
					if missing, known = met(status); known != nil {
						return known
					}
					if missing == "" {
						return nil
					}
				case errors.As(err, &problem) && problem.Kind == api.Unreachable:
					missing = problem.What
				case ctx.Err() == nil:
					return err
				}
				select {
				case <-ctx.Done():
					return &api.Problem{Kind: api.TimedOut, What: fmt.Sprintf("waited %s for %s", timeout, condition), Why: missing, Next: "hactl status"}
				case <-time.After(pollInterval):
				}
			}
		}),
	}
	c.Flags().StringVar(&condition, "for", "", "`CONDITION` to wait for: healthy, quorum, owner=GROUP or owner=GROUP:NODE")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this long")
	_ = c.MarkFlagRequired("for")
	_ = c.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("for", a.complete(func(s api.ClusterStatus) []string {
		names := []string{"healthy", "quorum"}
		for _, g := range s.Groups {
			names = append(names, "owner="+g.Name)
			for _, n := range directorNames(s) {
				names = append(names, "owner="+g.Name+":"+n)
			}
		}
		return names
	}))
	return c
}

// parseCondition returns a function that says what is missing, or "" if nothing is. Its problem says that waiting is in
// vain.
func parseCondition(condition string) (func(api.ClusterStatus) (string, *api.Problem), error) {
	group, isOwner := strings.CutPrefix(condition, "owner=")
	switch {
	case condition == "healthy":
		return func(s api.ClusterStatus) (string, *api.Problem) {
			if s.Verdict == api.Healthy {
				return "", nil
			}
			text := "the cluster is " + string(s.Verdict)
			for _, f := range s.Findings {
				if f.Severity != api.Info {
					return text + ": " + f.Text, nil
				}
			}
			return text, nil
		}, nil
	case condition == "quorum":
		return func(s api.ClusterStatus) (string, *api.Problem) {
			if s.Quorum.OK && s.Leader != "" {
				return "", nil
			}
			return fmt.Sprintf("%s sees %d of %d votes, leader %q", s.Node, s.Quorum.Reachable, s.Quorum.Voters, s.Leader), nil
		}, nil
	case isOwner:
		group, node, named := strings.Cut(group, ":")
		return func(s api.ClusterStatus) (string, *api.Problem) {
			k := slices.IndexFunc(s.Groups, func(g api.GroupStatus) bool { return g.Name == group })
			switch {
			case k < 0 && s.Quorum.OK:
				return "", api.NoSuchGroup(group, groupNames(s))
			case named && !slices.Contains(nodeNames(s), node):
				return "", api.NoSuchNode(node, nodeNames(s))
			case k < 0:
				return "this node knows no group " + group + " yet", nil
			}
			g := s.Groups[k]
			served := g.State == api.Owned || g.State == api.Unprotected && g.Owner != ""
			switch {
			case served && (!named || g.Owner == node):
				return "", nil
			case g.Owner == "":
				return group + " has no owner", nil
			default:
				return fmt.Sprintf("%s is with %s, %s", group, g.Owner, g.State), nil
			}
		}, nil
	}
	return nil, &api.Problem{Kind: api.Usage, What: fmt.Sprintf("no condition %q", condition),
		Why: "there are healthy, quorum, owner=GROUP and owner=GROUP:NODE", Next: "hactl wait --help"}
}
