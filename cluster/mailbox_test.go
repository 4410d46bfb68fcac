package cluster

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Events come in the order in which they were put, whether their reader waits for them or is late; and whoever puts one after the end
// does no harm.
func TestTheMailboxKeepsTheOrder(t *testing.T) {
	const writers, events = 4, 900 // below the bound of a kind in all
	b := newMailbox()
	go b.run(t.Context())
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range events {
				b.put(Message{From: MemberID(fmt.Sprint(w)), Payload: []byte(fmt.Sprint(i))})
				if i%100 == 0 {
					time.Sleep(time.Millisecond) // the reader catches up, and waits
				}
			}
		})
	}
	next := map[MemberID]int{}
	for n := range writers * events {
		m := (<-b.out).(Message)
		if want := fmt.Sprint(next[m.From]); string(m.Payload) != want {
			t.Fatalf("event %s of writer %s comes instead of %s", m.Payload, m.From, want)
		}
		next[m.From]++
		if n%50 == 0 {
			runtime.Gosched()
		}
	}
	writing.Wait()
	if n := b.droppedCount(); n != 0 {
		t.Errorf("%d were dropped", n)
	}
}

func TestTheMailboxMayBePutToAfterItsEnd(t *testing.T) {
	b := newMailbox()
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(ctx)
	}()
	end()
	<-done
	b.put(Message{})
	if _, open := <-b.out; open {
		t.Error("an event comes after the end")
	}
}
