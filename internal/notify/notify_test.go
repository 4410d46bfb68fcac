package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab/need"
)

// shell returns a script that runs a text in the shell, with "out" a file in dir for its results.
func shell(t *testing.T, dir, text string) Script {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("script%d.sh", time.Now().UnixNano()))
	text = "#!/bin/sh\nout='" + dir + "/out'\n" + text + "\n"
	if err := need.Program(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return Script{Path: path, Args: []string{path}, Identity: Self()}
}

// runJob runs a job to its end.
func runJob(t *testing.T, r *Runner, ctx context.Context, job Job) Outcome {
	t.Helper()
	outcomes := make(chan Outcome, 1)
	job.Done = func(o Outcome) { outcomes <- o }
	r.Run(ctx, job)
	select {
	case o := <-outcomes:
		return o
	case <-time.After(10 * time.Second):
		t.Fatal("no outcome")
		return Outcome{}
	}
}

func output(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// alive tells whether a process exists and is not a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestOnlyExitStatusZeroIsSuccess(t *testing.T) {
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"exit 0", "exit 0", true},
		{"exit 1", "exit 1", false},
		{"exit 126, the shell could not execute", "exit 126", false},
		{"exit 127, the shell found no program", "exit 127", false},
		{"death by a signal", "kill -9 $$", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := runJob(t, &Runner{}, t.Context(), Job{Script: shell(t, t.TempDir(), tt.text)})
			if o.OK() != tt.ok || !o.Started {
				t.Errorf("outcome %+v", o)
			}
			var exit *exec.ExitError
			if !tt.ok && !errors.As(o.Err, &exit) {
				t.Errorf("error %v does not tell the exit status", o.Err)
			}
		})
	}
}

func TestAScriptThatCannotBeExecutedHasFailed(t *testing.T) {
	dir := t.TempDir()
	noInterpreter := filepath.Join(dir, "interpreter")
	plain := filepath.Join(dir, "plain")
	for path, mode := range map[string]os.FileMode{noInterpreter: 0o755, plain: 0o644} {
		if err := os.WriteFile(path, []byte("#!/nowhere/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "missing"), noInterpreter, plain, dir} {
		o := runJob(t, &Runner{}, t.Context(), Job{Script: Script{Path: path, Args: []string{path}, Identity: Self()}})
		if o.OK() || o.Started || !strings.Contains(o.Err.Error(), "execute script "+path) {
			t.Errorf("%s: outcome %+v", path, o)
		}
	}
}

func TestATextWithoutInterpreterRunsThroughTheShell(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "text")
	if err := os.WriteFile(path, []byte("test \"$1\" = 'a b'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := Script{Path: path, Args: []string{path, "a b"}, Identity: Self()}
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); !o.OK() {
		t.Errorf("outcome %+v", o)
	}
}

func TestAFileThatCanBeOpenedIsASuccess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	script, err := Resolve([]string{"<" + file}, Self(), ResolveOptions{Security: true})
	if err != nil {
		t.Fatal(err)
	}
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); !errors.Is(o.Err, fs.ErrNotExist) {
		t.Errorf("missing: %+v", o)
	}
	if err := unix.Mkfifo(file, 0o600); err != nil { // opening must not wait for a writer
		t.Fatal(err)
	}
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); !o.OK() {
		t.Errorf("there: %+v", o)
	}
}

func TestAScriptHasACleanEnvironmentAndAGroupOfItsOwn(t *testing.T) {
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("LD_LIBRARY_PATH", "/evil")
	t.Setenv("IFS", "x")
	t.Setenv("KEPT", "yes")
	dir := t.TempDir()
	script := shell(t, dir, `{ env; cut -d' ' -f1,5 /proc/$$/stat; } > "$out"`)
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); !o.OK() {
		t.Fatalf("outcome %+v", o)
	}
	out := strings.Split(strings.TrimSpace(output(t, dir)), "\n")
	has := func(prefix string) bool {
		return slices.ContainsFunc(out, func(line string) bool { return strings.HasPrefix(line, prefix) })
	}
	if !has("KEPT=yes") || has("LD_PRELOAD=") || has("LD_LIBRARY_PATH=") || has("IFS=") {
		t.Errorf("environment: %v", out)
	}
	group := strings.Fields(out[len(out)-1])
	if len(group) != 2 || group[0] != group[1] || group[1] == strconv.Itoa(syscall.Getpgrp()) {
		t.Errorf("process and group %v, want equal ones and not ours", group)
	}
}

func TestAScriptHasNothingOpenButDevNull(t *testing.T) {
	inherited, err := unix.FcntlInt(1, unix.F_DUPFD, 200) // not marked to be closed
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(inherited) }()
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("NOTIFY_TEST_DESCRIPTORS", out)
	script := Script{Path: os.Args[0], Args: []string{os.Args[0]}, Identity: Self()}
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); !o.OK() {
		t.Fatalf("outcome %+v", o)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"0 /dev/null\n", "1 /dev/null\n", "2 /dev/null\n"} {
		if !strings.Contains(string(b), line) {
			t.Errorf("%q is missing in:\n%s", line, b)
		}
	}
	if strings.Contains(string(b), fmt.Sprintf("\n%d ", inherited)) {
		t.Errorf("descriptor %d was inherited:\n%s", inherited, b)
	}
}

// writeDescriptors writes the open descriptors of this process, one per line.
func writeDescriptors(path string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, entry := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		fmt.Fprintf(&lines, "%s %s\n", entry.Name(), target)
	}
	return os.WriteFile(path, []byte(lines.String()), 0o600)
}

func TestAtItsTimeoutTheWholeProcessGroupEnds(t *testing.T) {
	dir := t.TempDir()
	script := shell(t, dir, `sleep 100 & echo $! > "$out.new"; mv "$out.new" "$out"; wait`)
	r := &Runner{}
	o := runJob(t, r, t.Context(), Job{Script: script, Timeout: 200 * time.Millisecond})
	if !errors.Is(o.Err, ErrTimeout) || o.Duration > killDelay {
		t.Errorf("outcome %+v", o)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(output(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child of the script has ended", func() bool { return !alive(pid) })
}

func TestAScriptThatIgnoresSIGTERMIsKilled(t *testing.T) {
	r := &Runner{killDelay: 100 * time.Millisecond}
	script := shell(t, t.TempDir(), `trap '' TERM; while :; do sleep 0.01; done`)
	o := runJob(t, r, t.Context(), Job{Script: script, Timeout: 100 * time.Millisecond})
	if !errors.Is(o.Err, ErrTimeout) || errors.Is(o.Err, ErrUnkillable) || o.Duration < 200*time.Millisecond {
		t.Errorf("outcome %+v", o)
	}
}

func TestAScriptThatExitsZeroAtSIGTERMHasFailedAllTheSame(t *testing.T) {
	script := shell(t, t.TempDir(), `trap 'exit 0' TERM; while :; do sleep 0.01; done`)
	o := runJob(t, &Runner{}, t.Context(), Job{Script: script, Timeout: 100 * time.Millisecond})
	if !errors.Is(o.Err, ErrTimeout) {
		t.Errorf("outcome %+v", o)
	}
}

func TestTheEndOfTheContextEndsTheScript(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	o := runJob(t, &Runner{}, ctx, Job{Script: shell(t, t.TempDir(), "exec sleep 100")})
	if !errors.Is(o.Err, context.Canceled) || !o.Started {
		t.Errorf("outcome %+v", o)
	}
	o = runJob(t, &Runner{}, ctx, Job{Script: shell(t, t.TempDir(), "exit 0")})
	if !errors.Is(o.Err, context.Canceled) || o.Started {
		t.Errorf("after the end: outcome %+v", o)
	}
}

func TestNoZombieIsLeft(t *testing.T) {
	r := &Runner{}
	script := shell(t, t.TempDir(), "exit 3")
	for range 20 {
		r.Run(t.Context(), Job{Script: script})
	}
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) && pid > 0 {
		t.Errorf("child %d was not reaped", pid)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	r := &Runner{}
	script, stop := context.WithCancel(t.Context())
	r.Run(script, Job{Script: shell(t, t.TempDir(), "exec sleep 100")})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	stop()
	if err := r.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestScriptsInOrderStartInOrderAndDoNotWaitForEachOther(t *testing.T) {
	dir := t.TempDir()
	r := &Runner{}
	// Each appends its number at once, in one write, and then lasts longer than all starts together.
	script := shell(t, dir, `echo "$1" >> "$out"; sleep 1`)
	begin := time.Now()
	for i := range 10 {
		r.Run(t.Context(), Job{Script: script, Extra: []string{strconv.Itoa(i)}, InOrder: true})
	}
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("Run blocked for %v", d)
	}
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 7*time.Second {
		t.Errorf("took %v: the scripts ran one after the other", d)
	}
	// Starting in order does not make the shells write in exact order; the first and the last are far apart.
	got := strings.Fields(output(t, dir))
	if len(got) != 10 || slices.Index(got, "0") > slices.Index(got, "9") {
		t.Errorf("order %v", got)
	}
}

func TestTooManyScriptsAreRefused(t *testing.T) {
	r := &Runner{running: maxRunning}
	if o := runJob(t, r, t.Context(), Job{Script: shell(t, t.TempDir(), "exit 0")}); !errors.Is(o.Err, ErrTooMany) {
		t.Errorf("outcome %+v", o)
	}
	eventually(t, "the refused script is off the account", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.running == maxRunning
	})
}

func TestWatchRunsAtOnceAndThenEveryInterval(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &Runner{}
	var outcomes []Outcome
	begin := time.Now()
	r.Watch(ctx, shell(t, t.TempDir(), "exit 0"), 100*time.Millisecond, 5*time.Second, func(o Outcome) {
		if outcomes = append(outcomes, o); len(outcomes) == 3 {
			cancel()
		}
	})
	if len(outcomes) != 3 || slices.ContainsFunc(outcomes, func(o Outcome) bool { return !o.OK() }) {
		t.Errorf("outcomes %+v", outcomes)
	}
	if d := time.Since(begin); d < 200*time.Millisecond || d > 3*time.Second {
		t.Errorf("three runs took %v", d)
	}
}

func TestWatchSkipsARunWhileTheOneBeforeIsActive(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	script := shell(t, dir, `echo run >> "$out"; sleep 0.3`)
	(&Runner{}).Watch(ctx, script, 50*time.Millisecond, 5*time.Second, func(Outcome) { cancel() })
	if got := output(t, dir); got != "run\n" {
		t.Errorf("runs:\n%s", got)
	}
}

func TestWatchTakesTheIntervalAsTimeout(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var first Outcome
	(&Runner{}).Watch(ctx, shell(t, t.TempDir(), "exec sleep 100"), 100*time.Millisecond, 0, func(o Outcome) {
		first = o
		cancel()
	})
	if !errors.Is(first.Err, ErrTimeout) {
		t.Errorf("outcome %+v", first)
	}
}

func TestWatchReportsNothingAfterItsContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var reports atomic.Int32
	time.AfterFunc(100*time.Millisecond, cancel)
	(&Runner{}).Watch(ctx, shell(t, t.TempDir(), "exec sleep 100"), time.Minute, 0, func(Outcome) { reports.Add(1) })
	if got := reports.Load(); got != 0 {
		t.Errorf("%d reports", got)
	}
}

// A process in an uninterruptible system call, on a dead file server, say, does not even die of SIGKILL.
func TestAScriptThatCannotBeKilledFailsAtEveryInterval(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pid atomic.Int32
	r := &Runner{killDelay: 50 * time.Millisecond, kill: func(p int, _ syscall.Signal) error {
		pid.Store(int32(-p))
		return syscall.EPERM
	}}
	var outcomes []Outcome
	r.Watch(ctx, shell(t, dir, `echo run >> "$out"; exec sleep 100`), 50*time.Millisecond, 0, func(o Outcome) {
		if outcomes = append(outcomes, o); len(outcomes) == 4 {
			cancel()
		}
	})
	for i, o := range outcomes {
		if !errors.Is(o.Err, ErrUnkillable) || errors.Is(o.Err, ErrTimeout) != (i == 0) {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
	if got := output(t, dir); got != "run\n" {
		t.Errorf("more than one process was started:\n%s", got)
	}
	if err := syscall.Kill(int(pid.Load()), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := r.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestMain lets the test binary play a script that lists its descriptors, and a process that starts a script and dies.
func TestMain(m *testing.M) {
	if path := os.Getenv("NOTIFY_TEST_DESCRIPTORS"); path != "" {
		if err := writeDescriptors(path); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	if path := os.Getenv("NOTIFY_TEST_DIE"); path != "" {
		script := Script{Path: path, Args: []string{path}, Identity: Self()}
		(&Runner{}).Run(context.Background(), Job{Script: script})
		for {
			time.Sleep(10 * time.Millisecond)
			if _, err := os.Stat(os.Getenv("NOTIFY_TEST_READY")); err == nil {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
	}
	os.Exit(m.Run())
}

func TestAScriptGetsSIGTERMWhenItsParentDies(t *testing.T) {
	dir := t.TempDir()
	script := shell(t, dir, `trap 'echo terminated > "$out.end"; exit' TERM; echo $$ > "$out.new"; mv "$out.new" "$out"; while :; do sleep 0.01; done`)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NOTIFY_TEST_DIE="+script.Path, "NOTIFY_TEST_READY="+dir+"/out")
	if err := cmd.Run(); err == nil {
		t.Fatal("the parent did not die")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(output(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the script has ended", func() bool { return !alive(pid) })
	if _, err := os.Stat(dir + "/out.end"); err != nil {
		t.Errorf("the script was not terminated: %v", err)
	}
}

func TestResolveFindsProgramsAsConfigured(t *testing.T) {
	dir := t.TempDir()
	real, link, plain := filepath.Join(dir, "real"), filepath.Join(dir, "link"), filepath.Join(dir, "plain")
	for path, mode := range map[string]os.FileMode{real: 0o755, plain: 0o644} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "relative:"+dir)
	tests := []struct {
		name    string
		args    []string
		opts    ResolveOptions
		path    string
		problem Problem
	}{
		{name: "with a slash as it is given", args: []string{real, "arg"}, path: real},
		{name: "without one along PATH", args: []string{"real"}, path: real},
		{name: "through a symbolic link", args: []string{"link"}, path: real},
		{name: "not through a symbolic link", args: []string{"link"}, opts: ResolveOptions{UseSymlinkPaths: true}, path: link},
		{name: "a missing file", args: []string{filepath.Join(dir, "missing")}, problem: NotFound},
		{name: "a program not in PATH", args: []string{"missing"}, problem: NotFound},
		{name: "nothing", problem: NotFound},
		{name: "an empty word", args: []string{""}, problem: NotFound},
		{name: "a file without execute bit", args: []string{plain}, problem: NotExecutable},
		{name: "the same along PATH", args: []string{"plain"}, problem: NotExecutable},
		{name: "a directory", args: []string{dir}, problem: NotExecutable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script, err := Resolve(tt.args, Self(), tt.opts)
			if tt.problem == 0 {
				if err != nil || script.Path != tt.path || !slices.Equal(script.Args, tt.args) {
					t.Errorf("got %+v, %v", script, err)
				}
				return
			}
			var scriptError *ScriptError
			if !errors.As(err, &scriptError) || scriptError.Problem != tt.problem {
				t.Errorf("got %v, want %v", err, tt.problem)
			}
		})
	}
}

func TestWhoMayExecute(t *testing.T) {
	const file = syscall.S_IFREG
	tests := []struct {
		name string
		id   Identity
		mode uint32
		want bool
	}{
		{"root with any execute bit", Identity{}, file | 0o001, true},
		{"root without", Identity{}, file | 0o666, false},
		{"root through any directory", Identity{}, syscall.S_IFDIR, true},
		{"the owner by the owner's bits alone", Identity{UID: 10, GID: 20}, file | 0o077, false},
		{"the owner", Identity{UID: 10, GID: 99}, file | 0o100, true},
		{"the group by the group's bits alone", Identity{UID: 11, GID: 20}, file | 0o707, false},
		{"the group", Identity{UID: 11, GID: 20}, file | 0o010, true},
		{"a supplementary group", Identity{UID: 11, GID: 21, Groups: []uint32{5, 20}}, file | 0o010, true},
		{"others", Identity{UID: 11, GID: 21}, file | 0o001, true},
		{"others without", Identity{UID: 11, GID: 21}, file | 0o770, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.id.may(&syscall.Stat_t{Uid: 10, Gid: 20, Mode: tt.mode}, 1); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestTheSecurityCheckLooksAtEveryComponent(t *testing.T) {
	const dir, file, link = uint32(syscall.S_IFDIR | 0o755), uint32(syscall.S_IFREG | 0o755), uint32(syscall.S_IFLNK | 0o777)
	type node struct {
		mode, uid, gid uint32
		target         string
	}
	root, plainUser := Identity{}, Identity{UID: 1000, GID: 1000}
	tests := []struct {
		name   string
		id     Identity
		path   string
		change map[string]node
		want   Security
	}{
		{"all in order", root, "/opt/s/run", nil, Security{Kind: Secure}},
		{"a file of another user", root, "/opt/s/run", map[string]node{"/opt/s/run": {file, 1000, 0, ""}},
			Security{NotOwnedByRoot, "/opt/s/run"}},
		{"a directory of another user", root, "/opt/s/run", map[string]node{"/opt": {dir, 1000, 0, ""}},
			Security{NotOwnedByRoot, "/opt"}},
		{"the first fault counts", root, "/opt/s/run",
			map[string]node{"/opt/s": {dir | 0o002, 0, 0, ""}, "/opt/s/run": {file, 1, 0, ""}},
			Security{WritableByAll, "/opt/s"}},
		{"a directory writable by everybody", root, "/opt/s/run", map[string]node{"/opt/s": {dir | 0o002, 0, 0, ""}},
			Security{WritableByAll, "/opt/s"}},
		{"a sticky directory writable by everybody", root, "/opt/s/run",
			map[string]node{"/opt/s": {dir | syscall.S_ISVTX | 0o022, 0, 9, ""}}, Security{Kind: Secure}},
		{"a sticky file is no exception", root, "/opt/s/run",
			map[string]node{"/opt/s/run": {file | syscall.S_ISVTX | 0o002, 0, 0, ""}}, Security{WritableByAll, "/opt/s/run"}},
		{"a file writable by root's group", root, "/opt/s/run", map[string]node{"/opt/s/run": {file | 0o020, 0, 0, ""}},
			Security{Kind: Secure}},
		{"a file writable by another group", root, "/opt/s/run", map[string]node{"/opt/s/run": {file | 0o020, 0, 7, ""}},
			Security{WritableByGroup, "/opt/s/run"}},
		{"a script that runs as a plain user", plainUser, "/opt/s/run",
			map[string]node{"/opt/s/run": {file | 0o002, 1000, 0, ""}}, Security{Kind: Secure}},
		{"a script that runs with root's group", Identity{UID: 1000}, "/opt/s/run",
			map[string]node{"/opt/s/run": {file | 0o002, 0, 0, ""}}, Security{WritableByAll, "/opt/s/run"}},
		{"setuid root for a plain user", plainUser, "/opt/s/run",
			map[string]node{"/opt/s": {dir | 0o002, 0, 0, ""}, "/opt/s/run": {file | syscall.S_ISUID, 0, 0, ""}},
			Security{WritableByAll, "/opt/s"}},
		{"setgid root for a plain user", plainUser, "/opt/s/run",
			map[string]node{"/opt/s": {dir | 0o002, 0, 0, ""}, "/opt/s/run": {file | syscall.S_ISGID, 1, 0, ""}},
			Security{WritableByAll, "/opt/s"}},
		{"setuid to another user", plainUser, "/opt/s/run",
			map[string]node{"/opt/s/run": {file | syscall.S_ISUID | 0o002, 5, 5, ""}}, Security{Kind: Secure}},
		{"a link into an open directory", root, "/opt/s/link",
			map[string]node{"/opt/s/link": {link, 0, 0, "../../tmp/x"}, "/tmp": {dir | 0o002, 0, 0, ""}, "/tmp/x": {file, 0, 0, ""}},
			Security{WritableByAll, "/tmp"}},
		{"an absolute link to a sound file", root, "/opt/s/link",
			map[string]node{"/opt/s/link": {link, 0, 0, "/opt/s/run"}}, Security{Kind: Secure}},
		{"a link of another user", root, "/opt/s/link",
			map[string]node{"/opt/s/link": {link, 1000, 0, "/opt/s/run"}}, Security{NotOwnedByRoot, "/opt/s/link"}},
		{"a link that is a directory", root, "/opt/l/run", map[string]node{"/opt/l": {link, 0, 0, "s"}}, Security{Kind: Secure}},
		{"links in a circle", root, "/opt/a", map[string]node{"/opt/a": {link, 0, 0, "a"}}, Security{}},
		{"a missing file", root, "/opt/s/missing", nil, Security{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes := map[string]node{"/": {dir, 0, 0, ""}, "/opt": {dir, 0, 0, ""}, "/opt/s": {dir, 0, 0, ""},
				"/opt/s/run": {file, 0, 0, ""}}
			for path, n := range tt.change {
				nodes[path] = n
			}
			got, err := checkSecurity(tt.path, tt.id, func(path string) (*syscall.Stat_t, error) {
				n, ok := nodes[path]
				if !ok {
					return nil, fs.ErrNotExist
				}
				return &syscall.Stat_t{Mode: n.mode, Uid: n.uid, Gid: n.gid}, nil
			}, func(path string) (string, error) { return nodes[path].target, nil })
			if (err != nil) != (tt.want.Kind == 0) || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestResolveReportsAnInsecureScript(t *testing.T) {
	path := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := Resolve([]string{path}, Identity{}, ResolveOptions{Security: true})
	var scriptError *ScriptError
	if !errors.As(err, &scriptError) || scriptError.Problem != Insecure || scriptError.Security.Kind == Secure {
		t.Errorf("got %v", err)
	}
	if _, err := Resolve([]string{path}, Identity{}, ResolveOptions{}); err != nil {
		t.Errorf("without the check: %v", err)
	}
}

func TestIdentitiesAreFoundByNameAndByNumber(t *testing.T) {
	for _, tt := range []struct{ user, group string }{{"root", ""}, {"0", ""}, {"root", "root"}, {"root", ":root"}, {"0", ":0"}} {
		id, err := LookupIdentity(tt.user, tt.group, true)
		if err != nil || id.UID != 0 || id.GID != 0 {
			t.Errorf("%v: %+v, %v", tt, id, err)
		}
	}
	for _, tt := range []struct{ user, group string }{{"no-such-user", ""}, {"root", "no-such-group"}} {
		if id, err := LookupIdentity(tt.user, tt.group, false); err == nil {
			t.Errorf("%v: %+v", tt, id)
		}
	}
}

func openFIFOFor(t *testing.T) (*FIFO, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	fifo, err := OpenFIFO(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fifo.Close() })
	return fifo, path
}

// drain reads what is in a pipe now.
func drain(t *testing.T, path string) string {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	var all []byte
	buffer := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buffer)
		if n <= 0 || err != nil {
			return string(all)
		}
		all = append(all, buffer[:n]...)
	}
}

func TestAPipeThatWeCreatedIsRemovedAndAnotherIsNot(t *testing.T) {
	fifo, path := openFIFOFor(t)
	second, err := OpenFIFO(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("removed by one who did not create it: %v", err)
	}
	if err := fifo.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not removed by its creator: %v", err)
	}
	if err := fifo.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := fifo.WriteLine("x"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("written when closed: %v", err)
	}
}

func TestAFileThatIsNoPipeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFIFO(path, nil); err == nil || !strings.Contains(err.Error(), "not a named pipe") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := OpenFIFO(filepath.Join(path, "below"), nil); err == nil {
		t.Error("created below a file")
	}
}

func TestAFullPipeLosesWholeLinesAndDoesNotBlock(t *testing.T) {
	fifo, path := openFIFOFor(t)
	line := strings.Repeat("x", 999)
	written := 0
	for {
		err := fifo.WriteLine(line)
		if err != nil {
			if !errors.Is(err, ErrFIFOFull) {
				t.Fatal(err)
			}
			break
		}
		if written++; written > 10000 {
			t.Fatal("never full")
		}
	}
	if got, want := drain(t, path), strings.Repeat(line+"\n", written); got != want {
		t.Errorf("read %d bytes, want %d", len(got), len(want))
	}
	if err := fifo.WriteLine("again"); err != nil {
		t.Errorf("after reading: %v", err)
	}
}

func TestNotificationsHaveTheTextOfKeepalived(t *testing.T) {
	tests := []struct {
		change Change
		line   string
		runs   string // specific, generic
	}{
		{Change{Kind: Instance, Name: "VI_1", State: Master, Priority: 150}, `INSTANCE "VI_1" MASTER 150`, "master|any INSTANCE VI_1 MASTER 150"},
		{Change{Kind: Instance, Name: "VI_1", State: Backup, Priority: 100}, `INSTANCE "VI_1" BACKUP 100`, "backup|any INSTANCE VI_1 BACKUP 100"},
		{Change{Kind: Instance, Name: "VI_1", State: Fault, Priority: 100}, `INSTANCE "VI_1" FAULT 100`, "fault|any INSTANCE VI_1 FAULT 100"},
		{Change{Kind: Instance, Name: "VI_1", State: Stop, Priority: 100}, `INSTANCE "VI_1" STOP 100`, "stop|any INSTANCE VI_1 STOP 100"},
		{Change{Kind: Instance, Name: "VI_1", State: Deleted, Priority: 100}, `INSTANCE "VI_1" DELETED 100`, "deleted|any INSTANCE VI_1 DELETED 100"},
		{Change{Kind: Group, Name: "VG 1", State: Master, Priority: 150}, `GROUP "VG 1" MASTER 0`, "master|any GROUP VG 1 MASTER 0"},
		{Change{Kind: Instance, Name: "VI_1", State: MasterRxLowerPri, Priority: 150}, `INSTANCE "VI_1" MASTER_RX_LOWER_PRI 150`, "lower"},
		{Change{Kind: Instance, Name: "VI_1", State: MasterPriority, Priority: 151}, `INSTANCE "VI_1" MASTER_PRIORITY 151`, ""},
		{Change{Kind: Instance, Name: "VI_1", State: BackupPriority, Priority: 99}, `INSTANCE "VI_1" BACKUP_PRIORITY 99`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			dir := t.TempDir()
			script := shell(t, dir, `echo "$*" > "$out.$1"`)
			named := func(name string) *Script {
				s := script
				s.Args = []string{script.Path, name}
				return &s
			}
			fifo, path := openFIFOFor(t)
			n := &Notifier{Runner: &Runner{}, FIFOs: []*FIFO{fifo}, Logger: slog.New(slog.DiscardHandler)}
			n.Notify(tt.change, Scripts{Master: named("master"), Backup: named("backup"), Fault: named("fault"),
				Stop: named("stop"), Deleted: named("deleted"), MasterRxLowerPri: named("lower"), Any: named("any")})
			if err := n.Runner.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := drain(t, path); got != tt.line+"\n" {
				t.Errorf("pipe: %q", got)
			}
			var runs []string
			files, _ := filepath.Glob(dir + "/out.*")
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				runs = append(runs, strings.TrimSpace(string(b)))
			}
			slices.SortFunc(runs, func(a, b string) int { return len(a) - len(b) })
			if got := strings.Join(runs, "|"); got != tt.runs {
				t.Errorf("scripts: %q, want %q", got, tt.runs)
			}
		})
	}
}

func TestWhatGoesWrongWithANotificationIsLogged(t *testing.T) {
	var log bytes.Buffer
	fifo, _ := openFIFOFor(t)
	if err := fifo.Close(); err != nil {
		t.Fatal(err)
	}
	n := &Notifier{Runner: &Runner{}, FIFOs: []*FIFO{fifo}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	missing := Script{Path: "/nowhere/script", Args: []string{"/nowhere/script", "arg"}, Identity: Self()}
	n.Notify(Change{Kind: Instance, Name: "VI_1", State: Master, Priority: 100}, Scripts{Master: &missing})
	if err := n.Runner.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"notification was not written" instance=VI_1 state=MASTER`,
		`"notification script failed" instance=VI_1 state=MASTER script="/nowhere/script arg"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is missing in:\n%s", want, log.String())
		}
	}
}

// ear keeps what it is told.
type ear struct {
	path    string // of a pipe that has been written before
	told    []Change
	servers []ServerChange
	early   bool
}

func (e *ear) Tell(c Change) {
	e.told = append(e.told, c)
	fd, err := unix.Open(e.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		n, _ := unix.Read(fd, make([]byte, 100))
		e.early = e.early || n <= 0
		_ = unix.Close(fd)
	}
}

func TestReceiversAreToldAfterThePipesAndNotOfWhatIsWrittenAlone(t *testing.T) {
	fifo, path := openFIFOFor(t)
	e := &ear{path: path}
	n := &Notifier{Runner: &Runner{}, FIFOs: []*FIFO{fifo}, Receivers: []Receiver{e}, Logger: slog.New(slog.DiscardHandler)}
	change := Change{Kind: Instance, Name: "VI_1", State: Master, Priority: 100, Mail: true}
	n.Notify(change, Scripts{})
	if len(e.told) != 1 || e.told[0] != change || e.early {
		t.Errorf("told %+v, before the pipe: %t", e.told, e.early)
	}
	n.Write(change)
	if len(e.told) != 1 {
		t.Error("told of what was for the pipes")
	}
	if got := drain(t, path); got != change.Line()+"\n" {
		t.Errorf("pipe: %q", got)
	}
}

func TestAReaderReadsWhatWasWrittenBeforeItIsEnded(t *testing.T) {
	fifo, _ := openFIFOFor(t)
	dir := t.TempDir()
	// The path of the pipe is the last argument; the second process shows that the whole group is ended.
	script := shell(t, dir, `trap 'echo ended >> "$out"; exit' TERM
		echo "$1 $#" > "$out"
		sleep 60 &
		echo $! > "$out.child"
		while read -r line; do echo "$line" >> "$out"; sleep 0.05; done < "$2"`)
	script.Args = append(script.Args, "argument")
	r := StartReader(fifo, script, slog.New(slog.DiscardHandler))
	for i := range 5 {
		if err := fifo.WriteLine(strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the reader has begun", func() bool {
		content, _ := os.ReadFile(filepath.Join(dir, "out"))
		return strings.Contains(string(content), "0")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r.Stop(ctx)
	if got, want := output(t, dir), "argument 2\n0\n1\n2\n3\n4\nended\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	child, err := os.ReadFile(filepath.Join(dir, "out.child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(child)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its child is gone", func() bool { return !alive(pid) })
}

func TestAReaderThatHasEndedIsSaidAndNotWaitedFor(t *testing.T) {
	fifo, _ := openFIFOFor(t)
	var log lockedBuffer
	r := StartReader(fifo, shell(t, t.TempDir(), "exit 3"), slog.New(slog.NewTextHandler(&log, nil)))
	eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "exit status 3") })
	if err := fifo.WriteLine("nobody reads this"); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { r.Stop(context.Background()); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Stop waits for a reader that is gone")
	}
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (e *ear) TellServer(c ServerChange) { e.servers = append(e.servers, c) }

func TestServersAreToldOf(t *testing.T) {
	fifo, path := openFIFOFor(t)
	e := &ear{path: path}
	n := &Notifier{Runner: &Runner{}, FIFOs: []*FIFO{fifo}, Receivers: []Receiver{e}, Logger: slog.New(slog.DiscardHandler)}
	web := VirtualServer{Address: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: "TCP"}
	for _, test := range []struct {
		change ServerChange
		line   string
	}{
		{ServerChange{Virtual: web, Up: true}, "VS [192.0.2.1]:tcp:80 UP"},
		{ServerChange{Virtual: web, Real: netip.MustParseAddrPort("[2001:db8::1]:8080")},
			"RS [2001:db8::1]:tcp:8080 [192.0.2.1]:tcp:80 DOWN"},
		{ServerChange{Virtual: VirtualServer{Mark: 7}}, "VS FWM 7 DOWN"},
		{ServerChange{Virtual: VirtualServer{Group: "web", Protocol: "UDP"}, Real: netip.MustParseAddrPort("10.0.0.1:53"), Up: true},
			"RS [10.0.0.1]:udp:53 [web]:0 UP"},
	} {
		e.servers = nil
		n.NotifyServer(test.change, nil)
		if got := drain(t, path); got != test.line+"\n\x00" {
			t.Errorf("pipe: %q, want %q", got, test.line)
		}
		if len(e.servers) != 1 || e.servers[0] != test.change {
			t.Errorf("told %v", e.servers)
		}
	}
}
