package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

const (
	leadIn = 400 * time.Millisecond // of calm before a fault, for the timeline
	leadUp = 400 * time.Millisecond // of calm at the end
	// settled is how long a new owner must have been the only one.
	settled = 300 * time.Millisecond
	// attempts is how often a phase is played when the observer was not awake, and patience the time for all repetitions
	// together: the demonstration is to take less than two minutes.
	attempts = 5
	patience = 40 * time.Second

	// What is promised, with an allowance for a busy machine: a takeover after Active_Down_Interval, a handover of a few
	// milliseconds, no interruption at all.
	takeoverAllowance = 500 * time.Millisecond
	handoverBound     = 250 * time.Millisecond
	calmBound         = 20 * time.Millisecond
)

// phase is one act of the demonstration.
type phase struct {
	title string // with {owner} and {other} for the names
	short string // for the table at the end
	// moves says whether the other director is to take over.
	moves bool
	// bound is the longest interruption promised.
	bound func(s *scene) time.Duration
	// act makes the fault and undo ends it; undo may be nil.
	act, undo func(ctx context.Context, s *scene) error
	// hold is how long the fault lasts after the takeover, or altogether.
	hold time.Duration
	// asked is asked, while the fault lasts, what it thinks of the cluster; nil: nobody is.
	asked func(s *scene) *site.Node
}

// scene is one playing of a phase.
type scene struct {
	*stage
	owner, other *site.Node
	fault        *lab.Fault
	marks        []mark
	said         []string // what was heard from the cluster
}

// mark notes a moment for the timeline.
func (s *scene) mark(text string) { s.marks = append(s.marks, mark{now(), text}) }

func phases() []phase {
	takeover := func(s *scene) time.Duration { return s.DownInterval(s.other.Member) + takeoverAllowance }
	handover := func(*scene) time.Duration { return handoverBound }
	calm := func(*scene) time.Duration { return calmBound }
	heal := func(text string) func(context.Context, *scene) error {
		return func(_ context.Context, s *scene) error {
			s.mark(text)
			return s.fault.Heal()
		}
	}
	start := func(_ context.Context, s *scene) error {
		s.mark("start {owner}")
		return s.Start(s.owner)
	}
	return []phase{
		{
			title: "Nothing happens", short: "nothing happens", bound: calm, hold: 3 * time.Second,
		},
		{
			title: "Planned move: hactl move {group} --to {other}", short: "planned move", moves: true, bound: handover,
			act: func(ctx context.Context, s *scene) error {
				s.mark("hactl move")
				out, err := s.Hactl(ctx, s.owner, "move", s.Group(), "--to", s.other.Name, "--yes", "--reason", "demonstration")
				s.said = append(s.said, strings.TrimSpace(out))
				return err
			},
		},
		{
			title: "kill -9 of the daemon of the owner, {owner}, and start again: its companion gives the address up",
			short: "kill -9 of the daemon", moves: true, bound: handover,
			act: func(_ context.Context, s *scene) error {
				s.mark("kill -9 {owner}")
				return s.KillDaemon(s.owner)
			},
			undo: start,
		},
		{
			title: "kill -9 of all processes of the owner, {owner}, and start again: the lease has to end",
			short: "kill -9 of all of them", moves: true, bound: takeover,
			act: func(_ context.Context, s *scene) error {
				s.mark("kill -9 {owner}")
				return s.Kill(s.owner)
			},
			undo: start,
		},
		{
			title: "Restart of the owner, {owner}: SIGTERM, then start", short: "restart of the owner", moves: true, bound: handover,
			act: func(_ context.Context, s *scene) error {
				s.mark("SIGTERM {owner}")
				return s.Terminate(s.owner)
			},
			undo: start,
		},
		{
			title: "The owner, {owner}, freezes (SIGSTOP) and goes on later (SIGCONT)", short: "SIGSTOP of the owner",
			moves: true, bound: takeover, hold: time.Second,
			act: func(_ context.Context, s *scene) error {
				s.mark("SIGSTOP {owner}")
				return s.Freeze(s.owner)
			},
			undo: func(_ context.Context, s *scene) error {
				s.mark("SIGCONT {owner}")
				return s.Thaw(s.owner)
			},
		},
		{
			title: "VRRP is blocked between the directors", short: "VRRP blocked", bound: calm, hold: 8 * time.Second,
			act: func(_ context.Context, s *scene) (err error) {
				s.mark("VRRP blocked")
				s.fault, err = s.Lab.DropProtocol(site.VRRP, s.owner.Host, s.other.Host)
				return err
			},
			undo:  heal("VRRP passes"),
			asked: func(s *scene) *site.Node { return s.other },
		},
		{
			title: "The owner, {owner}, is cut off from the LAN and plugged in again", short: "owner cut off", moves: true,
			bound: takeover, hold: time.Second,
			act: func(_ context.Context, s *scene) (err error) {
				s.mark("cut {owner} off")
				s.fault, err = s.Lab.CutPort(s.owner.Host)
				return err
			},
			undo:  heal("plug {owner} in"),
			asked: func(s *scene) *site.Node { return s.owner },
		},
		{
			title: "The witness is killed and comes back", short: "witness lost", bound: calm, hold: 5 * time.Second,
			act: func(_ context.Context, s *scene) error {
				s.mark("kill -9 {witness}")
				return s.Kill(s.Witness())
			},
			undo: func(_ context.Context, s *scene) error {
				s.mark("start {witness}")
				return s.Start(s.Witness())
			},
			asked: func(s *scene) *site.Node { return s.owner },
		},
	}
}

// outcome is what a phase showed.
type outcome uint8

const (
	passed outcome = iota + 1
	wrong          // two owners, a move where none was due, or too long an interruption
	stuck          // no recovery
	unseen         // void every time
)

func (o outcome) String() string {
	switch o {
	case passed:
		return "OK"
	case wrong:
		return "FAILED"
	case stuck:
		return "NO RECOVERY"
	case unseen:
		return "VOID"
	default:
		return fmt.Sprintf("outcome %d", uint8(o))
	}
}

// result is a line of the table at the end.
type result struct {
	short        string
	outcome      outcome
	interruption time.Duration
	dual         time.Duration
}

// play plays a phase until the observer can vouch for what it saw. Two owners were two owners even if it was not awake all the
// time; everything else must be seen by an observer that was.
func (st *stage) play(ctx context.Context, p *printer, number int, ph phase) (outcome, error) {
	for attempt := 1; ; attempt++ {
		s := &scene{stage: st}
		var err error
		if s.owner, s.other, err = st.AwaitOwner(ctx, recoverLimit); err != nil {
			return 0, err
		}
		p.title("%d  %s", number, s.names(ph.title))
		began, from := time.Now(), now()
		problem := s.run(ctx, ph)
		if err := st.Lab.HealAll(); err != nil {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		v, err := st.Observer.Judge(ctx, from, now())
		if err != nil {
			return 0, err
		}
		r := s.judge(ph, &v, problem)
		if v.Void != "" && r.outcome != stuck && r.dual == 0 {
			p.line("  void: %s", v.Void)
			if took := time.Since(began); attempt < attempts && took <= st.patience {
				st.patience -= took
				p.line("  The observer cannot vouch for this time, so the phase is played again.")
				continue
			}
			r.outcome = unseen
		}
		p.phase(ph, s, &v, r, problem)
		st.results = append(st.results, r)
		st.Observer.Forget(now().Add(-time.Second))
		return r.outcome, nil
	}
}

// names fills in who is who.
func (s *scene) names(text string) string {
	return strings.NewReplacer("{owner}", s.owner.Name, "{other}", s.other.Name, "{witness}", s.Witness().Name,
		"{group}", s.Group()).Replace(text)
}

// run acts, waits for the outcome, ends the fault and waits until the cluster is whole again. Its error says what did not
// come to pass.
func (s *scene) run(ctx context.Context, ph phase) error {
	if err := rest(ctx, leadIn); err != nil {
		return err
	}
	if ph.act != nil {
		if err := ph.act(ctx, s); err != nil {
			return err
		}
	}
	var errs []error
	if ph.moves {
		if s.AwaitOwnedBy(ctx, s.other, settled, recoverLimit) != nil {
			errs = append(errs, fmt.Errorf("%s did not take over within %s", s.other.Name, seconds(recoverLimit)))
		}
	}
	if err := rest(ctx, ph.hold); err != nil {
		return err
	}
	if ph.asked != nil {
		s.ask(ctx, ph.asked(s))
	}
	if ph.undo != nil {
		if err := ph.undo(ctx, s); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if err := s.AwaitHealthy(ctx, recoverLimit); err != nil {
		errs = append(errs, err)
	}
	if err := rest(ctx, leadUp); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// ask notes what a node thinks is wrong with the cluster.
func (s *scene) ask(ctx context.Context, n *site.Node) {
	status, err := s.Status(ctx, n)
	if err != nil {
		s.said = append(s.said, fmt.Sprintf("%s does not answer: %v", n.Name, err))
		return
	}
	s.said = append(s.said, fmt.Sprintf("%s says: %s", n.Name, site.Describe(status)))
}

// judge compares what was seen with what is promised.
func (s *scene) judge(ph phase, v *observer.Verdict, problem error) result {
	w := v.VIP(vip)
	r := result{short: ph.short, outcome: passed, interruption: w.Interruption(), dual: w.DualFor}
	var owners []string
	for _, station := range w.Owners() {
		owners = append(owners, v.Name(station))
	}
	expected := s.owner.Name
	if ph.moves {
		expected += " " + s.other.Name
	}
	switch {
	case r.dual > 0:
		r.outcome = wrong
	case problem != nil:
		r.outcome = stuck
	case strings.Join(owners, " ") != expected, r.interruption > ph.bound(s):
		r.outcome = wrong
	}
	return r
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
