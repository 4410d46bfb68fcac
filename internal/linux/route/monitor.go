package route

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

// relistPause is the wait after a list that could not be read.
const relistPause = 100 * time.Millisecond

// Event is what the Monitor reports. The set is closed: Removed, RuleRemoved, Listed.
type Event interface{ event() }

type (
	// Removed says that somebody has removed a route.
	Removed struct{ Route Route }

	// RuleRemoved says that somebody has removed a rule.
	RuleRemoved struct{ Rule Rule }

	// Listed says, after notifications were lost, which routes and rules there are.
	Listed struct {
		Routes []Route
		Rules  []Rule
	}
)

func (Removed) event()     {}
func (RuleRemoved) event() {}
func (Listed) event()      {}

// Monitor reports that routes and rules which carry keepalived's number are removed by somebody, in the network namespace in
// which it was opened. What the kernel itself removes, with an interface that goes down, with a source address or at the end
// of its time, is not reported: about IPv4 routes the kernel is silent then, too.
type Monitor struct {
	log    *slog.Logger
	feed   *rtnl.Subscription
	conn   *rtnl.Conn
	ignore uint32
}

// Open subscribes to the kernel's notifications in the network namespace of the calling thread. What the Manager with the
// port ignore does is not reported. Run must be called next; it closes what Open opened.
func Open(log *slog.Logger, ignore uint32) (*Monitor, error) {
	feed, err := rtnl.Subscribe(log, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, err
	}
	if err := feed.Filter(filter()); err != nil {
		return nil, errors.Join(err, feed.Close())
	}
	conn, err := rtnl.Open()
	if err != nil {
		return nil, errors.Join(err, feed.Close())
	}
	return &Monitor{log: log, feed: feed, conn: conn, ignore: ignore}, nil
}

// filter passes removals of rules, and removals of routes that carry keepalived's number: a router's other routes change
// by the thousands.
func filter() []bpf.Instruction {
	const typeOffset, protocolOffset = 4, unix.SizeofNlMsghdr + 5
	kind := func(n uint16) uint32 { // as a load in network byte order sees it
		return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
	}
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: typeOffset, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: kind(unix.RTM_DELRULE), SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: kind(unix.RTM_DELROUTE), SkipFalse: 3},
		bpf.LoadAbsolute{Off: protocolOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: Protocol, SkipFalse: 1},
		bpf.RetConstant{Val: rtnl.MessageSize},
		bpf.RetConstant{Val: 0},
	}
}

// Run reports events to handler, on the calling goroutine, until ctx is done; then it returns nil. While handler runs the
// kernel queues further notifications.
func (m *Monitor) Run(ctx context.Context, handler func(Event)) error {
	defer m.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = m.feed.Close() })
	defer func() {
		if stop() {
			_ = m.feed.Close()
		}
	}()
	for {
		messages, err := m.feed.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrClosed):
			return fmt.Errorf("receive notifications of routes: %w", err)
		case err != nil:
			m.log.Warn("notifications of routes were lost, reading all", "err", err)
			m.relist(ctx, handler)
			continue
		}
		for _, message := range messages {
			if ev := m.decode(message); ev != nil {
				handler(ev)
			}
		}
	}
}

// decode returns the event of one notification; nil if it is none.
func (m *Monitor) decode(message syscall.NetlinkMessage) Event {
	if message.Header.Pid == m.ignore || message.Header.Pid == 0 { // 0 is the kernel
		return nil
	}
	var err error
	switch message.Header.Type {
	case unix.RTM_DELROUTE:
		var r Route
		if r, err = Parse(message.Data); err == nil {
			return Removed{r}
		}
	case unix.RTM_DELRULE:
		var r Rule
		if r, err = ParseRule(message.Data); err == nil && r.Protocol == Protocol {
			return RuleRemoved{r}
		}
	}
	if err != nil {
		m.log.Debug("notification of a route was not understood", "err", err)
	}
	return nil
}

// relist reports what there is. A list that cannot be read is tried again until ctx is done.
func (m *Monitor) relist(ctx context.Context, handler func(Event)) {
	for ctx.Err() == nil {
		routes, rules, err := list(m.conn)
		if err == nil {
			handler(Listed{routes, rules})
			return
		}
		m.log.Error("routes cannot be read, trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(relistPause):
		}
	}
}
