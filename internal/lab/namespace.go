package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// errClosed is returned by calls to a namespace that has been given up.
var errClosed = errors.New("the namespace is closed")

// namespace is a network namespace without a name and the thread that lives in it.
//
// Processes of the namespace are forked by that thread, which has two consequences: they inherit the namespace without
// a window in another one, and their parent-death signal, which the kernel ties to the thread that forked, comes when
// the lab ends and not earlier.
type namespace struct {
	file  *os.File // the namespace itself, for moving links into it and opening netlink sockets
	calls chan call
	ended chan struct{}
	once  sync.Once
}

type call struct {
	fn   func() error
	done chan error
}

// newNamespace creates a network namespace and its thread.
func newNamespace() (*namespace, error) {
	n := &namespace{calls: make(chan call), ended: make(chan struct{})}
	ready := make(chan error)
	go n.live(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return n, nil
}

// live is the namespace's thread. It never unlocks, so the runtime ends the thread with the goroutine instead of using it,
// in its strange namespace, for somebody else.
func (n *namespace) live(ready chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("create network namespace: %w", err)
		return
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		ready <- fmt.Errorf("hold network namespace: %w", err)
		return
	}
	n.file = file
	ready <- nil
	for {
		select {
		case c := <-n.calls:
			c.done <- c.fn()
		case <-n.ended:
			return
		}
	}
}

// do runs fn on the namespace's thread and returns its error.
func (n *namespace) do(fn func() error) error {
	c := call{fn: fn, done: make(chan error, 1)}
	select {
	case n.calls <- c:
		return <-c.done
	case <-n.ended:
		return errClosed
	}
}

func (n *namespace) fd() int { return int(n.file.Fd()) }

// close ends the thread and lets go of the namespace. The kernel removes the namespace, its links and filters when the
// last process in it has ended.
func (n *namespace) close() {
	n.once.Do(func() {
		close(n.ended)
		n.file.Close()
	})
}
