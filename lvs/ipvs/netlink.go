package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Commands of the kernel's include/uapi/linux/ip_vs.h.
const (
	commandNewService        = 1
	commandSetService        = 2
	commandDeleteService     = 3
	commandGetServices       = 4
	commandNewDestination    = 5
	commandSetDestination    = 6
	commandDeleteDestination = 7
	commandGetDestinations   = 8
	commandNewDaemon         = 9
	commandDeleteDaemon      = 10
	commandGetDaemons        = 11
	commandSetTimeouts       = 12
	commandGetTimeouts       = 13
	commandZero              = 16
	commandFlush             = 17

	genericVersion   = 1
	genericHeaderLen = 4
)

// Attributes of the first level.
const (
	attributeService     = 1
	attributeDestination = 2
	attributeDaemon      = 3
	attributeTCP         = 4 // time limits of connections, in seconds
	attributeTCPFin      = 5
	attributeUDP         = 6
)

// Attributes of a service.
const (
	serviceFamily    = 1
	serviceProtocol  = 2
	serviceAddress   = 3
	servicePort      = 4
	serviceMark      = 5
	serviceScheduler = 6
	serviceFlags     = 7
	serviceTimeout   = 8
	serviceNetmask   = 9
	serviceEngine    = 11
	serviceStats64   = 12
)

// Flags of a service.
const (
	flagPersistent = 1
	flagOnePacket  = 4
	flagFirst      = 8
	flagSecond     = 16
	flagThird      = 32
)

// Attributes of a destination.
const (
	destinationAddress     = 1
	destinationPort        = 2
	destinationMethod      = 3
	destinationWeight      = 4
	destinationUpper       = 5
	destinationLower       = 6
	destinationActive      = 7
	destinationInactive    = 8
	destinationPersistent  = 9
	destinationFamily      = 11
	destinationStats64     = 12
	destinationTunnelType  = 13
	destinationTunnelPort  = 14
	destinationTunnelFlags = 15
)

// Methods of forwarding, and flags of tunnels.
const (
	methodNAT    = 0
	methodTunnel = 2
	methodDirect = 3
	methodMask   = 7

	tunnelChecksum       = 1
	tunnelRemoteChecksum = 2
)

// Attributes of statistics.
const (
	statsConnections          = 1
	statsPacketsIn            = 2
	statsPacketsOut           = 3
	statsBytesIn              = 4
	statsBytesOut             = 5
	statsConnectionsPerSecond = 6
	statsPacketsInPerSecond   = 7
	statsPacketsOutPerSecond  = 8
	statsBytesInPerSecond     = 9
	statsBytesOutPerSecond    = 10
)

// Attributes of a synchronization daemon.
const (
	daemonState     = 1
	daemonInterface = 2
	daemonID        = 3
	daemonMaxLen    = 4
	daemonGroup     = 5
	daemonGroup6    = 6
	daemonPort      = 7
	daemonTTL       = 8
)

// Sizes of messages.
const (
	headerLen  = unix.SizeofNlMsghdr + genericHeaderLen
	answerMax  = 64 << 10 // bytes; the kernel's are of at most 32 KiB
	usualMax   = 192      // the attributes of most requests
	batchMax   = 64       // requests that are sent at once: the errors of all fit the socket's buffer
	errnoBytes = 4
)

// request is one of generic netlink.
type request struct {
	command uint8
	attributes
}

// socket makes requests of generic netlink to IPVS. The kernel works on them while they are sent, and has answered by then.
type socket struct {
	family   uint16
	netlink  *nl.NetlinkSocket
	sequence uint32 // of the last request
	in, out  []byte
}

// open returns a socket in the network namespace that path names, or in the calling thread's if it is empty.
func open(path string, family uint16) (*socket, error) {
	ns := netns.None()
	if path != "" {
		var err error
		if ns, err = netns.GetFromPath(path); err != nil {
			return nil, fmt.Errorf("open the network namespace %s: %w", path, err)
		}
		defer ns.Close()
	}
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open a generic netlink socket: %w", err)
	}
	return &socket{family: family, netlink: s, in: make([]byte, answerMax)}, nil
}

func (s *socket) close() { s.netlink.Close() }

// do makes a request that changes something. The error wraps the kernel's errno.
func (s *socket) do(r request) error { return s.all([]request{r})[0] }

// all makes requests that change something, and returns an error for each. One that fails does not keep the kernel from the next.
func (s *socket) all(requests []request) []error {
	errs := make([]error, len(requests))
	for first := 0; first < len(requests); first += batchMax {
		end := min(first+batchMax, len(requests))
		s.batch(requests[first:end], errs[first:end])
	}
	return errs
}

// batch makes a few requests. The kernel answers to those that fail, and to the last.
func (s *socket) batch(requests []request, errs []error) {
	s.out = s.out[:0]
	before := s.sequence
	for i, r := range requests {
		flags := 0
		if i == len(requests)-1 {
			flags = unix.NLM_F_ACK
		}
		s.write(r, flags)
	}
	err := s.send()
	for answered := false; err == nil && !answered; {
		err = s.receive(func(h header, errno unix.Errno, _ []byte) {
			if i := h.sequence - before - 1; h.kind == unix.NLMSG_ERROR && i < uint32(len(errs)) {
				if errno != 0 {
					errs[i] = errno
				}
				answered = answered || h.sequence == s.sequence
			}
		})
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
}

// ask makes a request for something or, with the flag for that, for a list, and calls f with the attributes of each answer, which are
// valid until f returns.
func (s *socket) ask(r request, flags int, f func(attributes []byte)) error {
	s.out = s.out[:0]
	s.write(r, flags)
	err := s.send()
	var refused unix.Errno
	for ended := false; err == nil && !ended; {
		err = s.receive(func(h header, errno unix.Errno, payload []byte) {
			switch {
			case h.sequence != s.sequence:
			case h.kind == unix.NLMSG_DONE, h.kind == unix.NLMSG_ERROR:
				refused, ended = errno, true
			case h.kind == s.family:
				f(payload[min(genericHeaderLen, len(payload)):])
			}
		})
	}
	if err == nil && refused != 0 {
		err = refused
	}
	return err
}

func (s *socket) dump(r request, f func(attributes []byte)) error {
	return s.ask(r, unix.NLM_F_DUMP, f)
}

// write appends a request to what is sent.
func (s *socket) write(r request, flags int) {
	s.sequence++
	native := binary.NativeEndian
	s.out = native.AppendUint32(s.out, uint32(headerLen+len(r.attributes)))
	s.out = native.AppendUint16(s.out, s.family)
	s.out = native.AppendUint16(s.out, uint16(unix.NLM_F_REQUEST|flags))
	s.out = native.AppendUint32(s.out, s.sequence)
	s.out = native.AppendUint32(s.out, 0) // the kernel knows the socket
	s.out = append(s.out, r.command, genericVersion, 0, 0)
	s.out = append(s.out, r.attributes...)
}

func (s *socket) send() error {
	return os.NewSyscallError("sendto", unix.Sendto(s.netlink.GetFd(), s.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// header is what of a message's header counts.
type header struct {
	kind     uint16
	sequence uint32
}

// receive takes in one datagram of answers.
func (s *socket) receive(f func(h header, errno unix.Errno, payload []byte)) error {
	n, _, err := unix.Recvfrom(s.netlink.GetFd(), s.in, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	for b := s.in[:n]; len(b) >= unix.SizeofNlMsghdr; {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return errors.New("the kernel's answer is cut off")
		}
		h := header{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])}
		payload := b[unix.SizeofNlMsghdr:length]
		var errno unix.Errno
		if (h.kind == unix.NLMSG_ERROR || h.kind == unix.NLMSG_DONE) && len(payload) >= errnoBytes {
			errno = unix.Errno(-int32(binary.NativeEndian.Uint32(payload)))
		}
		f(h, errno, payload)
		b = b[min((length+attributeAlign-1)&^(attributeAlign-1), len(b)):]
	}
	return nil
}

const (
	attributeHeaderLen = 4
	attributeAlign     = 4
)

// attributes are those of a request, as the kernel wants them.
type attributes []byte

func (a attributes) header(kind uint16, length int) attributes {
	a = binary.NativeEndian.AppendUint16(a, uint16(attributeHeaderLen+length))
	return binary.NativeEndian.AppendUint16(a, kind)
}

func (a attributes) add(kind uint16, value ...byte) attributes {
	a = append(a.header(kind, len(value)), value...)
	for len(a)%attributeAlign != 0 {
		a = append(a, 0)
	}
	return a
}

func (a attributes) uint16(kind, n uint16) attributes {
	return append(binary.NativeEndian.AppendUint16(a.header(kind, 2), n), 0, 0)
}

func (a attributes) uint32(kind uint16, n uint32) attributes {
	return binary.NativeEndian.AppendUint32(a.header(kind, 4), n)
}

// text adds a text with the zero that ends it.
func (a attributes) text(kind uint16, s string) attributes {
	return a.add(kind, append([]byte(s), 0)...)
}

// port adds a number as the network has it: the kernel wants most ports so.
func (a attributes) port(kind, n uint16) attributes { return a.add(kind, byte(n>>8), byte(n)) }

func (a attributes) address(kind uint16, address netip.Addr) attributes {
	if address.Is4() {
		b := address.As4()
		return a.add(kind, b[:]...)
	}
	b := address.As16()
	return a.add(kind, b[:]...)
}

// nested adds an attribute that holds those that fill adds.
func (a attributes) nested(kind uint16, fill func(attributes) attributes) attributes {
	start := len(a)
	a = fill(a.header(kind, 0))
	binary.NativeEndian.PutUint16(a[start:], uint16(len(a)-start))
	return a
}
