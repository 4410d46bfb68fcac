package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

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
			w := newWorld(b, 187*time.Millisecond)
			w.tweak = func(cfg *Config) { cfg.seams.tricks = &c.tricks }
			w.found()
			var times []time.Duration
			witness := 0
			for b.Loop() {
				old := w.leader(5*time.Second, "lb1", "lb2", "w1")
				var others []string
				for name := range w.nodes {
					if name != old.name {
						others = append(others, name)
					}
				}
				time.Sleep(rand.N(100 * time.Millisecond)) // a random moment between two heartbeats
				start := time.Now()
				go old.kill()
				next := w.leader(20*time.Second, others...)
				next.submit(b, 5*time.Second, "elected")
				times = append(times, time.Since(start))
				if took := time.Since(start); took > 260*time.Millisecond && os.Getenv("HAD_TEST_LOG") != "" {
					fmt.Fprintln(os.Stderr, "SLOW", took, "killed", old.name, "at", start.UTC().Format("15:04:05.000"))
					w.log.dumpSince(start)
				}
				if next.name == "w1" {
					witness++
				}
				old.kill()
				w.start(old.name)
				w.whole(20 * time.Second)
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
