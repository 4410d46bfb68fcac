//go:build integ

package demo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/demo"
	"github.com/hactl/had/internal/lab/need"
)

const (
	// binVar names the directory of the programs; without it they are where `make build` puts them.
	binVar = "HAD_BIN"
	// playLimit is what is promised of the whole demonstration; voidTries is how often it is played if it was void.
	playLimit = 2 * time.Minute
	voidTries = 3
	// startLimit is for the first lines that say something; endLimit for the end after SIGINT.
	startLimit = 60 * time.Second
	endLimit   = 20 * time.Second

	nobody = 65534
)

// output is what a program has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// play is one running hactl demo.
type play struct {
	t     *testing.T
	dir   string // with the programs, where everybody may run them
	temp  string // its TMPDIR
	cmd   *exec.Cmd
	out   output
	input io.WriteCloser
	ended chan error
}

// start starts bin/hactl demo as a user; 0 is this one.
func start(t *testing.T, user uint32, args ...string) *play {
	t.Helper()
	p := &play{t: t, ended: make(chan error, 1)}
	var err error
	if p.dir, err = os.MkdirTemp("", "had-demo-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	p.temp = filepath.Join(p.dir, "tmp")
	must(t, os.Chmod(p.dir, 0o755), os.Mkdir(p.temp, 0o777), os.Chmod(p.temp, 0o777))
	bin := os.Getenv(binVar)
	if bin == "" {
		bin = filepath.Join("..", "..", "..", "bin")
	}
	for _, name := range []string{"had", "hawitness", "hactl"} {
		data, err := os.ReadFile(filepath.Join(bin, name))
		must(t, err, need.Program(filepath.Join(p.dir, name), data), os.Chmod(filepath.Join(p.dir, name), 0o755))
	}
	p.cmd = exec.Command(filepath.Join(p.dir, "hactl"), append([]string{"demo"}, args...)...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.temp, "NO_COLOR=1")
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if user != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
	}
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	must(t, p.cmd.Start())
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// says waits until all texts have been printed. An end that comes first is returned as false.
func (p *play) says(texts ...string) bool {
	p.t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		out := p.out.String()
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(out, text) }) {
			return true
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			return false
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("it does not say %q within %s, but:\n%s", texts, startLimit, out)
		}
	}
}

// end waits for the end and returns the exit code.
func (p *play) end(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.t.Fatalf("it did not end within %s; it said:\n%s", limit, p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// links lists the interfaces of this machine.
func links(t *testing.T) []string {
	t.Helper()
	list, err := net.Interfaces()
	must(t, err)
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return names
}

// leavesNothing asserts that no process of the programs is left, so no namespace either, no interface, no mount, and no file.
func (p *play) leavesNothing(before []string) {
	p.t.Helper()
	var list []string
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	must(p.t, err)
	for _, path := range processes {
		if exe, err := os.Readlink(path); err == nil && strings.HasPrefix(exe, p.dir+"/") {
			list = append(list, "process "+path+" "+exe)
		}
	}
	for _, name := range links(p.t) {
		if !slices.Contains(before, name) {
			list = append(list, "interface "+name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(p.t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "had-demo") {
			list = append(list, "mount "+line)
		}
	}
	files, err := os.ReadDir(p.temp)
	must(p.t, err)
	for _, f := range files {
		list = append(list, "file "+f.Name())
	}
	if _, err := os.Lstat(lab.RunDir + "/had-demo"); err == nil {
		list = append(list, "file "+lab.RunDir+"/had-demo")
	}
	if len(list) > 0 {
		p.t.Errorf("it left behind:\n%s", strings.Join(list, "\n"))
	}
}

// outcomes reads the table at the end: what came of each phase.
func outcomes(out string) map[string]string {
	_, table, _ := strings.Cut(out, "\nSummary\n")
	found := map[string]string{}
	for line := range strings.Lines(table) {
		for _, outcome := range []string{"OK", "FAILED", "NO RECOVERY", "VOID"} {
			if text, ok := strings.CutSuffix(strings.TrimSpace(line), " "+outcome); ok && len(text) > phaseColumn {
				found[strings.TrimSpace(text[:phaseColumn])] = outcome
			}
		}
	}
	return found
}

// phaseColumn is how wide the first column of the table is.
const phaseColumn = 22

// The whole demonstration passes, within two minutes. If phases of it are void, because this machine was too busy, it is played
// again: each phase must have passed once, and none may fail.
func TestTheDemonstrationPasses(t *testing.T) {
	before := links(t)
	passed := map[string]bool{}
	for range voidTries {
		began := time.Now()
		p := start(t, 0)
		code := p.end(2 * playLimit)
		took := time.Since(began)
		p.leavesNothing(before)
		out := p.out.String()
		phases := outcomes(out)
		void := strings.Contains(out, demo.ErrVoid.Error())
		if code != 0 && !void || len(phases) < 8 {
			t.Fatalf("exit code %d after %s:\n%s", code, took, out)
		}
		if took > playLimit {
			t.Errorf("it took %s, want at most %s", took, playLimit)
		}
		for _, text := range []string{"Time with two owners: 0 ms", "planned move", "lb1", "lb2", "0 s"} {
			if !strings.Contains(out, text) {
				t.Errorf("%q was not printed, but:\n%s", text, out)
			}
		}
		var missing []string
		for phase, outcome := range phases {
			if passed[phase] = passed[phase] || outcome == "OK"; !passed[phase] {
				missing = append(missing, phase)
			}
		}
		if len(missing) == 0 || t.Failed() {
			return
		}
		t.Logf("void after %s: %q", took, missing)
	}
	t.Errorf("void %d times: this machine is too busy", voidTries)
}

// Ctrl-C in the middle of a phase ends it, as an ordinary user in a user namespace, and nothing is left.
func TestTheDemonstrationIsInterrupted(t *testing.T) {
	before := links(t)
	p := start(t, nobody)
	if !p.says("1  Nothing happens") {
		if out := p.out.String(); strings.Contains(out, lab.ErrPrivilege.Error()) {
			need.Skip(t, "this kernel does not let users make namespaces: %s", out)
		}
		t.Fatalf("it ended with exit code %d:\n%s", p.end(0), p.out.String())
	}
	must(t, syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT)) // as a terminal does: to the whole group
	if code := p.end(endLimit); code != api.ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if out := p.out.String(); !strings.Contains(out, "everything has been removed") || !strings.Contains(out, "interrupted") {
		t.Errorf("it said:\n%s", out)
	}
	p.leavesNothing(before)
}

// The cluster stays up, does what is typed, and ends with quit.
func TestTheInteractiveDemonstration(t *testing.T) {
	before := links(t)
	p := start(t, 0, "--interactive")
	if !p.says("Type here:", "quit") {
		t.Fatalf("it ended with exit code %d:\n%s", p.end(0), p.out.String())
	}
	_, err := fmt.Fprintln(p.input, "status")
	must(t, err)
	if !p.says("HEALTHY", "quorum 3/3") {
		t.Fatalf("it ended with exit code %d:\n%s", p.end(0), p.out.String())
	}
	_, err = fmt.Fprintln(p.input, "quit")
	must(t, err)
	if code := p.end(endLimit); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out.String())
	}
	p.leavesNothing(before)
}
