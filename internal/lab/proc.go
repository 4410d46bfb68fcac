package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// reapLimit bounds the wait for the end of a process that was sent SIGKILL.
	reapLimit = 5 * time.Second
	// treeRounds bounds how often a tree of processes is looked at again for children that were born meanwhile.
	treeRounds = 5
)

// Command is a program to run on a host.
type Command struct {
	Path string   // the program's file
	Name string   // what the program is told that it is called (argv[0]); empty: Path
	Args []string // without the program's name
	Env  []string // in addition to this process's environment
	Dir  string   // working directory; empty: this process's

	Stdin  io.Reader // nil: nothing
	Output io.Writer // standard output and error; nil: LogFile, or nothing
	Stdout io.Writer // standard output alone, if it differs from Output

	LogFile string // file to append standard output and error to, if Output is nil
	User    *User  // nil: this process's user
}

// User is a user and group to run a program as, without supplementary groups.
type User struct{ UID, GID uint32 }

// Proc is a program running on a host. It leads its own session, so the terminal's Ctrl-C does not reach it and its
// descendants can be found after its death. It is sent SIGKILL when this process dies.
type Proc struct {
	host  *Host
	cmd   *exec.Cmd
	name  string
	start time.Time
	done  chan struct{}
	err   error // of Wait; set before done is closed
	log   *os.File
}

// Start runs the program in the host's network namespace.
func (h *Host) Start(c Command) (*Proc, error) {
	cmd := exec.Command(c.Path, c.Args...)
	if c.Name != "" {
		cmd.Args[0] = c.Name
	}
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir = c.Dir
	cmd.Stdin = c.Stdin
	cmd.Stdout = c.Output
	cmd.Stderr = c.Output
	// Descendants may keep the output pipes open after the program's end.
	cmd.WaitDelay = reapLimit
	p := &Proc{host: h, cmd: cmd, name: filepath.Base(c.Path), done: make(chan struct{})}
	if c.Output == nil && c.LogFile != "" {
		log, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, fmt.Errorf("start %s on %s: %w", p.name, h.name, err)
		}
		p.log = log
		cmd.Stdout, cmd.Stderr = log, log
	}
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if c.User != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID}
	}
	if h.group != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(h.group.dir.Fd())
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	err := errClosed
	if !h.gone {
		p.start = time.Now()
		err = h.ns.do(cmd.Start)
	}
	if err != nil {
		if p.log != nil {
			p.log.Close()
		}
		return nil, fmt.Errorf("start %s on %s: %w", p.name, h.name, err)
	}
	h.procs = append(h.procs, p)
	h.lab.log.Debug("process started", "host", h.name, "program", p.name, "pid", p.PID())
	go p.wait()
	return p, nil
}

// wait collects the process's end.
func (p *Proc) wait() {
	p.err = p.cmd.Wait()
	if p.log != nil {
		p.log.Close()
	}
	h := p.host
	h.mu.Lock()
	h.procs = slices.DeleteFunc(h.procs, func(q *Proc) bool { return q == p })
	h.mu.Unlock()
	close(p.done)
}

// PID returns the process's number, in this process's PID namespace.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Host returns the host that the process runs on.
func (p *Proc) Host() *Host { return p.host }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Running says whether the process has not ended; a stopped process is running.
func (p *Proc) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end of the process: nil for exit code 0, an *exec.ExitError otherwise, ctx's error if that comes first.
func (p *Proc) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ExitCode returns the exit code of an ended process, -1 if it was killed by a signal or runs.
func (p *Proc) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the process alone. It is no error if the process has ended.
func (p *Proc) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s on %s: %w", sig, p.name, p.host.name, err)
	}
	return nil
}

// SignalTree sends a signal to the process and all its descendants that stayed in its session, the process first. It looks
// again until it finds no process that it has not signalled yet.
func (p *Proc) SignalTree(sig syscall.Signal) error {
	var errs []error
	seen := map[int]bool{}
	if p.Running() {
		seen[p.PID()] = true
		errs = append(errs, p.Signal(sig))
	}
	for range treeRounds {
		fresh := false
		for _, pid := range sessionMembers(p.PID()) {
			if seen[pid] {
				continue
			}
			seen[pid], fresh = true, true
			errs = append(errs, p.signalMember(pid, sig))
		}
		if !fresh {
			break
		}
	}
	return errors.Join(errs...)
}

// signalMember sends a signal to a process of this one's session.
func (p *Proc) signalMember(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d of %s on %s: %w", sig, pid, p.name, p.host.name, err)
	}
	return nil
}

// KillTree sends SIGKILL to the process and its descendants. They are stopped before, and the youngest dies first, so that none has the
// time to learn of the death of another, and to do something about it.
func (p *Proc) KillTree() error {
	errs := []error{p.SignalTree(syscall.SIGSTOP)}
	young := sessionMembers(p.PID())
	slices.Sort(young)
	for _, pid := range slices.Backward(young) {
		if pid != p.PID() {
			errs = append(errs, p.signalMember(pid, syscall.SIGKILL))
		}
	}
	return errors.Join(append(errs, p.SignalTree(syscall.SIGKILL))...)
}

// Stop sends SIGTERM and waits; after the grace period it sends SIGKILL to all that is left and says so in its error.
func (p *Proc) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
	}
	if err := p.KillTree(); err != nil {
		return err
	}
	if err := p.reap(); err != nil {
		return err
	}
	return fmt.Errorf("%s on %s did not end within %s of SIGTERM and was killed", p.name, p.host.name, grace)
}

// reap waits for the end of a process that was sent SIGKILL.
func (p *Proc) reap() error {
	select {
	case <-p.done:
		return nil
	case <-time.After(reapLimit):
		return fmt.Errorf("%s on %s (process %d) is still there %s after SIGKILL", p.name, p.host.name, p.PID(), reapLimit)
	}
}

// Age returns the time since the process was started.
func (p *Proc) Age() time.Duration { return time.Since(p.start) }

// sessionMembers lists the living processes whose session is led, or was led, by the process of this number.
func sessionMembers(session int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		if state, sid, ok := parseStat(string(stat)); ok && sid == session && state != 'Z' && state != 'X' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parseStat takes the state and the session out of a line of /proc/PID/stat (proc_pid_stat(5)). The second field is the
// program's name in parentheses and may itself contain blanks and parentheses.
func parseStat(line string) (state byte, session int, ok bool) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(line[end+1:]) // state ppid pgrp session ...
	if len(fields) < 4 || len(fields[0]) != 1 {
		return 0, 0, false
	}
	session, err := strconv.Atoi(fields[3])
	return fields[0][0], session, err == nil
}
