//go:build integ

package integ

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/site"
)

// repaired is the time in which what somebody else removes is to be back.
func repaired(*scene) time.Duration { return 100 * time.Millisecond }

// cidr returns a virtual address as had configures it.
func cidr(vip netip.Addr) netip.Prefix {
	if vip.Is4() {
		return netip.PrefixFrom(vip, site.Subnet4.Bits())
	}
	return netip.PrefixFrom(vip, site.Subnet6.Bits())
}

// onAll does something with each virtual address.
func (s *scene) onAll(do func(netip.Prefix) error) error {
	var errs []error
	for _, vip := range s.VIPs {
		errs = append(errs, do(cidr(vip)))
	}
	return errors.Join(errs...)
}

// takeAway removes the addresses from the standby if they are still there, so that a failed trial does not spoil the next one.
func takeAway(s *scene) error {
	return s.onAll(func(vip netip.Prefix) error {
		has, err := s.other.Host.HasAddr(vip.Addr())
		if err != nil || !has {
			return err
		}
		return s.other.Host.RemoveAddr(vip)
	})
}

// gone checks that the standby does not have the addresses.
func gone(t *testing.T, s *scene) {
	t.Helper()
	for _, vip := range s.VIPs {
		if has, err := s.other.Host.HasAddr(vip); err != nil || has {
			t.Errorf("%s is still on %s (%v)", vip, s.other.Name, err)
		}
	}
}

// Rules that another program removes. Where tables can belong to a process the kernel refuses to.
var (
	flushOwner = trial{
		name: "the owner's rule set is flushed", id: "H06", expect: stays, bound: repaired, hold: 2 * time.Second,
		make: func(s *scene) error { return s.owner.Host.FlushRuleset() },
	}
	flushStandby = trial{
		name: "the standby's rule set is flushed and the addresses added to it", id: "H06", expect: stays, bound: repaired, hold: 2 * time.Second,
		make: func(s *scene) error {
			if err := s.other.Host.FlushRuleset(); err != nil {
				return err
			}
			time.Sleep(repaired(s)) // the guard is back by then
			return s.onAll(s.other.Host.AddAddr)
		},
		during: gone, heal: takeAway,
	}
	flushAndFreezeOwner = trial{
		name: "the owner's rule set is flushed and the owner frozen a second later", id: "H06", expect: moves, bound: withinDownInterval, hold: time.Second,
		make: func(s *scene) error {
			if err := s.owner.Host.FlushRuleset(); err != nil {
				return err
			}
			time.Sleep(time.Second)
			return s.Freeze(s.owner)
		},
		heal: func(s *scene) error { return s.Thaw(s.owner) },
	}
)

// What other programs and careless people do to addresses and rules behind the daemon's back, to several addresses of both families.
func TestTampering(t *testing.T) {
	t.Parallel()
	second := netip.MustParseAddr("10.77.0.101")
	s := newSite(t, func(p *site.Plan) { p.VIPs = []netip.Addr{site.VIP4, second, site.VIP6} })
	for _, tr := range []trial{
		{
			name: "one address is removed from the owner", id: "H04", expect: stays, bound: repaired, hold: time.Second,
			make: func(s *scene) error { return s.owner.Host.RemoveAddr(cidr(second)) },
		},
		{
			name: "all virtual addresses are removed from the owner", id: "H04", expect: stays, bound: repaired, hold: time.Second,
			make: func(s *scene) error { return s.onAll(s.owner.Host.RemoveAddr) },
		},
		{
			// As systemd-networkd does when it restarts: the owner's own addresses go and come back. The group is given up, because
			// for a moment there is no address to speak from, or its addresses are back at once.
			name: "the owner's interface is flushed and its own addresses are put back", id: "H10", expect: whatever, bound: withinHandover, hold: 2 * time.Second,
			make: func(s *scene) error { return errors.Join(s.owner.Host.FlushAddrs(), s.owner.Host.RestoreAddrs()) },
		},
		{
			name: "the owner's interface is flushed for good: it gives up", id: "H10", expect: moves, bound: withinLeaseToo, hold: time.Second,
			make: func(s *scene) error { return s.owner.Host.FlushAddrs() },
			heal: func(s *scene) error { return s.owner.Host.RestoreAddrs() },
		},
		{
			name: "the addresses are added to the standby", id: "H05", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
			make:   func(s *scene) error { return s.onAll(s.other.Host.AddAddr) },
			during: gone, heal: takeAway,
		},
		flushOwner, flushStandby, flushAndFreezeOwner,
	} {
		play(t, s, tr)
	}
}

// What an earlier life left behind is removed before anything else: an address on a director that starts is no second owner.
func TestLeftoversOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	play(t, s, trial{
		name: "the standby is killed, gets the address, and starts again", id: "H05", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
		make: func(s *scene) error {
			// The guard of the killed daemon is still in its kernel, shut.
			return errors.Join(s.Kill(s.other), s.other.Host.AddAddr(cidr(site.VIP4)))
		},
		heal: func(s *scene) error { return s.Start(s.other) },
		during: func(t *testing.T, s *scene) {
			if has, err := s.other.Host.HasAddr(site.VIP4); err != nil || !has {
				t.Errorf("the test did not leave an address behind: %v", err)
			}
		},
	})
	for _, n := range s.Directors() {
		owner, _, err := s.Owner()
		if err != nil {
			t.Fatal(err)
		}
		has, err := n.Host.HasAddr(site.VIP4)
		if err != nil || has != (n == owner) {
			t.Error(fmt.Errorf("%s on %s: %t, want it on the owner, %s, only (%w)", site.VIP4, n.Name, has, owner.Name, err))
		}
	}
}
