package speaker

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/internal/linux/rawsock"
	"github.com/hactl/had/vrrp/packet"
)

// Farewell is what another process needs to say that a virtual router is left to others, once the process that spoke for it
// is dead. It is plain data.
type Farewell struct {
	Config  Config
	Index   int        // of the interface; 0: none
	Source  netip.Addr // from which the router spoke
	Options packet.Options
	Stamp   packet.Stamp // of its last advertisement, with auth_hmac
}

// Farewell returns the router's, as it stands.
func (s *Speaker) Farewell() Farewell {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return Farewell{Config: s.config, Index: s.status.Index, Source: s.status.Source, Options: s.options, Stamp: s.stamp}
}

// Send sends an advertisement of priority 0 to the group or to each peer, through a socket of its own. It tries all peers
// and returns the errors.
func (f Farewell) Send() error {
	c := &f.Config
	socket, err := rawsock.Open(rawsock.Config{IPv6: c.IPv6, Interface: c.Interface, Index: f.Index, Group: c.group(), TTL: c.ttl()})
	if err != nil {
		return err
	}
	if c.Seal != nil {
		f.Stamp = c.Seal.Next(f.Stamp, time.Now())
	}
	var errs []error
	for _, destination := range c.destinations() {
		message, err := packet.Append(nil, c.advertisement(0), f.Source, destination, f.Options)
		if err == nil {
			err = socket.Send(f.Source, destination, c.Seal.Append(message, f.Source, f.Stamp))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("send advertisement of %s: %w", c.Name, err))
		}
	}
	return errors.Join(append(errs, socket.Close())...)
}
