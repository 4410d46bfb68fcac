package sim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"
)

var (
	flagSeed        = flag.Uint64("sim.seed", 0, "run this seed only, and show its end")
	flagHours       = flag.Float64("sim.hours", 0.4, "virtual hours to simulate")
	flagFirst       = flag.Uint64("sim.first", 1, "first seed of a series")
	flagAdversarial = flag.Bool("sim.adversarial", false, "the replicated log keeps no promise")
	flagProfile     = flag.String("sim.profile", "", "manner of the faults; empty: drawn from the seed")
	flagVoters      = flag.Int("sim.voters", 0, "voters; 0: drawn from the seed")
	flagGroups      = flag.Int("sim.groups", 0, "ownership groups; 0: drawn from the seed")
)

const span = 300 * time.Second

// TestMain makes short runs short: the race detector finds nothing in what one goroutine does. It makes way for the tests of other
// packages, whose clocks are real, and collects garbage more rarely: a run keeps little of what it makes.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		*flagHours, *flagDuels = min(*flagHours, 0.05), min(*flagDuels, 10)
	}
	debug.SetGCPercent(400)
	if err := yield(); err != nil {
		fmt.Fprintln(os.Stderr, "the simulation keeps its priority:", err)
	}
	os.Exit(m.Run())
}

// yield gives every thread of this process, from which all others come, a low priority.
func yield() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		thread, err := strconv.Atoi(task.Name())
		if err == nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, thread, 10)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) { // a thread that has ended
			return err
		}
	}
	return nil
}

func configured(seed uint64) Config {
	return Config{Seed: seed, Span: span, Voters: *flagVoters, Groups: *flagGroups, Adversarial: *flagAdversarial,
		Profile: *flagProfile}
}

func TestNeverTwoOwners(t *testing.T) {
	began := time.Now()
	if *flagSeed != 0 {
		o := Run(configured(*flagSeed))
		if o.Violation != nil {
			t.Fatal(Report(configured(*flagSeed), o))
		}
		t.Log(o.Stats.Report())
		return
	}
	series := Series{First: *flagFirst, Hours: *flagHours, Config: configured}
	total, failed := series.Run(runtime.GOMAXPROCS(0))
	t.Logf("seeds from %d on in %v\n%s", *flagFirst, time.Since(began).Round(time.Millisecond), total.Report())
	if failed != nil {
		t.Fatal(Report(failed.Config, failed.Outcome))
	}
}

// TestNeverTwoOwnersWithFencing: owners are lost while their leases run, and are switched off.
func TestNeverTwoOwnersWithFencing(t *testing.T) {
	series := Series{First: *flagFirst, Hours: *flagHours / 8, Config: func(seed uint64) Config {
		return Config{Seed: seed, Span: span, Profile: Fences}
	}}
	total, failed := series.Run(runtime.GOMAXPROCS(0))
	t.Logf("seeds from %d on\n%s", *flagFirst, total.Report())
	if failed != nil {
		t.Fatal(Report(failed.Config, failed.Outcome))
	}
	if total.Fences == 0 && !testing.Short() {
		t.Error("nobody was fenced: nothing is proved")
	}
}

// TestNeverTwoOwnersAfterAForcedQuorum: majorities are lost, and a person makes a director the only voter when the others are off. They come
// back when they like, and are members again in the end.
func TestNeverTwoOwnersAfterAForcedQuorum(t *testing.T) {
	total, all := playQuarter(t, func(seed uint64) Config { return Config{Seed: seed, Span: span, Profile: Forced} })
	t.Logf("%d times forced, %d runs ended early", total.Forced, total.Voids)
	if all && !testing.Short() && total.Forced == 0 {
		t.Error("no quorum was forced: nothing is proved")
	}
}

// playQuarter plays a quarter of the hours that -sim.hours asks for, and returns what happened; or, with all false, the run of -sim.seed alone.
func playQuarter(t *testing.T, config func(seed uint64) Config) (total Stats, all bool) {
	t.Helper()
	if *flagSeed != 0 {
		cfg := config(*flagSeed)
		o := Run(cfg)
		if o.Violation != nil {
			t.Fatal(Report(cfg, o))
		}
		return o.Stats, false
	}
	series := Series{First: *flagFirst, Hours: *flagHours / 4, Config: config}
	total, failed := series.Run(runtime.GOMAXPROCS(0))
	t.Logf("seeds from %d on\n%s", *flagFirst, total.Report())
	if failed != nil {
		t.Fatal(Report(failed.Config, failed.Outcome))
	}
	return total, true
}

// TestHoldShowsTwoOwnersOnlyWhileOneSaysSo: with quorum_loss hold there may be two owners, but one of them says at that moment that it is
// unprotected; and all recover.
func TestHoldShowsTwoOwnersOnlyWhileOneSaysSo(t *testing.T) {
	playKeeping(t, func(seed uint64) Config { return Config{Seed: seed, Span: span, Hold: true} })
}

// playKeeping plays runs in which groups may be had without a majority, or the one of -sim.seed.
func playKeeping(t *testing.T, config func(seed uint64) Config) {
	t.Helper()
	total, all := playQuarter(t, config)
	t.Logf("%d groups kept or taken, %d times beside another owner", total.Kept, total.KeptBeside)
	enough := total.Simulated > 2*time.Hour // for the rare case that both are visible
	if all && !testing.Short() && (total.Kept == 0 || enough && total.KeptBeside == 0) {
		t.Error("nothing was kept or taken beside another owner: nothing is proved")
	}
}

func TestASeedGivesTheSameRun(t *testing.T) {
	for seed := range uint64(3) {
		cfg := Config{Seed: seed + 1, Span: 30 * time.Second}
		a, b := Run(cfg), Run(cfg)
		if fmt.Sprint(a.Stats) != fmt.Sprint(b.Stats) {
			t.Errorf("seed %d: %+v, then %+v", seed, a.Stats, b.Stats)
		}
	}
}
