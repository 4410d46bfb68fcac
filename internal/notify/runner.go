package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the runner.
const (
	maxRunning    = 256             // scripts under way at once; more are refused
	killDelay     = 2 * time.Second // from SIGTERM to SIGKILL, and from there to giving up on the script
	startPatience = time.Second     // how long the start of a script may delay the next one in order
)

// The errors of an Outcome on which a caller may branch.
var (
	ErrTooMany    = fmt.Errorf("more than %d scripts are running", maxRunning)
	ErrTimeout    = errors.New("timeout")
	ErrUnkillable = errors.New("still there after SIGKILL")
)

// Outcome is what became of one run of a script.
type Outcome struct {
	// Err is nil if and only if the script succeeded: it ended with exit status 0 in time. Otherwise it says why not:
	// ErrTimeout, the context's error, ErrUnkillable besides these, ErrTooMany, an *exec.ExitError, or what made it
	// impossible to start.
	Err error

	// Started tells whether the script ran at all. One that cannot be executed has failed; keepalived takes it for a
	// success.
	Started bool

	Duration time.Duration // from start to end
}

// OK tells whether the script succeeded.
func (o Outcome) OK() bool { return o.Err == nil }

// Runner runs scripts. Its methods may be called by any goroutine and do not block, except Watch and Wait. The zero
// Runner is ready to use.
type Runner struct {
	mu      sync.Mutex
	running int
	idle    chan struct{}   // closed when running falls to 0; nil if nobody waits
	last    <-chan struct{} // closed when the last script that runs in order has started

	// kill and killDelay replace the system call and the constant in tests.
	kill      func(pid int, signal syscall.Signal) error
	killDelay time.Duration
}

// Job is one run of a script.
type Job struct {
	Script Script
	Extra  []string // further arguments

	// Timeout is the time that the script has. Then its process group gets SIGTERM, and SIGKILL 2 s later or when the
	// script itself has ended. 0: no limit.
	Timeout time.Duration

	// InOrder makes the script start after all earlier ones that are InOrder have started; none waits for another's end.
	InOrder bool

	// Done is called once with the outcome, from a goroutine of the runner: when the script has ended, or when it did not
	// even though it was killed. It may be nil.
	Done func(Outcome)

	gone func() // called after Done when no process is left
}

// Run starts a script in the background. When ctx ends before the script, the script is ended as at its timeout.
func (r *Runner) Run(ctx context.Context, job Job) {
	if job.Done == nil {
		job.Done = func(Outcome) {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running++
	if r.running > maxRunning {
		go func() {
			job.Done(Outcome{Err: ErrTooMany})
			r.release(job)
		}()
		return
	}
	var before <-chan struct{}
	started := make(chan struct{})
	if job.InOrder {
		before, r.last = r.last, started
	}
	go func() {
		defer r.release(job)
		if before != nil {
			patience := time.NewTimer(startPatience)
			select {
			case <-before:
			case <-patience.C:
			}
			patience.Stop()
		}
		r.run(ctx, job, sync.OnceFunc(func() { close(started) }))
	}()
}

// release ends the account of a job whose process is gone.
func (r *Runner) release(job Job) {
	if job.gone != nil {
		job.gone()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if r.running == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// Wait blocks until no script is running, and returns ctx's error if that ends first.
func (r *Runner) Wait(ctx context.Context) error {
	r.mu.Lock()
	if r.running == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for scripts to end: %w", ctx.Err())
	}
}

// Watch runs a script at once and then every interval until ctx ends; a run that is due while the one before is still
// active is skipped, and reported as ErrUnkillable if that one was killed in vain. report is called with every outcome,
// one at a time, from the goroutine of Watch, and not any more once ctx has ended. Watch returns when the last outcome is
// there. timeout 0 means the interval.
func (r *Runner) Watch(ctx context.Context, script Script, interval, timeout time.Duration, report func(Outcome)) {
	if timeout <= 0 {
		timeout = interval
	}
	// A run has two events, the outcome and the end of its process, in this order, so that neither send ever blocks.
	outcomes, gone := make(chan Outcome, 1), make(chan struct{}, 1)
	start := func() {
		r.Run(ctx, Job{Script: script, Timeout: timeout,
			Done: func(o Outcome) { outcomes <- o },
			gone: func() { gone <- struct{}{} },
		})
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	start()
	decided, active := false, true
	for {
		left := gone
		if !decided {
			left = nil // the outcome comes first
		}
		select {
		case outcome := <-outcomes:
			if ctx.Err() != nil {
				return
			}
			decided = true
			report(outcome)
		case <-left:
			active = false
		case <-ticker.C:
			switch {
			case ctx.Err() != nil:
			case !active:
				decided, active = false, true
				start()
			case decided:
				report(Outcome{Err: ErrUnkillable, Started: true})
			}
		case <-ctx.Done():
			if !decided {
				<-outcomes
			}
			return
		}
	}
}

// run executes the job in this goroutine until its process is gone. started is called as soon as the program runs or
// cannot.
func (r *Runner) run(ctx context.Context, job Job, started func()) {
	defer started()
	begin := time.Now()
	if err := ctx.Err(); err != nil {
		job.Done(Outcome{Err: err})
		return
	}
	if job.Script.opensFile() {
		err := open(job.Script.Path)
		job.Done(Outcome{Err: err, Started: true, Duration: time.Since(begin)})
		return
	}
	// The kernel's signal at the death of the parent is bound to the thread that started the child. So this goroutine
	// keeps its thread until the child has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := start(job)
	started()
	if err != nil {
		err = fmt.Errorf("execute script %s: %w", job.Script.Path, err)
		job.Done(Outcome{Err: err, Duration: time.Since(begin)})
		return
	}
	var once sync.Once
	r.await(ctx, cmd, job.Timeout, func(err error) {
		once.Do(func() { job.Done(Outcome{Err: err, Started: true, Duration: time.Since(begin)}) })
	})
}

// open succeeds if the file can be opened for reading. A pipe without writer does not block.
func open(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return file.Close()
}

// start executes the program, and through the shell if it is a text file that does not name its interpreter.
func start(job Job) (*exec.Cmd, error) {
	if err := keepDescriptors(); err != nil {
		return nil, err
	}
	args := append(append([]string(nil), job.Script.Args...), job.Extra...)
	cmd := command(job.Script.Path, args, job.Script.Identity)
	err := cmd.Start()
	if errors.Is(err, syscall.ENOEXEC) {
		shell := append([]string{"/bin/sh", job.Script.Path}, args[1:]...)
		cmd = command(shell[0], shell, job.Script.Identity)
		err = cmd.Start()
	}
	return cmd, err
}

// keepDescriptors keeps the descriptors of this process from its children. Those that Go opens are marked already; those
// that were inherited from whoever started this process are not.
func keepDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open descriptors: %w", err)
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

func command(path string, args []string, id Identity) *exec.Cmd {
	return &exec.Cmd{
		Path: path,
		Args: args,
		Env:  environment(os.Environ()),
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:    true,
			Pdeathsig:  syscall.SIGTERM,
			Credential: id.credential(),
		},
	}
}

// environment returns the variables without those that change how a shell splits words or what a program loads.
func environment(variables []string) []string {
	var kept []string
	for _, variable := range variables {
		switch name, _, _ := strings.Cut(variable, "="); name {
		case "IFS", "LD_PRELOAD", "LD_LIBRARY_PATH":
		default:
			kept = append(kept, variable)
		}
	}
	return kept
}

// await waits for the end of the program and ends its process group when the time is over. The signals are sent while
// the program is not yet reaped, so that the number of its group cannot belong to others. done may be called more than
// once; the first call counts.
func (r *Runner) await(ctx context.Context, cmd *exec.Cmd, timeout time.Duration, done func(error)) {
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	exited, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.guard(ctx, cmd.Process.Pid, expired, exited, done) }()
	waitExited(cmd.Process.Pid)
	close(exited)
	killed := <-ended
	err := cmd.Wait()
	if killed != nil {
		err = killed
	}
	done(err)
}

// guard returns nil when the program exits in time. Otherwise it ends the group and returns why, once the program has
// exited.
func (r *Runner) guard(ctx context.Context, pid int, expired <-chan time.Time, exited <-chan struct{},
	done func(error)) error {
	kill, delay := r.kill, r.killDelay
	if kill == nil {
		kill = syscall.Kill
	}
	if delay == 0 {
		delay = killDelay
	}
	var reason error
	select {
	case <-exited:
		return nil
	case <-expired:
		reason = ErrTimeout
	case <-ctx.Done():
		reason = ctx.Err()
	}
	// An error means that the group is gone or not ours to signal; either way there is nothing more to do.
	_ = kill(-pid, syscall.SIGTERM)
	wait(exited, delay)
	_ = kill(-pid, syscall.SIGKILL)
	if !wait(exited, delay) {
		done(fmt.Errorf("%w, %w", reason, ErrUnkillable))
		<-exited
	}
	return reason
}

// wait waits for the end of the program, but not longer than d, and tells whether it has come.
func wait(exited <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-exited:
		return true
	case <-timer.C:
		return false
	}
}

// waitExited blocks until the child has exited, without reaping it.
func waitExited(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return // exited; ECHILD cannot be, since only Wait reaps it
		}
	}
}
