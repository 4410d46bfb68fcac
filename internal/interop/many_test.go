//go:build interop

package interop_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMany has each product hold 250 virtual routers on one interface, each of which advertises ten times a second, and
// shows what that costs beside one another.
func TestMany(t *testing.T) {
	const watched = 8 * time.Second
	theirs, ours := hold250(t, keepalived, watched), hold250(t, had, watched)
	t.Logf("%-12s %8s %10s %8s %14s", "", "adverts", "longest", "missed", "of a processor")
	for _, m := range []multitude{theirs, ours} {
		t.Logf("%-12s %8d %10v %8d %13.1f%%", m.product, m.adverts, m.longest.Round(time.Millisecond), m.missed, 100*m.share)
	}
	t.Logf("had uses %.2f times the processor that keepalived uses", ours.share/theirs.share)
	// A machine that stands still makes everybody miss: keepalived is the yardstick.
	if allowed := 2*theirs.missed + ours.adverts/500; ours.missed > allowed {
		t.Errorf("had missed %d of %d intervals, keepalived %d", ours.missed, ours.adverts, theirs.missed)
	}
}

// multitude is what was seen of a router with many instances.
type multitude struct {
	product product
	adverts int
	longest time.Duration // between two advertisements of one virtual router
	missed  int           // intervals without one
	share   float64       // of one processor
}

func hold250(t *testing.T, p product, watched time.Duration) multitude {
	const (
		routers  = 250
		interval = 100 * time.Millisecond
	)
	l := newLAN(t, "10.77.1.1")
	r := l.addRouter(p, interval)
	var blocks []fmt.Stringer
	for i := range routers {
		in := combination{version: 3}.instance(r, r, highPriority)
		in.name, in.vrid, in.interval = fmt.Sprintf("VI%d", i+1), i+1, interval
		in.vips = []string{fmt.Sprintf("10.77.1.%d", i+1)}
		blocks = append(blocks, in)
	}
	r.write("keepalived.conf", configuration(blocks...))
	r.boot()
	l.await(30*time.Second, "all virtual routers advertise", func() string {
		heard := map[uint8]bool{}
		for _, e := range l.record.adverts(r.name, time.Now().Add(-time.Second)) {
			heard[e.vrid] = true
		}
		if len(heard) < routers {
			return fmt.Sprintf("%d of %d", len(heard), routers)
		}
		return ""
	})
	time.Sleep(2 * time.Second) // announcements are over
	m := multitude{product: p}
	from, before := time.Now(), r.processorTime(t)
	time.Sleep(watched)
	took, spent := time.Since(from), r.processorTime(t)-before
	m.share = float64(spent) / float64(took)
	last := map[uint8]time.Time{}
	for _, e := range l.record.adverts(r.name, from) {
		m.adverts++
		if before, ok := last[e.vrid]; ok {
			gap := e.at.Sub(before)
			m.longest = max(m.longest, gap)
			m.missed += int((gap+interval/2)/interval) - 1
		}
		last[e.vrid] = e.at
	}
	if len(last) != routers {
		t.Errorf("%s: %d of %d virtual routers advertise", p, len(last), routers)
	}
	r.shutdown()
	return m
}

// processorTime is what the router's program and its children have spent, in ticks of 10 ms (proc_pid_stat(5)).
func (r *router) processorTime(t *testing.T) (spent time.Duration) {
	t.Helper()
	var pids []string
	for _, p := range r.procs {
		pids = append(pids, strconv.Itoa(p.PID()))
	}
	for ; len(pids) > 0; pids = pids[1:] {
		dir := "/proc/" + pids[0]
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, field := range fields[11:13] { // utime, stime
			ticks, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			spent += time.Duration(ticks) * 10 * time.Millisecond
		}
		children, err := os.ReadFile(dir + "/task/" + pids[0] + "/children")
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(children))...)
	}
	return spent
}
