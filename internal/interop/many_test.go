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

const (
	crowdSize     = 250
	crowdInterval = 100 * time.Millisecond
	crowdSettles  = time.Second
	crowdWatched  = 5 * time.Second
	crowdAttempts = 3
	crowdLimit    = time.Minute // keepalived writes to its log what it does for each of them
)

// crowd is a LAN with many virtual routers: one router is the master of all of them, the other one the backup.
type crowd struct {
	product        product
	lan            *lan
	master, backup *router
}

// crowdWatch is what was seen of a crowd.
type crowdWatch struct {
	product        product
	adverts        int           // of the master
	longest        time.Duration // between two of one virtual router
	missed         int           // intervals without one
	stray          int           // advertisements of the backup
	master, backup float64       // of one processor
}

// TestMany has 250 virtual routers on one interface that advertise ten times a second. No interval may be missed, nobody may
// take over, and neither role may cost much more than it costs keepalived. Both products are watched at the same time, because
// a machine that is busy makes everybody miss: keepalived is the yardstick, and there are several attempts.
func TestMany(t *testing.T) {
	theirs, ours := newCrowd(t, keepalived), newCrowd(t, had)
	crowds := []*crowd{theirs, ours}
	for _, c := range crowds {
		c.master.boot()
	}
	for _, c := range crowds {
		c.lan.await(crowdLimit, "all virtual routers advertise", c.notAllAdvertise)
		c.backup.boot()
	}
	for _, c := range crowds {
		c.lan.await(crowdLimit, "all backups of "+string(c.product)+" have begun", func() string {
			if !c.backup.logged(fmt.Sprintf("VI%d", crowdSize), "BACKUP") {
				return "not all"
			}
			return ""
		})
	}
	for attempt := 1; ; attempt++ {
		time.Sleep(crowdSettles)
		seen := watchCrowds(t, theirs, ours)
		t.Logf("%-12s %8s %10s %8s %8s %14s %14s", "", "adverts", "longest", "missed", "stray", "master's share", "backup's share")
		for _, w := range seen {
			t.Logf("%-12s %8d %10v %8d %8d %13.1f%% %13.1f%%", w.product, w.adverts, w.longest.Round(time.Millisecond), w.missed,
				w.stray, 100*w.master, 100*w.backup)
		}
		whyNot := seen[1].noWorseThan(seen[0])
		if whyNot == "" {
			break
		}
		t.Logf("attempt %d: %s", attempt, whyNot)
		if attempt == crowdAttempts {
			t.Error(whyNot)
			break
		}
	}
	for _, c := range crowds {
		c.backup.shutdown()
		c.master.shutdown()
	}
}

// noWorseThan says what is worse with us than with keepalived, or nothing.
func (ours crowdWatch) noWorseThan(theirs crowdWatch) string {
	const tooMuch = 4 // times the processor
	switch {
	case ours.missed > 3*theirs.missed/2+ours.adverts/500:
		return fmt.Sprintf("had missed %d of %d intervals, keepalived %d of %d", ours.missed, ours.adverts, theirs.missed, theirs.adverts)
	case ours.stray > 0 && ours.longest < 3*crowdInterval:
		return fmt.Sprintf("the backup has advertised %d times although the master was never silent for more than %v", ours.stray, ours.longest)
	case ours.master > tooMuch*theirs.master:
		return fmt.Sprintf("as master had uses %.1f times the processor that keepalived uses", ours.master/theirs.master)
	case ours.backup > tooMuch*theirs.backup:
		return fmt.Sprintf("as backup had uses %.1f times the processor that keepalived uses", ours.backup/theirs.backup)
	}
	return ""
}

// newCrowd builds a LAN with many virtual routers.
func newCrowd(t *testing.T, p product) *crowd {
	l := newLAN(t, crowdVIP(1))
	c := &crowd{product: p, lan: l, master: l.addRouter(p, crowdInterval), backup: l.addRouter(p, crowdInterval)}
	for r, priority := range map[*router]int{c.master: highPriority, c.backup: lowPriority} {
		var blocks []fmt.Stringer
		for n := 1; n <= crowdSize; n++ {
			in := combination{version: 3}.instance(r, r, priority)
			in.name, in.vrid, in.interval, in.vips = fmt.Sprintf("VI%d", n), n, crowdInterval, []string{crowdVIP(n)}
			if n == 1 { // keepalived writes a line for every announcement
				in.global = "vrrp_garp_master_repeat 1\n    vrrp_garp_master_delay 0"
			}
			blocks = append(blocks, in)
		}
		r.write("keepalived.conf", configuration(blocks...))
	}
	return c
}

func crowdVIP(n int) string { return fmt.Sprintf("10.77.1.%d", n) }

func (c *crowd) notAllAdvertise() string {
	heard := map[uint8]bool{}
	for _, e := range c.lan.record.adverts(c.master.name, time.Now().Add(-time.Second)) {
		heard[e.vrid] = true
	}
	if len(heard) < crowdSize {
		return fmt.Sprintf("%d of %d", len(heard), crowdSize)
	}
	return ""
}

// watchCrowds watches all crowds for a while.
func watchCrowds(t *testing.T, crowds ...*crowd) (seen []crowdWatch) {
	spent := func() (all []time.Duration) {
		for _, c := range crowds {
			all = append(all, c.master.processorTime(t), c.backup.processorTime(t))
		}
		return all
	}
	from, before := time.Now(), spent()
	time.Sleep(crowdWatched)
	until, after := time.Now(), spent()
	time.Sleep(readTime)
	share := func(i int) float64 { return float64(after[i]-before[i]) / float64(until.Sub(from)) }
	for i, c := range crowds {
		w := crowdWatch{product: c.product, master: share(2 * i), backup: share(2*i + 1)}
		last := map[uint8]time.Time{}
		for n := range crowdSize {
			last[uint8(n+1)] = from
		}
		gap := func(span time.Duration) {
			w.longest = max(w.longest, span)
			w.missed += max(int((span+crowdInterval/2)/crowdInterval)-1, 0)
		}
		for _, e := range c.lan.record.adverts("", from) {
			switch {
			case e.at.After(until):
			case e.router != c.master.name:
				w.stray++
			default:
				w.adverts++
				gap(e.at.Sub(last[e.vrid]))
				last[e.vrid] = e.at
			}
		}
		for _, at := range last {
			gap(until.Sub(at))
		}
		seen = append(seen, w)
	}
	return seen
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
