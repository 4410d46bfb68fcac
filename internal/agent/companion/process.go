package companion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fencing/guard"
	"github.com/hactl/had/internal/linux/address"
)

const (
	memoryLimit = 32 << 20 // bytes; it needs a fraction of that
	collectAt   = 25       // percent by which the heap may grow between collections
	spareSpeech = time.Second
	deathReason = "its process has died"
)

// Run is the companion's main function. It returns the exit code.
func Run(log *slog.Logger) int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	debug.SetGCPercent(collectAt)
	debug.SetMemoryLimit(memoryLimit)
	_ = os.WriteFile("/proc/self/comm", []byte(comm), 0)             // cosmetic
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) // whatever else gives way, the one who cleans up does not
	p := &process{will: newWill(), log: log}
	died, err := p.attend()
	switch {
	case err != nil:
		log.Error("the companion cannot go on", "err", err)
		return 1
	case !died:
		return 0
	}
	debug.FreeOSMemory() // no collection from here on
	debug.SetGCPercent(-1)
	if err := p.act(); err != nil {
		log.Error("the daemon has died", "err", err)
		return 1
	}
	return 0
}

// process is a companion.
type process struct {
	log      *slog.Logger
	will     will
	heard    lines
	executor *cluster.Executor // of the will's estate; nil without a cluster
	bye      bool
}

// attend listens to the daemon until it has said farewell (false), or is dead and all that it said is read (true).
func (p *process) attend() (died bool, err error) {
	if err := unix.SetNonblock(pipeAt, true); err != nil {
		return false, err
	}
	wait := []unix.PollFd{{Fd: pidfdAt, Events: unix.POLLIN}, {Fd: pipeAt, Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(wait, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("wait for the daemon: %w", err)
		}
		died = wait[0].Revents != 0
		ended, err := p.hear()
		switch {
		case err != nil:
			return false, err
		case p.bye:
			return false, nil
		case died && len(p.heard.rest) > 0:
			return false, errors.New("the daemon has died while it said something")
		case died:
			return true, nil
		case ended:
			wait[1].Fd = -1 // the pipe is closed on the way to the end: the process may still run
		}
	}
}

// hear takes in all that is in the pipe. ended says that nothing more will come.
func (p *process) hear() (ended bool, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(pipeAt, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("listen to the daemon: %w", err)
		case n == 0:
			return true, nil
		}
		messages, err := p.heard.take(buf[:n])
		if err != nil {
			return false, err
		}
		for _, m := range messages {
			p.bye = p.bye || m.Bye
			p.will.take(m)
			if m.Estate != nil {
				if err := p.prepare(); err != nil {
					return false, err
				}
			}
		}
	}
}

// prepare makes what speaks to the cluster.
func (p *process) prepare() error {
	if p.executor != nil {
		_ = p.executor.Close()
		p.executor = nil
	}
	estate := p.will.estate.Cluster
	if estate == nil {
		return nil
	}
	var err error
	p.executor, err = estate.Executor(transport.System{}, p.log)
	return err
}

// act does what is left to do once the daemon is dead. The order is what makes it safe: this machine answers no more; then the
// next daemon may come; then others are told. After an error nobody has been told anything.
func (p *process) act() error {
	began := time.Now()
	if p.will.estate == nil {
		return nil // it has not come as far as touching anything
	}
	if err := p.withdraw(); err != nil {
		return fmt.Errorf("not everything that it held could be taken back, so others have to wait for its leases to end: %w", err)
	}
	withdrawn := time.Since(began)
	for instance, h := range p.will.holds {
		if err := h.Farewell.Send(); err != nil {
			p.log.Warn("no advertisement of priority 0", "instance", instance, "err", err)
		}
	}
	if err := syscall.Flock(lockAt, syscall.LOCK_UN); err != nil {
		p.log.Warn("the next daemon has to wait", "err", err)
	}
	p.log.Warn("the daemon has died; its addresses are withdrawn", "instances", len(p.will.holds), "leases", len(p.will.leases),
		"took", withdrawn)
	if err := p.release(); err != nil {
		p.log.Warn("nobody has confirmed that the leases of the dead daemon are over", "err", err)
	}
	return nil
}

// withdraw makes this machine invisible.
func (p *process) withdraw() error {
	var errs []error
	if p.will.estate.Guarded {
		errs = append(errs, guard.ShutAll(guard.Options{}))
	}
	kernel, err := address.New()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer kernel.Close()
	for _, h := range p.will.holds {
		for _, a := range h.Addresses {
			errs = append(errs, kernel.Remove(a))
		}
	}
	return errors.Join(errs...)
}

// release gives the leases up.
func (p *process) release() error {
	if p.executor == nil || len(p.will.leases) == 0 {
		return nil
	}
	words := cluster.LastWords{Member: p.will.estate.Member, Over: p.will.leases}
	for group, epoch := range p.will.leases {
		for _, m := range lease.LastWords(lease.Life(p.will.estate.Life), group, lease.Epoch(epoch), deathReason) {
			words.Messages = append(words.Messages, json.RawMessage(m.Encode()))
		}
	}
	if len(p.will.estate.Cluster.Peers) == 1 {
		over := lease.VeryLastWords(lease.Life(p.will.estate.Life), slices.Sorted(maps.Keys(p.will.leases)))
		words.Messages = append(words.Messages, json.RawMessage(over.Encode()))
	}
	// Once a lease would have ended anyway there is little left to gain.
	ctx, cancel := context.WithTimeout(context.Background(), p.will.estate.Cluster.Lease+spareSpeech)
	defer cancel()
	return p.executor.Speak(ctx, words)
}
