//go:build integ

package integ

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/vm"
)

// Some tests may not run on the machine itself, because they set its clock or take another kernel: they run in a virtual
// machine.

const vmLimit = 10 * time.Minute

// modules are what the lab and the guard need of the kernel.
var modules = []string{"veth", "bridge", "nf_tables", "nft_meta_bridge", "nft_numgen", "nft_fib_inet"}

// inVM runs the calling test inside a virtual machine that has more modules than those, and reports its result, unless it is
// there already.
func inVM(t *testing.T, more ...string) (outside bool) {
	t.Helper()
	if vm.Inside() {
		return false
	}
	if err := vm.Unavailable(); err != nil {
		need.Skip(t, "%v", err)
	}
	guard, err := buildGuardTests(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := programs()
	m := vm.Machine{Modules: append(more, modules...), Programs: map[string]string{
		"had": p.Had, "hawitness": p.Hawitness, "hactl": p.Hactl, guardTests: guard}}
	ctx, cancel := context.WithTimeout(t.Context(), vmLimit)
	defer cancel()
	code, err := m.Boot(ctx, t.Output(), "-test.v", "-test.run=^"+t.Name()+"$")
	if code != 0 || err != nil {
		t.Errorf("the test failed in the virtual machine: exit code %d, %v", code, err)
	}
	return true
}

// guardTests is the test program of package fencing/guard.
const guardTests = "guard.test"

// buildGuardTests builds it.
func buildGuardTests(dir string) (path string, err error) {
	path = filepath.Join(dir, guardTests)
	cmd := exec.Command("go", "test", "-c", "-tags", "integ", "-o", path, "github.com/hactl/had/fencing/guard")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests of the guard: %w: %s", err, out)
	}
	return path, nil
}
