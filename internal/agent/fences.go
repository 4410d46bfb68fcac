package agent

import (
	"context"
	"time"

	"github.com/hactl/had/fencing/stonith"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
)

// fencingOf is what the machine needs to know of a configuration's fence devices.
func fencingOf(c *conf.Config) director.Fencing {
	if c.Cluster == nil {
		return director.Fencing{}
	}
	f := director.Fencing{Automatic: c.Cluster.Fencing != conf.FencingOff, Targets: map[string]director.FenceTarget{}}
	for _, d := range c.Cluster.Fences {
		t := f.Targets[d.Node]
		t.Delay, t.DelayRandom = max(t.Delay, d.Delay), max(t.DelayRandom, d.DelayRandom)
		f.Targets[d.Node] = t
	}
	return f
}

// devicesOf are the devices that switch a node off.
func devicesOf(c *conf.Config, node string) (all []stonith.Device) {
	for _, f := range c.Cluster.FencesOf(node) {
		all = append(all, deviceOf(f))
	}
	return all
}

func deviceOf(f conf.Fence) stonith.Device {
	d := stonith.Device{Agent: f.Agent, Level: f.Level, Timeout: f.Timeout, Retries: f.Retries}
	if f.Command != nil {
		d.Command = f.Command.Argv
	}
	for _, o := range f.Options {
		d.Options = append(d.Options, stonith.Option{Name: o.Name, Value: o.Value})
	}
	return d
}

// switchOff has the devices of a node at work on a goroutine of its own.
func (a *Agent) switchOff(act director.SwitchOff) {
	devices := devicesOf(a.cfg, act.Node)
	a.log.Warn("switching a node off", "node", act.Node, "devices", len(devices))
	go func() {
		began := time.Now()
		done := director.FenceDone{Node: act.Node, Request: act.Request}
		var err error
		if done.Method, err = off(a.work, act.Node, devices); err != nil {
			done.Failed = err.Error()
			a.log.Error("a node could not be switched off", "node", act.Node, "after", time.Since(began), "err", err)
		} else {
			a.log.Warn("a node is off", "node", act.Node, "after", time.Since(began), "method", done.Method)
		}
		a.post(a.work, done)
	}()
}

// off has devices switch a node off, and says how it is known to be off.
func off(ctx context.Context, node string, devices []stonith.Device) (method string, err error) {
	outcome, err := stonith.SwitchOff(ctx, node, devices)
	if method = outcome.Method; err == nil && !outcome.Verified {
		method += ", which cannot tell whether it is off"
	}
	return method, err
}

// switchOn does the same with a node that has come back.
func (a *Agent) switchOn(act director.SwitchOn) {
	devices := devicesOf(a.cfg, act.Node)
	go func() {
		done := director.SwitchedOn{Node: act.Node, Request: act.Request}
		if err := stonith.SwitchOn(a.work, act.Node, devices); err != nil {
			done.Failed = err.Error()
		}
		a.post(a.work, done)
	}()
}

// fencer answers operators. It reads the configuration that runs, on any goroutine.
type fencer struct{ agent *Agent }

// Devices is part of member.Fencer.
func (f fencer) Devices() (mode string, devices []api.FenceDevice) {
	c := f.agent.running.Load().Cluster
	devices = []api.FenceDevice{}
	for _, d := range c.Fences {
		shown := api.FenceDevice{Node: d.Node, Device: deviceOf(d).Name(), Level: d.Level, Options: []string{},
			TimeoutSeconds: api.SecondsOf(d.Timeout)}
		for _, o := range d.Options {
			shown.Options = append(shown.Options, o.Name)
		}
		devices = append(devices, shown)
	}
	return c.Fencing.String(), devices
}

// Test is part of member.Fencer.
func (f fencer) Test(ctx context.Context, node string) (checks []api.FenceCheck) {
	for _, d := range f.agent.running.Load().Cluster.Fences {
		if node != "" && d.Node != node {
			continue
		}
		device, began := deviceOf(d), time.Now()
		check := api.FenceCheck{Node: d.Node, Device: device.Name(), Level: d.Level}
		power, err := device.Check(ctx, d.Node)
		if check.Power = string(power); err != nil {
			check.Error = err.Error()
		}
		check.Seconds = api.SecondsOf(time.Since(began))
		checks = append(checks, check)
	}
	return checks
}

// Off is part of member.Fencer.
func (f fencer) Off(ctx context.Context, node string) (method string, err error) {
	return off(ctx, node, devicesOf(f.agent.running.Load(), node))
}
