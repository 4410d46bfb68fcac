package fencing

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func addresses(s ...string) []netip.Addr {
	list := make([]netip.Addr, len(s))
	for i := range s {
		list[i] = netip.MustParseAddr(s[i])
	}
	return list
}

func exampleSpec() GuardSpec {
	return GuardSpec{Groups: []GuardedGroup{
		{
			Name:      "web",
			Addresses: addresses("192.0.2.9", "2001:db8::9", "192.0.2.10", "fe80::1%eth1", "::ffff:192.0.2.9"),
			Routers:   []VirtualRouter{{"eth1", 7, IPv6}, {"eth1", 7, IPv4}, {"eth0", 9, IPv4}, {"eth1", 7, IPv4}},
		},
		{
			Name:           "db",
			Addresses:      addresses("192.0.2.7", "fe80::1%eth0"),
			Routers:        []VirtualRouter{{"eth0", 7, IPv4}},
			VMACInterfaces: []string{"vrrp.7", "vrrp6.7"},
		},
	}}
}

func TestPlanIsInAFixedOrder(t *testing.T) {
	want := GuardPlan{
		Groups: []string{"db", "web"},
		Addresses: []GuardedAddress{
			{netip.MustParseAddr("192.0.2.7"), "", 1},
			{netip.MustParseAddr("192.0.2.9"), "", 2},
			{netip.MustParseAddr("192.0.2.10"), "", 2},
			{netip.MustParseAddr("2001:db8::9"), "", 2},
			{netip.MustParseAddr("fe80::1"), "eth0", 1},
			{netip.MustParseAddr("fe80::1"), "eth1", 2},
		},
		Routers: []GuardedRouter{
			{VirtualRouter{"eth0", 7, IPv4}, 1},
			{VirtualRouter{"eth0", 9, IPv4}, 2},
			{VirtualRouter{"eth1", 7, IPv4}, 2},
			{VirtualRouter{"eth1", 7, IPv6}, 2},
		},
		VMACs: []GuardedInterface{{"vrrp.7", 1}, {"vrrp6.7", 1}},
	}
	forward := exampleSpec()
	backward := exampleSpec()
	slices.Reverse(backward.Groups)
	for _, g := range backward.Groups {
		slices.Reverse(g.Addresses)
		slices.Reverse(g.Routers)
		slices.Reverse(g.VMACInterfaces)
	}
	for _, spec := range []GuardSpec{forward, backward} {
		got, err := spec.Plan()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	if !reflect.DeepEqual(forward, exampleSpec()) {
		t.Error("Plan has changed the spec")
	}
	for group, number := range map[string]uint32{"db": 1, "web": 2, "": 0, "mail": 0} {
		if got := want.Number(group); got != number {
			t.Errorf("Number(%q) = %d, want %d", group, got, number)
		}
	}
}

func TestPlanOfNothing(t *testing.T) {
	plan, err := GuardSpec{Groups: []GuardedGroup{{Name: "empty"}}}.Plan()
	if err != nil || len(plan.Groups) != 1 || len(plan.Addresses)+len(plan.Routers)+len(plan.VMACs) != 0 {
		t.Errorf("got %+v, %v", plan, err)
	}
}

func TestPlanReportsEveryFault(t *testing.T) {
	spec := GuardSpec{Groups: []GuardedGroup{
		{Name: ""},
		{
			Name:           "a",
			Addresses:      addresses("192.0.2.1", "0.0.0.0", "224.0.0.18", "127.0.0.1", "fe80::1%an-interface-name-too-long"),
			Routers:        []VirtualRouter{{"eth0", 1, IPv4}, {"eth0", 0, IPv4}, {"eth0", 1, 5}, {"", 1, IPv4}},
			VMACInterfaces: []string{"vrrp.1", "a/b"},
		},
		{
			Name:           "b",
			Addresses:      append(addresses("::ffff:192.0.2.1"), netip.Addr{}),
			Routers:        []VirtualRouter{{"eth0", 1, IPv4}},
			VMACInterfaces: []string{"vrrp.1"},
		},
		{Name: "b"},
	}}
	plan, err := spec.Plan()
	if err == nil {
		t.Fatal("no error")
	}
	if !reflect.DeepEqual(plan, GuardPlan{}) {
		t.Errorf("a plan beside the error: %+v", plan)
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{
		`guard: a group has no name`,
		`guard: group "a": 0.0.0.0 cannot be a virtual IP`,
		`guard: group "a": 224.0.0.18 cannot be a virtual IP`,
		`guard: group "a": 127.0.0.1 cannot be a virtual IP`,
		`guard: group "a": fe80::1%an-interface-name-too-long cannot be a virtual IP`,
		`guard: group "a": eth0 VRID 0 IPv4 is no virtual router`,
		`guard: group "a": eth0 VRID 1 Family(5) is no virtual router`,
		`guard: group "a":  VRID 1 IPv4 is no virtual router`,
		`guard: group "a": "a/b" is no name of an interface`,
		`guard: address 192.0.2.1 belongs to both group "a" and group "b"`,
		`guard: group "b": invalid IP cannot be a virtual IP`,
		`guard: virtual router eth0 VRID 1 IPv4 belongs to both group "a" and group "b"`,
		`guard: interface "vrrp.1" belongs to both group "a" and group "b"`,
		`guard: group "b" is listed twice`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A zone means an interface only where an address is link-local.
func TestZoneOfOtherAddressesIsIgnored(t *testing.T) {
	plan, err := GuardSpec{Groups: []GuardedGroup{{Name: "a", Addresses: addresses("2001:db8::1%eth0", "2001:db8::1")}}}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []GuardedAddress{{netip.MustParseAddr("2001:db8::1"), "", 1}}
	if !slices.Equal(plan.Addresses, want) {
		t.Errorf("got %v", plan.Addresses)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("a", "192.0.2.1", "eth0", byte(1), byte(4), "b", "fe80::1%eth0", "eth1", byte(2), byte(6))
	f.Fuzz(func(t *testing.T, n1, a1, i1 string, v1, f1 byte, n2, a2, i2 string, v2, f2 byte) {
		group := func(name, address, iface string, vrid, family byte) GuardedGroup {
			a, _ := netip.ParseAddr(address)
			return GuardedGroup{
				Name: name, Addresses: []netip.Addr{a}, Routers: []VirtualRouter{{iface, vrid, Family(family)}},
				VMACInterfaces: []string{iface},
			}
		}
		g1, g2 := group(n1, a1, i1, v1, f1), group(n2, a2, i2, v2, f2)
		one, err1 := GuardSpec{Groups: []GuardedGroup{g1, g2}}.Plan()
		other, err2 := GuardSpec{Groups: []GuardedGroup{g2, g1}}.Plan()
		if !reflect.DeepEqual(one, other) || (err1 == nil) != (err2 == nil) {
			t.Errorf("the order of groups matters: %+v %v, %+v %v", one, err1, other, err2)
		}
		for _, a := range one.Addresses {
			if a.Address.Zone() != "" || a.Address.Is4In6() || a.Group == 0 || int(a.Group) > len(one.Groups) {
				t.Errorf("%+v", a)
			}
		}
	})
}
