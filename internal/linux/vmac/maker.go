package vmac

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/sysctl"
)

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE: the kernel makes no link-local address by itself.
const addrGenModeNone = 1

// flags are the names of an ipvlan's flags.
var flags = map[string]netlink.IPVlanFlag{
	"bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA,
}

// ErrNotSupported is the cause when the kernel cannot make an interface of this kind.
var ErrNotSupported = errors.New("this kernel has no such interfaces")

// List returns the interfaces in the network namespace of the calling thread.
func List() ([]Existing, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	existing := make([]Existing, len(links))
	for i, l := range links {
		existing[i] = describe(l, names[l.Attrs().ParentIndex])
	}
	return existing, nil
}

func describe(l netlink.Link, base string) Existing {
	e := Existing{Name: l.Attrs().Name, Base: base, Kind: l.Type()}
	e.MAC, _ = ether.FromSlice(l.Attrs().HardwareAddr)
	switch l := l.(type) {
	case *netlink.Macvlan:
		e.Private = l.Mode == netlink.MACVLAN_MODE_PRIVATE
	case *netlink.IPVlan:
		for name, flag := range flags {
			if l.Mode == netlink.IPVLAN_MODE_L2 && l.Flag == flag {
				e.Flag = name
			}
		}
	}
	return e
}

// Maker makes interfaces in the network namespace of the calling thread. The zero Maker is ready for use. It is not safe
// for concurrent use.
type Maker struct{ changes sysctl.Changes }

// Make makes the interface of a Spec, or takes the one of this name that fits, and returns its index. It replaces a macvlan
// or ipvlan of this name that does not fit. After an error nothing is there that was not there before.
func (m *Maker) Make(s Spec) (index int, err error) {
	index, err = m.make(s)
	if err != nil {
		return 0, fmt.Errorf("make %s %s on %s: %w", s.kind(), s.Name, s.Base, err)
	}
	return index, nil
}

func (m *Maker) make(s Spec) (int, error) {
	base, err := netlink.LinkByName(s.Base)
	if err != nil {
		return 0, err
	}
	if !s.IPVLAN() && base.Attrs().EncapType != "ether" {
		return 0, errors.New("only an Ethernet interface can carry a virtual MAC address")
	}
	link, made, err := getOrAdd(s, base)
	if err != nil {
		return 0, err
	}
	if err := m.configure(s, base, link); err != nil {
		if made {
			err = errors.Join(err, netlink.LinkDel(link))
		}
		return 0, err
	}
	return link.Attrs().Index, nil
}

// getOrAdd returns the interface of a Spec, and whether it is new.
func getOrAdd(s Spec, base netlink.Link) (link netlink.Link, made bool, err error) {
	var missing netlink.LinkNotFoundError
	link, err = netlink.LinkByName(s.Name)
	switch {
	case errors.As(err, &missing):
	case err != nil:
		return nil, false, err
	default:
		e := describe(link, "")
		if link.Attrs().ParentIndex == base.Attrs().Index {
			e.Base = s.Base
		}
		if s.fits(e) {
			return link, false, nil
		}
		if !replaceable(e) {
			return nil, false, fmt.Errorf("there is an interface of kind %s with this name", e.Kind)
		}
		if err := netlink.LinkDel(link); err != nil {
			return nil, false, fmt.Errorf("delete the one that does not fit: %w", err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Group = s.Name, base.Attrs().Index, base.Attrs().Group
	if s.Group != GroupOfBase {
		attrs.Group = uint32(s.Group)
	}
	link = &netlink.IPVlan{LinkAttrs: attrs, Mode: netlink.IPVLAN_MODE_L2, Flag: flags[s.Flag]}
	if !s.IPVLAN() {
		attrs.HardwareAddr = net.HardwareAddr(s.MAC[:])
		link = &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}
	}
	if err := netlink.LinkAdd(link); err != nil {
		if isUnsupported(err) {
			err = fmt.Errorf("%w: %w", ErrNotSupported, err)
		}
		return nil, false, err
	}
	link, err = netlink.LinkByName(s.Name)
	return link, true, err
}

// configure gives an interface and the one below their parameters and sets it up.
func (m *Maker) configure(s Spec, base, link netlink.Link) error {
	errs := []error{m.configureIPv4(s)}
	if err := netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone); err != nil && s.IPv6 {
		errs = append(errs, fmt.Errorf("set IPv6 address generation: %w", err))
	}
	six := map[string]string{"disable_ipv6": "0", "accept_ra": "0", "autoconf": "0"}
	if !s.IPv6 {
		six = map[string]string{"disable_ipv6": "1"}
	}
	for name, value := range six {
		if err := sysctl.IPv6(s.Name, name).Set(value); err != nil && (s.IPv6 || !errors.Is(err, sysctl.ErrNotExist)) {
			errs = append(errs, err)
		}
	}
	if vrf := base.Attrs().MasterIndex; vrf != 0 {
		if master, err := netlink.LinkByIndex(vrf); err == nil && master.Type() == "vrf" {
			errs = append(errs, netlink.LinkSetMasterByIndex(link, vrf))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}

// configureIPv4 makes the interface take what comes from addresses that are routed elsewhere, as other routers'
// advertisements are, and keeps each of the two interfaces from answering ARP for the addresses of the other.
func (m *Maker) configureIPv4(s Spec) error {
	if s.IPv6 {
		return nil
	}
	errs := []error{m.noReversePathForAll()}
	for name, value := range map[string]string{"rp_filter": "0", "accept_local": "1", "arp_ignore": "1", "promote_secondaries": "1"} {
		errs = append(errs, sysctl.IPv4(s.Name, name).Set(value))
	}
	if !s.IPVLAN() {
		errs = append(errs, m.changes.Set(sysctl.IPv4(s.Base, "arp_ignore"), "1"), m.changes.Set(sysctl.IPv4(s.Base, "arp_filter"), "1"))
	}
	return errors.Join(errs...)
}

// noReversePathForAll moves the filter on reverse paths from "all", whose value no interface can go below, to every
// interface there is and will be.
func (m *Maker) noReversePathForAll() error {
	all, err := sysctl.IPv4("all", "rp_filter").GetInt()
	if err != nil || all == 0 {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	names := []string{"default"}
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	for _, name := range names {
		p := sysctl.IPv4(name, "rp_filter")
		own, err := p.GetInt()
		if err == nil && own < all {
			err = m.changes.Set(p, fmt.Sprint(all))
		}
		if err != nil && !errors.Is(err, sysctl.ErrNotExist) {
			return err
		}
	}
	return m.changes.Set(sysctl.IPv4("all", "rp_filter"), "0")
}

// Delete deletes the interface with this index, if it exists.
func (m *Maker) Delete(index int) error {
	link, err := netlink.LinkByIndex(index)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var missing netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &missing) && !isGone(err) {
		return fmt.Errorf("delete interface %d: %w", index, err)
	}
	return nil
}

// Restore puts back the parameters of interfaces that are not ours.
func (m *Maker) Restore() error { return m.changes.Restore() }
