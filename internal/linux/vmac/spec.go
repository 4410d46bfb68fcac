package vmac

import (
	"fmt"
	"slices"

	"github.com/hactl/had/internal/linux/ether"
)

// GroupOfBase is the Group of an interface that is in the interface group of the one below.
const GroupOfBase = -1

// Spec is an interface to be. It is comparable.
type Spec struct {
	Name string
	Base string // name of the interface below

	// MAC is the address of a macvlan. The zero MAC makes an ipvlan.
	MAC ether.MAC

	// Flag of an ipvlan: bridge, private or vepa.
	Flag string

	Group int  // interface group, or GroupOfBase
	IPv6  bool // it carries IPv6; else IPv6 is switched off on it
}

// IPVLAN tells whether the interface is an ipvlan.
func (s Spec) IPVLAN() bool { return s.MAC.IsZero() }

// kind is the kernel's name for the kind of interface.
func (s Spec) kind() string {
	if s.IPVLAN() {
		return "ipvlan"
	}
	return "macvlan"
}

// Existing is an interface of the machine.
type Existing struct {
	Name string
	Base string // name of the interface below; empty: none, or one in another namespace
	Kind string // "macvlan", "ipvlan", "veth"...
	MAC  ether.MAC

	Private bool   // a macvlan in private mode
	Flag    string // of an ipvlan in L2 mode
}

// fits tells whether an interface is what s asks for, whatever its name.
func (s Spec) fits(e Existing) bool {
	if e.Kind != s.kind() || e.Base != s.Base {
		return false
	}
	if s.IPVLAN() {
		return e.Flag == s.Flag
	}
	return e.Private && e.MAC == s.MAC
}

// replaceable tells whether an interface is of a kind that may be deleted to make place for one of ours.
func replaceable(e Existing) bool { return e.Kind == "macvlan" || e.Kind == "ipvlan" }

// Want is an interface that a virtual router needs. The Name of its Spec may be empty.
type Want struct {
	Spec
	Prefix string // of the name, where none is given
	VRID   uint8
}

// Assign gives each wanted interface its name. As in keepalived a macvlan that exists and fits is used, whatever its name;
// else the configured name counts, unless an interface of another kind has it; else it is the first that is free of
// PREFIX.VRID, PREFIX6.VRID (IPv6 only), PREFIX1.VRID, PREFIX2.VRID...
func Assign(wants []Want, existing []Existing) []Spec {
	find := func(name string) int {
		return slices.IndexFunc(existing, func(e Existing) bool { return e.Name == name })
	}
	taken := map[string]bool{} // names that are given away
	for _, w := range wants {
		taken[w.Name] = w.Name != ""
	}
	specs := make([]Spec, len(wants))
	for i, w := range wants {
		s := w.Spec
		reuse := slices.IndexFunc(existing, func(e Existing) bool {
			return !s.IPVLAN() && s.fits(e) && (!taken[e.Name] || e.Name == s.Name)
		})
		at := find(s.Name)
		switch {
		case reuse >= 0:
			s.Name = existing[reuse].Name
		case s.Name != "" && (at < 0 || replaceable(existing[at])):
		default:
			s.Name = automatic(w, func(name string) bool {
				at := find(name)
				return !taken[name] && (at < 0 || s.fits(existing[at]))
			})
		}
		taken[s.Name] = true
		specs[i] = s
	}
	return specs
}

// automatic is the first free name for a virtual router.
func automatic(w Want, free func(string) bool) string {
	name := fmt.Sprintf("%s.%d", w.Prefix, w.VRID)
	if six := fmt.Sprintf("%s6.%d", w.Prefix, w.VRID); w.IPv6 && !free(name) && free(six) {
		return six
	}
	for n := 1; !free(name); n++ {
		name = fmt.Sprintf("%s%d.%d", w.Prefix, n, w.VRID)
	}
	return name
}

// VirtualMAC is the MAC address of a virtual router (RFC 9568 section 7.3).
func VirtualMAC(vrid uint8, ipv6 bool) ether.MAC {
	family := byte(1)
	if ipv6 {
		family = 2
	}
	return ether.MAC{0, 0, 0x5e, 0, family, vrid}
}
