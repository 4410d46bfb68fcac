//go:build integ

package filter_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/filter"
	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/internal/linux/vmac"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// Reports of membership leave a VMAC only without the filter.
func TestNoReportsFromAVMAC(t *testing.T) {
	base := nettest.Name("f")
	host := nettest.NewHost(t)
	host.Connect(base, "eth0")
	var maker vmac.Maker
	t.Cleanup(func() { nettest.Check(t, maker.Restore()) })
	for _, test := range []struct {
		ipv6          bool
		etherType     uint16
		first, second string
	}{
		{false, ether.TypeIPv4, "239.1.1.1", "239.1.1.2"},
		{true, ether.TypeIPv6, "ff05::101", "ff05::102"},
	} {
		s := vmac.Spec{Name: nettest.Name("m"), Base: base, MAC: vmac.VirtualMAC(51, test.ipv6), IPv6: test.ipv6, Group: vmac.GroupOfBase}
		rules := filter.Rules{Table: "t", Priority: -1, VMACs: []filter.VMAC{{Name: s.Name, IPv6: test.ipv6}}}
		nettest.Check(t, filter.Install(rules))
		index, err := maker.Make(s)
		if err != nil {
			t.Fatal(err)
		}
		if test.ipv6 {
			nettest.AddAddress(t, s.Name, "fe80::1:2/64")
		}
		frames := host.Sniff("eth0", test.etherType)
		fromVMAC := func(f []byte) bool { return ether.MAC(f[6:12]) == s.MAC }
		join := func(group string) {
			member, err := vmac.Join(index, []netip.Addr{netip.MustParseAddr(group)})
			nettest.Check(t, err)
			t.Cleanup(func() { nettest.Check(t, member.Close()) })
		}
		join(test.first)
		nettest.None(t, frames, 1500*time.Millisecond, fromVMAC)
		nettest.Check(t, filter.Remove(rules))
		join(test.second)
		nettest.Next(t, frames, 5*time.Second, fromVMAC)
		nettest.Check(t, maker.Delete(index))
	}
}

// chains counts the chains and counters of the tables of a name, by family.
func chains(t *testing.T, name string) (found map[nftables.TableFamily]int, counters int, priorities map[int]bool) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := conn.ListChains()
	nettest.Check(t, err)
	found, priorities = map[nftables.TableFamily]int{}, map[int]bool{}
	for _, c := range list {
		if c.Table.Name != name {
			continue
		}
		found[c.Table.Family]++
		priorities[int(*c.Priority)] = true
		rules, err := conn.GetRules(c.Table, c)
		nettest.Check(t, err)
		for _, r := range rules {
			for _, e := range r.Exprs {
				if _, ok := e.(*expr.Counter); ok {
					counters++
				}
			}
		}
	}
	return found, counters, priorities
}

func TestInstallReplacesAndRemoveRemoves(t *testing.T) {
	rules := filter.Rules{Table: "keepalived", Priority: -7, Counters: true, Refused: []netip.Addr{
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fe80::1%lo"),
	}}
	for range 2 {
		nettest.Check(t, filter.Install(rules))
		found, counters, priorities := chains(t, rules.Table)
		if found[nftables.TableFamilyIPv4] != 2 || found[nftables.TableFamilyIPv6] != 2 || counters != 6 || !priorities[-7] || len(priorities) != 1 {
			t.Errorf("installed: %v, %d counters, priorities %v", found, counters, priorities)
		}
	}
	for range 2 {
		nettest.Check(t, filter.Remove(rules))
		if found, _, _ := chains(t, rules.Table); len(found) != 0 {
			t.Errorf("left: %v", found)
		}
	}
	only := filter.Rules{Table: "other", Refused: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	nettest.Check(t, filter.Install(only))
	if found, counters, _ := chains(t, only.Table); found[nftables.TableFamilyIPv6] != 0 || found[nftables.TableFamilyIPv4] != 2 || counters != 0 {
		t.Errorf("installed: %v, %d counters", found, counters)
	}
	nettest.Check(t, filter.Remove(only))
}
