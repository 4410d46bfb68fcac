package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/lab/observer"
)

// printer writes what the audience reads.
type printer struct {
	out    io.Writer
	colour bool
	ascii  bool
}

const (
	bold  = "1"
	green = "32"
	red   = "31"
)

func (p *printer) paint(text, code string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintln(p.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (p *printer) title(format string, args ...any) {
	fmt.Fprintf(p.out, "\n%s\n", p.paint(fmt.Sprintf(format, args...), bold))
}

func (p *printer) indented(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		p.line("  %s", strings.TrimRight(line, "\n"))
	}
}

func (p *printer) outcome(o outcome) string {
	if o == passed {
		return p.paint(o.String(), green)
	}
	return p.paint(o.String(), red)
}

// phase prints the outcome of a phase.
func (p *printer) phase(ph phase, s *scene, v *observer.Verdict, r result, problem error) {
	w := v.VIP(vip)
	p.line("  %s   interruption %s (promised: at most %s)   two owners %s   %s", p.story(v, w),
		length(r.interruption), length(ph.bound(s)), length(r.dual), p.outcome(r.outcome))
	if problem != nil {
		p.line("  %s", strings.ReplaceAll(problem.Error(), "\n", "; "))
	}
	var rows []string
	for _, n := range s.Directors() {
		rows = append(rows, n.Name)
	}
	for i := range s.marks {
		s.marks[i].text = s.names(s.marks[i].text)
	}
	for _, line := range timeline(v, w, rows, s.marks, p.ascii) {
		p.line("    %s", line)
	}
	for _, text := range s.said {
		p.indented(text)
	}
}

// story names the owners in the order in which they were owners, or all at once if they were owners at once.
func (p *printer) story(v *observer.Verdict, w *observer.VIPVerdict) string {
	between := " → "
	if p.ascii {
		between = " -> "
	}
	var names []string
	for _, station := range w.Owners() {
		name := v.Name(station)
		if w.DualFor > 0 && slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
	}
	switch {
	case len(names) == 0:
		return "nobody"
	case w.DualFor > 0:
		between = " and "
	}
	return strings.Join(names, between)
}

// summary prints the table at the end.
func (p *printer) summary(results []result, took time.Duration) {
	p.title("Summary")
	p.line("  %-22s  %12s  %10s  %s", "PHASE", "INTERRUPTION", "TWO OWNERS", "OUTCOME")
	var dual time.Duration
	for _, r := range results {
		p.line("  %-22s  %12s  %10s  %s", r.short, length(r.interruption), length(r.dual), p.outcome(r.outcome))
		dual += r.dual
	}
	p.line("\n  Time with two owners: %s, as seen from outside at a resolution of 1 ms. The demonstration took %s.", length(dual), seconds(took))
}

// length prints a time in the unit that suits it.
func length(d time.Duration) string {
	switch {
	case d == 0:
		return "0 ms"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}
