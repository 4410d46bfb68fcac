package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/vrrp"
)

// lastWords is how long what is said at the end may take to get out: keepalived gives its scripts a second, too.
const lastWords = time.Second

// notify tells of a transition, and of that of the sync group once all members have reported the same. A group begins as
// BACKUP before its members do, as in keepalived.
func (a *Agent) notify(i *instance, t director.Transition) {
	state := notify.State(t.To.KeepalivedName())
	if t.To == vrrp.Initialize {
		state = notify.Stop
	}
	if t.From == vrrp.Initialize && state == notify.Backup && a.groupStates[i.group] == "" {
		a.notifyGroup(i.group, state)
	}
	i.reported, i.told = state, t.Priority
	a.notifier.Notify(notify.Change{Kind: notify.Instance, Name: t.Instance, State: state, Priority: t.Priority},
		a.notifyScripts(i.conf.Notify))
	for _, name := range a.members[i.group] {
		if a.instances[name].reported != state {
			return
		}
	}
	a.notifyGroup(i.group, state)
}

// notifyGroup tells of the state of a sync group, if it has not been told. An instance outside any has none.
func (a *Agent) notifyGroup(group string, state notify.State) {
	for _, sg := range a.cfg.SyncGroups {
		if sg.Name == group && a.groupStates[group] != state {
			a.groupStates[group] = state
			a.notifier.Notify(notify.Change{Kind: notify.Group, Name: sg.Name, State: state}, a.notifyScripts(sg.Notify))
		}
	}
}

// lowerHeard tells that an Active instance heard a lower priority.
func (a *Agent) lowerHeard(l director.LowerHeard) {
	i := a.instances[l.Instance]
	a.notifier.Notify(notify.Change{Kind: notify.Instance, Name: l.Instance, State: notify.MasterRxLowerPri,
		Priority: i.priority}, a.notifyScripts(i.conf.Notify))
}

// startNotifying opens what is written to and looks up what is run, before the loop begins, which must not wait for a
// file system or a user database.
func (a *Agent) startNotifying() {
	for i := range a.cfg.Instances {
		a.notifyScripts(a.cfg.Instances[i].Notify)
	}
	for _, sg := range a.cfg.SyncGroups {
		a.notifyScripts(sg.Notify)
	}
	for _, f := range []conf.FIFO{a.cfg.Global.NotifyFIFO, a.cfg.Global.VRRPNotifyFIFO} {
		if f.Path == "" {
			continue
		}
		if err := a.openFIFO(f); err != nil {
			a.log.Error("notify pipe cannot be used", "path", f.Path, "err", err)
		}
	}
}

// openFIFO opens a named pipe and starts the script that reads it.
func (a *Agent) openFIFO(f conf.FIFO) error {
	var owner *notify.Identity
	if f.User != "" {
		id, err := notify.LookupIdentity(f.User, f.Group, false)
		if err != nil {
			return err
		}
		owner = &id
	}
	fifo, err := notify.OpenFIFO(f.Path, owner)
	if err != nil {
		return err
	}
	a.notifier.FIFOs = append(a.notifier.FIFOs, fifo)
	if f.Script == nil {
		return nil
	}
	script, err := resolve(&a.cfg.Global, f.Script)
	if err != nil {
		return fmt.Errorf("its reader: %w", err)
	}
	a.readers = append(a.readers, notify.StartReader(fifo, script, a.log))
	return nil
}

// stopNotifying lets out what was said at the end, then ends the readers of the pipes and closes these.
func (a *Agent) stopNotifying() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if err := a.runner.Wait(ctx); err != nil {
		a.log.Warn("scripts still ran at the end and were left to themselves", "err", err)
	}
	for _, r := range a.readers {
		r.Stop(ctx)
	}
	for _, f := range a.notifier.FIFOs {
		if err := f.Close(); err != nil {
			a.log.Warn("cannot close notify pipe", "path", f.Path(), "err", err)
		}
	}
}

// notifyScripts resolves the scripts of a notify block; one that cannot be used is said once and left out.
func (a *Agent) notifyScripts(n conf.Notify) notify.Scripts {
	return notify.Scripts{
		Master: a.resolved(n.Master), Backup: a.resolved(n.Backup), Fault: a.resolved(n.Fault), Stop: a.resolved(n.Stop),
		Deleted: a.resolved(n.Deleted), Any: a.resolved(n.Any), MasterRxLowerPri: a.resolved(n.MasterRxLowerPri),
	}
}

func (a *Agent) resolved(c *conf.Command) *notify.Script {
	if c == nil {
		return nil
	}
	if s, known := a.resolvedScripts[c]; known {
		return s
	}
	var found *notify.Script
	if s, err := resolve(&a.cfg.Global, c); err != nil {
		a.log.Error("notify script cannot be used", "script", c.Line, "err", err)
	} else {
		found = &s
	}
	a.resolvedScripts[c] = found
	return found
}

// resolve finds the program of a command and the identity that it runs as.
func resolve(g *conf.Global, c *conf.Command) (notify.Script, error) {
	user, group := c.User, c.Group
	if user == "" {
		user, group = g.ScriptUser, g.ScriptGroup
	}
	var id notify.Identity
	var err error
	if user == "" {
		id, err = notify.DefaultIdentity(g.ScriptSecurity)
	} else {
		id, err = notify.LookupIdentity(user, group, g.SetSupplementaryGroups)
	}
	if err != nil {
		return notify.Script{}, err
	}
	args := c.Argv
	if c.Opens != "" {
		args = []string{"<" + c.Opens}
	}
	return notify.Resolve(args, id, notify.ResolveOptions{UseSymlinkPaths: g.UseSymlinkPaths, Security: g.ScriptSecurity})
}

// StartupScript runs startup_script, if there is one, and returns when it has ended, or had to be ended: whatever becomes
// of it, the daemon goes on. It comes before everything else that a daemon does.
func StartupScript(ctx context.Context, g *conf.Global, log *slog.Logger) {
	runOnce(ctx, "startup_script", g, g.StartupScript, g.StartupScriptTimeout, log)
}

// ShutdownScript runs shutdown_script as StartupScript does its own, after everything else has ended.
func ShutdownScript(g *conf.Global, log *slog.Logger) {
	runOnce(context.Background(), "shutdown_script", g, g.ShutdownScript, g.ShutdownScriptTimeout, log)
}

func runOnce(ctx context.Context, word string, g *conf.Global, c *conf.Command, timeout time.Duration, log *slog.Logger) {
	if c == nil {
		return
	}
	script, err := resolve(g, c)
	if err != nil {
		log.Error(word+" cannot be used", "script", c.Line, "err", err)
		return
	}
	outcome := make(chan notify.Outcome, 1)
	new(notify.Runner).Run(ctx, notify.Job{Script: script, Timeout: timeout, Done: func(o notify.Outcome) { outcome <- o }})
	if o := <-outcome; o.OK() {
		log.Info(word+" has run", "script", script.String(), "took", o.Duration)
	} else {
		log.Warn(word+" failed", "script", script.String(), "took", o.Duration, "err", o.Err)
	}
}
