package speaker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/rawsock"
)

// retryInterval is the time between two attempts to open a socket that the kernel refused.
const retryInterval = time.Second

// FrameSender sends one announcement frame. internal/linux/neigh has one.
type FrameSender interface {
	// Announce says on the link of l that addr is at its hardware address. It must not wait.
	Announce(l link.Link, addr netip.Addr, router bool) error
}

// unknownKept bounds what is remembered of senders of unknown virtual routers, whoever forges their addresses.
const unknownKept = 256

// Unknown is a virtual router of others, heard on an interface.
type Unknown struct {
	Interface string // empty: of a unicast router without one
	VRID      uint8
	From      netip.Addr
}

// Options are what a Hub needs.
type Options struct {
	Log    *slog.Logger
	Sender FrameSender

	// Forwarding tells whether an interface forwards IPv6, for the router flag of neighbour advertisements. nil: asks the
	// kernel.
	Forwarding func(iface string) bool

	// OnUnknown is called once for each sender and virtual router that no Speaker wants, as far as they are remembered, by
	// a goroutine that reads a socket. nil: nobody asks.
	OnUnknown func(Unknown)

	// Spacing returns the least distance between announcements on an interface. nil: none anywhere.
	Spacing func(iface string) Spacing
}

// Hub owns the sockets of all Speakers of a network namespace. Its methods may be called by any goroutine.
type Hub struct {
	log       *slog.Logger
	announcer *announcer
	onUnknown func(Unknown)
	open      func(rawsock.Config) (socket, error)
	readers   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	table    link.Table
	speakers []*Speaker // in the order of Open
	sockets  map[socketKey]*sharedSocket
	virtual  map[netip.Addr]int // number of Speakers that have this virtual address
	refused  map[string]bool    // interfaces where the kernel refused a socket
	retry    *time.Timer        // runs while refused is not empty
	unknown  uint64             // messages for no Speaker
	told     map[Unknown]bool   // to onUnknown
	closed   bool
}

// New returns a Hub without Speakers. Close ends it.
func New(options Options) *Hub {
	h := &Hub{
		log:       options.Log,
		onUnknown: options.OnUnknown,
		open:      openSocket,
		sockets:   make(map[socketKey]*sharedSocket),
		virtual:   make(map[netip.Addr]int),
		refused:   make(map[string]bool),
		told:      make(map[Unknown]bool),
	}
	h.announcer = newAnnouncer(options, h.linkByName)
	return h
}

// HandleLink takes an event of the link monitor. Sockets are opened in the network namespace of the calling thread.
func (h *Hub) HandleLink(ev link.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.table.Apply(ev)
	switch ev := ev.(type) {
	case link.LinkChanged:
		h.attachAll(ev.Before.Name, ev.Link.Name)
	case link.LinkRemoved:
		h.attachAll(ev.Link.Name)
	case link.AddressAdded:
		h.addressEvent(ev.Address)
	case link.AddressChanged:
		h.addressEvent(ev.Address)
	case link.AddressRemoved:
		h.addressEvent(ev.Address)
	case link.Synced:
	}
}

// addressEvent looks for sources again, unless the address is virtual, so that nobody speaks from it: those come and go by
// the hundred.
func (h *Hub) addressEvent(a address.Address) {
	if l, ok := h.table.ByIndex(a.Index); ok && h.virtual[a.Prefix.Addr()] == 0 {
		h.attachAll(l.Name)
	}
}

// Open opens a virtual router. handler gets each advertisement that passed all checks. If the Speaker cannot speak yet
// Open succeeds, Status says what is missing, and Config.OnStatus is told when it changes. Sockets are opened in the
// network namespace of the calling thread. Errors: a Config that can never work, ErrDuplicate.
func (h *Hub) Open(config Config, handler func(Received)) (*Speaker, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("open virtual router %s: %w", config.Name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("open virtual router %s: hub is closed", config.Name)
	}
	for _, other := range h.speakers {
		if other.config.conflicts(&config) {
			return nil, fmt.Errorf("open virtual router %s: %w as %s", config.Name, ErrDuplicate, other.config.Name)
		}
	}
	s := &Speaker{hub: h, config: config, handler: handler, options: config.Options}
	h.speakers = append(h.speakers, s)
	h.countVirtual(s, 1)
	h.attachAll(config.Interface)
	s.opened = true
	return s, nil
}

// conflicts tells whether messages for c could not be told from those for other. Unicast routers with different peers can
// share an identifier: the source tells them apart.
func (c *Config) conflicts(other *Config) bool {
	if c.VRID != other.VRID || c.Interface != other.Interface || c.IPv6 != other.IPv6 || c.group() != other.group() {
		return false
	}
	for _, peer := range other.Peers {
		if c.hasPeer(peer.Addr.WithZone("")) {
			return true
		}
	}
	return !other.unicast()
}

// Check reports everything for which a Hub could not have these virtual routers together: each that can never work, and
// each that could not be told from an earlier one.
func Check(configs []Config) (errs []error) {
	for i := range configs {
		if err := configs[i].validate(); err != nil {
			errs = append(errs, fmt.Errorf("virtual router %s: %w", configs[i].Name, err))
		}
		for j := range i {
			if configs[j].conflicts(&configs[i]) {
				errs = append(errs, fmt.Errorf("virtual router %s: %w as %s", configs[i].Name, ErrDuplicate, configs[j].Name))
			}
		}
	}
	return errs
}

// Close closes all Speakers and waits until no handler runs. It must not be called by a handler.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	for _, s := range h.speakers {
		h.countVirtual(s, -1)
		s.setStatus(Status{Err: errClosed})
	}
	h.speakers = nil
	if h.retry != nil {
		h.retry.Stop()
	}
	err := h.closeUnused()
	h.mu.Unlock()
	h.announcer.close()
	h.readers.Wait()
	return err
}

// Unknown returns the number of messages received that no Speaker wanted.
func (h *Hub) Unknown() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unknown
}

func (h *Hub) linkByName(name string) (link.Link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.table.ByName(name)
}

func (h *Hub) countVirtual(s *Speaker, change int) {
	for _, list := range [...][]netip.Addr{s.config.Addresses, s.config.Excluded} {
		for _, addr := range list {
			h.virtual[addr] += change
			if h.virtual[addr] == 0 {
				delete(h.virtual, addr)
			}
		}
	}
}

var errClosed = errors.New("virtual router is closed")
