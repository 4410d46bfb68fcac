//go:build interop

package interop_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
)

// tapWait is how long a tap sleeps at most before it looks whether it should end.
const tapWait = 100 * time.Millisecond

// tap is a packet socket on an interface of a host. It hears everything that passes there, in both directions.
type tap struct {
	fd     int
	index  int
	mac    net.HardwareAddr
	closed atomic.Bool
	ended  sync.WaitGroup
}

// openTap begins to listen. Each frame goes to heard, on the tap's own goroutine, with the kernel's time.
func openTap(h *lab.Host, iface string, heard func(at time.Time, outgoing bool, f frame)) (*tap, error) {
	link, err := h.Netlink().LinkByName(iface)
	if err != nil {
		return nil, fmt.Errorf("find %s on %s: %w", iface, h.Name(), err)
	}
	t := &tap{index: link.Attrs().Index, mac: link.Attrs().HardwareAddr}
	if err := h.Do(func() (err error) {
		t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", h.Name(), err)
	}
	wait := unix.NsecToTimeval(int64(tapWait))
	if err := errors.Join(
		unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(t.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
		unix.Bind(t.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: t.index}),
	); err != nil {
		unix.Close(t.fd)
		return nil, fmt.Errorf("set up packet socket on %s: %w", h.Name(), err)
	}
	t.ended.Go(func() { t.listen(heard) })
	return t, nil
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 } // all machines that this runs on are little-endian

func (t *tap) listen(heard func(at time.Time, outgoing bool, f frame)) {
	buf, control := make([]byte, 2048), make([]byte, 128)
	for !t.closed.Load() {
		n, cn, _, from, err := unix.Recvmsg(t.fd, buf, control, 0)
		if err != nil {
			continue // the time is over, or the link is down
		}
		f := read(append([]byte(nil), buf[:n]...))
		ll, ok := from.(*unix.SockaddrLinklayer)
		if f.kind != other && ok {
			heard(stamp(control[:cn]), ll.Pkttype == unix.PACKET_OUTGOING, f)
		}
	}
}

// stamp takes the kernel's receive time out of a control message.
func stamp(control []byte) time.Time {
	if messages, err := unix.ParseSocketControlMessage(control); err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// send puts a frame on the wire.
func (t *tap) send(raw []byte) error {
	return unix.Sendto(t.fd, raw, 0, &unix.SockaddrLinklayer{Ifindex: t.index})
}

// ask sends a question for each address.
func (t *tap) ask(source4, source6 netip.Addr, addrs []netip.Addr) {
	for _, addr := range addrs {
		source := source4
		if addr.Is6() {
			source = source6
		}
		t.send(question(t.mac, source, addr)) // one that is lost is asked again soon
	}
}

func (t *tap) close() {
	t.closed.Store(true)
	t.ended.Wait()
	unix.Close(t.fd)
}
