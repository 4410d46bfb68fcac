package neigh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/linux/link"
)

// ErrNoInterface is the cause when there is no interface of the given name.
var ErrNoInterface = errors.New("interface does not exist")

// question is a running Ask.
type question struct {
	iface    string
	addrs    []netip.Addr
	answers  map[netip.Addr]Claim
	complete chan struct{} // closed when every address was claimed
}

// heard takes a claim by another station. The watcher's lock is held.
func (q *question) heard(c Claim) {
	if c.Interface != q.iface {
		return
	}
	if _, known := q.answers[c.Addr]; known {
		return
	}
	if !slices.Contains(q.addrs, c.Addr) {
		return
	}
	q.answers[c.Addr] = c
	if len(q.answers) == len(q.addrs) {
		close(q.complete)
	}
}

// Ask looks whether another station on the link of the interface has one of the addresses: it asks for each of them
// attempts times, evenly spread over the timeout, and returns the first claim of each address that was heard. It returns
// when all were claimed, after the timeout, or with the error of ctx when ctx is done. Addresses must be different.
//
// source is the address of ours from which it asks, of the family of addrs. An unspecified one makes it a question that changes
// nobody's neighbour cache: for IPv4 without an address, for IPv6 from a link-local address of the interface.
//
// No claim and no error means that nobody answered, which is all that can be known. Errors: ErrNoInterface, ErrUnable,
// those of sending; claims that were heard are returned with them.
func (w *Watcher) Ask(
	ctx context.Context, iface string, addrs []netip.Addr, source netip.Addr, attempts int, timeout time.Duration,
) ([]Claim, error) {
	l, src, q, err := w.begin(iface, addrs, source)
	if err != nil {
		return nil, fmt.Errorf("ask who has %v on %s: %w", addrs, iface, err)
	}
	err = w.ask(ctx, l, src, q, attempts, timeout)
	claims := w.end(q)
	if err != nil {
		return claims, fmt.Errorf("ask who has %v on %s: %w", addrs, iface, err)
	}
	return claims, nil
}

func (w *Watcher) ask(
	ctx context.Context, l link.Link, src netip.Addr, q *question, attempts int, timeout time.Duration,
) error {
	attempts = max(attempts, 1)
	for range attempts {
		var errs []error
		for _, addr := range q.addrs {
			errs = append(errs, w.sender.Ask(l, addr, src))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		timer := time.NewTimer(timeout / time.Duration(attempts))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-q.complete:
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
	return nil
}

// begin starts to listen for claims of the addresses.
func (w *Watcher) begin(iface string, addrs []netip.Addr, src netip.Addr) (link.Link, netip.Addr, *question, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.table.ByName(iface)
	if !ok {
		return link.Link{}, netip.Addr{}, nil, ErrNoInterface
	}
	q := &question{
		iface:    iface,
		addrs:    addrs,
		answers:  make(map[netip.Addr]Claim),
		complete: make(chan struct{}),
	}
	asked := func(addr netip.Addr) bool { return slices.Contains(addrs, addr) }
	if !src.IsValid() {
		if src, ok = w.table.Source(l.Index, true, netip.Addr{}, asked); !ok {
			src = netip.IPv6Unspecified()
		}
	}
	w.questions[q] = struct{}{}
	w.listen(iface)
	return l, src, q, nil
}

// end stops listening and returns what was heard, in the order of the question.
func (w *Watcher) end(q *question) []Claim {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.questions, q)
	w.listen(q.iface)
	var claims []Claim
	for _, addr := range q.addrs {
		if c, ok := q.answers[addr]; ok {
			claims = append(claims, c)
		}
	}
	return claims
}
