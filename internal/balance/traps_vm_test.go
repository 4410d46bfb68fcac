//go:build integ

package balance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/vm"
)

// checkTraps is what the traps of the load balancer begin with in KEEPALIVED-MIB.
const checkTraps = ".1.3.6.1.4.1.9586.100.5.3.5.0."

// receiver keeps the traps that come to an address, a line for each.
type receiver struct {
	mu    sync.Mutex
	traps []string
}

func (f *field) receive(at string) *receiver {
	f.t.Helper()
	r := &receiver{}
	f.openUDP(at, func(datagram []byte) []byte {
		packet, err := (&gosnmp.GoSNMP{Version: gosnmp.Version2c}).UnmarshalTrap(datagram, false)
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case err != nil:
			r.traps = append(r.traps, err.Error())
		case len(packet.Variables) > 1 && strings.HasPrefix(fmt.Sprint(packet.Variables[1].Value), checkTraps):
			var line strings.Builder
			for _, v := range packet.Variables[1:] { // the first one is the time
				fmt.Fprintf(&line, "%s %v %v; ", strings.TrimPrefix(v.Name, "."), v.Type, v.Value)
			}
			r.traps = append(r.traps, line.String())
		}
		return nil
	})
	return r
}

// take returns those since the last time, in the order of the alphabet: checks run side by side.
func (r *receiver) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	traps := r.traps
	r.traps = nil
	slices.Sort(traps)
	return strings.Join(traps, "\n")
}

// The same failures and recoveries lead to the same traps, with the same variables: stock keepalived's go by way of Net-SNMP's agent,
// had sends its own. What is told at the start and at the end is not compared: stock keepalived tells of quorums at the one, and of all
// servers at the other, where had goes by omega.
func TestSameTraps(t *testing.T) {
	p := newPair(t)
	one, two := p.open("10.77.0.101:80", greet("")), p.open("10.77.0.102:80", greet(""))
	tells := map[*director]*receiver{p.stock: p.receive("10.77.0.104:162"), p.other: p.receive("10.77.0.105:162")}

	agent := p.stock.file("agentx")
	conf := p.stock.file("snmpd.conf")
	check(t, os.WriteFile(conf, []byte("master agentx\nagentXSocket unix:"+agent+"\nagentAddress udp:127.0.0.1:161\ntrap2sink 10.77.0.104 public\n"), 0o644))
	snmpd, err := p.stock.host.Start(lab.Command{Path: filepath.Join(vm.Programs, "snmpd"), LogFile: p.stock.file("snmpd.log"),
		Args: []string{"-f", "-Le", "-C", "-c", conf, "-p", p.stock.file("snmpd.pid")},
		Env:  []string{"MIBS=", "SNMP_PERSISTENT_DIR=" + p.stock.file("persistent")}})
	check(t, err)
	t.Cleanup(func() { _ = snmpd.Stop(stopLimit) })
	if !eventually(settleLimit, func() bool { _, err := os.Stat(agent); return err == nil }) {
		t.Fatalf("snmpd offers no AgentX: %s", read(t, p.stock.file("snmpd.log")))
	}

	byTCP := "TCP_CHECK {\nconnect_timeout 1\nretry 1\ndelay_before_retry 1\n}"
	pool := server("10.77.0.101 80", byTCP) + "\n" + server("10.77.0.102 80", "weight 2", byTCP)
	v6 := server("10.77.0.101 80", byTCP) + "\n" + server("fd77::102 80", "PING_CHECK {\nconnect_timeout 1\nretry 1\ndelay_before_retry 1\n}")
	services := service("198.18.1.1 80", rr, nat, tcp, pool) +
		service("198.18.2.1 80", rr, nat, tcp, "sorry_server 10.77.0.110 80", "quorum 2", "hysteresis 1", pool) +
		service("198.18.3.1 53", rr, nat, udp, pool) +
		service("fwmark 9", rr, nat, pool) +
		group("many", "198.18.4.1-3 80") + service("group many", rr, nat, tcp, pool) +
		service("2001:db8::1 80", rr, tun, tcp, v6)
	global := func(lines string) string {
		return "global_defs {\nrouter_id same\nenable_traps\nenable_snmp_checker\n" + lines + "\n}\n"
	}
	p.stock.configure(global("snmp_socket unix:"+agent) + services)
	p.other.configure(global("snmp_trap 10.77.0.105 {\n}") + services)
	p.each((*director).start)
	told := 0
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"all are up", func() {}},
		{"the first one fails", one.down},
		{"the second one fails too", two.down},
		{"the first one is back", one.up},
		{"the second one is back too", two.up},
	} {
		step.do()
		p.settle()
		time.Sleep(time.Second) // what is on its way
		want, got := tells[p.stock].take(), tells[p.other].take()
		if step.name == "all are up" {
			continue
		}
		told += len(want)
		if got != want {
			t.Errorf("%s: traps\nstock:\n%s\n%s:\n%s", step.name, want, p.other.product, got)
		}
	}
	p.each((*director).stop)
	if told == 0 {
		t.Error("no traps prove nothing")
	}
	if t.Failed() {
		t.Logf("log of stock:\n%s\nsnmpd:\n%s\nlog of %s:\n%s", p.stock.log(), read(t, p.stock.file("snmpd.log")), p.other.product, p.other.log())
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	return string(text)
}
