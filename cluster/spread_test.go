package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hactl/had/fsm"
)

// What all directors act on is known to all of them at once, and not only when an idle leader speaks next.
func TestFollowersHearOfAServiceAtOnce(t *testing.T) {
	w := newWorld(t, 4*time.Second)
	dumpOnFailure(t, w)
	w.found()
	w.whole(10 * time.Second)
	leader := w.leader(10*time.Second, "lb1", "lb2", "w1")
	late := 0
	const changes = 5
	for i := range changes {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second*patience)
		defer cancel()
		change := fsm.Command{ID: fmt.Sprint("change/", i), Node: leader.name,
			Balance: &fsm.Balance{Do: fsm.RemoveService, Service: fmt.Sprint("tcp 10.0.0.1:", i+1)}}
		if _, err := leader.Submit(ctx, change); err != nil {
			t.Fatal(err)
		}
		committed, index := time.Now(), leader.State().Applied
		w.eventually(10*time.Second, "all have applied the change", func() error {
			for _, n := range w.nodes {
				if applied := n.State().Applied; applied < index {
					return fmt.Errorf("%s is at %d, the change is %d", n.name, applied, index)
				}
			}
			return nil
		})
		if time.Since(committed) > leader.host().timing.Commit/2 {
			late++
		}
	}
	if late > changes/2 {
		t.Errorf("%d of %d changes came late", late, changes)
	}
}
