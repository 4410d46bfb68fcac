//go:build integ

package operation

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/report"
	"github.com/hactl/had/internal/lab/site"
)

const (
	// binVar names the directory of the programs under test; without it they are where `make build` puts them.
	binVar = "HAD_BIN"
	// sitesAtOnce is how many sites play at the same time: they mostly wait.
	sitesAtOnce = "3"
)

func TestMain(m *testing.M) {
	observer.MaybeRun()
	maybeWake()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	programs, err := findPrograms()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binaries = programs
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
var figures = report.Report{Title: "internal/operation"}

var binaries site.Programs

func findPrograms() (site.Programs, error) {
	dir := os.Getenv(binVar)
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return site.Programs{}, err
	}
	p := site.Programs{Had: filepath.Join(dir, "had"), Hawitness: filepath.Join(dir, "hawitness"), Hactl: filepath.Join(dir, "hactl")}
	for _, path := range []string{p.Had, p.Hawitness, p.Hactl} {
		if _, err := os.Stat(path); err != nil {
			return p, fmt.Errorf("find the programs under test: %w (make build makes them)", err)
		}
	}
	return p, nil
}
