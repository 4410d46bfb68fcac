package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
)

// Environment is all that hactl touches of the process it runs in.
type Environment struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	StdinTTY       bool // a person can answer a question
	StdoutTTY      bool // colours and redrawing make sense
	Version        string
	GenerateKey    func() ([]byte, error)               // contents of a new key file
	CheckKey       func(path string) error              // why a file cannot be a key file
	FenceOptions   func(agent string) ([]string, error) // the options that a fence agent knows
	// Demo plays the demonstration. An error that is no api.Problem is reported as a failure.
	Demo func(context.Context, DemoOptions) error
	// Genhash fetches a page as HTTP_GET and SSL_GET do and returns the MD5 of its body in hex.
	Genhash func(context.Context, GenhashOptions) (digest string, err error)
}

// GenhashOptions is what `hactl genhash` was asked for.
type GenhashOptions struct {
	Server      netip.AddrPort
	Path        string
	TLS         bool
	VirtualHost string // empty: the server's address
	ServerName  string // that TLS asks for; empty: none
	Protocol    string // 1.0, 1.0c, 1.1 or 2
	Timeout     time.Duration
	Mark        uint32
	Raw         io.Writer // gets what the server sends; nil: nobody does
}

// DemoOptions is what `hactl demo` was asked for.
type DemoOptions struct {
	Interactive bool   // keep the cluster up and say what to type
	LogDir      string // where the nodes' logs go at the end; empty: nowhere
	Colour      bool
	ASCII       bool
	In          io.Reader
	Out         io.Writer
}

// Run runs one hactl command and returns its exit code. It returns when the command is done or ctx ends.
func Run(ctx context.Context, env Environment) int {
	a := newApp(env)
	root := a.root()
	root.SetArgs(env.Args)
	err := root.ExecuteContext(ctx)
	a.close()
	if err == nil {
		return a.exit
	}
	var problem *api.Problem
	if !errors.As(err, &problem) { // from the command tree itself: an unknown command or a wrong number of arguments
		problem = &api.Problem{Kind: api.Usage, What: strings.TrimSpace(err.Error()), Next: "hactl --help"}
	}
	a.printProblem(problem)
	return problem.ExitCode()
}

// Command returns the command tree, for those who document it.
func Command() *cobra.Command {
	root := newApp(Environment{Getenv: func(string) string { return "" }}).root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// app is one run of hactl.
type app struct {
	env      Environment
	socket   string
	output   string
	json     bool
	noColour bool
	ascii    bool
	client   *control.Client
	exit     int // of a command that has answered: predicates and bad news
}

func newApp(env Environment) *app { return &app{env: env} }

func (a *app) close() {
	if a.client != nil {
		a.client.Close()
	}
}

func (a *app) getenv(name, otherwise string) string {
	if v := a.env.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

const rootLong = `hactl asks and steers a node of a had cluster, through the control socket of the had or hawitness that runs on
this machine. It answers without quorum too, and then says whose view it prints.

hactl status is the place to begin: who owns which virtual IP, is that safe, what breaks at the next failure, and
what changed last.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "hactl",
		Short:         "Ask and steer a had cluster",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			return a.prepare()
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &api.Problem{Kind: api.Usage, What: err.Error(), Next: c.CommandPath() + " --help"}
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&a.socket, "socket", "s", a.getenv("HACTL_SOCKET", control.DefaultSocket), "control socket (`PATH`) of the daemon to ask")
	flags.StringVarP(&a.output, "output", "o", a.getenv("HACTL_OUTPUT", "table"), "`FORMAT` of the answer: table, json, jsonl or name")
	flags.BoolVar(&a.json, "json", false, "same as --output=json")
	flags.BoolVar(&a.noColour, "no-color", false, "print without colours, as with NO_COLOR set")
	flags.BoolVar(&a.ascii, "ascii", false, "print no symbols beyond ASCII")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))

	root.AddGroup(&cobra.Group{ID: "ask", Title: "Ask:"}, &cobra.Group{ID: "act", Title: "Act:"}, &cobra.Group{ID: "other", Title: "Other:"})
	in := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	in("ask", a.statusCommand(), a.clusterCommand(), a.vipCommand(), a.groupCommand(), a.lvsCommand(), a.whyCommand(), a.eventsCommand(),
		a.isOwnerCommand(), a.waitCommand())
	in("act", a.moveCommand(), a.maintenanceCommand(), a.fenceCommand())
	in("other", a.configCommand(), a.genhashCommand(), a.keygenCommand(), a.demoCommand(), a.versionCommand())
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	return root
}

var formats = []string{"table", "json", "jsonl", "name"}

// prepare checks the flags that all commands share.
func (a *app) prepare() error {
	if a.json {
		a.output = "json"
	}
	if !slices.Contains(formats, a.output) {
		return &api.Problem{Kind: api.Usage, What: fmt.Sprintf("no output format %q", a.output),
			Why: "there are " + strings.Join(formats, ", ")}
	}
	a.client = control.NewClient(a.socket)
	return nil
}

// run wraps the body of a command: an error that is no api.Problem is a failure, not wrong usage.
func run(f func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := f(c, args)
		var problem *api.Problem
		if err == nil || errors.As(err, &problem) {
			return err
		}
		return &api.Problem{Kind: api.Failed, What: err.Error()}
	}
}

func (a *app) printProblem(p *api.Problem) {
	if a.output == "json" || a.output == "jsonl" {
		line, _ := json.Marshal(p) // strings only
		fmt.Fprintf(a.env.Stderr, "%s\n", line)
		return
	}
	what := p.What
	if p.Check != "" {
		what += " (" + p.Check + ")"
	}
	fmt.Fprintf(a.env.Stderr, "hactl: %s\n", what)
	if p.Why != "" {
		fmt.Fprintf(a.env.Stderr, "  why:  %s\n", p.Why)
	}
	for _, line := range p.Details {
		fmt.Fprintf(a.env.Stderr, "        %s\n", clean(line))
	}
	if p.Next != "" {
		fmt.Fprintf(a.env.Stderr, "  next: %s\n", p.Next)
	}
}

// ask bounds a request that only reads.
func ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, askTimeout)
}

const (
	askTimeout      = 10 * time.Second
	reloadTimeout   = 40 * time.Second // the daemon gives up earlier
	completeTimeout = 300 * time.Millisecond
)

// complete offers live names. It is silent when the daemon does not answer within 300 ms.
func (a *app) complete(names func(api.ClusterStatus) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
		defer cancel()
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(ctx, true)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		free := slices.DeleteFunc(names(status), func(s string) bool { return slices.Contains(args, s) })
		return free, cobra.ShellCompDirectiveNoFileComp
	}
}

func groupNames(s api.ClusterStatus) []string {
	var names []string
	for _, g := range s.Groups {
		names = append(names, g.Name)
	}
	return names
}

func nodeNames(s api.ClusterStatus) []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return names
}

func directorNames(s api.ClusterStatus) []string {
	var names []string
	for _, n := range s.Nodes {
		if n.Role != api.Witness {
			names = append(names, n.Name)
		}
	}
	return names
}

func groupsAndVIPs(s api.ClusterStatus) []string {
	names := groupNames(s)
	for _, g := range s.Groups {
		names = append(names, g.VIPs...)
	}
	return names
}

// first completes only the first argument.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(c, args, prefix)
	}
}
