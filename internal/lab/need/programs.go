package need

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Programs returns the directory of the programs under test: had, hawitness and hactl. It is the one that HAD_BIN names, or
// else a new one into which they are built, and which remove removes.
func Programs() (dir string, remove func(), err error) {
	if dir = os.Getenv("HAD_BIN"); dir != "" {
		return dir, func() {}, nil
	}
	if dir, err = os.MkdirTemp("", "had-programs-"); err != nil {
		return "", nil, err
	}
	cmd := exec.Command("go", "build", "-o", dir, "github.com/hactl/had/cmd/had", "github.com/hactl/had/cmd/hawitness",
		"github.com/hactl/had/cmd/hactl")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("build the programs under test: %w: %s", err, out)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// Program writes a program that can be run at once. No child of this process is begun meanwhile: one that has the file open for
// writing until it executes its own program would keep this one from being run (ETXTBSY).
func Program(path string, text []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, text, 0o755)
}
