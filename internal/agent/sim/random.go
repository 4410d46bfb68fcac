package sim

import "time"

// random is a seeded source (splitmix64). Every actor of a run has its own, derived from the seed and the actor's name,
// so that what one of them draws does not depend on how often another one has drawn: a plan with one fault less stays
// as close to the original run as can be, which is what makes shrinking work.
type random struct{ state uint64 }

func newRandom(seed uint64, names ...uint64) random {
	r := random{seed}
	for _, name := range names {
		r.state = r.next() ^ name*0x9e3779b97f4a7c15
	}
	return r
}

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in 0..n-1; n must be positive.
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// chance is true n times in a million.
func (r *random) chance(perMillion int) bool { return r.below(1_000_000) < perMillion }

// span returns a duration in [from, to).
func (r *random) span(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(r.next()%uint64(to-from))
}

// pick returns one of the values.
func pick[T any](r *random, values ...T) T { return values[r.below(len(values))] }
