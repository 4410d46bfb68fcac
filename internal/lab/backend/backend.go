// Package backend plays the real servers of a load balancer on hosts of package lab, reached by every method that IPVS
// forwards with, and the connections of clients to them.
package backend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab"
)

// AnswerLimit bounds the wait for an answer: a packet that is lost in a failover is sent again after a while.
const AnswerLimit = 30 * time.Second

// Server is a host that is a real server. Its methods may be called by any goroutine.
type Server struct {
	Host *lab.Host

	mu        sync.Mutex
	listeners map[int]net.Listener // by port
	accepted  []Accepted
}

// Accepted is a connection that came to a server.
type Accepted struct {
	At   time.Time
	Port int
	From netip.AddrPort // the client
}

// Plan says what a server is part of.
type Plan struct {
	Name    string
	Address netip.Prefix
	VIP     netip.Addr // comes with DirectRoute and Tunnel; the server does not answer for it
	// Client is the address that the server reaches by Gateway, as it must where the client's packets were translated: a client
	// of the same LAN would be answered directly otherwise.
	Client, Gateway netip.Addr
}

// Add plugs a server into the LAN. It serves nothing yet.
func Add(l *lab.Lab, p Plan) (*Server, error) {
	h, err := l.AddHost(p.Name, p.Address)
	if err != nil {
		return nil, err
	}
	s := &Server{Host: h, listeners: map[int]net.Listener{}}
	for _, iface := range []string{"all", "default"} {
		for name, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2", "rp_filter": "0"} {
			if err := Sysctl(h, "conf/"+iface+"/"+name, value); err != nil {
				return nil, err
			}
		}
	}
	for _, iface := range []string{"lo", "tunl0"} {
		if err := addTo(h, iface, p.VIP); err != nil {
			return nil, err
		}
	}
	if err := Sysctl(h, "conf/tunl0/rp_filter", "0"); err != nil {
		return nil, err
	}
	to := &net.IPNet{IP: p.Client.AsSlice(), Mask: net.CIDRMask(p.Client.BitLen(), p.Client.BitLen())}
	if err := h.Netlink().RouteAdd(&netlink.Route{Dst: to, Gw: p.Gateway.AsSlice()}); err != nil {
		return nil, fmt.Errorf("route of %s to %s: %w", p.Name, p.Client, err)
	}
	return s, nil
}

// addTo puts an address on another interface than the LAN's, which is set up.
func addTo(h *lab.Host, iface string, a netip.Addr) error {
	link, err := h.Netlink().LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s on %s: %w", iface, h.Name(), err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	return errors.Join(h.Netlink().LinkSetUp(link), h.Netlink().AddrAdd(link, addr))
}

// Sysctl sets a parameter of a host below net/ipv4.
func Sysctl(h *lab.Host, name, value string) error {
	return h.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) })
}

// Forwards makes a host one that forwards packets of clients on its LAN, as a director that translates has to.
func Forwards(h *lab.Host) error {
	errs := []error{Sysctl(h, "ip_forward", "1")}
	for _, iface := range []string{"all", "default", lab.Interface} {
		errs = append(errs, Sysctl(h, "conf/"+iface+"/rp_filter", "0"), Sysctl(h, "conf/"+iface+"/send_redirects", "0"))
	}
	return errors.Join(errs...)
}

// Open serves ports, which are closed: to each client it says the server's name, and then what it is told.
func (s *Server) Open(ports ...int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, port := range ports {
		if s.listeners[port] != nil {
			return fmt.Errorf("port %d of %s is open already", port, s.Host.Name())
		}
		err := s.Host.Do(func() (err error) {
			s.listeners[port], err = net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
			return err
		})
		if err != nil {
			return err
		}
		go s.serve(s.listeners[port], port)
	}
	return nil
}

func (s *Server) serve(l net.Listener, port int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.accepted = append(s.accepted, Accepted{At: time.Now(), Port: port, From: clientOf(c)})
		s.mu.Unlock()
		go func() {
			defer c.Close()
			fmt.Fprintln(c, s.Host.Name())
			_, _ = io.Copy(c, c)
		}()
	}
}

// clientOf is who has connected.
func clientOf(c net.Conn) netip.AddrPort {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// Close closes ports, all if none are given. Connections go on.
func (s *Server) Close(ports ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for port, l := range s.listeners {
		if len(ports) == 0 || slices.Contains(ports, port) {
			l.Close()
			delete(s.listeners, port)
		}
	}
}

// Accepted returns all connections so far, the oldest first.
func (s *Server) Accepted() []Accepted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accepted)
}

// Session is a connection of a client.
type Session struct {
	net.Conn
	Server string // which it goes to
	in     *bufio.Reader
}

// Connect opens a connection and reads which server it goes to. Its port is the client's; 0: any. Dialling keeps others from the
// host.
func Connect(from *lab.Host, port int, to netip.AddrPort, limit time.Duration) (*Session, error) {
	s := &Session{}
	err := from.Do(func() (err error) {
		dialer := net.Dialer{Timeout: limit, LocalAddr: &net.TCPAddr{Port: port}}
		s.Conn, err = dialer.Dial("tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.in = bufio.NewReader(s.Conn)
	line, err := s.in.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Server = strings.TrimSpace(line)
	return s, nil
}

// Echo says something and waits for the answer, for AnswerLimit at most.
func (s *Session) Echo(text string) error {
	if err := s.SetDeadline(time.Now().Add(AnswerLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(s, text+"\n"); err != nil {
		return err
	}
	line, err := s.in.ReadString('\n')
	if err == nil && line != text+"\n" {
		err = fmt.Errorf("%q came back as %q", text, line)
	}
	return err
}
