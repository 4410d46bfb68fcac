package sim

import (
	"sync"
	"time"
)

// Series is many runs, one seed after the other.
type Series struct {
	First  uint64 // seed
	Hours  float64
	Config func(seed uint64) Config
}

// Failure is a run with a violation.
type Failure struct {
	Config  Config
	Outcome Outcome
}

// Run makes the runs, several at a time: each of them is one thread of its own. It ends with the first violation, and
// then returns that of the lowest seed that it has come across.
func (s Series) Run(parallel int) (Stats, *Failure) {
	var (
		mu     sync.Mutex
		total  Stats
		failed *Failure
		next   = s.First
		group  sync.WaitGroup
	)
	limit := time.Duration(s.Hours * float64(time.Hour))
	for range parallel {
		group.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				over := failed != nil || total.Simulated >= limit
				mu.Unlock()
				if over {
					return
				}
				cfg := s.Config(seed)
				o := Run(cfg)
				mu.Lock()
				total.Add(o.Stats)
				if o.Violation != nil && (failed == nil || seed < failed.Config.Seed) {
					failed = &Failure{cfg, o}
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return total, failed
}
