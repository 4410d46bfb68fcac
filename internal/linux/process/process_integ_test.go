//go:build integ

package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel sends process events in the initial network namespace alone.
func TestEventsArriveInAnyNetworkNamespace(t *testing.T) {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	initial := fmt.Sprintf("/proc/self/fd/%d", here.Fd())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		if _, err := subscribe(); err == nil {
			done <- errors.New("there are events in another network namespace: nothing is proved")
			return
		}
		c, err := connect(initial)
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		_, err = c.receive() // of anything that happens on this machine
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(50 * time.Millisecond):
			_ = exec.Command("true").Run()
		}
	}
}

func TestEventsTellOfProcessesThatLiveForAMoment(t *testing.T) {
	const mark = "12346.06"
	m := withEvents(t, mark)
	reports := follow(t, m)
	await(t, reports, 0)
	// A process that lives for much less than the second after which it would be seen without events.
	begin := time.Now()
	cmd := exec.Command("sh", "-c", "sleep 0.1 & exec sh -c 'sleep 0.2; true' "+mark)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	await(t, reports, 1)
	await(t, reports, 2) // sh has forked
	await(t, reports, 1) // and the child is sleep
	await(t, reports, 0)
	t.Logf("seen within %v", time.Since(begin))
}

func TestLostEventsAreMadeUpFor(t *testing.T) {
	const mark = "12347.06"
	m := withEvents(t, mark)
	if err := m.events.conn.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<10)
	}); err != nil {
		t.Fatal(err)
	}
	kept, gone := sleeper(t, mark), sleeper(t, mark)
	for range 100 {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	stop(gone) // its end is lost
	reports := follow(t, m)
	await(t, reports, 1)
	stop(kept)
	await(t, reports, 0)
}

func TestWithoutEventsProcessesAreLookedAt(t *testing.T) {
	const mark = "12348.06"
	m := withEvents(t, mark)
	_ = m.events.Close()
	reports := follow(t, m) // the closed socket ends the events
	cmd := sleeper(t, mark)
	await(t, reports, 1)
	stop(cmd)
	await(t, reports, 0)
	if m.events != nil {
		t.Error("events are still expected")
	}
}

// withEvents counts the processes with an argument, by the kernel's events.
func withEvents(t *testing.T, mark string) *Monitor {
	t.Helper()
	m := open(t, withArgument(mark))
	if m.events == nil {
		t.Fatal("there are no process events: the tests need root, in the initial PID, user and network namespaces")
	}
	return m
}
