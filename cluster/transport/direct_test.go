package transport

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialled returns both ends of a connection, as [System] makes them.
func dialled(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := System{}.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = System{}.Dial(t.Context(), netip.MustParseAddr("127.0.0.1"), l.Addr().(*net.TCPAddr).AddrPort())
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
	near, far := dialled(t)
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
	near, _ := dialled(t)
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
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := near.Write(make([]byte, 64<<20))
	check("nobody reads", err, os.ErrDeadlineExceeded, true)
	if n == 0 || n == 64<<20 {
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
	first, second := dialled(t)
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

// BenchmarkMessagesAtRest says how often a thread gives up its processor for each message that comes in while nothing else happens, over
// the connections of this package and over those of net.
func BenchmarkMessagesAtRest(b *testing.B) {
	for name, plain := range map[string]bool{"direct": false, "net": true} {
		b.Run(name, func(b *testing.B) {
			near, far := dialled(b)
			if plain {
				near, far = near.(*direct).Conn, far.(*direct).Conn
			}
			go io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far}) // through its Read and Write alone
			var message [100]byte
			time.Sleep(100 * time.Millisecond)
			before := switches(b)
			for b.Loop() {
				time.Sleep(5 * time.Millisecond)
				if _, err := near.Write(message[:]); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(near, message[:]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(switches(b)-before)/float64(2*b.N), "switches/message")
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
