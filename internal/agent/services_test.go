package agent

import (
	"context"
	"testing"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
)

// unasked is a load balancer that nobody may tell anything.
type unasked struct{ t *testing.T }

func (u unasked) Configure(balancer.Config, map[balancer.Server]balancer.Override) {
	u.t.Error("configured")
}
func (u unasked) Override(map[balancer.Server]balancer.Override) { u.t.Error("overridden") }
func (u unasked) Status(context.Context) (balancer.Status, error) {
	u.t.Error("asked")
	return balancer.Status{}, nil
}

// While the copy of the log goes through what was before its start, nothing of it is looked at: the cluster is not even there.
func TestNothingIsServedOfAHistory(t *testing.T) {
	s := newServices("lb1", (*cluster.Cluster)(nil), unasked{t}, func() clock.Time { return 1 }, nil)
	s.cfg, s.started = &conf.Config{}, time.Now()
	if wait := s.step(t.Context()); wait != healthEvery {
		t.Errorf("it waits for %s", wait)
	}
	close(s.caughtUp)
	if !s.known() {
		t.Error("the end of the history is not noticed")
	}
}
