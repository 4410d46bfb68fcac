//go:build integ

package vmac_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/internal/linux/sysctl"
	"github.com/hactl/had/internal/linux/vmac"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// setup connects an interface and returns its name.
func setup(t *testing.T) string {
	t.Helper()
	base := nettest.Name("v")
	nettest.NewHost(t).Connect(base, "eth0")
	return base
}

func value(t *testing.T, p sysctl.Parameter) string {
	t.Helper()
	v, err := p.Get()
	nettest.Check(t, err)
	return v
}

func TestMake(t *testing.T) {
	base := setup(t)
	nettest.Check(t, sysctl.IPv4("all", "rp_filter").Set("1"))
	var m vmac.Maker
	s := vmac.Spec{Name: nettest.Name("m"), Base: base, MAC: vmac.VirtualMAC(51, false), Group: 7}
	index, err := m.Make(s)
	if err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	mv, ok := l.(*netlink.Macvlan)
	if !ok || mv.Mode != netlink.MACVLAN_MODE_PRIVATE || mv.HardwareAddr.String() != "00:00:5e:00:01:33" || mv.Group != 7 {
		t.Errorf("made %+v", l)
	}
	for _, c := range []struct {
		p    sysctl.Parameter
		want string
	}{
		{sysctl.IPv4(s.Name, "rp_filter"), "0"}, {sysctl.IPv4("all", "rp_filter"), "0"}, {sysctl.IPv4(base, "rp_filter"), "1"},
		{sysctl.IPv4(base, "arp_ignore"), "1"}, {sysctl.IPv4(base, "arp_filter"), "1"}, {sysctl.IPv6(s.Name, "disable_ipv6"), "1"},
	} {
		if got := value(t, c.p); got != c.want {
			t.Errorf("%v is %s, want %s", c.p, got, c.want)
		}
	}
	if again, err := m.Make(s); err != nil || again != index {
		t.Errorf("made again: %d, %v; before %d", again, err, index)
	}
	s.MAC = vmac.VirtualMAC(52, false)
	other, err := m.Make(s)
	if err != nil || other == index {
		t.Errorf("one with another address was not replaced: %d, %v", other, err)
	}
	nettest.Check(t, m.Delete(other))
	nettest.Check(t, m.Delete(other))
	nettest.Check(t, m.Restore())
	if got := value(t, sysctl.IPv4(base, "arp_ignore")) + value(t, sysctl.IPv4("all", "rp_filter")); got != "01" {
		t.Errorf("arp_ignore and rp_filter are %s after all", got)
	}
	nettest.Check(t, sysctl.IPv4("all", "rp_filter").Set("0"))
}

func TestMakeRefuses(t *testing.T) {
	base := setup(t)
	var m vmac.Maker
	mac := vmac.VirtualMAC(51, true)
	taken := nettest.Name("v")
	nettest.NewHost(t).Connect(taken, "eth0")
	for name, s := range map[string]vmac.Spec{
		"no interface below":      {Name: "a", Base: "gone", MAC: mac, IPv6: true, Group: vmac.GroupOfBase},
		"loopback":                {Name: "a", Base: "lo", MAC: mac, IPv6: true, Group: vmac.GroupOfBase},
		"a name that has another": {Name: taken, Base: base, MAC: mac, IPv6: true, Group: vmac.GroupOfBase},
	} {
		if _, err := m.Make(s); err == nil {
			t.Errorf("%s: made", name)
		} else {
			t.Log(err)
		}
	}
	// The same MAC address on the same interface twice: refused, and nothing stays behind.
	first := vmac.Spec{Name: nettest.Name("m"), Base: base, MAC: mac, IPv6: true, Group: vmac.GroupOfBase}
	index, err := m.Make(first)
	if err != nil {
		t.Fatal(err)
	}
	second := first
	second.Name = nettest.Name("m")
	if _, err := m.Make(second); err == nil {
		t.Error("two interfaces with one MAC address")
	}
	if _, err := netlink.LinkByName(second.Name); err == nil {
		t.Errorf("%s stayed behind", second.Name)
	}
	nettest.Check(t, m.Delete(index))
	nettest.Check(t, m.Restore())
}

func TestIPVLAN(t *testing.T) {
	base := setup(t)
	var m vmac.Maker
	s := vmac.Spec{Name: nettest.Name("m"), Base: base, Flag: "private", Group: vmac.GroupOfBase}
	index, err := m.Make(s)
	if errors.Is(err, vmac.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Make(s); err != nil || again != index {
		t.Errorf("made again: %d, %v", again, err)
	}
	existing, err := vmac.List()
	nettest.Check(t, err)
	for _, e := range existing {
		if e.Name == s.Name && (e.Flag != "private" || e.Base != base) {
			t.Errorf("listed as %+v", e)
		}
	}
	nettest.Check(t, m.Delete(index))
}

func TestJoin(t *testing.T) {
	base := setup(t)
	index := nettest.Link(t, base).Index
	groups := []netip.Addr{netip.MustParseAddr("224.0.0.18"), netip.MustParseAddr("ff02::12"),
		vmac.SolicitedNode(netip.MustParseAddr("fd77::100")), vmac.SolicitedNode(netip.MustParseAddr("fe80::100"))}
	member, err := vmac.Join(index, groups)
	nettest.Check(t, err)
	nettest.Check(t, member.Close())
	if member, err = vmac.Join(index, []netip.Addr{netip.MustParseAddr("10.0.0.1")}); err == nil {
		t.Error("10.0.0.1 is no group")
	}
	nettest.Check(t, member.Close())
}
