//go:build integ

package integ

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// saysHeld waits until an owner says that it keeps its group without a majority.
func saysHeld(t *testing.T, s *site.Site, owner *site.Node) {
	t.Helper()
	if err := s.Poll(t.Context(), recoverLimit, func() error {
		status, err := s.Status(t.Context(), owner)
		if err != nil {
			return err
		}
		if g := status.Groups[0]; g.State != api.Held || g.Owner != owner.Name || g.Protected {
			return fmt.Errorf("%s is %s by %q", g.Name, g.State, g.Owner)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, ask := range [][]string{{"cluster", "status"}, {"why", s.Group()}, {"events"}} {
		out, err := s.Hactl(t.Context(), owner, ask...)
		if !strings.Contains(out+fmt.Sprint(err), "UNPROTECTED") {
			t.Errorf("hactl %v does not say UNPROTECTED: %v\n%s", ask, err, out)
		}
	}
}

// quorum_loss hold: an owner that loses the majority keeps its address, says that it is unprotected, and gives it up when its gateway
// goes; once a majority answers again a lease stands behind it, without an interruption. Takes 45 s.
func TestQuorumLossHold(t *testing.T) {
	t.Parallel()
	s := setUp(t, func(p *site.Plan) { p.Cluster = []string{"gateway 10.77.0.254 { interval 0.5 }", "quorum_loss hold"} })
	gw, err := s.Lab.AddHost("gw", netip.PrefixFrom(gateway4, site.Subnet4.Bits()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	awaitWhole(t, s)

	lose := func(t *testing.T, nodes ...*site.Node) {
		for _, n := range nodes {
			if err := s.Kill(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := func(t *testing.T, nodes ...*site.Node) {
		for _, n := range nodes {
			if err := s.Start(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.AwaitHealthy(t.Context(), startLimit); err != nil {
			t.Fatal(err)
		}
	}
	// kept plays a part in which the owner keeps the address all the time, until the observer was awake.
	kept := func(name string, part func(t *testing.T, owner, other *site.Node)) {
		t.Run(name, func(t *testing.T) {
			for range attempts {
				owner, other := awaitWhole(t, s)
				from := observer.Now()
				time.Sleep(calm)
				part(t, owner, other)
				v, err := s.Observer.Judge(t.Context(), from, observer.Now())
				if err != nil {
					t.Fatal(err)
				}
				figures.Judged(&v)
				t.Logf("%s: %s", name, v.String())
				if v.DualFor() > 0 {
					t.Errorf("two owners: %s", v.String())
				}
				if v.Void == "" && v.Interruption() > none {
					t.Errorf("out for %s", v.Interruption())
				}
				s.Observer.Forget(observer.Now().Add(-time.Second))
				if v.Void == "" || t.Failed() {
					return
				}
			}
			t.Errorf("the observer was not awake in any of %d attempts: nothing is proved", attempts)
		})
	}

	kept("the others are gone, and come back", func(t *testing.T, owner, other *site.Node) {
		lose(t, other, s.Witness())
		saysHeld(t, s, owner)
		time.Sleep(2 * time.Second)
		start(t, other, s.Witness())
	})
	kept("the cluster's port alone is cut off: the other director hears the owner", func(t *testing.T, owner, _ *site.Node) {
		for _, n := range s.Nodes {
			for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				if n != owner {
					if err := keep(s.Lab.DropProtocol(protocol, owner.Host, n.Host)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		saysHeld(t, s, owner)
		time.Sleep(3 * time.Second)
		if err := s.Lab.HealAll(); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitHealthy(t.Context(), startLimit); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the gateway goes", func(t *testing.T) {
		owner, other := awaitWhole(t, s)
		lose(t, other, s.Witness())
		saysHeld(t, s, owner)
		if err := keep(s.Lab.CutPort(gw)); err != nil {
			t.Fatal(err)
		}
		awaitOwners(t, s, 0)
		if err := s.Lab.HealAll(); err != nil {
			t.Fatal(err)
		}
		start(t, other, s.Witness())
	})
	t.Run("killed, it keeps nothing", func(t *testing.T) {
		owner, other := awaitWhole(t, s)
		lose(t, other, s.Witness())
		saysHeld(t, s, owner)
		lose(t, owner)
		awaitOwners(t, s, 0)
		start(t, owner, other, s.Witness())
	})
	t.Run("it is cut off from everybody but the clients: two owners, until they meet", func(t *testing.T) {
		lb1, lb2 := s.Nodes[0], s.Nodes[1] // lb1 has the higher priority: VRRP would have the owner with the lease give way to it
		for range attempts {
			if owner, _ := awaitWhole(t, s); owner != lb1 {
				move(t, s, lb1, lb1)
			}
			for _, n := range s.Nodes[1:] {
				if err := keep(s.Lab.DropPair(lb1.Host, n.Host)); err != nil {
					t.Fatal(err)
				}
			}
			awaitOwners(t, s, 2)
			saysHeld(t, s, lb1)
			from := observer.Now()
			if err := s.Lab.HealAll(); err != nil {
				t.Fatal(err)
			}
			ownedBy(t, s, lb2)
			if err := s.AwaitHealthy(t.Context(), startLimit); err != nil {
				t.Fatal(err)
			}
			v, err := s.Observer.Judge(t.Context(), from, observer.Now())
			if err != nil {
				t.Fatal(err)
			}
			figures.Judged(&v)
			t.Logf("they meet: %s", v.String())
			if v.Interruption() > handover && v.Void == "" {
				t.Errorf("out for %s when they met", v.Interruption())
			}
			if v.DualFor() > s.AdvertInterval+allowance && v.Void == "" {
				t.Errorf("two owners for %s after they met", v.DualFor())
			}
			s.Observer.Forget(observer.Now().Add(-time.Second))
			if v.Void == "" || t.Failed() {
				return
			}
		}
		t.Errorf("the observer was not awake in any of %d attempts: nothing is proved", attempts)
	})
}

// awaitOwners waits until so many have answered for the first address for a while.
func awaitOwners(t *testing.T, s *site.Site, n int) {
	t.Helper()
	if err := s.Poll(t.Context(), recoverLimit, func() error {
		if owners := s.Observer.Owners(s.VIPs[0], settled); len(owners) != n {
			return fmt.Errorf("the owners are %v", owners)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
