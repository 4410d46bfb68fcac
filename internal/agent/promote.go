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

// restore puts back what was there before, on the interfaces that are not wanted.
func (p *promotion) restore() error {
	var errs []error
	for iface := range p.changed {
		if p.wanted[iface] {
			continue
		}
		delete(p.changed, iface)
		if err := sysctl.IPv4(iface, "promote_secondaries").SetInt(0); !errors.Is(err, sysctl.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// replacePromotion sets promote_secondaries on those of the interfaces of the configuration that there are, and puts it back
// where it is not wanted any more.
func (a *Agent) replacePromotion() {
	p := &a.promotion
	p.wanted = map[string]bool{}
	if p.changed == nil {
		p.changed = map[string]bool{}
	}
	for i := range a.cfg.Instances {
		if in := &a.cfg.Instances[i]; in.PromoteSecondaries && in.VMAC == nil && in.IPVLAN == nil {
			p.wanted[in.Interface] = true
			a.promote(in.Interface)
		}
	}
	if err := p.restore(); err != nil {
		a.log.Warn("cannot put promote_secondaries back", "err", err)
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
