// Package daemon is what the command lines of had and hawitness have in common: flags in keepalived's spelling, the
// configuration with everything that there is to say about it, the log, signals and exit codes.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/host"
	"github.com/hactl/had/internal/conf/syntax"
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
	ExitTestUnsafe = 6 // scripts that somebody else than root could change
)

// While a program starts most of what it allocates stays, above all its configuration: to look for what does not costs more than it
// frees. For so long garbage is collected when there is so much of it, in percent of what is in use; then what the start has left goes
// back to the kernel.
const (
	startTime      = 5 * time.Second
	startGCPercent = 800
)

// witnessName is the program that needs nothing but the cluster block, and no privilege.
const witnessName = "hawitness"

// DefaultFile is keepalived's.
const DefaultFile = "/etc/keepalived/keepalived.conf"

// ConfigError says that a configuration that can be read is not one for this program.
type ConfigError struct{ Text string }

func (e *ConfigError) Error() string { return e.Text }

// Configuration is what a daemon works with.
type Configuration struct {
	*conf.Config
	Findings []conf.Finding // what there is to say about it; nothing that keeps it from being used
	Socket   string         // control socket

	Signals <-chan os.Signal                             // that ask for something while it runs
	Reread  func() (*conf.Config, []conf.Finding, error) // reads the configuration again

	Supervisor *Supervisor

	KeepIPVS bool // --dont-release-ipvs

	background bool
}

// Run parses a command line, reads the configuration and calls work with it until the process is told to end. It returns
// the exit code. name and version are the program's.
func Run(name, version string, args []string, stdout, stderr io.Writer,
	work func(ctx context.Context, c Configuration, log *slog.Logger) error) int {
	flags, code, done := parse(name, version, args, stdout, stderr)
	if done {
		return code
	}
	if _, err := os.Stat(flags.File); err != nil && !strings.ContainsAny(flags.File, "*?[{") {
		fmt.Fprintf(stderr, "%s: configuration: %v\n", name, err)
		return ExitMissing
	}
	if flags.Umask >= 0 {
		syscall.Umask(flags.Umask)
	}
	reread := func() (*conf.Config, []conf.Finding, error) {
		options, err := options(flags, name == witnessName)
		if err != nil {
			return nil, nil, err
		}
		c, findings := conf.Load(options)
		return c, findings, nil
	}
	if flags.Test {
		return test(name, flags, stderr)
	}
	relaxTimers()
	if wantsBackground(flags, os.Args[0], os.Getenv) {
		return detach(name, args, stderr)
	}
	usual := debug.SetGCPercent(startGCPercent)
	time.AfterFunc(startTime, func() {
		debug.SetGCPercent(usual)
		debug.FreeOSMemory()
	})
	c, findings, err := reread()
	if err != nil {
		fmt.Fprintf(stderr, "%s: configuration: %v\n", name, err)
		return ExitMissing
	}
	errorsFound := 0
	for _, f := range findings {
		if f.Severity == conf.Error {
			errorsFound++
		}
		if f.Severity > conf.Note || flags.Detail {
			fmt.Fprintln(stderr, f.String())
		}
	}
	if c == nil {
		fmt.Fprintf(stderr, "%s: the configuration cannot be used (%d errors)\n", name, errorsFound)
		return ExitConfig
	}
	namespace := cmp.Or(flags.Namespace, c.Process.NetNamespace)
	if err := enterNamespace(namespace); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFailed
	}
	background := os.Getenv(detachedVar) != ""
	detached := attached()
	if flags.Umask < 0 && c.Global.Umask >= 0 {
		syscall.Umask(c.Global.Umask)
	}
	log, err := openLog(name, flags, background, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFailed
	}
	if name != witnessName || flags.PIDFile != "" {
		pid, err := takePIDFile(flags.PIDFile, log.Info)
		if err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
			return ExitFailed
		}
		if pid != nil {
			defer func() {
				if err := pid.close(); err != nil {
					log.Warn("the pid file stays behind", "err", err)
				}
			}()
		}
	}
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if flags.IgnoreINT {
		signal.Ignore(syscall.SIGINT)
		ends = ends[:1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, SignalJSON, SignalClearStats)
	defer signal.Stop(signals)
	supervisor := newSupervisor(log, detached)
	supervising, unsupervised := context.WithCancel(context.Background())
	supervised := make(chan struct{})
	go func() { defer close(supervised); supervisor.run(supervising) }()
	defer func() { unsupervised(); <-supervised }()
	log.Info("started", "program", name, "version", version, "config", flags.File)
	if err := work(ctx, Configuration{Config: c, Findings: findings, Socket: socketOf(flags, c, namespace), Signals: signals, Reread: reread,
		Supervisor: supervisor, KeepIPVS: flags.KeepIPVS, background: background}, log); err != nil {
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

// socketOf returns the path of the control socket. Daemons of several network namespaces have a directory each, for it and
// for their dumps.
func socketOf(f Flags, c *conf.Config, namespace string) string {
	switch {
	case f.Socket != "":
		return f.Socket
	case c.Cluster != nil:
		return c.Cluster.ControlSocket
	case namespace != "":
		return filepath.Join(filepath.Dir(control.DefaultSocket), namespace, filepath.Base(control.DefaultSocket))
	}
	return control.DefaultSocket
}

// options says how the configuration is read on this machine. A witness needs nothing but the cluster block.
func options(f Flags, witness bool) (conf.Options, error) {
	o, err := host.Options(f.File, f.ConfigID)
	if err != nil {
		return o, err
	}
	o.Witness = witness
	if f.Checks {
		o.Checks = syntax.CheckRead | syntax.CheckMatch | syntax.CheckWildcard | syntax.CheckBrace
	}
	return o, nil
}
