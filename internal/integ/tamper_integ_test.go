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
func repaired(*scene) time.Duration { return 200 * time.Millisecond }

// cidr returns the virtual address as had configures it.
func cidr() netip.Prefix { return netip.PrefixFrom(site.VIP4, site.Subnet4.Bits()) }

// takeAway removes the address from the standby if it is still there, so that a failed trial does not spoil the next one.
func takeAway(s *scene) error {
	has, err := s.other.Host.HasAddr(site.VIP4)
	if err != nil || !has {
		return err
	}
	return s.other.Host.RemoveAddr(cidr())
}

// gone checks that the standby does not have the address.
func gone(t *testing.T, s *scene) {
	t.Helper()
	if has, err := s.other.Host.HasAddr(site.VIP4); err != nil || has {
		t.Errorf("%s is still on %s (%v)", site.VIP4, s.other.Name, err)
	}
}

// What other programs and careless people do to addresses and rules behind the daemon's back.
func TestTampering(t *testing.T) {
	s := newSite(t, nil)
	for _, tr := range []trial{
		{
			name: "the address is removed from the owner", expect: stays, bound: repaired, hold: time.Second,
			make: func(s *scene) error { return s.owner.Host.RemoveAddr(cidr()) },
		},
		{
			name: "the address is added to the standby", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
			make:   func(s *scene) error { return s.other.Host.AddAddr(cidr()) },
			during: gone, heal: takeAway,
		},
		{
			name: "the owner's rule set is flushed", expect: stays, bound: repaired, hold: 2 * time.Second,
			make: func(s *scene) error { return s.owner.Host.FlushRuleset() },
		},
		{
			name: "the standby's rule set is flushed and the address added to it", expect: stays, bound: withoutLoss, hold: 2 * time.Second,
			make:   func(s *scene) error { return errors.Join(s.other.Host.FlushRuleset(), s.other.Host.AddAddr(cidr())) },
			during: gone, heal: takeAway,
		},
		{
			name: "the owner's rule set is flushed and the owner frozen a second later", expect: moves, bound: withinDownInterval, hold: time.Second,
			make: func(s *scene) error {
				if err := s.owner.Host.FlushRuleset(); err != nil {
					return err
				}
				time.Sleep(time.Second)
				return s.Freeze(s.owner)
			},
			heal: func(s *scene) error { return s.Thaw(s.owner) },
		},
	} {
		play(t, s, tr)
	}
}

// What an earlier life left behind is removed before anything else: an address on a director that starts is no second owner.
func TestLeftoversOfAnEarlierLife(t *testing.T) {
	s := newSite(t, nil)
	play(t, s, trial{
		name: "the standby is killed, gets the address, and starts again", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
		make: func(s *scene) error {
			// The guard of the killed daemon is still in its kernel, shut.
			return errors.Join(s.Kill(s.other), s.other.Host.AddAddr(cidr()))
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
