package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's numbers of the proc connector (linux/connector.h, linux/cn_proc.h).
const (
	cnIdxProc, cnValProc = 1, 1
	procCnMcastListen    = 1

	procEventNone = 0x00000000
	procEventFork = 0x00000001
	procEventExec = 0x00000002
	procEventComm = 0x00000200
	procEventExit = 0x80000000

	cnMsgSize        = 20 // struct cn_msg: idx, val, seq, ack, len, flags
	eventHeader      = 16 // struct proc_event: what, cpu, timestamp
	initialNamespace = "/proc/1/ns/net"

	answerWait   = time.Second
	receiveBytes = 1 << 20 // of the socket's buffer
)

// kind is what happened to a process.
type kind uint8

const (
	forked kind = iota + 1
	executed
	renamed
	exited
)

// event is something that happened to a process; what happens to a thread alone is none.
type event struct {
	kind        kind
	pid, parent int
}

// connector is a socket that receives process events. A nil one may be closed.
type connector struct {
	*os.File
	conn   syscall.RawConn
	buffer []byte
}

// connect subscribes to process events, in the initial network namespace if there are none in that of this thread.
func connect(initial string) (*connector, error) {
	c, err := subscribe()
	if errors.Is(err, unix.ECONNREFUSED) {
		err = inNamespace(initial, func() error {
			c, err = subscribe()
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to process events: %w", err)
	}
	return c, nil
}

// inNamespace calls do in a network namespace.
func inNamespace(path string, do func() error) error {
	theirs, err := os.Open(path)
	if err != nil {
		return err
	}
	defer theirs.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace "+path+": %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}

// subscribe opens a socket in the network namespace of this thread and waits for the kernel's answer.
func subscribe() (*connector, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, err
	}
	c := &connector{File: os.NewFile(uintptr(fd), "proc connector"), buffer: make([]byte, 64<<10)}
	if c.conn, err = c.SyscallConn(); err == nil {
		err = c.listen(fd)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *connector) listen(fd int) error {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc}); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes) // the default does for a quiet machine
	request := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+cnMsgSize+4)
	request = binary.NativeEndian.AppendUint16(request, unix.NLMSG_DONE)
	request = append(request, make([]byte, unix.SizeofNlMsghdr-len(request))...)
	for _, v := range []uint32{cnIdxProc, cnValProc, 0, 0} {
		request = binary.NativeEndian.AppendUint32(request, v)
	}
	request = binary.NativeEndian.AppendUint16(request, 4) // length of the operation
	request = binary.NativeEndian.AppendUint16(request, 0)
	request = binary.NativeEndian.AppendUint32(request, procCnMcastListen)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return c.awaitAnswer()
}

// Close ends the subscription; receive returns an error from then on.
func (c *connector) Close() error {
	if c == nil {
		return nil
	}
	return c.File.Close()
}

// awaitAnswer waits for the kernel's answer to a subscription. It gives none to a program in a PID namespace.
func (c *connector) awaitAnswer() error {
	if err := c.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
		return err
	}
	for {
		message, err := c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.New("the kernel does not answer")
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		if what, data, ok := procEvent(message); ok && what == procEventNone && len(data) >= 4 {
			if errno := binary.NativeEndian.Uint32(data); errno != 0 {
				return unix.Errno(errno)
			}
			return c.SetReadDeadline(time.Time{})
		}
	}
}

// read returns the next datagram of the kernel. It is valid until the next read.
func (c *connector) read() (message []byte, err error) {
	poll := c.conn.Read(func(fd uintptr) bool {
		for {
			n, from, e := unix.Recvfrom(int(fd), c.buffer, 0)
			switch sender, ok := from.(*unix.SockaddrNetlink); {
			case errors.Is(e, unix.EAGAIN):
				return false
			case errors.Is(e, unix.EINTR):
			case e == nil && (!ok || sender.Pid != 0): // not the kernel's
			default:
				message, err = c.buffer[:max(n, 0)], e
				return true
			}
		}
	})
	if poll != nil {
		return nil, poll
	}
	return message, err
}

// receive waits for the next event. ENOBUFS means that events were lost.
func (c *connector) receive() (event, error) {
	message, err := c.read()
	if err != nil {
		return event{}, err
	}
	return parse(message), nil
}

// drain throws away what waits in the socket.
func (c *connector) drain() {
	_ = c.conn.Read(func(fd uintptr) bool {
		for {
			if _, _, err := unix.Recvfrom(int(fd), c.buffer, 0); err != nil && !errors.Is(err, unix.EINTR) &&
				!errors.Is(err, unix.ENOBUFS) {
				return true
			}
		}
	})
}

// parse returns the event in a datagram: the zero event if it is of no interest.
func parse(datagram []byte) event {
	what, data, ok := procEvent(datagram)
	if !ok {
		return event{}
	}
	ids := func(n int) []int { // process_pid, process_tgid...
		if len(data) < 4*n {
			return make([]int, n)
		}
		list := make([]int, n)
		for i := range list {
			list[i] = int(int32(binary.NativeEndian.Uint32(data[4*i:])))
		}
		return list
	}
	switch what {
	case procEventFork:
		if v := ids(4); v[2] == v[3] { // child_pid, child_tgid: a process and no thread
			return event{forked, v[3], v[1]}
		}
	case procEventExec:
		return event{kind: executed, pid: ids(2)[1]}
	case procEventComm:
		if v := ids(2); v[0] == v[1] {
			return event{kind: renamed, pid: v[1]}
		}
	case procEventExit:
		if v := ids(2); v[0] == v[1] {
			return event{kind: exited, pid: v[1]}
		}
	}
	return event{}
}

// procEvent returns what happened, and the data of it.
func procEvent(datagram []byte) (what uint32, data []byte, ok bool) {
	const begin = unix.SizeofNlMsghdr + cnMsgSize
	if len(datagram) < begin+eventHeader ||
		binary.NativeEndian.Uint32(datagram[unix.SizeofNlMsghdr:]) != cnIdxProc ||
		binary.NativeEndian.Uint32(datagram[unix.SizeofNlMsghdr+4:]) != cnValProc {
		return 0, nil, false
	}
	return binary.NativeEndian.Uint32(datagram[begin:]), datagram[begin+eventHeader:], true
}
