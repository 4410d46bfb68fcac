package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/neigh"
)

const (
	lookAttempts = 2  // questions for each address
	lookMost     = 64 // addresses asked for on an interface: more would take longer than the answers may
)

// found are the stations that a look has heard.
type found struct {
	group  string
	claims []neigh.Claim
	director.Looked
}

// lookedAt lists the addresses of a group by the interface on which to ask for them. Questions from a virtual MAC would lead the
// switches here, so those about addresses on such an interface leave by the one below.
func (a *Agent) lookedAt(group string) map[string][]netip.Addr {
	asked := map[string][]netip.Addr{}
	for _, name := range a.members[group] {
		i := a.instances[name]
		for _, addr := range held(i.conf) {
			iface := addr.Interface
			if iface == "" {
				iface = i.conf.Interface
			}
			if c := named(a.carriers, iface); c != nil {
				iface = c.Base
			}
			if len(asked[iface]) < lookMost && !slices.Contains(asked[iface], addr.Prefix.Addr()) {
				asked[iface] = append(asked[iface], addr.Prefix.Addr())
			}
		}
	}
	return asked
}

// lookAround asks who has the addresses, and tells the loop who answers. It waits for the answers: it has a goroutine of its own.
func (a *Agent) lookAround(look director.Look, asked map[string][]netip.Addr) {
	answers := make(chan []neigh.Claim, len(asked))
	for iface, addrs := range asked {
		go func() {
			claims, err := a.watcher.Ask(a.work, iface, addrs, netip.Addr{}, lookAttempts, look.Within)
			if err != nil && !errors.Is(err, context.Canceled) {
				a.log.Debug("cannot look who has the addresses", "group", look.Group, "iface", iface, "err", err)
			}
			answers <- claims
		}()
	}
	f := found{group: look.Group, Looked: director.Looked{Group: look.Group, Serial: look.Serial}}
	for range asked {
		f.claims = append(f.claims, <-answers...)
	}
	a.post(a.work, f)
}

// lookedAround takes in who answers for the addresses of a group, and forgets who did before. The virtual MAC of its own routers is nobody's,
// and another router's only while this director does not have the group.
func (a *Agent) lookedAround(f found) {
	v, _ := a.machine.Group(f.group)
	for _, name := range a.members[f.group] {
		clear(a.instances[name].strangers)
	}
	for _, c := range f.claims {
		for _, name := range a.members[f.group] {
			i := a.instances[name]
			if !slices.ContainsFunc(held(i.conf), func(addr conf.Address) bool { return addr.Prefix.Addr() == c.Addr.WithZone("") }) {
				continue
			}
			virtual := c.MAC == virtualMAC(i.conf)
			if virtual && v.Held {
				break
			}
			if !virtual && !a.machine.Node().KnowsHardware(c.MAC.String()) {
				i.remember(c)
			}
			f.Others = append(f.Others, director.Other{Address: c.Addr, Hardware: c.MAC.String(), Virtual: virtual})
			break
		}
	}
	a.step(f.Looked)
}

// virtualMAC is the MAC that all routers of a virtual router share (RFC 9568 section 7.3).
func virtualMAC(in *conf.Instance) ether.MAC {
	family := byte(1)
	if in.Family == conf.IPv6 {
		family = 2
	}
	return ether.MAC{0, 0, 0x5e, 0, family, in.VRID}
}

// hardwareEvent says which hardware addresses this machine has, if that is news.
func (a *Agent) hardwareEvent() []director.Event {
	if !a.clustered() {
		return nil
	}
	var all []string
	for _, name := range a.order {
		for _, addr := range held(a.instances[name].conf) {
			iface := addr.Interface
			if iface == "" {
				iface = a.instances[name].conf.Interface
			}
			if l, ok := a.table.ByName(iface); ok && !l.MAC.IsZero() {
				all = append(all, l.MAC.String())
			}
		}
	}
	slices.Sort(all)
	addresses := strings.Join(slices.Compact(all), " ")
	if addresses == a.hardware {
		return nil
	}
	a.hardware = addresses
	return []director.Event{director.Hardware{Addresses: addresses}}
}
