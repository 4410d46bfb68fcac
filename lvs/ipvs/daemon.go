package ipvs

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

// Role is what a synchronization daemon of the kernel does. A namespace can have one of each.
type Role uint32

// The roles, as the kernel numbers them.
const (
	Master Role = 1 // tells the others of this director's connections
	Backup Role = 2 // learns of the others' connections
)

// Daemon is a thread of the kernel that sends or receives the connections of a director.
type Daemon struct {
	Role      Role
	Interface string
	ID        uint8          // a Backup listens to Masters of the same ID; 0: to all
	MaxLen    uint16         // bytes of a message; 0: as the interface allows
	Group     netip.AddrPort // multicast group and port; not valid, or port 0: 224.0.0.81, port 8848
	TTL       uint8          // 0: 1
}

// The group that the kernel takes where none is given.
var defaultGroup = netip.MustParseAddrPort("224.0.0.81:8848")

// StartDaemon starts one. The error may be ErrExists: there is one of this role.
func (c *Conn) StartDaemon(d Daemon) error {
	a := attributes{}.uint32(daemonState, uint32(d.Role)).text(daemonInterface, d.Interface).uint32(daemonID, uint32(d.ID))
	if d.MaxLen > 0 {
		a = a.uint16(daemonMaxLen, d.MaxLen)
	}
	switch g := d.Group.Addr(); {
	case g.Is4():
		a = a.address(daemonGroup, g)
	case g.Is6():
		a = a.address(daemonGroup6, g)
	}
	if port := d.Group.Port(); port > 0 {
		a = a.uint16(daemonPort, port)
	}
	if d.TTL > 0 {
		a = a.add(daemonTTL, d.TTL)
	}
	switch err := c.kernel.do(request{commandNewDaemon, attributes{}.add(attributeDaemon, a...)}); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return ErrExists
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("start the synchronization of connections: there is no interface %s", d.Interface)
	default:
		return fmt.Errorf("start the synchronization of connections on %s: %w", d.Interface, err)
	}
}

// StopDaemon stops the one of this role, if there is one.
func (c *Conn) StopDaemon(r Role) error {
	a := attributes{}.add(attributeDaemon, attributes{}.uint32(daemonState, uint32(r))...)
	// There is no answer (EAGAIN) if the thread is stopped before it has run at all.
	err := c.kernel.do(request{commandDeleteDaemon, a})
	if err == nil || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return fmt.Errorf("stop the synchronization of connections: %w", err)
}

// Daemons returns those that run, with everything that the kernel chose.
func (c *Conn) Daemons() ([]Daemon, error) {
	var all []Daemon
	err := c.kernel.dump(request{command: commandGetDaemons}, func(answer []byte) {
		all = append(all, decodeDaemon(inner(answer, attributeDaemon)))
	})
	if err != nil {
		return nil, fmt.Errorf("read the synchronization of connections: %w", err)
	}
	return all, nil
}

func decodeDaemon(attributes []byte) (d Daemon) {
	group, port := defaultGroup.Addr(), defaultGroup.Port()
	for kind, value := range rtnl.Attributes(attributes) {
		switch kind {
		case daemonState:
			d.Role = Role(rtnl.Uint32(value))
		case daemonInterface:
			d.Interface = unix.ByteSliceToString(value)
		case daemonID:
			d.ID = uint8(rtnl.Uint32(value))
		case daemonMaxLen:
			d.MaxLen = uint16From(value)
		case daemonGroup, daemonGroup6:
			if g, ok := netip.AddrFromSlice(value); ok {
				group = g
			}
		case daemonPort:
			port = uint16From(value)
		case daemonTTL:
			if len(value) > 0 {
				d.TTL = value[0]
			}
		}
	}
	d.Group = netip.AddrPortFrom(group, port)
	return d
}
