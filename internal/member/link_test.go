package member

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
)

func TestWhatTheLeaseProtocolProposesIsSuchAsTheLogTakes(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	c := stamped(fsm.Command{Release: &fsm.Release{Group: "G", Epoch: 1, Member: "a/1",
		Reason: strings.Repeat("x", 5000) + "\xff"}}, "a", at)
	if _, err := fsm.EncodeCommand(c); err != nil {
		t.Fatal(err)
	}
	if c.ID == "" || c.Node != "a" || !c.Time.Time().Equal(at) {
		t.Fatalf("stamp: %q, %q, %v", c.ID, c.Node, c.Time)
	}
}

func TestTheLeaseProtocolIsToldHowFarTheLogIsApplied(t *testing.T) {
	l := &Link{Log: slog.New(slog.DiscardHandler)}
	if in := l.Translate(cluster.Applied{Index: 9}); len(in) != 1 || in[0] != (lease.Applied{Index: 9}) {
		t.Fatalf("%+v", in)
	}
}

func TestACeilingThatCouldNotBeNotedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		broken := errors.New("disk full")
		l := &Link{Log: slog.New(slog.DiscardHandler), Inputs: make(chan lease.Input, 8)}
		l.noteCeiling = func(time.Duration) error {
			if tries.Add(1) < 3 {
				return broken
			}
			return nil
		}
		for range 100 { // a voter that refuses is asked many times a second
			l.Do(lease.RaiseCeiling{Promise: time.Second})
			time.Sleep(50 * time.Millisecond)
		}
		if n := tries.Load(); n != 3 {
			t.Fatalf("%d attempts", n)
		}
		if in := <-l.Inputs; in != (lease.CeilingRaised{Promise: time.Second}) {
			t.Fatalf("%+v", in)
		}
	})
}
