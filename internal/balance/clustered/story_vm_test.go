//go:build integ

package clustered

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// note is something that happened.
type note struct {
	at   time.Time
	text string
}

// clock is a time of day as notes show it.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// note keeps what happens now, for those who want to explain what came of it.
func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, note{time.Now(), fmt.Sprintf(format, args...)})
}

// story tells all that happened around a server between two moments, the earliest first: what the test did, what checks would find,
// what the log said, who owned, what the kernels had, which connections began and came, and what the directors' programs say.
func (r *recorder) story(e entry, from, to time.Time) string {
	r.mu.Lock()
	all := slices.Clone(r.notes)
	samples := slices.Clone(r.samples)
	r.mu.Unlock()
	word := map[bool]string{true: "up", false: "down"}
	for _, t := range r.committed.of(e) {
		all = append(all, note{t.at, "the log says that it is " + word[t.up]}, note{t.known, "all know that it is " + word[t.up]})
	}
	for n, truth := range r.truth {
		for _, t := range truth.of(e) {
			all = append(all, note{t.at, fmt.Sprintf("to the checks of %s it is %s", n.Name, word[t.up])})
		}
	}
	last := map[string]string{}
	for _, s := range samples {
		state := fmt.Sprintf("%s has the virtual IP: %t; weight: %d", s.node.Name, s.owner, s.weights[e])
		if last[s.node.Name] != state {
			last[s.node.Name] = state
			all = append(all, note{s.to, state})
		}
	}
	for i, b := range r.s.servers {
		for _, a := range b.Accepted() {
			if began, known := r.called[a.From]; known && a.Port == e.port {
				all = append(all, note{began, fmt.Sprintf("%s begins to connect", a.From)}, note{a.At, fmt.Sprintf("%s comes to rs%d", a.From, i+1)})
			}
		}
	}
	for _, n := range r.s.Directors() {
		all = append(all, said(n.Name, n.Log(), netip.AddrPortFrom(e.server, uint16(e.port)))...)
	}
	all = slices.DeleteFunc(all, func(n note) bool { return n.at.Before(from) || n.at.After(to) })
	slices.SortStableFunc(all, func(a, b note) int { return a.at.Compare(b.at) })
	var b strings.Builder
	for _, n := range all {
		fmt.Fprintf(&b, "%s %s\n", clock(n.at), n.text)
	}
	return b.String()
}

// said are the lines of a program's output, but those about other servers.
func said(name, path string, server netip.AddrPort) (all []note) {
	text, err := os.ReadFile(path)
	if err != nil {
		return []note{{text: err.Error()}}
	}
	about := fmt.Sprintf("RS [%s]:tcp:%d", server.Addr(), server.Port())
	for line := range strings.Lines(string(text)) {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || strings.Contains(line, "RS [") && !strings.Contains(line, about) {
			continue
		}
		all = append(all, note{at, name + ": " + strings.TrimSpace(rest)})
	}
	return all
}

// of returns the moments of an entry.
func (t *turns) of(e entry) []turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all[e])
}
