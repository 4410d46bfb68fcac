package balancer

import (
	"fmt"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs"
)

// tell tells scripts, pipes, mails, traps and the log of what has happened.
func (b *Balancer) tell(notices []lvs.Notice) {
	for _, n := range notices {
		c, script, ok := b.notification(n)
		if !ok {
			continue
		}
		b.log.Info("load balancing: "+c.Line(), "why", c.Reason)
		if b.cfg.Notifier != nil {
			b.cfg.Notifier.NotifyServer(c, b.cfg.Scripts[script])
		}
	}
}

// notification is what is told of a notice, and by which script.
func (b *Balancer) notification(n lvs.Notice) (c notify.ServerChange, script *conf.Command, ok bool) {
	v := b.plan.conf[n.Virtual]
	if v == nil {
		return c, nil, false
	}
	c.Virtual = notify.VirtualServer{Address: v.Address, Mark: v.Mark, Group: v.Group, Protocol: protocolName(v.Protocol),
		Quorum: int64(v.Quorum)}
	total := int64(0)
	if view, found := b.pool.View(n.Virtual); found {
		total = view.Total
		c.Virtual.Total = len(view.Servers)
		for _, s := range view.Servers {
			if s.Up {
				c.Virtual.Up++
			}
		}
	}
	c.Up, c.Ending = n.Kind == lvs.ServerUp || n.Kind == lvs.QuorumUp, n.Ending
	switch n.Kind {
	case lvs.QuorumUp, lvs.QuorumDown:
		c.Mail = v.SMTPAlert
		script = v.QuorumDown
		c.Reason = fmt.Sprintf("quorum lost: weight %d of %d", total, v.Quorum)
		if c.Up {
			script = v.QuorumUp
			c.Reason = fmt.Sprintf("quorum gained: weight %d of %d", total, v.Quorum)
		}
	default:
		server := Server{n.Virtual, n.Server}
		r := b.plan.find(server)
		if r == nil {
			return c, nil, false
		}
		c.Real, c.Reason = n.Server, b.changes[server].reason
		c.Mail = r.SMTPAlert
		script = r.NotifyDown
		if c.Up {
			script = r.NotifyUp
		}
	}
	if n.Ending {
		c.Reason, c.Mail = "shutting down", false // nothing has failed, so nobody is alerted
	}
	return c, script, true
}

func protocolName(p conf.Protocol) string {
	if p == 0 {
		return ""
	}
	return lvs.Protocol(p).String()
}
