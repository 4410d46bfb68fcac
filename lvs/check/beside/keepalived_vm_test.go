//go:build integ

package beside

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopback brings the machine's only interface up.
func loopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// keepalived runs stock keepalived's checkers on a configuration until the test ends. told is called with each change of
// a real server. It returns the process, whose only child does the checks.
func keepalived(t *testing.T, config string, told func(server netip.AddrPort, up bool)) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	fifo, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "keepalived.conf")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			// RS [address]:protocol:port [address]:protocol:port UP|DOWN, after the NUL that ends the line before.
			fields := strings.Fields(strings.TrimLeft(lines.Text(), "\x00"))
			if len(fields) != 4 || fields[0] != "RS" {
				continue
			}
			address, rest, _ := strings.Cut(strings.TrimPrefix(fields[1], "["), "]")
			server, err := netip.ParseAddrPort(address + rest[strings.LastIndex(rest, ":"):])
			if err != nil {
				t.Errorf("line %q: %v", lines.Text(), err)
				continue
			}
			told(server, fields[3] == "UP")
		}
	}()
	t.Cleanup(func() {
		pipe.Close()
		<-ended
	})
	config = "global_defs {\n router_id beside\n lvs_notify_fifo " + fifo + "\n}\n" + config
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := syslog(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "keepalived", "-n", "-C", "-f", file, "-p", filepath.Join(dir, "pid"), "-c", filepath.Join(dir, "cpid"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("keepalived says:\n%s", log())
		}
	})
	return cmd
}

// syslog takes in what programs log. Without it the C library writes all of that to the machine's console, which takes
// longer than the checks. log returns the begin of it.
func syslog(t *testing.T) (log func() string) {
	t.Helper()
	const path = "/dev/log"
	_ = os.Remove(path)
	c, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text bytes.Buffer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 4096)
		for {
			n, _, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			mu.Lock()
			if text.Len() < 20000 {
				text.Write(append(bytes.TrimRight(buffer[:n], "\x00\n"), '\n'))
			}
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}
