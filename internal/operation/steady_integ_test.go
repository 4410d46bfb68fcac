//go:build integ

package operation

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/site"
)

const (
	// quietSpan is how long the programs are watched, up to quietSpans times: on a busy machine everything takes more processor time, for
	// seconds or minutes, so that the most frugal span counts.
	quietSpan  = 10 * time.Second
	quietSpans = 8

	hadMemory     = 40 << 20 // resident, at most
	witnessMemory = 25 << 20

	// cpuAim is of one processor, all three together; it ends the watching. No function takes it: the price is that of waking up
	// (docs/architecture.md, At rest), which on a virtual machine may be several times as high in the next minute. So an empty program
	// is watched beside the three, and what fails is to take more than cpuTimes what that one takes.
	cpuAim   = 0.01
	cpuTimes = 3

	wakings = 50 // in a second, of the empty program
	wakeEnv = "HAD_TEST_WAKE"
)

// usage is what the kernel says of a process.
type usage struct {
	resident int64         // VmRSS, bytes
	cpu      time.Duration // on processors
	written  int64         // write_bytes: what it caused to be written to block devices
	logged   int64         // bytes of its log
}

func (s *stage) usage(n *site.Node) (u usage) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", n.Proc.PID())
	u.resident = 1024 * s.field(dir+"status", "VmRSS:")
	u.written = s.field(dir+"io", "write_bytes:")
	u.cpu = s.processor(n.Proc.PID())
	u.logged = s.logMark(n)
	return u
}

// processor is how long a process's threads have been on processors.
func (s *stage) processor(pid int) (sum time.Duration) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	threads, err := os.ReadDir(dir)
	s.must(err)
	for _, thread := range threads {
		data, err := os.ReadFile(dir + thread.Name() + "/schedstat") // nanoseconds on a processor, waiting, switches
		s.must(err)
		nanoseconds, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		s.must(err)
		sum += time.Duration(nanoseconds)
	}
	return sum
}

// field is the number behind a name in a file of /proc.
func (s *stage) field(path, name string) int64 {
	s.t.Helper()
	data, err := os.ReadFile(path)
	s.must(err)
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			n, err := strconv.ParseInt(words[1], 10, 64)
			s.must(err)
			return n
		}
	}
	s.t.Fatalf("%s has no %s", path, name)
	return 0
}

// While nothing happens, a cluster at advert_int 1 takes little memory and processor time, and writes nothing: neither to its
// disk, which is a real file system here, nor to its log. No other test runs at that time.
func TestSteadyState(t *testing.T) {
	s := setUp(t, nil)
	s.giveDisks()
	s.must(s.StartAll())
	s.awaitWhole()
	s.Observer.Stop() // a thousand questions a second are not nothing
	time.Sleep(3 * time.Second)
	empty := s.startEmpty()
	var least quiet
	times := math.Inf(1)
	for range quietSpans {
		q := s.quiet(empty)
		times = min(times, q.share/q.empty)
		if least.nodes == nil || q.share < least.share {
			least = q
		}
		if least.share <= cpuAim {
			break
		}
	}
	least.show()
	if times > cpuTimes {
		t.Errorf("the three together take %.1f times what an empty program takes that wakes up %d times a second, want at most %d", times, wakings,
			cpuTimes)
	}
}

// quiet is what the programs did in a span in which nothing happened: their shares of a processor.
type quiet struct {
	share float64 // of the three
	empty float64 // of the empty program
	nodes [][]string
}

// show makes a span's figures the ones that are shown.
func (q quiet) show() {
	for _, cells := range q.nodes {
		steady.Set(cells[0], 1, cells[1:]...)
	}
	steady.Set("together", 2, percent(q.share))
	steady.Set(fmt.Sprintf("an empty program beside them, %d timers a second", wakings), 2, percent(q.empty))
}

func percent(share float64) string { return fmt.Sprintf("%.2f%%", 100*share) }

// quiet watches the programs, and the empty one by its process, for a span.
func (s *stage) quiet(empty int) (q quiet) {
	s.t.Helper()
	began, idle := time.Now(), s.processor(empty)
	before := map[*site.Node]usage{}
	for _, n := range s.Nodes {
		before[n] = s.usage(n)
	}
	time.Sleep(quietSpan)
	span := time.Since(began)
	q.empty = (s.processor(empty) - idle).Seconds() / span.Seconds()
	for _, n := range s.Nodes {
		now := s.usage(n)
		share := (now.cpu - before[n].cpu).Seconds() / span.Seconds()
		q.share += share
		wrote, limit := now.written-before[n].written, int64(hadMemory)
		if n.Witness {
			limit = witnessMemory
		}
		q.nodes = append(q.nodes, []string{n.Program() + " on " + n.Name, fmt.Sprintf("%.1f MiB", float64(now.resident)/(1<<20)),
			percent(share), fmt.Sprintf("%d bytes", wrote)})
		if now.resident > limit {
			s.t.Errorf("%s on %s has %d bytes resident, want at most %d", n.Program(), n.Name, now.resident, limit)
		}
		if wrote != 0 {
			s.t.Errorf("%s on %s wrote %d bytes to its disk in %s", n.Program(), n.Name, wrote, span)
		}
		if now.logged != before[n].logged {
			s.t.Errorf("%s on %s logged %d bytes in %s:\n%s", n.Program(), n.Name, now.logged-before[n].logged, span,
				n.LogTail(now.logged-before[n].logged))
		}
	}
	return q
}

// maybeWake is the empty program: it wakes up and does nothing, until it is killed.
func maybeWake() {
	if os.Getenv(wakeEnv) == "" {
		return
	}
	for tick := time.NewTicker(time.Second / wakings); ; {
		<-tick.C
	}
}

// startEmpty starts the empty program and returns its process.
func (s *stage) startEmpty() (pid int) {
	s.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), wakeEnv+"=1")
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	time.Sleep(time.Second)
	return cmd.Process.Pid
}

// steady shows the figures.
var steady = figures.Table(fmt.Sprintf("A cluster at advert_int 1 while nothing happens, in the most frugal %s:", quietSpan), "PROGRAM", "RESIDENT", "OF A PROCESSOR",
	"WRITTEN TO DISK")
