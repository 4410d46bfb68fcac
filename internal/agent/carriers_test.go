package agent

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/vmac"
)

func addressOn(iface, prefix string, own bool) conf.Address {
	return conf.Address{Prefix: netip.MustParsePrefix(prefix), Interface: iface, UseVMAC: own}
}

func TestPlace(t *testing.T) {
	c := &conf.Config{Global: conf.Global{VMACPrefix: "vrrp", VMACAddrPrefix: "addr"}, Instances: []conf.Instance{
		{Name: "plain", Interface: "eth0", VRID: 50, Family: conf.IPv4, Addresses: []conf.Address{addressOn("eth0", "10.0.0.50/24", false)}},
		{Name: "vmac", Interface: "eth0", VRID: 51, Family: conf.IPv4, VMAC: &conf.VMAC{}, Addresses: []conf.Address{
			addressOn("eth0", "10.0.0.51/24", false), addressOn("eth1", "10.1.0.51/24", false), addressOn("eth1", "10.1.0.52/24", true),
		}, Excluded: []conf.Address{addressOn("eth0", "fd77::51/64", false), addressOn("eth0", "fd77::52/64", true)}},
		{Name: "base", Interface: "eth0", VRID: 52, Family: conf.IPv6,
			VMAC:      &conf.VMAC{Name: "six", MAC: []byte{2, 1, 2, 3, 4}, TransmitFromBase: true, Group: conf.Number{Set: true, Value: 9}},
			Addresses: []conf.Address{addressOn("eth0", "fe80::52/64", false)}},
		{Name: "ipvlan", Interface: "eth1", VRID: 53, Family: conf.IPv4,
			IPVLAN:    &conf.IPVLAN{Mode: "bridge", Address: netip.MustParsePrefix("10.1.0.9/24")},
			Addresses: []conf.Address{addressOn("eth1", "10.1.0.53/24", false)}},
	}}
	placed, carriers := place(c, nil)
	var got []string
	for _, in := range placed.Instances {
		line := in.Name + " on " + in.Interface + ":"
		for _, a := range held(&in) {
			line += " " + a.Prefix.Addr().String() + " on " + a.Interface
		}
		got = append(got, line)
	}
	want := []string{
		"plain on eth0: 10.0.0.50 on eth0",
		"vmac on vrrp.51: 10.0.0.51 on vrrp.51 10.1.0.51 on eth1 10.1.0.52 on addr.51 fd77::51 on eth0 fd77::52 on addr6.51",
		"base on eth0: fe80::52 on six",
		"ipvlan on vrrp.53: 10.1.0.53 on vrrp.53",
	}
	if !slices.Equal(got, want) {
		t.Errorf("placed\n%q, want\n%q", got, want)
	}
	if c.Instances[1].Interface != "eth0" || c.Instances[1].Addresses[0].Interface != "eth0" {
		t.Error("the configuration itself was changed")
	}
	specs := map[string]vmac.Spec{}
	for _, carrier := range carriers {
		specs[carrier.Name] = carrier.Spec
		if speaks := carrier.Name == "vrrp.51" || carrier.Name == "vrrp.53"; carrier.speaks != speaks {
			t.Errorf("%s carries advertisements: %v", carrier.Name, carrier.speaks)
		}
	}
	for name, s := range map[string]vmac.Spec{
		"vrrp.51":  {Base: "eth0", MAC: vmac.VirtualMAC(51, false), Group: vmac.GroupOfBase},
		"addr.51":  {Base: "eth1", MAC: vmac.VirtualMAC(51, false), Group: vmac.GroupOfBase},
		"addr6.51": {Base: "eth0", MAC: vmac.VirtualMAC(51, true), Group: vmac.GroupOfBase, IPv6: true},
		"six":      {Base: "eth0", MAC: [6]byte{2, 1, 2, 3, 4, 52}, Group: 9, IPv6: true},
		"vrrp.53":  {Base: "eth1", Flag: "bridge", Group: vmac.GroupOfBase},
	} {
		if s.Name = name; specs[name] != s {
			t.Errorf("%s is %+v, want %+v", name, specs[name], s)
		}
	}
	spec := guardSpec(placed, groupsOf(placed), carriers)
	guarded := map[string][]string{}
	for _, g := range spec.Groups {
		guarded[g.Name] = g.VMACInterfaces
	}
	if !slices.Equal(guarded["vmac"], []string{"vrrp.51", "addr.51", "addr6.51"}) || !slices.Equal(guarded["base"], []string{"six"}) ||
		len(guarded["plain"])+len(guarded["ipvlan"]) > 0 {
		t.Errorf("guarded MAC addresses: %v", guarded)
	}
	if _, err := spec.Plan(); err != nil {
		t.Error(err)
	}
}

func TestExtraAnnouncementsAreOfAddressesElsewhere(t *testing.T) {
	in := conf.Instance{Name: "a", Interface: "eth0", VRID: 51, Family: conf.IPv4, VMAC: &conf.VMAC{TransmitFromBase: true},
		Addresses: []conf.Address{addressOn("eth0", "10.0.0.51/24", false), addressOn("eth1", "10.1.0.51/24", false),
			addressOn("eth2", "10.2.0.51/24", true)},
		Excluded: []conf.Address{addressOn("eth0", "fd77::51/64", false)}}
	a := &Agent{}
	a.cfg, a.carriers = place(&conf.Config{Global: conf.Global{VMACPrefix: "vrrp", VMACAddrPrefix: "addr"}, Instances: []conf.Instance{in}}, nil)
	for want, test := range map[string]struct{ extra, all bool }{
		"vrrp.51 eth1 addr.51 eth0 ": {}, "addr.51 ": {extra: true}, "eth1 addr.51 ": {extra: true, all: true},
	} {
		placed := a.cfg.Instances[0]
		placed.GARPExtraInterfaces.All = test.all
		got := ""
		for _, addr := range a.announced(&instance{conf: &placed, holding: &holding{instance: &placed}}, test.extra) {
			got += addr.Interface + " "
		}
		if got != want {
			t.Errorf("%+v: %s, want %s", test, got, want)
		}
	}
}

func TestFilterRules(t *testing.T) {
	c := &conf.Config{Global: conf.Global{VMACPrefix: "vrrp", Firewall: conf.Firewall{NftablesPriority: -1}}, Instances: []conf.Instance{
		{Name: "a", Interface: "eth0", VRID: 51, Family: conf.IPv4, Accept: true, VMAC: &conf.VMAC{},
			Addresses: []conf.Address{addressOn("eth0", "10.0.0.51/24", false)}},
		{Name: "b", Interface: "eth0", VRID: 52, Family: conf.IPv6, Addresses: []conf.Address{addressOn("eth0", "fe80::52/64", false)}},
	}}
	a := &Agent{}
	a.cfg, a.carriers = place(c, nil)
	r := a.filterRules()
	if r.Table != "keepalived" || r.Priority != -1 || len(r.VMACs) != 1 || r.VMACs[0].Name != "vrrp.51" ||
		!slices.Equal(r.Refused, []netip.Addr{netip.MustParseAddr("fe80::52%eth0")}) {
		t.Errorf("rules %+v", r)
	}
}
