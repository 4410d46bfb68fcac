package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaces is where iproute2 keeps the named network namespaces.
const namespaces = "/run/netns"

// enterNamespace returns nil if this process is in the network namespace of that name; an empty name is the one it is in.
// Else it enters it and executes the program anew, so that every thread is there, and does not return. Nothing that an
// execution would lose may have been opened.
func enterNamespace(name string) error {
	if name == "" {
		return nil
	}
	path := filepath.Join(namespaces, name)
	namespace, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer namespace.Close()
	there, err := namespace.Stat()
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	here, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	if os.SameFile(here, there) {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	err = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("network namespace %s: execute the program there: %w", name, err)
}
