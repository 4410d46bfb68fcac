package vrrp

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

var update = flag.Bool("update", false, "rewrite the traces in testdata/*.txt")

// linkDelay is how long an advertisement travels in a story.
const linkDelay = time.Millisecond

// TestStories plays the scripts of testdata. A line that begins without a blank is a command or a comment, the indented
// lines below it are the trace that it must produce. Commands:
//
//	router NAME [priority=N] [address=A] [version=2|3] [interval=D] [delay=D] [startup=D]
//	       [nopreempt] [master] [gated] [noadvert] [lastadvert]
//	start|stop|recover|grant|hold|unhold|reannounce|defend NAME...
//	fault NAME REASON | yield NAME REASON | resign NAME REASON | disturb NAME REASON | priority NAME N
//	cut A B      advertisements of A no longer reach B
//	heal         all links work again
//	run D        time passes; every tick and every advertisement happens at its time
//	show         the state of every router
//
// Periodic advertisements of a router that stays Active and have no effect on others are left out of the trace.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s: the trace differs; -update rewrites it:\n%s", file, firstDifference(got, string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var gotLine, wantLine string
		if i < len(g) {
			gotLine = g[i]
		}
		if i < len(w) {
			wantLine = w[i]
		}
		if gotLine != wantLine {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, gotLine, wantLine)
		}
	}
	return ""
}

type story struct {
	t       *testing.T
	out     strings.Builder
	now     clock.Time
	routers []*actor
	flights []flight
	cuts    [][2]string
}

type actor struct {
	name    string
	cfg     Config
	startup time.Duration
	s       State
}

// flight is an advertisement under way.
type flight struct {
	at clock.Time
	to *actor
	ev Received
}

func play(t *testing.T, script string) string {
	st := &story{t: t, now: origin}
	for _, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		st.out.WriteString(line + "\n")
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			st.command(fields[0], fields[1:])
		}
	}
	return st.out.String()
}

func (st *story) command(verb string, args []string) {
	switch verb {
	case "router":
		st.router(args)
	case "cut":
		st.cuts = append(st.cuts, [2]string{args[0], args[1]})
	case "heal":
		st.cuts = nil
	case "run":
		st.run(st.duration(args[0]))
	case "show":
		st.show()
	case "fault", "yield", "resign", "disturb", "priority":
		st.step(st.find(args[0]), st.argued(verb, strings.Join(args[1:], " ")))
	default:
		for _, name := range args {
			actor := st.find(name)
			st.step(actor, st.plain(verb, actor))
		}
	}
}

func (st *story) argued(verb, arg string) Event {
	switch verb {
	case "fault":
		return Faulted{Reason: arg}
	case "yield":
		return Yield{Reason: arg}
	case "resign":
		return Yield{Reason: arg, ShortenPeers: true}
	case "disturb":
		return Disturbed{Reason: arg}
	}
	p, err := strconv.ParseUint(arg, 10, 8)
	if err != nil {
		st.t.Fatal(err)
	}
	return SetPriority{Priority: uint8(p)}
}

func (st *story) plain(verb string, actor *actor) Event {
	switch verb {
	case "start":
		return Start{Delay: actor.startup}
	case "stop":
		return Stop{}
	case "recover":
		return Recovered{}
	case "grant":
		return Granted{}
	case "hold":
		return Hold{}
	case "unhold":
		return Unhold{}
	case "reannounce":
		return Reannounce{}
	case "defend":
		return Defend{}
	}
	st.t.Fatalf("unknown command %q", verb)
	return nil
}

func (st *story) router(args []string) {
	a := &actor{name: args[0], cfg: Config{
		Name: args[0], VRID: 51, Version: Version3, Family: IPv4, Priority: 100, AdvertInterval: time.Second,
		DownTimerAdverts: 3, Preempt: true, GARP: DefaultGARP(), Local: ours,
	}}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		number, _ := strconv.ParseUint(value, 10, 8)
		switch key {
		case "priority":
			a.cfg.Priority = uint8(number)
		case "version":
			a.cfg.Version = uint8(number)
		case "address":
			a.cfg.Local = netip.MustParseAddr(value)
		case "interval":
			a.cfg.AdvertInterval = st.duration(value)
		case "delay":
			a.cfg.PreemptDelay = st.duration(value)
		case "startup":
			a.startup = st.duration(value)
		case "nopreempt":
			a.cfg.Preempt = false
		case "master":
			a.cfg.InitialActive = true
		case "gated":
			a.cfg.Gated = true
		case "noadvert":
			a.cfg.LowerPrioNoAdvert = true
		case "lastadvert":
			a.cfg.HigherPrioSendAdvert = true
		default:
			st.t.Fatalf("unknown option %q", arg)
		}
	}
	if err := a.cfg.Validate(); err != nil {
		st.t.Fatal(err)
	}
	st.routers = append(st.routers, a)
}

func (st *story) find(name string) *actor {
	for _, a := range st.routers {
		if a.name == name {
			return a
		}
	}
	st.t.Fatalf("unknown router %q", name)
	return nil
}

func (st *story) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		st.t.Fatal(err)
	}
	return d
}

// run lets time pass. At one instant advertisements arrive before timers fire, in the order of sending and of routers.
func (st *story) run(d time.Duration) {
	end := st.now.Add(d)
	for {
		next := end + 1
		if len(st.flights) > 0 {
			next = min(next, st.flights[0].at)
		}
		for _, a := range st.routers {
			if deadline := a.s.Deadline(); deadline != 0 {
				next = min(next, max(deadline, st.now))
			}
		}
		if next > end {
			break
		}
		st.now = next
		if len(st.flights) > 0 && st.flights[0].at == next {
			f := st.flights[0]
			st.flights = st.flights[1:]
			st.step(f.to, f.ev)
			continue
		}
		for _, a := range st.routers {
			if deadline := a.s.Deadline(); deadline != 0 && deadline <= next {
				st.step(a, Tick{})
				break
			}
		}
	}
	st.now = end
}

func (st *story) step(a *actor, ev Event) {
	before := a.s
	var actions []Action
	a.s, actions = before.Step(&a.cfg, st.now, ev)
	if err := a.s.Check(&a.cfg); err != nil {
		st.t.Errorf("after %v: %v", ev, err)
	}
	_, tick := ev.(Tick)
	routine := tick && len(actions) == 1 && actions[0] == (SendAdvert{Priority: before.Priority})
	if len(actions) > 0 && !routine {
		fmt.Fprintf(&st.out, "  %9.6f %s %v\n", st.now.Sub(origin).Seconds(), a.name, ev)
	}
	for _, action := range actions {
		if !routine {
			fmt.Fprintf(&st.out, "            %v\n", action)
		}
		if advert, ok := action.(SendAdvert); ok {
			st.send(a, advert.Priority)
		}
	}
}

func (st *story) send(from *actor, priority uint8) {
	for _, to := range st.routers {
		if to != from && !slices.Contains(st.cuts, [2]string{from.name, to.name}) {
			st.flights = append(st.flights, flight{
				at: st.now.Add(linkDelay), to: to,
				ev: Received{From: from.cfg.Local, Priority: priority, Interval: from.cfg.AdvertInterval},
			})
		}
	}
}

func (st *story) show() {
	for _, a := range st.routers {
		fmt.Fprintf(&st.out, "  %9.6f %s %v, priority %d", st.now.Sub(origin).Seconds(), a.name, a.s.Status, a.s.Priority)
		if a.s.Claiming {
			fmt.Fprintf(&st.out, ", claiming: %v", a.s.Claim)
		}
		if a.s.Wish {
			st.out.WriteString(", wishes to be active")
		}
		if deadline := a.s.Deadline(); deadline != 0 {
			fmt.Fprintf(&st.out, ", deadline in %v", deadline.Sub(st.now))
		}
		st.out.WriteString("\n")
	}
}
