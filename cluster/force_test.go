package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/fsm"
)

func (n *node) force(dead ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second*patience)
	defer cancel()
	return n.ForceQuorum(ctx, fsm.Force{Dead: dead, Person: "root", Reason: "burnt"})
}

// anew waits until a member has ended to begin anew, and starts it.
func (w *world) anew(name string) *node {
	w.t.Helper()
	n := w.nodes[name]
	select {
	case <-n.done:
	case <-time.After(10 * time.Second * patience):
		w.t.Fatalf("%s goes on", name)
	}
	var restart *RestartError
	if !errors.As(n.err, &restart) {
		w.t.Fatalf("%s ended with %v", name, n.err)
	}
	return w.start(name)
}

func TestAMemberBecomesTheOnlyVoterAndTheOldMajorityComesBackAsNewMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	w.leader(2*time.Second, "lb1", "lb2", "w1").submit(t, 5*time.Second, "before")
	lb1 := w.nodes["lb1"]
	w.eventually(5*time.Second, "lb1 has it", func() error {
		if !slices.Contains(lb1.notes(), "before") {
			return errors.New("not yet")
		}
		return nil
	})
	w.eventually(5*time.Second, "lb2 answers by gossip", func() error {
		if !lb1.gossip.answers(w.peer("lb2")) {
			return errors.New("it does not")
		}
		return nil
	})
	var refused *ForceError
	if err := lb1.force("lb2", "w1"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "a majority answers") {
		t.Fatalf("with a majority: %v", err)
	}
	old, former := map[string]MemberID{}, lb1.Status().ClusterID
	for _, name := range []string{"lb2", "w1"} {
		old[name] = w.nodes[name].Self()
		w.nodes[name].kill()
	}
	w.eventually(5*time.Second, "they are gone", func() error {
		if s := lb1.Status(); s.Reachable != 1 {
			return fmt.Errorf("%d answer", s.Reachable)
		}
		return nil
	})
	for _, test := range []struct {
		dead []string
		why  string
	}{
		{nil, "no node is named"}, {[]string{"lb2"}, "w1 does not answer either"}, {[]string{"lb2", "w1", "lb9"}, "lb9 is not one of the other voters"},
		{[]string{"lb1", "lb2", "w1"}, "lb1 is not one of the other voters"},
	} {
		if err := lb1.MayForce(t.Context(), test.dead); err == nil || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%v: %v, want %q", test.dead, err, test.why)
		}
	}
	w.eventually(10*time.Second, "it is forced", func() error { return lb1.force("lb2", "w1") })
	before := lb1.Self()
	lb1 = w.anew("lb1")
	if lb1.Self() != before || lb1.PromiseCeiling() < lb1.promise() {
		t.Errorf("it is %s and was %s; it may have promised for %v", lb1.Self(), before, lb1.PromiseCeiling())
	}
	lb1.submit(t, 10*time.Second, "alone")
	if s := lb1.Status(); !slices.Equal(s.Voters.Committed.Members, []MemberID{lb1.Self()}) || s.ClusterID == former {
		t.Fatalf("voters %v of cluster %s", s.Voters, s.ClusterID)
	}
	if !slices.Equal(lb1.notes(), []string{"before", "alone"}) {
		t.Errorf("notes %q", lb1.notes())
	}
	view := lb1.State()
	if f := view.Forced; f == nil || f.Node != "lb1" || !slices.Equal(f.Dead, []string{"lb2", "w1"}) || view.ClusterID != lb1.Status().ClusterID {
		t.Errorf("the log says %+v of cluster %s", f, view.ClusterID)
	}

	// The old majority is back with all its data. It meets the new cluster, and neither elects nor commits anything in the old one.
	w.start("lb2")
	w.start("w1")
	for _, name := range []string{"lb2", "w1"} {
		gone := w.nodes[name]
		n := w.anew(name)
		if n.Self() == old[name] {
			t.Errorf("%s came back under its old id", name)
		}
		if gone.seen(func(e Event) bool { l, ok := e.(Leadership); return ok && l.Self }) {
			t.Errorf("%s led the old cluster", name)
		}
	}
	w.whole(20 * time.Second)
	w.nodes["w1"].submit(t, 10*time.Second, "together")
	w.eventually(5*time.Second, "all of it is there", func() error {
		if got := w.nodes["lb2"].notes(); !slices.Equal(got, []string{"before", "alone", "together"}) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// A crash between the order and the end of the recovery, and a member that is declared dead and answers after all.
func TestForcingIsMadeUpForAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	w.nodes["lb2"].kill()
	w.isolate("lb1", true)
	lb1 := w.nodes["lb1"]
	w.eventually(10*time.Second, "w1 does not answer", func() error {
		if s := lb1.Status(); s.Reachable != 1 {
			return fmt.Errorf("%d answer", s.Reachable)
		}
		return nil
	})
	w.eventually(10*time.Second, "w1 is found out", func() error {
		w.isolate("lb1", false)
		err := lb1.MayForce(t.Context(), []string{"lb2", "w1"})
		if err == nil || !strings.Contains(err.Error(), "w1") && !strings.Contains(err.Error(), "a majority answers") {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
	w.nodes["w1"].kill()
	w.eventually(10*time.Second, "it is forced", func() error { return lb1.force("lb2", "w1") })
	<-lb1.done
	// The recovery ends before it is noted as done: it is done again.
	lb1 = w.start("lb1")
	lb1.submit(t, 10*time.Second, "once")
	lb1.kill()
	record := lb1.dir.Record()
	lb1 = w.start("lb1")
	must(t, lb1.dir.Force(record.Force.Force, 0))
	lb1.kill()
	lb1 = w.start("lb1")
	lb1.submit(t, 10*time.Second, "twice")
	if !slices.Equal(lb1.notes(), []string{"once", "twice"}) {
		t.Errorf("notes %q", lb1.notes())
	}
}

// A member that cannot go on is left politely by its caller all the same.
func TestLeavingAfterTheEndDoesNoHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	n := w.start("lb1")
	n.fail(&RestartError{Reason: "test"})
	<-n.done
	if err := n.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}
