//go:build integ

package route

import "golang.org/x/sys/unix"

// ShrinkReceiveBuffer makes the kernel drop notifications early.
func ShrinkReceiveBuffer(m *Monitor) {
	_ = m.feed.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<10)
	})
}
