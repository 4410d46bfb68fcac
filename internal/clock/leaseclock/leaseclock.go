// Package leaseclock reads the lease clock of a Linux machine.
//
// The lease clock is CLOCK_MONOTONIC_RAW plus the time spent suspended. MONOTONIC_RAW is neither stepped nor slewed, but
// stops while the machine sleeps; CLOCK_BOOTTIME minus CLOCK_MONOTONIC is that sleep. Go's own monotonic reading is
// CLOCK_MONOTONIC: it is slewed by up to 10% and loses suspends, so leases never use time.Time.
package leaseclock

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/clock"
)

const (
	// bracket bounds how far apart the two readings of MONOTONIC around one of BOOTTIME may be. A thread that is
	// preempted between them would see a forward jump, which would end a voter's promise early.
	bracket = 50 * time.Microsecond
	// suspendResolution is the growth of BOOTTIME - MONOTONIC below which nothing was a suspend.
	suspendResolution = time.Millisecond
	// attempts bounds the retries for one undisturbed bracket; without one the last known sleep is kept.
	attempts = 4
	// firstAttempts bounds the search for the first one: without it all sleep until now would later look like a jump.
	firstAttempts = 10_000
)

// Clock reads the lease clock. Any goroutine may call Now.
type Clock struct {
	mu        sync.Mutex
	suspended time.Duration // the largest BOOTTIME - MONOTONIC seen
	read      func(id int32) (time.Duration, error)
}

// New returns the machine's clock, or an error if the kernel lacks one of the three clocks.
func New() (*Clock, error) {
	return newClock(kernelTime)
}

func newClock(read func(id int32) (time.Duration, error)) (*Clock, error) {
	c := &Clock{read: read}
	for _, id := range []int32{unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME} {
		if _, err := c.read(id); err != nil {
			return nil, fmt.Errorf("read clock %d: %w", id, err)
		}
	}
	for range firstAttempts {
		if c.measureSleep() {
			return c, nil
		}
	}
	return nil, fmt.Errorf("read the clocks: no two readings were less than %v apart in %d attempts", bracket, firstAttempts)
}

// measureSleep looks how long the machine has slept. It returns false if it was disturbed; then what is known stays.
func (c *Clock) measureSleep() bool {
	before, _ := c.read(unix.CLOCK_MONOTONIC)
	boot, _ := c.read(unix.CLOCK_BOOTTIME)
	after, _ := c.read(unix.CLOCK_MONOTONIC)
	if after-before >= bracket {
		return false
	}
	if slept := boot - after; slept > c.suspended+suspendResolution {
		c.suspended = slept
	}
	return true
}

// Now returns the present reading.
func (c *Clock) Now() clock.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range attempts {
		if c.measureSleep() {
			break
		}
	}
	raw, _ := c.read(unix.CLOCK_MONOTONIC_RAW)
	return clock.Time(raw + c.suspended)
}

func kernelTime(id int32) (time.Duration, error) {
	var ts unix.Timespec
	// It never waits, so that Go's scheduler need not be told: that costs more than the reading.
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, errno
	}
	return time.Duration(ts.Nano()), nil
}

// Source is the kernel's current clocksource, for example "tsc".
func Source() (string, error) {
	b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	return strings.TrimSpace(string(b)), err
}

// StopsWithGuest tells whether a clocksource stands still while the hypervisor has stopped the machine, so that a lease
// outlives the stop.
func StopsWithGuest(source string) bool {
	return source == "kvm-clock" || source == "xen" || strings.HasPrefix(source, "hyperv")
}
