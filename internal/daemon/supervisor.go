package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Supervisor tells the service manager how the daemon is: systemd by its notify socket, and the process that went into the
// background by a pipe. Its methods do not wait; any goroutine may call them.
type Supervisor struct {
	log      *slog.Logger
	messages chan string
	detached func() // tells the process that started this one in the background
	first    sync.Once
	aliveAt  atomic.Int64 // Unix nanoseconds, 0: never
}

// messagesKept bounds what waits for a service manager that does not read.
const messagesKept = 16

func newSupervisor(log *slog.Logger, detached func()) *Supervisor {
	return &Supervisor{log: log, messages: make(chan string, messagesKept), detached: detached}
}

// Ready says that the configuration is in force.
func (s *Supervisor) Ready() {
	s.send(systemd.SdNotifyReady + "\nSTATUS=the configuration is in force")
	s.first.Do(s.detached)
}

// Reloading says that another configuration is on its way. Ready follows.
func (s *Supervisor) Reloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // always there
	s.send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d\nSTATUS=reloading the configuration", systemd.SdNotifyReloading, now.Nano()/1000))
}

// Stopping says that the daemon hands over what it has.
func (s *Supervisor) Stopping() { s.send(systemd.SdNotifyStopping + "\nSTATUS=handing over") }

// Alive says that the loop turns. Without it the service manager's watchdog is not fed.
func (s *Supervisor) Alive() { s.aliveAt.Store(time.Now().UnixNano()) }

func (s *Supervisor) send(message string) {
	select {
	case s.messages <- message:
	default: // nobody has read the last ones
	}
}

// run passes messages on, and feeds the watchdog as long as the loop turns, until ctx ends.
func (s *Supervisor) run(ctx context.Context) {
	var feed <-chan time.Time
	interval, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the watchdog of the service manager is not fed", "err", err)
	}
	if interval > 0 {
		ticker := time.NewTicker(interval / 4)
		defer ticker.Stop()
		feed = ticker.C
	}
	for {
		select {
		case message := <-s.messages:
			s.pass(message)
		case <-feed:
			if at := s.aliveAt.Load(); at != 0 && time.Since(time.Unix(0, at)) < interval/2 {
				s.pass(systemd.SdNotifyWatchdog)
			}
		case <-ctx.Done():
			for len(s.messages) > 0 {
				s.pass(<-s.messages)
			}
			return
		}
	}
}

func (s *Supervisor) pass(message string) {
	if _, err := systemd.SdNotify(false, message); err != nil {
		s.log.Debug("the service manager was not told", "err", err)
	}
}
