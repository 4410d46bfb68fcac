package companion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockPatience = 3 * time.Second // for an earlier companion to be done
	lockPoll     = 5 * time.Millisecond

	dyingPatience = time.Second // for a daemon that was killed to be gone
	anewAfter     = time.Second // between the end of a companion and the start of the next
	byeWait       = time.Second // for a companion to end as asked
	pipeSize      = 1 << 20     // bytes that wait for a companion to read them
)

// Descriptors of a companion.
const (
	pidfdAt = 3 + iota
	pipeAt
	lockAt
)

// comm is the companion's name in lists of processes.
const comm = "vip-companion"

// Options are what a Keeper needs.
type Options struct {
	Lock   string   // path of a file that daemons of one network namespace have in common
	Var    string   // environment variable that makes a process of this program a companion
	Value  string   // what it is set to
	Args   []string // of the command line
	Stderr *os.File // nil: nobody reads it
	Log    *slog.Logger
}

// Keeper keeps a companion process beside this one, and tells it what there is to know. Its methods may be called by any
// goroutine and wait for nobody, but Start and Close. A nil Keeper keeps nothing.
type Keeper struct {
	opt  Options
	lock *os.File
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // guards what follows
	will    will
	pipe    int // to the companion; -1: there is none
	process *os.Process
	stop    chan struct{} // closed by Close
}

// Start waits until a daemon that was here before, and its companion, are done, and starts a companion for this process. The
// error says that they are not, or that there is no lock to be had. Without a companion it goes on trying.
func Start(o Options) (*Keeper, error) {
	lock, err := takeLock(o.Lock)
	if err != nil {
		return nil, err
	}
	k := &Keeper{opt: o, lock: lock, done: make(chan struct{}), will: newWill(), pipe: -1, stop: make(chan struct{})}
	first, err := k.spawn()
	go k.run(first, err)
	return k, nil
}

// takeLock locks the file. A companion that does not get to its end is ended; a daemon that runs is an error.
func takeLock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("companion: %w", err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path)) // as the kernel calls it
	if err == nil {
		path, err = filepath.Abs(filepath.Join(dir, filepath.Base(path)))
	}
	if err != nil {
		return nil, fmt.Errorf("companion: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("companion: %w", err)
	}
	killed, began := false, time.Now()
	for patience := time.Now().Add(lockPatience); ; time.Sleep(lockPoll) {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return file, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("companion: lock %s: %w", path, err), file.Close())
		}
		daemon, companion := holders(file)
		switch {
		case time.Since(began) > dyingPatience && holds(daemon, path):
			return nil, errors.Join(fmt.Errorf("another daemon runs as process %d (%s)", daemon, path), file.Close())
		case time.Now().Before(patience):
		case !killed:
			killed, patience = true, time.Now().Add(lockPatience)
			kill(companion, path)
		default:
			return nil, errors.Join(fmt.Errorf("companion: that of an earlier daemon holds %s", path), file.Close())
		}
	}
}

// holders returns the numbers of the daemon and the companion that were the last to have the lock; zero: unknown.
func holders(file *os.File) (daemon, companion int) {
	text := make([]byte, 64)
	n, _ := file.ReadAt(text, 0)
	_, _ = fmt.Sscan(string(text[:n]), &daemon, &companion)
	return daemon, companion
}

// note writes the numbers of this process and its companion into the lock's file.
func (k *Keeper) note(companion int) {
	_ = k.lock.Truncate(0)
	_, _ = k.lock.WriteAt([]byte(fmt.Sprintln(os.Getpid(), companion)), 0)
}

// holds tells whether a process has the lock's file open: one that has died, or another of the same number, has not.
func holds(pid int, path string) bool {
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if pid <= 0 || err != nil {
		return false
	}
	return slices.ContainsFunc(open, func(fd string) bool { name, err := os.Readlink(fd); return err == nil && name == path })
}

// kill kills an earlier daemon's companion.
func kill(pid int, path string) {
	process, err := os.FindProcess(pid) // holds on to this very process
	if err != nil {
		return
	}
	if holds(pid, path) {
		_ = process.Kill()
	}
	_ = process.Release()
}

// spawn starts a companion that knows all that was said so far.
func (k *Keeper) spawn() (*exec.Cmd, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	read := os.NewFile(uintptr(ends[0]), "pipe")
	defer read.Close()
	_, _ = unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, pipeSize) // less is less patience with the companion
	if err := unix.SetNonblock(ends[1], true); err != nil {
		return nil, errors.Join(fmt.Errorf("pipe: %w", err), unix.Close(ends[1]))
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pidfd: %w", err), unix.Close(ends[1]))
	}
	self := os.NewFile(uintptr(pidfd), "pidfd")
	defer self.Close()
	cmd := exec.Command("/proc/self/exe", k.opt.Args...)
	cmd.Args[0] = comm
	cmd.Env = append(os.Environ(), k.opt.Var+"="+k.opt.Value)
	if k.opt.Stderr != nil {
		cmd.Stderr = k.opt.Stderr
	}
	cmd.ExtraFiles = []*os.File{self, read, k.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // signals to the daemon's process group are not for it
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, unix.Close(ends[1]))
	}
	k.note(cmd.Process.Pid)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pipe, k.process = ends[1], cmd.Process
	for _, m := range k.will.messages() {
		k.write(m)
	}
	return cmd, nil
}

// run starts the next companion when one has ended.
func (k *Keeper) run(cmd *exec.Cmd, err error) {
	defer close(k.done)
	for {
		if err == nil {
			err = cmd.Wait()
			k.mu.Lock()
			k.hangUp()
			k.mu.Unlock()
		}
		select {
		case <-k.stop:
			return
		default:
		}
		k.opt.Log.Warn("no companion runs: when this process dies, others take over once its leases have ended", "err", err,
			"again_in", anewAfter)
		select {
		case <-k.stop:
			return
		case <-time.After(anewAfter):
		}
		cmd, err = k.spawn()
	}
}

// hangUp closes the pipe. The caller holds mu.
func (k *Keeper) hangUp() {
	if k.pipe >= 0 {
		_ = unix.Close(k.pipe)
		k.pipe, k.process = -1, nil
	}
}

// write gives the companion a message: what is in the pipe it will read, whatever becomes of this process. A companion that
// does not read is ended, because it must not act on half of what is true. The caller holds mu.
func (k *Keeper) write(m message) {
	if k.pipe < 0 {
		return
	}
	line, err := json.Marshal(m)
	if err == nil {
		line = append(line, '\n')
		var n int
		if n, err = unix.Write(k.pipe, line); err == nil && n < len(line) {
			err = unix.EAGAIN
		}
	}
	if err != nil && !errors.Is(err, unix.EPIPE) { // else it has just ended
		k.opt.Log.Warn("the companion does not hear what it is told", "err", err)
		_ = k.process.Kill()
		k.hangUp()
	}
}

func (k *Keeper) tell(m message) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.will.take(m)
	k.write(m)
}

// Live says that a life begins.
func (k *Keeper) Live(e Estate) { k.tell(message{Estate: &e}) }

// Hold says what an instance may have in the kernel from now on. It comes before the kernel is told.
func (k *Keeper) Hold(instance string, h Hold) { k.tell(message{Hold: &hold{instance, &h}}) }

// Drop says that an instance has nothing in the kernel any more.
func (k *Keeper) Drop(instance string) { k.tell(message{Hold: &hold{Instance: instance}}) }

// Lease says under which epoch a group may become visible from now on. It comes after Hold of all that may be.
func (k *Keeper) Lease(group string, epoch uint64) { k.tell(message{Lease: &grant{group, epoch}}) }

// Forget says that what was said is not true any more, and what is will be said next: names may have changed.
func (k *Keeper) Forget() { k.tell(message{Forget: true}) }

// Close ends the companion without leaving it anything to do: nothing is held any more.
func (k *Keeper) Close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	close(k.stop)
	k.write(message{Bye: true})
	process := k.process
	k.mu.Unlock()
	select {
	case <-k.done:
	case <-time.After(byeWait):
		if process != nil {
			_ = process.Kill()
		}
		<-k.done
	}
	if err := k.lock.Close(); err != nil {
		k.opt.Log.Debug("companion", "err", err)
	}
}

// lines takes what comes in by the pipe apart.
type lines struct{ rest []byte }

// take returns the messages that are complete. An error says that what comes is none.
func (l *lines) take(b []byte) (all []message, err error) {
	l.rest = append(l.rest, b...)
	for {
		line, rest, complete := bytes.Cut(l.rest, []byte{'\n'})
		if !complete {
			return all, nil
		}
		l.rest = rest
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return all, fmt.Errorf("decode what the daemon says: %w", err)
		}
		all = append(all, m)
	}
}
