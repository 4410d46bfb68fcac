// Package rtnl makes requests to the kernel's route netlink, and takes its messages apart without trusting them.
package rtnl

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// answerTime bounds the wait for the kernel's answer to one request.
	answerTime = 2 * time.Second

	// dumpAttempts bounds how often a list that changed while it was read is read again.
	dumpAttempts = 100
)

// Conn makes requests in one network namespace. Its methods may be called by any goroutine; requests go to the kernel
// one by one.
type Conn struct {
	socket  *nl.NetlinkSocket
	sockets map[int]*nl.SocketHandle
	port    uint32
}

// Open returns a Conn for the network namespace of the calling thread.
func Open() (*Conn, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink socket: %w", err)
	}
	timeout := unix.NsecToTimeval(answerTime.Nanoseconds())
	err = errors.Join(socket.SetSendTimeout(&timeout), socket.SetReceiveTimeout(&timeout))
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("set timeout of route netlink socket: %w", err)
	}
	port, err := socket.GetPid()
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("ask for the port of the route netlink socket: %w", err)
	}
	// Without extended answers errors are less telling, no more.
	_ = socket.SetExtAck(true)
	return &Conn{
		socket:  socket,
		sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}},
		port:    port,
	}, nil
}

// Close ends the use of the Conn.
func (c *Conn) Close() { c.socket.Close() }

// Port is the Conn's own address: notifications of what it has changed carry it.
func (c *Conn) Port() uint32 { return c.port }

// Do makes a request that changes something. The error wraps the kernel's errno.
func (c *Conn) Do(req *nl.NetlinkRequest) error {
	req.Sockets = c.sockets
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Dump makes a request for a list, e.g. of type RTM_GETADDR, and returns the payloads of the messages of the type
// answer.
func (c *Conn) Dump(request int, header nl.NetlinkRequestData, answer uint16) ([][]byte, error) {
	for attempt := 1; ; attempt++ {
		req := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
		req.AddData(header)
		req.Sockets = c.sockets
		payloads, err := req.Execute(unix.NETLINK_ROUTE, answer)
		if errors.Is(err, netlink.ErrDumpInterrupted) && attempt < dumpAttempts {
			continue // it changed meanwhile: what was read may have gaps
		}
		return payloads, err
	}
}
