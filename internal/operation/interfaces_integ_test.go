//go:build integ

package operation

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
)

// lateInterface is the interface that comes and goes: one beside that with the members' addresses.
const lateInterface = "eth1"

// An instance waits for an interface that does not exist, and says so; it works when the interface comes, gives up when it is
// deleted while its node is the owner, and works again when it is back.
func TestInterfaceComesAndGoes(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()
	s.must(s.Terminate(n))
	s.separateCards(n)
	s.configure(n, "interface "+lab.Interface, "interface "+lateInterface)

	missing := "interface " + lateInterface + " does not exist"
	s.run("it does not exist yet", func(s *stage) {
		watched := s.watch()
		mark := s.logMark(n)
		s.restart(n)
		s.awaitLog(n, mark, missing)
		s.eventually(sayLimit, func() error { return s.standing(owner, n.Name, missing) })
		out, _ := s.hactl(n, api.ExitOK, "why", s.Group())
		s.says(out, "Why not "+n.Name, missing)
		s.eventually(sayLimit, func() error {
			status, err := s.Status(s.ctx, owner)
			if n := nodeStatus(status, n.Name); err == nil && n.State != api.NodeFault {
				err = fmt.Errorf("%s is %s: %s", n.Name, n.State, n.StateText)
			}
			return err
		})
		watched.kept(owner)
	})
	s.run("it comes, and its node can take over", func(s *stage) {
		s.unplug(n)
		s.awaitOwner(owner, recoverLimit)
		watched := s.watch()
		s.plug(n)
		s.eventually(sayLimit, func() error { return s.standing(owner, n.Name, "") })
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		watched.kept(owner)

		watched = s.watch()
		s.must(s.Kill(owner))
		s.awaitOwner(n, recoverLimit)
		s.expectAddressOn(n, lateInterface)
		s.must(s.Start(owner))
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		watched.verdict()
	})
	s.run("it is deleted while its node is the owner: the group goes over at once", func(s *stage) {
		if _, err := n.Host.Netlink().LinkByName(lateInterface); err != nil { // after a void attempt
			s.plug(n)
		}
		s.own(n)
		watched := s.watch()
		mark := s.logMark(n)
		s.unplug(n)
		s.awaitOwner(owner, recoverLimit)
		s.awaitLog(n, mark, "to=FAULT", lateInterface) // down, or without an address, a moment before it is gone
		watched.moved(n, owner, handoverBound)
		s.eventually(sayLimit, func() error { return s.standing(owner, n.Name, missing) })
	})
	s.run("it is back, with another index", func(s *stage) {
		if now, _, err := s.Owner(); err == nil && now == n { // after a void attempt
			s.move(n, owner)
		}
		s.unplug(n)
		watched := s.watch()
		s.plug(n)
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		watched.kept(owner)
		watched = s.watch()
		s.move(owner, n)
		watched.moved(owner, n, handoverBound)
	})
}

// standing asserts why a director could not own the group, in the words of another node; "" if it could.
func (s *stage) standing(asked *site.Node, name, why string) error {
	status, err := s.Status(s.ctx, asked)
	if err != nil {
		return err
	}
	k := candidate(status, name)
	switch {
	case why == "" && k.Eligible:
		return nil
	case why == "" || k.Eligible || len(k.WhyNot) == 0 || !containsAll(k.WhyNot[0].Text, []string{why}):
		return fmt.Errorf("%s says of %s: %+v, want %q", asked.Name, name, k, why)
	}
	return nil
}

// separateCards prepares a host for a second interface on the same LAN: each answers for its own addresses alone, answers for
// the virtual address leave by the interface that has it, and the observer knows the second one as the host.
func (s *stage) separateCards(n *site.Node) {
	s.t.Helper()
	s.must(n.Host.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/arp_ignore", []byte("1"), 0) }))
	nl := n.Host.Netlink()
	eth, err := nl.LinkByName(lab.Interface)
	s.must(err)
	s.must(nl.LinkSetHardwareAddr(eth, net.HardwareAddr{2, 'c', 'a', 'r', 'd', 9}))
	rule := netlink.NewRule()
	rule.Src = &net.IPNet{IP: site.VIP4.AsSlice(), Mask: net.CIDRMask(32, 32)}
	rule.Table, rule.Priority, rule.Family = cardTable, 100, netlink.FAMILY_V4
	s.must(nl.RuleAdd(rule))
}

const cardTable = 100

// unplug deletes the second interface, if it is there.
func (s *stage) unplug(n *site.Node) {
	s.t.Helper()
	if link, err := n.Host.Netlink().LinkByName(lateInterface); err == nil {
		s.must(n.Host.Netlink().LinkDel(link))
	}
}

// cards counts second interfaces: each has a port of its own on the switch.
var cards int

// plug puts a second interface, with an address, into a host.
func (s *stage) plug(n *site.Node) {
	s.t.Helper()
	cards++
	box, err := s.Lab.AddHost(fmt.Sprintf("card%d", cards))
	s.must(err)
	nl := box.Netlink()
	link, err := nl.LinkByName(lab.Interface)
	s.must(err)
	s.must(nl.LinkSetDown(link))
	s.must(nl.LinkSetName(link, lateInterface))
	s.must(nl.LinkSetHardwareAddr(link, n.Host.MAC()))
	s.must(nl.LinkSetNsFd(link, n.Host.Namespace()))
	nl = n.Host.Netlink()
	link, err = nl.LinkByName(lateInterface)
	s.must(err)
	address := netip.MustParsePrefix("10.77.0.22/24")
	s.must(nl.AddrAdd(link, &netlink.Addr{Flags: unix.IFA_F_NOPREFIXROUTE, IPNet: &net.IPNet{IP: address.Addr().AsSlice(),
		Mask: net.CIDRMask(address.Bits(), 32)}}))
	time.Sleep(300 * time.Millisecond) // it exists for a while before it is up, as links do
	s.must(nl.LinkSetUp(link))
	s.must(nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Table: cardTable, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: site.Subnet4.Addr().AsSlice(), Mask: net.CIDRMask(site.Subnet4.Bits(), 32)}}))
}

func (s *stage) expectAddressOn(n *site.Node, iface string) {
	s.t.Helper()
	link, err := n.Host.Netlink().LinkByName(iface)
	s.must(err)
	list, err := n.Host.Netlink().AddrList(link, netlink.FAMILY_V4)
	s.must(err)
	for _, a := range list {
		if a.IP.Equal(site.VIP4.AsSlice()) {
			return
		}
	}
	s.t.Errorf("%s is not on %s of %s: %v", site.VIP4, iface, n.Name, list)
}
