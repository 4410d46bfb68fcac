//go:build integ

package sysctl_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/internal/linux/sysctl"
)

func TestMain(m *testing.M) { nettest.Main(m) }

func TestParametersOfAnInterfaceWithADotInItsName(t *testing.T) {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sys0.10"}, PeerName: "sys0p"}
	nettest.Check(t, netlink.LinkAdd(pair))
	defer func() { _ = netlink.LinkDel(pair) }()
	p := sysctl.IPv4("sys0.10", "arp_ignore")
	for _, want := range []int{1, 8, 0} {
		nettest.Check(t, p.SetInt(want))
		if got, err := p.GetInt(); err != nil || got != want {
			t.Errorf("%v = %d, %v, want %d", p, got, err, want)
		}
	}
	if err := p.Set("no number"); err == nil {
		t.Error("nonsense was accepted")
	}
	for _, want := range []bool{true, false} {
		value := map[bool]int{true: 1}[want]
		nettest.Check(t, sysctl.IPv6("sys0.10", "forwarding").SetInt(value))
		if got := sysctl.ForwardingIPv6("sys0.10"); got != want {
			t.Errorf("ForwardingIPv6 = %v, want %v", got, want)
		}
	}
}

func TestChanges(t *testing.T) {
	name := nettest.Name("c")
	nettest.NewHost(t).Connect(name, "eth0")
	one, two := sysctl.IPv4(name, "arp_ignore"), sysctl.IPv4(name, "arp_filter")
	nettest.Check(t, two.Set("1"))
	var c sysctl.Changes
	nettest.Check(t, c.Set(one, "1"))
	nettest.Check(t, c.Set(one, "2"))
	nettest.Check(t, c.Set(two, "1")) // as it was: not ours to put back
	nettest.Check(t, two.Set("0"))
	nettest.Check(t, c.Restore())
	for p, want := range map[*sysctl.Parameter]string{&one: "0", &two: "0"} {
		if got, err := p.Get(); err != nil || got != want {
			t.Errorf("%v is %s, %v, want %s", p, got, err, want)
		}
	}
	nettest.Check(t, c.Set(one, "1"))
	nettest.Check(t, one.Set("2"))
	nettest.Check(t, c.Restore())
	if got, err := one.Get(); err != nil || got != "2" {
		t.Errorf("what somebody else has set became %s, %v", got, err)
	}
	if err := c.Set(sysctl.IPv4("gone", "arp_ignore"), "1"); err == nil {
		t.Error("set on an interface that is gone")
	}
}
