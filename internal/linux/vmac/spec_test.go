package vmac

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hactl/had/internal/linux/ether"
)

func TestAssign(t *testing.T) {
	four, six := VirtualMAC(51, false), VirtualMAC(51, true)
	own := ether.MAC{2, 1, 2, 3, 4, 5}
	want := func(name string, mac ether.MAC) Want {
		return Want{Prefix: "vrrp", VRID: 51, Spec: Spec{Name: name, Base: "eth0", MAC: mac, IPv6: mac == six}}
	}
	macvlan := func(name, base string, mac ether.MAC) Existing {
		return Existing{Name: name, Base: base, Kind: "macvlan", MAC: mac, Private: true}
	}
	bridged := macvlan("vrrp.51", "eth0", four)
	bridged.Private = false
	for _, test := range []struct {
		name     string
		wants    []Want
		existing []Existing
		names    []string
	}{
		{"the first has the plain name", []Want{want("", four)}, nil, []string{"vrrp.51"}},
		{"IPv6 has a name of its own", []Want{want("", four), want("", six)}, nil, []string{"vrrp.51", "vrrp6.51"}},
		{"others are counted", []Want{want("", four), want("", own), want("", ether.MAC{2})}, nil, []string{"vrrp.51", "vrrp1.51", "vrrp2.51"}},
		{"IPv6 alone has the plain name", []Want{want("", six)}, nil, []string{"vrrp.51"}},
		{"a name that another kind has is taken", []Want{want("", four)}, []Existing{{Name: "vrrp.51", Kind: "veth"}}, []string{"vrrp1.51"}},
		{"one that fits is used, whatever its name", []Want{want("", four)}, []Existing{macvlan("old", "eth0", four)}, []string{"old"}},
		{"even in place of a configured name", []Want{want("new", four)}, []Existing{macvlan("old", "eth0", four)}, []string{"old"}},
		{"but by one only", []Want{want("", four), want("", four)}, []Existing{macvlan("old", "eth0", four)}, []string{"old", "vrrp.51"}},
		{"on another interface it does not fit", []Want{want("", four)}, []Existing{macvlan("vrrp.51", "eth1", four)}, []string{"vrrp1.51"}},
		{"in another mode it does not fit", []Want{want("", four)}, []Existing{bridged}, []string{"vrrp1.51"}},
		{"a configured name counts", []Want{want("vip", four)}, nil, []string{"vip"}},
		{"and replaces a macvlan that does not fit", []Want{want("vip", four)}, []Existing{macvlan("vip", "eth0", own)}, []string{"vip"}},
		{"but nothing else", []Want{want("vip", four)}, []Existing{{Name: "vip", Kind: "bridge"}}, []string{"vrrp.51"}},
		{"a configured name is not given to another", []Want{want("", four), want("vrrp.51", own)}, nil, []string{"vrrp1.51", "vrrp.51"}},
		{"an ipvlan has its own name", []Want{want("", ether.MAC{})}, nil, []string{"vrrp.51"}},
	} {
		var names []string
		for i, s := range Assign(test.wants, test.existing) {
			names = append(names, s.Name)
			if w := test.wants[i].Spec; s.Base != w.Base || s.MAC != w.MAC || s.IPv6 != w.IPv6 {
				t.Errorf("%s: %+v became %+v", test.name, w, s)
			}
		}
		if !slices.Equal(names, test.names) {
			t.Errorf("%s: %q, want %q", test.name, names, test.names)
		}
	}
}

// Whatever exists, no two interfaces get the same name.
func TestAssignGivesEachItsOwnName(t *testing.T) {
	var wants []Want
	for n := range 40 {
		w := Want{Prefix: "vrrp", VRID: 7, Spec: Spec{Base: "eth0", MAC: ether.MAC{2, byte(n)}, IPv6: n%2 == 0}}
		if n%5 == 0 {
			w.Name = []string{"vrrp.7", "vrrp6.7", "vrrp3.7", "a", "b", "c", "d", "e"}[n/5]
		}
		wants = append(wants, w)
	}
	existing := []Existing{{Name: "vrrp6.7", Kind: "dummy"}, {Name: "a", Kind: "macvlan"}, {Name: "vrrp2.7", Kind: "macvlan"}}
	seen := map[string]bool{"vrrp6.7": true, "vrrp2.7": true}
	for _, s := range Assign(wants, existing) {
		if seen[s.Name] {
			t.Errorf("%s was given twice, or is another's", s.Name)
		}
		seen[s.Name] = true
	}
}

func TestSolicitedNode(t *testing.T) {
	got := SolicitedNode(netip.MustParseAddr("fd77::1:2345:6789"))
	if got != netip.MustParseAddr("ff02::1:ff45:6789") {
		t.Error(got)
	}
}
