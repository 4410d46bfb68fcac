//go:build integ

package neigh_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/ndp"
	"github.com/hactl/had/internal/linux/nettest"
)

// Neighbour advertisements are subject to the rules of the kernel, which holds them back when a lease has run out and
// nobody is awake to see it.
func TestFirewallHoldsBackNeighbourAdvertisements(t *testing.T) {
	l := setup(t)
	nds := l.neighbour.Sniff("eth0", ether.TypeIPv6)
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "nettest", Family: nftables.TableFamilyINet})
	drop := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	advertised := func(f []byte) bool {
		m, err := ndp.Parse(f[ether.HeaderLen:])
		return err == nil && m.Type == ndp.Advertisement && m.Target == vip6
	}
	if err := l.sender.Announce(l.link, vip6, false); !errors.Is(err, unix.EPERM) {
		t.Errorf("Announce with the rule in place: %v, want %v", err, unix.EPERM)
	}
	nettest.None(t, nds, 100*time.Millisecond, advertised)
	conn.DelTable(table)
	nettest.Check(t, conn.Flush())
	nettest.Check(t, l.sender.Announce(l.link, vip6, false))
	nettest.Next(t, nds, time.Second, advertised)
}
