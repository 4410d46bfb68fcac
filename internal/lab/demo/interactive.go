package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

const (
	watchPeriod = 500 * time.Millisecond // between two looks at who owns the address
	// memory is how far back the observer's record reaches.
	memory = 10 * time.Minute
)

// interact keeps the cluster up, does what is typed and says what happens to the address, until quit or the end of ctx. The
// end of the input does not end it.
func (st *stage) interact(ctx context.Context, p *printer, in io.Reader) error {
	st.help(p)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for input := bufio.NewScanner(in); input.Scan(); {
			lines <- input.Text()
		}
	}()
	w := &watch{stage: st, began: now(), from: now()}
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := w.look(ctx, p); err != nil {
				return err
			}
		case text, ok := <-lines:
			switch {
			case !ok:
				lines = nil // no more orders; Ctrl-C ends it
			case strings.TrimSpace(text) == "quit":
				return w.finish(p)
			default:
				if err := st.obey(ctx, p, strings.Fields(text)); err != nil {
					p.line("%s", err)
				}
			}
		}
	}
}

// help says what to type, here and in another terminal.
func (st *stage) help(p *printer) {
	root := "/proc/" + strconv.Itoa(lab.HostPID(os.Getpid())) + "/root"
	p.title("The cluster stays up. Type here:")
	for _, line := range []string{
		"status [NODE]        what a node says of the cluster      why [NODE]         why this owner",
		"move NODE            planned move                         events             what happened",
		"kill NODE            kill -9 of all its processes         start NODE         start it again",
		"stop NODE            SIGSTOP                              cont NODE          SIGCONT",
		"term NODE            SIGTERM                              cut NODE           take it off the LAN",
		"oneway NODE NODE     drop what the first sends the second pair NODE NODE     drop everything between two",
		"vrrp                 block VRRP between the directors     loss PERCENT       lose frames everywhere",
		"faults               what is in force                     heal               end all faults",
		"daemon NODE          kill -9 of its daemon alone          quit               end, and remove everything",
		"help                 this, with process numbers",
	} {
		p.line("  %s", line)
	}
	p.title("Or in another terminal:")
	enter := "nsenter -t PID -n"
	if lab.OwnUserNamespace() {
		enter = "nsenter -t PID -U -n --preserve-credentials"
	}
	for _, n := range st.Nodes {
		pid := "-"
		if n.Running() {
			pid = strconv.Itoa(lab.HostPID(n.Proc.PID()))
		}
		p.line("  %-5s %-10s PID %-8s %s -s %s%s status", n.Name, n.Program(), pid, st.Programs.Hactl, root, n.Socket())
	}
	p.line("  log, configuration and data of a node:   %s%s/NODE/", root, st.Dir)
	p.line("  a shell in its network namespace:        %s", enter)
	p.line("")
}

// obey does one thing that was typed.
func (st *stage) obey(ctx context.Context, p *printer, words []string) error {
	if len(words) == 0 {
		return nil
	}
	verb, args := words[0], words[1:]
	argument := func(i int) (*site.Node, error) {
		if i >= len(args) {
			return nil, fmt.Errorf("%s needs the name of a node: lb1, lb2 or w1", verb)
		}
		if n := st.Node(args[i]); n != nil {
			return n, nil
		}
		return nil, fmt.Errorf("no node %q: there are lb1, lb2 and w1", args[i])
	}
	onProc := func(act func(*lab.Proc) error) error {
		n, err := argument(0)
		if err != nil {
			return err
		}
		if !n.Running() {
			return fmt.Errorf("%s is not running", n.Name)
		}
		return act(n.Proc)
	}
	made := func(f *lab.Fault, err error) error {
		if err == nil {
			p.line("%s", f)
		}
		return err
	}
	show := func(n *site.Node, args ...string) error {
		out, err := st.Hactl(ctx, n, args...)
		p.indented(out)
		return err
	}
	switch verb {
	case "status", "why", "events":
		n := st.running()
		if len(args) > 0 {
			var err error
			if n, err = argument(0); err != nil {
				return err
			}
		}
		switch verb {
		case "status":
			return show(n, "cluster", "status")
		case "why":
			return show(n, "why", st.Group())
		default:
			return show(n, "events")
		}
	case "move":
		n, err := argument(0)
		if err != nil {
			return err
		}
		return show(st.running(), "move", st.Group(), "--to", n.Name, "--yes")
	case "daemon":
		return onProc(func(q *lab.Proc) error { return q.Signal(syscall.SIGKILL) })
	case "kill":
		n, err := argument(0)
		if err != nil {
			return err
		}
		return st.Kill(n)
	case "start":
		n, err := argument(0)
		if err != nil {
			return err
		}
		return st.Start(n)
	case "stop":
		return onProc(func(q *lab.Proc) error { return q.SignalTree(syscall.SIGSTOP) })
	case "cont":
		return onProc(func(q *lab.Proc) error { return q.SignalTree(syscall.SIGCONT) })
	case "term":
		return onProc(func(q *lab.Proc) error { return q.Signal(syscall.SIGTERM) })
	case "cut":
		n, err := argument(0)
		if err != nil {
			return err
		}
		return made(st.Lab.CutPort(n.Host))
	case "oneway", "pair":
		from, err := argument(0)
		if err != nil {
			return err
		}
		to, err := argument(1)
		if err != nil {
			return err
		}
		if verb == "pair" {
			return made(st.Lab.DropPair(from.Host, to.Host))
		}
		return made(st.Lab.DropOneWay(from.Host, to.Host))
	case "vrrp":
		return made(st.Lab.DropProtocol(site.VRRP, st.Nodes[0].Host, st.Nodes[1].Host))
	case "loss":
		if len(args) == 0 {
			return errors.New("loss needs a number of percent")
		}
		percent, err := strconv.Atoi(args[0])
		if err != nil || percent < 1 || percent > 100 {
			return fmt.Errorf("%q is no number of percent", args[0])
		}
		return made(st.Lab.Lose(percent, nil, nil))
	case "faults":
		for _, f := range st.Lab.Faults() {
			p.line("  %s", f)
		}
		return nil
	case "heal":
		return st.Lab.HealAll()
	case "help":
		st.help(p)
		return nil
	default:
		return fmt.Errorf("%q is not understood; type help", verb)
	}
}

// running returns a node to ask: the first that runs.
func (st *stage) running() *site.Node {
	for _, n := range st.Nodes {
		if n.Running() {
			return n
		}
	}
	return st.Nodes[0]
}

// watch follows the owner of the address.
type watch struct {
	*stage
	began, from observer.Instant // of everything, and of what has not been reported
	owner       string
	dual        time.Duration
	void        time.Duration
}

// look reports what happened since the last report: when the owner has changed, and at once when there were two. The time of
// an interruption is judged as a whole, so nothing is reported while nobody owns the address.
func (w *watch) look(ctx context.Context, p *printer) error {
	names := w.Observer.Owners(vip, settled)
	until := now()
	v, err := w.Observer.Judge(ctx, w.from, until)
	if err != nil {
		return err
	}
	vv := v.VIP(vip)
	at := fmt.Sprintf("%8.1f s", until.Sub(w.began).Seconds())
	switch {
	case vv.DualFor > 0:
		p.line("%s  %s: %s", at, p.paint("TWO OWNERS for "+length(vv.DualFor), red), p.story(&v, vv))
	case len(names) == 0:
		if w.owner != "" {
			p.line("%s  nobody answers for %s", at, vip)
			w.owner = ""
		}
		return nil // the interruption is not over
	case len(names) > 1:
		return nil // a change has just happened; the next look tells
	case names[0] != w.owner:
		p.line("%s  %s answers for %s; interruption %s, two owners 0 ms", at, names[0], vip, length(vv.Interruption()))
	case vv.Interruption() > calmBound:
		p.line("%s  %s still answers for %s; interruption %s", at, names[0], vip, length(vv.Interruption()))
	}
	if len(names) == 1 {
		w.owner = names[0]
	}
	w.dual += vv.DualFor
	if v.Void != "" {
		w.void += until.Sub(w.from)
	}
	// The next stretch begins a little earlier: a second owner at the seam must be seen as one.
	w.from = until.Add(-100 * time.Millisecond)
	w.Observer.Forget(until.Add(-memory))
	return nil
}

// finish says what the whole was like.
func (w *watch) finish(p *printer) error {
	p.line("Time with two owners: %s in %s.", length(w.dual), length(now().Sub(w.began)))
	if w.void > 0 {
		p.line("In %s of it the observer was not awake enough to vouch for that.", length(w.void))
	}
	if w.dual > 0 {
		return ErrFailed
	}
	return nil
}
