package balancer

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs"
)

// Check is a health check as it is configured, with what it is a check of.
type Check struct {
	ID      string // among all checks
	Checker *conf.Checker
	Weight  int            // configured for the server, which a script's weight replaces
	Script  *notify.Script // of MISC_CHECK
}

// place is where the verdict of a check goes.
type place struct {
	virtual string
	server  netip.AddrPort
	check   string // ID within the server
}

// plan is a configuration as the Pool and the checks want it.
type plan struct {
	virtuals []lvs.VirtualServer
	checks   []Check
	places   map[string]place    // by Check.ID
	of       map[Server][]string // Check.ID by server
	suspends map[string][]string // checks of virtual servers with ha_suspend, by the name of that
	conf     map[string]*conf.VirtualServer
}

// translate makes a plan of a configuration, to which it refers.
func translate(cfg *Config) plan {
	p := plan{places: map[string]place{}, of: map[Server][]string{}, suspends: map[string][]string{}, conf: map[string]*conf.VirtualServer{}}
	for i := range cfg.Virtual {
		v := &cfg.Virtual[i]
		name := v.Key()
		if p.conf[name] != nil {
			continue
		}
		p.conf[name] = v
		spec := lvs.VirtualServer{Name: name, Keys: keysOf(v, cfg.Groups), Service: serviceOf(v), Quorum: int64(v.Quorum),
			Hysteresis: int64(v.Hysteresis), Omega: v.Omega}
		if s := v.Sorry; s != nil {
			spec.Sorry = &lvs.SorryServer{Address: s.Address, Forwarding: forwardingOf(s.Forwarding), Inhibit: s.Inhibit}
		}
		for j := range v.Servers {
			spec.Servers = append(spec.Servers, p.server(name, &v.Servers[j], v.HASuspend, cfg.Scripts))
		}
		p.virtuals = append(p.virtuals, spec)
	}
	return p
}

func (p *plan) server(virtual string, r *conf.RealServer, suspends bool, scripts map[*conf.Command]*notify.Script) lvs.RealServer {
	s := lvs.RealServer{Address: r.Address, Forwarding: forwardingOf(r.Forwarding), Weight: int64(r.Weight), Upper: r.Upper,
		Lower: r.Lower, Inhibit: r.InhibitOnFailure}
	seen := map[string]int{}
	for i := range r.Checkers {
		c := &r.Checkers[i]
		var script *notify.Script
		if c.Misc != nil {
			if script = scripts[&c.Misc.Command]; script == nil {
				continue // it cannot be used, and that was said: as in keepalived it does not count
			}
		}
		id := checkName(c)
		if seen[id]++; seen[id] > 1 {
			id = fmt.Sprintf("%s #%d", id, seen[id])
		}
		s.Checks = append(s.Checks, lvs.Check{ID: id, Alpha: c.Alpha})
		whole := virtual + ", " + r.Key() + ", " + id
		p.checks = append(p.checks, Check{ID: whole, Checker: c, Weight: r.Weight, Script: script})
		p.of[Server{virtual, r.Address}] = append(p.of[Server{virtual, r.Address}], whole)
		p.places[whole] = place{virtual: virtual, server: r.Address, check: id}
		if suspends {
			p.suspends[virtual] = append(p.suspends[virtual], whole)
		}
	}
	return s
}

// checkName names a check among those of its server, such that a check that is changed a little keeps its name.
func checkName(c *conf.Checker) string {
	what := ""
	switch c.Kind {
	case conf.MiscCheck:
		what = c.Misc.Command.Line
	case conf.FileCheck:
		what = c.File.TrackFile
	case conf.BFDCheck:
		what = c.Session
	case conf.PingCheck:
		what = c.Target.Addr().String()
	default:
		what = c.Target.String()
	}
	return string(c.Kind) + " " + what
}

// keysOf lists the services that a virtual server is.
func keysOf(v *conf.VirtualServer, groups []conf.VirtualServerGroup) (keys []lvs.ServiceKey) {
	if v.Group == "" {
		return []lvs.ServiceKey{{Family: lvs.Family(v.Family), Protocol: lvs.Protocol(v.Protocol), Address: v.Address, Mark: v.Mark}}
	}
	i := slices.IndexFunc(groups, func(g conf.VirtualServerGroup) bool { return g.Name == v.Group })
	if i < 0 {
		return nil
	}
	for _, e := range groups[i].Entries {
		if e.Mark != 0 {
			family := e.Family
			if family == 0 {
				family = v.Family
			}
			keys = append(keys, lvs.ServiceKey{Family: lvs.Family(family), Mark: e.Mark})
			continue
		}
		for a := e.First; ; a = a.Next() {
			keys = append(keys, lvs.ServiceKey{Family: lvs.Family(e.Family), Protocol: lvs.Protocol(v.Protocol),
				Address: netip.AddrPortFrom(a, e.Port)})
			if a == e.Last {
				break
			}
		}
	}
	return keys
}

func serviceOf(v *conf.VirtualServer) lvs.Service {
	return lvs.Service{Scheduler: v.Scheduler, OnePacket: v.OnePacket,
		Flags: lvs.SchedulerFlags{First: v.Flags[0], Second: v.Flags[1], Third: v.Flags[2]},
		Persistence: lvs.Persistence{TimeoutSeconds: uint32(v.Persistence / time.Second), PrefixLen: v.PersistencePrefix,
			Engine: v.PersistenceEngine}}
}

func forwardingOf(f conf.Forwarding) lvs.Forwarding {
	return lvs.Forwarding{Method: lvs.Method(f.Method), Type: lvs.TunnelType(f.Type), Port: f.Port,
		Checksum: lvs.TunnelChecksum(f.Checksum)}
}
