package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const timerSpan = 365 * 24 * time.Hour

// WatchClock calls stepped, from its own goroutine, each time the machine's wall clock is set, until ctx ends. The
// absolute deadlines in the kernel are wrong from then on: set forward, the clock shuts a healthy owner; set back, it
// leaves only the timeouts. The caller answers with Arm for every lease that it holds.
func WatchClock(ctx context.Context, stepped func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch wall clock: create timer: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close()
	stop := context.AfterFunc(ctx, func() { _ = timer.Close() }) // it only serves to wake Read
	defer stop()
	raw, err := timer.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch wall clock: %w", err)
	}
	var expirations [8]byte
	for {
		// That the timer goes off after a year means nothing; that it is cancelled means that the clock was set.
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(kernelWall() + int64(timerSpan))}
		var armErr error
		err := raw.Control(func(fd uintptr) {
			armErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil)
		})
		if err == nil {
			err = armErr
		}
		if err == nil {
			_, err = timer.Read(expirations[:])
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			stepped()
		case err != nil:
			return fmt.Errorf("watch wall clock: %w", err)
		}
	}
}
