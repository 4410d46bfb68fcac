package rawsock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// configure sets all options of a socket.
func configure(fd int, config Config) error {
	o := options{fd: fd}
	// The device first: a packet that arrives before it is bound would be one of another interface.
	if config.Interface != "" {
		o.add("SO_BINDTODEVICE", unix.BindToDevice(fd, config.Interface))
	}
	o.set("SO_PRIORITY", unix.SOL_SOCKET, unix.SO_PRIORITY, controlPriority)
	if config.ReceiveBuffer > 0 {
		o.set("SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, config.ReceiveBuffer)
	}
	if config.IPv6 {
		o.configureIPv6(config)
	} else {
		o.configureIPv4(config)
	}
	return o.err
}

// options sets options of a socket until the first that fails.
type options struct {
	fd  int
	err error
}

func (o *options) set(name string, level, option, value int) {
	if o.err == nil {
		o.add(name, unix.SetsockoptInt(o.fd, level, option, value))
	}
}

func (o *options) add(name string, err error) {
	if o.err == nil && err != nil {
		o.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (o *options) configureIPv4(config Config) {
	o.set("IP_HDRINCL", unix.IPPROTO_IP, unix.IP_HDRINCL, 1)
	o.set("IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	o.set("IP_MULTICAST_ALL", unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	o.set("IP_MULTICAST_LOOP", unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0)
	if o.err != nil || !config.Group.IsValid() {
		return
	}
	request := &unix.IPMreqn{Multiaddr: config.Group.As4(), Ifindex: int32(config.Index)}
	o.add("IP_MULTICAST_IF", unix.SetsockoptIPMreqn(o.fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, request))
	o.add("IP_ADD_MEMBERSHIP", unix.SetsockoptIPMreqn(o.fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, request))
}

func (o *options) configureIPv6(config Config) {
	o.set("IPV6_CHECKSUM", unix.IPPROTO_IPV6, unix.IPV6_CHECKSUM, checksumOffset)
	o.set("IPV6_TCLASS", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, internetControl)
	o.set("IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	o.set("IPV6_RECVHOPLIMIT", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	o.set("IPV6_MULTICAST_ALL", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	o.set("IPV6_MULTICAST_LOOP", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0)
	if config.TTL != 0 {
		o.set("IPV6_UNICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, config.TTL)
		o.set("IPV6_MULTICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, config.TTL)
	}
	if o.err != nil || !config.Group.IsValid() {
		return
	}
	o.set("IPV6_MULTICAST_IF", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, config.Index)
	request := &unix.IPv6Mreq{Multiaddr: config.Group.As16(), Interface: uint32(config.Index)}
	o.add("IPV6_JOIN_GROUP", unix.SetsockoptIPv6Mreq(o.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, request))
}
