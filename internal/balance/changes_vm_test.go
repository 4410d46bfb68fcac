//go:build integ

package balance

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The same failures and recoveries of real servers lead to the same tables, the same calls of scripts and the same mails, step by
// step, whatever checks them and whatever the virtual server says about failures.
func TestSameChanges(t *testing.T) {
	p := newPair(t)
	one, two := p.open("10.77.0.101:80", greet("")), p.open("10.77.0.102:80", greet(""))
	page, secure := newWeb(), newWeb()
	p.open("10.77.0.101:8080", page.serve)
	p.open("10.77.0.102:8080", newWeb().serve)
	p.open("10.77.0.101:443", secure.serveTLS(t))
	p.open("10.77.0.102:443", newWeb().serveTLS(t))
	mail := p.open("10.77.0.101:25", newPostbox().serve)
	p.open("10.77.0.102:25", newPostbox().serve)
	var resolver, other names
	p.openUDP("10.77.0.101:53", resolver.answer)
	p.openUDP("10.77.0.102:53", other.answer)
	echo := p.openUDP("10.77.0.101:7", same)
	p.openUDP("10.77.0.102:7", same)
	letters := newPostbox()
	p.open("10.77.0.104:25", letters.serve)
	pinged := netip.MustParsePrefix("10.77.0.103/24")
	// What scripts and tracked files say, one file each: its absence, and its value.
	broken, value := filepath.Join(p.dir, "broken"), filepath.Join(p.dir, "value")
	script := filepath.Join(p.dir, "script")
	check(t, os.WriteFile(script, []byte("#!/bin/sh\n[ ! -e "+broken+" ]\n"), 0o755))
	check(t, os.WriteFile(value, []byte("0\n"), 0o644))
	// Each director's own script writes down what it is called with; in the file its directory is HERE.
	p.each(func(d *director) {
		check(t, os.WriteFile(d.file("tell"), []byte("#!/bin/sh\necho \"$@\" >> "+d.file("told")+"\n"), 0o755))
	})

	all := []sample{}
	add := func(name string, lines ...string) {
		n := len(all) + 1
		s := sample{name: name, v4: fmt.Sprintf("198.18.%d", n), v6: "unused", mark: "unused"}
		s.text = service(s.v4+".1 80", append([]string{rr, nat}, lines...)...)
		all = append(all, s)
	}
	// pool are two servers on a port with the same check, the second with twice the weight.
	pool := func(port int, check string, lines ...string) string {
		extra := strings.Join(lines, "\n")
		return server(fmt.Sprintf("10.77.0.101 %d", port), extra, check) + "\n" + server(fmt.Sprintf("10.77.0.102 %d", port), "weight 2", extra, check)
	}
	const (
		attempts = "connect_timeout 1\nretry 1\ndelay_before_retry 1"
		sorry    = "sorry_server 10.77.0.110 80"
	)
	byTCP := "TCP_CHECK {\n" + attempts + "\n}"
	add("TCP_CHECK", tcp, pool(80, byTCP))
	add("sorry server", tcp, sorry, pool(80, byTCP))
	add("inhibit on failure", tcp, pool(80, byTCP, "inhibit_on_failure"))
	add("inhibit on failure with a sorry server", tcp, sorry, pool(80, byTCP, "inhibit_on_failure"))
	add("sorry server inhibited", tcp, sorry, "sorry_server_inhibit", pool(80, byTCP))
	add("alpha", tcp, "alpha", pool(80, byTCP))
	add("quorum", tcp, sorry, "quorum 2", pool(80, byTCP))
	add("quorum with hysteresis", tcp, sorry, "quorum 2\nhysteresis 1", pool(80, byTCP))
	add("quorum above all weights", tcp, sorry, "quorum 9", pool(80, byTCP))
	add("HTTP_GET", tcp, sorry, pool(8080, "HTTP_GET {\nurl {\npath /\nstatus_code 200\n}\n"+attempts+"\n}"))
	add("SSL_GET", tcp, sorry, pool(443, "SSL_GET {\nurl {\npath /\nstatus_code 200\n}\n"+attempts+"\n}"))
	add("SMTP_CHECK", tcp, sorry, pool(25, "SMTP_CHECK {\nhelo_name had.example\n"+attempts+"\n}"))
	byMisc := func(path string) string { return "MISC_CHECK {\nmisc_path " + path + "\n}" }
	misc := fmt.Sprintf("[198.18.%d.1]", len(all)+1)
	add("MISC_CHECK", tcp, sorry, server("10.77.0.101 80", byMisc(script))+"\n"+server("10.77.0.102 80", "weight 2"))
	add("UDP_CHECK", udp, sorry, pool(7, "UDP_CHECK {\nrequire_reply\n"+attempts+"\n}"))
	add("PING_CHECK", tcp, sorry, server("10.77.0.103 80", "PING_CHECK {\n"+attempts+"\n}")+"\n"+server("10.77.0.104 80", "weight 2"))
	add("FILE_CHECK", tcp, sorry, server("10.77.0.101 80", "weight 5\nFILE_CHECK {\ntrack_file value\nweight 1\n}")+"\n"+
		server("10.77.0.102 80", "weight 2"))
	add("DNS_CHECK", udp, sorry, pool(53, "DNS_CHECK {\ntype A\nname www.example\n"+attempts+"\n}"))

	tells := func(words string, more ...string) string {
		for _, word := range strings.Fields(words) {
			more = append(more, fmt.Sprintf("%s \"HERE/tell %s %d\"", word, word, len(all)))
		}
		return strings.Join(more, "\n")
	}
	notified := func() string { return pool(80, byTCP, tells("notify_up notify_down")) }
	add("scripts", tcp, tells("quorum_up quorum_down"), notified())
	add("scripts and alpha", tcp, "alpha", tells("quorum_up quorum_down"), notified())
	add("scripts, a quorum and omega", tcp, "omega", sorry, "quorum 2\nhysteresis 1", tells("quorum_up quorum_down"), notified())
	add("mails", tcp, "smtp_alert", pool(80, byTCP))
	add("mails of a quorum", tcp, "smtp_alert", sorry, "quorum 2", pool(80, byTCP))
	add("mails of inhibited servers", tcp, "smtp_alert", "alpha", pool(80, byTCP, "inhibit_on_failure"))

	var file strings.Builder
	file.WriteString("global_defs {\nrouter_id same\nscript_user root\nsmtp_server 10.77.0.104\nnotification_email_from had@example.org\n" +
		"notification_email {\npager@example.org\n}\n}\n")
	file.WriteString("track_file value {\nfile " + value + "\nweight 0\n}\n")
	for _, s := range all {
		file.WriteString(s.text)
	}
	p.each(func(d *director) {
		d.configure(strings.ReplaceAll(file.String(), "HERE", d.dir))
		d.start()
	})
	last, calls, mails := "", 0, 0 // bytes
	// said compares what scripts were called with and what was mailed. The stock keepalived of this age also tells of the quorum with
	// which virtual servers begin, which newer ones do not, and mails that a MISC_CHECK has succeeded for the first time, although
	// its server was up; had does neither.
	said := func(step string) {
		begins := func(text string) string {
			var rest strings.Builder
			for line := range strings.Lines(text) {
				if calls > 0 || !strings.HasPrefix(line, "quorum_up") && !strings.Contains(line, "Virtualserver") && !strings.Contains(line, misc) {
					rest.WriteString(line)
				}
			}
			return rest.String()
		}
		want, got := begins(p.stock.told()), begins(p.other.told())
		if got != want {
			t.Errorf("%s: scripts were called with\nstock:\n%s%s:\n%s", step, want, p.other.product, got)
		}
		wrote, writes := begins(letters.take("10.77.0.1")), begins(letters.take("10.77.0.2"))
		calls += len(want)
		mails += len(wrote)
		if writes != wrote {
			t.Errorf("%s: mails\nstock:\n%s\n%s:\n%s", step, wrote, p.other.product, writes)
		}
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"all are up", func() {}},
		{"the first ones fail", func() {
			one.down()
			mail.down()
			page.status.Store(http.StatusServiceUnavailable)
			secure.status.Store(http.StatusNotFound)
			resolver.refuses.Store(true)
			echo.Close()
			check(t, p.servers.RemoveAddr(pinged))
			check(t, os.WriteFile(broken, nil, 0o644))
			check(t, os.WriteFile(value, []byte("-3\n"), 0o644))
		}},
		{"the second ones fail too", func() {
			two.down()
			other.refuses.Store(true)
		}},
		{"the first ones are back", func() {
			one.up()
			mail.up()
			page.status.Store(http.StatusOK)
			secure.status.Store(http.StatusOK)
			resolver.refuses.Store(false)
			p.openUDP("10.77.0.101:7", same)
			check(t, p.servers.AddAddr(pinged))
			check(t, os.Remove(broken))
			check(t, os.WriteFile(value, []byte("4\n"), 0o644))
		}},
		{"the second ones are back too", func() {
			two.up()
			other.refuses.Store(false)
		}},
	} {
		step.do()
		p.settle()
		stock, other := p.stock.saved(), p.other.saved()
		if stock == last {
			t.Errorf("%s: nothing has changed:\n%s", step.name, stock)
		}
		last = stock
		for _, s := range all {
			if want, got := s.lines(stock), s.lines(other); got != want {
				t.Errorf("%s, %s:\n%sstock:\n%s%s:\n%s", step.name, s.name, s.text, want, p.other.product, got)
			}
		}
		said(step.name)
	}
	p.each((*director).stop)
	said("they are stopped")
	if calls == 0 || mails == 0 {
		t.Errorf("%d bytes of calls of scripts and %d of mails prove nothing", calls, mails)
	}
	if t.Failed() {
		t.Logf("log of stock:\n%s\nlog of %s:\n%s", p.stock.log(), p.other.product, p.other.log())
	}
}
