package agent

import (
	"context"
	"syscall"

	"github.com/hactl/had/internal/daemon"
)

// obey does what signals ask for until ctx ends.
func (a *Agent) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-a.opt.Signals:
			switch s {
			case syscall.SIGHUP:
				_, _ = a.Reload(ctx) // logs what comes of it
			case syscall.SIGUSR1:
				a.dumpData(ctx)
			case syscall.SIGUSR2:
				a.dumpStatistics(ctx, false)
			case daemon.SignalClearStats:
				a.dumpStatistics(ctx, true)
			case daemon.SignalJSON:
				a.dumpJSON(ctx)
			}
		}
	}
}
