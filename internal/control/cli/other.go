package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Make a cluster key",
		Long: `Make the key from which the members of a cluster derive their certificates and the encryption of gossip. With FILE,
write it there with mode 0600 and never over an existing file; without, print it. Every member needs the same key: copy
it over a safe channel.`,
		Example: `  hactl keygen /etc/had/cluster.key`,
		Args:    cobra.MaximumNArgs(1),
		RunE: run(func(c *cobra.Command, args []string) error {
			content, err := a.env.GenerateKey()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				_, err := a.env.Stdout.Write(content)
				return err
			}
			return a.writeKey(args[0], content)
		}),
	}
}

func (a *app) writeKey(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &api.Problem{Kind: api.Refused, Check: "key-exists", What: path + " exists and is left alone",
			Why: "members with another key are refused, so replacing a key cuts this node off", Next: "remove the file first if that is meant"}
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("write key %s: %w", path, err), os.Remove(path))
	}
	fmt.Fprintf(a.env.Stderr, "wrote %s; copy it to every member, mode 0600\n", path)
	return nil
}

func (a *app) demoCommand() *cobra.Command {
	var interactive bool
	var logs string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Build a three-node cluster in network namespaces and play failures on it",
		Long: `Build two directors, a witness and a client on a virtual LAN of this machine, and play failures on them: a planned move,
the owner's daemon killed, all of its processes killed and frozen, VRRP blocked between the directors, the owner cut off, the
witness lost. After each, print
how long the virtual IP was out and how long it had two owners, as the client saw it. It takes less than two minutes,
needs no other program, and leaves nothing behind.

It needs root, or a kernel that lets users create namespaces.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			err := a.env.Demo(c.Context(), DemoOptions{Interactive: interactive, LogDir: logs, Colour: a.coloured(),
				ASCII: a.symbol("u", "") == "", In: a.env.Stdin, Out: a.env.Stdout})
			if c.Context().Err() != nil {
				return &api.Problem{Kind: api.Failed, What: "interrupted; nothing is left behind"}
			}
			return err
		}),
	}
	c.Flags().BoolVar(&interactive, "interactive", false, "keep the cluster up and print what to type")
	c.Flags().StringVar(&logs, "logs", "", "write the nodes' logs and configuration files into this `DIRECTORY` at the end")
	return c
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "The versions of hactl and of the daemon",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), time.Second)
			defer cancel()
			v := api.VersionInfo{Schema: api.Schema, Client: a.env.Version}
			if report, err := a.client.Report(ctx); err == nil {
				v.Node, v.Server = report.Node, report.Version
			}
			text, err := a.render(v, func() string {
				if v.Server == "" {
					return fmt.Sprintf("hactl %s\ndaemon does not answer at %s\n", v.Client, a.socket)
				}
				return fmt.Sprintf("hactl %s\ndaemon %s on %s\n", v.Client, clean(v.Server), v.Node)
			}, func() []string { return []string{v.Client} }, nil)
			fmt.Fprint(a.env.Stdout, text)
			return err
		}),
	}
}
