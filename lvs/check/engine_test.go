package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/lvs/check/verdict"
)

// quick is a schedule whose first attempt comes after 1 s, as always.
var quick = Schedule{Interval: 50 * time.Millisecond, RetryDelay: 20 * time.Millisecond}

// engine returns an Engine and what it reports.
func engine(t *testing.T, options Options, attempts, scripts int) (*Engine, chan Result) {
	t.Helper()
	results := make(chan Result, 10000)
	options.Report = func(r Result) { results <- r }
	e := newEngine(options, attempts, scripts)
	go e.loop()
	t.Cleanup(e.Close)
	return e, results
}

func next(t *testing.T, results chan Result) Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is reported")
		return Result{}
	}
}

func none(t *testing.T, results chan Result, d time.Duration) {
	t.Helper()
	select {
	case r := <-results:
		t.Fatalf("%+v is reported", r)
	case <-time.After(d):
	}
}

// TestTransitions follows two checks through a failure, a suspension and changes of the configuration.
func TestTransitions(t *testing.T) {
	t.Parallel()
	var healthy atomic.Bool
	healthy.Store(true)
	server := serve(t, func(c net.Conn) {
		text := "HTTP/1.0 500 Oops\r\n\r\n"
		if healthy.Load() {
			text = "HTTP/1.0 200 OK\r\n\r\n"
		}
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, text)
	})
	e, results := engine(t, testOptions(), 10, 10)
	closed := refusing(t)
	check := Check{ID: "a", Schedule: quick, Probe: get(server, URL{Path: "/x"})}
	e.Set([]Check{check, {ID: "b", Schedule: quick, Probe: &TCP{at(closed)}}})
	first := map[string]Result{}
	for range 2 {
		r := next(t, results)
		first[r.ID] = r
	}
	if r := first["a"]; !r.Up || r.At == 0 {
		t.Errorf("%+v", r)
	}
	if r := first["b"]; r.Up || r.Reason != fmt.Sprintf("connect %v: refused", closed) {
		t.Errorf("%+v", r)
	}
	none(t, results, 200*time.Millisecond)
	healthy.Store(false)
	if r := next(t, results); r.ID != "a" || r.Up || r.Reason != fmt.Sprintf("GET /x at %v: status 500, wanted 200-299", server) {
		t.Errorf("%+v", r)
	}
	e.Doubt([]string{"a", "gone"})
	if r := next(t, results); r.ID != "a" || r.Up {
		t.Errorf("in doubt: %+v", r)
	}
	e.Suspend("a", true)
	time.Sleep(100 * time.Millisecond) // what is under way ends
	healthy.Store(true)
	none(t, results, 200*time.Millisecond)
	e.Suspend("a", false)
	if r := next(t, results); r.ID != "a" || !r.Up {
		t.Errorf("%+v", r)
	}
	// The same check with another schedule goes on; another probe begins anew; a check that is gone is silent.
	check.Schedule.Interval = time.Hour
	e.Set([]Check{check})
	none(t, results, 200*time.Millisecond)
	check.Probe = get(server, URL{Path: "/y"})
	e.Set([]Check{check})
	if r := next(t, results); r.ID != "a" || !strings.Contains(r.Reason, "GET /y") {
		t.Errorf("%+v", r)
	}
	e.Set(nil)
	none(t, results, 200*time.Millisecond)
}

func TestInput(t *testing.T) {
	t.Parallel()
	e, results := engine(t, testOptions(), 10, 10)
	set := []Check{{ID: "f", Schedule: quick, Probe: Input{}}}
	e.Set(set)
	say := func(ok bool, adjust int) {
		e.Input("f", verdict.Outcome{OK: ok, Adjust: adjust, Reason: fmt.Sprint(ok, adjust)})
	}
	for _, tt := range []struct {
		ok     bool
		adjust int
		silent bool
	}{{true, 0, false}, {true, 5, false}, {true, 5, true}, {false, 0, false}, {false, 0, true}, {true, 3, false}} {
		say(tt.ok, tt.adjust)
		if tt.silent {
			none(t, results, 50*time.Millisecond)
			e.Doubt([]string{"f"})
			if r := next(t, results); r.Up != tt.ok || r.Adjust != tt.adjust {
				t.Errorf("in doubt: %+v: %+v", tt, r)
			}
		} else if r := next(t, results); r.Up != tt.ok || r.Adjust != tt.adjust || r.Reason != fmt.Sprint(tt.ok, tt.adjust) {
			t.Errorf("%+v: %+v", tt, r)
		}
	}
	e.Set(set)
	say(true, 3)
	none(t, results, 50*time.Millisecond)
	e.Input("unknown", verdict.Outcome{OK: true})
	none(t, results, 50*time.Millisecond)
}

// TestCannotCheck reports a check that cannot be made as failed, with the reason.
func TestCannotCheck(t *testing.T) {
	t.Parallel()
	e, results := engine(t, testOptions(), 10, 10)
	e.Set([]Check{{ID: "r", Schedule: quick, Probe: get(refusing(t), URL{Regex: &Regex{Pattern: "("}})}})
	if r := next(t, results); r.Up || !strings.Contains(r.Reason, "cannot check: regex") {
		t.Errorf("%+v", r)
	}
}

// hanging is a probe that counts how many attempts of its kind are under way, and never ends by itself.
type hanging struct{ now, most *atomic.Int32 }

func (hanging) schedule(*verdict.Config)          {}
func (h hanging) prepare(*Engine) (prober, error) { return h, nil }
func (hanging) timeout() time.Duration            { return 100 * time.Millisecond }
func (h hanging) attempt(ctx context.Context, _ int) verdict.Outcome {
	n := h.now.Add(1)
	for m := h.most.Load(); n > m && !h.most.CompareAndSwap(m, n); m = h.most.Load() {
	}
	<-ctx.Done()
	h.now.Add(-1)
	return failed("hung")
}

// TestBounds fills an Engine with attempts that hang: no more than the bound are under way, and what is due comes later
// with the right verdict.
func TestBounds(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	good := answering(t, "HTTP/1.0 200 OK\r\n\r\n")
	e, results := engine(t, testOptions(), 8, 1)
	var checks []Check
	for i := range 40 {
		c := Check{ID: fmt.Sprint(i), Schedule: quick, Probe: hanging{&now, &most}}
		if i%4 == 0 {
			c.Probe = get(good, URL{})
		}
		checks = append(checks, c)
	}
	e.Set(checks)
	for range checks {
		r := next(t, results)
		var i int
		fmt.Sscan(r.ID, &i)
		if up := i%4 == 0; r.Up != up || !up && r.Reason != "hung, given up after 400ms" {
			t.Errorf("%+v", r)
		}
	}
	if m := most.Load(); m > 8 {
		t.Errorf("%d attempts were under way at once", m)
	}
}

// TestScripts runs no more scripts at once than it may, and leaves none behind.
func TestScripts(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	running, most := 0, 0
	options := testOptions()
	options.Run = func(ctx context.Context, script any, timeout time.Duration) (int, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-ctx.Done()
		mu.Lock()
		running--
		mu.Unlock()
		return 0, errors.New("killed")
	}
	e, results := engine(t, options, 1, 2)
	var checks []Check
	for i := range 5 {
		checks = append(checks, Check{ID: fmt.Sprint(i), Schedule: quick, Probe: Misc{Name: "x", Script: i, Timeout: time.Hour}})
	}
	e.Set(checks)
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		n := running
		mu.Unlock()
		if n == 2 {
			break
		}
	}
	time.Sleep(100 * time.Millisecond)
	e.Close()
	mu.Lock()
	defer mu.Unlock()
	if running != 0 || most != 2 {
		t.Errorf("%d are left, %d ran at once", running, most)
	}
	none(t, results, 0)
}

// TestSpread looks at when ten thousand checks begin.
func TestSpread(t *testing.T) {
	t.Parallel()
	e := New(testOptions())
	defer e.Close()
	s := Schedule{Interval: 10 * time.Second, Warmup: 10 * time.Second}
	var tenths [10]int
	for i := range 10000 {
		x := Check{ID: fmt.Sprint(i), Schedule: s, Probe: &TCP{at(netip.MustParseAddrPort("127.0.0.1:1"))}}
		config := x.config()
		due := verdict.Begin(&config, 1, e.fraction(x.ID)).Due.Sub(1) - time.Second
		if due < 0 || due >= s.Warmup {
			t.Fatalf("the first attempt comes after %v", due)
		}
		tenths[due*10/s.Warmup]++
	}
	for i, n := range tenths {
		if n < 800 || n > 1200 {
			t.Errorf("%d of 10000 begin in tenth %d", n, i)
		}
	}
}

// brief is a probe that takes a millisecond, and keeps count of when it is made, and how many are under way.
type brief struct{ *tally }

type tally struct {
	mu            sync.Mutex
	begin         time.Time
	tenths        [20]int // by seconds since begin
	running, most int
	goroutines    int // at most
}

func (brief) schedule(*verdict.Config) {}

func (p brief) prepare(*Engine) (prober, error) { return p, nil }

func (p brief) attempt(context.Context, int) verdict.Outcome {
	p.mu.Lock()
	if n := int(time.Since(p.begin) / time.Second); n < len(p.tenths) {
		p.tenths[n]++
	}
	p.running++
	p.most = max(p.most, p.running)
	p.goroutines = max(p.goroutines, runtime.NumGoroutine())
	p.mu.Unlock()
	time.Sleep(time.Millisecond)
	p.mu.Lock()
	p.running--
	p.mu.Unlock()
	return succeeded("")
}

// TestManyChecks lets ten thousand checks run for two intervals: they stay spread, and goroutines are few. Time in it is not real: what
// is counted does not depend on the machine.
func TestManyChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10000
		const boot = time.Second // package verdict's
		counts := &tally{begin: time.Now().Add(boot)}
		zero := time.Now()
		e := New(Options{Now: func() clock.Time { return clock.Time(time.Second + time.Since(zero)) }, Report: func(Result) {},
			Log: slog.New(slog.DiscardHandler)})
		var all []Check
		for i := range n {
			all = append(all, Check{ID: strconv.Itoa(i), Probe: brief{counts},
				Schedule: Schedule{Interval: 10 * time.Second, Warmup: 10 * time.Second}})
		}
		before := runtime.NumGoroutine()
		e.Set(all)
		time.Sleep(boot + 20*time.Second)
		e.Close()
		for i, made := range counts.tenths {
			if made < n/10*8/10 || made > n/10*12/10 {
				t.Errorf("%d of %d attempts are made in second %d", made, n, i)
			}
		}
		if counts.most > 50 || counts.goroutines-before > 2*counts.most+10 {
			t.Errorf("%d attempts were under way at once, in %d goroutines", counts.most, counts.goroutines-before)
		}
	})
}

// TestConnects follows connections that are not made: one that takes too long, and one whose check is replaced, makes room for
// the next.
func TestConnects(t *testing.T) {
	t.Parallel()
	good, hole := answering(t, ""), blackhole(t)
	e, results := engine(t, testOptions(), 1, 1)
	slow := at(hole)
	slow.Timeout = 300 * time.Millisecond
	e.Set([]Check{{ID: "slow", Schedule: Schedule{Interval: time.Hour}, Probe: &TCP{slow}}})
	if r := next(t, results); r.Up || r.Reason != fmt.Sprintf("connect %v: no answer within 300ms", hole) {
		t.Errorf("%+v", r)
	}
	slow.Timeout = time.Hour
	e.Set([]Check{{ID: "slow", Schedule: quick, Probe: &TCP{slow}}})
	none(t, results, 1500*time.Millisecond) // it is under way
	e.Set([]Check{{ID: "good", Schedule: quick, Probe: &TCP{at(good)}}})
	if r := next(t, results); r.ID != "good" || !r.Up || r.Reason != fmt.Sprintf("connect %v: done", good) {
		t.Errorf("%+v", r)
	}
	e.Set([]Check{{ID: "slow", Schedule: quick, Probe: &TCP{slow}}})
	none(t, results, 1500*time.Millisecond) // that Close ends it
}

// BenchmarkConnect tells what one TCP_CHECK costs, its server included, from its begin to the verdict that all is as before.
func BenchmarkConnect(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	options := testOptions()
	begin := now()
	options.Now = func() clock.Time { return begin }
	e := newEngine(options, attemptsMax, scriptsMax)
	e.Set([]Check{{Probe: &TCP{at(netip.MustParseAddrPort(l.Addr().String()))}}})
	<-e.wake
	e.pass()
	begin = begin.Add(time.Minute)
	e.pass()
	b.ReportAllocs()
	for b.Loop() {
		<-e.wake // it is connected
		e.pass() // and begins again
	}
	if x := e.checks[""]; !x.state.Known || !x.state.Up {
		b.Errorf("%+v", x.state)
	}
	go e.loop()
	e.Close()
}

// BenchmarkAttempt tells what one attempt in a goroutine of its own costs, its server included.
func BenchmarkAttempt(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhello\n")
			_, _ = c.Read(make([]byte, 1000))
			c.Close()
		}
	}()
	e := New(testOptions())
	defer e.Close()
	p, err := get(netip.MustParseAddrPort(l.Addr().String()), URL{}).prepare(e)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if o := p.(attempter).attempt(b.Context(), 0); !o.OK {
			b.Fatal(o.Reason)
		}
	}
}
