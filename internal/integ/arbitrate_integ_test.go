//go:build integ

package integ

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
)

// newPair sets up two directors without a witness, between which a gateway decides, and starts them.
func newPair(t *testing.T) (s *site.Site, gw *lab.Host) {
	s = setUp(t, func(p *site.Plan) {
		p.Members, p.AdvertInterval, p.Version = site.Trio()[:2], 500*time.Millisecond, 3
		p.Cluster = []string{"gateway 10.77.0.254 { interval 0.5 }", "arbitration gateway"}
	})
	gw, err := s.Lab.AddHost("gw", netip.PrefixFrom(gateway4, site.Subnet4.Bits()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	awaitWhole(t, s)
	return s, gw
}

// withinSilence is how long the one that is left waits: until an answer of the gateway does not count any more, which is 2 s here, and up
// to three quarters of a lease.
func withinSilence(s *scene) time.Duration {
	return 2*time.Second*102/100 + leaseIntervals*s.AdvertInterval*3/8 + allowance
}

// withinHalfALease is for what takes milliseconds where the machine is not busy, and would take more than a lease if the companion were not heard.
func withinHalfALease(s *scene) time.Duration { return leaseIntervals * s.AdvertInterval / 4 }

// cutCluster cuts a director's cluster port, while advertisements pass.
func (s *scene) cutCluster(n *site.Node) error {
	var errs []error
	for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, other := range s.Nodes {
			if other != n {
				errs = append(errs, keep(s.Lab.DropProtocol(protocol, n.Host, other.Host)))
			}
		}
	}
	return errors.Join(errs...)
}

// Two directors without a witness: the one that is left and sees the gateway keeps what it has, or takes over, and none of both has it
// when they meet again. Takes 25 s.
func TestOneOfTwoDirectorsDies(t *testing.T) {
	t.Parallel()
	s, _ := newPair(t)
	back := func(s *scene) error { return s.Start(s.owner) }
	for _, tr := range []trial{
		{name: "kill -9 of the daemon of the owner of two", expect: moves, bound: withinHalfALease,
			prepare: func(*testing.T) { time.Sleep(2 * leaseIntervals * s.AdvertInterval / 2) }, // until each knows that the other one lives
			during:  func(t *testing.T, s *scene) { saysHeld(t, s.Site, s.other) },
			make:    func(s *scene) error { return s.KillDaemon(s.owner) }, heal: back},
		{name: "the owner of two is killed, and comes back", id: "A01", expect: moves, bound: withinSilence,
			during: func(t *testing.T, s *scene) { saysHeld(t, s.Site, s.other) },
			make:   func(s *scene) error { return s.Kill(s.owner) }, heal: back},
		{name: "the owner of two is killed, the other one restarted", id: "A02", expect: moves,
			make: func(s *scene) error { return errors.Join(s.Kill(s.owner), s.Kill(s.other), s.Start(s.other)) }, heal: back},
		{name: "the owner of two ends", id: "A01", expect: moves, bound: withinHandover,
			make: func(s *scene) error { return s.Terminate(s.owner) }, heal: back},
	} {
		play(t, s, tr)
	}
}

// There are never two owners while only one of two directors sees the gateway, or while they hear each other. Takes 40 s.
func TestTheGatewayDecidesBetweenTwoDirectors(t *testing.T) {
	t.Parallel()
	s, gw := newPair(t)
	for _, tr := range []trial{
		{name: "the owner of two is cut off from everybody", id: "A01", expect: moves, bound: withinSilence,
			make: func(s *scene) error { return keep(s.Lab.CutPort(s.owner.Host)) }},
		{name: "the other one of two is cut off from everybody", id: "A03", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
			during: func(t *testing.T, s *scene) { saysHeld(t, s.Site, s.owner) },
			make:   func(s *scene) error { return keep(s.Lab.CutPort(s.other.Host)) }},
		{name: "two are cut from each other, the owner from the gateway, and clients reach both", id: "A04", expect: moves, bound: withinSilence,
			make: func(s *scene) error {
				return errors.Join(keep(s.Lab.DropPair(s.owner.Host, gw)), keep(s.Lab.DropPair(s.owner.Host, s.other.Host)))
			}},
		{name: "the cluster's port of two is cut, and they hear each other", id: "A05", expect: stays, bound: withoutLoss, hold: 4 * time.Second,
			make: func(s *scene) error { return s.cutCluster(s.owner) }},
		{name: "the gateway of two is down, and both are alive", id: "A06", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.CutPort(gw)) }},
	} {
		playings := 0
		tr.prepare = func(t *testing.T) { // who has lost its gateway often is held back
			if playings++; playings == 1 {
				return
			}
			for _, n := range s.Nodes {
				if err := errors.Join(s.Terminate(n), s.Start(n), s.AwaitHealthy(t.Context(), startLimit)); err != nil {
					t.Fatal(err)
				}
			}
		}
		play(t, s, tr)
	}
	// What is not promised: both see the gateway and nothing of each other.
	t.Run("two are cut from each other, and both see the gateway: two owners, until they meet", func(t *testing.T) {
		owner, other := awaitWhole(t, s)
		if err := keep(s.Lab.DropPair(owner.Host, other.Host)); err != nil {
			t.Fatal(err)
		}
		awaitOwners(t, s, 2)
		if err := s.Lab.HealAll(); err != nil {
			t.Fatal(err)
		}
		healed := time.Now()
		for {
			time.Sleep(50 * time.Millisecond)
			if names := s.Observer.Owners(s.VIPs[0], recentOwners); len(names) == 1 {
				break
			}
			if time.Since(healed) > 2*s.AdvertInterval+allowance {
				t.Fatalf("%v after they meet again the owners are %v", time.Since(healed), s.Observer.Owners(s.VIPs[0], recentOwners))
			}
		}
		awaitWhole(t, s)
	})
}

// recentOwners is the time over which the observer is asked who owns an address now.
const recentOwners = 100 * time.Millisecond
