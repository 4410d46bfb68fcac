package agent

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/vmac"
	"github.com/hactl/had/vrrp/packet"
)

// carrierRetry is the time between two attempts to make an interface that the kernel refused.
const carrierRetry = time.Second

// carrierPatience bounds the wait at the start for interfaces that were just made.
const carrierPatience = 500 * time.Millisecond

// carrier is an interface that is made for an instance: a VMAC or an ipvlan. The loop owns it.
type carrier struct {
	vmac.Spec
	instance string
	main     bool         // of use_vmac or use_ipvlan: it stands for the instance's interface
	speaks   bool         // advertisements leave by it
	source   netip.Addr   // configured source of the advertisements
	address  netip.Prefix // that it has for itself (use_ipvlan)
	groups   []netip.Addr // that the interface below is to be in, since no report of membership leaves by this one

	index   int              // 0: not made
	below   int              // index of the interface that is in groups; 0: none is
	member  *vmac.Membership // of below
	local   netip.Addr       // link-local address that it has been given
	retryAt time.Time
	trouble string // why it cannot be made
}

// place decides which addresses and advertisements have an interface of their own. It returns the configuration with the
// names of these interfaces in place of those below, and the interfaces. existing are those that the machine has.
func place(c *conf.Config, existing []vmac.Existing) (*conf.Config, []*carrier) {
	placed := *c
	placed.Instances = slices.Clone(c.Instances)
	var wants []vmac.Want
	var carriers []*carrier
	var name []func(string) // puts the name of a carrier where it belongs
	for n := range placed.Instances {
		in := &placed.Instances[n]
		in.Addresses, in.Excluded = slices.Clone(in.Addresses), slices.Clone(in.Excluded)
		at := map[carrierKey]int{}
		get := func(k carrierKey, w vmac.Want) int {
			i, known := at[k]
			if !known {
				i = len(wants)
				at[k] = i
				wants, carriers = append(wants, w), append(carriers, &carrier{instance: in.Name})
				name = append(name, func(string) {})
			}
			return i
		}
		main := carrierKey{in.Interface, in.Family}
		w, wanted := mainCarrier(c, in)
		if wanted {
			i := get(main, w)
			carriers[i].main = true
			if in.IPVLAN != nil {
				carriers[i].address = in.IPVLAN.Address
			}
			if in.IPVLAN != nil || !in.VMAC.TransmitFromBase {
				carriers[i].speaks, carriers[i].source = true, in.Source
				carriers[i].groups = append(carriers[i].groups, multicastGroup(in))
				name[i] = func(s string) { in.Interface = s }
			}
		}
		for _, addresses := range [][]conf.Address{in.Addresses, in.Excluded} {
			for m := range addresses {
				a := &addresses[m]
				k := carrierKey{a.Interface, family(a.Prefix.Addr())}
				if !a.UseVMAC && !(wanted && k == main) {
					continue
				}
				i := get(k, vmac.Want{Prefix: c.Global.VMACAddrPrefix, VRID: in.VRID, Spec: vmac.Spec{Base: a.Interface,
					MAC: vmac.VirtualMAC(in.VRID, k.family == conf.IPv6), Group: vmac.GroupOfBase, IPv6: k.family == conf.IPv6}})
				if addr := a.Prefix.Addr(); addr.Is6() {
					carriers[i].groups = append(carriers[i].groups, vmac.SolicitedNode(addr))
				}
				before := name[i]
				name[i] = func(s string) { before(s); a.Interface = s }
			}
		}
	}
	for i, spec := range vmac.Assign(wants, existing) {
		carriers[i].Spec = spec
		name[i](spec.Name)
	}
	return &placed, carriers
}

// carrierKey tells the carriers of an instance apart.
type carrierKey struct {
	base   string
	family conf.Family
}

func family(addr netip.Addr) conf.Family {
	if addr.Is6() {
		return conf.IPv6
	}
	return conf.IPv4
}

func multicastGroup(in *conf.Instance) netip.Addr {
	switch {
	case in.MulticastGroup.IsValid():
		return in.MulticastGroup
	case in.Family == conf.IPv6:
		return packet.GroupIPv6
	}
	return packet.GroupIPv4
}

// mainCarrier is the interface that use_vmac or use_ipvlan asks for.
func mainCarrier(c *conf.Config, in *conf.Instance) (w vmac.Want, wanted bool) {
	w = vmac.Want{Prefix: c.Global.VMACPrefix, VRID: in.VRID, Spec: vmac.Spec{Base: in.Interface, IPv6: in.Family == conf.IPv6}}
	var group conf.Number
	switch {
	case in.VMAC != nil:
		w.Name, group = in.VMAC.Name, in.VMAC.Group
		w.MAC = vmac.VirtualMAC(in.VRID, in.Family == conf.IPv6)
		if len(in.VMAC.MAC) > 0 {
			own := append(slices.Clone(in.VMAC.MAC), in.VRID) // 5 octets are completed with the VRID
			w.MAC = ether.MAC(own[:len(w.MAC)])
		}
	case in.IPVLAN != nil:
		w.Name, w.Flag, group = in.IPVLAN.Name, in.IPVLAN.Mode, in.IPVLAN.Group
	default:
		return w, false
	}
	w.Group = vmac.GroupOfBase
	if group.Set {
		w.Group = int(group.Value)
	}
	return w, true
}

// named returns the carrier of this name, or nil.
func named(carriers []*carrier, name string) *carrier {
	for _, c := range carriers {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// announced lists the addresses of an instance that an announcement is of: all, or with extra those on other interfaces than
// its own (garp_extra_if).
func (a *Agent) announced(i *instance, extra bool) []conf.Address {
	in, addresses := i.conf, i.holding.own()
	if !extra {
		return addresses
	}
	return slices.DeleteFunc(addresses, func(addr conf.Address) bool {
		own := named(a.carriers, addr.Interface)
		if own == nil {
			return addr.Interface == in.Interface || !in.GARPExtraInterfaces.All
		}
		return own.main
	})
}

// placeInstances decides on the interfaces that are to be made.
func (a *Agent) placeInstances() error {
	existing, err := vmac.List()
	if err != nil {
		return err
	}
	a.cfg, a.carriers = place(a.cfg, existing)
	for n := range a.cfg.Instances {
		in := &a.cfg.Instances[n]
		a.instances[in.Name].conf, a.instances[in.Name].holding.instance = in, in
	}
	a.indexAddresses()
	return nil
}

// carrierEvent notes what an event says about the carriers, and sees to it that all of them are there.
func (a *Agent) carrierEvent(ev link.Event) {
	for _, c := range a.carriers {
		switch ev := ev.(type) {
		case link.LinkRemoved:
			if ev.Link.Index == c.index {
				a.log.Warn("an interface of ours was removed by somebody else", "iface", c.Name, "instance", c.instance)
				c.index, c.local = 0, netip.Addr{}
			}
		case link.AddressRemoved:
			if ev.Address.Index == c.index && ev.Address.Prefix.Addr() == c.local {
				c.local = netip.Addr{}
			}
		case link.LinkChanged:
			if ev.Link.Name == c.Base {
				c.retryAt = time.Time{}
			}
		}
	}
	a.keepCarriers()
}

// keepCarriers makes the carriers that are not there, and gives them what they need of the interface below.
func (a *Agent) keepCarriers() {
	for _, c := range a.carriers {
		base, exists := a.table.ByName(c.Base)
		if base.Index != c.below {
			a.joinBelow(c, base.Index)
		}
		if !exists {
			c.index, c.trouble = 0, "interface "+c.Base+" does not exist"
			continue
		}
		if c.index == 0 && !time.Now().Before(c.retryAt) {
			a.makeCarrier(c)
		}
		if c.index != 0 {
			a.addressCarrier(c, base)
		}
	}
}

func (a *Agent) makeCarrier(c *carrier) {
	c.retryAt = time.Now().Add(carrierRetry)
	index, err := a.vmacs.Make(c.Spec)
	switch {
	case err == nil:
		c.index, c.local, c.trouble = index, netip.Addr{}, ""
		a.log.Info("interface made", "iface", c.Name, "instance", c.instance, "mac", c.MAC.String(), "base", c.Base)
	case c.trouble != err.Error():
		c.trouble = err.Error()
		a.log.Error("an interface cannot be made", "iface", c.Name, "instance", c.instance, "err", err)
	}
}

// carriersWork tells whether every carrier that was made carries packets and has its address, as far as the interface below
// lets it.
func (a *Agent) carriersWork() bool {
	for _, c := range a.carriers {
		base, _ := a.table.ByName(c.Base)
		l, known := a.table.ByIndex(c.index)
		switch {
		case c.index == 0 || !base.Works():
		case !known || !l.Works():
			return false
		case c.local.IsValid() && !a.table.Has(address.Virtual(c.index, netip.PrefixFrom(c.local, 64))):
			return false
		}
	}
	return true
}

// joinBelow makes the interface below a carrier a member of the carrier's groups; index 0 is none.
func (a *Agent) joinBelow(c *carrier, index int) {
	if c.member != nil {
		if err := c.member.Close(); err != nil {
			a.log.Debug("leave multicast groups", "iface", c.Base, "err", err)
		}
	}
	c.member, c.below = nil, index
	if index == 0 || len(c.groups) == 0 {
		return
	}
	var err error
	if c.member, err = vmac.Join(index, c.groups); err != nil {
		a.log.Warn("a switch that looks after multicast groups may keep them from us", "iface", c.Base, "err", err)
	}
}

// addressCarrier gives a carrier the addresses that it speaks from: the configured one of an ipvlan, and over IPv6 the source
// of the advertisements, or the link-local address of the interface below. They are not used as sources otherwise.
func (a *Agent) addressCarrier(c *carrier, base link.Link) {
	if c.address.IsValid() {
		a.putOwn(c, c.address)
	}
	if !c.speaks || !c.IPv6 {
		return
	}
	local := c.source
	if !local.IsValid() {
		local, _ = a.table.Source(base.Index, true, c.local, a.isVirtual)
	}
	if local == c.local || !local.IsValid() {
		return
	}
	if c.local.IsValid() {
		if err := a.manager.Remove(address.Virtual(c.index, netip.PrefixFrom(c.local, 64))); err != nil {
			a.log.Warn("cannot remove an address that is no longer spoken from", "iface", c.Name, "err", err)
		}
	}
	if a.putOwn(c, netip.PrefixFrom(local, 64)) {
		c.local = local
	}
}

// putOwn adds an address that belongs to this machine and not to the virtual router.
func (a *Agent) putOwn(c *carrier, prefix netip.Prefix) bool {
	own := address.Virtual(c.index, prefix)
	if a.table.Has(own) {
		return true
	}
	if err := a.manager.Put(own, address.Lifetime{Valid: address.Forever}); err != nil {
		a.log.Error("an interface has no address to speak from", "iface", c.Name, "err", err)
		return false
	}
	return true
}

// isVirtual tells whether an address is one of those that an instance holds while it is Active.
func (a *Agent) isVirtual(addr netip.Addr) bool { return a.virtual[addr] != nil }

// indexAddresses notes whose the virtual addresses are.
func (a *Agent) indexAddresses() {
	a.virtual = map[netip.Addr][]string{}
	for _, name := range a.order {
		for _, v := range held(a.instances[name].conf) {
			addr := v.Prefix.Addr()
			if owners := a.virtual[addr]; !slices.Contains(owners, name) {
				a.virtual[addr] = append(owners, name)
			}
		}
	}
}

// dropBelow removes virtual addresses that an earlier life has left on the interface below a carrier.
func (a *Agent) dropBelow() error {
	for _, c := range a.carriers {
		base, _ := a.table.ByName(c.Base)
		for _, there := range a.table.Addresses(base.Index) {
			if there.Protocol == address.Protocol && slices.ContainsFunc(held(a.instances[c.instance].conf), func(v conf.Address) bool {
				return v.Interface == c.Name && v.Prefix.Addr() == there.Prefix.Addr()
			}) {
				if err := a.manager.Remove(there); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bringCarriers makes the carriers of a new configuration. Those that are there already go on. It returns the ones that are
// not needed any more, to be deleted once nothing is held on them.
func (a *Agent) bringCarriers(carriers []*carrier) (unneeded []*carrier) {
	for _, c := range carriers {
		old := named(a.carriers, c.Name)
		if old == nil || old.Spec != c.Spec {
			continue
		}
		c.index, c.below, c.member, c.local = old.index, old.below, old.member, old.local
		if !slices.Equal(c.groups, old.groups) {
			c.below = -1 // to be joined anew
		}
	}
	unneeded = slices.DeleteFunc(slices.Clone(a.carriers), func(old *carrier) bool {
		c := named(carriers, old.Name)
		return c != nil && c.Spec == old.Spec
	})
	a.carriers = carriers
	a.keepCarriers()
	return unneeded
}

// deleteCarriers removes the interfaces that were made, and puts the kernel's parameters back.
func (a *Agent) deleteCarriers() {
	for _, c := range a.carriers {
		a.deleteCarrier(c)
	}
	if err := a.vmacs.Restore(); err != nil {
		a.log.Warn("kernel parameters stay as they were changed", "err", err)
	}
}

func (a *Agent) deleteCarrier(c *carrier) {
	a.joinBelow(c, 0)
	if c.index == 0 {
		return
	}
	if err := a.vmacs.Delete(c.index); err != nil {
		a.log.Error("an interface of ours stays behind", "iface", c.Name, "err", err)
	}
	c.index = 0
}
