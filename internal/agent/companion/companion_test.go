package companion

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/linux/address"
)

const (
	companionVar = "HAD_TEST_COMPANION"
	daemonVar    = "HAD_TEST_DAEMON" // the path of its lock
)

// TestMain is also a daemon that holds nothing, and its companion.
func TestMain(m *testing.M) {
	discard := slog.New(slog.DiscardHandler)
	if os.Getenv(companionVar) != "" {
		os.Exit(Run(discard))
	}
	if lock := os.Getenv(daemonVar); lock != "" {
		k, err := Start(Options{Lock: lock, Var: companionVar, Value: "yes", Log: discard})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		k.Live(Estate{})
		fmt.Println("ready")
		_, _ = os.Stdin.Read(make([]byte, 1))
		k.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// daemon is a process with a companion.
type daemon struct {
	t    *testing.T
	lock string
	cmd  *exec.Cmd
	stop func()
}

func startDaemon(t *testing.T, lock string) *daemon {
	t.Helper()
	d := &daemon{t: t, lock: lock, cmd: exec.Command("/proc/self/exe")}
	d.cmd.Env = append(os.Environ(), daemonVar+"="+lock)
	stdin, err := d.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.stop = func() { _ = stdin.Close() }
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill(); _ = d.cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the daemon says %q, %v", line, err)
	}
	return d
}

// companion is the number of the daemon's companion.
func (d *daemon) companion() int {
	text, _ := os.ReadFile(d.lock)
	var own, pid int
	_, _ = fmt.Sscan(string(text), &own, &pid)
	return pid
}

func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return pid > 0 && err == nil && !strings.Contains(string(stat), ") Z ")
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestCompanionEndsWithTheDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, filepath.Join(t.TempDir(), "dir", "lock"))
	pid := d.companion()
	if !lives(pid) {
		t.Fatalf("no companion %d", pid)
	}
	d.stop()
	if err := d.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if lives(pid) {
		t.Error("the companion stays")
	}
}

func TestCompanionIsReplaced(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, filepath.Join(t.TempDir(), "lock"))
	first := d.companion()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another companion", func() bool { pid := d.companion(); return pid != first && lives(pid) })
	eventually(t, "the companion has come as far as to ignore signals", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", d.companion()))
		return err == nil && strings.TrimSpace(string(name)) == comm
	})
	if err := syscall.Kill(d.companion(), syscall.SIGTERM); err != nil { // as a service manager does
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if !lives(d.companion()) {
		t.Error("SIGTERM has ended the companion")
	}
}

// The lock is the daemon's and its companion's: whoever comes next waits for both, and ends a companion that is stuck.
func TestTheNextDaemonWaitsForTheCompanion(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		lock := filepath.Join(t.TempDir(), "lock")
		d := startDaemon(t, lock)
		pid := d.companion()
		if frozen {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		next := startDaemon(t, lock)
		eventually(t, "the end of the first companion", func() bool { return !lives(pid) })
		if !lives(next.companion()) {
			t.Error("the next one has no companion")
		}
	}
}

func TestASecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	lock := filepath.Join(t.TempDir(), "lock")
	d := startDaemon(t, lock)
	before := d.companion()
	k, err := Start(Options{Lock: lock, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		k.Close()
		t.Fatal("two daemons have the lock")
	}
	if want := fmt.Sprintf("another daemon runs as process %d", d.cmd.Process.Pid); !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if d.companion() != before || !lives(before) {
		t.Error("the first one's companion is not the same")
	}
}

// What a companion hears, in whatever pieces, is what was said; and what is said to one that comes later is the same.
func TestWillGoesThroughThePipe(t *testing.T) {
	said := newWill()
	var wire []byte
	for _, m := range []message{
		{Hold: &hold{"old", &Hold{}}},
		{Estate: &Estate{Member: "lb1/1", Life: 1<<63 + 1, Guarded: true}}, // another life: what was before is gone
		{Hold: &hold{"A", &Hold{Addresses: []address.Address{address.Virtual(2, netip.MustParsePrefix("192.0.2.1/24"))}}}},
		{Hold: &hold{"B", &Hold{}}}, {Lease: &grant{"G", 7}}, {Lease: &grant{"H", 8}},
		{Hold: &hold{Instance: "B"}}, {Lease: &grant{Group: "H"}},
	} {
		said.take(m)
		line, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		wire = append(append(wire, line...), '\n')
	}
	if len(said.holds) != 1 || !reflect.DeepEqual(said.leases, map[string]uint64{"G": 7}) {
		t.Errorf("%+v", said)
	}
	heard, in := newWill(), lines{}
	for len(wire) > 0 {
		n := min(len(wire), 7)
		messages, err := in.take(wire[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			heard.take(m)
		}
		wire = wire[n:]
	}
	again := newWill()
	for _, m := range said.messages() {
		again.take(m)
	}
	if !reflect.DeepEqual(heard, said) || !reflect.DeepEqual(again, said) || len(in.rest) > 0 {
		t.Errorf("heard %+v, told again %+v, said %+v", heard, again, said)
	}
	if _, err := in.take([]byte("no message\n")); err == nil {
		t.Error("anything is a message")
	}
}
