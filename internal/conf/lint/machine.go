package lint

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/notify"
)

// Machine is the machine that a configuration is to run on. Programs and accounts are looked for on this one.
type Machine struct {
	Interfaces func() ([]net.Interface, error)
	Addresses  func() ([]net.Addr, error)

	// Key says why the file cannot be the key of a cluster.
	Key func(path string) error

	// FenceOptions returns the names of the options that a fence agent knows. It runs the agent. Nil: they are not asked.
	FenceOptions func(agent string) ([]string, error)
}

// onMachine returns what of a configuration does not fit a machine: interfaces, accounts, programs and addresses that are not
// there, and programs that are not safe to run.
func onMachine(cfg *conf.Config, m *Machine) []conf.Finding {
	c := &check{cfg: cfg, told: make(map[string]bool)}
	c.interfaces(m)
	c.addresses(m)
	c.scripts()
	c.key(m)
	c.fences(m)
	return c.findings
}

type check struct {
	cfg      *conf.Config
	told     map[string]bool
	findings []conf.Finding
}

// add adds a finding, each message once for each key.
func (c *check) add(severity conf.Severity, code conf.Code, at conf.Pos, key, format string, args ...any) {
	if c.told[key] {
		return
	}
	c.told[key] = true
	c.findings = append(c.findings, conf.Finding{Severity: severity, Code: code, Pos: at, Message: fmt.Sprintf(format, args...)})
}

// interfaces reports those that are not there. keepalived does not start without them.
func (c *check) interfaces(m *Machine) {
	list, err := m.Interfaces()
	if err != nil {
		c.add(conf.Warning, conf.CodeInterface, conf.Pos{File: c.cfg.Path}, "interfaces", "the interfaces cannot be listed: %v", err)
		return
	}
	present := make(map[string]bool)
	for _, i := range list {
		present[i.Name] = true
	}
	for i := range c.cfg.Instances {
		in := &c.cfg.Instances[i]
		if in.VMAC != nil {
			present[in.VMAC.Name] = true // had makes it
		}
		if in.IPVLAN != nil {
			present[in.IPVLAN.Name] = true
		}
	}
	need := func(name string, at conf.Pos) {
		switch {
		case name == "" || present[name]:
		case c.cfg.Global.DynamicInterfaces:
			c.add(conf.Note, conf.CodeInterface, at, "interface "+name, "this machine has no interface %s; it may come, because of "+
				"dynamic_interfaces", name)
		default:
			c.add(conf.Error, conf.CodeInterface, at, "interface "+name, "this machine has no interface %s", name)
		}
	}
	for _, in := range c.cfg.Instances {
		need(in.Interface, in.Pos)
		for _, a := range in.Addresses {
			need(a.Interface, a.Pos)
		}
		for _, a := range in.Excluded {
			need(a.Interface, a.Pos)
		}
		for _, t := range in.Tracking.Interfaces {
			need(t.Name, t.Pos)
		}
	}
	for _, a := range c.cfg.Static.Addresses {
		need(a.Interface, a.Pos)
	}
}

// addresses reports sources that this machine does not have, and peers that it is itself: the file of another node.
func (c *check) addresses(m *Machine) {
	list, err := m.Addresses()
	if err != nil {
		c.add(conf.Warning, conf.CodeAddress, conf.Pos{File: c.cfg.Path}, "addresses", "the addresses cannot be listed: %v", err)
		return
	}
	own := make(map[netip.Addr]bool)
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().WithZone("")] = true
		}
	}
	for _, in := range c.cfg.Instances {
		if in.Source.IsValid() && !own[in.Source] {
			c.add(conf.Warning, conf.CodeOwnAddress, in.Pos, "source "+in.Source.String(),
				"vrrp_instance %s sends from %v, which is no address of this machine", in.Name, in.Source)
		}
		for _, p := range in.Peers {
			if own[p.Address] {
				c.add(conf.Warning, conf.CodeOwnAddress, p.Pos, "peer "+p.Address.String(),
					"the unicast peer %v is this machine: is this the file of another node?", p.Address)
			}
		}
	}
	if cl := c.cfg.Cluster; cl != nil {
		for _, p := range cl.Peers {
			switch {
			case p.Name == cl.Node && !own[p.Address]:
				c.add(conf.Warning, conf.CodeOwnAddress, p.Pos, "self", "%v, at which the others look for %s, is no address of this machine",
					p.Address, p.Name)
			case p.Name != cl.Node && own[p.Address]:
				c.add(conf.Warning, conf.CodeOwnAddress, p.Pos, "peer "+p.Name, "%v is an address of this machine, which is %s, not %s",
					p.Address, cl.Node, p.Name)
			}
		}
	}
}

// key reports a cluster key that cannot be used.
func (c *check) key(m *Machine) {
	if c.cfg.Cluster == nil {
		return
	}
	switch err := m.Key(c.cfg.Cluster.KeyFile); {
	case errors.Is(err, fs.ErrPermission):
		c.add(conf.Note, conf.CodeCluster, c.cfg.Cluster.Pos, "key", "%v: root can look at it", err)
	case err != nil:
		c.add(conf.Error, conf.CodeCluster, c.cfg.Cluster.Pos, "key", "%v; hactl keygen makes one, and every member needs the same", err)
	}
}

// fences reports agents that do not work here, and options that they do not know. An agent ignores those in silence.
func (c *check) fences(m *Machine) {
	if c.cfg.Cluster == nil || m.FenceOptions == nil {
		return
	}
	for _, f := range c.cfg.Cluster.Fences {
		if f.Agent == "" {
			continue
		}
		known, err := m.FenceOptions(f.Agent)
		if err != nil {
			c.add(conf.Error, conf.CodeFencing, f.AgentPos, f.Agent, "%s cannot be fenced with this agent: %v", f.Node, err)
			continue
		}
		for _, o := range f.Options {
			if slices.Contains(known, o.Name) {
				continue
			}
			hint := ""
			if near, ok := syntax.Nearest(o.Name, known); ok {
				hint = "; did you mean " + near + "?"
			}
			c.add(conf.Error, conf.CodeFencing, o.Pos, f.Pos.String()+o.Name, "%s does not know the option %s%s", path.Base(f.Agent), o.Name, hint)
		}
	}
}

// scripts reports commands that could not be run, and those that somebody else than root could change although they run as
// root.
func (c *check) scripts() {
	g := &c.cfg.Global
	for command := range c.cfg.Commands() {
		if command.Opens != "" {
			continue
		}
		id, err := notify.Defaults{User: g.ScriptUser, Group: g.ScriptGroup, Security: g.ScriptSecurity,
			Supplementary: g.SetSupplementaryGroups}.Identity(command.User, command.Group)
		if err != nil {
			c.add(conf.Error, conf.CodeScript, command.Pos, err.Error(), "%v", err)
			continue
		}
		script, err := notify.Resolve(command.Argv, id, notify.ResolveOptions{UseSymlinkPaths: true})
		var problem *notify.ScriptError
		switch {
		case errors.As(err, &problem):
			c.add(conf.Error, conf.CodeScript, command.Pos, command.Line, "%v; it is not run", problem)
			continue
		case err != nil:
			c.add(conf.Error, conf.CodeScript, command.Pos, command.Line, "%v", err)
			continue
		}
		security, err := notify.CheckSecurity(script.Path, id)
		if err != nil || security.Kind == notify.Secure {
			continue
		}
		if g.ScriptSecurity {
			c.add(conf.Error, conf.CodeScriptUnsafe, command.Pos, command.Line, "script %s %v; with enable_script_security it is not run",
				script.Path, security)
		} else {
			c.add(conf.Warning, conf.CodeScriptUnsafe, command.Pos, command.Line, "script %s %v: whoever may write it becomes root", script.Path,
				security)
		}
	}
}
