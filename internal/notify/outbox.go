package notify

import (
	"context"
	"io"
	"sync"
)

// Outbox holds what somebody who may have to wait is to deliver. It is bounded: when it is full the oldest item makes room
// for the newest, since the latest state is what matters. Its methods may be called by any goroutine; only Take waits.
type Outbox[T any] struct {
	limit int
	wake  chan struct{} // something has changed

	mu      sync.Mutex
	items   []T
	dropped int
	closed  bool
}

// NewOutbox makes an Outbox for at most limit items.
func NewOutbox[T any](limit int) *Outbox[T] {
	return &Outbox[T]{limit: limit, wake: make(chan struct{}, 1)}
}

// Put adds an item. It returns how many items have been dropped so far if that has just cost another one, else 0.
func (o *Outbox[T]) Put(item T) (dropped int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == o.limit {
		o.items = o.items[1:]
		o.dropped++
		dropped = o.dropped
	}
	o.items = append(o.items, item)
	o.notify()
	return dropped
}

// Take waits for an item and removes it. It returns io.EOF when the Outbox is closed and empty, and ctx's error when that
// ends first.
func (o *Outbox[T]) Take(ctx context.Context) (T, error) {
	for {
		if item, found, closed := o.next(); found {
			return item, nil
		} else if closed {
			return item, io.EOF
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}

func (o *Outbox[T]) next() (item T, found, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 {
		return item, false, o.closed
	}
	item, o.items = o.items[0], o.items[1:]
	return item, true, o.closed
}

// Close says that nothing more will be put in.
func (o *Outbox[T]) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.notify()
}

func (o *Outbox[T]) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
