package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// tricked is a cluster with some of the tricks.
func tricked(t testing.TB, lease time.Duration, tricks tricks) *world {
	w := newWorld(t, lease)
	w.tweak = func(cfg *Config) { cfg.seams.tricks = &tricks }
	w.found()
	return w
}

// elect kills the leader, returns how long it takes until another member leads and can commit, and which one it is, and makes the
// cluster whole again.
func (w *world) elect() (took time.Duration, next string) {
	old := w.leader(20*time.Second, "lb1", "lb2", "w1")
	var others []string
	for name := range w.nodes {
		if name != old.name {
			others = append(others, name)
		}
	}
	time.Sleep(rand.N(100 * time.Millisecond)) // a random moment between two heartbeats
	start := time.Now()
	go old.kill()
	leader := w.leader(20*time.Second, others...)
	leader.submit(w.t, 5*time.Second, "elected")
	took = time.Since(start)
	old.kill()
	w.start(old.name)
	w.whole(20 * time.Second)
	return took, leader.name
}

// BenchmarkElection kills the leader, again and again, and measures how long it takes until another member leads and can
// commit, at the shortest timeouts (T = 150 ms). Run it with -benchtime 30x or more; the metrics are in milliseconds.
func BenchmarkElection(b *testing.B) {
	for _, c := range []struct {
		name   string
		tricks tricks
	}{
		{"plain", tricks{}},
		{"poke", tricks{poke: true}},
		{"poke+rank", tricks{poke: true, rank: true}},
		{"poke+rank+retry", allTricks},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := tricked(b, 187*time.Millisecond, c.tricks)
			var times []time.Duration
			witness := 0
			for b.Loop() {
				took, next := w.elect()
				times = append(times, took)
				if next == "w1" {
					witness++
				}
			}
			slices.Sort(times)
			at := func(share float64) float64 {
				return float64(times[int(share*float64(len(times)-1))].Microseconds()) / 1000
			}
			b.ReportMetric(at(0), "min-ms")
			b.ReportMetric(at(0.5), "p50-ms")
			b.ReportMetric(at(0.9), "p90-ms")
			b.ReportMetric(at(1), "max-ms")
			b.ReportMetric(float64(witness), "witness-led")
			b.ReportMetric(0, "ns/op")
			b.Log(fmt.Sprint(times))
		})
	}
}
