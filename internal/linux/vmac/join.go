package vmac

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

func isUnsupported(err error) bool { return errors.Is(err, unix.EOPNOTSUPP) }
func isGone(err error) bool        { return errors.Is(err, unix.ENODEV) }

// Membership keeps an interface in multicast groups.
type Membership struct{ fds []int }

// Join makes the interface with this index a member of the groups until Close. The error names the groups that could not be
// joined; the others are.
func Join(index int, groups []netip.Addr) (*Membership, error) {
	m := &Membership{}
	four, six := -1, -1
	var errs []error
	for _, g := range groups {
		if err := m.join(index, g, &four, &six); err != nil {
			errs = append(errs, fmt.Errorf("join %v on interface %d: %w", g, index, err))
		}
	}
	return m, errors.Join(errs...)
}

func (m *Membership) join(index int, group netip.Addr, four, six *int) error {
	fd, family := four, unix.AF_INET
	if group.Is6() {
		fd, family = six, unix.AF_INET6
	}
	if *fd < 0 {
		opened, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		*fd = opened
		m.fds = append(m.fds, opened)
	}
	if group.Is4() {
		return unix.SetsockoptIPMreqn(*fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
			&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
	}
	err := unix.SetsockoptIPv6Mreq(*fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil // two addresses with one solicited-node group
	}
	return err
}

// Close leaves the groups.
func (m *Membership) Close() error {
	var errs []error
	for _, fd := range m.fds {
		errs = append(errs, unix.Close(fd))
	}
	m.fds = nil
	return errors.Join(errs...)
}

// SolicitedNode is the group that an IPv6 address is asked for in (RFC 4291 section 2.7.1).
func SolicitedNode(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
