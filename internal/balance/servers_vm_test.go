//go:build integ

package balance

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// realServer is a service of the real servers that can be closed and opened again.
type realServer struct {
	field *field
	at    string
	serve func(net.Listener)

	mu       sync.Mutex
	listener net.Listener
}

// open starts a TCP service at an address of the real servers. serve ends with its listener.
func (f *field) open(at string, serve func(net.Listener)) *realServer {
	s := &realServer{field: f, at: at, serve: serve}
	s.up()
	f.t.Cleanup(s.down)
	return s
}

func (s *realServer) up() {
	s.field.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	check(s.field.t, s.field.servers.Do(func() (err error) {
		s.listener, err = net.Listen("tcp", s.at)
		return err
	}))
	go s.serve(s.listener)
}

func (s *realServer) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener.Close()
}

// greet serves what is connected to and says something at once.
func greet(text string) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, text)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}
}

// postbox is a mail server that keeps the subjects of what each host sends.
type postbox struct {
	mu       sync.Mutex
	subjects map[string][]string // by address
}

func newPostbox() *postbox { return &postbox{subjects: map[string][]string{}} }

func (b *postbox) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, "220 mail ready\r\n")
			inside := false // of a letter
			for in := bufio.NewScanner(c); in.Scan(); {
				switch line := strings.TrimSuffix(in.Text(), "\r"); {
				case inside && line != ".":
					if subject, is := strings.CutPrefix(line, "Subject: "); is {
						b.mu.Lock()
						b.subjects[from] = append(b.subjects[from], subject)
						b.mu.Unlock()
					}
				case line == "DATA":
					inside = true
					_, _ = io.WriteString(c, "354 go on\r\n")
				case line == "QUIT":
					_, _ = io.WriteString(c, "221 bye\r\n")
					return
				default:
					inside = false
					_, _ = io.WriteString(c, "250 as you like\r\n")
				}
			}
		}()
	}
}

// take returns what a host has sent since the last time, in the order of the alphabet: letters may overtake each other.
func (b *postbox) take(from string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	subjects := b.subjects[from]
	delete(b.subjects, from)
	slices.Sort(subjects)
	return strings.Join(subjects, "\n")
}

// web is an HTTP service with a status that can be changed.
type web struct{ status atomic.Int64 }

func newWeb() *web {
	w := &web{}
	w.status.Store(http.StatusOK)
	return w
}

func (w *web) serve(l net.Listener) {
	handler := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(int(w.status.Load()))
		fmt.Fprintln(rw, "hello")
	})
	s := &http.Server{Handler: handler}
	s.SetKeepAlivesEnabled(false)
	_ = s.Serve(l)
}

// serveTLS is serve behind a certificate that nobody knows.
func (w *web) serveTLS(t testing.TB) func(net.Listener) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(l net.Listener) { w.serve(tls.NewListener(l, config)) }
}

// openUDP starts a service that answers each datagram, until it is closed; nil: it does not.
func (f *field) openUDP(at string, answer func(datagram []byte) []byte) net.PacketConn {
	f.t.Helper()
	var conn net.PacketConn
	check(f.t, f.servers.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", at)
		return err
	}))
	f.t.Cleanup(func() { conn.Close() })
	go func() {
		for b := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if text := answer(b[:n]); text != nil {
				_, _ = conn.WriteTo(text, from)
			}
		}
	}()
	return conn
}

// same sends back what it gets.
func same(datagram []byte) []byte { return datagram }

// names is a name server that knows one address, or refuses.
type names struct{ refuses atomic.Bool }

// answer answers a query.
func (n *names) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) == 0 {
		return nil
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	if n.refuses.Load() {
		m.RCode = dnsmessage.RCodeServerFailure
	} else {
		q := m.Questions[0]
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}
