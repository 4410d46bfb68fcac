package check

import (
	"container/heap"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/clock"
)

// eventsMax is how many connections the kernel tells of at once.
const eventsMax = 128

// connects are the connections that are being made for TCP_CHECK, each with four system calls and without a goroutine, a timer or
// an allocation of its own. All but watch belongs to the loop.
type connects struct {
	tell    func(ids []int32) // of connections that are made or refused; by a goroutine of its own
	poller  *os.File          // epoll's, for which Go's runtime waits; nil: there has been no connection yet
	control syscall.RawConn   // of the poller
	watcher sync.WaitGroup
	last    int32            // id. Unlike a descriptor, it does not soon stand for another connection.
	waiting map[int32]*entry // by id
	until   timeHeap         // when they fail
}

// connection is what an entry has while it waits for a connection.
type connection struct {
	id int32 // 0: it does not
	fd int
}

// begin begins to make a connection for an entry, which takes until a time at most.
func (c *connects) begin(x *entry, p *Endpoint, until clock.Time) error {
	if err := c.open(); err != nil {
		return err
	}
	to, err := sockaddr(p.Target)
	if err != nil {
		return err
	}
	fd, err := p.socket(unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	if err = p.setup(fd); err == nil {
		err = unix.Connect(fd, to)
	}
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		event := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: c.last + 1}
		if closed := c.control.Control(func(poller uintptr) {
			err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(poller), unix.EPOLL_CTL_ADD, fd, &event))
		}); closed != nil {
			err = closed
		}
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	c.last++
	x.connection = connection{id: c.last, fd: fd}
	c.waiting[c.last] = x
	x.at = until
	heap.Push(&c.until, x)
	return nil
}

// end closes an entry's connection, made or not.
func (c *connects) end(x *entry) {
	unix.Close(x.connection.fd) // which takes it from the poller, too
	delete(c.waiting, x.connection.id)
	x.connection = connection{}
	heap.Remove(&c.until, x.index)
}

// result says whether a connection has been made that is not being made any more. One that the server has reset since has been: a
// reset in place of a connection is a refusal.
func (c connection) result() error {
	errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	switch err := unix.Errno(errno); err {
	case 0, unix.ECONNRESET, unix.EPIPE:
		return nil
	default:
		return err
	}
}

// open opens the poller.
func (c *connects) open() error {
	if c.poller != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else Go's runtime does not wait for it
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	poller := os.NewFile(uintptr(fd), "epoll")
	if c.control, err = poller.SyscallConn(); err != nil {
		poller.Close()
		return err
	}
	c.poller, c.waiting = poller, map[int32]*entry{}
	c.watcher.Go(c.watch)
	return nil
}

// watch tells of connections until the poller is closed.
func (c *connects) watch() {
	events := make([]unix.EpollEvent, eventsMax)
	ids := make([]int32, 0, eventsMax)
	for {
		ids = ids[:0]
		err := c.control.Read(func(poller uintptr) bool {
			n, err := unix.EpollWait(int(poller), events, 0)
			for _, event := range events[:max(n, 0)] {
				ids = append(ids, event.Fd)
			}
			return n > 0 || err != nil
		})
		if err != nil {
			return
		}
		c.tell(ids)
	}
}

// close ends all connections and blocks until nothing is left of them.
func (c *connects) close() {
	if c.poller == nil {
		return
	}
	for _, x := range c.waiting {
		c.end(x)
	}
	c.poller.Close()
	c.watcher.Wait()
}
