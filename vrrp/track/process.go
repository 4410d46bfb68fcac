package track

import (
	"slices"
	"strings"
)

// nameLength is how many characters of a process's name the kernel keeps (TASK_COMM_LEN without its zero).
const nameLength = 15

// Params says how the parameters of processes are compared.
type Params uint8

// The ways of comparing parameters.
const (
	ParamsIgnored Params = iota
	ParamsEqual
	ParamsPartial // there may be more than the given ones
	ParamsInitial // as ParamsPartial, and the last given one may be the beginning of the real one
)

// Pattern says which processes are meant.
type Pattern struct {
	// Command is the name of a process, or with FullCommand its argv. It is not empty.
	Command []string

	// FullCommand compares argv, as the process was started. Without it the kernel's name of the process is compared,
	// of which there are 15 characters; the parameters then do not count.
	FullCommand bool

	Params Params
}

// Matches tells whether the pattern means a process. argv is empty for a thread of the kernel.
func (p Pattern) Matches(name string, argv []string) bool {
	if !p.FullCommand {
		want := p.Command[0]
		return name == want[:min(len(want), nameLength)]
	}
	if len(argv) == 0 || argv[0] != p.Command[0] {
		return false
	}
	want, have := p.Command[1:], argv[1:]
	switch p.Params {
	case ParamsEqual:
		return slices.Equal(want, have)
	case ParamsPartial:
		return len(have) >= len(want) && slices.Equal(want, have[:len(want)])
	case ParamsInitial:
		last := len(want) - 1
		return last < 0 || len(have) > last && slices.Equal(want[:last], have[:last]) && strings.HasPrefix(have[last], want[last])
	}
	return true
}

// Quorum is the number of processes that is good.
type Quorum struct {
	Least int
	Most  int // -1: no limit
}

// Condition of a number of processes.
func (q Quorum) Condition(count int) Condition {
	if count >= q.Least && (q.Most < 0 || count <= q.Most) {
		return Good
	}
	return Failed
}
