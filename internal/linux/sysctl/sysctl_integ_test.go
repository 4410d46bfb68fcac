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
