//go:build integ

package balance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/vm"
)

// These tests run in a virtual machine, all in one: TestMain starts it and says what it says.
func TestMain(m *testing.M) {
	vm.Init()
	if vm.Inside() {
		os.Exit(lab.Main(m.Run))
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func outside() (code int, err error) {
	programs, err := vm.Installed("keepalived", "ipvsadm", "sh")
	if err != nil {
		return need.Missing(err), nil
	}
	dir := os.Getenv("HAD_BIN")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "had-balance-"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		cmd := exec.Command("go", "build", "-o", dir, "github.com/hactl/had/cmd/had", "github.com/hactl/had/cmd/hactl")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the programs under test: %w: %s", err, out)
		}
	}
	for _, name := range []string{"had", "hactl"} {
		programs[name] = filepath.Join(dir, name)
	}
	return vm.Machine{Modules: vm.Balancing, Programs: programs}.Main(), nil
}
