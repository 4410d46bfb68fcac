package daemon

import (
	"os"
	"strconv"
	"time"
)

// timerSlack is how much later than asked for the kernel may wake a thread (PR_SET_TIMERSLACK(2const)). Go's own watch over its
// threads, sysmon, waits for 20 µs again and again while a goroutine runs: at rest, with the kernel's 50 µs, every second switch of
// threads is one of those. And Go cuts waits for timers to milliseconds, so that it is mostly woken twice for each; the later the
// first time, the more often once. Half a millisecond is less than what Go adds to a timer by that, and there is little more to gain.
const timerSlack = 500 * time.Microsecond

// relaxTimers gives every thread of this process the slack; those that they start inherit it. Only the kernel can name sysmon's, and
// to change another thread's takes CAP_SYS_NICE: a process without it, or without /proc, works as well, for more of a processor.
func relaxTimers() {
	const passes = 3 // in one pass another thread may start one that it does not see
	for range passes {
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			_ = os.WriteFile("/proc/"+thread.Name()+"/timerslack_ns", strconv.AppendInt(nil, timerSlack.Nanoseconds(), 10), 0)
		}
	}
}
