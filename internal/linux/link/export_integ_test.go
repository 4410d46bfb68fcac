//go:build integ

package link

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// ShrinkReceiveBuffer makes the kernel drop notifications early.
func ShrinkReceiveBuffer(m *Monitor) {
	_ = m.socket.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<10)
	})
}

// Port returns the netlink port of the Monitor's socket.
func Port(m *Monitor) (port uint32) {
	_ = m.socket.Control(func(fd uintptr) {
		if name, err := unix.Getsockname(int(fd)); err == nil {
			port = name.(*unix.SockaddrNetlink).Pid
		}
	})
	return port
}

// ForgedRemoval returns a notification that an interface is gone.
func ForgedRemoval(index int) []byte {
	name := append([]byte{7, 0, unix.IFLA_IFNAME, 0}, 'l', 'o', 0, 0)
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg, 64)
	binary.NativeEndian.PutUint32(b, uint32(len(b)+len(name)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_DELLINK)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(index))
	return append(b, name...)
}
