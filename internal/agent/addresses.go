package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
)

const (
	// spare is how much longer than its lease an address lives: it vanishes by itself when nobody is left to remove it,
	// and need not be refreshed with every renewal.
	spare = 5 * time.Second
	// refreshBelow is the life beyond the lease's that is left when an address is refreshed.
	refreshBelow = 2 * time.Second
)

// kernel is what changes addresses: *address.Manager.
type kernel interface {
	Put(address.Address, address.Lifetime) error
	Remove(address.Address) error
}

// holding is the virtual addresses of one instance in the kernel. The loop owns it.
type holding struct {
	instance *conf.Instance
	kernel   kernel
	table    *link.Table
	lifetime bool // the lifetime is the guard: it must end before the lease does

	taken     bool       // the addresses should be there
	limited   bool       // they have a lifetime
	validTill clock.Time // until when the kernel keeps them

	fresh   []conf.Address        // came with a change of the configuration and are not added yet
	removed map[addressOfLink]int // removals of ours that the kernel has yet to tell of, where the address is ours again
}

// addressOfLink is an address as the kernel tells them apart.
type addressOfLink struct {
	index  int
	prefix netip.Prefix
}

// kernelAddress is the kernel's form of a configured address; an error says that its interface does not exist.
func (h *holding) kernelAddress(a conf.Address) (address.Address, address.Seconds, error) {
	name := a.Interface
	if name == "" {
		name = h.instance.Interface
	}
	l, ok := h.table.ByName(name)
	if !ok {
		return address.Address{}, 0, fmt.Errorf("interface %s does not exist", name)
	}
	k := address.Virtual(l.Index, a.Prefix)
	k.Scope, k.Broadcast, k.Peer, k.Label = address.Scope(a.Scope), a.Broadcast, a.Peer, a.Label
	for flag, set := range map[address.Flags]bool{address.HomeAddress: a.Home, address.ManageTemporary: a.MngTmpAddr,
		address.NoPrefixRoute: a.NoPrefixRt, address.AutoJoin: a.AutoJoin} {
		if set {
			k.Flags |= flag
		}
	}
	if a.DAD {
		k.Flags &^= address.NoDAD
	}
	preferred := address.Forever
	if a.PreferredLft != conf.PreferredForever {
		preferred = address.Seconds(a.PreferredLft / time.Second)
	}
	return k, preferred, nil
}

// own lists the addresses that may be there: all but the fresh ones.
func (h *holding) own() []conf.Address {
	return slices.DeleteFunc(held(h.instance), func(a conf.Address) bool {
		return slices.ContainsFunc(h.fresh, func(b conf.Address) bool { return conf.Same(a, b) })
	})
}

// take adds or refreshes all addresses but the fresh ones. A zero until is no limit. Those that can be had are there even if an error says
// that others cannot.
func (h *holding) take(now, until clock.Time) error {
	valid := address.Forever
	if !until.IsZero() {
		left := until.Sub(now) + spare
		if h.lifetime {
			left = until.Sub(now) * 9 / 10 // the kernel's timers follow the slewed clock, which is up to 10% slow
		}
		if left < time.Second {
			return errors.New("too little of the lease is left for an address lifetime in whole seconds")
		}
		valid = address.Seconds(left / time.Second)
		h.validTill = now.Add(time.Duration(valid) * time.Second)
	}
	h.taken, h.limited = true, !until.IsZero()
	return h.put(h.own(), valid)
}

// put adds or refreshes addresses.
func (h *holding) put(addresses []conf.Address, valid address.Seconds) error {
	var errs []error
	for _, a := range addresses {
		k, preferred, err := h.kernelAddress(a)
		if err == nil {
			err = h.kernel.Put(k, address.Lifetime{Valid: valid, Preferred: preferred})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// replace takes another configuration. What that does not have is removed at once, in reverse order; what is new in it is
// fresh, to be added with add. lost tells whether anything was removed.
func (h *holding) replace(in *conf.Instance) (lost bool, err error) {
	before, after := held(h.instance), held(in)
	has := func(list []conf.Address, a conf.Address) bool {
		return slices.ContainsFunc(list, func(b conf.Address) bool { return conf.Same(a, b) })
	}
	h.instance, h.fresh = in, nil
	if !h.taken {
		return false, nil
	}
	for _, a := range after {
		if !has(before, a) {
			h.fresh = append(h.fresh, a)
		}
	}
	var errs []error
	for _, a := range slices.Backward(before) {
		k, _, err := h.kernelAddress(a)
		if err != nil || has(after, a) {
			continue // no interface, no address
		}
		if h.has(k) && h.table.Has(k) {
			if h.removed == nil {
				h.removed = map[addressOfLink]int{}
			}
			h.removed[addressOfLink{k.Index, k.Prefix}]++
		}
		lost = true
		errs = append(errs, h.kernel.Remove(k))
	}
	return lost, errors.Join(errs...)
}

// add puts what is fresh into the kernel, for as long as all the rest is there, and returns it.
func (h *holding) add(now clock.Time) ([]conf.Address, error) {
	fresh, valid := h.fresh, address.Forever
	h.fresh = nil
	if h.limited {
		valid = address.Seconds(max(h.validTill.Sub(now), time.Second) / time.Second)
	}
	return fresh, h.put(fresh, valid)
}

// byUs tells whether a removal that the kernel tells of was our own, in a change of the configuration.
func (h *holding) byUs(k address.Address) bool {
	key := addressOfLink{k.Index, k.Prefix}
	if h.removed[key] == 0 {
		return false
	}
	h.removed[key]--
	return true
}

// extend refreshes the lifetimes if they are about to end too early for a lease until then.
func (h *holding) extend(now, until clock.Time) error {
	if !h.taken || !h.limited || (!h.lifetime && h.validTill.Sub(until) > refreshBelow) {
		return nil
	}
	return h.take(now, until)
}

// drop removes all addresses, in the order of the file, whether they are known to be there or not.
func (h *holding) drop() error {
	h.taken, h.fresh = false, nil
	var errs []error
	for _, a := range held(h.instance) {
		k, _, err := h.kernelAddress(a)
		if err != nil {
			continue // no interface, no address
		}
		errs = append(errs, h.kernel.Remove(k))
	}
	return errors.Join(errs...)
}

// has tells whether an address of the kernel is one of ours.
func (h *holding) has(k address.Address) bool {
	for _, a := range held(h.instance) {
		if mine, _, err := h.kernelAddress(a); err == nil && mine.Index == k.Index && mine.Prefix == k.Prefix {
			return true
		}
	}
	return false
}

// tracks tells whether an address of the kernel is one of ours whose removal by somebody else has a consequence.
func (h *holding) tracks(k address.Address) bool {
	for _, a := range held(h.instance) {
		if mine, _, err := h.kernelAddress(a); err == nil && a.Track && mine.Index == k.Index && mine.Prefix == k.Prefix {
			return true
		}
	}
	return false
}

// restore adds the tracked addresses again: those of the interface with this index, or all if it is 0. They are without a
// limit.
func (h *holding) restore(index int) error {
	var errs []error
	for _, a := range held(h.instance) {
		k, preferred, err := h.kernelAddress(a)
		if err != nil || !a.Track || index != 0 && k.Index != index {
			continue
		}
		errs = append(errs, h.kernel.Put(k, address.Lifetime{Valid: address.Forever, Preferred: preferred}))
	}
	return errors.Join(errs...)
}

// present tells whether a configured address is in the kernel, as far as its notifications have come.
func (h *holding) present(a conf.Address) bool {
	k, _, err := h.kernelAddress(a)
	return err == nil && h.table.Has(k)
}
