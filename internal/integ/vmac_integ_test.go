//go:build integ

package integ

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// vmacSite is a site whose directors have the virtual MAC addresses of their instances, and whose observer tells them apart
// all the same.
func vmacSite(t *testing.T, change func(*site.Plan)) *site.Site {
	t.Helper()
	s := setUp(t, func(p *site.Plan) {
		p.VIPs = []netip.Addr{site.VIP4, site.VIP6}
		p.Instance = []string{"use_vmac"}
		if change != nil {
			change(p)
		}
	})
	err := s.Lab.TellApart(s.Client, net.HardwareAddr{0, 0, 0x5e, 0, 1, 51}, net.HardwareAddr{0, 0, 0x5e, 0, 2, 52})
	if err := errors.Join(err, s.StartAll()); err != nil {
		t.Fatal(err)
	}
	awaitWhole(t, s)
	return s
}

// TestOneOwnerWithTheVirtualMAC plays faults on directors that share their hardware addresses.
func TestOneOwnerWithTheVirtualMAC(t *testing.T) {
	t.Parallel()
	s := vmacSite(t, nil)
	for _, tr := range []trial{
		killOwner, freezeOwner,
		{
			name: "the owner is cut off", id: "N01", expect: moves, bound: withinDownInterval, hold: time.Second,
			make: func(s *scene) error { return keep(s.Lab.CutPort(s.owner.Host)) },
		},
		{
			name: "a planned move", expect: moves, bound: withinHandover, hold: time.Second,
			make: func(s *scene) error {
				_, err := s.Hactl(s.ctx, s.owner, "move", s.Group(), "--to", s.other.Name, "--yes")
				return err
			},
		},
		{
			name: "somebody deletes the owner's VMACs", expect: whatever, hold: time.Second,
			make: func(s *scene) error {
				return errors.Join(deleteLink(s.owner.Host, "vrrp.51"), deleteLink(s.owner.Host, "vrrp.52"))
			},
			during: func(t *testing.T, s *scene) {
				if !s.owner.Running() {
					t.Errorf("%s has ended", s.owner.Name)
				}
			},
		},
	} {
		play(t, s, tr)
	}
}

func deleteLink(h *lab.Host, name string) error {
	link, err := h.Netlink().LinkByName(name)
	if err != nil {
		return err
	}
	return h.Netlink().LinkDel(link)
}

// TestObserverTellsVirtualMACsApart is the positive control: a frozen keepalived keeps its addresses, and that is seen.
func TestObserverTellsVirtualMACsApart(t *testing.T) {
	t.Parallel()
	path := keepalived(t)
	s := vmacSite(t, func(p *site.Plan) { p.Keepalived = path })
	for range attempts {
		sc := &scene{Site: s, ctx: t.Context()}
		sc.owner, sc.other = awaitWhole(t, s)
		from := observer.Now()
		if err := s.Freeze(sc.owner); err != nil {
			t.Fatal(err)
		}
		time.Sleep(s.DownInterval(sc.other.Member) + time.Second)
		v, err := s.Observer.Judge(t.Context(), from, observer.Now())
		if err := errors.Join(err, s.Thaw(sc.owner)); err != nil {
			t.Fatal(err)
		}
		t.Log(v.String())
		if v.Void == "" {
			for i := range v.VIPs {
				if v.VIPs[i].DualFor == 0 {
					t.Errorf("two owners of %s were not seen", v.VIPs[i].VIP)
				}
			}
			return
		}
	}
	t.Errorf("the observer was not awake in any of %d attempts: nothing is proved", attempts)
}
