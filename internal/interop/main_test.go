//go:build interop

package interop_test

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
)

const (
	// sleepers is the number of tests that run at the same time: scenarios of [TestDifferences], which hardly do anything
	// but wait.
	sleepers = "32"
	// labs is the number of other tests with LANs that are alive at the same time: their observers work, too.
	labs = 8
)

var turns = struct {
	free  chan struct{}
	mu    sync.Mutex
	taken map[string]bool // by the name of the test
}{free: make(chan struct{}, labs), taken: map[string]bool{}}

// takeTurn waits until fewer than labs other tests have LANs. A test that has its turn may build several.
func takeTurn(t *testing.T) {
	turns.mu.Lock()
	taken := turns.taken[t.Name()]
	turns.taken[t.Name()] = true
	turns.mu.Unlock()
	if !taken {
		turns.free <- struct{}{}
		t.Cleanup(func() {
			<-turns.free
			turns.mu.Lock()
			delete(turns.taken, t.Name())
			turns.mu.Unlock()
		})
	}
}

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", sleepers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(lab.Main(func() int {
		// A keepalived whose parent has ended takes process 1, which is this one, for it.
		signal.Ignore(unix.SIGTERM)
		return m.Run()
	}))
}
