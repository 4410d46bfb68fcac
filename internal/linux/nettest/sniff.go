//go:build integ

package nettest

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Frame is a frame that passed an interface of a host.
type Frame struct {
	At   time.Time // when it was read
	Data []byte
}

// Sniff returns the frames of one EtherType that arrive at an interface of the host, until the test ends.
func (h *Host) Sniff(iface string, etherType uint16) (frames <-chan Frame) {
	h.t.Helper()
	h.Do(func() { frames = Sniff(h.t, iface, etherType) })
	return frames
}

// Sniff returns the frames of one EtherType that arrive at an interface, until the test ends.
func Sniff(t testing.TB, iface string, etherType uint16) <-chan Frame {
	t.Helper()
	frames := make(chan Frame, 10_000)
	file, err := packetSocket(Link(t, iface).Index, etherType)
	if !Check(t, err) {
		return frames
	}
	t.Cleanup(func() { _ = file.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			select {
			case frames <- Frame{At: time.Now(), Data: append([]byte(nil), buf[:n]...)}:
			default:
			}
		}
	}()
	return frames
}

func packetSocket(index int, etherType uint16) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	protocol := binary.NativeEndian.Uint16([]byte{byte(etherType >> 8), byte(etherType)})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "sniff"), nil
}

// Inject sends a frame out of an interface of the host.
func (h *Host) Inject(iface string, frame []byte) {
	h.t.Helper()
	index := h.Link(iface).Index
	h.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if Check(h.t, err) {
			Check(h.t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}))
			Check(h.t, unix.Close(fd))
		}
	})
}

// Next returns the next frame for which match holds; it fails the test after the timeout.
func Next(t testing.TB, frames <-chan Frame, timeout time.Duration, match func([]byte) bool) Frame {
	t.Helper()
	deadline := time.After(timeout)
	for {
		select {
		case f := <-frames:
			if match(f.Data) {
				return f
			}
		case <-deadline:
			t.Fatalf("no such frame within %v", timeout)
		}
	}
}

// None fails the test if a frame for which match holds comes within the time.
func None(t testing.TB, frames <-chan Frame, within time.Duration, match func([]byte) bool) {
	t.Helper()
	deadline := time.After(within)
	for {
		select {
		case f := <-frames:
			if match(f.Data) {
				t.Fatalf("unexpected frame %x", f.Data)
			}
		case <-deadline:
			return
		}
	}
}
