//go:build integ

package beside

import (
	"os"
	"testing"

	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/vm"
)

// These tests run in a virtual machine, all in one: TestMain starts it and says what it says.
func TestMain(m *testing.M) {
	vm.Init()
	if vm.Inside() {
		os.Exit(m.Run())
	}
	programs, err := vm.Installed("keepalived", "sh")
	if err != nil {
		os.Exit(need.Missing(err))
	}
	os.Exit(vm.Machine{Modules: vm.Balancing, Programs: programs}.Main())
}
