package speaker

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/rawsock"
)

// minIPv6MTU is the MTU in bytes below which the kernel gives up IPv6 on an interface, and all groups joined there.
const minIPv6MTU = 1280

// socket is what the Hub needs of a rawsock.Socket.
type socket interface {
	Send(src, dst netip.Addr, message []byte) error
	Receive() (rawsock.Datagram, error)
	Close() error
}

func openSocket(config rawsock.Config) (socket, error) { return rawsock.Open(config) }

// socketKey says which Speakers share a socket.
type socketKey struct {
	iface string
	ipv6  bool
	group netip.Addr // not valid: unicast
	ttl   int
}

// sharedSocket is a socket with what it is bound to.
type sharedSocket struct {
	key  socketKey
	link link.Link // as it was last seen; the zero Link without an interface
	socket
	users []*Speaker
}

func (c *Config) key() socketKey {
	return socketKey{iface: c.Interface, ipv6: c.IPv6, group: c.group(), ttl: c.ttl()}
}

// attachAll brings all Speakers on the named interfaces in line with what the table says. The Hub's lock is held.
func (h *Hub) attachAll(ifaces ...string) {
	for _, s := range h.speakers {
		if slices.Contains(ifaces, s.config.Interface) || s.config.Base != "" && slices.Contains(ifaces, s.config.Base) {
			status, refused := h.attach(s)
			if refused {
				h.retryLater(s.config.Interface)
			}
			s.setStatus(status)
		}
	}
	if err := h.closeUnused(); err != nil {
		h.log.Debug("close VRRP socket", "err", err)
	}
}

// retryLater attaches again after a while the Speakers on an interface where the kernel refused a socket.
func (h *Hub) retryLater(iface string) {
	if len(h.refused) == 0 {
		h.retry = time.AfterFunc(retryInterval, h.attachRefused)
	}
	h.refused[iface] = true
}

func (h *Hub) attachRefused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	ifaces := slices.Sorted(maps.Keys(h.refused))
	clear(h.refused)
	if !h.closed {
		h.attachAll(ifaces...)
	}
}

// attach gives s the socket for its interface and returns its status. refused says that the kernel would not open one.
func (h *Hub) attach(s *Speaker) (status Status, refused bool) {
	var l link.Link
	if s.config.Interface != "" {
		var ok bool
		if l, ok = h.table.ByName(s.config.Interface); !ok {
			h.detach(s)
			return Status{Err: fmt.Errorf("%s: %w", s.config.Interface, ErrNoInterface)}, false
		}
	}
	status = Status{Index: l.Index, Source: h.source(s, l)}
	if !s.config.unicast() && !l.Multicast {
		h.detach(s)
		status.Err = fmt.Errorf("%s: %w", l.Name, ErrNoMulticast)
		return status, false
	}
	shared, err := h.share(s.config.key(), l, s.config.ReceiveBuffer)
	if err != nil {
		h.detach(s)
		status.Err = err
		return status, true
	}
	if s.shared != shared {
		h.detach(s)
		s.shared = shared
		shared.users = append(shared.users, s)
	}
	if !status.Source.IsValid() {
		status.Err = fmt.Errorf("%s: %w", l.Name, ErrNoSource)
	}
	return status, false
}

// source returns the address from which s speaks on l.
func (h *Hub) source(s *Speaker, l link.Link) netip.Addr {
	if s.config.Source.IsValid() {
		return s.config.Source.WithZone("")
	}
	if s.config.Base != "" && !s.config.IPv6 {
		var ok bool
		if l, ok = h.table.ByName(s.config.Base); !ok {
			return netip.Addr{}
		}
	}
	exclude := func(addr netip.Addr) bool { return h.virtual[addr] > 0 }
	src, _ := h.table.Source(l.Index, s.config.IPv6, s.status.Source, exclude)
	return src
}

// share returns the socket for key, opened on l.
func (h *Hub) share(key socketKey, l link.Link, receiveBuffer int) (*sharedSocket, error) {
	if shared := h.sockets[key]; shared != nil {
		before := shared.link
		shared.link = l
		if before.Index == l.Index && !(key.ipv6 && before.MTU < minIPv6MTU && l.MTU >= minIPv6MTU) {
			return shared, nil
		}
		// Bound to an interface that is gone, or its groups are: its users come here one by one for the next one.
		h.discard(shared)
	}
	for _, s := range h.speakers {
		if s.config.key() == key {
			receiveBuffer = max(receiveBuffer, s.config.ReceiveBuffer)
		}
	}
	opened, err := h.open(rawsock.Config{
		IPv6:          key.ipv6,
		Interface:     key.iface,
		Index:         l.Index,
		Group:         key.group,
		TTL:           key.ttl,
		ReceiveBuffer: receiveBuffer,
	})
	if err != nil {
		return nil, err
	}
	shared := &sharedSocket{key: key, link: l, socket: opened}
	h.sockets[key] = shared
	h.readers.Add(1)
	go func() {
		defer h.readers.Done()
		h.read(shared)
	}()
	return shared, nil
}

// detach takes the socket from s.
func (h *Hub) detach(s *Speaker) {
	if s.shared == nil {
		return
	}
	s.shared.users = slices.DeleteFunc(s.shared.users, func(other *Speaker) bool { return other == s })
	s.shared = nil
}

// discard closes a socket that still has users. They keep it until they are attached again.
func (h *Hub) discard(shared *sharedSocket) {
	delete(h.sockets, shared.key)
	if err := shared.Close(); err != nil {
		h.log.Debug("close VRRP socket", "err", err)
	}
}

// closeUnused closes the sockets without users, all of them if the Hub has no Speakers.
func (h *Hub) closeUnused() error {
	var errs []error
	for key, shared := range h.sockets {
		if len(shared.users) == 0 || len(h.speakers) == 0 {
			delete(h.sockets, key)
			errs = append(errs, shared.Close())
		}
	}
	return errors.Join(errs...)
}
