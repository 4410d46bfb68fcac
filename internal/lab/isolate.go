package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// insideVar is set in the environment of the inner process.
	insideVar = "HAD_LAB_INSIDE"
	// RunDir is the private tmpfs that the inner process and all its hosts see. Nothing of it is left when they end.
	RunDir = "/run"
)

// ErrPrivilege says that this process may not make namespaces, and what would help.
var ErrPrivilege = errors.New(`network namespaces are not allowed here. Any one of these is enough:
  - run as root (in a container: with the capabilities SYS_ADMIN and NET_ADMIN and a seccomp profile that allows unshare;
    a masked /proc must be unmasked, for example docker run --privileged);
  - allow unprivileged user namespaces, as root:
      sysctl -w user.max_user_namespaces=15000
      sysctl -w kernel.unprivileged_userns_clone=1                (Debian's and Ubuntu's kernels)
      sysctl -w kernel.apparmor_restrict_unprivileged_userns=0    (Ubuntu 23.10 and later)`)

// hostProc is a descriptor of the /proc that the outer process sees, or -1.
var hostProc = -1

// Inside says whether this process is the inner one of [Enter].
func Inside() bool { return os.Getpid() == 1 && os.Getenv(insideVar) != "" }

// Main is for func main of a program or TestMain that needs a lab: the outer process runs itself again inside new namespaces
// and returns that process's exit code; the inner one returns what run returns. Failures are written to standard error
// and make the exit code 1.
func Main(run func() int) int {
	code, inside, err := Enter(context.Background())
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		return 1
	case inside:
		return run()
	default:
		return code
	}
}

// Enter runs this program once more, with the same arguments, inside new PID, mount, network and IPC namespaces, as root or
// in a new user namespace. It is called twice: the outer process waits here for the inner one and gets its exit code
// with inside false; the inner process gets inside true and goes on.
//
// The outer process passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on, and SIGTERM when ctx ends. If it dies the kernel kills the
// inner process, and with it everything that runs in its PID namespace.
//
// The inner process has /run to itself (a tmpfs, with TMPDIR in it) and a /proc that shows only its own processes.
func Enter(ctx context.Context) (code int, inside bool, err error) {
	if Inside() {
		return 0, true, settle()
	}
	code, err = runInside(ctx)
	return code, false, err
}

func runInside(ctx context.Context) (int, error) {
	// The parent-death signal is tied to this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)

	cmd, err := startInside(false)
	if errors.Is(err, unix.EPERM) {
		cmd, err = startInside(true)
	}
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) || errors.Is(err, unix.EINVAL) {
			return 0, fmt.Errorf("create namespaces: %w: %w", err, ErrPrivilege)
		}
		return 0, fmt.Errorf("create namespaces: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		done := ctx.Done()
		for {
			select {
			case sig := <-signals:
				cmd.Process.Signal(sig)
			case <-done:
				cmd.Process.Signal(unix.SIGTERM)
				done = nil
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	default:
		return 0, fmt.Errorf("the process inside the namespaces ended: %w", err)
	}
}

// startInside starts the inner process, with or without a user namespace of its own.
func startInside(user bool) (*exec.Cmd, error) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: os.Args, Env: append(os.Environ(), insideVar+"=1"),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	if user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd, cmd.Start()
}

// settle makes the inner process's mounts.
func settle() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err != nil {
		return settleError("make mounts private", err)
	}
	if err := unix.Mount("tmpfs", RunDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return settleError("mount a tmpfs on "+RunDir, err)
	}
	hostProc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return settleError("mount /proc", err)
	}
	temp := RunDir + "/tmp"
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(temp, os.ModeSticky|0o777); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", temp)
}

func settleError(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w: %w", what, err, ErrPrivilege)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// OwnUserNamespace says whether the processes here live in a user namespace that knows this user alone, so that programs
// cannot be run as somebody else.
func OwnUserNamespace() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	fields := strings.Fields(string(data)) // inside outside size
	return len(fields) == 3 && fields[2] == "1"
}

// HostPID translates the number of a process of this PID namespace into the number that the outer process's world knows it
// by: the number to type into a shell beside the lab. It returns 0 if that cannot be found out.
func HostPID(pid int) int {
	if hostProc < 0 {
		return pid
	}
	// The directory is another mount of proc: its entries are numbered as outside, and NSpid lists a process's number in
	// each namespace, the innermost last (proc_pid_status(5)).
	root := "/proc/self/fd/" + strconv.Itoa(hostProc)
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0
	}
	dir, err := os.Open(root)
	if err != nil {
		return 0
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		if errors.Is(err, io.EOF) || err != nil {
			return 0
		}
		for _, name := range names {
			outer, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			status, err := os.ReadFile(root + "/" + name + "/status")
			if err != nil || innermostPID(string(status)) != pid {
				continue
			}
			if ns, err := os.Readlink(root + "/" + name + "/ns/pid"); err == nil && ns == own {
				return outer
			}
		}
	}
}

// innermostPID returns the last number of the NSpid line of /proc/PID/status, or 0.
func innermostPID(status string) int {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			pid, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return 0
			}
			return pid
		}
	}
	return 0
}
