package fencing

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

const wall = 1_800_000_000_000_000_000

func TestWindowUntil(t *testing.T) {
	for _, test := range []struct {
		name     string
		left     time.Duration // of the lease, at the second look at the lease clock
		want     Window
		possible bool
	}{
		{"nine tenths of the time left", 2475 * time.Millisecond,
			Window{2227 * time.Millisecond, wall + int64(2227500*time.Microsecond)}, true},
		{"whole milliseconds, rounded down", 1001 * time.Microsecond * 100,
			Window{90 * time.Millisecond, wall + int64(90090*time.Microsecond)}, true},
		{"the shortest that the kernel can keep", 23 * time.Millisecond,
			Window{20 * time.Millisecond, wall + int64(20700*time.Microsecond)}, true},
		{"too short", 22 * time.Millisecond, Window{}, false},
		{"over", 0, Window{}, false},
		{"long over", -time.Hour, Window{}, false},
		{"farther than any lease", math.MaxInt64 / 2,
			Window{(math.MaxInt64 / 20 * 9 / time.Millisecond) * time.Millisecond, 0}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Reading{Before: 999_990_000, Wall: wall, After: 1_000_000_000}
			got, possible := WindowUntil(r.After.Add(test.left), r)
			if test.want.Deadline == 0 {
				got.Deadline = 0
			}
			if got != test.want || possible != test.possible {
				t.Errorf("got %+v %v, want %+v %v", got, possible, test.want, test.possible)
			}
		})
	}
}

func TestWindowNeedsAReading(t *testing.T) {
	until := clock.Time(time.Hour)
	for name, test := range map[string]struct {
		until clock.Time
		r     Reading
	}{
		"no deadline":               {0, Reading{1, wall, 2}},
		"no reading":                {until, Reading{}},
		"a clock that went back":    {until, Reading{10, wall, 9}},
		"no second look at the LC":  {until, Reading{1, wall, 0}},
		"deadline before the epoch": {-1, Reading{1, wall, 2}},
	} {
		if w, possible := WindowUntil(test.until, test.r); possible {
			t.Errorf("%s: %+v", name, w)
		}
	}
}

func TestTight(t *testing.T) {
	for width, want := range map[time.Duration]bool{
		0: true, 49 * time.Microsecond: true, 50 * time.Microsecond: false, time.Second: false,
	} {
		if got := (Reading{Before: 5, Wall: wall, After: clock.Time(5).Add(width)}).Tight(); got != want {
			t.Errorf("%v: %v", width, got)
		}
	}
}

func TestCovers(t *testing.T) {
	const until = clock.Time(10 * time.Second)
	w := Window{Timeout: 900 * time.Millisecond}
	for left, want := range map[time.Duration]bool{
		time.Second:                          true,
		900 * time.Millisecond:               true,
		900*time.Millisecond - 1:             false,
		0:                                    false,
		-time.Second:                         false,
		w.Timeout + 99*time.Millisecond - 50: true,
	} {
		if got := w.Covers(until, until.Add(-left)); got != want {
			t.Errorf("%v left: %v", left, got)
		}
	}
}

// Whatever the delays, and with the kernel's clocks running up to 10% slow, the guard is shut when the lease ends: by
// the deadline always, by the timeout if Covers agreed with it on a machine whose clocks are not slewed.
func TestWindowNeverOutlivesTheLease(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	armed, covered := 0, 0
	for range 200_000 {
		var (
			begin   = clock.Time(1 + random.Int64N(1e18))
			lease   = time.Duration(random.Int64N(int64(10 * time.Second)))
			until   = begin.Add(lease)
			toWall  = time.Duration(random.Int64N(int64(lease/4 + 1)))
			toAfter = time.Duration(random.Int64N(int64(lease/4 + 1)))
			delay   = time.Duration(random.Int64N(int64(lease/2 + 1)))
			rate    = 0.9 + random.Float64()*0.2 // of the wall clock and of jiffies against the lease clock
		)
		r := Reading{Before: begin, Wall: wall, After: begin.Add(toWall + toAfter)}
		w, ok := WindowUntil(until, r)
		if !ok {
			continue
		}
		armed++
		wallRead := begin.Add(toWall)
		shutByDeadline := wallRead.Add(time.Duration(float64(w.Deadline-wall) / rate))
		if shutByDeadline > until+1 { // a nanosecond of rounding
			t.Fatalf("the deadline shuts %v late: until %d, %+v, %+v, rate %f", shutByDeadline.Sub(until), until, r, w, rate)
		}
		told := r.After.Add(delay)
		if !w.Covers(until, told) {
			continue
		}
		covered++
		if shutByTimeout := told.Add(w.Timeout); until.Before(shutByTimeout) {
			t.Fatalf("the timeout shuts %v late", shutByTimeout.Sub(until))
		}
	}
	if armed < 100_000 || covered < 10_000 {
		t.Errorf("only %d armed, %d covered", armed, covered)
	}
}
