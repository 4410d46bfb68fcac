package agent

import (
	"github.com/hactl/had/internal/agent/companion"
	"github.com/hactl/had/internal/conf"
)

// estate is what this life leaves to the companion.
func (a *Agent) estate() companion.Estate {
	if !a.clustered() {
		return companion.Estate{}
	}
	estate := a.opt.Cluster.Estate()
	return companion.Estate{Cluster: &estate, Member: a.opt.Cluster.Self(), Life: a.opt.Member.Life,
		Guarded: a.cfg.Cluster.Guard == conf.GuardNftables}
}

// bequeath tells the companion what an instance may have in the kernel from now on. It comes before the kernel is told.
func (a *Agent) bequeath(i *instance) {
	if a.opt.Companion == nil {
		return
	}
	var all companion.Hold
	for _, address := range held(i.conf) {
		if k, _, err := i.holding.kernelAddress(address); err == nil {
			all.Addresses = append(all.Addresses, k)
		}
	}
	all.Farewell = i.speaker.Farewell()
	a.opt.Companion.Hold(i.conf.Name, all)
}

// bequeathAll does so for all instances that have their addresses.
func (a *Agent) bequeathAll() {
	for _, name := range a.order {
		if i := a.instances[name]; i.holding.taken {
			a.bequeath(i)
		}
	}
}
