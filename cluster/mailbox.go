package cluster

import (
	"context"
	"sync"
)

// Bounds of the mailbox: how many events of each kind wait for a reader that is late.
const (
	waitingMessages = 4096
	waitingApplied  = 4096
	waitingOthers   = 1024
)

// mailbox takes events from any goroutine without blocking it and hands them out in order. When the reader is late, the
// oldest event of the same kind gives way.
type mailbox struct {
	out  chan Event
	wake chan struct{}

	mu      sync.Mutex
	queue   []Event
	counts  [3]int
	missed  bool // an Applied was dropped
	dropped uint64
	handing bool // run is at work: what comes now has its turn after what run has taken
	closed  bool
}

func newMailbox() *mailbox {
	return &mailbox{out: make(chan Event), wake: make(chan struct{}, 1)}
}

func kindOf(e Event) (kind, limit int) {
	switch e.(type) {
	case Message:
		return 0, waitingMessages
	case Applied:
		return 1, waitingApplied
	default:
		return 2, waitingOthers
	}
}

func (b *mailbox) put(e Event) {
	kind, limit := kindOf(e)
	b.mu.Lock()
	if !b.handing && !b.closed && len(b.queue) == 0 {
		select {
		case b.out <- e: // to a reader that waits, without waking run for it
			b.mu.Unlock()
			return
		default:
		}
	}
	if b.counts[kind] >= limit {
		for i, old := range b.queue {
			if k, _ := kindOf(old); k == kind {
				b.queue = append(b.queue[:i], b.queue[i+1:]...)
				break
			}
		}
		b.counts[kind]--
		b.dropped++
		b.missed = b.missed || kind == 1
	}
	b.queue = append(b.queue, e)
	b.counts[kind]++
	b.mu.Unlock()
	nudge(b.wake)
}

func (b *mailbox) take() (Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handing = len(b.queue) > 0
	if !b.handing {
		return nil, false
	}
	e := b.queue[0]
	b.queue = b.queue[1:]
	if len(b.queue) == 0 {
		b.queue = nil
	}
	kind, _ := kindOf(e)
	b.counts[kind]--
	if a, ok := e.(Applied); ok && b.missed {
		a.Missed, b.missed = true, false
		e = a
	}
	return e, true
}

func (b *mailbox) droppedCount() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// run hands out events until ctx ends, then closes the channel.
func (b *mailbox) run(ctx context.Context) {
	defer b.close()
	for {
		e, ok := b.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-b.wake:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case b.out <- e:
		}
	}
}

func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	close(b.out)
}

// nudge wakes whoever waits for a channel that holds one token, or is to look at it next. It does not block.
func nudge(token chan<- struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}
