//go:build interop

package interop_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
)

// What instances track beyond scripts is changed in the same way for had and for stock keepalived with the same file; both
// must write the same lines into the notify pipe, and advertise what they say.

// pipeLimit is how long a line may take that does not wait for a timer of VRRP.
const pipeLimit = 3 * time.Second

// tracker is a router alone on a LAN, whose notify pipe is read.
type tracker struct {
	*lan
	r     *router
	lines chan string
}

// each runs a scenario for both products.
func each(t *testing.T, name string, scenario func(t *tracker)) {
	for _, p := range []product{keepalived, had} {
		t.Run(fmt.Sprintf("%s: %s", name, p), func(t *testing.T) {
			t.Parallel()
			scenario(newTracker(t, p))
		})
	}
}

func newTracker(t *testing.T, p product) *tracker {
	l := newLAN(t, quick.vips()...)
	return &tracker{lan: l, r: l.addRouter(p, time.Second), lines: make(chan string, 256)}
}

// begin starts the router with its notify pipe, blocks of its own and further lines in its instance.
func (k *tracker) begin(blocks string, lines ...string) {
	k.t.Helper()
	fifo := filepath.Join(k.r.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		k.t.Fatal(err)
	}
	file, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { file.Close() })
	go func() {
		for in := bufio.NewScanner(file); in.Scan(); {
			k.lines <- strings.TrimPrefix(in.Text(), `INSTANCE "VI" `)
		}
	}()
	vi := quick.instance(k.r, k.r, highPriority, lines...)
	vi.interval = time.Second
	global := block(fmt.Sprintf("global_defs {\n    vrrp_notify_fifo %s\n    vrrp_notify_priority_changes true\n}\n", fifo))
	k.r.write("keepalived.conf", configuration(global, block(blocks), vi))
	k.r.boot()
}

// expect waits for the next lines of the pipe.
func (k *tracker) expect(limit time.Duration, lines ...string) {
	k.t.Helper()
	for _, want := range lines {
		select {
		case got := <-k.lines:
			if got != want {
				k.t.Fatalf("%s wrote %q, want %q", k.r.name, got, want)
			}
		case <-time.After(limit):
			k.t.Fatalf("%s did not write %q", k.r.name, want)
		}
	}
}

// quiet asserts that nothing is written for a while.
func (k *tracker) quiet(span time.Duration) {
	k.t.Helper()
	select {
	case got := <-k.lines:
		k.t.Fatalf("%s wrote %q", k.r.name, got)
	case <-time.After(span):
	}
}

// advertises waits until the router advertises a priority.
func (k *tracker) advertises(priority int) {
	k.t.Helper()
	since := time.Now()
	k.await(pipeLimit, fmt.Sprintf("%s advertises priority %d", k.r.name, priority), func() string {
		for _, e := range k.record.adverts(k.r.name, since) {
			if int(e.priority) == priority {
				return ""
			}
		}
		return "it does not"
	})
}

func (k *tracker) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// master is long enough for a router that is alone to become master.
const master = startTime + 4*time.Second + tolerance

func TestTrackers(t *testing.T) {
	t.Parallel()
	each(t, "the value of a file", func(k *tracker) {
		path := filepath.Join(k.r.dir, "value")
		blocks := fmt.Sprintf("track_file value {\n    file %s\n    weight 2\n    init_file 3\n}\n", path)
		k.begin(blocks, "track_file {\n        value\n    }")
		k.expect(master, "BACKUP_PRIORITY 206", "BACKUP 206", "MASTER 206")
		k.r.write("value", "10\n")
		k.expect(pipeLimit, "MASTER_PRIORITY 220")
		k.advertises(220)
		k.r.write("value", "0x10 and more\n")
		k.expect(pipeLimit, "MASTER_PRIORITY 232")
		k.r.write("next", "-50")
		k.must(os.Rename(filepath.Join(k.r.dir, "next"), path))
		k.expect(pipeLimit, "MASTER_PRIORITY 100")
		k.must(os.Remove(path))
		k.expect(pipeLimit, "MASTER_PRIORITY 200")
		k.advertises(200)
		k.r.write("value", "500")
		k.expect(pipeLimit, "MASTER_PRIORITY 254")
		k.r.write("value", "no number")
		k.expect(pipeLimit, "MASTER_PRIORITY 200")
		k.r.write("value", "-127")
		k.expect(pipeLimit, "FAULT 200")
		k.quiet(time.Second)
		k.r.write("value", "1")
		k.expect(master, "BACKUP 202", "MASTER 202")
	})

	each(t, "a file without weight, which is set before the start", func(k *tracker) {
		blocks := fmt.Sprintf("track_file sick {\n    file %s\n    weight 0\n}\n", k.r.write("sick", "7"))
		k.begin(blocks, "track_file {\n        sick\n    }")
		k.expect(pipeLimit, "FAULT 200")
		k.quiet(time.Second)
		k.r.write("sick", "0")
		k.expect(master, "BACKUP 200", "MASTER 200")
		k.r.write("sick", "-1")
		k.expect(pipeLimit, "FAULT 200")
	})

	each(t, "an interface that is down for a moment", func(k *tracker) {
		k.begin(fmt.Sprintf("interface_up_down_delays {\n    %s 1.5 1\n}\n", lab.Interface))
		k.expect(master, "BACKUP 200", "MASTER 200")
		for range 2 {
			cut, err := k.lab.LinkDown(k.r.host)
			k.must(err)
			time.Sleep(300 * time.Millisecond)
			k.must(cut.Heal())
			k.quiet(2 * time.Second)
		}
		k.advertises(200)
		cut, err := k.lab.LinkDown(k.r.host)
		k.must(err)
		k.quiet(time.Second)
		k.expect(pipeLimit, "FAULT 200")
		k.must(cut.Heal())
		k.quiet(700 * time.Millisecond)
		k.expect(master, "BACKUP 200", "MASTER 200")
	})

	// Stock keepalived 2.2.7 does not notice; its manual says that it does.
	t.Run("a source address that is removed", func(t *testing.T) {
		t.Parallel()
		k := newTracker(t, had)
		source := netip.MustParsePrefix("10.77.0.55/24")
		k.must(k.r.host.AddAddr(source))
		k.begin("", "mcast_src_ip 10.77.0.55", "track_src_ip")
		k.expect(master, "BACKUP 200", "MASTER 200")
		k.must(k.r.host.RemoveAddr(source))
		k.expect(pipeLimit, "FAULT 200")
		k.must(k.r.host.AddAddr(source))
		k.expect(master, "BACKUP 200", "MASTER 200")
	})

	// Stock keepalived sees no processes in a network namespace.
	t.Run("processes with a quorum and delays", func(t *testing.T) {
		t.Parallel()
		k := newTracker(t, had)
		sleep, err := os.ReadFile("/bin/sleep")
		k.must(err)
		program := filepath.Join(k.r.dir, "had-tracks-this-one")
		k.must(need.Program(program, sleep))
		k.begin("vrrp_track_process two {\n    process had-tracks-this-one\n    quorum 2\n    weight 20\n    delay 1\n}\n",
			"track_process {\n        two\n    }")
		k.expect(master, "BACKUP 200", "MASTER 200")
		start := func() *lab.Proc {
			p, err := k.asker.Start(lab.Command{Path: program, Args: []string{"60"}})
			k.must(err)
			return p
		}
		first := start()
		k.quiet(3 * time.Second)
		start()
		k.expect(2*pipeLimit, "MASTER_PRIORITY 220")
		k.advertises(220)
		k.must(first.KillTree())
		k.expect(2*pipeLimit, "MASTER_PRIORITY 200")
	})
}
