//go:build integ

package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
)

// This test program also plays the programs that run on the hosts, under these names.
const (
	playSleeper = "lab-sleeper" // says its number and waits
	playParent  = "lab-parent"  // starts two sleepers, says all numbers and waits
	playUser    = "lab-user"    // enters a lab as an unprivileged user
	playOuter   = "lab-outer"   // enters a lab, starts a parent in it and waits
)

func TestMain(m *testing.M) {
	var play func() error
	switch os.Args[0] {
	case playSleeper:
		play = sleeper
	case playParent:
		play = parent
	case playUser:
		play = func() error { return insideLab(user) }
	case playOuter:
		play = func() error { return insideLab(outer) }
	default:
		os.Exit(lab.Main(m.Run))
	}
	if err := play(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func insideLab(run func() error) error {
	code, inside, err := lab.Enter(context.Background())
	if err == nil && inside {
		err = run()
	}
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}

func sleeper() error {
	fmt.Println(os.Getpid())
	time.Sleep(time.Hour)
	return nil
}

func parent() error {
	for range 2 {
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{playSleeper}, Stdout: os.Stdout}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	return sleeper()
}

// user builds a small LAN and exchanges a datagram over it.
func user() error {
	if !lab.OwnUserNamespace() {
		return errors.New("not in a user namespace")
	}
	l, err := lab.New(context.Background(), lab.Options{})
	if err != nil {
		return err
	}
	a, err := l.AddHost("a", netip.MustParsePrefix("10.77.0.1/24"))
	if err != nil {
		return err
	}
	b, err := l.AddHost("b", netip.MustParsePrefix("10.77.0.2/24"))
	if err != nil {
		return err
	}
	if err := exchange(a, b); err != nil {
		return err
	}
	if _, err := l.DropPair(a, b); err != nil {
		return err
	}
	if err := exchange(a, b); err == nil {
		return errors.New("a datagram passed between cut hosts")
	}
	return l.Close()
}

// outer starts a family of processes, says the numbers that they have outside, and waits.
func outer() error {
	l, err := lab.New(context.Background(), lab.Options{})
	if err != nil {
		return err
	}
	a, err := l.AddHost("a")
	if err != nil {
		return err
	}
	pids, _, err := family(a)
	if err != nil {
		return err
	}
	for _, pid := range append(pids, os.Getpid()) {
		fmt.Println(lab.HostPID(pid))
	}
	time.Sleep(time.Hour)
	return nil
}

// family starts a process with two children on a host and returns the numbers of all three.
func family(h *lab.Host) ([]int, *lab.Proc, error) {
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	defer theirOut.Close()
	p, err := h.Start(lab.Command{Path: "/proc/self/exe", Name: playParent, Stdout: theirOut})
	if err != nil {
		return nil, nil, err
	}
	var pids []int
	for lines := bufio.NewScanner(out); len(pids) < 3 && lines.Scan(); {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			return nil, nil, err
		}
		pids = append(pids, pid)
	}
	return pids, p, nil
}

// exchange sends a datagram from a to b.
func exchange(a, b *lab.Host) error {
	var from, to net.PacketConn
	if err := b.Do(func() (err error) { to, err = net.ListenPacket("udp", b.Addr().String()+":9"); return }); err != nil {
		return err
	}
	defer to.Close()
	if err := a.Do(func() (err error) { from, err = net.ListenPacket("udp", a.Addr().String()+":0"); return }); err != nil {
		return err
	}
	defer from.Close()
	if _, err := from.WriteTo([]byte("hello"), to.LocalAddr()); err != nil {
		return err
	}
	to.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, _, err := to.ReadFrom(make([]byte, 16))
	return err
}

func newLab(t *testing.T) (l *lab.Lab, a, b *lab.Host) {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if a, err = l.AddHost("a", netip.MustParsePrefix("10.77.0.1/24")); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AddHost("b", netip.MustParsePrefix("10.77.0.2/24")); err != nil {
		t.Fatal(err)
	}
	return l, a, b
}

func TestHostsReachEachOther(t *testing.T) {
	_, a, b := newLab(t)
	if err := exchange(a, b); err != nil {
		t.Error(err)
	}
}

func TestAPortIsBlockedInBothDirectionsAndOnlyThatPort(t *testing.T) {
	l, a, b := newLab(t)
	if err := exchange(a, b); err != nil {
		t.Fatal(err)
	}
	fault, err := l.DropPort(17, 9, a, b)
	if err != nil {
		t.Fatal(err)
	}
	if exchange(a, b) == nil || exchange(b, a) == nil {
		t.Error("a datagram passed")
	}
	if err := fault.Heal(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.DropPort(17, 10, a, b); err != nil {
		t.Fatal(err)
	}
	if _, err := l.DropPort(6, 9, a, b); err != nil {
		t.Fatal(err)
	}
	if err := exchange(a, b); err != nil {
		t.Errorf("with other ports blocked: %v", err)
	}
}

func TestFaultsAddUpAndHealOneByOne(t *testing.T) {
	l, a, b := newLab(t)
	if err := exchange(a, b); err != nil { // and learn each other's hardware address
		t.Fatal(err)
	}
	ab, err := l.DropOneWay(a, b)
	if err != nil {
		t.Fatal(err)
	}
	cut, err := l.CutPort(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := cut.Heal(); err != nil {
		t.Fatal(err)
	}
	if exchange(a, b) == nil {
		t.Error("a datagram passed the filter")
	}
	if got := l.Faults(); len(got) != 1 || got[0] != ab {
		t.Errorf("faults in force: %v", got)
	}
	if err := l.HealAll(); err != nil {
		t.Fatal(err)
	}
	if err := exchange(a, b); err != nil {
		t.Error(err)
	}
	if err := ab.Heal(); err != nil {
		t.Errorf("healed twice: %v", err)
	}
}

func TestAFaultOfNoFiltersDropsNothing(t *testing.T) {
	l, a, b := newLab(t)
	fault, err := l.Drop("nothing")
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(a, b); err != nil {
		t.Error(err)
	}
	if err := fault.Heal(); err != nil {
		t.Error(err)
	}
}

func TestAnImpossibleFaultIsRefusedAndLeavesTheOthers(t *testing.T) {
	l, a, b := newLab(t)
	if _, err := l.DropPair(a, b); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Drop("nonsense", lab.Filter{Percent: 200}); err == nil {
		t.Error("200% were accepted")
	}
	if exchange(a, b) == nil {
		t.Error("the first fault is gone")
	}
}

func TestSignalsReachTheWholeFamily(t *testing.T) {
	_, a, _ := newLab(t)
	pids, p, err := family(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SignalTree(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		await(t, fmt.Sprintf("process %d has not stopped", pid), func() bool { return state(pid) == "T" })
	}
	if err := p.SignalTree(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		await(t, fmt.Sprintf("process %d is still stopped", pid), func() bool { return state(pid) != "T" })
	}
	if err := p.KillTree(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	awaitEnd(t, pids)
	if got := a.Procs(); len(got) != 0 {
		t.Errorf("processes of the host: %v, want none", got)
	}
}

func TestOrphansDieWithTheLab(t *testing.T) {
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	pids, _, err := family(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pids)
	if _, err := l.AddHost("late"); err == nil {
		t.Error("a closed lab took a host")
	}
	if _, err := a.Start(lab.Command{Path: "/proc/self/exe", Name: playSleeper}); err == nil {
		t.Error("a host of a closed lab started a program")
	}
}

func TestAContextThatEndsKillsProcesses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := lab.New(ctx, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := l.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := family(a)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	limit, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	var exit *exec.ExitError
	if err := p.Wait(limit); !errors.As(err, &exit) {
		t.Errorf("Wait = %v, want killed", err)
	}
}

func TestNothingOutlivesAKilledParent(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal syscall.Signal
	}{{"kill -9", syscall.SIGKILL}, {"SIGTERM", syscall.SIGTERM}, {"SIGINT", syscall.SIGINT}} {
		t.Run(test.name, func(t *testing.T) {
			cmd := play(playOuter)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Children of the outer process, all numbered as this process sees them.
			var pids []int
			for lines := bufio.NewScanner(out); len(pids) < 4 && lines.Scan(); {
				pid, err := strconv.Atoi(lines.Text())
				if err != nil || pid == 0 || gone(pid) {
					t.Fatalf("a process inside is not to be found outside: %q", lines.Text())
				}
				pids = append(pids, pid)
			}
			if len(pids) != 4 {
				t.Fatalf("%d processes said their numbers, want 4", len(pids))
			}
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			awaitEnd(t, pids)
		})
	}
}

func TestAnUnprivilegedUserBuildsALab(t *testing.T) {
	if lab.OwnUserNamespace() {
		t.Skip("this test runs as an unprivileged user already")
	}
	cmd := play(playUser)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), lab.ErrPrivilege.Error()) {
		need.Skip(t, "this kernel does not let users make namespaces: %s", out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRunIsPrivate(t *testing.T) {
	if err := os.WriteFile(lab.RunDir+"/marker", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(lab.RunDir + "/marker")
	if !strings.HasPrefix(os.TempDir(), lab.RunDir) {
		t.Errorf("temporary files go to %s", os.TempDir())
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || !bytes.Contains(mounts, []byte("tmpfs "+lab.RunDir+" tmpfs")) {
		t.Errorf("%s is not a tmpfs: %v", lab.RunDir, err)
	}
}

// awaitEnd waits a little for the end of processes that were killed.
func awaitEnd(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		await(t, fmt.Sprintf("process %d is still there", pid), func() bool { return gone(pid) })
	}
}

// await waits up to two seconds for a condition.
func await(t *testing.T, otherwise string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

// play returns a command that runs this program in one of its roles, outside of this process's lab.
func play(role string) *exec.Cmd {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{role}}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAD_LAB_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// state returns the state of a process as in ps(1), "" if there is none.
func state(pid int) string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0]
}

// gone says whether a process has ended; one that nobody has waited for has.
func gone(pid int) bool { s := state(pid); return s == "" || s == "Z" || s == "X" }
