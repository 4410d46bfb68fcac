//go:build integ

package integ

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// While nothing changes nothing is written to disk, and memory and processor time are small.
func TestSteadyStateIsFrugal(t *testing.T) {
	const (
		watched      = 20 * time.Second
		hadBytes     = 40 << 20
		witnessBytes = 25 << 20
		share        = 0.01 // of one processor, all three together
	)
	s := newSite(t, nil)
	time.Sleep(5 * time.Second)
	type reading struct {
		cpu   time.Duration
		files string
	}
	read := func() (list []reading) {
		for _, n := range s.Nodes {
			cpu, err := processorTime(n.Proc.PID())
			if err != nil {
				t.Fatal(err)
			}
			files, err := listing(n.Data())
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, reading{cpu, files})
		}
		return list
	}
	before, from := read(), time.Now()
	time.Sleep(watched)
	after, took := read(), time.Since(from)
	var total time.Duration
	for i, n := range s.Nodes {
		resident, err := residentBytes(n.Proc.PID())
		if err != nil {
			t.Fatal(err)
		}
		used := after[i].cpu - before[i].cpu
		total += used
		t.Logf("%s: %.1f MiB resident, %.2f%% of a processor", n.Name, float64(resident)/(1<<20), 100*float64(used)/float64(took))
		limit := hadBytes
		if n.Witness {
			limit = witnessBytes
		}
		if resident > limit {
			t.Errorf("%s uses %d bytes, want at most %d", n.Name, resident, limit)
		}
		if before[i].files != after[i].files {
			t.Errorf("%s wrote to its disk while nothing changed:\nbefore:\n%s\nafter:\n%s", n.Name, before[i].files, after[i].files)
		}
	}
	if used := float64(total) / float64(took); used > share {
		t.Errorf("the three use %.2f%% of a processor, want at most %.0f%%", 100*used, 100*share)
	}
}

// listing describes all files below a directory by size and time of the last change.
func listing(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintf(&b, "  %s %d %s\n", path, info.Size(), info.ModTime().Format(time.RFC3339Nano))
		}
		return err
	})
	return b.String(), err
}

// processorTime returns the time that a process has spent on processors (proc_pid_stat(5): utime, stime, in ticks of 10 ms).
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

func residentBytes(pid int) (int, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident size", pid)
}

// Owner and Raft leader are lost together at a short advert_int: the election is on the way of the takeover.
func TestOwnerAndLeaderLostTogether(t *testing.T) {
	const wanted = 10
	s := newSite(t, func(p *site.Plan) { p.Version, p.AdvertInterval = 3, 100*time.Millisecond })
	var taken []time.Duration
	for tries := 0; len(taken) < wanted && tries < 4*wanted; tries++ {
		owner, other := awaitWhole(t, s)
		status, err := s.Status(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == other.Name {
			if _, err := s.Hactl(t.Context(), owner, "move", s.Group(), "--to", other.Name, "--yes"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		together := status.Leader == owner.Name
		from := observer.Now()
		time.Sleep(calm)
		if err := s.Kill(owner); err != nil {
			t.Fatal(err)
		}
		sc := &scene{Site: s, ctx: t.Context(), owner: owner, other: other}
		sc.awaitTakeover(t)
		v, err := s.Observer.Judge(t.Context(), from, observer.Now())
		if err != nil {
			t.Fatal(err)
		}
		if v.DualFor() > 0 {
			t.Errorf("two owners: %s", v.String())
		}
		t.Logf("together with the leader %t: %s", together, v.String())
		if v.Void == "" && together {
			taken = append(taken, v.Interruption())
		}
		if err := s.Start(owner); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(taken)
	t.Logf("interruptions when owner and leader were lost together (Active_Down_Interval %s): %v", s.DownInterval(s.Members[1]), taken)
	if len(taken) < wanted {
		t.Errorf("seen %d times only, of %d wanted", len(taken), wanted)
	}
}
