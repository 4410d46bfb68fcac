//go:build integ

package balance

import (
	"fmt"
	"os"
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
	programs, err := vm.Installed("keepalived", "ipvsadm", "snmpd", "sh")
	if err != nil {
		return need.Missing(err), nil
	}
	dir, remove, err := need.Programs()
	if err != nil {
		return 0, err
	}
	defer remove()
	for _, name := range []string{"had", "hactl"} {
		programs[name] = filepath.Join(dir, name)
	}
	return vm.Machine{Modules: vm.Balancing, Programs: programs}.Main(), nil
}
