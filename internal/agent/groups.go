package agent

import (
	"net/netip"
	"time"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/vrrp"
)

// groupsOf lists the ownership groups of a configuration: sync groups, then the instances outside any, each in the order
// of the file.
func groupsOf(c *conf.Config) []director.Group {
	byName := map[string]*conf.Instance{}
	for i := range c.Instances {
		byName[c.Instances[i].Name] = &c.Instances[i]
	}
	var groups []director.Group
	for _, sg := range c.SyncGroups {
		g := director.Group{Name: sg.Name}
		allOwners := true
		for _, name := range sg.Members {
			allOwners = allOwners && byName[name].InitialMaster && byName[name].Priority == vrrp.PriorityOwner
		}
		for _, name := range sg.Members {
			vc := virtualRouter(byName[name])
			vc.InitialActive = vc.InitialActive && allOwners // else the whole group begins as Backup, as in keepalived
			g.Instances = append(g.Instances, vc)
			g.Addresses = append(g.Addresses, covered(byName[name])...)
		}
		if len(g.Instances) > 0 {
			groups = append(groups, g)
		}
	}
	for i := range c.Instances {
		if in := &c.Instances[i]; in.SyncGroup == "" {
			groups = append(groups, director.Group{Name: in.Name, Instances: []vrrp.Config{virtualRouter(in)}, Addresses: covered(in)})
		}
	}
	return groups
}

// groupOf names the ownership group of an instance.
func groupOf(in *conf.Instance) string {
	if in.SyncGroup != "" {
		return in.SyncGroup
	}
	return in.Name
}

// membersOf lists the instances by group.
func membersOf(groups []director.Group) map[string][]string {
	members := map[string][]string{}
	for _, g := range groups {
		for _, vc := range g.Instances {
			members[g.Name] = append(members[g.Name], vc.Name)
		}
	}
	return members
}

func virtualRouter(in *conf.Instance) vrrp.Config {
	return vrrp.Config{
		Name: in.Name, VRID: in.VRID, Version: in.Version, Family: vrrp.Family(in.Family), Priority: in.Priority,
		AdvertInterval: in.AdvertInterval, DownTimerAdverts: in.DownTimerAdverts, Preempt: in.Preempt,
		PreemptDelay: in.PreemptDelay, InitialActive: in.InitialMaster, OwnerIgnoreAdverts: in.OwnerIgnoreAdverts,
		HigherPrioSendAdvert: in.HigherPrioSendAdvert, LowerPrioNoAdvert: in.LowerPrioNoAdvert,
		TimerExpiredBackup: in.TimerExpiredBackup, GARP: vrrp.GARP(in.GARP), ExtraAnnounce: in.GARPExtraInterfaces.Period,
	}
}

// guardSpec says what the guard protects: every address that a group may hold, its advertisements, and its virtual MAC
// addresses.
func guardSpec(c *conf.Config, groups []director.Group, carriers []*carrier) fencing.GuardSpec {
	byName := map[string]*conf.Instance{}
	for i := range c.Instances {
		byName[c.Instances[i].Name] = &c.Instances[i]
	}
	var spec fencing.GuardSpec
	for _, g := range groups {
		guarded := fencing.GuardedGroup{Name: g.Name}
		for _, vc := range g.Instances {
			in := byName[vc.Name]
			guarded.Addresses = append(guarded.Addresses, covered(in)...)
			if in.Interface != "" {
				guarded.Routers = append(guarded.Routers, fencing.VirtualRouter{
					Interface: in.Interface, VRID: in.VRID, Family: fencing.Family(in.Family)})
			}
			for _, carrier := range carriers {
				if carrier.instance == in.Name && !carrier.IPVLAN() {
					guarded.VMACInterfaces = append(guarded.VMACInterfaces, carrier.Name)
				}
			}
		}
		spec.Groups = append(spec.Groups, guarded)
	}
	return spec
}

// held lists what an Active instance has: the announced addresses and the excluded ones.
func held(in *conf.Instance) []conf.Address {
	return append(append([]conf.Address{}, in.Addresses...), in.Excluded...)
}

// covered lists what a lease of an instance's group covers for it.
func covered(in *conf.Instance) []netip.Addr {
	var addresses []netip.Addr
	for _, a := range held(in) {
		addresses = append(addresses, zoned(a))
	}
	return addresses
}

// placementOf is where the cluster block wants groups to be.
func placementOf(c *conf.Cluster) fencing.PlaceConfig {
	if c == nil {
		return fencing.PlaceConfig{}
	}
	p := fencing.PlaceConfig{Rules: map[string]fencing.PlaceRules{}, MaxGroups: c.MaxGroups}
	for _, g := range c.Placement {
		p.Rules[g.Group] = fencing.PlaceRules{Prefer: g.Prefer, ApartFrom: g.ApartFrom, Failback: fencing.Failback(g.Failback)}
	}
	return p
}

// tellMinute tells the machine which minute of the day it is.
func (a *Agent) tellMinute(now time.Time) {
	if minute := now.Hour()*60 + now.Minute(); minute != a.minute {
		a.minute = minute
		a.step(director.Minute{OfDay: minute})
	}
}

// zoned is an address with its link, where it means something on that link only.
func zoned(a conf.Address) netip.Addr {
	addr := a.Prefix.Addr()
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return addr.WithZone(a.Interface)
	}
	return addr
}
