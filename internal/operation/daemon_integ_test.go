//go:build integ

package operation

import (
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

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/daemon"
	"github.com/hactl/had/internal/lab"
)

// lone is a host with a configuration without a cluster.
type lone struct {
	t    *testing.T
	lab  *lab.Lab
	host *lab.Host
	dir  string
	file string
}

func newLone(t *testing.T) *lone {
	t.Helper()
	dir, err := os.MkdirTemp("", "lone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	host, err := l.AddHost("r1", netip.MustParsePrefix("10.77.0.1/24"))
	if err != nil {
		t.Fatal(err)
	}
	s := &lone{t: t, lab: l, host: host, dir: dir, file: filepath.Join(dir, "keepalived.conf")}
	s.write(loneConfig)
	return s
}

const loneConfig = "vrrp_instance A {\n    interface " + lab.Interface + "\n    virtual_router_id 7\n    priority 255\n    advert_int 1\n" +
	"    virtual_ipaddress {\n        10.77.0.70/24\n    }\n}\n"

func (s *lone) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start starts had with arguments besides the file and the socket.
func (s *lone) start(name string, env []string, args ...string) *lab.Proc {
	s.t.Helper()
	p, err := s.host.Start(lab.Command{Path: binaries.Had, Name: name, Env: env, LogFile: filepath.Join(s.dir, "log"),
		Args: append([]string{"-f", s.file, "--control-socket", filepath.Join(s.dir, "had.sock")}, args...)})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// ends waits for a program and asserts its exit code.
func (s *lone) ends(p *lab.Proc, code int) {
	s.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(endLimit):
		s.t.Fatalf("the program did not end:\n%s", s.log())
	}
	if p.ExitCode() != code {
		s.t.Errorf("exit code %d, want %d:\n%s", p.ExitCode(), code, s.log())
	}
}

func (s *lone) log() string {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(log)
}

func (s *lone) eventually(what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(sayLimit); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in time: %s; the log:\n%s", what, s.log())
		}
	}
}

func (s *lone) ownsAddress() bool {
	has, err := s.host.HasAddr(netip.MustParseAddr("10.77.0.70"))
	return err == nil && has
}

// A pid file is locked: a second daemon does not start, and the file goes with the daemon.
func TestPIDFile(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	path := filepath.Join(s.dir, "had.pid")
	first := s.start("", nil, "-p", path)
	s.eventually("the address is there", s.ownsAddress)
	if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(first.PID()) {
		t.Errorf("pid file: %q, %v", text, err)
	}
	s.ends(s.start("", nil, "-p", path), daemon.ExitFailed)
	if want := fmt.Sprintf("another daemon runs as process %d", first.PID()); !strings.Contains(s.log(), want) {
		t.Errorf("%q is not in:\n%s", want, s.log())
	}
	if !s.ownsAddress() {
		t.Error("the second one took the address away")
	}
	if err := first.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(first, daemon.ExitOK)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the pid file stays: %v", err)
	}
}

// systemd's Type=forking, and a program called keepalived: the first process ends when the second one works.
func TestBackground(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	path := filepath.Join(s.dir, "had.pid")
	for _, c := range []struct {
		name string
		env  []string
	}{{"", []string{"PIDFILE=" + path}}, {"keepalived", nil}} {
		first := s.start(c.name, c.env, "-p", path, "-G")
		s.ends(first, daemon.ExitOK)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("the first process ended before there was a pid file: %v\n%s", err, s.log())
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid == first.PID() || syscall.Kill(pid, 0) != nil {
			t.Fatalf("no process %q in the background", text)
		}
		s.eventually("the address is there", s.ownsAddress)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		s.eventually("the pid file is gone", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
		s.eventually("the address is gone", func() bool { return !s.ownsAddress() })
	}
	s.write("cluster {\n")
	s.ends(s.start("keepalived", nil, "-p", path), daemon.ExitConfig) // what goes wrong at the start is told
}

// Without a cluster a daemon that dies leaves no address behind: its companion resigns for it, so that a backup does not wait for the
// down timer to run out; and the next daemon starts.
func TestDeathWithoutACluster(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	backup, err := s.lab.AddHost("r2", netip.MustParsePrefix("10.77.0.2/24"))
	if err != nil {
		t.Fatal(err)
	}
	first := s.start("", nil)
	s.eventually("the address is there", s.ownsAddress)
	dir := t.TempDir()
	file := filepath.Join(dir, "keepalived.conf")
	if err := os.WriteFile(file, []byte(strings.Replace(loneConfig, "priority 255", "priority 200", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := backup.Start(lab.Command{Path: binaries.Had, LogFile: filepath.Join(dir, "log"),
		Args: []string{"-f", file, "--control-socket", filepath.Join(dir, "had.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // longer than its down timer: it hears the first one
	took := func() bool { has, err := backup.HasAddr(netip.MustParseAddr("10.77.0.70")); return err == nil && has }
	if took() {
		t.Fatal("the backup has the address, too")
	}
	if err := first.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	began := time.Now()
	s.eventually("the address is gone", func() bool { return !s.ownsAddress() })
	s.eventually("the backup has the address", took)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the backup took over after %s: nobody has resigned", took)
	}
	if err := second.Stop(endLimit); err != nil {
		t.Error(err)
	}
	s.start("", nil)
	s.eventually("the address is there again", s.ownsAddress)
}

// systemd's Type=notify.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	expect := func(want string) {
		t.Helper()
		buffer := make([]byte, 4096)
		for {
			_ = conn.SetReadDeadline(time.Now().Add(sayLimit))
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatalf("%s was not said: %v\n%s", want, err, s.log())
			}
			if got := string(buffer[:n]); strings.HasPrefix(got, want) {
				return
			} else if got != "WATCHDOG=1" {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	p := s.start("", []string{"NOTIFY_SOCKET=" + conn.LocalAddr().String(), "WATCHDOG_USEC=2000000"}, "-p", filepath.Join(s.dir, "had.pid"))
	expect("READY=1")
	expect("WATCHDOG=1")
	if err := p.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expect("RELOADING=1\nMONOTONIC_USEC=")
	expect("READY=1")
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect("STOPPING=1")
	s.ends(p, daemon.ExitOK)
}

// The exit codes of -t are keepalived's.
func TestConfigTest(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	stock, _ := exec.LookPath("keepalived")
	script := filepath.Join(s.dir, "notify.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(script, 0o777); err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) string { return strings.Replace(loneConfig, from, to, 1) }
	for _, c := range []struct {
		name, text string
		had        int
		keepalived int // -1: this version of it has another opinion than the later ones, which count
	}{
		{"nothing wrong", loneConfig, 0, 0},
		{"an unknown word", edit("advert_int", "advert_itn"), 5, 5},
		{"out of range", edit("virtual_router_id 7", "virtual_router_id 7\n    priority 300"), 5, 5},
		{"a script that everybody may write", edit("advert_int", "notify "+script+"\n    advert_int"), 6, 6},
		{"an interface that does not exist", edit(lab.Interface, "nowhere0"), 4, -1},
	} {
		s.write(c.text)
		s.ends(s.start("", nil, "-t"), c.had)
		out := filepath.Join(s.dir, "out")
		s.ends(s.start("", nil, "-t"+out), c.had)
		if said, err := os.ReadFile(out); c.had != 0 && (err != nil || !strings.Contains(string(said), s.file)) {
			t.Errorf("%s: -tFILE wrote %q, %v", c.name, said, err)
		}
		_ = os.Remove(out)
		if stock == "" || c.keepalived < 0 {
			continue
		}
		p, err := s.host.Start(lab.Command{Path: stock, Args: []string{"-t", "-f", s.file}, LogFile: filepath.Join(s.dir, "log")})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(c.name)
		s.ends(p, c.keepalived)
	}
}

// The dumps that signals ask for are in the directory of the control socket, or where the configuration says.
func TestDumps(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	mine, victim := filepath.Join(s.dir, "mine.json"), filepath.Join(s.dir, "victim")
	s.write("global_defs {\n    json_dump_file " + mine + "\n    json_version 2\n}\n" + loneConfig)
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, mine); err != nil { // somebody has prepared the place
		t.Fatal(err)
	}
	p := s.start("", nil, "-p", filepath.Join(s.dir, "had.pid"))
	s.eventually("the address is there", s.ownsAddress)
	read := func(name string) string {
		text, _ := os.ReadFile(name)
		return string(text)
	}
	data, statistics := filepath.Join(s.dir, "keepalived.data"), filepath.Join(s.dir, "keepalived.stats")
	for sig, so := range map[syscall.Signal]func() bool{
		syscall.SIGUSR1: func() bool { return strings.Contains(read(data), "State = MASTER") },
		syscall.SIGUSR2: func() bool { return strings.Contains(read(statistics), "Became master: 1") },
		daemon.SignalJSON: func() bool {
			return strings.HasPrefix(read(mine), `{"vrrp":[{"data":{"iname":"A"`)
		},
	} {
		if err := p.Signal(sig); err != nil {
			t.Fatal(err)
		}
		s.eventually("the dump is there", so)
	}
	if read(victim) != "precious" {
		t.Errorf("a symbolic link was followed: %q", read(victim))
	}
	for range 2 { // the first one writes before it clears
		if err := p.Signal(daemon.SignalClearStats); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.eventually("the counters have begun anew", func() bool { return strings.Contains(read(statistics), "Became master: 0") })
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(p, daemon.ExitOK)
}

// A reload at a set time: the file that holds the time is removed when it has come.
func TestReloadAtATime(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	path := filepath.Join(s.dir, "reload.at")
	s.write("global_defs {\n    reload_time_file " + path + "\n}\n" + loneConfig)
	s.start("", nil, "-p", filepath.Join(s.dir, "had.pid"))
	s.eventually("the address is there", s.ownsAddress)
	s.write("global_defs {\n    reload_time_file " + path + "\n}\n" + strings.Replace(loneConfig, "10.77.0.70", "10.77.0.71", 1))
	if err := os.WriteFile(path, []byte(time.Now().Add(3*time.Second).Format(time.TimeOnly)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("the reload is planned", func() bool { return strings.Contains(s.log(), "a reload is planned") })
	if !s.ownsAddress() {
		t.Error("reloaded before its time")
	}
	s.eventually("the address has changed", func() bool { return !s.ownsAddress() })
	s.eventually("the file is gone", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
}

// had may be started in one network namespace and told to work in another.
func TestNetworkNamespace(t *testing.T) {
	t.Parallel()
	s := newLone(t)
	other, err := s.lab.AddHost("r2", netip.MustParsePrefix("10.77.0.2/24"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("/run/netns", filepath.Base(s.dir))
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(name) })
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", other.Namespace()), name, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(name, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	vip := netip.MustParseAddr("10.77.0.70")
	works := func(args ...string) {
		t.Helper()
		p := s.start("had", nil, args...)
		deadline := time.Now().Add(sayLimit)
		for {
			here, err1 := s.host.HasAddr(vip)
			there, err2 := other.HasAddr(vip)
			if err1 == nil && err2 == nil && there && !here {
				break
			}
			if here || time.Now().After(deadline) {
				t.Fatalf("the address is here: %v (%v), there: %v (%v)\n%s", here, err1, there, err2, s.log())
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		s.ends(p, daemon.ExitOK)
	}
	works("-s", filepath.Base(name))
	s.write("net_namespace " + filepath.Base(name) + "\n" + loneConfig)
	works()
	s.ends(s.start("had", nil, "-s", "nowhere"), daemon.ExitFailed)
	if !strings.Contains(s.log(), "network namespace nowhere") {
		t.Errorf("the namespace that is missing is not named:\n%s", s.log())
	}
}
