package transport

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bothEnds returns both ends of a connection, as a [System] makes them.
func bothEnds(t testing.TB, s System) (near, far net.Conn) {
	t.Helper()
	l, err := s.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = s.Dial(t.Context(), netip.MustParseAddr("127.0.0.1"), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

func TestMoreThanTheSocketTakesIsWrittenInParts(t *testing.T) {
	near, far := bothEnds(t, System{})
	sent := make([]byte, 16<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		n, err := near.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		written <- errors.Join(err, near.Close())
	}()
	time.Sleep(20 * time.Millisecond) // until the buffers are full
	got, err := io.ReadAll(far)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came, or others", len(got), len(sent))
	}
}

func TestErrorsOfAConnectionAreThoseOfNet(t *testing.T) {
	near, _ := bothEnds(t, System{})
	var one [1]byte
	check := func(what string, err, want error, timeout bool) {
		t.Helper()
		var op *net.OpError
		if !errors.As(err, &op) || !errors.Is(err, want) || op.Timeout() != timeout {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	if n, err := near.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing is read: %d, %v", n, err)
	}
	near.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := near.Read(one[:])
	check("nothing comes", err, os.ErrDeadlineExceeded, true)
	near.SetReadDeadline(time.Time{})
	much := make([]byte, 64<<20)
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := near.Write(much)
	check("nobody reads", err, os.ErrDeadlineExceeded, true)
	if n == 0 || n == len(much) {
		t.Errorf("%d bytes were written", n)
	}

	ended := make(chan error, 1)
	go func() {
		_, err := near.Read(one[:])
		ended <- err
	}()
	time.Sleep(10 * time.Millisecond)
	near.Close()
	check("it is closed while it reads", <-ended, net.ErrClosed, false)
	_, err = near.Write(one[:])
	check("it is closed", err, net.ErrClosed, false)

	// The other end has data that it has not read, so that the kernel resets the connection.
	first, second := bothEnds(t, System{})
	if _, err := first.Write(one[:]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	second.Close()
	_, err = first.Read(one[:])
	check("it is reset", err, syscall.ECONNRESET, false)
	_, err = first.Write(one[:])
	check("it was reset", err, syscall.EPIPE, false)
}

// deadlines counts the deadlines of writes that reach a socket.
type deadlines struct {
	net.Conn
	set atomic.Int64
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set.Add(1)
	return d.Conn.SetWriteDeadline(t)
}

func TestADeadlineOfWritesIsTheSocketsOnlyWhileOneWaits(t *testing.T) {
	near, far := bothEnds(t, System{})
	socket := &deadlines{Conn: near.(*direct).Conn}
	near.(*direct).Conn = socket
	var one [1]byte
	near.SetDeadline(time.Now().Add(time.Minute))
	if _, err := near.Write(one[:]); err != nil {
		t.Fatal(err)
	}
	if n := socket.set.Load(); n != 0 {
		t.Errorf("a write that does not wait has set %d deadlines", n)
	}
	near.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := near.Write(one[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write after its deadline: %v", err)
	}

	near.SetWriteDeadline(time.Now().Add(time.Minute))
	ended := make(chan error, 1)
	go func() {
		_, err := near.Write(make([]byte, 64<<20))
		ended <- err
	}()
	for socket.set.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	near.SetWriteDeadline(time.Now())
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write whose deadline is brought forward while it waits: %v", err)
	}

	near.SetWriteDeadline(time.Time{})
	go io.Copy(io.Discard, far)
	if _, err := near.Write(make([]byte, 16<<20)); err != nil {
		t.Errorf("a write that waits, without a deadline: %v", err)
	}
}

// paceVar has this program send messages, for BenchmarkMessagesAtRest, to the address in it.
const paceVar = "HAD_TEST_PACE"

func TestMain(m *testing.M) {
	if to := os.Getenv(paceVar); to != "" {
		pace(to)
		return
	}
	os.Exit(m.Run())
}

// pace sends a message every 5 ms, and waits for its answer, until the connection ends.
func pace(to string) {
	conn, err := net.Dial("tcp", to)
	for message := make([]byte, 100); err == nil; time.Sleep(5 * time.Millisecond) {
		if _, err = conn.Write(message); err == nil {
			_, err = io.ReadFull(conn, message)
		}
	}
}

// BenchmarkMessagesAtRest says how often a thread gives up its processor for each message that comes from another program while nothing
// else happens in this one, over the connections of this package and over those of net.
func BenchmarkMessagesAtRest(b *testing.B) {
	for name, plain := range map[string]bool{"direct": false, "net": true} {
		b.Run(name, func(b *testing.B) {
			l, err := System{}.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			pacer := exec.Command("/proc/self/exe")
			pacer.Env = append(os.Environ(), paceVar+"="+l.Addr().String())
			if err := pacer.Start(); err != nil {
				b.Fatal(err)
			}
			defer pacer.Wait()
			conn, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			if plain {
				conn = conn.(*direct).Conn
			}
			var message [100]byte
			before := switches(b)
			for b.Loop() {
				if _, err := io.ReadFull(conn, message[:]); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Write(message[:]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(switches(b)-before)/float64(b.N), "switches/message")
		})
	}
}

func switches(b *testing.B) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Nvcsw
}
