package fencing

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Family is the address family of a virtual router.
type Family uint8

// The families, by their IP version.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return fmt.Sprintf("Family(%d)", uint8(f))
}

// VirtualRouter names the advertisements of one VRRP instance as they leave the machine.
type VirtualRouter struct {
	Interface string // name of the interface that sends them
	VRID      uint8
	Family    Family
}

func (r VirtualRouter) String() string {
	return fmt.Sprintf("%s VRID %d %v", r.Interface, r.VRID, r.Family)
}

// GuardedGroup is an ownership group as the guard sees it. Addresses are usable, and advertisements with a priority
// other than 0 leave the machine, only while the group's lease is open.
//
// A link-local IPv6 address may carry the interface as its zone (fe80::1%eth0.10); then it is guarded there only, so
// that two groups can use the same one on different links. All other addresses are guarded on every interface.
//
// An interface that carries the virtual MAC address of one of the group's routers sends nothing while the group is
// shut, except advertisements with priority 0: any frame would move the address in the switches.
type GuardedGroup struct {
	Name           string
	Addresses      []netip.Addr
	Routers        []VirtualRouter
	VMACInterfaces []string
}

// GuardSpec says what the guard protects.
type GuardSpec struct {
	Groups []GuardedGroup
}

// GuardedAddress maps an address to the number of its group.
type GuardedAddress struct {
	Address   netip.Addr // without zone
	Interface string     // the only interface on which Address is meant; empty: on all
	Group     uint32
}

// GuardedRouter maps a virtual router to the number of its group.
type GuardedRouter struct {
	VirtualRouter
	Group uint32
}

// GuardedInterface maps an interface with a virtual MAC address to the number of its group.
type GuardedInterface struct {
	Name  string
	Group uint32
}

// GuardPlan is a checked GuardSpec in a fixed order: two specs with the same content in any order have equal plans.
// Groups are numbered from 1 in the order of their names.
type GuardPlan struct {
	Groups    []string // the group with number i+1
	Addresses []GuardedAddress
	Routers   []GuardedRouter
	VMACs     []GuardedInterface
}

// Number is the number of a group, or 0 if it is not part of the plan.
func (p GuardPlan) Number(group string) uint32 {
	i, found := slices.BinarySearch(p.Groups, group)
	if !found {
		return 0
	}
	return uint32(i) + 1
}

// Plan checks the spec and puts it in order. Every fault is reported, joined into one error. An address, a virtual
// router or an interface may be listed twice in one group, never in two.
func (s GuardSpec) Plan() (GuardPlan, error) {
	groups := slices.Clone(s.Groups)
	slices.SortStableFunc(groups, func(a, b GuardedGroup) int { return cmp.Compare(a.Name, b.Name) })
	p := planner{owner: make(map[any]string)}
	for i, g := range groups {
		switch {
		case g.Name == "":
			p.fault("a group has no name")
		case i > 0 && groups[i-1].Name == g.Name:
			p.fault("group %q is listed twice", g.Name)
		default:
			p.plan.Groups = append(p.plan.Groups, g.Name)
			p.add(g, uint32(len(p.plan.Groups)))
		}
	}
	if err := errors.Join(p.faults...); err != nil {
		return GuardPlan{}, err
	}
	slices.SortFunc(p.plan.Addresses, func(a, b GuardedAddress) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Interface, b.Interface))
	})
	slices.SortFunc(p.plan.Routers, func(a, b GuardedRouter) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.VRID, b.VRID), cmp.Compare(a.Family, b.Family))
	})
	slices.SortFunc(p.plan.VMACs, func(a, b GuardedInterface) int { return cmp.Compare(a.Name, b.Name) })
	return p.plan, nil
}

// planner collects a plan and the faults of its spec.
type planner struct {
	plan   GuardPlan
	owner  map[any]string // group of each netip.Addr, VirtualRouter and interface name (string)
	faults []error
}

func (p *planner) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf("guard: "+format, args...))
}

// add takes a group's content, in its order.
func (p *planner) add(g GuardedGroup, number uint32) {
	for _, address := range g.Addresses {
		guarded := GuardedAddress{Address: address.Unmap().WithZone(""), Group: number}
		if address.IsLinkLocalUnicast() {
			guarded.Interface = address.Zone()
		}
		switch {
		case !address.IsValid() || address.IsUnspecified() || address.IsMulticast() || address.IsLoopback() ||
			guarded.Interface != "" && !isInterfaceName(guarded.Interface):
			p.fault("group %q: %v cannot be a virtual IP", g.Name, address)
		case p.take(guarded.Address.WithZone(guarded.Interface), g.Name, "address %v"):
			p.plan.Addresses = append(p.plan.Addresses, guarded)
		}
	}
	for _, r := range g.Routers {
		switch {
		case !isInterfaceName(r.Interface) || r.VRID == 0 || r.Family != IPv4 && r.Family != IPv6:
			p.fault("group %q: %v is no virtual router", g.Name, r)
		case p.take(r, g.Name, "virtual router %v"):
			p.plan.Routers = append(p.plan.Routers, GuardedRouter{VirtualRouter: r, Group: number})
		}
	}
	for _, name := range g.VMACInterfaces {
		switch {
		case !isInterfaceName(name):
			p.fault("group %q: %q is no name of an interface", g.Name, name)
		case p.take(name, g.Name, "interface %q"):
			p.plan.VMACs = append(p.plan.VMACs, GuardedInterface{Name: name, Group: number})
		}
	}
}

// take notes that group owns thing. It returns false if that is known already, or if another group owns it.
func (p *planner) take(thing any, group, what string) bool {
	owner, taken := p.owner[thing]
	switch {
	case !taken:
		p.owner[thing] = group
		return true
	case owner != group:
		p.fault(what+" belongs to both group %q and group %q", thing, owner, group)
	}
	return false
}

// isInterfaceName tells whether Linux would accept the name; it has at most IFNAMSIZ - 1 bytes.
func isInterfaceName(name string) bool {
	return name != "" && len(name) <= 15 && !strings.ContainsAny(name, "/ \t\n\x00")
}
