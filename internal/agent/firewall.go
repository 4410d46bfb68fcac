package agent

import (
	"reflect"

	"github.com/hactl/had/internal/linux/filter"
)

// defaultTable is the name of the filter's tables where none is configured: keepalived's.
const defaultTable = "keepalived"

// filterRules are the rules of the packet filter that the configuration asks for.
func (a *Agent) filterRules() filter.Rules {
	f := a.cfg.Global.Firewall
	r := filter.Rules{Table: f.Nftables, Priority: f.NftablesPriority, Counters: f.NftablesCounters}
	if r.Table == "" {
		r.Table = defaultTable
	}
	for _, c := range a.carriers {
		if !c.IPVLAN() {
			r.VMACs = append(r.VMACs, filter.VMAC{Name: c.Name, IPv6: c.IPv6})
		}
	}
	for i := range a.cfg.Instances {
		if in := &a.cfg.Instances[i]; !in.Accept {
			for _, addr := range held(in) {
				r.Refused = append(r.Refused, zoned(addr))
			}
		}
	}
	return r
}

// replaceFilter puts the packet filter of the configuration in place. Without it the daemon works, as keepalived does.
func (a *Agent) replaceFilter() {
	r := a.filterRules()
	if reflect.DeepEqual(r, a.filter) {
		return
	}
	if r.Empty() {
		a.closeFilter()
		a.filter = filter.Rules{}
		return
	}
	if err := filter.Install(r); err != nil {
		if len(r.Refused) > 0 {
			a.log.Error("virtual addresses accept packets in spite of no_accept", "err", err)
		} else {
			a.log.Warn("VMACs may send reports of multicast membership", "err", err)
		}
		return
	}
	a.filter = r
}

// closeFilter removes the packet filter.
func (a *Agent) closeFilter() {
	if a.filter.Empty() {
		return
	}
	if err := filter.Remove(a.filter); err != nil {
		a.log.Error("cannot remove the packet filter", "err", err)
	}
}
