package neigh

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
)

const (
	// stormFrames frames in a row are read without a pause; then stormPause lets the kernel drop what is too much, so
	// that a flood of claims costs little more than a watcher's share of time.
	stormFrames = 200
	stormPause  = 10 * time.Millisecond
)

// port listens for one protocol on one interface.
type port struct {
	link link.Link
	file *os.File
	conn syscall.RawConn
}

// openPort opens a port that hears nothing but what the filter passes.
func openPort(l link.Link, etherType uint16, filter []bpf.Instruction) (*port, error) {
	// Protocol 0 until the filter is in place: nothing is received before.
	file, conn, err := openSocket(unix.AF_PACKET, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %v: %w", l, err)
	}
	p := &port{link: l, file: file, conn: conn}
	err = p.setFilter(filter)
	if err == nil {
		err = control(conn, func(fd int) error {
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(etherType), Ifindex: l.Index})
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bind packet socket to %v: %w", l, err), file.Close())
	}
	return p, nil
}

// setFilter replaces the filter at once.
func (p *port) setFilter(filter []bpf.Instruction) error {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(raw))
	for i, instruction := range raw {
		program[i] = unix.SockFilter{Code: instruction.Op, Jt: instruction.Jt, Jf: instruction.Jf, K: instruction.K}
	}
	return control(p.conn, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

func (p *port) close() error { return p.file.Close() }

// run reports claims until the port is closed.
func (p *port) run(claimed func(l link.Link, c Claim)) {
	buf := make([]byte, snapLength)
	for frames := 1; ; frames++ {
		frame, err := p.receive(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		// Other errors are the interface's: it went down (and comes up again), or is gone (and the watcher closes us).
		if err == nil {
			if c, ok := parseClaim(frame); ok {
				c.Interface, c.Index = p.link.Name, p.link.Index
				claimed(p.link, c)
			}
		}
		if frames%stormFrames == 0 {
			time.Sleep(stormPause)
		}
	}
}

// receive waits for a frame that is meant for this machine.
func (p *port) receive(buf []byte) ([]byte, error) {
	var n int
	var from unix.Sockaddr
	var err error
	readErr := p.conn.Read(func(fd uintptr) bool {
		for {
			n, from, err = unix.Recvfrom(int(fd), buf, 0)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case readErr != nil: // the poller fails for no other reason
		return nil, os.ErrClosed
	case err != nil:
		return nil, err
	}
	// A frame for another station, seen in promiscuous mode or with the tag of another VLAN, says nothing about this link.
	if sender, ok := from.(*unix.SockaddrLinklayer); ok && sender.Pkttype == unix.PACKET_OTHERHOST {
		return nil, nil
	}
	return buf[:n], nil
}

// ports are the ports on one interface.
type ports struct {
	link   link.Link
	arp    *port
	nd     *port
	report func(l link.Link, c Claim)
}

// listen makes the ports hear claims of exactly these addresses.
func (ps *ports) listen(addrs []netip.Addr) error {
	var v4, v6 []netip.Addr
	for _, addr := range addrs {
		if addr.Is4() {
			v4 = append(v4, addr)
		} else {
			v6 = append(v6, addr)
		}
	}
	return errors.Join(
		ps.adjust(&ps.arp, ether.TypeARP, v4, arpFilter),
		ps.adjust(&ps.nd, ether.TypeIPv6, v6, ndFilter))
}

func (ps *ports) adjust(p **port, etherType uint16, addrs []netip.Addr, filter func([]netip.Addr) []bpf.Instruction) error {
	switch {
	case len(addrs) == 0 && *p == nil:
		return nil
	case len(addrs) == 0:
		// Before close returns, all of the kernel's processors have to have forgotten the socket: that may take 20 ms, and whoever
		// ends watching is handing an address over.
		go (*p).close()
		*p = nil
		return nil
	case *p != nil:
		return (*p).setFilter(filter(addrs))
	}
	opened, err := openPort(ps.link, etherType, filter(addrs))
	if err != nil {
		return err
	}
	*p = opened
	go opened.run(ps.report)
	return nil
}
