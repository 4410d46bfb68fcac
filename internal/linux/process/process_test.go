package process

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 10 * time.Second

// follow runs a Monitor until the test ends and returns the counts that it reports, the first ones included.
func follow(t *testing.T, m *Monitor) <-chan []int {
	t.Helper()
	reports := make(chan []int, 1024)
	reports <- m.Counts()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.Run(ctx, func(counts []int) { reports <- counts }) }()
	t.Cleanup(func() { cancel(); <-ended })
	return reports
}

func open(t *testing.T, matchers ...Matcher) *Monitor {
	t.Helper()
	m, err := Open(slog.New(slog.NewTextHandler(t.Output(), nil)), matchers)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// withArgument means the processes that have the argument.
func withArgument(arg string) Matcher {
	return func(_ string, argv []string) bool { return slices.Contains(argv, arg) }
}

// sleeper starts a process with a number of seconds as its argument, which ends with the test.
func sleeper(t *testing.T, seconds string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", seconds)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(cmd) })
	return cmd
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// await waits until counts are as wanted.
func await(t *testing.T, reports <-chan []int, want ...int) {
	t.Helper()
	var last []int
	for deadline := time.After(patience); !slices.Equal(last, want); {
		select {
		case last = <-reports:
		case <-deadline:
			t.Fatalf("the counts are %v, want %v", last, want)
		}
	}
}

// With events or without.
func TestProcessesAreCounted(t *testing.T) {
	t.Parallel()
	const mark = "12345.06"
	first := sleeper(t, mark)
	reports := follow(t, open(t, withArgument(mark), func(name string, argv []string) bool {
		return name == "sleep" && withArgument(mark)("", argv)
	}))
	await(t, reports, 1, 1)
	second := sleeper(t, mark)
	await(t, reports, 2, 2)
	stop(first)
	await(t, reports, 1, 1)
	stop(second)
	await(t, reports, 0, 0)
}

func TestAProcessThatItsParentHasNotNoticedIsNone(t *testing.T) {
	t.Parallel()
	const mark = "0.0012345"
	cmd := sleeper(t, mark) // is not waited for
	for deadline := time.Now().Add(patience); state(t, cmd.Process.Pid) != 'Z'; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not end")
		}
	}
	if name, _, ok := read(cmd.Process.Pid); ok {
		t.Errorf("%s counts", name)
	}
}

func state(t *testing.T, pid int) byte {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := parseStat(stat)
	return state
}

func TestStat(t *testing.T) {
	for _, tt := range []struct {
		line  string
		name  string
		state byte
		ok    bool
	}{
		{"7 (sleep) S 1 7 7", "sleep", 'S', true},
		{"7 (a) b (c)) Z 1", "a) b (c)", 'Z', true},
		{"7 () R", "", 'R', true},
		{"7 (x)", "", 0, false},
		{"7 (x) ", "", 0, false},
		{")(", "", 0, false},
		{"", "", 0, false},
	} {
		if name, state, ok := parseStat([]byte(tt.line)); name != tt.name || state != tt.state || ok != tt.ok {
			t.Errorf("%q: %q %c %v", tt.line, name, state, ok)
		}
	}
}

// datagram is an event as the kernel sends it.
func datagram(what uint32, data ...uint32) []byte {
	b := make([]byte, unix.SizeofNlMsghdr)
	for _, v := range append([]uint32{cnIdxProc, cnValProc, 0, 0, 0, what, 0, 0, 0}, data...) {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func TestEvents(t *testing.T) {
	for _, tt := range []struct {
		name     string
		datagram []byte
		want     event
	}{
		{"a process forks", datagram(procEventFork, 5, 4, 9, 9), event{forked, 9, 4}},
		{"a thread begins", datagram(procEventFork, 5, 4, 9, 4), event{}},
		{"a thread executes: the process does", datagram(procEventExec, 9, 4), event{kind: executed, pid: 4}},
		{"a process is renamed", datagram(procEventComm, 4, 4, 0x61, 0, 0, 0), event{kind: renamed, pid: 4}},
		{"a thread is renamed", datagram(procEventComm, 9, 4, 0x61, 0, 0, 0), event{}},
		{"a process ends", datagram(procEventExit, 4, 4, 0, 17), event{kind: exited, pid: 4}},
		{"a thread ends", datagram(procEventExit, 9, 4, 0, 17), event{}},
		{"a change of identity", datagram(4, 9, 9, 0, 0), event{}},
		{"too short", datagram(procEventExit)[:40], event{}},
		{"nothing", nil, event{}},
	} {
		if got := parse(tt.datagram); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	if parse(datagram(procEventFork, 5)) != (event{forked, 0, 0}) {
		t.Error("a short event is not taken for one of process 0")
	}
}

func TestAForkCountsAsItsParentUntilItExecutesAnotherProgram(t *testing.T) {
	m := &Monitor{matchers: make([]Matcher, 2), meant: map[int][]bool{}, counts: make([]int, 2)}
	m.set(4, []bool{true, false})
	m.set(5, []bool{false, false})
	for _, step := range []struct {
		e    event
		want []int
	}{
		{event{forked, 9, 4}, []int{2, 0}},
		{event{forked, 10, 5}, []int{2, 0}},
		{event{kind: exited, pid: 4}, []int{1, 0}},
		{event{kind: exited, pid: 4}, []int{1, 0}},
		{event{forked, 11, 9}, []int{2, 0}},
		{event{}, []int{2, 0}},
		{event{kind: exited, pid: 9}, []int{1, 0}},
		{event{kind: exited, pid: 11}, []int{0, 0}},
	} {
		m.apply(step.e)
		if !slices.Equal(m.counts, step.want) {
			t.Fatalf("after %+v: %v, want %v", step.e, m.counts, step.want)
		}
	}
	if len(m.meant) != 0 {
		t.Errorf("remembered: %v", m.meant)
	}
}
