package cluster

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestNothingIsLeftBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	w.nodes["w1"].submit(t, 2*time.Second, "hello")
	for _, n := range w.nodes {
		n.kill()
		if n.err != nil {
			t.Errorf("%s ended with: %v", n.name, n.err)
		}
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
