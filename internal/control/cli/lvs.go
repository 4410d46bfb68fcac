package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) lvsCommand() *cobra.Command {
	add := a.noun("add", "Add a virtual service or a real server", a.lvsAddService(), a.lvsAddServer())
	remove := a.noun("remove", "Remove a virtual service or a real server", a.lvsRemoveService(), a.lvsRemoveServer())
	c := a.noun("lvs", "Virtual services and their real servers", a.lvsList(), add, remove, a.lvsWeight(), a.lvsDrain(), a.lvsUndrain(),
		a.lvsApply(), a.lvsHistory())
	c.Long = `Show and change what the load balancer serves. In a cluster virtual services are the cluster's: a change goes through the
log, holds on all directors at once, and survives restarts; the file of the configuration gives the first ones. Without a
cluster the file alone decides, and only list works.

SERVICE is a name as hactl lvs list prints it, in any case, or a part of it that only one service has: "192.0.2.10:80" for
"TCP 192.0.2.10:80". SERVER is address and port.`
	return c
}

func (a *app) lvsList() *cobra.Command {
	var every time.Duration
	var local bool
	c := &cobra.Command{
		Use:   "list [SERVICE]",
		Short: "Every real server: its state, its weight, whose view that is, and why",
		Long: `Print every real server of every virtual service. VIEW is the director whose checks decide: the owner of the group that
has the service's address; of a service in no group each director decides for itself, and the one that is asked is shown.
Where another director's checks say otherwise, WHY says so. Connections are those in the kernel of that director.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.completeServices),
		RunE: a.reads(&every, func(ctx context.Context, args []string) (string, error) {
			r, err := a.client.LVS(ctx, local, strings.Join(args, ""))
			if err != nil {
				return "", err
			}
			return a.render(r, func() string { return a.lvsText(r) }, func() []string {
				var names []string
				for _, s := range r.Services {
					names = append(names, s.Key)
				}
				return names
			}, func() []any { return anys(r.Services) })
		}),
	}
	c.Flags().BoolVar(&local, "local", false, "ask nobody else: what this node knows")
	watchFlag(c.Flags(), &every)
	return c
}

func (a *app) completeServices(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	var names []string
	if r, err := a.client.LVS(ctx, true, ""); err == nil {
		for _, s := range r.Services {
			names = append(names, s.Key)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) lvsText(r api.LVSReport) string {
	var b strings.Builder
	if r.View.Kind == "local" {
		b.WriteString(a.origin(r.View, false, r.At, api.Quorum{OK: true}) + "\n")
	}
	for _, f := range r.Findings {
		b.WriteString(a.finding(f))
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if len(r.Services) == 0 {
		return b.String() + "There is no virtual service.\n"
	}
	t := newTable("SERVICE", "SERVER", "STATE", "WEIGHT", "ACTIVE", "INACTIVE", "FOR", "VIEW", "VERSION", "WHY")
	for _, s := range r.Services {
		version := ""
		if s.Version > 0 {
			version = strconv.FormatUint(s.Version, 10)
		}
		if len(s.Servers) == 0 {
			t.add(s.Key, "", "", "", "", "", "", "", version, "it has no real server and is not served")
		}
		for _, v := range s.Servers {
			span, why := "", clean(v.Why)
			if !v.Since.IsZero() {
				span = since(v.Since, r.At)
			}
			if v.Drained != nil && !v.Drained.Until.IsZero() {
				why = strings.TrimSpace(why + ", until " + moment(v.Drained.Until))
			}
			if v.SetWeight != nil {
				why = strings.TrimPrefix(why+"; weight set by hand", "; ")
			}
			if len(v.Differs) > 0 {
				why = strings.TrimPrefix(why+"; "+clean(strings.Join(v.Differs, "; ")), "; ")
			}
			if s.Quorum != nil && !*s.Quorum {
				why = strings.TrimPrefix(why+"; the service has no quorum", "; ")
			}
			how := map[api.LVSState]style{api.ServerUp: good, api.ServerDown: bad, api.ServerDrained: warn}[v.State]
			reason := cell{why, plain}
			if len(v.Differs) > 0 {
				reason.how = warn
			}
			t.add(s.Key, v.Key, cell{string(v.State), how}, fmt.Sprint(v.Weight), fmt.Sprint(v.Active), fmt.Sprint(v.Inactive), span, v.Says,
				version, reason)
		}
	}
	return b.String() + a.print(t)
}

// changeFlags are those that all changes of virtual services have.
type changeFlags struct {
	req     api.LVSRequest
	version uint64
	timeout time.Duration
}

func (f *changeFlags) add(c *cobra.Command, versioned bool) {
	flags := c.Flags()
	flags.StringVar(&f.req.Reason, "reason", "", "why; this `TEXT` goes into the journal")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to wait for the outcome")
	_ = c.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	if versioned {
		flags.Uint64Var(&f.version, "version", 0, "refuse unless the service has this `VERSION`; default: whatever it has")
		_ = c.RegisterFlagCompletionFunc("version", cobra.NoFileCompletions)
	}
}

func (a *app) changeLVS(c *cobra.Command, f *changeFlags, text func(api.LVSOutcome) string) error {
	if c.Flags().Changed("version") {
		f.req.Expect = &f.version
	}
	ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
	defer cancel()
	outcome, err := a.client.ChangeLVS(ctx, f.req)
	if err != nil {
		return err
	}
	out, err := a.render(outcome, func() string { return text(outcome) }, func() []string { return outcome.Changed }, nil)
	fmt.Fprint(a.env.Stdout, out)
	return err
}

// done says what was changed, a line each.
func done(verb string) func(api.LVSOutcome) string {
	return func(o api.LVSOutcome) string {
		var b strings.Builder
		for _, name := range o.Changed {
			fmt.Fprintf(&b, "%s: %s\n", clean(name), verb)
		}
		if len(o.Changed) == 0 {
			b.WriteString("nothing to do\n")
		}
		return b.String()
	}
}

// block reads a text from a file, or from the standard input.
func (a *app) block(path string) (string, error) {
	if path == "-" {
		b, err := io.ReadAll(a.env.Stdin)
		return string(b), err
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

func (a *app) lvsAddService() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSAdd}}
	var protocol, scheduler, method, file, check string
	var servers []string
	var persistence time.Duration
	c := &cobra.Command{
		Use:   "service [ADDRESS:PORT]",
		Short: "Add a virtual service",
		Long: `Add a virtual service with its real servers. What the flags cannot say, a file can: --file takes virtual_server blocks, with
the virtual_server_group blocks that they name, as in keepalived.conf. They may not depend on anything else in that file but
global_defs, SSL, bfd_instance and track_file blocks, which are each director's own.`,
		Example: `  hactl lvs add service 192.0.2.10:80 --scheduler wrr --server 10.0.0.1:80=3 --server 10.0.0.2:80 --check tcp
  hactl lvs add service --file web.conf`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, args []string) (err error) {
			usage := func(what string) error {
				return &api.Problem{Kind: api.Usage, What: what, Next: c.CommandPath() + " --help"}
			}
			switch {
			case file != "" && len(args) > 0, file == "" && len(args) == 0:
				return usage("either an address or --file is needed")
			case file != "":
				f.req.Text, err = a.block(file)
			case len(servers) == 0:
				return usage("at least one --server is needed")
			default:
				f.req.Text, err = serviceText(args[0], protocol, scheduler, method, persistence, servers, check)
			}
			if err != nil {
				return err
			}
			return a.changeLVS(c, f, done("added"))
		}),
	}
	flags := c.Flags()
	flags.StringVar(&file, "file", "", "`PATH` of a file with virtual_server blocks; - is the standard input")
	flags.StringVar(&protocol, "protocol", "TCP", "TCP, UDP or SCTP")
	flags.StringVar(&scheduler, "scheduler", "wlc", "`NAME` of the scheduler, as in lb_algo")
	flags.StringVar(&method, "method", "NAT", "NAT, DR or TUN, as in lb_kind")
	flags.DurationVar(&persistence, "persistence", 0, "for how long a client stays with its server; 0: not at all")
	flags.StringArrayVar(&servers, "server", nil, "a real server, `ADDRESS:PORT` or ADDRESS:PORT=WEIGHT; once for each")
	flags.StringVar(&check, "check", "", "`KIND` of check of each server: tcp or ping; default: none")
	flags.BoolVar(&f.req.Replace, "replace", false, "also if there is such a service: then it becomes this one")
	f.add(c, false)
	return c
}

// hostPort is an address and port as two words.
func hostPort(s string) (string, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", &api.Problem{Kind: api.Usage, What: fmt.Sprintf("%q is not ADDRESS:PORT", s)}
	}
	return strings.Trim(s[:i], "[]") + " " + s[i+1:], nil
}

// serviceText makes a virtual_server block. What is in the words is for the daemon to check.
func serviceText(address, protocol, scheduler, method string, persistence time.Duration, servers []string, check string) (string, error) {
	name, err := hostPort(address)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "virtual_server %s {\n    protocol %s\n    lb_algo %s\n    lb_kind %s\n", name, protocol, scheduler, method)
	if persistence > 0 {
		fmt.Fprintf(&b, "    persistence_timeout %d\n", int(persistence.Seconds()))
	}
	for _, s := range servers {
		text, err := serverText(s, check)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	b.WriteString("}\n")
	return b.String(), nil
}

// serverText makes a real_server block of ADDRESS:PORT or ADDRESS:PORT=WEIGHT.
func serverText(server, check string) (string, error) {
	server, weight, weighted := strings.Cut(server, "=")
	name, err := hostPort(server)
	if err != nil {
		return "", err
	}
	text := "    real_server " + name + " {\n"
	if weighted {
		text += "        weight " + weight + "\n"
	}
	switch check {
	case "":
	case "tcp", "ping":
		text += "        " + strings.ToUpper(check) + "_CHECK {\n        }\n"
	default:
		return "", &api.Problem{Kind: api.Usage, What: fmt.Sprintf("no check %q can be made by a flag", check), Why: "there are tcp and ping",
			Next: "use --file for others"}
	}
	return text + "    }\n", nil
}

func (a *app) lvsAddServer() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSAddServer}}
	var file, check string
	var weight uint32
	c := &cobra.Command{
		Use:   "server SERVICE [ADDRESS:PORT]",
		Short: "Add a real server to a virtual service",
		Long: `Add a real server. With --like it is made as another one of the service, with the same checks and weight; with --file it is
one real_server block, as in keepalived.conf.`,
		Example:           `  hactl lvs add server 192.0.2.10:80 10.0.0.3:80 --like 10.0.0.1:80 --reason "more traffic"`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: first(a.completeServices),
		RunE: run(func(c *cobra.Command, args []string) (err error) {
			f.req.Service = args[0]
			switch {
			case (file != "") == (len(args) == 2):
				return &api.Problem{Kind: api.Usage, What: "either an address or --file is needed", Next: c.CommandPath() + " --help"}
			case file != "":
				f.req.Text, err = a.block(file)
			default:
				server := args[1]
				if c.Flags().Changed("weight") {
					server += fmt.Sprint("=", weight)
				}
				f.req.Text, err = serverText(server, check)
			}
			if err != nil {
				return err
			}
			return a.changeLVS(c, f, done("added"))
		}),
	}
	flags := c.Flags()
	flags.StringVar(&file, "file", "", "`PATH` of a file with a real_server block; - is the standard input")
	flags.Uint32Var(&weight, "weight", 1, "its weight")
	flags.StringVar(&check, "check", "", "`KIND` of check: tcp or ping; default: none")
	flags.StringVar(&f.req.Like, "like", "", "make it as this `SERVER` of the service")
	flags.BoolVar(&f.req.Replace, "replace", false, "also if the service has such a server: then it becomes this one")
	c.MarkFlagsMutuallyExclusive("like", "check", "file")
	c.MarkFlagsMutuallyExclusive("like", "weight")
	f.add(c, true)
	return c
}

func (a *app) lvsRemoveService() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSRemove}}
	var yes bool
	c := &cobra.Command{
		Use: "service SERVICE", Short: "Remove a virtual service", Long: "Remove a virtual service with its real servers, on all directors. Its connections end.",
		Args: cobra.ExactArgs(1), ValidArgsFunction: first(a.completeServices),
		RunE: run(func(c *cobra.Command, args []string) error {
			f.req.Service = args[0]
			if !yes {
				if err := a.confirm(c.Context(), fmt.Sprintf("Remove the virtual service %s from all directors. Its connections end.\n", args[0])); err != nil {
					return err
				}
			}
			return a.changeLVS(c, f, done("removed"))
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.add(c, true)
	return c
}

func (a *app) lvsRemoveServer() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSRemoveServer}}
	c := &cobra.Command{
		Use: "server SERVICE SERVER", Short: "Remove a real server from a virtual service",
		Long: "Remove a real server, on all directors. Drain it first if its connections should end by themselves.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: first(a.completeServices),
		RunE: run(func(c *cobra.Command, args []string) error {
			f.req.Service, f.req.Server = args[0], args[1]
			return a.changeLVS(c, f, done("removed"))
		}),
	}
	f.add(c, true)
	return c
}

func (a *app) lvsWeight() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSWeight}}
	c := &cobra.Command{
		Use: "weight SERVICE SERVER WEIGHT", Short: "Set the weight of a real server",
		Long: "Set the weight of a real server in place of that in its definition. \"default\" is that of the definition again.",
		Args: cobra.ExactArgs(3), ValidArgsFunction: first(a.completeServices),
		RunE: run(func(c *cobra.Command, args []string) error {
			f.req.Service, f.req.Server = args[0], args[1]
			if args[2] != "default" {
				n, err := strconv.ParseUint(args[2], 10, 31)
				if err != nil {
					return &api.Problem{Kind: api.Usage, What: fmt.Sprintf("%q is no weight", args[2]), Why: "weights go from 0 to 2147483647"}
				}
				w := uint32(n)
				f.req.Weight = &w
			}
			return a.changeLVS(c, f, done("weight "+args[2]))
		}),
	}
	f.add(c, true)
	return c
}

func (a *app) lvsDrain() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSDrainServer}}
	var span time.Duration
	c := &cobra.Command{
		Use:   "drain SERVER",
		Short: "Give a real server no new connections",
		Long: `Give a real server no new connections, in one virtual service or in all that have it: its weight is 0 on all directors until
hactl lvs undrain, or until --for has passed. Established connections go on; how many there are is printed. SERVER may be an
address without a port: then it is drained on all its ports.

A drained server is still checked, and it does not count for the quorum of its service.`,
		Example:           `  hactl lvs drain 10.0.0.1 --for 30m --reason "new kernel"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, args []string) error {
			if span < 0 || c.Flags().Changed("for") && span == 0 {
				return &api.Problem{Kind: api.Usage, What: "--for must be a span above zero, like 2h", Next: "hactl lvs drain --help"}
			}
			f.req.Server, f.req.ForSeconds = args[0], api.SecondsOf(span)
			return a.changeLVS(c, f, func(o api.LVSOutcome) string {
				return fmt.Sprintf("%s gets no new connections%s. %sUndo: hactl lvs undrain %s\n", args[0], until(o.Until),
					a.remaining(c.Context(), args[0]), args[0])
			})
		}),
	}
	c.Flags().DurationVar(&span, "for", 0, "take the mark off by itself after this long; default: never")
	c.Flags().StringVar(&f.req.Service, "service", "", "only in this `SERVICE`")
	_ = c.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"10m", "30m", "1h"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	f.add(c, false)
	return c
}

// remaining says how many connections of a server the kernels of those who decide still have.
func (a *app) remaining(ctx context.Context, server string) string {
	ctx, cancel := ask(ctx)
	defer cancel()
	r, err := a.client.LVS(ctx, false, "")
	if err != nil {
		return ""
	}
	if a, err := netip.ParseAddr(server); err == nil && a.Is6() {
		server = "[" + a.String() + "]"
	}
	active, known := uint32(0), false
	for _, s := range r.Services {
		for _, v := range s.Servers {
			if v.Says != "" && (v.Key == server || strings.HasPrefix(v.Key, server+":")) {
				active, known = active+v.Active, true
			}
		}
	}
	if !known {
		return ""
	}
	return fmt.Sprintf("It still has %d active connections. ", active)
}

func (a *app) lvsUndrain() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSUndrain}}
	c := &cobra.Command{
		Use: "undrain SERVER", Short: "Give a drained real server connections again",
		Long: "Take the mark of hactl lvs drain off a real server, in one virtual service or in all that have it.",
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, args []string) error {
			f.req.Server = args[0]
			return a.changeLVS(c, f, done("gets connections again"))
		}),
	}
	c.Flags().StringVar(&f.req.Service, "service", "", "only in this `SERVICE`")
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	f.add(c, false)
	return c
}

func (a *app) lvsApply() *cobra.Command {
	f := &changeFlags{req: api.LVSRequest{Do: api.LVSApply}}
	var yes, dryRun bool
	c := &cobra.Command{
		Use:   "apply [SERVICE]",
		Short: "Make the cluster's virtual services those of this node's file",
		Long: `Make the virtual services of the cluster, or one of them, what the configuration file of this node says, as it was read
when had was started or last reloaded. What the cluster has and the file does not is removed, and weights that were set by
hand are those of the file again; drains stay. hactl config diff shows what would change.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.completeServices),
		RunE: run(func(c *cobra.Command, args []string) error {
			f.req.Service = strings.Join(args, "")
			ctx, cancel := ask(c.Context())
			defer cancel()
			d, err := a.client.LVSDifference(ctx)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				d.File = slices.DeleteFunc(d.File, func(v api.LVSDrift) bool { return !strings.Contains(strings.ToLower(v.Key), strings.ToLower(args[0])) })
			}
			plan := a.driftText(d)
			if dryRun {
				fmt.Fprint(a.env.Stdout, plan)
				return nil
			}
			if !yes && len(d.File) > 0 {
				if err := a.confirm(c.Context(), plan); err != nil {
					return err
				}
			}
			return a.changeLVS(c, f, done("as in the file"))
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "print what would change only")
	f.add(c, false)
	return c
}

func (a *app) driftText(d api.LVSDifference) string {
	var b strings.Builder
	for _, v := range d.File {
		fmt.Fprintf(&b, "%s %s\n", a.paint(v.Change, bold), clean(v.Key))
		for _, l := range v.Lines {
			how := map[byte]style{'-': bad, '+': good}[l[0]]
			fmt.Fprintf(&b, "  %s\n", a.paint(clean(l), how))
		}
	}
	if len(d.File) == 0 {
		fmt.Fprintf(&b, "the file of %s and the cluster have the same virtual services\n", d.Node)
	}
	return b.String()
}

func (a *app) configDiffCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff",
		Short: "How the virtual services of the file, the cluster and the kernels differ",
		Long: `Print how the virtual services of this node's file, as it was last read, differ from those of the cluster: lines with - are
the cluster's alone, lines with + the file's alone. Then, how the kernel of each director differs from what it should have.

Exit code 1 if there is a difference.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, _ []string) error {
			ctx, cancel := ask(c.Context())
			defer cancel()
			d, err := a.client.LVSDifference(ctx)
			if err != nil {
				return err
			}
			text, err := a.render(d, func() string {
				text := a.driftText(d)
				for _, k := range d.Kernel {
					text += fmt.Sprintf("the kernel of %s\n", clean(k.Node))
					for _, l := range k.Lines {
						text += "  " + clean(l) + "\n"
					}
				}
				return text
			}, func() []string {
				var names []string
				for _, v := range d.File {
					names = append(names, v.Key)
				}
				return names
			}, func() []any { return anys(d.File) })
			fmt.Fprint(a.env.Stdout, text)
			if !d.Nothing {
				a.exit = api.ExitFailed
			}
			return err
		}),
	}
	return c
}

func (a *app) lvsHistory() *cobra.Command {
	f := eventFilter{severity: "info"}
	var checks bool
	c := &cobra.Command{
		Use:   "history [SERVICE]",
		Short: "Who has changed virtual services, when and why",
		Long: `Print the changes of virtual services from the journal, oldest first, or those that name one service or server. With
--checks also which real servers went down and came up.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.completeServices),
		RunE: run(func(c *cobra.Command, args []string) error {
			if err := f.prepare(time.Now()); err != nil {
				return err
			}
			ctx, cancel := ask(c.Context())
			defer cancel()
			page, err := a.client.Events(ctx, 0)
			if err != nil {
				return err
			}
			kinds := []string{api.EventLVS, api.EventSeed}
			if checks {
				kinds = append(kinds, api.EventVerdicts)
			}
			about := strings.ToLower(strings.Join(args, ""))
			page.Events = slices.DeleteFunc(page.Events, func(e api.Event) bool {
				return !slices.Contains(kinds, e.Kind) || !f.passes(e) || !strings.Contains(strings.ToLower(e.Text), about)
			})
			if a.output == "json" {
				return writeJSON(a.env.Stdout, page, true)
			}
			return a.printEvents(page.Events)
		}),
	}
	c.Flags().BoolVar(&checks, "checks", false, "also what checks have found")
	c.Flags().StringVar(&f.since, "since", "", "only changes since `WHEN`: a span (1h) or a time (2026-11-21T10:42:00Z)")
	_ = c.RegisterFlagCompletionFunc("since", cobra.NoFileCompletions)
	return c
}
