//go:build integ

package integ

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/linux/ether"
)

// allNodes is the hardware address of ff02::1, to which neighbour advertisements go that nobody asked for (RFC 2464 section 7).
var allNodes = ether.MAC{0x33, 0x33, 0, 0, 0, 1}

// A router that has learnt the addresses does not ask again, and what the new owner announces is lost for as long as the fault lasts. The
// announcements that garp_master_refresh repeats tell it afterwards.
func TestAnnouncementsThatAreLost(t *testing.T) {
	t.Parallel()
	s := setUp(t, func(p *site.Plan) {
		p.Period = 5 * time.Millisecond // nothing of this is a matter of milliseconds
		p.VIPs = []netip.Addr{site.VIP4, site.VIP6}
		p.Instance = []string{"garp_master_refresh 1"}
	})
	host, err := s.Lab.AddHost("router", netip.MustParsePrefix("10.77.0.254/24"), netip.MustParsePrefix("fd00:77::254/64"))
	if err != nil {
		t.Fatal(err)
	}
	router := neighbour{host}
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	play(t, s, trial{
		name: "what the new owner announces is lost", id: "N23", expect: moves, bound: withinDownInterval,
		make: func(s *scene) error {
			for _, vip := range s.VIPs {
				if err := router.learn(vip, s.owner.Host); err != nil {
					return err
				}
			}
			return errors.Join(keep(s.Lab.Drop("announcements of "+s.other.Name+" are lost",
				lab.Filter{From: s.other.Host, EtherType: ether.TypeARP, Destination: ether.Broadcast},
				lab.Filter{From: s.other.Host, EtherType: ether.TypeIPv6, Destination: allNodes})), s.Kill(s.owner))
		},
		during: func(t *testing.T, s *scene) {
			for _, vip := range s.VIPs {
				if err := router.believes(vip, s.owner.Host); err != nil {
					t.Errorf("nothing is proved: %v", err)
				}
			}
			if err := s.Lab.HealAll(); err != nil {
				t.Fatal(err)
			}
			for _, vip := range s.VIPs {
				if err := s.Poll(s.ctx, recoverLimit, func() error { return router.believes(vip, s.other.Host) }); err != nil {
					t.Error(err)
				}
			}
		},
		heal: func(s *scene) error { return s.Start(s.owner) },
	})
}

// neighbour is a host of which it matters what its kernel knows of others.
type neighbour struct{ *lab.Host }

// learn makes its kernel believe that a host has an address, as if it had asked.
func (n neighbour) learn(addr netip.Addr, owner *lab.Host) error {
	link, err := n.Netlink().LinkByName(lab.Interface)
	if err != nil {
		return err
	}
	return n.Netlink().NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_REACHABLE, IP: addr.AsSlice(),
		HardwareAddr: owner.MAC()})
}

// believes returns an error unless its kernel takes a host for the one that has an address.
func (n neighbour) believes(addr netip.Addr, owner *lab.Host) error {
	link, err := n.Netlink().LinkByName(lab.Interface)
	if err != nil {
		return err
	}
	list, err := n.Netlink().NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, entry := range list {
		if entry.IP.Equal(addr.AsSlice()) {
			if entry.HardwareAddr.String() == owner.MAC().String() {
				return nil
			}
			return fmt.Errorf("%s takes %s for the one that has %s, and not %s", n.Name(), entry.HardwareAddr, addr, owner.MAC())
		}
	}
	return fmt.Errorf("%s knows nobody that has %s", n.Name(), addr)
}
