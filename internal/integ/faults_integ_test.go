//go:build integ

package integ

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// Faults that kill or silence the owner, in the order of the catalogue in the documentation.
var (
	killOwner = trial{
		name: "kill -9 of all of the owner's processes", expect: moves, bound: withinDownInterval,
		make: func(s *scene) error { return s.Kill(s.owner) },
		heal: func(s *scene) error { return s.Start(s.owner) },
	}
	freezeOwner = trial{
		name: "SIGSTOP of all of the owner's processes", expect: moves, bound: withinDownInterval, hold: 2 * time.Second,
		make: func(s *scene) error { return s.Freeze(s.owner) },
		heal: func(s *scene) error { return s.Thaw(s.owner) },
	}
	blockVRRP = trial{
		name: "VRRP dropped between the directors", expect: stays, bound: withoutLoss, hold: 9 * time.Second,
		make: func(s *scene) error { return keep(s.Lab.DropProtocol(site.VRRP, s.owner.Host, s.other.Host)) },
		during: func(t *testing.T, s *scene) {
			status, err := s.Status(s.ctx, s.other)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s says: %s", s.other.Name, site.Describe(status))
			if !strings.Contains(strings.ToLower(site.Describe(status)), "advert") {
				t.Errorf("the status does not say that advertisements are not arriving")
			}
		},
	}
)

func TestOneOwnerUnderFaults(t *testing.T) {
	s := newSite(t, nil)
	for _, tr := range []trial{
		killOwner, freezeOwner, blockVRRP,
		{
			name: "the owner is frozen briefly", expect: stays, bound: withoutLoss, hold: 500 * time.Millisecond,
			make: freezeOwner.make, heal: freezeOwner.heal,
		},
		{
			name: "the owner is cut off", expect: moves, bound: withinDownInterval, hold: time.Second,
			make: func(s *scene) error { return keep(s.Lab.CutPort(s.owner.Host)) },
		},
		{
			name: "the owner loses carrier", expect: moves, bound: withinDownInterval, hold: time.Second,
			make: func(s *scene) error { return keep(s.Lab.LinkDown(s.owner.Host)) },
		},
		{
			name: "the owner hears nobody", expect: moves, bound: withinLeaseToo, hold: time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropOneWay(nil, s.owner.Host)) },
		},
		{
			name: "nobody hears the owner", expect: moves, bound: withinDownInterval, hold: time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropOneWay(s.owner.Host, nil)) },
		},
		{
			name: "the owner is cut off from the members, not from the clients", expect: moves, bound: withinDownInterval, hold: time.Second,
			make: func(s *scene) error {
				return errors.Join(keep(s.Lab.DropPair(s.owner.Host, s.other.Host)), keep(s.Lab.DropPair(s.owner.Host, s.Witness().Host)))
			},
		},
		{
			name: "the directors are cut from each other", expect: stays, bound: withoutLoss, hold: 9 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropPair(s.owner.Host, s.other.Host)) },
		},
		{
			name: "the standby does not hear the owner", expect: stays, bound: withoutLoss, hold: 9 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropOneWay(s.owner.Host, s.other.Host)) },
		},
		{
			name: "the owner does not hear the standby", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropOneWay(s.other.Host, s.owner.Host)) },
		},
		{
			name: "the owner does not hear the witness", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropOneWay(s.Witness().Host, s.owner.Host)) },
		},
		{
			name: "the standby is cut off", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.CutPort(s.other.Host)) },
		},
		{
			name: "SIGTERM of the owner", expect: moves, bound: withinHandover, hold: time.Second,
			make: func(s *scene) error { return s.Terminate(s.owner) },
			heal: func(s *scene) error { return s.Start(s.owner) },
		},
		{
			name: "a planned move", expect: moves, bound: withinHandover, hold: time.Second,
			make: func(s *scene) error {
				_, err := s.Hactl(s.ctx, s.owner, "move", s.Group(), "--to", s.other.Name, "--yes")
				return err
			},
		},
		{
			name: "the standby is killed", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
			make: func(s *scene) error { return s.Kill(s.other) },
			heal: func(s *scene) error { return s.Start(s.other) },
		},
		{
			name: "the witness is killed", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error { return s.Kill(s.Witness()) },
			heal: func(s *scene) error { return s.Start(s.Witness()) },
		},
		{
			name: "the witness is frozen", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error { return s.Freeze(s.Witness()) },
			heal: func(s *scene) error { return s.Thaw(s.Witness()) },
		},
		{
			name: "the witness is restarted while the directors do not hear each other", expect: stays, bound: withoutLoss, hold: 4 * time.Second,
			make: func(s *scene) error {
				return errors.Join(keep(s.Lab.DropPair(s.owner.Host, s.other.Host)), s.Kill(s.Witness()), s.Start(s.Witness()))
			},
		},
		{
			name: "the witness is lost, then the owner: nobody may take over", expect: whatever, hold: 8 * time.Second,
			make: func(s *scene) error { return errors.Join(s.Kill(s.Witness()), s.Kill(s.owner)) },
			during: func(t *testing.T, s *scene) {
				for _, vip := range s.VIPs {
					if owners := s.Observer.Owners(vip, 2*time.Second); len(owners) > 0 {
						t.Errorf("%v answer for %s without a majority", owners, vip)
					}
				}
				status, err := s.Status(s.ctx, s.other)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s says: %s", s.other.Name, site.Describe(status))
				if status.Quorum.OK {
					t.Errorf("%s says that there is a quorum", s.other.Name)
				}
			},
			heal: func(s *scene) error { return errors.Join(s.Start(s.Witness()), s.Start(s.owner)) },
		},
		{
			name: "the cluster port is blocked everywhere, VRRP passes", expect: whatever, hold: 6 * time.Second,
			make: func(s *scene) error { return keep(s.Lab.DropPort(unix.IPPROTO_TCP, site.Port, nil, nil)) },
			during: func(t *testing.T, s *scene) {
				for _, vip := range s.VIPs {
					if owners := s.Observer.Owners(vip, time.Second); len(owners) > 0 {
						t.Errorf("%v answer for %s without a majority", owners, vip)
					}
				}
			},
		},
		{
			name: "the gossip port is blocked everywhere", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error {
				return errors.Join(keep(s.Lab.DropPort(unix.IPPROTO_TCP, site.Port+1, nil, nil)),
					keep(s.Lab.DropPort(unix.IPPROTO_UDP, site.Port+1, nil, nil)))
			},
		},
		{
			name: "the switch reboots", expect: whatever, hold: 5 * time.Second,
			make: func(s *scene) error {
				var errs []error
				for _, n := range s.Nodes {
					errs = append(errs, keep(s.Lab.CutPort(n.Host)))
				}
				return errors.Join(errs...)
			},
		},
		{
			name: "all three are killed and start at once", expect: whatever,
			make: func(s *scene) error {
				var errs []error
				for _, n := range s.Nodes {
					errs = append(errs, s.Kill(n))
				}
				return errors.Join(errors.Join(errs...), s.StartAll())
			},
		},
		{
			name: "all three are restarted at once", expect: whatever,
			make: func(s *scene) error {
				ended := make(chan error, len(s.Nodes))
				for _, n := range s.Nodes {
					go func() { ended <- s.Terminate(n) }()
				}
				var errs []error
				for range s.Nodes {
					errs = append(errs, <-ended)
				}
				return errors.Join(errors.Join(errs...), s.StartAll())
			},
		},
		{
			name: "each node is restarted in turn", expect: whatever,
			make: func(s *scene) error {
				for _, n := range s.Nodes {
					if err := errors.Join(s.Terminate(n), s.Start(n), s.AwaitHealthy(s.ctx, recoverLimit)); err != nil {
						return err
					}
				}
				return nil
			},
		},
	} {
		play(t, s, tr)
	}
}

// Every one of the six directed links between the members is cut or not, at random and again and again: who may own the
// address changes, but two never do.
func TestOneOwnerUnderChangingPartitions(t *testing.T) {
	const wanted, most = 20, 60 // partitions to judge, and to try
	s := newSite(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	judged := 0
	for tries := 0; judged < wanted && tries < most; tries++ {
		var filters []lab.Filter
		var links []string
		for _, a := range s.Nodes {
			for _, b := range s.Nodes {
				if a != b && random.IntN(2) == 0 {
					filters = append(filters, lab.Filter{From: a.Host, To: b.Host})
					links = append(links, a.Name+">"+b.Name)
				}
			}
		}
		from := observer.Now()
		fault, err := s.Lab.Drop("cut "+strings.Join(links, " "), filters...)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(500*time.Millisecond + time.Duration(random.Int64N(int64(4*time.Second))))
		if err := fault.Heal(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
		v, err := s.Observer.Judge(t.Context(), from, observer.Now())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", fault, v.String())
		if v.DualFor() > 0 {
			t.Errorf("two owners for %s: %+v", v.DualFor(), v.VIPs)
		}
		if v.Void == "" {
			judged++
		}
		s.Observer.Forget(observer.Now().Add(-time.Second))
	}
	if judged < wanted {
		t.Errorf("the observer was awake during %d partitions only, of %d wanted", judged, wanted)
	}
	awaitWhole(t, s)
}

// Without any loss of a member, the loss of the Raft leader alone must cost nothing.
func TestTheLossOfALeaderThatOwnsNothingCostsNothing(t *testing.T) {
	s := newSite(t, nil)
	owner, other := awaitWhole(t, s)
	status, err := s.Status(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	if status.Leader == owner.Name {
		if _, err := s.Hactl(t.Context(), owner, "move", s.Group(), "--to", other.Name, "--yes"); err != nil {
			t.Fatal(err)
		}
		awaitWhole(t, s)
	}
	leader := s.Node(status.Leader)
	if leader == nil {
		t.Fatalf("no leader %q", status.Leader)
	}
	for name, lose := range map[string][2]func(*site.Node) error{
		"killed": {s.Kill, s.Start},
		"frozen": {s.Freeze, s.Thaw},
	} {
		play(t, s, trial{
			name: "the leader is " + name, expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error {
				if s.owner == leader {
					return fmt.Errorf("the leader %s is the owner", leader.Name)
				}
				return lose[0](leader)
			},
			heal: func(*scene) error { return lose[1](leader) },
		})
	}
}

func TestOneOwnerWithFullDisks(t *testing.T) {
	const size = 24 << 20
	s := newSite(t, func(p *site.Plan) { p.DataBytes = size })
	fill := func(n *site.Node) error {
		f, err := os.Create(filepath.Join(n.Data(), "ballast"))
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 4096)
		for {
			if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	empty := func(n *site.Node) error { return os.Remove(filepath.Join(n.Data(), "ballast")) }
	for _, which := range []struct {
		name string
		node func(s *scene) *site.Node
	}{
		{"the owner's", func(s *scene) *site.Node { return s.owner }},
		{"the standby's", func(s *scene) *site.Node { return s.other }},
		{"the witness's", func(s *scene) *site.Node { return s.Witness() }},
	} {
		var full *site.Node
		play(t, s, trial{
			name: which.name + " disk is full", expect: stays, bound: withoutLoss, hold: 5 * time.Second,
			make: func(s *scene) error { full = which.node(s); return fill(full) },
			heal: func(*scene) error { return empty(full) },
		})
		play(t, s, trial{
			name: which.name + " disk is full and the group moves", expect: moves, hold: 3 * time.Second,
			make: func(s *scene) error {
				full = which.node(s)
				if err := fill(full); err != nil {
					return err
				}
				asked := s.owner
				if asked == full {
					asked = s.other
				}
				_, err := s.Hactl(s.ctx, asked, "move", s.Group(), "--to", s.other.Name, "--yes")
				return err
			},
			heal: func(*scene) error { return empty(full) },
		})
	}
}

func TestOneOwnerWithBothFamilies(t *testing.T) {
	s := newSite(t, func(p *site.Plan) { p.VIPs = []netip.Addr{site.VIP4, site.VIP6} })
	for _, tr := range []trial{killOwner, freezeOwner, blockVRRP} {
		play(t, s, tr)
	}
}

func TestFastAdvertisements(t *testing.T) {
	s := newSite(t, func(p *site.Plan) { p.Version, p.AdvertInterval = 3, 300*time.Millisecond })
	for _, tr := range []trial{killOwner, freezeOwner} {
		play(t, s, tr)
	}
}

// A handover takes a few milliseconds, whatever advert_int is, where stock keepalived takes the skew time.
func TestHandoversTakeMilliseconds(t *testing.T) {
	const wanted = 10
	s := newSite(t, nil)
	for name, leave := range map[string]func(owner, other *site.Node) error{
		"move": func(owner, other *site.Node) error {
			_, err := s.Hactl(t.Context(), owner, "move", s.Group(), "--to", other.Name, "--yes")
			return err
		},
		"SIGTERM": func(owner, _ *site.Node) error { return errors.Join(s.Terminate(owner), s.Start(owner)) },
	} {
		t.Run(name, func(t *testing.T) {
			var taken []time.Duration
			for tries := 0; len(taken) < wanted && tries < 3*wanted; tries++ {
				owner, other := awaitWhole(t, s)
				from := observer.Now()
				time.Sleep(calm)
				if err := leave(owner, other); err != nil {
					t.Fatal(err)
				}
				if _, _, err := s.AwaitOwner(t.Context(), recoverLimit); err != nil {
					t.Fatal(err)
				}
				time.Sleep(calm)
				v, err := s.Observer.Judge(t.Context(), from, observer.Now())
				if err != nil {
					t.Fatal(err)
				}
				if v.DualFor() > 0 {
					t.Errorf("two owners: %s", v.String())
				}
				if v.Void == "" {
					taken = append(taken, v.Interruption())
				}
			}
			if len(taken) < wanted {
				t.Fatalf("the observer was awake during %d handovers only, of %d wanted", len(taken), wanted)
			}
			slices.Sort(taken)
			t.Logf("%d handovers by %s: %v", len(taken), name, taken)
			if median := taken[len(taken)/2]; median > handover/2 {
				t.Errorf("half of the handovers by %s took more than %s", name, median)
			}
		})
	}
}

// Stock keepalived meets the first faults on the same LAN: this is what the lease is for, and it shows that the observer would
// see two owners.
func TestStockKeepalivedHasTwoOwners(t *testing.T) {
	path := keepalived(t)
	const watched = 10 * time.Second
	for _, tr := range []trial{killOwner, freezeOwner, blockVRRP} {
		t.Run(tr.name, func(t *testing.T) {
			s := newSite(t, func(p *site.Plan) { p.Keepalived = path })
			sc := &scene{Site: s, ctx: t.Context()}
			sc.owner, sc.other = awaitWhole(t, s)
			from := observer.Now()
			if err := tr.make(sc); err != nil {
				t.Fatal(err)
			}
			time.Sleep(watched)
			v, err := s.Observer.Judge(t.Context(), from, observer.Now())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("stock keepalived: two owners for %.1f s of the %.1f s watched, until the end: %s", v.DualFor().Seconds(),
				watched.Seconds(), v.String())
			if v.DualFor() < watched/4 {
				t.Errorf("two owners for %s: the observer does not see what is known to happen", v.DualFor())
			}
			if err := s.Thaw(sc.owner); err != nil && sc.owner.Running() {
				t.Error(err)
			}
		})
	}
}
