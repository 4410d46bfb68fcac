package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/conf"
)

// Every flag of keepalived is known, in its short and long form.
func TestEveryFlagOfKeepalivedIsAccepted(t *testing.T) {
	for _, line := range []string{
		"-f /x", "--use-file=/x", "-P", "--vrrp", "-C", "--check", "-B", "--no_bfd", "--all", "-l", "--log-console", "-D", "-DD",
		"--log-detail", "-S 3", "-S local3", "-S daemon", "--log-facility=user", "-g", "-g/x", "--log-file=/x", "--flush-log-file",
		"-G", "--no-syslog", "-u 022", "--umask=0x12", "-X", "--release-vips", "-V", "--dont-release-vrrp", "-I",
		"--dont-release-ipvs", "-R", "--dont-respawn", "-n", "--dont-fork", "-d", "--dump-conf", "-p /x", "--pid=/x", "-r /x",
		"--vrrp_pid=/x", "-T", "-c /x", "--checkers_pid=/x", "-a", "--address-monitoring", "-b /x", "--bfd_pid=/x", "-x", "--snmp",
		"-A /x", "--snmp-agent-socket=/x", "-m", "--core-dump", "-M", "-Mcore.%p", "--core-dump-pattern=x", "-e", "--all-config",
		"-i id", "--config-id id", "--ignore-sigint", "-t", "-t/x", "--config-test=/x", "-L", "--no-mem-check", "--perf", "--debug",
	} {
		var out bytes.Buffer
		if _, code, done := parse("had", "1", strings.Fields(line), &out, &out); code != ExitOK || done {
			t.Errorf("%s: code %d: %s", line, code, out.String())
		}
	}
}

func TestFlagsThatEndTheProgram(t *testing.T) {
	for _, c := range []struct {
		line, says string
		code       int
	}{
		{"--version", "had 1", ExitOK}, {"-v", "had 1", ExitOK}, {"--signum=RELOAD", "1\n", ExitOK}, {"--signum=JSON", "36\n", ExitOK},
		{"--signum=STATS_CLEAR", "63\n", ExitOK}, {"--signum=NOTHING", "no signal", ExitFailed}, {"--nothing", "unknown flag", ExitFailed},
		{"-S 9", "no facility", ExitFailed}, {"-u x", "--umask", ExitFailed},
	} {
		var out bytes.Buffer
		_, code, done := parse("had", "1", strings.Fields(c.line), &out, &out)
		if code != c.code || !done || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: code %d, done %v: %s", c.line, code, done, out.String())
		}
	}
}

func TestAFlagThatLosesSomethingSaysSo(t *testing.T) {
	var out bytes.Buffer
	if _, _, done := parse("had", "1", []string{"-V", "-R"}, &out, &out); done || !strings.Contains(out.String(), "--dont-release-vrrp does nothing") ||
		strings.Contains(out.String(), "respawn") {
		t.Error(out.String())
	}
}

func TestWhoExpectsTheBackgroundGetsIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags Flags
		argv0 string
		env   map[string]string
		want  bool
	}{
		{"a terminal", Flags{}, "/usr/sbin/had", nil, false},
		{"Type=notify", Flags{}, "/usr/sbin/had", map[string]string{"NOTIFY_SOCKET": "/x", "PIDFILE": "/run/x.pid"}, false},
		{"Type=forking with PIDFile", Flags{}, "/usr/sbin/had", map[string]string{"PIDFILE": "/run/x.pid"}, true},
		{"the same with -n", Flags{DontFork: true}, "/usr/sbin/had", map[string]string{"PIDFILE": "/run/x.pid"}, false},
		{"a link called keepalived", Flags{}, "/usr/sbin/keepalived", nil, true},
		{"the same with -n", Flags{DontFork: true}, "/usr/sbin/keepalived", nil, false},
		{"the same, checking", Flags{Test: true}, "/usr/sbin/keepalived", nil, false},
		{"in the background already", Flags{}, "/usr/sbin/keepalived", map[string]string{detachedVar: "1"}, false},
	} {
		if got := wantsBackground(c.flags, c.argv0, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestCodesOfTheTest(t *testing.T) {
	fatal := conf.Finding{Severity: conf.Error, Fatal: true, Code: conf.CodeMissing}
	ordinary := conf.Finding{Severity: conf.Error, Code: conf.CodeRange}
	warning := conf.Finding{Severity: conf.Warning, Code: conf.CodeDeprecated}
	notOurs := conf.Finding{Severity: conf.Warning, Code: conf.CodeNotDone}
	unsafe := conf.Finding{Severity: conf.Warning, Code: conf.CodeScriptUnsafe}
	absent := conf.Finding{Severity: conf.Error, Code: conf.CodeInterface}
	note := conf.Finding{Severity: conf.Note, Code: conf.CodeRounded}
	for _, c := range []struct {
		findings []conf.Finding
		want     int
	}{
		{nil, 0}, {[]conf.Finding{note, notOurs}, 0}, {[]conf.Finding{absent}, 4}, {[]conf.Finding{fatal}, 4},
		{[]conf.Finding{fatal, ordinary}, 5}, {[]conf.Finding{warning, notOurs}, 5}, {[]conf.Finding{unsafe, fatal, ordinary}, 6},
	} {
		if got := testCode(c.findings); got != c.want {
			t.Errorf("%v: %d, want %d", c.findings, got, c.want)
		}
	}
}

func TestAPIDFileRefusesASecondDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte("999999999\nleft by a dead process, and longer than a number\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := openPIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openPIDFile(path); !errors.Is(err, errRuns) {
		t.Errorf("a second one: %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	if _, err := openPIDFile(link); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestAPIDFileInTheMakingIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		time.Sleep(30 * time.Millisecond)
		_, err := file.WriteString("1\n")
		written <- err
	}()
	var runs *runsError
	if _, err := openPIDFile(path); !errors.As(err, &runs) || runs.pid != 1 {
		t.Errorf("%v", err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	// Its process has just ended, and the lock goes with it.
	if _, err := file.WriteAt([]byte("999999999\n"), 0); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { file.Close() })
	p, err := openPIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

// listenNotify is a service manager.
func listenNotify(t *testing.T) *net.UnixConn {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func next(t *testing.T, conn *net.UnixConn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

func TestTheServiceManagerIsTold(t *testing.T) {
	conn := listenNotify(t)
	detached := 0
	s := newSupervisor(slog.New(slog.DiscardHandler), func() { detached++ })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.run(ctx) }()
	s.Ready()
	s.Reloading()
	s.Ready()
	for _, want := range []string{"READY=1", "RELOADING=1\nMONOTONIC_USEC=", "READY=1"} {
		if got := next(t, conn, 5*time.Second); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if detached != 1 {
		t.Errorf("the waiting process was told %d times", detached)
	}
	s.Stopping()
	cancel()
	<-ended
	if got := next(t, conn, 5*time.Second); !strings.HasPrefix(got, "STOPPING=1") {
		t.Errorf("got %q", got)
	}
}

func TestTheWatchdogIsFedAsLongAsTheLoopTurns(t *testing.T) {
	conn := listenNotify(t)
	t.Setenv("WATCHDOG_USEC", "400000")
	t.Setenv("WATCHDOG_PID", "")
	os.Unsetenv("WATCHDOG_PID")
	s := newSupervisor(slog.New(slog.DiscardHandler), func() {})
	go s.run(t.Context())
	if got := next(t, conn, 500*time.Millisecond); got != "" {
		t.Errorf("fed before the loop turned: %q", got)
	}
	s.Alive()
	if got := next(t, conn, 5*time.Second); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
	for next(t, conn, time.Second) != "" { // what was on its way
		if time.Since(time.Unix(0, s.aliveAt.Load())) > 5*time.Second {
			t.Fatal("fed although the loop hangs")
		}
	}
}
