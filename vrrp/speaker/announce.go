package speaker

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/sysctl"
)

// Announce queues repeat announcements of each target and returns at once. Immediately before each frame check is called,
// on the announcing goroutine: when it returns false the frame and all that remain of this call are dropped. check must
// be quick and must not call the Hub or a Speaker. A target whose interface does not exist is left out.
func (s *Speaker) Announce(targets []Target, repeat int, check func() bool) {
	s.hub.announcer.announce(&burst{owner: s, targets: slices.Clone(targets), rounds: repeat, check: check})
}

// CancelAnnouncements drops what is queued for this Speaker. When it returns no further frame will be sent: one that was
// being sent has left.
func (s *Speaker) CancelAnnouncements() { s.hub.announcer.cancel(s) }

// announcer sends the announcements of a Hub on one goroutine.
type announcer struct {
	log        *slog.Logger
	sender     FrameSender
	forwarding func(iface string) bool
	linkByName func(string) (link.Link, bool)
	start      time.Time
	wake       chan struct{} // has room for one
	done       chan struct{} // closed to end the goroutine
	ended      chan struct{} // closed by it

	mu    sync.Mutex // guards queue, and is held from a check to the end of its frame
	queue queue
}

func newAnnouncer(options Options, linkByName func(string) (link.Link, bool)) *announcer {
	a := &announcer{
		log:        options.Log,
		sender:     options.Sender,
		forwarding: options.Forwarding,
		linkByName: linkByName,
		start:      time.Now(),
		wake:       make(chan struct{}, 1),
		done:       make(chan struct{}),
		ended:      make(chan struct{}),
		queue:      queue{spacing: options.Spacing, free: make(map[spacingKey]time.Duration)},
	}
	if a.queue.spacing == nil {
		a.queue.spacing = func(string) Spacing { return Spacing{} }
	}
	if a.forwarding == nil {
		a.forwarding = sysctl.ForwardingIPv6
	}
	go a.run()
	return a
}

func (a *announcer) announce(b *burst) {
	a.mu.Lock()
	a.queue.add(b)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (a *announcer) cancel(owner *Speaker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue.cancel(owner)
}

func (a *announcer) close() {
	close(a.done)
	<-a.ended
}

func (a *announcer) run() {
	defer close(a.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, more := a.step()
		if more {
			select {
			case <-a.done:
				return
			default:
			}
			continue
		}
		var due <-chan time.Time // nil, which is never ready, for an empty queue
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-a.done:
			return
		case <-a.wake:
		case <-due:
		}
	}
}

// step sends at most one frame. more is false if none may be sent before wait is over, or ever (0) with an empty queue.
func (a *announcer) step() (wait time.Duration, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, target, wait, ok := a.queue.take(time.Since(a.start))
	if !ok {
		return wait, false
	}
	l, exists := a.linkByName(target.Interface)
	if !exists || l.NoARP || !l.Ethernet {
		return 0, true
	}
	router := target.Address.Is6() && a.router(b, l.Name)
	if !b.check() {
		a.queue.drop(b)
		return 0, true
	}
	if err := a.sender.Announce(l, target.Address, router); err != nil {
		a.log.Warn("address was not announced", "instance", b.owner.config.Name, "vip", target.Address,
			"iface", l.Name, "err", err)
	}
	return 0, true
}

// router returns the router flag of an interface, looked up once for a burst.
func (a *announcer) router(b *burst, iface string) bool {
	router, known := b.router[iface]
	if !known {
		router = a.forwarding(iface)
		if b.router == nil {
			b.router = make(map[string]bool)
		}
		b.router[iface] = router
	}
	return router
}
