package fencing

import (
	"time"

	"github.com/hactl/had/internal/clock"
)

// BackOff makes something that happens again and again wait for longer each time: not at all after the first time, backOffFirst
// after the second, then twice as long each time, up to backOffMax. One time is forgotten for each backOffForget of calm.
type BackOff struct {
	strikes  int
	forgetAt clock.Time // when the next one is forgotten; zero: there is no calm
}

// StrikesPerHour is how often at most something happens in an hour that waits for Wait each time. What is forgotten is six strikes
// an hour, so over long spans it is half as often.
const StrikesPerHour = 12

const (
	backOffFirst  = 10 * time.Second
	backOffMax    = 10 * time.Minute
	backOffForget = 10 * time.Minute
)

// Strike says that it has happened, which ends the calm.
func (b *BackOff) Strike(now clock.Time) {
	for !b.forgetAt.IsZero() && now >= b.forgetAt && b.strikes > 0 {
		b.strikes, b.forgetAt = b.strikes-1, b.forgetAt.Add(backOffForget)
	}
	b.strikes, b.forgetAt = b.strikes+1, 0
}

// Calm begins the calm.
func (b *BackOff) Calm(now clock.Time) { b.forgetAt = now.Add(backOffForget) }

// Wait is how long it has to wait now.
func (b *BackOff) Wait() time.Duration {
	if b.strikes < 2 {
		return 0
	}
	return min(backOffFirst<<min(b.strikes-2, 16), backOffMax)
}
