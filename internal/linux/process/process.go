// Package process counts the running processes that are meant by patterns, and tells when a count changes.
//
// The kernel's process events (the proc connector) say when a process forks, executes a program, renames itself or ends.
// They exist in the initial network namespace only, so they are asked for there, and only for a program in the initial PID
// and user namespaces. Elsewhere the processes in /proc are looked at every second instead.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scanInterval is how often processes are counted where there are no events, and how long after a count that failed it is
// tried again.
const scanInterval = time.Second

// Matcher tells whether a process is meant, by its name (at most 15 characters) and its arguments, which a thread of the
// kernel has not. It is called by Open and on the goroutine of Run.
type Matcher func(name string, argv []string) bool

// Monitor counts processes. Make one with Open, then call Run once.
type Monitor struct {
	log      *slog.Logger
	matchers []Matcher
	events   *connector // nil: there are none
	meant    map[int][]bool
	counts   []int
}

// Open begins to listen to the kernel's events and counts the processes for the first time. Run must be called next; it
// closes what Open opened.
func Open(log *slog.Logger, matchers []Matcher) (*Monitor, error) {
	m := &Monitor{log: log, matchers: matchers}
	var err error
	if m.events, err = connect(initialNamespace); err != nil {
		log.Warn("the kernel sends no process events here; processes are looked at every second", "err", err)
	}
	if err := m.scan(); err != nil {
		return nil, errors.Join(err, m.events.Close())
	}
	return m, nil
}

// Counts returns how many processes each Matcher means. It may be called until Run.
func (m *Monitor) Counts() []int { return slices.Clone(m.counts) }

// Run reports all counts whenever one has changed, on the calling goroutine, until ctx is done.
func (m *Monitor) Run(ctx context.Context, report func(counts []int)) {
	events := m.events
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer func() {
		if stop() {
			_ = events.Close()
		}
	}()
	for ctx.Err() == nil {
		before := slices.Clone(m.counts)
		m.next(ctx)
		if ctx.Err() == nil && !slices.Equal(m.counts, before) {
			report(slices.Clone(m.counts))
		}
	}
}

// next takes in what happens next.
func (m *Monitor) next(ctx context.Context) {
	if m.events != nil {
		ev, err := m.events.receive()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			m.apply(ev)
			return
		case errors.Is(err, unix.ENOBUFS):
			m.log.Warn("process events were lost, counting again")
			m.events.drain() // what is left is older than what a scan finds
		default:
			m.log.Error("process events have ended; processes are looked at every second", "err", err)
			_ = m.events.Close()
			m.events = nil
		}
	} else {
		pause(ctx)
	}
	for ctx.Err() == nil {
		err := m.scan()
		if err == nil {
			return
		}
		m.log.Error("processes cannot be counted, trying again", "err", err)
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(scanInterval):
	}
}

// scan counts all processes anew.
func (m *Monitor) scan() error {
	dir, err := os.Open("/proc")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	m.meant, m.counts = map[int][]bool{}, make([]int, len(m.matchers))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			m.look(pid)
		}
	}
	return nil
}

// apply takes in one event.
func (m *Monitor) apply(e event) {
	switch e.kind {
	case forked: // the child is what the parent is until it executes another program
		m.set(e.pid, m.meant[e.parent])
	case executed, renamed:
		m.look(e.pid)
	case exited:
		m.set(e.pid, nil)
	}
}

// look finds out by which matchers a process is meant.
func (m *Monitor) look(pid int) {
	name, argv, ok := read(pid)
	if !ok {
		m.set(pid, nil)
		return
	}
	meant := make([]bool, len(m.matchers))
	for i, match := range m.matchers {
		meant[i] = match(name, argv)
	}
	m.set(pid, meant)
}

// set enters by which matchers a process is meant; nil is by none.
func (m *Monitor) set(pid int, meant []bool) {
	for i, was := range m.meant[pid] {
		if was {
			m.counts[i]--
		}
	}
	delete(m.meant, pid)
	if !slices.Contains(meant, true) {
		return
	}
	m.meant[pid] = meant
	for i, is := range meant {
		if is {
			m.counts[i]++
		}
	}
}

// read returns name and arguments of a process. One that has ended is not ok, nor is one that waits for its parent to
// notice.
func read(pid int) (name string, argv []string, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return "", nil, false
	}
	name, state, ok := parseStat(stat)
	if !ok || state == 'Z' || state == 'X' {
		return "", nil, false
	}
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return "", nil, false
	}
	if len(line) > 0 {
		argv = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	return name, argv, true
}

// parseStat takes name and state out of /proc/PID/stat. The name, which is in parentheses, may itself have some.
func parseStat(stat []byte) (name string, state byte, ok bool) {
	begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if begin < 0 || end < begin || len(stat) < end+3 {
		return "", 0, false
	}
	return string(stat[begin+1 : end]), stat[end+2], true
}
