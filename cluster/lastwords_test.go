package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hactl/had/fsm"
)

// The leader of the log dies. What it leaves to say reaches the others, who elect another leader at once instead of after T,
// and is said until the log has taken note.
func TestLastWordsOfTheLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5*time.Second) // T = 2 s
	w.found()
	w.whole(20 * time.Second)
	dead := w.leader(5*time.Second, "lb1", "lb2", "w1")
	estate := dead.Estate()
	var survivors []*node
	for _, name := range []string{"lb1", "lb2", "w1"} {
		if name != dead.name {
			survivors = append(survivors, w.nodes[name])
		}
	}
	x, err := estate.Executor(w.fabric, w.log.logger("executor"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	words := LastWords{Member: dead.Self(), Messages: []json.RawMessage{[]byte(`"farewell"`)}, Over: map[string]uint64{"G": 1}}

	dead.kill()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	spoken := make(chan error, 1)
	go func() { spoken <- x.Speak(ctx, words) }()
	next := w.leader(10*time.Second, survivors[0].name, survivors[1].name)
	took := time.Since(began)
	t.Logf("%s follows %s after %s", next.name, dead.name, took.Round(time.Millisecond))
	if took > w.nodes[next.name].timing.Heartbeat*3/4 {
		t.Errorf("the election took %s: T is %s", took, next.timing.Heartbeat)
	}
	for _, n := range survivors {
		w.eventually(5*time.Second, "last words", func() error {
			if !n.seen(func(e Event) bool {
				m, ok := e.(Message)
				return ok && m.From == words.Member && string(m.Payload) == `"farewell"`
			}) {
				return fmt.Errorf("%s has not heard them", n.name)
			}
			return nil
		})
	}
	select {
	case err := <-spoken:
		t.Fatalf("the log has not taken note yet, and it is said that it has: %v", err)
	default:
	}
	grant := fsm.Command{ID: "grant", Node: next.name, Grant: &fsm.Grant{Group: "G", Member: dead.Self(), Epoch: 1, ClaimID: 1, Life: 7}}
	release := fsm.Command{ID: "release", Node: next.name, Release: &fsm.Release{Group: "G", Epoch: 1, Member: dead.Self(), Life: 7}}
	for _, c := range []fsm.Command{grant, release} {
		if result, err := next.Submit(ctx, c); err != nil || !result.OK {
			t.Fatal(result, err)
		}
	}
	if err := <-spoken; err != nil {
		t.Error(err)
	}
}

// Nobody speaks for another node, and a member whose data directory has been started again is not spoken for any more.
func TestLastWordsOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Second)
	w.found()
	w.whole(20 * time.Second)
	estate := w.nodes["lb1"].Estate()
	x, err := estate.Executor(w.fabric, w.log.logger("executor"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	say := func(words LastWords) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return x.Speak(ctx, words)
	}
	if err := say(LastWords{Member: w.nodes["lb2"].Self()}); err == nil {
		t.Error("lb1 has spoken for lb2")
	}
	if err := say(LastWords{Member: w.nodes["lb1"].Self()}); err != nil {
		t.Errorf("lb1 cannot speak for itself: %v", err)
	}
	w.restart("lb1")
	w.whole(20 * time.Second)
	if err := say(LastWords{Member: w.nodes["lb1"].Self()}); err == nil {
		t.Error("an earlier life of lb1 was spoken for")
	}
}
