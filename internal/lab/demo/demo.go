package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
)

// Options says how to play the demonstration.
type Options struct {
	Interactive bool // keep the cluster up and do what is typed instead of playing the phases
	Colour      bool // colour the output for a terminal
	ASCII       bool // print no symbols beyond ASCII

	// HadPath, HawitnessPath and HactlPath are the programs; empty: beside this one, or this one for hactl.
	HadPath, HawitnessPath, HactlPath string

	In  io.Reader // what is typed; nil: standard input
	Out io.Writer // nil: standard output
	// LogDir takes the logs and configuration files of the nodes at the end; empty: they vanish, but the ends of the logs
	// are printed after a failure.
	LogDir string
}

// ErrFailed says that a phase showed two owners or no recovery. The details have been printed.
var ErrFailed = errors.New("the demonstration failed: what went wrong is printed above")

// ErrVoid says that no phase failed, but some prove nothing.
var ErrVoid = errors.New("no phase failed, but some are void: this machine is too busy for the observer to keep its time")

// ErrInterrupted says that a signal or the end of the context ended the demonstration before its end.
var ErrInterrupted = errors.New("interrupted")

// Exit codes of the inner process: after a failure, if phases are void, after Ctrl-C or SIGTERM.
const (
	exitFailed      = 1
	exitVoid        = 3
	exitInterrupted = 130
)

// Run plays the demonstration. Every program that calls it must call [observer.MaybeRun] first in func main: the program is
// started again with the same arguments inside namespaces, where Run does the work and ends the process, and again as the
// observer. The outer call returns nil if every phase passed, [ErrFailed] or [ErrVoid] if one did not, [lab.ErrPrivilege] if
// namespaces are not allowed, and [ErrInterrupted].
func Run(ctx context.Context, opts Options) error {
	if opts.In == nil {
		opts.In = os.Stdin
	}
	if opts.Out == nil {
		opts.Out = os.Stdout
	}
	if err := opts.findPrograms(); err != nil {
		return err
	}
	code, inside, err := lab.Enter(ctx)
	switch {
	case inside:
		os.Exit(runInside(ctx, opts, err))
		panic("unreachable")
	case err != nil:
		return err
	case code == 0:
		return nil
	case code == exitInterrupted:
		return ErrInterrupted
	case code == exitVoid:
		return ErrVoid
	default:
		return ErrFailed
	}
}

// runInside does the work and returns the exit code of the inner process.
func runInside(ctx context.Context, opts Options, err error) int {
	// A terminal's Ctrl-C comes twice, from the terminal and from the outer process. ctx ends by the first; the second must not
	// cut the cleaning up short.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM)
	if err == nil {
		err = play(ctx, opts)
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(opts.Out, "\nstopped; everything has been removed")
		return exitInterrupted
	case errors.Is(err, ErrFailed):
		return exitFailed
	case errors.Is(err, ErrVoid):
		return exitVoid
	case err != nil:
		fmt.Fprintf(opts.Out, "\n%v\n", err)
		return exitFailed
	}
	return 0
}

// findPrograms fills in the paths of the programs and makes sure that they are there and stay visible inside.
func (o *Options) findPrograms() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs of the demonstration: %w", err)
	}
	for _, program := range []struct {
		path      *string
		otherwise string
	}{
		{&o.HadPath, filepath.Join(filepath.Dir(self), "had")},
		{&o.HawitnessPath, filepath.Join(filepath.Dir(self), "hawitness")},
		{&o.HactlPath, self},
	} {
		if *program.path == "" {
			*program.path = program.otherwise
		}
		path, err := filepath.Abs(*program.path)
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return fmt.Errorf("find the programs of the demonstration: %w (had and hawitness are expected beside hactl)", err)
		}
		if strings.HasPrefix(path, lab.RunDir+"/") {
			return fmt.Errorf("the demonstration covers %s, where %s is: copy the program elsewhere", lab.RunDir, path)
		}
		*program.path = path
	}
	return nil
}

// play builds the cluster and plays the phases on it, or lets a person play.
func play(ctx context.Context, opts Options) (err error) {
	began := time.Now()
	p := &printer{out: opts.Out, colour: opts.Colour, ascii: opts.ASCII}
	p.title("Two directors, a witness and a client on a virtual LAN")
	st, err := newStage(ctx, opts)
	if err != nil {
		return err
	}
	defer func() {
		if opts.LogDir != "" {
			err = errors.Join(err, st.SaveLogs(opts.LogDir))
		}
		err = errors.Join(err, st.Close())
	}()
	st.describe(p)
	if err := st.open(ctx, p); err != nil {
		if ctx.Err() == nil {
			st.printLogs(p)
		}
		return err
	}
	if opts.Interactive {
		return st.interact(ctx, p, opts.In)
	}
	failed, void := 0, 0
	for i, phase := range phases() {
		outcome, err := st.play(ctx, p, i+1, phase)
		if err != nil {
			if ctx.Err() == nil {
				st.printLogs(p)
			}
			return err
		}
		switch outcome {
		case passed:
		case unseen:
			void++
		default:
			failed++
		}
		if outcome == stuck {
			p.line("\nThe cluster does not recover: the other phases would mean nothing.")
			break
		}
	}
	p.summary(st.results, time.Since(began))
	switch {
	case failed > 0:
		st.printLogs(p)
		return ErrFailed
	case void > 0:
		return ErrVoid
	}
	return nil
}
