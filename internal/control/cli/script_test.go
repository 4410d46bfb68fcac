package cli

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/controltest"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

// hactl is the program of the scripts: the test binary runs itself under that name.
func hactl() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(Run(ctx, Environment{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		StdinTTY: os.Getenv("TEST_STDIN_TTY") != "", StdoutTTY: os.Getenv("TEST_STDOUT_TTY") != "",
		Version:     "1.0.3",
		GenerateKey: func() ([]byte, error) { return []byte("had-key-1:test\n"), nil },
		CheckKey:    func(path string) error { _, err := os.Stat(path); return err },
		Demo: func(_ context.Context, o DemoOptions) error {
			_, err := o.Out.Write([]byte(map[bool]string{true: "interactive demo\n", false: "demo\n"}[o.Interactive]))
			return err
		},
		Genhash: func(_ context.Context, o GenhashOptions) (string, error) {
			if o.Raw != nil {
				fmt.Fprintf(o.Raw, "%v %s", o.Server, o.Path)
			}
			return strings.TrimSpace(fmt.Sprintln(o.Server, o.Path, o.TLS, o.VirtualHost, o.ServerName, o.Protocol, o.Timeout, o.Mark)), nil
		},
	}))
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hactl": hactl})
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts: %v", len(files), err)
	}
	if testing.Short() { // one status is enough
		files = slices.DeleteFunc(files, func(f string) bool {
			return strings.HasPrefix(filepath.Base(f), "status_") && filepath.Base(f) != "status_minority.txtar"
		})
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HACTL_SOCKET", filepath.Join(e.WorkDir, "had.sock"))
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or each hactl built with -race takes a second more
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": daemon,
			"exits":  exits,
			"follow": follow,
		},
	})
}

// daemon serves a scenario on the socket of the script from here to its end, in place of any before:
// daemon SCENARIO [block|stuck|broken].
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: daemon SCENARIO [block|stuck|broken]")
	}
	scenario := controltest.Scenarios[args[0]]
	if scenario == nil {
		ts.Fatalf("there is no scenario %s", args[0])
	}
	backend := controltest.NewBackend(scenario())
	backend.Services = controltest.Services()
	for _, a := range args[1:] {
		backend.Block = backend.Block || a == "block"
		backend.Stuck = backend.Stuck || a == "stuck"
		if a == "broken" {
			backend.Broken = []string{`/etc/keepalived/keepalived.conf:3:5: error: no word "intreface" in vrrp_instance`,
				"/etc/keepalived/keepalived.conf:9:1: error: 300 is not in 1..255"}
		}
	}
	socket := ts.Getenv("HACTL_SOCKET")
	_ = os.Remove(socket) // of a daemon before, which goes on serving nobody
	l, err := control.Listen(socket)
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	server := control.Server{Backend: backend, Logger: slog.New(slog.DiscardHandler)}
	go func() { done <- server.Serve(ctx, l) }()
	ts.Defer(func() {
		stop()
		ts.Check(<-done)
	})
}

// exits runs a command and checks its exit code: exits CODE COMMAND ARGUMENTS. Its output is that of the last command.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENTS]")
	}
	err := ts.Exec("sh", append([]string{"-c", `"$@"; echo $? >$WORK/.exit`, "sh"}, args[1:]...)...)
	ts.Check(err)
	if got := strings.TrimSpace(ts.ReadFile(filepath.Join(ts.Getenv("WORK"), ".exit"))); got != args[0] {
		ts.Fatalf("exit code %s, want %s\nstdout:\n%s\nstderr:\n%s", got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// follow runs hactl until its standard output holds a pattern so many times, interrupts it, and expects it to end well:
// follow COUNT PATTERN ARGUMENTS. The output goes to the file out.
func follow(ts *testscript.TestScript, neg bool, args []string) {
	count, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: follow COUNT PATTERN [ARGUMENTS]")
	}
	pattern := regexp.MustCompile(args[1])
	program, err := exec.LookPath("hactl")
	ts.Check(err)
	c := exec.Command(program, args[2:]...)
	for _, name := range []string{"HACTL_SOCKET", "LANG", "LC_ALL", "TERM", "TEST_STDOUT_TTY", "GORACE"} {
		c.Env = append(c.Env, name+"="+ts.Getenv(name))
	}
	var complaints strings.Builder
	c.Stderr = &complaints
	stdout, err := c.StdoutPipe()
	ts.Check(err)
	ts.Check(c.Start())
	giveUp := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
	defer giveUp.Stop()
	var out []byte
	for interrupted := false; ; {
		buffer := make([]byte, 4096)
		n, err := stdout.Read(buffer)
		out = append(out, buffer[:n]...)
		if err != nil {
			break
		}
		if !interrupted && len(pattern.FindAll(out, -1)) >= count {
			interrupted = true
			ts.Check(c.Process.Signal(os.Interrupt))
		}
	}
	if err := c.Wait(); err != nil || complaints.Len() > 0 {
		ts.Fatalf("%v\nstdout:\n%s\nstderr:\n%s", err, out, complaints.String())
	}
	ts.Check(os.WriteFile(ts.MkAbs("out"), out, 0o600))
}
