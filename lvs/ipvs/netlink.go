package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// answerTime bounds the wait for an answer. The kernel has made it when the request is sent: only one that it does not give is
// waited for.
const answerTime = 200 * time.Millisecond

// Commands of the kernel's include/uapi/linux/ip_vs.h.
const (
	commandGetServices       = 4
	commandNewDestination    = 5
	commandSetDestination    = 6
	commandDeleteDestination = 7
	commandGetDestinations   = 8
	commandNewDaemon         = 9
	commandDeleteDaemon      = 10
	commandGetDaemons        = 11
	commandZero              = 16

	genericVersion   = 1
	genericHeaderLen = 4
)

// Attributes of the first level.
const (
	attributeService     = 1
	attributeDestination = 2
	attributeDaemon      = 3
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

// socket makes requests of generic netlink to IPVS.
type socket struct {
	family  int
	netlink *nl.NetlinkSocket
	sockets map[int]*nl.SocketHandle
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
	timeout := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("set timeout of the generic netlink socket: %w", err)
	}
	return &socket{family: int(family), netlink: s,
		sockets: map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: {Socket: s}}}, nil
}

func (s *socket) close() { s.netlink.Close() }

// do makes a request that changes something. The error wraps the kernel's errno.
func (s *socket) do(command uint8, attributes ...*nl.RtAttr) error {
	_, err := s.request(command, unix.NLM_F_ACK, attributes).Execute(unix.NETLINK_GENERIC, 0)
	return err
}

// dump makes a request for a list and returns the attributes of the answers.
func (s *socket) dump(command uint8, attributes ...*nl.RtAttr) ([][]byte, error) {
	answers, err := s.request(command, unix.NLM_F_DUMP, attributes).Execute(unix.NETLINK_GENERIC, uint16(s.family))
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		answers[i] = a[min(genericHeaderLen, len(a)):]
	}
	return answers, nil
}

func (s *socket) request(command uint8, flags int, attributes []*nl.RtAttr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(s.family, flags)
	req.Sockets = s.sockets
	req.AddData(&nl.Genlmsg{Command: command, Version: genericVersion})
	for _, a := range attributes {
		req.AddData(a)
	}
	return req
}

// bigEndian16 is a number as the network has it: the kernel wants ports so.
func bigEndian16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
