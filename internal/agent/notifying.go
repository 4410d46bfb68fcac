package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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
		if i.removed {
			state = notify.Fault
			if i.conf.Notify.DeletedState {
				state = notify.Deleted
			}
		}
	}
	if t.From == vrrp.Initialize && state == notify.Backup && a.groupStates[i.group] == "" {
		a.notifyGroup(i.group, state)
	}
	i.reported, i.told = state, t.Priority
	a.notifier.Notify(notify.Change{Kind: notify.Instance, Name: t.Instance, State: state, Priority: t.Priority,
		Mail: i.conf.SMTPAlert, Router: a.routerOf(i, t)}, a.notifyScripts.of(i.conf.Notify))
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
			a.notifier.Notify(notify.Change{Kind: notify.Group, Name: sg.Name, State: state, Mail: sg.SMTPAlert},
				a.notifyScripts.of(sg.Notify))
		}
	}
}

// lowerHeard tells that an Active instance heard a lower priority.
func (a *Agent) lowerHeard(l director.LowerHeard) {
	i := a.instances[l.Instance]
	a.notifier.Notify(notify.Change{Kind: notify.Instance, Name: l.Instance, State: notify.MasterRxLowerPri,
		Priority: i.priority}, a.notifyScripts.of(i.conf.Notify))
}

// pipe is a named pipe with the script that reads it, if had has started one.
type pipe struct {
	conf   conf.FIFO
	fifo   *notify.FIFO
	reader *notify.Reader
}

// openPipes opens the named pipes of a configuration and starts their readers. What is among open and has not changed stays
// as it is. It asks the disk and the user database, for which the loop must not wait.
func openPipes(cfg *conf.Config, open []pipe, log *slog.Logger) []pipe {
	var pipes []pipe
	for _, f := range []conf.FIFO{cfg.Global.NotifyFIFO, cfg.Global.VRRPNotifyFIFO, cfg.Global.LVSNotifyFIFO} {
		if f.Path == "" {
			continue
		}
		p := pipe{conf: f}
		for _, o := range open {
			if o.conf.Path == f.Path {
				p.fifo = o.fifo
				if conf.Same(o.conf.Script, f.Script) {
					p.reader = o.reader
				}
			}
		}
		if err := p.open(&cfg.Global, log); err != nil {
			log.Error("notify pipe cannot be used", "path", f.Path, "err", err)
		}
		if p.fifo != nil {
			pipes = append(pipes, p)
		}
	}
	return pipes
}

// open opens a named pipe and starts the script that reads it, as far as that has not been done.
func (p *pipe) open(g *conf.Global, log *slog.Logger) error {
	if p.fifo == nil {
		var owner *notify.Identity
		if p.conf.User != "" {
			id, err := notify.LookupIdentity(p.conf.User, p.conf.Group, false)
			if err != nil {
				return err
			}
			owner = &id
		}
		fifo, err := notify.OpenFIFO(p.conf.Path, owner)
		if err != nil {
			return err
		}
		p.fifo = fifo
	}
	if p.conf.Script == nil || p.reader != nil {
		return nil
	}
	script, err := resolve(g, p.conf.Script)
	if err != nil {
		return fmt.Errorf("its reader: %w", err)
	}
	p.reader = notify.StartReader(p.fifo, script, log)
	return nil
}

// fifosOf returns the open ones of some pipes, in the order of these.
func fifosOf(pipes []pipe, of ...conf.FIFO) []*notify.FIFO {
	var fifos []*notify.FIFO
	for _, f := range of {
		if i := slices.IndexFunc(pipes, func(p pipe) bool { return p.conf.Path == f.Path }); i >= 0 {
			fifos = append(fifos, pipes[i].fifo)
		}
	}
	return fifos
}

// closePipes ends the readers and closes the pipes of before that are not in after. It waits until what was written has been
// read, or until ctx ends.
func closePipes(ctx context.Context, before, after []pipe, log *slog.Logger) {
	for _, p := range before {
		if p.reader != nil && !slices.ContainsFunc(after, func(q pipe) bool { return q.reader == p.reader }) {
			p.reader.Stop(ctx)
		}
		if slices.ContainsFunc(after, func(q pipe) bool { return q.fifo == p.fifo }) {
			continue
		}
		if err := p.fifo.Close(); err != nil {
			log.Warn("cannot close notify pipe", "path", p.conf.Path, "err", err)
		}
	}
}

// stopNotifying lets out what was said at the end, then ends the readers of the pipes and closes these.
func (a *Agent) stopNotifying() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if err := a.runner.Wait(ctx); err != nil {
		a.log.Warn("scripts still ran at the end and were left to themselves", "err", err)
	}
	closePipes(ctx, a.pipes, nil, a.log)
	a.alerts.stop(ctx, alerts{})
}

// notifyScripts are the notification scripts of a configuration, those that can be used.
type notifyScripts map[*conf.Command]*notify.Script

// resolveNotifyScripts looks all of them up, and those of virtual servers and their checks, before the loop needs them: it must not wait for a file system or a user
// database. One that cannot be used is said.
func resolveNotifyScripts(cfg *conf.Config, log *slog.Logger) notifyScripts {
	found := notifyScripts{}
	add := func(c *conf.Command) {
		if c == nil {
			return
		}
		s, err := resolve(&cfg.Global, c)
		if err != nil {
			log.Error("script cannot be used", "at", c.Pos, "script", c.Line, "err", err)
			return
		}
		found[c] = &s
	}
	resolveAll := func(n conf.Notify) {
		for _, c := range []*conf.Command{n.Master, n.Backup, n.Fault, n.Stop, n.Deleted, n.Any, n.MasterRxLowerPri} {
			add(c)
		}
	}
	for i := range cfg.VirtualServers {
		for c := range cfg.VirtualServers[i].Commands() {
			add(c)
		}
	}
	for i := range cfg.Instances {
		resolveAll(cfg.Instances[i].Notify)
	}
	for _, sg := range cfg.SyncGroups {
		resolveAll(sg.Notify)
	}
	return found
}

// of lists the scripts of a notify block.
func (s notifyScripts) of(n conf.Notify) notify.Scripts {
	return notify.Scripts{
		Master: s[n.Master], Backup: s[n.Backup], Fault: s[n.Fault], Stop: s[n.Stop], Deleted: s[n.Deleted], Any: s[n.Any],
		MasterRxLowerPri: s[n.MasterRxLowerPri],
	}
}

// resolve finds the program of a command and the identity that it runs as.
func resolve(g *conf.Global, c *conf.Command) (notify.Script, error) {
	id, err := notify.Defaults{User: g.ScriptUser, Group: g.ScriptGroup, Security: g.ScriptSecurity,
		Supplementary: g.SetSupplementaryGroups}.Identity(c.User, c.Group)
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
