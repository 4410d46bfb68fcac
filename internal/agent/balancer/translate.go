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

// plan is what is kept of a configuration, to which it refers.
type plan struct {
	checks   map[string]*checked // by Check.ID
	suspends map[string][]string // checks of virtual servers with ha_suspend, by the name of that
	conf     map[string]*conf.VirtualServer
}

// checked is what a check of a server has found last.
type checked struct {
	Server
	Finding
}

// translate makes a plan of a configuration, and what the Pool and the checks want of it.
func translate(cfg *Config) (p plan, virtuals []lvs.VirtualServer, checks []Check) {
	p = plan{checks: map[string]*checked{}, suspends: map[string][]string{}, conf: map[string]*conf.VirtualServer{}}
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
			r := &v.Servers[j]
			s := lvs.RealServer{Address: r.Address, Forwarding: forwardingOf(r.Forwarding), Weight: int64(r.Weight), Upper: r.Upper,
				Lower: r.Lower, Inhibit: r.InhibitOnFailure}
			for _, c := range p.checksOf(name, r, cfg.Scripts) {
				s.Checks = append(s.Checks, lvs.Check{ID: c.ID, Alpha: c.Checker.Alpha})
				checks = append(checks, c)
				if v.HASuspend {
					p.suspends[name] = append(p.suspends[name], c.ID)
				}
			}
			spec.Servers = append(spec.Servers, s)
		}
		virtuals = append(virtuals, spec)
	}
	return p, virtuals, checks
}

// checksOf names the checks of a server.
func (p *plan) checksOf(virtual string, r *conf.RealServer, scripts map[*conf.Command]*notify.Script) (all []Check) {
	for i := range r.Checkers {
		c := &r.Checkers[i]
		var script *notify.Script
		if c.Misc != nil {
			if script = scripts[&c.Misc.Command]; script == nil {
				continue // it cannot be used, and that was said: as in keepalived it does not count
			}
		}
		name := virtual + ", " + r.Key() + ", " + checkName(c)
		id := name
		for n := 2; p.checks[id] != nil; n++ {
			id = fmt.Sprintf("%s #%d", name, n)
		}
		p.checks[id] = &checked{Server: Server{virtual, r.Address}}
		all = append(all, Check{ID: id, Checker: c, Weight: r.Weight, Script: script})
	}
	return all
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
