package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/lvs/ipvs"
	"github.com/hactl/had/vrrp"
)

// syncAgain is when the kernel is asked again that has refused a synchronization daemon.
const syncAgain = 5 * time.Second

// syncKernel is the door to the kernel's synchronization of connections, an *ipvs.Conn.
type syncKernel interface {
	StartDaemon(ipvs.Daemon) error
	StopDaemon(ipvs.Role) error
	Daemons() ([]ipvs.Daemon, error)
	Close()
}

// connectionSync keeps the kernel's synchronization daemons as lvs_sync_daemon wants them, on a goroutine of its own: the
// kernel may take its time. As long as nothing was ever wanted it leaves them alone.
type connectionSync struct {
	open func() (syncKernel, error)
	log  *slog.Logger
	wake chan struct{} // 1: want has changed

	mu   sync.Mutex
	want []ipvs.Daemon
}

func newConnectionSync(log *slog.Logger) *connectionSync {
	return &connectionSync{log: log, wake: make(chan struct{}, 1), open: func() (syncKernel, error) {
		c, err := ipvs.Open("")
		if err != nil {
			return nil, err
		}
		return c, nil
	}}
}

// set says which daemons should run. It does not block; any goroutine may call it.
func (s *connectionSync) set(want []ipvs.Daemon) {
	s.mu.Lock()
	same := slices.Equal(want, s.want)
	s.want = want
	s.mu.Unlock()
	if same {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and then stops what it has started.
func (s *connectionSync) run(ctx context.Context) {
	ours, told := false, ""
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			if ours {
				if err := s.make(nil); err != nil {
					s.log.Error("the synchronization of connections goes on", "err", err)
				}
			}
			return
		case <-s.wake:
		case <-again:
		}
		s.mu.Lock()
		want := s.want
		s.mu.Unlock()
		again = nil
		if ours = ours || len(want) > 0; !ours {
			continue
		}
		err := s.make(want)
		switch {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			s.log.Error("connections are not synchronized as they should be", "err", err)
			fallthrough
		default:
			again = time.After(syncAgain)
		}
	}
}

// make makes these the daemons that run: what is another goes first.
func (s *connectionSync) make(want []ipvs.Daemon) error {
	kernel, err := s.open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	have, err := kernel.Daemons()
	if err != nil {
		return err
	}
	var failed error
	for _, d := range have {
		if !slices.ContainsFunc(want, func(w ipvs.Daemon) bool { return serves(d, w) }) {
			failed = errors.Join(failed, kernel.StopDaemon(d.Role))
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(have, func(d ipvs.Daemon) bool { return serves(d, w) }) {
			failed = errors.Join(failed, kernel.StartDaemon(w))
		}
	}
	return failed
}

// serves tells whether a daemon that runs is one that is wanted: what is not given is the kernel's choice.
func serves(have, want ipvs.Daemon) bool {
	return have.Role == want.Role && have.Interface == want.Interface && have.ID == want.ID &&
		(want.MaxLen == 0 || want.MaxLen == have.MaxLen) && (want.TTL == 0 || want.TTL == have.TTL) &&
		(!want.Group.Addr().IsValid() || want.Group.Addr() == have.Group.Addr()) &&
		(want.Group.Port() == 0 || want.Group.Port() == have.Group.Port())
}

// syncDaemons are the daemons of lvs_sync_daemon: the master's if its instance is Active, else the backup's; without an
// instance both.
func syncDaemons(c *conf.SyncDaemon, vrid int, active bool) []ipvs.Daemon {
	if c == nil {
		return nil
	}
	d := ipvs.Daemon{Interface: c.Interface, ID: uint8(max(c.ID, 0)), MaxLen: uint16(c.MaxLen), TTL: c.TTL,
		Group: netip.AddrPortFrom(c.Group, c.Port)}
	if c.ID < 0 {
		d.ID = uint8(vrid)
	}
	role := func(r ipvs.Role) ipvs.Daemon { d.Role = r; return d }
	switch {
	case c.Instance == "":
		return []ipvs.Daemon{role(ipvs.Master), role(ipvs.Backup)}
	case active:
		return []ipvs.Daemon{role(ipvs.Master)}
	}
	return []ipvs.Daemon{role(ipvs.Backup)}
}

// tellSync says which synchronization daemons should run now.
func (a *Agent) tellSync() {
	c := a.cfg.Global.LVS.SyncDaemon
	vrid, active := 0, false
	if c != nil && a.instances[c.Instance] != nil {
		vrid, active = int(a.instances[c.Instance].conf.VRID), a.status(c.Instance) == vrrp.Active
	}
	a.sync.set(syncDaemons(c, vrid, active))
}
