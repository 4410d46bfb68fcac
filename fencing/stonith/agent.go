package stonith

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Action is what an agent is asked for.
type Action string

// The actions of the API that are used. Reboot is not: a machine is switched off, looked at, and switched on again.
const (
	Metadata Action = "metadata"
	Monitor  Action = "monitor" // does the device answer?
	Status   Action = "status"
	Off      Action = "off"
	On       Action = "on"
)

// Exit codes of the API.
const (
	exitOK  = 0 // done; as a status: on
	exitOff = 2 // as a status: the device answers, and the machine is off
)

// Device is one way to switch a machine off: an agent with its options, or a command.
type Device struct {
	Agent   string   // path of a fence agent; empty: Command
	Command []string // program and arguments; exit code 0 says that the machine is off
	Options []Option // for the agent, in the order of the file
	Level   int      // devices of one level belong together: all of them, or none has done it
	Timeout time.Duration
	Retries int // after the first try
}

// Option is one line that an agent gets.
type Option struct{ Name, Value string }

// Secret tells whether the value of an option must not be shown, by its name.
func (o Option) Secret() bool { return SecretName(o.Name) }

// SecretName tells whether an option of this name is a secret.
func SecretName(name string) bool {
	return slices.ContainsFunc([]string{"pass", "secret", "token", "community", "kg", "api_key", "apikey", "private"},
		func(part string) bool { return strings.Contains(strings.ToLower(name), part) })
}

// Name is how a device is called in messages.
func (d Device) Name() string {
	program := d.Agent
	if program == "" {
		program = d.Command[0]
	}
	return program[strings.LastIndexByte(program, '/')+1:]
}

// Bounds of what an agent may say.
const (
	outputKept = 64 << 10    // bytes that are read of a list or a status
	metaKept   = 1 << 20     // bytes that are read of metadata
	saidKept   = 200         // bytes of an error's text
	killGrace  = time.Second // for the pipes of a killed agent to close
)

// ErrTimeout is wrapped by the error of a run that took too long.
var ErrTimeout = errors.New("no answer within the timeout")

// result is one run of an agent.
type result struct {
	code   int
	output string // standard output
	said   string // what it says of a failure, as one line without secrets
}

// run runs a program with lines on its standard input and waits for it, at most for timeout. An error says that there is
// no exit code to go by.
func run(ctx context.Context, argv []string, lines []Option, timeout time.Duration, kept int) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdin bytes.Buffer
	for _, o := range lines {
		fmt.Fprintf(&stdin, "%s=%s\n", o.Name, o.Value)
	}
	out, errOut := &bounded{most: kept}, &bounded{most: outputKept}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, out, errOut
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = killGroup, killGrace
	err := cmd.Run()
	if cmd.Process != nil {
		_ = killGroup() // what it has left behind
	}
	r := result{output: out.String(), said: oneLine(errOut.String()+"\n"+out.String(), lines)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return r, fmt.Errorf("%w of %v", ErrTimeout, timeout)
	case ctx.Err() != nil:
		return r, ctx.Err()
	case err == nil:
		return r, nil
	case errors.As(err, &exit) && exit.Exited():
		r.code = exit.ExitCode()
		return r, nil
	case errors.As(err, &exit):
		return r, fmt.Errorf("it was killed by signal %v", exit.Sys().(syscall.WaitStatus).Signal())
	case errors.Is(err, exec.ErrWaitDelay):
		return r, fmt.Errorf("%w: it has ended and its children have not", ErrTimeout)
	case errors.Is(err, os.ErrNotExist):
		return r, fmt.Errorf("%s does not exist", argv[0])
	}
	return r, errors.New(oneLine(err.Error(), lines))
}

// bounded keeps the first bytes that are written to it.
type bounded struct {
	bytes.Buffer
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), b.most-b.Len())])
	return len(p), nil
}

// oneLine is the last line of a text that has letters in it, short and without secrets or control characters.
func oneLine(text string, options []Option) string {
	for _, o := range options {
		if o.Secret() && o.Value != "" {
			text = strings.ReplaceAll(text, o.Value, "***")
		}
	}
	last := ""
	for line := range strings.Lines(strings.ToValidUTF8(text, "?")) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, line))
		if line != "" {
			last = line
		}
	}
	if len(last) > saidKept {
		last = strings.ToValidUTF8(last[:saidKept], "") + "..."
	}
	return last
}

// ask runs the agent of a device for an action on a node.
func (d Device) ask(ctx context.Context, action Action, node string) (result, error) {
	lines := append(slices.Clone(d.Options), Option{"nodename", node}, Option{"action", string(action)})
	if d.Agent == "" {
		return run(ctx, append(slices.Clone(d.Command), string(action), node), lines, d.Timeout, outputKept)
	}
	return run(ctx, []string{d.Agent}, lines, d.Timeout, outputKept)
}

// done turns an exit code other than 0 into an error.
func (d Device) done(action Action, r result, err error) error {
	if err == nil && r.code != exitOK {
		err = fmt.Errorf("exit code %d", r.code)
		if r.said != "" {
			err = fmt.Errorf("exit code %d: %s", r.code, r.said)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", d.Name(), action, err)
	}
	return nil
}

// Power is what a device says of a machine.
type Power string

// The states of a machine.
const (
	PowerOn  Power = "on"
	PowerOff Power = "off"
)

// Status asks a device for the state of a node. An error says that it could not tell.
func (d Device) Status(ctx context.Context, node string) (Power, error) {
	r, err := d.ask(ctx, Status, node)
	switch {
	case err == nil && r.code == exitOff:
		return PowerOff, nil
	case err == nil && r.code == exitOK:
		return PowerOn, nil
	}
	return "", d.done(Status, r, err)
}

// Monitor asks whether the device of an agent answers at all.
func (d Device) Monitor(ctx context.Context, node string) error {
	r, err := d.ask(ctx, Monitor, node)
	return d.done(Monitor, r, err)
}

// Check asks whether the device answers, and how the node is, as far as the agent can tell. Nothing is switched.
func (d Device) Check(ctx context.Context, node string) (Power, error) {
	if d.Agent == "" {
		return "", errors.New("a command cannot be asked without being run")
	}
	if err := d.Monitor(ctx, node); err != nil {
		return "", err
	}
	if about, err := Describe(ctx, d.Agent); err != nil || !about.Offers(Status) {
		return "", err
	}
	return d.Status(ctx, node)
}
