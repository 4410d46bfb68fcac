package agent

import (
	"context"
	"log/slog"
	"testing"

	"github.com/hactl/had/internal/conf"
)

func TestWhatSendsAlertsStaysAsLongAsItsSettingsDo(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	settings := func() *conf.Global {
		return &conf.Global{RouterID: "lb1",
			Mail: conf.Mail{Server: "192.0.2.1", Port: 25, Recipients: []string{"a@example.com"}, From: "lb1@example.com"},
			SNMP: conf.SNMP{Traps: true, VRRP: true, Receivers: []conf.TrapReceiver{{Host: "192.0.2.2", Port: 162}}}}
	}
	first := startAlerts(settings(), alerts{}, log)
	same := startAlerts(settings(), first, log)
	if first.mail == nil || first.trap == nil || same.mail != first.mail || same.trap != first.trap {
		t.Errorf("the same settings: %+v became %+v", first, same)
	}
	changed := settings()
	changed.Mail.Recipients = []string{"b@example.com"}
	second := startAlerts(changed, first, log)
	if second.mail == first.mail || second.trap != first.trap {
		t.Error("other recipients: what sends mail is the old one, or what sends traps is not")
	}
	first.stop(context.Background(), second)
	if n := len(second.receivers()); n != 2 || second.receivers()[0] != second.trap {
		t.Errorf("%d receivers, or mail before traps", n)
	}
	none := startAlerts(&conf.Global{Mail: conf.Mail{Server: "192.0.2.1"}, SNMP: conf.SNMP{Traps: true}}, second, log)
	if len(none.receivers()) != 0 {
		t.Error("something is sent to nobody")
	}
	second.stop(context.Background(), none)
}
