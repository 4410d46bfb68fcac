package address

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
	"github.com/hactl/had/internal/linux/sysctl"
)

// Manager changes and lists addresses in one network namespace. Its methods may be called by any goroutine; requests go
// to the kernel one by one.
type Manager struct {
	conn *rtnl.Conn

	mu       sync.Mutex
	promoted map[int]bool // interfaces, by index, on which a first address takes no others with it
}

// New returns a Manager for the network namespace of the calling thread.
func New() (*Manager, error) {
	conn, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	return &Manager{conn: conn, promoted: map[int]bool{}}, nil
}

// Close ends the use of the Manager.
func (m *Manager) Close() { m.conn.Close() }

// Put adds the address or, if the interface has it, refreshes it: from now on it has these lifetimes. An address that
// somebody else added is adopted.
//
// A first IPv4 address of a prefix takes the others of that prefix with it when it goes, unless the interface promotes secondary
// addresses. Where the machine's own address was gone for a moment, that would be the virtual one, and the machine's
// own would be lost with it, even when nobody is left to remove it. So an address with a limit makes its interface promote.
func (m *Manager) Put(a Address, life Lifetime) error {
	if a.Prefix.Addr().Is4() && life.Valid != Forever {
		if err := m.promote(a.Index); err != nil {
			return fmt.Errorf("put address %v: %w", a, err)
		}
	}
	req, err := requestNew(a, life)
	if err == nil {
		err = m.conn.Do(req)
	}
	if err != nil {
		return fmt.Errorf("put address %v: %w", a, hint(err))
	}
	return nil
}

// promote sets promote_secondaries of an interface, once. A /proc/sys that cannot be written leaves the interface as it is.
func (m *Manager) promote(index int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.promoted[index] {
		return nil
	}
	iface, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil // the request fails by itself
	}
	parameter := sysctl.IPv4(iface.Name, "promote_secondaries")
	if value, err := parameter.GetInt(); err != nil || value != 1 {
		err := parameter.SetInt(1)
		if err != nil && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) && !errors.Is(err, sysctl.ErrNotExist) {
			return err
		}
	}
	m.promoted[index] = true
	return nil
}

// Remove removes the address. It succeeds if the address or the interface does not exist.
func (m *Manager) Remove(a Address) error {
	req, err := requestDelete(a)
	if err == nil {
		err = m.conn.Do(req)
	}
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove address %v: %w", a, err)
	}
	return nil
}

// List returns all addresses of all interfaces.
func (m *Manager) List() ([]Address, error) { return List(m.conn) }

// List returns all addresses of all interfaces.
func List(conn *rtnl.Conn) ([]Address, error) {
	payloads, err := conn.Dump(unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC), unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	addresses := make([]Address, 0, len(payloads))
	for _, payload := range payloads {
		a, err := Parse(payload)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}

// hint adds what an operator can do to errors whose text does not say.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (see net.ipv6.conf.*.disable_ipv6)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (CAP_NET_ADMIN is needed)", err)
	}
	return err
}
