package neigh

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
)

// Watcher reports claims of addresses on interfaces. Interfaces are given by name and may come, go and be renamed; the
// Watcher listens whenever one of that name exists. Its methods may be called by any goroutine.
//
// It has one goroutine for each protocol that it listens for on an interface, and none otherwise.
type Watcher struct {
	log     *slog.Logger
	sender  *Sender
	onClaim func(Claim)
	start   time.Time

	mu        sync.Mutex // guards what follows
	table     link.Table
	local     map[ether.MAC]int // number of interfaces of this machine with this MAC
	watched   map[string][]netip.Addr
	questions map[*question]struct{}
	ports     map[string]*ports
	deaf      map[string]struct{} // interfaces on which not all that is wanted is heard
	repeats   repeats
	closed    bool
}

// NewWatcher returns a Watcher that reports to onClaim, which is called by the Watcher's goroutines, several at a time,
// and must not wait or call the Watcher. sender asks for the addresses of Ask. Nothing is heard before HandleLink has
// reported interfaces.
func NewWatcher(log *slog.Logger, sender *Sender, onClaim func(Claim)) *Watcher {
	return &Watcher{
		log:       log,
		sender:    sender,
		onClaim:   onClaim,
		start:     time.Now(),
		local:     make(map[ether.MAC]int),
		watched:   make(map[string][]netip.Addr),
		questions: make(map[*question]struct{}),
		ports:     make(map[string]*ports),
		deaf:      make(map[string]struct{}),
	}
}

// HandleLink takes an event of the link monitor. Sockets are opened in the network namespace of the calling thread.
func (w *Watcher) HandleLink(ev link.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.table.Apply(ev)
	switch ev := ev.(type) {
	case link.LinkChanged:
		w.count(ev.Before, -1)
		w.count(ev.Link, 1)
		if ev.Before.Name != ev.Link.Name {
			w.listen(ev.Before.Name)
		}
		w.listen(ev.Link.Name)
	case link.LinkRemoved:
		w.count(ev.Link, -1)
		w.listen(ev.Link.Name)
	}
}

func (w *Watcher) count(l link.Link, change int) {
	if l.MAC.IsZero() {
		return
	}
	w.local[l.MAC] += change
	if w.local[l.MAC] == 0 {
		delete(w.local, l.MAC)
	}
}

// Watch replaces the addresses whose claims on the interface are reported. No addresses end it.
func (w *Watcher) Watch(iface string, addrs []netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(addrs) == 0 {
		delete(w.watched, iface)
	} else {
		w.watched[iface] = slices.Clone(addrs)
	}
	w.listen(iface)
}

// Retry listens again where it was not possible, as when there were no file descriptors left.
func (w *Watcher) Retry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range maps.Clone(w.deaf) {
		w.listen(name)
	}
}

// Close ends all watching. No claim is reported after it returns, except by calls of onClaim that have begun.
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for name := range maps.Clone(w.ports) {
		w.listen(name)
	}
}

// listen adjusts what is heard on an interface to what is watched and asked there.
func (w *Watcher) listen(name string) {
	l, exists := w.table.ByName(name)
	wanted := w.wanted(name)
	ps := w.ports[name]
	if ps != nil && ps.link.Index != l.Index {
		w.closePorts(name, ps)
		ps = nil
	}
	switch {
	case !exists || !l.Ethernet || l.NoARP || len(wanted) == 0:
		if ps != nil {
			w.closePorts(name, ps)
		}
		delete(w.deaf, name)
		return
	case ps == nil:
		ps = &ports{link: l, report: w.claimed}
		w.ports[name] = ps
	}
	_, deaf := w.deaf[name]
	switch err := ps.listen(wanted); {
	case err == nil:
		delete(w.deaf, name)
	case !deaf:
		w.deaf[name] = struct{}{}
		w.log.Error("claims of addresses are not heard; tried again", "iface", name, "err", err)
	}
}

func (w *Watcher) closePorts(name string, ps *ports) {
	if err := ps.listen(nil); err != nil {
		w.log.Debug("close packet socket", "iface", name, "err", err)
	}
	delete(w.ports, name)
}

// wanted returns the addresses that are watched or asked for on an interface, without repetition.
func (w *Watcher) wanted(name string) []netip.Addr {
	if w.closed {
		return nil
	}
	wanted := slices.Clone(w.watched[name])
	for q := range w.questions {
		if q.iface == name {
			wanted = append(wanted, q.addrs...)
		}
	}
	slices.SortFunc(wanted, netip.Addr.Compare)
	return slices.Compact(wanted)
}

// claimed takes a claim that was heard on an interface.
func (w *Watcher) claimed(l link.Link, c Claim) {
	w.mu.Lock()
	c.Ours = w.local[c.MAC] > 0 && !virtualRouterMAC(c.MAC)
	if !c.Ours {
		for q := range w.questions {
			q.heard(c)
		}
	}
	report := !w.closed && slices.Contains(w.watched[l.Name], c.Addr)
	if report {
		c.Suppressed, report = w.repeats.admit(c, time.Since(w.start))
	}
	w.mu.Unlock()
	if report {
		w.onClaim(c)
	}
}
