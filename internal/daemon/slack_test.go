package daemon

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Threads that there are have the slack afterwards, and those that they start.
func TestEveryThreadMayBeWokenLate(t *testing.T) {
	if !mayChangeOthers(t) {
		t.Skip("without CAP_SYS_NICE another thread's slack cannot be changed")
	}
	const threads = 8
	var done, begun sync.WaitGroup
	release := make(chan struct{})
	keep := func() { // threads threads that run at once
		begun.Add(threads)
		for range threads {
			done.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				begun.Done()
				<-release
			})
		}
		begun.Wait()
	}
	keep()
	relaxTimers()
	keep()
	all, err := os.ReadDir("/proc/self/task")
	if err != nil || len(all) <= 2*threads {
		t.Errorf("%d threads, want more than %d (%v)", len(all), 2*threads, err)
	}
	for _, thread := range all {
		slack, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if got := strings.TrimSpace(string(slack)); err != nil || got != strconv.FormatInt(timerSlack.Nanoseconds(), 10) {
			t.Errorf("thread %s has a slack of %s ns (%v)", thread.Name(), got, err)
		}
	}
	close(release)
	done.Wait()
}

// mayChangeOthers tries to change the slack of a thread that is not the one that does so; every Go program has some.
func mayChangeOthers(t *testing.T) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range all {
		path := "/proc/" + thread.Name() + "/timerslack_ns"
		if thread.Name() == strconv.Itoa(unix.Gettid()) {
			continue
		}
		slack, err := os.ReadFile(path)
		return err == nil && os.WriteFile(path, []byte(strings.TrimSpace(string(slack))), 0) == nil
	}
	return false
}
