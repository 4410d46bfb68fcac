//go:build integ

package operation

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/site"
)

const (
	quietSpan = 15 * time.Second
	// quietSpans is how many spans are tried: on a busy machine everything takes more processor time, so one that is frugal counts.
	quietSpans = 8

	hadMemory     = 40 << 20 // resident, at most
	witnessMemory = 25 << 20

	// What the three together may take. The aim is 1% of a processor, and is missed. How much it is depends on the machine most of all: on a virtual one
	// that shares its processors with others the same cluster takes twice or four times as much a minute later. So it is compared with an
	// empty program: how often the kernel has to run a thread, which no neighbour changes, and, coarsely, for how long.
	runShare    = 1.0
	cpuShare    = 0.025
	cpuMultiple = 5

	wakings  = 50 // in a second, of an empty program, for comparison
	wakeSpan = 4 * time.Second
	wakeEnv  = "HAD_TEST_WAKE"
)

// usage is what the kernel says of a process.
type usage struct {
	resident int64         // VmRSS, bytes
	cpu      time.Duration // on processors
	runs     int64         // of its threads
	written  int64         // write_bytes: what it caused to be written to block devices
	logged   int64         // bytes of its log
}

func (s *stage) usage(n *site.Node) (u usage) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", n.Proc.PID())
	u.resident = 1024 * s.field(dir+"status", "VmRSS:")
	u.written = s.field(dir+"io", "write_bytes:")
	u.cpu, u.runs = s.processor(n.Proc.PID())
	u.logged = s.logMark(n)
	return u
}

// processor is how long a process's threads have been on processors, and how often.
func (s *stage) processor(pid int) (cpu time.Duration, runs int64) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	threads, err := os.ReadDir(dir)
	s.must(err)
	for _, thread := range threads {
		data, err := os.ReadFile(dir + thread.Name() + "/schedstat")
		s.must(err)
		var on, waiting, times int64 // on a processor and waiting for one, nanoseconds
		_, err = fmt.Sscan(string(data), &on, &waiting, &times)
		s.must(err)
		cpu, runs = cpu+time.Duration(on), runs+times
	}
	return cpu, runs
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
	for span := 1; ; span++ {
		share, runs := s.quiet()
		emptyShare, emptyRuns := s.wakings()
		steady.Set("the same, of the empty program's", 2, fmt.Sprintf("%.1f times", share/emptyShare), fmt.Sprintf("%.2f times", runs/emptyRuns))
		if runs <= runShare*emptyRuns && share <= max(cpuShare, cpuMultiple*emptyShare) {
			return
		}
		if span == quietSpans {
			t.Fatalf("the three together take %.2f%% of a processor and run %.0f times a second, an empty program %.2f%% and %.0f times",
				100*share, runs, 100*emptyShare, emptyRuns)
		}
	}
}

// quiet watches the programs for a while and returns their share of a processor, and how often they run in a second.
func (s *stage) quiet() (share, runs float64) {
	s.t.Helper()
	began := time.Now()
	before := map[*site.Node]usage{}
	for _, n := range s.Nodes {
		before[n] = s.usage(n)
	}
	time.Sleep(quietSpan)
	span := time.Since(began)
	for _, n := range s.Nodes {
		now := s.usage(n)
		cpu := (now.cpu - before[n].cpu).Seconds() / span.Seconds()
		ran := float64(now.runs-before[n].runs) / span.Seconds()
		share, runs = share+cpu, runs+ran
		wrote, limit := now.written-before[n].written, int64(hadMemory)
		if n.Witness {
			limit = witnessMemory
		}
		steady.Set(n.Program()+" on "+n.Name, 1, fmt.Sprintf("%.1f MiB", float64(now.resident)/(1<<20)), fmt.Sprintf("%.2f%%", 100*cpu),
			fmt.Sprintf("%.0f/s", ran), fmt.Sprintf("%d bytes", wrote))
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
	steady.Set("together", 2, fmt.Sprintf("%.2f%%", 100*share), fmt.Sprintf("%.0f/s", runs))
	return share, runs
}

// maybeWake is the empty program: it wakes up and does nothing.
func maybeWake() {
	if os.Getenv(wakeEnv) == "" {
		return
	}
	end := time.After(10 * wakeSpan)
	for tick := time.NewTicker(time.Second / wakings); ; {
		select {
		case <-tick.C:
		case <-end:
			os.Exit(0)
		}
	}
}

// wakings returns what it costs here to wake up: the empty program's share of a processor, and how often it runs in a second.
func (s *stage) wakings() (share, runs float64) {
	s.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), wakeEnv+"=1")
	s.must(cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	time.Sleep(time.Second)
	began := time.Now()
	cpuBefore, before := s.processor(cmd.Process.Pid)
	time.Sleep(wakeSpan)
	cpu, after := s.processor(cmd.Process.Pid)
	span := time.Since(began).Seconds()
	share, runs = (cpu-cpuBefore).Seconds()/span, float64(after-before)/span
	steady.Set(fmt.Sprintf("an empty program, %d timers a second", wakings), 2, fmt.Sprintf("%.2f%%", 100*share), fmt.Sprintf("%.0f/s", runs))
	return share, runs
}

// steady shows the figures.
var steady = figures.Table(fmt.Sprintf("A cluster at advert_int 1 while nothing happens, for %s:", quietSpan), "PROGRAM", "RESIDENT", "OF A PROCESSOR",
	"RUNS", "WRITTEN TO DISK")
