// Package daemon is what the command lines of had and hawitness have in common: flags in keepalived's spelling, the
// configuration with everything that there is to say about it, the log, signals and exit codes.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/host"
	"github.com/hactl/had/internal/control"
)

// Exit codes, as keepalived's.
const (
	ExitOK         = 0
	ExitFailed     = 1 // something on this machine, named in the log
	ExitConfig     = 2 // the configuration cannot be used
	ExitPermission = 4 // a privilege is missing
	ExitMissing    = 6 // the configuration is missing or unreadable

	// Of -t:
	ExitTestFatal  = 4
	ExitTestErrors = 5
)

// DefaultFile is keepalived's.
const DefaultFile = "/etc/keepalived/keepalived.conf"

// Flags is a parsed command line.
type Flags struct {
	File     string
	ConfigID string
	Socket   string // control socket; empty: that of the cluster block, or the default
	Test     bool
	Detail   bool
}

// ConfigError says that a configuration that can be read is not one for this program.
type ConfigError struct{ Text string }

func (e *ConfigError) Error() string { return e.Text }

// Configuration is what a daemon works with.
type Configuration struct {
	*conf.Config
	Findings []conf.Finding // what there is to say about it; nothing that keeps it from being used
	Socket   string         // control socket

	Signals <-chan os.Signal                             // SIGHUP: reload
	Reread  func() (*conf.Config, []conf.Finding, error) // reads the configuration again
}

// Run parses a command line, reads the configuration and calls work with it until the process is told to end. It returns
// the exit code. name and version are the program's.
func Run(name, version string, args []string, stdout, stderr io.Writer,
	work func(ctx context.Context, c Configuration, log *slog.Logger) error) int {
	flags, code, done := parse(name, version, args, stdout, stderr)
	if done {
		return code
	}
	level := slog.LevelInfo
	if flags.Detail {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if _, err := os.Stat(flags.File); err != nil && !strings.ContainsAny(flags.File, "*?[{") {
		fmt.Fprintf(stderr, "%s: configuration: %v\n", name, err)
		return ExitMissing
	}
	c, findings, err := load(flags.File, flags.ConfigID, name == "hawitness")
	if err != nil {
		fmt.Fprintf(stderr, "%s: configuration: %v\n", name, err)
		return ExitMissing
	}
	errorsFound := 0
	for _, f := range findings {
		if f.Severity == conf.Error {
			errorsFound++
		}
		if f.Severity > conf.Note || flags.Test || flags.Detail {
			fmt.Fprintln(stderr, f.String())
		}
	}
	switch {
	case c == nil && flags.Test:
		return ExitTestFatal
	case c == nil:
		fmt.Fprintf(stderr, "%s: the configuration cannot be used (%d errors)\n", name, errorsFound)
		return ExitConfig
	case flags.Test && errorsFound > 0:
		return ExitTestErrors
	case flags.Test:
		return ExitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP)
	defer signal.Stop(signals)
	log.Info("started", "program", name, "version", version, "config", flags.File)
	if err := work(ctx, Configuration{Config: c, Findings: findings, Socket: socketOf(flags, c), Signals: signals,
		Reread: func() (*conf.Config, []conf.Finding, error) {
			return load(flags.File, flags.ConfigID, name == "hawitness")
		}}, log); err != nil {
		log.Error("ended", "err", err)
		var unusable *ConfigError
		if errors.As(err, &unusable) {
			return ExitConfig
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EPERM) {
			return ExitPermission
		}
		return ExitFailed
	}
	log.Info("ended")
	return ExitOK
}

func socketOf(f Flags, c *conf.Config) string {
	switch {
	case f.Socket != "":
		return f.Socket
	case c.Cluster != nil:
		return c.Cluster.ControlSocket
	}
	return control.DefaultSocket
}

// load reads the configuration as this machine. A witness needs nothing but the cluster block.
func load(file, configID string, witness bool) (*conf.Config, []conf.Finding, error) {
	options, err := host.Options(file, configID)
	if err != nil {
		return nil, nil, err
	}
	options.Witness = witness
	c, findings := conf.Load(options)
	return c, findings, nil
}

// parse reads the command line. done says that there is nothing more to do.
func parse(name, version string, args []string, stdout, stderr io.Writer) (f Flags, code int, done bool) {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SetOutput(stderr)
	set.SortFlags = false
	set.StringVarP(&f.File, "use-file", "f", DefaultFile, "read this configuration `file`")
	set.StringVarP(&f.ConfigID, "config-id", "i", "", "`id` for conditional lines (@id); default: the host name up to its first dot")
	set.StringVar(&f.Socket, "control-socket", "", "answer hactl at this `path`; default: the cluster block's, or "+control.DefaultSocket)
	test := set.StringP("config-test", "t", "", "check the configuration, say everything that is wrong with it, and end")
	set.Lookup("config-test").NoOptDefVal = "-"
	set.BoolVarP(&f.Detail, "log-detail", "D", false, "log in detail")
	set.BoolP("dont-fork", "n", true, "stay in the foreground (always so)")
	set.BoolP("log-console", "l", true, "log to standard error (always so)")
	showVersion := set.BoolP("version", "v", false, "print the version and end")
	err := set.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return f, ExitOK, true
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return f, ExitFailed, true
	case *showVersion:
		fmt.Fprintf(stdout, "%s %s\n", name, version)
		return f, ExitOK, true
	}
	for _, word := range set.Args() {
		fmt.Fprintf(stderr, "%s: unexpected argument %q is ignored\n", name, word)
	}
	if *test != "" {
		f.Test = true
	}
	return f, ExitOK, false
}
