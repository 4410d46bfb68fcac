package agent

import (
	"errors"
	"fmt"
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

// take adds or refreshes all addresses. A zero until is no limit. Those that can be had are there even if an error says
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
	var errs []error
	for _, a := range held(h.instance) {
		k, preferred, err := h.kernelAddress(a)
		if err == nil {
			err = h.kernel.Put(k, address.Lifetime{Valid: valid, Preferred: preferred})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
	h.taken = false
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
