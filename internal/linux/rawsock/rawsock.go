// Package rawsock sends and receives VRRP messages in raw IP sockets, on the wire as keepalived's.
//
// IPv4: a 20 byte header without options, TOS 0xC0, don't fragment clear, an identification that counts up. IPv6: traffic
// class 0xC0, the checksum of the message computed and verified by the kernel. Multicast loopback is off. A socket is
// bound to its interface and, for multicast, joins one group there; a unicast socket takes no multicast.
package rawsock

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Protocol is the IP protocol number of VRRP.
const Protocol = 112

const (
	// internetControl is the TOS or traffic class of VRRP messages: CS6.
	internetControl = 0xc0

	// checksumOffset is the place of the checksum in a VRRP message of either version, in bytes.
	checksumOffset = 6

	// controlPriority is TC_PRIO_CONTROL: a queue on this machine that prefers anything prefers VRRP.
	controlPriority = 7

	// packetSize holds the largest message with an IPv4 header and options: 255 IPv6 addresses.
	packetSize = 8192
	// controlSize holds what the kernel says of a message.
	controlSize = 256
)

// Config says what a Socket is bound to.
type Config struct {
	IPv6 bool

	// Interface and Index name the interface. They may be unset together for a unicast socket, which then takes messages
	// from every interface.
	Interface string
	Index     int

	// Group is the multicast group to join; not valid: a unicast socket.
	Group netip.Addr

	// TTL is the TTL or hop limit of what is sent, 1 to 255. 0 means the kernel's default, for IPv6 unicast only.
	TTL int

	// ReceiveBuffer is the size of the kernel's receive buffer in bytes; 0: the kernel's default.
	ReceiveBuffer int
}

// Datagram is a received message.
type Datagram struct {
	Src, Dst netip.Addr // without zone
	TTL      int        // TTL or hop limit
	Index    int        // of the interface on which it arrived
	Payload  []byte     // the VRRP message
}

// Socket is a raw VRRP socket. Send may be called by any goroutine, Receive by one.
type Socket struct {
	config Config
	file   *os.File
	conn   syscall.RawConn

	messages     [atOnce]message // of Receive
	next, filled int             // of the messages: the next one, and behind the last one

	mu             sync.Mutex // guards what follows, of Send
	identification uint16
	packet         []byte
}

// Open opens a socket in the network namespace of the calling thread.
func Open(config Config) (*Socket, error) {
	s, err := open(config)
	if err != nil {
		return nil, fmt.Errorf("open VRRP socket %v: %w", config, err)
	}
	return s, nil
}

// String names what the socket is bound to.
func (c Config) String() string {
	what := "unicast"
	if c.Group.IsValid() {
		what = c.Group.String()
	}
	family := "IPv4"
	if c.IPv6 {
		family = "IPv6"
	}
	if c.Interface == "" {
		return fmt.Sprintf("(%s, %s)", family, what)
	}
	return fmt.Sprintf("(%s, %s on %s)", family, what, c.Interface)
}

func open(config Config) (*Socket, error) {
	switch {
	case config.Group.IsValid() && (!config.Group.IsMulticast() || config.Group.Is6() != config.IPv6):
		return nil, fmt.Errorf("%v is not a group of this family", config.Group)
	case (config.Interface == "") != (config.Index == 0):
		return nil, fmt.Errorf("interface %q and index %d do not belong together", config.Interface, config.Index)
	case config.Group.IsValid() && config.Index == 0:
		return nil, errors.New("a multicast socket needs an interface")
	case config.TTL < 0 || config.TTL > 255 || config.TTL == 0 && (config.Group.IsValid() || !config.IPv6):
		return nil, fmt.Errorf("TTL %d is not in 1..255", config.TTL)
	}
	family := unix.AF_INET
	if config.IPv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, Protocol)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := configure(fd, config); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "vrrp")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Socket{config: config, file: file, conn: conn}, nil
}

// Close ends Receive and Send, which return os.ErrClosed.
func (s *Socket) Close() error { return s.file.Close() }
