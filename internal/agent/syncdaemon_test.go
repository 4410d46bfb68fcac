package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/lvs/ipvs"
)

// syncThreads are the kernel's synchronization daemons.
type syncThreads struct {
	mu      sync.Mutex
	run     []ipvs.Daemon
	refuses bool
	calls   int
}

// refuse says whether the kernel refuses from now on.
func (k *syncThreads) refuse(yes bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuses = yes
}

func (k *syncThreads) StartDaemon(d ipvs.Daemon) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.refuses {
		return errors.New("no")
	}
	if slices.ContainsFunc(k.run, func(o ipvs.Daemon) bool { return o.Role == d.Role }) {
		return ipvs.ErrExists
	}
	d.MaxLen, d.TTL = 1472, 1 // the kernel's choice
	k.run = append(k.run, d)
	return nil
}

func (k *syncThreads) StopDaemon(r ipvs.Role) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	k.run = slices.DeleteFunc(k.run, func(o ipvs.Daemon) bool { return o.Role == r })
	return nil
}

func (k *syncThreads) Daemons() ([]ipvs.Daemon, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.run), nil
}

func (k *syncThreads) Close() {}

func (k *syncThreads) roles() (roles []ipvs.Role) {
	running, _ := k.Daemons()
	for _, d := range running {
		roles = append(roles, d.Role)
	}
	return roles
}

func TestConnectionSyncFollowsTheInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &syncThreads{run: []ipvs.Daemon{{Role: ipvs.Backup, Interface: "other"}}}
		s := newConnectionSync(slog.New(slog.DiscardHandler))
		s.open = func() (syncKernel, error) { return k, nil }
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.run(ctx); close(ended) }()
		c := &conf.SyncDaemon{Interface: "eth0", Instance: "VI", ID: -1}
		is := func(what string, want ...ipvs.Role) {
			t.Helper()
			synctest.Wait()
			if got := k.roles(); !slices.Equal(got, want) {
				t.Errorf("%s: roles %v, want %v", what, got, want)
			}
		}
		s.set(nil)
		is("nothing was ever wanted", ipvs.Backup)
		s.set(syncDaemons(c, 51, false))
		is("backup", ipvs.Backup)
		if k.run[0].ID != 51 || k.run[0].Interface != "eth0" {
			t.Errorf("%+v", k.run)
		}
		s.set(syncDaemons(c, 51, true))
		is("master", ipvs.Master)
		calls := k.calls
		s.set(syncDaemons(c, 51, true))
		is("still", ipvs.Master)
		if k.calls != calls {
			t.Error("the kernel was told what it does")
		}
		k.refuse(true)
		s.set(syncDaemons(c, 51, false))
		is("the kernel refuses")
		k.refuse(false)
		time.Sleep(2 * syncAgain)
		is("tried again", ipvs.Backup)
		stop()
		<-ended
		is("the end")
	})
}

func TestSyncDaemons(t *testing.T) {
	if got := syncDaemons(&conf.SyncDaemon{Interface: "eth0", ID: 7}, 51, true); len(got) != 2 || got[0].ID != 7 || got[0].Role == got[1].Role {
		t.Errorf("without an instance: %+v", got)
	}
	if got := syncDaemons(nil, 51, true); !reflect.DeepEqual(got, []ipvs.Daemon(nil)) {
		t.Errorf("without the word: %+v", got)
	}
}
