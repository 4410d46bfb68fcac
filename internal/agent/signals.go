package agent

import (
	"context"
	"syscall"
)

// obey does what signals ask for until ctx ends.
func (a *Agent) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-a.opt.Signals:
			if s == syscall.SIGHUP {
				_, _ = a.Reload(ctx) // logs what comes of it
			}
		}
	}
}
