package agent

import (
	"testing"
	"time"

	"github.com/hactl/had/internal/conf"
)

func TestTheLoopIsLateByASmallPartOfAnInterval(t *testing.T) {
	for _, c := range []struct {
		intervals []time.Duration
		want      time.Duration
	}{
		{nil, 5 * time.Millisecond},
		{[]time.Duration{time.Second}, 5 * time.Millisecond},
		{[]time.Duration{time.Second, 60 * time.Millisecond}, 3 * time.Millisecond},
		{[]time.Duration{10 * time.Millisecond}, time.Millisecond}, // the shortest that there is
	} {
		cfg := &conf.Config{}
		for _, interval := range c.intervals {
			cfg.Instances = append(cfg.Instances, conf.Instance{AdvertInterval: interval})
		}
		if got := grainOf(cfg); got != c.want {
			t.Errorf("%v: %v, want %v", c.intervals, got, c.want)
		}
	}
}
