//go:build integ

package integ

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// A host outside the cluster has the address when the directors start: none of them takes it over, all say whose hardware address
// that is, and once the host is gone the address has an owner.
func TestAnAddressThatAStrangerHasIsNotTakenOver(t *testing.T) {
	t.Parallel()
	for _, vip := range []netip.Addr{site.VIP4, site.VIP6} {
		t.Run(vip.String(), func(t *testing.T) {
			s := setUp(t, func(p *site.Plan) { p.VIPs = []netip.Addr{vip} })
			bits := site.Subnet4.Bits()
			if vip.Is6() {
				bits = site.Subnet6.Bits()
			}
			printer, err := s.Lab.AddHost("printer", netip.PrefixFrom(vip, bits))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.StartAll(); err != nil {
				t.Fatal(err)
			}
			if err := s.Poll(t.Context(), startLimit, func() error {
				for _, n := range s.Nodes {
					if n.Witness {
						continue
					}
					why, err := s.Hactl(t.Context(), n, "why", s.Group())
					if err != nil && why == "" {
						return err
					}
					if !strings.Contains(why, printer.MAC().String()) {
						return fmt.Errorf("%s does not name %v:\n%s", n.Name, printer.MAC(), why)
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			from := observer.Now()
			time.Sleep(5 * time.Second) // two looks
			v, err := s.Observer.Judge(t.Context(), from, observer.Now())
			if err != nil {
				t.Fatal(err)
			}
			figures.Judged(&v)
			for i := range v.VIPs {
				if owners := names(&v, &v.VIPs[i]); len(owners) != 1 || owners[0] == "lb1" || owners[0] == "lb2" {
					t.Errorf("%v answer for %v, want the stranger alone", owners, vip)
				}
			}
			if err := keep(s.Lab.CutPort(printer)); err != nil {
				t.Fatal(err)
			}
			awaitWhole(t, s)
			if err := printer.RemoveAddr(netip.PrefixFrom(vip, bits)); err != nil {
				t.Fatal(err)
			}
			if err := s.Lab.HealAll(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
