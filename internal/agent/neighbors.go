package agent

import (
	"context"

	"github.com/hactl/had/bfd"
	"github.com/hactl/had/bfd/speaker"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/vrrp/track"
)

// sessionChanged says that the BFD session of a bfd_instance has come up, or is up no more.
type sessionChanged struct {
	name string
	up   bool
}

// keepSessions begins to keep the BFD sessions of the configuration, those that nobody tracks included: the neighbor may
// need them. The function that it returns ends them, and waits until the neighbors have been told.
func (a *Agent) keepSessions(work context.Context) (end func()) {
	a.neighbors = speaker.New(a.log, a.clock.Now)
	a.neighbors.Configure(sessionsOf(a.cfg))
	ctx, stop := context.WithCancel(work)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.neighbors.Run(ctx, func(name string, up bool) { a.post(ctx, sessionChanged{name, up}) })
	}()
	return func() {
		stop()
		<-ended
	}
}

// sessionsOf lists the BFD sessions of a configuration as the wire sees them.
func sessionsOf(cfg *conf.Config) []speaker.Config {
	var configs []speaker.Config
	for _, c := range cfg.BFD {
		s := speaker.Config{
			Name: c.Name, Source: c.Source, Neighbor: c.Neighbor, TTL: c.TTL, MaxHops: c.MaxHops, Multihop: c.Multihop,
			Session: bfd.Config{MinTX: c.MinTX, MinRX: c.MinRX, IdleTX: c.IdleTX, Multiplier: uint8(c.Multiplier), Passive: c.Passive},
		}
		if c.TTL == 0 {
			s.TTL = 255
			if c.Neighbor.Is6() {
				s.TTL = 64 // keepalived's; RFC 5881 wants 255
			}
		}
		if c.MaxHops == 255 {
			s.MaxHops = speaker.AnyHops
		}
		configs = append(configs, s)
	}
	return configs
}

func (a *Agent) sessionChanged(ev sessionChanged) {
	a.sessionsUp[ev.name] = ev.up
	a.checks.session(ev.name, ev.up)
	a.look()
}

// trackedSessions lists the BFD sessions that an instance tracks, as they stand. One that is not for VRRP is not tracked.
func (a *Agent) trackedSessions(i *instance) []track.Object {
	var objects []track.Object
	for _, t := range i.conf.Tracking.BFD {
		for _, c := range a.cfg.BFD {
			if c.Name != t.Name || !c.VRRP {
				continue
			}
			o := track.Object{Name: "bfd " + t.Name, Weight: t.Weight, Reverse: t.Reverse, Condition: track.Failed}
			if a.sessionsUp[t.Name] {
				o.Condition = track.Good
			}
			objects = append(objects, o)
		}
	}
	return objects
}
