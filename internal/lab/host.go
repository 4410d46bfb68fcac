package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// Interface is the name of every host's interface on the LAN.
	Interface = "eth0"
	// portPrefix and the host's name make the name of its port on the switch.
	portPrefix = "p-"
	// carrierLimit bounds the wait for a new link; the kernel looks at least once a second.
	carrierLimit = 3 * time.Second
)

// Host is a machine on the LAN: a network namespace with the interfaces lo and eth0.
type Host struct {
	lab   *Lab
	name  string
	mac   net.HardwareAddr
	addrs []netip.Prefix
	ns    *namespace
	nl    *netlink.Handle // in the host's namespace
	group *Cgroup         // of what is started; nil: none of the host's own

	mu    sync.Mutex
	procs []*Proc // running ones
	gone  bool
}

// newHost makes a host and plugs it in. Called with lab.mu held.
func newHost(l *Lab, name string, number int, addrs []netip.Prefix) (*Host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{lab: l, name: name, ns: ns, addrs: slices.Clone(addrs),
		mac: net.HardwareAddr{0x02, 'h', 'a', 'd', byte(number >> 8), byte(number)}}
	if err := h.build(); err != nil {
		h.shutdown()
		return nil, err
	}
	return h, nil
}

func (h *Host) build() error {
	nl, err := netlink.NewHandleAt(netns.NsHandle(h.ns.fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	h.nl = nl
	// Without duplicate address detection addresses work at once; without router solicitation nothing is sent that no
	// program asked for.
	if err := h.ns.do(func() error {
		for _, name := range []string{"accept_dad", "dad_transmits", "router_solicitations", "accept_ra"} {
			if err := writeSysctl("net/ipv6/conf/default/"+name, "0"); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("prepare the namespace: %w", err)
	}
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Interface
	attrs.HardwareAddr = h.mac
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: h.Port(), PeerNamespace: netlink.NsFd(h.lab.ns.fd())}
	if err := nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("add %s: %w", Interface, err)
	}
	eth, err := nl.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("find %s: %w", Interface, err)
	}
	if err := h.RestoreAddrs(); err != nil {
		return err
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set %s up: %w", Interface, err)
	}
	port, err := h.lab.nl.LinkByName(h.Port())
	if err != nil {
		return fmt.Errorf("find port %s: %w", h.Port(), err)
	}
	if err := h.lab.nl.LinkSetMasterByIndex(port, h.lab.bridge); err != nil {
		return fmt.Errorf("plug %s into the switch: %w", h.Port(), err)
	}
	if err := h.lab.nl.LinkSetUp(port); err != nil {
		return fmt.Errorf("set port %s up: %w", h.Port(), err)
	}
	if err := awaitUp(h.lab.nl, h.Port()); err != nil {
		return err
	}
	return awaitUp(nl, Interface)
}

// awaitUp waits until the kernel, which notices carrier in the background, takes a link for usable. A bridge forwards nothing
// to a port before that.
func awaitUp(nl *netlink.Handle, name string) error {
	for deadline := time.Now().Add(carrierLimit); ; time.Sleep(time.Millisecond) {
		link, err := nl.LinkByName(name)
		switch {
		case err != nil:
			return fmt.Errorf("find %s: %w", name, err)
		case link.Attrs().OperState == netlink.OperUp:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s is not up after %s: it is %s", name, carrierLimit, link.Attrs().OperState)
		}
	}
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// MAC returns the hardware address of the host's interface.
func (h *Host) MAC() net.HardwareAddr { return slices.Clone(h.mac) }

// Addr returns the first address of the host, without its prefix length.
func (h *Host) Addr() netip.Addr {
	if len(h.addrs) == 0 {
		return netip.Addr{}
	}
	return h.addrs[0].Addr()
}

// Port returns the name of the host's port on the switch.
func (h *Host) Port() string { return portPrefix + h.name }

// Do runs fn on a thread in the host's network namespace and returns its error. fn must not start goroutines that need the
// namespace, and no two functions run on one host at the same time: a fn that waits makes others wait.
func (h *Host) Do(fn func() error) error { return h.ns.do(fn) }

// Netlink returns a handle of the host's own rtnetlink. It belongs to the host and ends with it.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

// Namespace returns a descriptor of the host's network namespace. It belongs to the host and ends with it.
func (h *Host) Namespace() int { return h.ns.fd() }

// Procs returns the host's running processes that [Host.Start] started.
func (h *Host) Procs() []*Proc {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.procs)
}

// AddAddr puts an address on the host's interface by hand, as a careless administrator would.
func (h *Host) AddAddr(prefix netip.Prefix) error { return h.changeAddr("add", prefix, h.nl.AddrAdd) }

// RemoveAddr takes an address off the host's interface behind everybody's back.
func (h *Host) RemoveAddr(prefix netip.Prefix) error {
	return h.changeAddr("remove", prefix, h.nl.AddrDel)
}

func (h *Host) changeAddr(verb string, prefix netip.Prefix, change func(netlink.Link, *netlink.Addr) error) error {
	eth, err := h.nl.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("find %s on %s: %w", Interface, h.name, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := change(eth, addr); err != nil {
		return fmt.Errorf("%s address %s on %s: %w", verb, prefix, h.name, err)
	}
	return nil
}

// FlushAddrs removes all addresses from the host's interface, as `ip addr flush` does, the host's own too, but for the link-local one
// of IPv6, which no kernel makes a second time.
func (h *Host) FlushAddrs() error {
	eth, err := h.nl.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("find %s on %s: %w", Interface, h.name, err)
	}
	list, err := h.nl.AddrList(eth, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", h.name, err)
	}
	for _, addr := range list {
		if addr.IP.IsLinkLocalUnicast() {
			continue
		}
		// With a first address of a subnet the kernel may remove the others of it.
		if err := h.nl.AddrDel(eth, &addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s from %s: %w", addr.IPNet, h.name, err)
		}
	}
	return nil
}

// RestoreAddrs gives the host's interface the host's own addresses.
func (h *Host) RestoreAddrs() error {
	for _, prefix := range h.addrs {
		if err := h.AddAddr(prefix); err != nil {
			return err
		}
	}
	return nil
}

// HasAddr says whether the address is configured on the host's interface, whatever filters do to it.
func (h *Host) HasAddr(addr netip.Addr) (bool, error) {
	eth, err := h.nl.LinkByName(Interface)
	if err != nil {
		return false, fmt.Errorf("find %s on %s: %w", Interface, h.name, err)
	}
	list, err := h.nl.AddrList(eth, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", h.name, err)
	}
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) }), nil
}

// Destroy is the death of the machine: its processes are killed, its link goes down for the others, and nothing of its
// kernel is left that could answer. The host cannot be used any more.
func (h *Host) Destroy() error { return h.shutdown() }

// shutdown kills the processes, waits for their end and lets go of the namespace.
func (h *Host) shutdown() error {
	h.mu.Lock()
	if h.gone {
		h.mu.Unlock()
		return nil
	}
	h.gone = true
	procs := slices.Clone(h.procs)
	h.mu.Unlock()

	var errs []error
	for _, p := range procs {
		p.KillTree()
	}
	for _, p := range procs {
		if err := p.reap(); err != nil {
			errs = append(errs, err)
		}
	}
	if h.nl != nil {
		if eth, err := h.nl.LinkByName(Interface); err == nil {
			if err := h.nl.LinkDel(eth); err != nil {
				errs = append(errs, fmt.Errorf("unplug host %s: %w", h.name, err))
			}
		}
		h.nl.Close()
	}
	if h.group != nil {
		errs = append(errs, h.group.remove())
	}
	h.ns.close()
	return errors.Join(errs...)
}
