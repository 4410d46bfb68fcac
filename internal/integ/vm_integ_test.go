//go:build integ

package integ

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
)

// Some tests may not run on the machine itself, because they set its clock or take another kernel. They run in a virtual machine:
// Debian's kernel, and an initial file system that consists of this test program as init, the programs under test, the tests
// of the guard and a few modules. How busy the machine is does not show there.

const (
	// kernelVar names the directory of an unpacked kernel package (boot/vmlinuz-*, lib/modules/*); default: kernelDir.
	kernelVar = "HAD_VM_KERNEL"
	kernelDir = "../../build/kernel"
	// guestVar is set in the environment of the tests inside.
	guestVar = "HAD_VM_GUEST"

	emulator = "qemu-system-x86_64"
	vmLimit  = 5 * time.Minute
	// exitMark begins the line in which the guest says the exit code of its tests.
	exitMark = "the tests in the virtual machine ended with exit code "
)

// modules are what the lab and the guard need of the kernel.
var modules = []string{"veth", "bridge", "nf_tables", "nft_meta_bridge", "nft_numgen", "nft_fib_inet"}

// guest says whether this process runs inside the virtual machine.
func guest() bool { return os.Getenv(guestVar) != "" }

// inVM runs the calling test inside a virtual machine and reports its result, unless it is there already.
func inVM(t *testing.T) (outside bool) {
	t.Helper()
	if guest() {
		return false
	}
	if _, err := exec.LookPath(emulator); err != nil {
		need.Skip(t, "%s is not installed", emulator)
	}
	if _, err := kernelImage(); err != nil {
		need.Skip(t, "%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), vmLimit)
	defer cancel()
	var out bytes.Buffer
	code, err := boot(ctx, &out, "-test.v", "-test.run=^"+t.Name()+"$")
	for line := range strings.Lines(out.String()) {
		t.Log(strings.TrimRight(line, "\r\n"))
	}
	if code != 0 || err != nil {
		t.Errorf("the test failed in the virtual machine: exit code %d, %v", code, err)
	}
	return true
}

// kernelImage returns the kernel to boot.
func kernelImage() (string, error) {
	images, err := filepath.Glob(filepath.Join(kernelRoot(), "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return "", fmt.Errorf("no kernel package is unpacked in %s (see getkernel)", kernelRoot())
	}
	return images[0], nil
}

func kernelRoot() string {
	if dir := os.Getenv(kernelVar); dir != "" {
		return dir
	}
	return kernelDir
}

// boot runs this test program with these arguments in a virtual machine, copies what it prints, and returns its exit code.
func boot(ctx context.Context, out io.Writer, args ...string) (code int, err error) {
	image, err := kernelImage()
	if err != nil {
		return -1, err
	}
	initrd, err := os.CreateTemp("", "initrd-")
	if err != nil {
		return -1, err
	}
	defer os.Remove(initrd.Name())
	if err := errors.Join(writeInitrd(initrd, kernelRoot()), initrd.Close()); err != nil {
		return -1, err
	}
	// The emulated processor takes one nanosecond of the guest's time for each instruction, however long that takes outside, and
	// idle time is skipped: how busy this machine is does not show inside.
	cmd := exec.CommandContext(ctx, emulator, "-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max", "-m", "2048",
		"-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", image, "-initrd", initrd.Name(),
		"-append", "console=ttyS0 quiet panic=-1 rdinit=/init -- "+strings.Join(args, " "))
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
		fmt.Fprintln(out, line)
		if text, ok := strings.CutPrefix(line, exitMark); ok {
			if code, err = strconv.Atoi(text); err != nil {
				code = -1
			}
		}
	}
	return code, cmd.Wait()
}

// runGuest is the virtual machine's init: it makes the machine usable, runs this program again as an ordinary process and switches
// the machine off.
func runGuest() {
	code, err := guestTests()
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(exitMark + strconv.Itoa(code))
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func guestTests() (code int, err error) {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return -1, err
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return -1, fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	list, err := os.ReadFile("/modules/order")
	if err != nil {
		return -1, err
	}
	for name := range strings.FieldsSeq(string(list)) {
		f, err := os.Open("/modules/" + name)
		if err != nil {
			return -1, err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("load module %s: %w", name, err)
		}
		f.Close()
	}
	cmd := exec.Command("/init", os.Args[1:]...)
	cmd.Env = []string{guestVar + "=1", binVar + "=/bin", "PATH=/bin"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Run(); err != nil {
		return max(cmd.ProcessState.ExitCode(), 1), nil
	}
	return 0, nil
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

// isGuestInit says whether this process is the virtual machine's init, and not the first process of a PID namespace.
func isGuestInit() bool { return os.Getpid() == 1 && !lab.Inside() && os.Args[0] == "/init" }

// writeInitrd writes the initial file system.
func writeInitrd(to io.Writer, kernel string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var c cpio
	for _, dir := range []string{"bin", "dev", "proc", "sys", "run", "tmp", "modules"} {
		c.add(dir, 0o40755, nil)
	}
	programs := programs()
	temp, err := os.MkdirTemp("", "had-guard-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	guard, err := buildGuardTests(temp)
	if err != nil {
		return err
	}
	for name, file := range map[string]string{"init": self, "bin/had": programs.Had, "bin/hawitness": programs.Hawitness,
		"bin/hactl": programs.Hactl, "bin/" + guardTests: guard} {
		data, err := static(file)
		if err != nil {
			return err
		}
		c.add(name, 0o100755, data)
	}
	files, err := moduleFiles(filepath.Join(kernel, "lib", "modules"))
	if err != nil {
		return err
	}
	var order []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		order = append(order, filepath.Base(file))
		c.add("modules/"+filepath.Base(file), 0o100644, data)
	}
	c.add("modules/order", 0o100644, []byte(strings.Join(order, "\n")))
	c.add("TRAILER!!!", 0, nil)
	_, err = to.Write(c.Bytes())
	return err
}

// static reads a program and makes sure that it needs no loader.
func static(path string) ([]byte, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read program %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is not static: build with CGO_ENABLED=0", path)
		}
	}
	return os.ReadFile(path)
}

// moduleFiles finds the modules and what they depend on, in the order in which they are to be loaded.
func moduleFiles(root string) ([]string, error) {
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			all[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var files []string
	var add func(name string) error
	add = func(name string) error {
		path, ok := all[strings.ReplaceAll(name, "-", "_")]
		if !ok || slices.Contains(files, path) {
			return nil // built into the kernel
		}
		f, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		defer f.Close()
		info, err := f.Section(".modinfo").Data()
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		for field := range bytes.SplitSeq(info, []byte{0}) {
			if names, ok := strings.CutPrefix(string(field), "depends="); ok && names != "" {
				for dependency := range strings.SplitSeq(names, ",") {
					if err := add(dependency); err != nil {
						return err
					}
				}
			}
		}
		files = append(files, path)
		return nil
	}
	for _, name := range modules {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// cpio is an archive in the format that the kernel unpacks (newc).
type cpio struct {
	bytes.Buffer
	inode int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
		len(name)+1, 0)
	c.WriteString(name + "\x00")
	c.pad()
	c.Write(data)
	c.pad()
}

// pad fills up to a multiple of four bytes.
func (c *cpio) pad() {
	for c.Len()%4 != 0 {
		c.WriteByte(0)
	}
}
