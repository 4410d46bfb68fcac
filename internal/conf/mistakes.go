package conf

import (
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// mistakes adds findings about what is allowed and yet seldom meant.
func (l *loader) mistakes() {
	l.conditionsWithoutNode()
	l.scriptsAsRoot()
	l.sharedAddresses()
	l.deafScripts()
	l.shellScripts()
}

// conditionsWithoutNode warns of conditions that name no peer, and of a configuration that is read for one node and used
// on another.
func (l *loader) conditionsWithoutNode() {
	c := l.cfg.Cluster
	if c == nil || len(c.Peers) == 0 {
		return
	}
	var names []string
	for _, p := range c.Peers {
		names = append(names, p.Name)
	}
	told := make(map[string]bool)
	for _, w := range l.tree.Conditions {
		if told[w.Text] {
			continue
		}
		told[w.Text] = true
		if slices.Contains(names, w.Text) {
			if l.opts.ConfigID != c.Node {
				l.warnOnce("config-id", CodeConditionNode, w,
					"conditions are decided for %s, but this node is %s; start with -i %s",
					quote(l.opts.ConfigID), c.Node, c.Node)
			}
			continue
		}
		hint := ""
		if near, ok := syntax.Nearest(w.Text, names); ok {
			hint = "; did you mean @" + near + "?"
		}
		l.warnf(CodeConditionNode, w, "the condition @%s names none of the peers%s", w.Text, hint)
	}
}

// scriptsAsRoot tells once that scripts run as the user of the daemon.
func (l *loader) scriptsAsRoot() {
	if l.global.ScriptUser != "" {
		return
	}
	for _, s := range l.cfg.Scripts {
		if s.Command.User == "" && s.Command.Opens == "" {
			l.notef(CodeScriptRoot, wordAt(s.Command.Pos),
				"scripts run as keepalived_script if there is such a user, else as root; "+
					"script_user in global_defs says who else")
			return
		}
	}
}

// sharedAddresses warns of one address in two ownership groups. In a cluster each group has a lease of its own, so that
// the address could have two owners.
func (l *loader) sharedAddresses() {
	type holder struct{ instance, group string }
	seen := make(map[string]holder)
	for _, in := range l.cfg.Instances {
		group := "vrrp_instance " + in.Name
		if in.SyncGroup != "" {
			group = "vrrp_sync_group " + in.SyncGroup
		}
		for _, a := range slices.Concat(in.Addresses, in.Excluded) {
			key := a.Prefix.Addr().String()
			if a.Prefix.Addr().IsLinkLocalUnicast() {
				key += "%" + a.Interface
			}
			first, found := seen[key]
			switch {
			case !found:
				seen[key] = holder{in.Name, group}
			case first.group == group:
			case l.cfg.Cluster != nil:
				l.fatalf(CodeSameAddress, wordAt(a.Pos),
					"%v is an address of vrrp_instance %s too: it could have two owners", a.Prefix.Addr(), first.instance)
			default:
				l.warnf(CodeSameAddress, wordAt(a.Pos), "%v is an address of vrrp_instance %s too, which may be on another node",
					a.Prefix.Addr(), first.instance)
			}
		}
	}
}

// slowScript is how long the failure of a script may go unnoticed without a word about it.
const slowScript = time.Minute

// deafScripts warns of scripts that nobody tracks, of timeouts that outlast the interval, and of scripts that notice a
// failure long after the loss of the whole node would have been.
func (l *loader) deafScripts() {
	for _, s := range l.cfg.Scripts {
		used := false
		noticed := s.Interval*time.Duration(s.Fall) + s.Timeout
		for i := range l.cfg.Instances {
			in := &l.cfg.Instances[i]
			if !slices.ContainsFunc(in.Tracking.Scripts, func(t Track) bool { return t.Name == s.Name }) {
				continue
			}
			used = true
			if down := in.ActiveDownInterval(); noticed >= max(slowScript, 10*down) {
				if key := "slow-script " + s.Name; !l.told[key] {
					l.told[key] = true
					l.notef(CodeInterval, wordAt(s.Pos), "vrrp_script %s may notice a failure only after %v, while the loss of the whole "+
						"node is noticed after %v", s.Name, noticed, down.Round(time.Millisecond))
				}
			}
		}
		if !used {
			l.notef(CodeTracking, wordAt(s.Pos), "vrrp_script %s is tracked by no vrrp_instance and is not run", s.Name)
		}
		if s.Timeout > s.Interval {
			l.notef(CodeInterval, wordAt(s.Pos),
				"the timeout %v of vrrp_script %s is longer than its interval %v: runs are skipped "+
					"while one goes on", s.Timeout, s.Name, s.Interval)
		}
	}
}

// shellScripts warns of commands that are written for a shell and are not given to one.
func (l *loader) shellScripts() {
	for c := range l.cfg.Commands() {
		for _, field := range strings.Fields(c.Line) {
			if !slices.Contains(c.Argv, field) {
				continue // quoted: meant as it is, or for a shell that is called
			}
			switch field {
			case "|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>", ">/dev/null", "2>/dev/null", "&>/dev/null":
			default:
				continue
			}
			l.warnf(CodeScriptShell, wordAt(c.Pos), "%s is an argument of the command here, because no shell reads it; write a script, or "+
				"\"sh -c '...'\"", quote(field))
			break
		}
	}
}
