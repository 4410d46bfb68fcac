package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/rtnl"
)

// resyncPause is the wait after a state that could not be read.
const resyncPause = 100 * time.Millisecond

// Monitor reports interfaces and addresses of the network namespace in which it was opened.
type Monitor struct {
	log    *slog.Logger
	socket *rtnl.Subscription
	conn   *rtnl.Conn
	table  Table
}

// Open subscribes to the kernel's notifications in the network namespace of the calling thread. Run must be called
// next; it closes what Open opened.
func Open(log *slog.Logger) (*Monitor, error) {
	socket, err := rtnl.Subscribe(log, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, err
	}
	conn, err := rtnl.Open()
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return &Monitor{log: log, socket: socket, conn: conn}, nil
}

// Run reports events to handler, on the calling goroutine, until ctx is done; then it returns nil. While handler runs
// the kernel queues further notifications, so it may take its time, but an address removed by somebody else is only
// noticed after it returns. An error means that interfaces and addresses cannot be read at all.
func (m *Monitor) Run(ctx context.Context, handler func(Event)) error {
	defer m.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = m.socket.Close() })
	defer func() {
		if stop() {
			_ = m.socket.Close()
		}
	}()
	links, addresses, err := m.read()
	if err != nil {
		return err
	}
	m.deliver(append(m.table.diff(links, addresses), Synced{}), handler)
	for {
		messages, err := m.socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrClosed):
			return fmt.Errorf("receive notifications of interfaces: %w", err)
		case err != nil:
			// ENOBUFS: the queue ran over. The socket stays usable whatever the error is.
			m.log.Warn("notifications of interfaces were lost, reading all again", "err", err)
			m.resync(ctx, err, handler)
			continue
		}
		for _, message := range messages {
			m.deliver(m.decode(message), handler)
		}
	}
}

// deliver enters the events into the table and reports them.
func (m *Monitor) deliver(events []Event, handler func(Event)) {
	for _, ev := range events {
		m.table.Apply(ev)
		handler(ev)
	}
}

// decode returns the events of one notification.
func (m *Monitor) decode(message syscall.NetlinkMessage) []Event {
	switch message.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, ok, err := parse(message.Data)
		switch {
		case err != nil:
			m.log.Warn("notification of an interface was not understood", "err", err)
			return nil
		case !ok:
			return nil
		case message.Header.Type == unix.RTM_NEWLINK:
			return m.table.linkSeen(l)
		}
		return m.table.linkGone(l.Index)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, err := address.Parse(message.Data)
		if err != nil {
			m.log.Warn("notification of an address was not understood", "err", err)
			return nil
		}
		if message.Header.Type == unix.RTM_NEWADDR {
			return m.table.addressSeen(a)
		}
		return m.table.addressGone(a)
	}
	return nil
}

// resync reads the whole state after notifications were lost, reports the difference and Synced. What is still queued
// is thrown away first: it is older than the loss, and applied after the new state it would bring back what is gone.
// A state that cannot be read is tried again until ctx is done.
func (m *Monitor) resync(ctx context.Context, lost error, handler func(Event)) {
	for ctx.Err() == nil {
		empty, err := m.socket.Drain()
		if err != nil {
			return // closed: ctx is done
		}
		links, addresses, err := m.read()
		if err == nil {
			m.deliver(append(m.table.diff(links, addresses), Synced{Lost: lost}), handler)
			if empty {
				return
			}
		} else {
			m.log.Error("interfaces cannot be read, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(resyncPause):
		}
	}
}

// read returns all interfaces and addresses.
func (m *Monitor) read() ([]Link, []address.Address, error) {
	links, err := list(m.conn)
	if err != nil {
		return nil, nil, err
	}
	addresses, err := address.List(m.conn)
	return links, addresses, err
}
