package notify

import (
	"context"
	"log/slog"
	"time"
)

const (
	readPoll    = 10 * time.Millisecond // how often Stop looks whether the pipe has been read
	readerGrace = time.Second           // how long a reader may take to end after SIGTERM
)

// Reader is the script that reads a pipe (notify_fifo_script). It is started once, with the path of the pipe as its last
// argument, and not again when it ends by itself.
type Reader struct {
	fifo   *FIFO
	cancel context.CancelFunc
	ended  chan struct{}
}

// StartReader starts the script in the background.
func StartReader(fifo *FIFO, script Script, log *slog.Logger) *Reader {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Reader{fifo: fifo, cancel: cancel, ended: make(chan struct{})}
	new(Runner).Run(ctx, Job{Script: script, Extra: []string{fifo.Path()}, Done: func(o Outcome) {
		if ctx.Err() == nil {
			log.Warn("the reader of a notify pipe has ended", "path", fifo.Path(), "script", script.String(), "err", o.Err)
		}
		close(r.ended)
	}})
	return r
}

// Stop waits, until ctx ends, for the script to have read everything, sends SIGTERM to its process group, and waits a
// moment for its end. One that stays is sent SIGKILL 2 s later if this process is still there.
func (r *Reader) Stop(ctx context.Context) {
	for r.fifo.unread() && ctx.Err() == nil && !wait(r.ended, readPoll) {
	}
	r.cancel()
	wait(r.ended, readerGrace)
}
