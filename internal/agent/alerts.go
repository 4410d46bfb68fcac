package agent

import (
	"context"
	"log/slog"
	"os"
	"os/user"
	"reflect"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/internal/notify/mail"
	"github.com/hactl/had/internal/notify/trap"
)

// alerts are what sends the mails and traps that a configuration asks for; nil: it asks for none.
type alerts struct {
	mail       *mail.Sender
	mailConfig mail.Config
	trap       *trap.Sender
	trapConfig trap.Config
}

// startAlerts starts what sends mails and traps. What is running with the same settings stays. It asks the user database,
// for which the loop must not wait.
func startAlerts(g *conf.Global, running alerts, log *slog.Logger) alerts {
	al := alerts{mailConfig: mailConfig(g), trapConfig: trapConfig(g)}
	if g.Mail.Server != "" && len(g.Mail.Recipients) > 0 {
		if al.mail = running.mail; al.mail == nil || !reflect.DeepEqual(al.mailConfig, running.mailConfig) {
			al.mail = mail.Start(al.mailConfig, log)
		}
	}
	if g.SNMP.Traps && len(g.SNMP.Receivers) > 0 {
		if al.trap = running.trap; al.trap == nil || !reflect.DeepEqual(al.trapConfig, running.trapConfig) {
			al.trap = trap.Start(al.trapConfig, log)
		}
	}
	return al
}

// receivers lists them in keepalived's order.
func (al alerts) receivers() []notify.Receiver {
	var all []notify.Receiver
	if al.trap != nil {
		all = append(all, al.trap)
	}
	if al.mail != nil {
		all = append(all, al.mail)
	}
	return all
}

// stop ends what is not in kept, once what waits has been sent or ctx has ended.
func (al alerts) stop(ctx context.Context, kept alerts) {
	if al.trap != nil && al.trap != kept.trap {
		al.trap.Stop(ctx)
	}
	if al.mail != nil && al.mail != kept.mail {
		al.mail.Stop(ctx)
	}
}

// routerOf is what traps tell of an instance.
func (a *Agent) routerOf(i *instance, t director.Transition) notify.Router {
	l, _ := a.table.ByName(i.conf.Interface)
	return notify.Router{Version: i.conf.Version, VRID: i.conf.VRID, Interface: l.Index, Address: i.source,
		InitialMaster: i.conf.InitialMaster, NewMasterReason: int(t.Takeover)}
}

// mailConfig is what the configuration says about mail, with the defaults that depend on this machine.
func mailConfig(g *conf.Global) mail.Config {
	m := &g.Mail
	cfg := mail.Config{
		RouterID: routerID(g), From: m.From, Recipients: m.Recipients, NoFaults: m.NoFaults,
		Server: m.Server, Port: m.Port, HeloName: m.HeloName, Step: m.ConnectTimeout,
		Security: map[conf.MailTLS]mail.Security{conf.MailPlain: mail.Plain, conf.MailStartTLS: mail.StartTLS,
			conf.MailImplicitTLS: mail.Implicit}[m.TLS],
		CAFile: m.CAFile, User: m.User, Password: m.Password,
	}
	if cfg.HeloName == "" {
		cfg.HeloName = machineName()
	}
	if cfg.From == "" {
		cfg.From = "root"
		if account, err := user.Current(); err == nil {
			cfg.From = account.Username
		}
		cfg.From += "@" + machineName()
	}
	return cfg
}

// trapConfig is what the configuration says about traps.
func trapConfig(g *conf.Global) trap.Config {
	cfg := trap.Config{RouterID: routerID(g),
		MIBs: trap.MIBs{Keepalived: g.SNMP.VRRP, RFC2787: g.SNMP.RFCv2, RFC6527: g.SNMP.RFCv3,
			Checker: g.SNMP.Checker}}
	for _, r := range g.SNMP.Receivers {
		cfg.Receivers = append(cfg.Receivers, trap.Receiver{Host: r.Host, Port: r.Port, Community: r.Community, User: r.User,
			Auth: r.Auth, AuthPassword: r.AuthPassword, Priv: r.Priv, PrivPassword: r.PrivPassword, EngineID: r.EngineID})
	}
	return cfg
}

// routerID is what mails and traps call this machine.
func routerID(g *conf.Global) string {
	if g.RouterID != "" {
		return g.RouterID
	}
	return machineName()
}

func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
