//go:build integ

package balance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/vm"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

// All spans are those of the virtual machine, where idle time is skipped: to wait costs little.
const (
	pollInterval = 250 * time.Millisecond
	stopLimit    = 10 * time.Second
)

// field is a LAN with directors and a host that plays all real servers.
type field struct {
	t       testing.TB
	lab     *lab.Lab
	servers *lab.Host
	dir     string
}

func newField(t testing.TB) *field {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	addresses := []netip.Prefix{}
	for i := 101; i <= 110; i++ {
		addresses = append(addresses, netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd77::%d/64", i)))
	}
	servers, err := l.AddHost("servers", addresses...)
	check(t, err)
	return &field{t: t, lab: l, servers: servers, dir: t.TempDir()}
}

// director is a host on which a program fills the table.
type director struct {
	*field
	name    string
	product string // had or keepalived
	host    *lab.Host
	kernel  *ipvs.Conn
	dir     string
	proc    *lab.Proc
}

func (f *field) director(name, product string, number int) *director {
	f.t.Helper()
	h, err := f.lab.AddHost(name, netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", number)),
		netip.MustParsePrefix(fmt.Sprintf("fd77::%d/64", number)))
	check(f.t, err)
	kernel, err := ipvs.Open(fmt.Sprintf("/proc/self/fd/%d", h.Namespace()))
	check(f.t, err)
	f.t.Cleanup(kernel.Close)
	d := &director{field: f, name: name, product: product, host: h, kernel: kernel, dir: filepath.Join(f.dir, name)}
	check(f.t, os.Mkdir(d.dir, 0o755))
	return d
}

func (d *director) file(name string) string { return filepath.Join(d.dir, name) }

// configure writes the configuration file, which is read at the next start or reload.
func (d *director) configure(text string) {
	d.t.Helper()
	check(d.t, os.WriteFile(d.file("keepalived.conf"), []byte(text), 0o644))
}

// start starts the program on this director.
func (d *director) start() {
	d.t.Helper()
	args := []string{"-f", d.file("keepalived.conf"), "-n", "-l"}
	if d.product == "had" {
		args = append(args, "--control-socket", d.file("had.sock"))
	} else {
		args = append(args, "-G", "-C", "-p", d.file("parent.pid"), "-c", d.file("checkers.pid"))
	}
	var err error
	d.proc, err = d.host.Start(lab.Command{Path: filepath.Join(vm.Programs, d.product), Args: args, LogFile: d.file("log")})
	check(d.t, err)
}

// stop ends the program as a service manager does.
func (d *director) stop() {
	d.t.Helper()
	check(d.t, d.proc.Stop(stopLimit))
}

func (d *director) reload() {
	d.t.Helper()
	check(d.t, d.proc.Signal(syscall.SIGHUP))
}

// log returns what the program has said.
func (d *director) log() string {
	text, err := os.ReadFile(d.file("log"))
	check(d.t, err)
	return string(text)
}

// told returns what scripts were called with since the last time, in the order of the alphabet: they run side by side.
func (d *director) told() string {
	d.t.Helper()
	text, err := os.ReadFile(d.file("told"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	check(d.t, err)
	check(d.t, os.Remove(d.file("told")))
	lines := slices.Sorted(strings.Lines(string(text)))
	return strings.Join(lines, "")
}

// table returns what the kernel has.
func (d *director) table() lvs.Table {
	d.t.Helper()
	t, err := d.kernel.Read()
	check(d.t, err)
	return t
}

// run runs a program on the director and returns what it prints.
func (d *director) run(program string, args ...string) string {
	d.t.Helper()
	var out bytes.Buffer
	p, err := d.host.Start(lab.Command{Path: filepath.Join(vm.Programs, program), Args: args, Output: &out})
	check(d.t, err)
	ctx, cancel := context.WithTimeout(d.t.Context(), stopLimit)
	defer cancel()
	if err := errors.Join(p.Wait(ctx)); err != nil {
		d.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// saved returns what ipvsadm saves, and the thresholds, which it leaves out there. The order in which the kernel lists services is
// left out of account.
func (d *director) saved() string {
	d.t.Helper()
	lines := slices.Collect(strings.Lines(d.run("ipvsadm", "-Sn")))
	service := ""
	for line := range strings.Lines(d.run("ipvsadm", "-Ln", "--thresholds")) {
		switch f := strings.Fields(line); {
		case len(f) >= 3 && f[0] != "->":
			service = f[1]
		case len(f) == 6 && f[1] != "RemoteAddress:Port" && (f[2] != "0" || f[3] != "0"):
			lines = append(lines, fmt.Sprintf("thresholds of %s for %s: %s %s\n", service, f[1], f[2], f[3]))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something holds, and says whether it came to that.
func eventually(limit time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(pollInterval) {
		if holds() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
