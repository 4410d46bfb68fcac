//go:build integ

package integ

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/report"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/lab/vm"
)

const (
	// binVar names the directory of the programs under test.
	binVar = "HAD_BIN"
	// sitesAtOnce is how many sites play at the same time. Tests that measure interruptions of milliseconds have theirs alone.
	sitesAtOnce = "3"
)

func TestMain(m *testing.M) {
	observer.MaybeRun()
	vm.Init()
	if vm.Inside() {
		os.Setenv(binVar, vm.Programs)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if !lab.Inside() {
		dir, remove, err := need.Programs()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer remove()
		os.Setenv(binVar, dir)
	}
	if err := need.SitesAtOnce(sitesAtOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return lab.Main(func() int {
		code := m.Run()
		if err := figures.Show(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	})
}

// figures are shown at the end.
var (
	figures       = report.Report{Title: "internal/integ"}
	interruptions = figures.Table("What a client saw (ARP/ND and ping each millisecond), beside stock keepalived on the same LAN:",
		"FAULT", "HAD: OUT", "TWO OWNERS", "OUT AT MOST", "STOCK: OUT", "TWO OWNERS")
	spreads = figures.Table("Interruptions of repeated events:", "EVENT", "FIGURES")
)

func programs() site.Programs {
	dir := os.Getenv(binVar)
	return site.Programs{Had: filepath.Join(dir, "had"), Hawitness: filepath.Join(dir, "hawitness"), Hactl: filepath.Join(dir, "hactl")}
}

// keepalived returns the path of stock keepalived; without it the test is skipped.
func keepalived(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("keepalived")
	if err != nil {
		need.Skip(t, "stock keepalived is not installed")
	}
	return path
}
