// Package vm runs a test program in a virtual machine: Debian's kernel, and an initial file system that consists of the
// test program as init, the programs under test and a few modules. It is for tests that may not run on the machine
// itself, because they set its clock or need a kernel that has more. How busy the machine is does not show inside.
//
// A test program's TestMain calls [Init] first. Outside, [Machine.Boot] starts the program again with the arguments that
// choose the tests; inside, [Inside] holds.
package vm

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
)

const (
	// KernelVar names the directory of an unpacked kernel package (boot/vmlinuz-*, lib/modules/*); default: kernelDir below
	// the module's root.
	KernelVar = "HAD_VM_KERNEL"
	kernelDir = "build/kernel"

	// insideVar is set in the environment of the tests inside.
	insideVar = "HAD_VM_GUEST"

	emulator = "qemu-system-x86_64"
	// mainLimit bounds the life of a machine that runs a whole test program which has no time limit itself.
	mainLimit = 20 * time.Minute

	// exitMark begins the line in which the guest says the exit code of its tests.
	exitMark = "the tests in the virtual machine ended with exit code "
)

// Programs is the directory of a machine's programs.
const Programs = "/bin"

// Machine says what a virtual machine has.
type Machine struct {
	// Modules are loaded at its start, after those that they depend on. What the kernel has built in is left out.
	Modules []string
	// Programs are files outside, by the names that they have in [Programs]. The libraries that they need come along.
	Programs map[string]string
}

// Inside says whether this process runs in a virtual machine.
func Inside() bool { return os.Getenv(insideVar) != "" }

// Unavailable returns why no virtual machine can be started here, or nil.
func Unavailable() error {
	if _, err := exec.LookPath(emulator); err != nil {
		return fmt.Errorf("%s is not installed", emulator)
	}
	_, _, err := kernel()
	return err
}

// kernel returns the kernel's image, and the directory of the unpacked package that it is in.
func kernel() (image, root string, err error) {
	if root = os.Getenv(KernelVar); root == "" {
		if root, err = moduleRoot(); err != nil {
			return "", "", err
		}
		root = filepath.Join(root, kernelDir)
	}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return "", "", fmt.Errorf("no kernel package is unpacked in %s (see getkernel)", root)
	}
	return images[0], root, nil
}

// moduleRoot returns the directory above this one that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a Go module; say in %s where the kernel is", dir, KernelVar)
		}
	}
}

// Boot runs this program with these arguments in a virtual machine, copies what it prints, and returns its exit code. The
// machine ends with ctx.
func (m Machine) Boot(ctx context.Context, out io.Writer, args ...string) (code int, err error) {
	image, root, err := kernel()
	if err != nil {
		return -1, err
	}
	initrd, err := os.CreateTemp("", "initrd-")
	if err != nil {
		return -1, err
	}
	defer os.Remove(initrd.Name())
	if err := errors.Join(m.writeInitrd(initrd, filepath.Join(root, "lib", "modules")), initrd.Close()); err != nil {
		return -1, err
	}
	// The emulated processor takes one nanosecond of the guest's time for each instruction, however long that takes outside, and
	// idle time is skipped: how busy this machine is does not show inside.
	cmd := exec.CommandContext(ctx, emulator, "-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max", "-m", "2048",
		"-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", image, "-initrd", initrd.Name(),
		"-append", "console=ttyS0 quiet panic=-1 rdinit=/init -- "+strings.Join(args, " "))
	out = &shared{w: out}
	cmd.Stderr = out
	console, err := cmd.StdoutPipe()
	if err != nil {
		return -1, err
	}
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	code = -1
	for lines := bufio.NewScanner(console); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		if text, ok := strings.CutPrefix(line, exitMark); ok {
			if code, err = strconv.Atoi(text); err != nil {
				code = -1
			}
			continue
		}
		fmt.Fprintln(out, line)
	}
	return code, cmd.Wait()
}

// shared is a writer for two goroutines: one copies what the emulator says, the other what the machine says.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

// Init returns at once, unless this process is a virtual machine's init: then it makes the machine usable, runs this program
// again as an ordinary process and switches the machine off.
func Init() {
	if os.Getpid() != 1 || lab.Inside() || os.Args[0] != "/init" {
		return // outside, or the first process of a PID namespace
	}
	code, err := guest()
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(exitMark + strconv.Itoa(code))
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// guest is init's work until the machine is switched off.
func guest() (code int, err error) {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return -1, err
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return -1, fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	list, err := os.ReadFile(filepath.Join(modulesDir, moduleOrder))
	if err != nil {
		return -1, err
	}
	for name := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(filepath.Join(modulesDir, name))
		if err != nil {
			return -1, err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("load module %s: %w", name, err)
		}
		f.Close()
	}
	cmd := exec.Command("/init", os.Args[1:]...)
	cmd.Env = []string{insideVar + "=1", "PATH=" + Programs}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Run(); err != nil {
		return max(cmd.ProcessState.ExitCode(), 1), nil
	}
	return 0, nil
}

// Main runs the whole test program in a virtual machine, with the flags of this process, and returns its exit code: for a
// TestMain, outside. Where no machine can be started, all tests are skipped, or fail as package need says.
func (m Machine) Main() int {
	if err := Unavailable(); err != nil {
		return need.Missing(err)
	}
	flag.Parse()
	limit := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(limit, mainLimit))
	defer cancel()
	// The cache of test results is outside, and the arguments go through the kernel's command line.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
		return strings.HasPrefix(a, "-test.testlogfile=") || strings.HasPrefix(a, "-test.paniconexit0")
	})
	code, err := m.Boot(ctx, os.Stdout, args...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Installed finds programs that are installed outside, for Machine.Programs.
func Installed(names ...string) (map[string]string, error) {
	programs := map[string]string{}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("%s is not installed", name)
		}
		programs[name] = path
	}
	return programs, nil
}
