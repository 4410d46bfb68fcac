package agent

import (
	"errors"

	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/sysctl"
)

// promotion is net.ipv4.conf.INTERFACE.promote_secondaries of the interfaces of instances that want it: the removal of an
// address does not take the others of its prefix along. The loop owns it.
type promotion struct {
	wanted  map[string]bool // by interface
	changed map[string]bool // those where it was not set before
}

// set sets it on an interface that exists. A kernel that has no such setting has no need of it.
func (p *promotion) set(iface string) error {
	if !p.wanted[iface] || p.changed[iface] {
		return nil
	}
	parameter := sysctl.IPv4(iface, "promote_secondaries")
	value, err := parameter.GetInt()
	switch {
	case errors.Is(err, sysctl.ErrNotExist):
		return nil
	case err != nil || value != 0:
		return err
	}
	if err := parameter.SetInt(1); err != nil {
		return err
	}
	p.changed[iface] = true
	return nil
}

// restore puts back what was there before.
func (p *promotion) restore() error {
	var errs []error
	for iface := range p.changed {
		if err := sysctl.IPv4(iface, "promote_secondaries").SetInt(0); !errors.Is(err, sysctl.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	clear(p.changed)
	return errors.Join(errs...)
}

// openPromotion sets promote_secondaries on the interfaces that there are.
func (a *Agent) openPromotion() {
	a.promotion = promotion{wanted: map[string]bool{}, changed: map[string]bool{}}
	for i := range a.cfg.Instances {
		if in := &a.cfg.Instances[i]; in.PromoteSecondaries && in.VMAC == nil && in.IPVLAN == nil {
			a.promotion.wanted[in.Interface] = true
			a.promote(in.Interface)
		}
	}
}

func (a *Agent) promote(iface string) {
	if err := a.promotion.set(iface); err != nil {
		a.log.Warn("cannot set promote_secondaries", "interface", iface, "err", err)
	}
}

// promoteNew follows interfaces that come and go: a new one has the kernel's default.
func (a *Agent) promoteNew(ev link.Event) {
	switch ev := ev.(type) {
	case link.LinkChanged:
		if ev.Before.Name != ev.Link.Name {
			a.promote(ev.Link.Name)
		}
	case link.LinkRemoved:
		delete(a.promotion.changed, ev.Link.Name)
	}
}
