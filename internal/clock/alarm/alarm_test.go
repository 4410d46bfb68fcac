package alarm

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAlarmGoesOffWhenItWasSetToLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Alarm
		defer a.Stop()
		silent := func(what string) {
			t.Helper()
			select {
			case <-a.C:
				t.Errorf("%s: it goes off", what)
			case <-time.After(time.Hour):
			}
		}
		a.Stop()
		silent("never set")

		for _, d := range []time.Duration{time.Minute, 3 * time.Minute, time.Second, 0, -time.Second} {
			a.Set(2 * time.Minute)
			a.Set(d)
			began := time.Now()
			<-a.C
			if span := time.Since(began); span != max(d, 0) {
				t.Errorf("set to %s it goes off after %s", d, span)
			}
			silent("once is enough")
		}

		a.Set(time.Second)
		time.Sleep(time.Minute) // it has gone off, and nobody has looked
		a.Set(2 * time.Hour)
		silent("what was due before")
		a.Stop()
		silent("stopped")
	})
}

// BenchmarkPutOff moves a deadline on with each of a hundred events. It prints how often the program's threads went to sleep for each
// of them: with a timer that is reset, once more for each time that was put off.
func BenchmarkPutOff(b *testing.B) {
	const events, every = 100, 10 * time.Millisecond
	sleeps := func() int64 {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it fails for no program that asks about itself
		return u.Nvcsw
	}
	play := func(b *testing.B, set func(time.Duration), fired func() <-chan time.Time) {
		var slept int64
		for b.Loop() {
			event := time.NewTicker(every)
			before := sleeps()
			for n := 0; n < events; {
				set(every * 3 / 2)
				select {
				case <-event.C:
					n++
				case <-fired():
				}
			}
			slept += sleeps() - before
			event.Stop()
		}
		b.ReportMetric(float64(slept)/float64(b.N)/events, "sleeps/event")
	}
	b.Run("alarm", func(b *testing.B) {
		var a Alarm
		defer a.Stop()
		play(b, a.Set, func() <-chan time.Time { return a.C })
	})
	b.Run("timer that is reset", func(b *testing.B) {
		timer := time.NewTimer(time.Hour)
		defer timer.Stop()
		play(b, func(d time.Duration) { timer.Reset(d) }, func() <-chan time.Time { return timer.C })
	})
}
