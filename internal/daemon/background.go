package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// detachedVar marks a process that has been started in the background; its descriptor 3 is a pipe to the one that waits.
const detachedVar = "HAD_DETACHED"

// wantsBackground tells whether whoever started the program expects it to go into the background: systemd, for a unit of
// Type=forking with a PIDFile, or a script that knows the program as keepalived.
func wantsBackground(f Flags, argv0 string, getenv func(string) string) bool {
	switch {
	case f.DontFork || f.Test || getenv("NOTIFY_SOCKET") != "" || getenv(detachedVar) != "":
		return false
	case getenv("PIDFILE") != "":
		return true
	}
	return filepath.Base(argv0) == "keepalived"
}

// detach starts this program again in the background and waits until that one works, or has ended. It returns the exit code.
func detach(name string, args []string, stderr io.Writer) int {
	read, write, err := os.Pipe()
	if err != nil {
		fmt.Fprintf(stderr, "%s: go into the background: %v\n", name, err)
		return ExitFailed
	}
	child := exec.Command("/proc/self/exe", args...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), detachedVar+"=1")
	child.Stderr = os.Stderr // until it works
	child.ExtraFiles = []*os.File{write}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	write.Close()
	if err != nil {
		fmt.Fprintf(stderr, "%s: go into the background: %v\n", name, err)
		return ExitFailed
	}
	if n, _ := read.Read(make([]byte, 1)); n == 1 {
		return ExitOK
	}
	var exit *exec.ExitError
	if err := child.Wait(); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return ExitOK
}

// attached returns what to call in the background once the daemon works, so that whoever waits for that goes on. In the
// foreground it does nothing.
func attached() func() {
	if os.Getenv(detachedVar) == "" {
		return func() {}
	}
	os.Unsetenv(detachedVar) // scripts are not in the background
	pipe := os.NewFile(3, "pipe")
	syscall.CloseOnExec(3)
	return func() {
		_, _ = pipe.Write([]byte{1})
		pipe.Close()
		if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
			_ = syscall.Dup3(int(null.Fd()), 2, 0) // the terminal is not ours any more
			null.Close()
		}
	}
}
