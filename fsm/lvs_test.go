package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	web = "TCP 192.0.2.10:80"
	dns = "UDP 192.0.2.10:53"
)

func ptr[T any](v T) *T { return &v }

func definition(key string, servers ...string) Definition {
	d := Definition{Key: key, Text: "virtual_server " + key}
	for _, s := range servers {
		d.Servers = append(d.Servers, ServerDefinition{Key: s, Text: "real_server " + s})
	}
	return d
}

func seed(services ...Definition) Command {
	return Command{Node: "lb1", Seed: &Seed{Parts: 1, Services: services}}
}

func balance(b Balance) Command { return Command{Node: "lb1", Balance: &b} }

func setWeb(servers ...string) Balance {
	d := definition(web, servers...)
	return Balance{Do: SetService, Service: web, Text: d.Text, Servers: &d.Servers}
}

func verdicts(epoch uint64, list ...Verdict) Command {
	return Command{Node: "lb1", Verdicts: &Verdicts{Group: "VI_WEB", Epoch: epoch, List: list}}
}

func isDown(service, server string) Verdict {
	return Verdict{Service: service, Server: server, Health: Health{Reason: "connection refused"}}
}

func isUp(service, server string) Verdict {
	return Verdict{Service: service, Server: server, Health: Health{Up: true}}
}

// balanced is a log of everything about the load balancer.
func balanced() []Command {
	two := definition(dns, "10.0.0.1:53")
	commands := []Command{
		grant(lb1, 1),
		{Node: "lb2", Seed: &Seed{Part: 0, Parts: 2, Services: []Definition{definition("TCP 192.0.2.99:1", "10.0.0.9:1")}}},
		{Node: "lb1", Seed: &Seed{Part: 0, Parts: 2, Services: []Definition{definition(web, "10.0.0.1:80", "10.0.0.2:80")}}},
		{Node: "lb1", Seed: &Seed{Part: 1, Parts: 2, Services: []Definition{two}}},
		verdicts(1, isDown(web, "10.0.0.1:80"), isUp(web, "10.0.0.2:80"), isUp(dns, "10.0.0.1:53")),
		balance(Balance{Do: Drain, Server: "10.0.0.1", Until: 9_000_000, By: "alice", Reason: "new fan"}),
		balance(Balance{Do: SetWeight, Service: web, Server: "10.0.0.2:80", Weight: ptr(uint32(7)), By: "bob"}),
		balance(Balance{Do: SetServer, Service: web, Server: "10.0.0.3:80", Text: "real_server\n}", By: "bob"}),
		balance(Balance{Do: RemoveServer, Service: web, Server: "10.0.0.2:80", Expect: ptr(uint64(8))}),
		balance(Balance{Do: SetService, Service: "FWM 7 IPv4", Text: "virtual_server fwmark 7", Servers: &[]ServerDefinition{
			{Key: "[fd00::1]:80", Text: "x", Weight: ptr(uint32(0))}}, File: true, Expect: ptr(uint64(0))}),
		balance(Balance{Do: Undrain, Server: "10.0.0.1:80", Service: web}),
		verdicts(1, Verdict{Service: dns, Server: "10.0.0.1:53", Health: Health{Up: true, Adds: -3, Reason: "exit status 5"}}),
		balance(Balance{Do: RemoveService, Service: web, Reason: "moved"}),
	}
	for i := range commands {
		commands[i].ID, commands[i].Time = fmt.Sprintf("lb1/x-%d", i), Wall(1000*(i+1))
	}
	return commands
}

func TestGoldenBalancer(t *testing.T) {
	s := New()
	var log, results []byte
	for _, c := range balanced() {
		b, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		log = append(append(log, b...), '\n')
	}
	golden(t, "balancer-commands.jsonl", log)
	for _, line := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		c, err := DecodeCommand(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		r := apply(t, s, c)[0]
		if !r.OK {
			t.Errorf("%s: %s", line, r.Refused)
		}
		b, _ := json.Marshal(r)
		results = append(append(results, b...), '\n')
	}
	golden(t, "balancer-results.jsonl", results)
	golden(t, "balancer-snapshot.json", s.Snapshot())
	old, err := os.ReadFile(filepath.Join("testdata", "balancer-snapshot.json"))
	if err != nil {
		t.Fatal(err)
	}
	if restored, err := Restore(old); err != nil || restored.Hash() != s.Hash() {
		t.Errorf("the golden snapshot: %v", err)
	}
}

func TestBalancerRules(t *testing.T) {
	seeded := []Command{grant(lb1, 1), seed(definition(web, "10.0.0.1:80", "10.0.0.2:80"), definition(dns, "10.0.0.1:53"))}
	tests := []struct {
		name    string
		before  []Command
		command Command
		refused string
		want    string // servers of web: key, weight, drained, verdict
	}{
		{name: "seed", before: seeded[:1], command: seeded[1], want: "10.0.0.1:80 10.0.0.2:80"},
		{name: "second seed", before: seeded, command: seed(definition(web)), refused: "the cluster has its virtual services already"},
		{name: "part out of order", command: Command{Node: "lb1", Seed: &Seed{Part: 1, Parts: 2, Services: []Definition{definition(web)}}},
			refused: "part 1 of 2 does not follow what came before"},
		{name: "seed of two nodes", before: []Command{{Node: "lb1", Seed: &Seed{Parts: 2, Services: []Definition{definition(web)}}}},
			command: Command{Node: "lb2", Seed: &Seed{Part: 1, Parts: 2, Services: []Definition{definition(web)}}},
			refused: "part 1 of 2 does not follow what came before"},
		{name: "server twice in a file", before: seeded[:1], command: seed(definition(web, "a:1", "a:1")), want: "a:1"},
		{name: "add without a table", before: nil, command: balance(setWeb("a:1")), want: "a:1"},
		{name: "add what is there", before: seeded, command: balance(Balance{Do: SetService, Service: web, Text: "x",
			Servers: &[]ServerDefinition{}, Expect: ptr(uint64(0))}), refused: "there is a virtual service TCP 192.0.2.10:80 already, version 2"},
		{name: "stale", before: append(slices.Clone(seeded), balance(Balance{Do: SetWeight, Service: web, Server: "10.0.0.1:80", Weight: ptr(uint32(9)),
			By: "alice"})), command: balance(Balance{Do: RemoveService, Service: web, Expect: ptr(uint64(2))}),
			refused: "version 2 of TCP 192.0.2.10:80 has been replaced by version 3 of alice"},
		{name: "stale: gone", before: seeded, command: balance(Balance{Do: RemoveService, Service: "x", Expect: ptr(uint64(2))}),
			refused: "there is no virtual service x any more"},
		{name: "remove what is not there", before: seeded, command: balance(Balance{Do: RemoveService, Service: "x"}),
			refused: "there is no virtual service x"},
		{name: "weight", before: seeded, command: balance(Balance{Do: SetWeight, Service: web, Server: "10.0.0.1:80", Weight: ptr(uint32(0))}),
			want: "10.0.0.1:80=0 10.0.0.2:80"},
		{name: "weight of its definition", before: append(slices.Clone(seeded), balance(Balance{Do: SetWeight, Service: web, Server: "10.0.0.1:80",
			Weight: ptr(uint32(0))})), command: balance(Balance{Do: SetWeight, Service: web, Server: "10.0.0.1:80"}), want: "10.0.0.1:80 10.0.0.2:80"},
		{name: "weight of nobody", before: seeded, command: balance(Balance{Do: SetWeight, Service: web, Server: "x", Weight: ptr(uint32(1))}),
			refused: "TCP 192.0.2.10:80 has no real server x"},
		{name: "drain everywhere", before: seeded, command: balance(Balance{Do: Drain, Server: "10.0.0.1"}), want: "10.0.0.1:80/drained 10.0.0.2:80"},
		{name: "an address is no prefix of another", before: seeded, command: balance(Balance{Do: Drain, Server: "10.0.0"}),
			refused: "there is no real server 10.0.0 in any virtual service"},
		{name: "drain stays when the definition changes", before: append(slices.Clone(seeded), balance(Balance{Do: Drain, Server: "10.0.0.1:80"}),
			verdicts(1, isDown(web, "10.0.0.2:80"))), command: balance(setWeb("10.0.0.1:80", "10.0.0.2:80", "10.0.0.4:80")),
			want: "10.0.0.1:80/drained 10.0.0.2:80/down 10.0.0.4:80"},
		{name: "undrain", before: append(slices.Clone(seeded), balance(Balance{Do: Drain, Server: "10.0.0.1"})),
			command: balance(Balance{Do: Undrain, Server: "10.0.0.1:80"}), want: "10.0.0.1:80 10.0.0.2:80"},
		{name: "undrain of another drain", before: append(slices.Clone(seeded), balance(Balance{Do: Drain, Server: "10.0.0.1", Until: 5})),
			command: balance(Balance{Do: Undrain, Server: "10.0.0.1", Until: 4}),
			refused: "the drain of 10.0.0.1 that ends at 1970-01-01T00:00:00.004Z has been replaced"},
		{name: "undrain of none", before: seeded, command: balance(Balance{Do: Undrain, Server: "10.0.0.1"}),
			refused: "10.0.0.1 is not drained in any virtual service"},
		{name: "verdict", before: seeded, command: verdicts(1, isDown(web, "10.0.0.1:80"), isUp(web, "10.0.0.2:80"), isUp("x", "y"), isUp(web, "y")),
			want: "10.0.0.1:80/down 10.0.0.2:80/up"},
		{name: "verdict of an old owner", before: append(slices.Clone(seeded), grant(lb2, 2)), command: verdicts(1, isDown(web, "10.0.0.1:80")),
			refused: "epoch 1 of VI_WEB is over"},
		{name: "verdict after the release", before: append(slices.Clone(seeded), release(lb1, 1, "")), command: verdicts(1, isDown(web, "10.0.0.1:80")),
			refused: "epoch 1 of VI_WEB is over"},
		{name: "verdict of a standby", before: append(slices.Clone(seeded), grant(lb2, 2)), command: verdicts(2, isDown(web, "10.0.0.1:80")),
			refused: "lb2 owns VI_WEB, not lb1"},
		{name: "verdict of nobody", before: seeded[1:], command: verdicts(1, isDown(web, "10.0.0.1:80")), refused: "nobody owns VI_WEB"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := New()
			for i, r := range apply(t, s, test.before...) {
				if !r.OK {
					t.Fatalf("command %d before: %s", i, r.Refused)
				}
			}
			before := s.Services()
			encoded, _ := json.Marshal(before)
			r := apply(t, s, test.command)[0]
			if r.Refused != test.refused {
				t.Fatalf("refused %q, want %q", r.Refused, test.refused)
			}
			if test.refused == "" {
				if got := describe(s); got != test.want {
					t.Errorf("servers %q, want %q", got, test.want)
				}
			} else if s.Services().Changed != before.Changed {
				t.Error("a refused command has changed the services")
			}
			if again, _ := json.Marshal(before); !bytes.Equal(encoded, again) {
				t.Errorf("services that were given away have changed: %s", again)
			}
			if restored, err := Restore(s.Snapshot()); err != nil || restored.Hash() != s.Hash() {
				t.Errorf("snapshot: %v", err)
			}
		})
	}
}

func describe(s *State) string {
	v, found := s.Service(web)
	if !found {
		return "none"
	}
	var all []string
	for _, server := range v.Servers {
		text := server.Key
		if server.Weight != nil {
			text += fmt.Sprint("=", *server.Weight)
		}
		if server.Drained != nil {
			text += "/drained"
		}
		if server.Found != nil {
			text += map[bool]string{true: "/up", false: "/down"}[server.Found.Up]
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// A thousand servers that flap are one event for each command, and what does not change is none.
func TestVerdictsDoNotFloodTheJournal(t *testing.T) {
	var keys []string
	for i := range MaxVerdicts {
		keys = append(keys, fmt.Sprintf("10.0.%d.%d:80", i/256, i%256))
	}
	s := New()
	apply(t, s, grant(lb1, 1), seed(definition(web, keys...)))
	began := len(s.Journal(0))
	for i := range 10 {
		var list []Verdict
		for _, key := range keys {
			list = append(list, Verdict{Service: web, Server: key, Health: Health{Up: i%2 == 1}})
		}
		apply(t, s, verdicts(1, list...), verdicts(1, list...))
	}
	events := s.Journal(0)[began:]
	if len(events) != 10 {
		t.Fatalf("%d events of 10 changes", len(events))
	}
	if got, want := events[0].Text, "507 more"; !strings.Contains(got, want) || len(got) > longestText || events[0].Severity != Warn ||
		events[1].Severity != Info {
		t.Errorf("events %+v, %+v", events[0], events[1])
	}
}

func TestInvalidBalancerCommands(t *testing.T) {
	long := strings.Repeat("x", MaxDefinition+1)
	var many []Definition
	for i := range MaxChange/MaxDefinition + 1 {
		many = append(many, Definition{Key: fmt.Sprint(i), Text: long[:MaxDefinition]})
	}
	for name, c := range map[string]Command{
		"seed of nothing":         seed(),
		"part behind the last":    {Seed: &Seed{Part: 1, Parts: 1, Services: []Definition{definition(web)}}},
		"no parts":                {Seed: &Seed{Services: []Definition{definition(web)}}},
		"too many parts":          {Seed: &Seed{Parts: maxParts + 1, Services: []Definition{definition(web)}}},
		"service without a key":   seed(Definition{Text: "x"}),
		"service without a text":  seed(Definition{Key: "x"}),
		"server without a text":   seed(Definition{Key: "x", Text: "x", Servers: []ServerDefinition{{Key: "x"}}}),
		"long text":               seed(Definition{Key: "x", Text: long}),
		"long texts":              seed(many...),
		"weight beyond":           seed(Definition{Key: "x", Text: "x", Servers: []ServerDefinition{{Key: "x", Text: "x", Weight: ptr(uint32(1 << 31))}}}),
		"unknown operation":       balance(Balance{Do: "flush", Service: web}),
		"no service":              balance(Balance{Do: RemoveService}),
		"set without servers":     balance(Balance{Do: SetService, Service: web, Text: "x"}),
		"weight without a server": balance(Balance{Do: SetWeight, Service: web, Weight: ptr(uint32(1))}),
		"remove with a text":      balance(Balance{Do: RemoveService, Service: web, Text: "x"}),
		"weight with an end":      balance(Balance{Do: SetWeight, Service: web, Server: "x", Until: 4}),
		"weight too large":        balance(Balance{Do: SetWeight, Service: web, Server: "x", Weight: ptr(uint32(1 << 31))}),
		"version of all services": balance(Balance{Do: Drain, Server: "x", Expect: ptr(uint64(3))}),
		"drain from a file":       balance(Balance{Do: Drain, Server: "x", File: true}),
		"text not UTF-8":          balance(Balance{Do: SetServer, Service: web, Server: "x", Text: "\xff"}),
		"no verdicts":             verdicts(1),
		"too many verdicts":       verdicts(1, make([]Verdict, MaxVerdicts+1)...),
		"verdict of nobody":       verdicts(1, Verdict{Service: web}),
		"verdict of epoch 0":      verdicts(0, isUp(web, "x")),
		"verdict adds too much":   verdicts(1, Verdict{Service: web, Server: "x", Health: Health{Adds: 1 << 31}}),
		"verdict, long reason":    verdicts(1, Verdict{Service: web, Server: "x", Health: Health{Reason: long[:longestName+1]}}),
	} {
		if _, err := New().Apply(1, c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := EncodeCommand(c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: encoded with error %v", name, err)
		}
	}
	c := verdicts(1, Verdict{Service: web, Server: "x", Health: Health{Reason: long}})
	c.Verdicts.List[0].Reason += "\xff"
	if err := c.Clip().Validate(); err != nil {
		t.Error(err)
	}
}

func TestTheTableIsBounded(t *testing.T) {
	s := New()
	for part := range MaxServices/1024 + 1 {
		list := make([]Definition, 1024)
		for i := range list {
			list[i] = definition(fmt.Sprint(part, "-", i))
		}
		r := apply(t, s, Command{Node: "lb1", Seed: &Seed{Part: part, Parts: MaxServices/1024 + 2, Services: list}})[0]
		if r.OK != (part < MaxServices/1024) {
			t.Fatalf("part %d: %+v", part, r)
		}
	}
	if s.balancer.seeding != nil || s.Balanced() != 0 {
		t.Error("what is too much is kept")
	}
}

// FuzzBalancer plays random commands on a state and on one that goes through a snapshot after each, and compares.
func FuzzBalancer(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, n uint64) {
		r := rand.New(rand.NewPCG(n, 1))
		services, servers := []string{web, dns, "x"}, []string{"10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80"}
		one := func(list []string) string { return list[r.IntN(len(list))] }
		s, twin := New(), New()
		for i := range 60 {
			var c Command
			switch r.IntN(9) {
			case 0:
				c = seed(definition(one(services), one(servers), one(servers)))
			case 1:
				c = grant([]Member{lb1, lb2}[r.IntN(2)], s.Epoch("VI_WEB")+1)
			case 2:
				b := setWeb(one(servers), one(servers))
				b.Service, b.Expect = one(services), ptr(r.Uint64N(uint64(i+1)))
				c = balance(b)
			case 3:
				c = balance(Balance{Do: RemoveService, Service: one(services)})
			case 4:
				c = balance(Balance{Do: []Operation{Drain, Undrain}[r.IntN(2)], Server: one([]string{"10.0.0.1", "10.0.0.2:80"}), Until: Wall(r.IntN(2))})
			case 5:
				c = balance(Balance{Do: SetWeight, Service: one(services), Server: one(servers), Weight: ptr(r.Uint32N(9))})
			case 6:
				c = balance(Balance{Do: RemoveServer, Service: one(services), Server: one(servers)})
			case 7:
				c = balance(Balance{Do: SetServer, Service: one(services), Server: one(servers), Text: one(servers)})
			case 8:
				c = verdicts(max(1, s.Epoch("VI_WEB")), Verdict{Service: one(services), Server: one(servers), Health: Health{Up: r.IntN(2) == 0}})
			}
			c.Time = Wall(i)
			b, err := EncodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			if c, err = DecodeCommand(b); err != nil {
				t.Fatal(err)
			}
			if got, want := apply(t, s, c)[0], apply(t, twin, c)[0]; got != want {
				t.Fatalf("%s: %+v and %+v", b, got, want)
			}
			if twin, err = Restore(twin.Snapshot()); err != nil {
				t.Fatalf("after %s: %v", b, err)
			}
			if s.Hash() != twin.Hash() {
				t.Fatalf("the states differ after %s", b)
			}
			if n, texts := counted(s); n != s.balancer.servers || texts != s.balancer.texts {
				t.Fatalf("%d servers with %d bytes counted, not %d, %d", s.balancer.servers, s.balancer.texts, n, texts)
			}
		}
	})
}

func counted(s *State) (servers, texts int) {
	for _, v := range s.Services().Services {
		servers, texts = servers+len(v.Servers), texts+v.size()
	}
	return servers, texts
}
