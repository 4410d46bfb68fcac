//go:build integ

package balance

import (
	"flag"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/lvs"
)

// other is the product that stock keepalived is compared with. With keepalived, the comparison itself is on trial.
var other = flag.String("other", "had", "what stock keepalived is compared with")

// settleLimit bounds the wait for two tables to come to rest, steadyTime is how long they must be the same for that.
const (
	settleLimit = 30 * time.Second
	steadyTime  = 4 * time.Second
)

// pair is a director with stock keepalived and one with had, which have the same file.
type pair struct {
	*field
	stock, other *director
}

func newPair(t *testing.T) *pair {
	f := newField(t)
	return &pair{field: f, stock: f.director("stock", "keepalived", 1), other: f.director("other", *other, 2)}
}

func (p *pair) each(do func(*director)) {
	do(p.stock)
	do(p.other)
}

// settle waits until both tables have something in them and have not changed for a while.
func (p *pair) settle() {
	p.t.Helper()
	var since time.Time
	var stock, other lvs.Table
	if !eventually(settleLimit, func() bool {
		s, o := p.stock.table(), p.other.table()
		if !reflect.DeepEqual(s, stock) || !reflect.DeepEqual(o, other) {
			since = time.Now()
		}
		stock, other = s, o
		return len(s) > 0 && len(o) > 0 && time.Since(since) >= steadyTime
	}) {
		p.t.Errorf("the tables do not come to rest: stock has %d services, %s %d. Its log:\n%s", len(stock), p.other.product, len(other), p.other.log())
	}
}

// service makes a virtual_server block. What follows the head are its lines.
func service(head string, lines ...string) string {
	return fmt.Sprintf("virtual_server %s {\n  delay_loop 1\n  %s\n}\n", head, strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  "))
}

// server makes a real_server block.
func server(address string, lines ...string) string {
	return fmt.Sprintf("real_server %s {\n  %s\n}", address, strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  "))
}

func group(name string, lines ...string) string {
	return fmt.Sprintf("virtual_server_group %s {\n  %s\n}\n", name, strings.Join(lines, "\n  "))
}

const (
	tcp = "protocol TCP"
	udp = "protocol UDP"
	rr  = "lb_algo rr"
	nat = "lb_kind NAT"
	dr  = "lb_kind DR"
	tun = "lb_kind TUN"

	deadCheck = "TCP_CHECK {\n  connect_timeout 1\n  retry 1\n  delay_before_retry 1\n}"
)

// two are servers that are not checked.
var two = server("10.77.0.101 80", "weight 1") + "\n" + server("10.77.0.102 80", "weight 2")

// sample is a part of the file that has nothing to do with the others: its services have addresses and marks of their own.
type sample struct{ name, text, v4, v6, mark string }

// lines returns those of a saved table that are about the sample.
func (s sample) lines(saved string) string {
	var all strings.Builder
	for line := range strings.Lines(saved) {
		if strings.Contains(line, " "+s.v4+".") || strings.Contains(line, " ["+s.v6+"::") || strings.Contains(line, " -f "+s.mark) {
			all.WriteString(line)
		}
	}
	return all.String()
}

// samples are the configurations of which both have to make the same. In them, @4 and @6 stand for the beginning of an address, @m
// for that of a mark, and @g for the name of a group.
func samples() (all []sample) {
	add := func(name string, blocks ...string) {
		n := len(all) + 1
		s := sample{name: name, v4: fmt.Sprintf("198.18.%d", n), v6: fmt.Sprintf("2001:db8:%d", n), mark: strconv.Itoa(10 + n)}
		s.text = strings.NewReplacer("@4", s.v4, "@6", s.v6, "@m", s.mark, "@g", fmt.Sprintf("g%d", n)).Replace(strings.Join(blocks, ""))
		all = append(all, s)
	}
	for _, name := range strings.Fields("rr wrr lc wlc lblc lblcr sh mh dh fo ovf sed nq") {
		add("scheduler "+name, service("@4.1 80", "lb_algo "+name, nat, tcp, two))
	}
	add("sh with its flags", service("@4.1 80", "lb_algo sh\nsh-port\nsh-fallback", nat, tcp, two))
	add("mh with its flags", service("@4.1 80", "lb_algo mh\nmh-port\nmh-fallback", nat, tcp, two))
	add("flags by number", service("@4.1 80", "lb_algo wrr\nflag-1\nflag-3", nat, tcp, two))

	add("direct routing", service("@4.1 80", rr, dr, tcp, two))
	add("tunnel", service("@4.1 80", rr, tun, tcp, two))
	add("tunnel ipip", service("@4.1 80", rr, "lb_kind TUN type ipip", tcp, two))
	add("tunnel gue", service("@4.1 80", rr, "lb_kind TUN type gue port 6080", tcp, two))
	add("tunnel gue csum", service("@4.1 80", rr, "lb_kind TUN type gue port 6080 csum", tcp, two))
	add("tunnel gue remcsum", service("@4.1 80", rr, "lb_kind TUN type gue port 6080 remcsum", tcp, two))
	add("tunnel gre", service("@4.1 80", rr, "lb_kind TUN type gre", tcp, two))
	add("tunnel gre csum", service("@4.1 80", rr, "lb_kind TUN type gre csum", tcp, two))
	add("a method for each server", service("@4.1 80", rr, nat, tcp, server("10.77.0.101 80"),
		server("10.77.0.102 80", "lvs_method DR"), server("10.77.0.103 80", "lvs_method TUN type gre")))

	six := server("fd77::101 80") + "\n" + server("fd77::102 80")
	add("IPv6", service("@6::1 80", rr, nat, tcp, six))
	add("IPv6 direct routing", service("@6::1 80", rr, dr, tcp, six))
	add("IPv6 tunnel", service("@6::1 80", rr, tun, tcp, six))
	add("IPv4 in IPv6", service("@4.1 80", rr, tun, tcp, six))
	add("IPv6 in IPv4", service("@6::1 80", rr, tun, tcp, two))

	add("UDP", service("@4.1 53", rr, nat, udp, server("10.77.0.101 53")))
	add("SCTP", service("@4.1 5000", rr, nat, "protocol SCTP", server("10.77.0.101 5000")))
	add("one-packet scheduling", service("@4.1 53", rr, "ops", nat, udp, server("10.77.0.101 53")))

	add("mark", service("fwmark @m7", rr, dr, server("10.77.0.101"), server("10.77.0.102")))
	add("mark IPv6", service("fwmark @m7", rr, dr, "ip_family inet6", server("fd77::101"), server("fd77::102")))
	add("mark, family of its servers", service("fwmark @m7", rr, dr, server("fd77::101")))
	add("mark by NAT with ports", service("fwmark @m8", rr, nat, server("10.77.0.101 8080"), server("10.77.0.102 8081")))
	add("the same mark for both families", service("fwmark @m7", rr, dr, server("10.77.0.101")),
		service("fwmark @m7", rr, dr, "ip_family inet6", server("fd77::101")))

	add("group", group("@g", "@4.1 80", "@4.2 81"), service("group @g", rr, nat, tcp, two))
	add("group with ranges", group("@g", "@4.1-5 80", "@4.20-22 81"), service("group @g", rr, dr, tcp, two))
	add("group IPv6 with a range", group("@g", "@6::1-3 80"), service("group @g", rr, nat, tcp, six))
	add("group with a mark", group("@g", "fwmark @m9"), service("group @g", rr, dr, server("10.77.0.101"), server("10.77.0.102")))
	add("group with addresses and marks", group("@g", "@4.1 80", "fwmark @m9"), service("group @g", rr, dr, tcp, two))
	add("group for two protocols", group("@g", "@4.1 53", "@4.2 53"),
		service("group @g", rr, nat, tcp, server("10.77.0.101 53")), service("group @g", rr, nat, udp, server("10.77.0.101 53")))

	add("persistence", service("@4.1 80", rr, "persistence_timeout 60", nat, tcp, two))
	add("persistence without a span", service("@4.1 80", rr, "persistence_timeout", nat, tcp, two))
	add("persistence with granularity", service("@4.1 80", rr, "persistence_timeout 60\npersistence_granularity 255.255.255.0", nat, tcp, two))
	add("granularity alone", service("@4.1 80", rr, "persistence_granularity 255.255.0.0", nat, tcp, two))
	add("granularity IPv6", service("@6::1 80", rr, "persistence_timeout 60\npersistence_granularity 64", nat, tcp, six))
	add("persistence IPv6", service("@6::1 80", rr, "persistence_timeout 60", nat, tcp, six))
	add("persistence engine", service("@4.1 5060", rr, "persistence_timeout 60\npersistence_engine sip", nat, udp, server("10.77.0.101 5060")))
	add("all ports", service("@4.1 0", rr, "persistence_timeout 60", dr, tcp, server("10.77.0.101 0")))

	add("thresholds", service("@4.1 80", rr, nat, tcp, server("10.77.0.101 80", "uthreshold 100\nlthreshold 10"),
		server("10.77.0.102 80", "uthreshold 100")))
	add("weights", service("@4.1 80", rr, nat, tcp, "weight 5", server("10.77.0.101 80"), server("10.77.0.102 80", "weight 0"),
		server("10.77.0.103 80", "weight 65535")))
	add("ports of their own", service("@4.1 80", rr, nat, tcp, server("10.77.0.101 8080"), server("10.77.0.102")))
	add("ports of their own, direct routing", service("@4.1 80", rr, dr, tcp, server("10.77.0.101 8080"), server("10.77.0.102 80")))
	add("a server twice", service("@4.1 80", rr, nat, tcp, server("10.77.0.101 80"), server("10.77.0.101 80", "weight 9")))
	add("several services", service("@4.1 80", rr, nat, tcp, two), service("@4.1 80", "lb_algo wlc", nat, udp, two),
		service("@4.1 443", "lb_algo sh", dr, tcp, server("10.77.0.101 443")))
	add("ten servers", service("@4.1 80", rr, nat, tcp, many(10)))
	add("nothing but the servers", service("@4.1 80", two))

	dead := server("10.77.0.101 9999", deadCheck)
	sorry := "sorry_server 10.77.0.110 80"
	add("a dead server beside one that is not checked", service("@4.1 80", rr, nat, tcp, dead, server("10.77.0.102 80")))
	add("sorry server", service("@4.1 80", rr, nat, tcp, sorry, dead))
	add("sorry server not needed", service("@4.1 80", rr, nat, tcp, sorry, two))
	add("sorry server inhibited", service("@4.1 80", rr, nat, tcp, sorry, "sorry_server_inhibit", two))
	add("sorry server by another method", service("@4.1 80", rr, nat, tcp, sorry, "sorry_server_lvs_method DR", dead))
	add("inhibit on failure", service("@4.1 80", rr, nat, tcp, server("10.77.0.101 9999", "inhibit_on_failure", deadCheck), server("10.77.0.102 80")))
	add("inhibit on failure with a sorry server", service("@4.1 80", rr, nat, tcp, sorry, server("10.77.0.101 9999", "inhibit_on_failure", deadCheck)))
	add("alpha", service("@4.1 80", "alpha", rr, nat, tcp, dead, server("10.77.0.102 80")))
	add("alpha with a sorry server", service("@4.1 80", "alpha", rr, nat, tcp, sorry, dead))
	add("quorum that is not met", service("@4.1 80", rr, nat, tcp, "quorum 3", sorry, dead, server("10.77.0.102 80"), server("10.77.0.103 80")))
	add("quorum with hysteresis", service("@4.1 80", rr, nat, tcp, "quorum 3\nhysteresis 1", sorry, dead, server("10.77.0.102 80"), server("10.77.0.103 80")))
	return all
}

// many are servers that are not checked.
func many(n int) string {
	var all []string
	for i := range n {
		all = append(all, server(fmt.Sprintf("10.77.0.%d 80", 101+i), fmt.Sprintf("weight %d", i+1)))
	}
	return strings.Join(all, "\n")
}

// The same file gives the same table, part by part, and none is left of it when the program has ended.
func TestSameTable(t *testing.T) {
	p := newPair(t)
	all := samples()
	var file strings.Builder
	for _, s := range all {
		file.WriteString(s.text)
	}
	p.each(func(d *director) {
		d.configure(file.String())
		d.start()
	})
	p.settle()
	stock, other := p.stock.saved(), p.other.saved()
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			want, got := s.lines(stock), s.lines(other)
			if want == "" {
				t.Errorf("stock keepalived made nothing of it:\n%s", s.text)
			}
			if got != want {
				t.Errorf("%s:\n%sstock:\n%s%s:\n%s", s.name, s.text, want, p.other.product, got)
			}
		})
	}
	if !strings.Contains(stock, "thresholds of") {
		t.Errorf("the thresholds are not seen:\n%s", stock)
	}
	if other != stock && !t.Failed() {
		t.Errorf("the tables differ where nothing is expected:\n%s\n%s", stock, other)
	}
	t.Logf("%d configurations in a table of %d lines: stock keepalived and %s agree in all but the failures above", len(all),
		strings.Count(stock, "\n"), p.other.product)
	p.each((*director).stop)
	if got := p.stock.saved() + p.other.saved(); got != "" {
		t.Errorf("this is left at the end:\n%s", got)
	}
}
