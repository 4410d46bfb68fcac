package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridge is the name of the switch's bridge inside the switch's namespace.
const bridge = "br0"

// Options says how the LAN is made. The zero value is a plain learning switch.
type Options struct {
	// Snooping makes the switch forward multicast only where somebody reported membership (IGMP and MLD snooping
	// without a querier: what many real switches do to VRRP).
	Snooping bool
	// Logger takes a debug line per fault and process; nil discards them.
	Logger *slog.Logger
}

// Lab is a switch, the hosts plugged into it, and the faults in force.
type Lab struct {
	log    *slog.Logger
	ns     *namespace      // the switch's namespace
	nl     *netlink.Handle // in the switch's namespace
	bridge int             // interface index of the bridge
	stop   func() bool     // ends the watch on the context

	mu     sync.Mutex
	hosts  []*Host
	faults []*Fault // in the order in which they were made
	closed bool
}

// New builds the switch. It needs CAP_NET_ADMIN and CAP_SYS_ADMIN, as root has them and as a process has them inside its own
// user namespace ([Main]). When ctx ends every process on the LAN is killed; Close is still needed.
func New(ctx context.Context, opts Options) (*Lab, error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ns, err := newNamespace()
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("%w: %w", err, ErrPrivilege)
		}
		return nil, err
	}
	l := &Lab{log: log, ns: ns}
	if err := l.buildSwitch(opts); err != nil {
		l.Close()
		return nil, err
	}
	l.stop = context.AfterFunc(ctx, func() { l.killAll() })
	return l, nil
}

func (l *Lab) buildSwitch(opts Options) error {
	nl, err := netlink.NewHandleAt(netns.NsHandle(l.ns.fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink of the switch: %w", err)
	}
	l.nl = nl
	// The switch has no addresses and speaks no IPv6 of its own, and bridged packets do not pass the IP hooks. The
	// latter file exists only with br_netfilter.
	if err := l.ns.do(func() error {
		if err := writeSysctl("net/ipv6/conf/all/disable_ipv6", "1"); err != nil {
			return err
		}
		if err := writeSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
			return err
		}
		for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"} {
			if err := writeSysctl("net/bridge/"+name, "0"); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("prepare the switch: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	snooping := opts.Snooping
	if err := nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("add bridge %s: %w", bridge, err)
	}
	link, err := nl.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	l.bridge = link.Attrs().Index
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge %s up: %w", bridge, err)
	}
	return nil
}

// writeSysctl sets a file below /proc/sys for the calling thread's network namespace. A file that the kernel does not have
// is no error: then there is nothing to set.
func writeSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// AddHost plugs a new host into the switch. It has the interfaces lo and eth0, which is up, has the addresses given and a
// link-local one, and skips duplicate address detection, so that it is usable at once. Names are unique and at most 11
// bytes long.
func (l *Lab) AddHost(name string, addrs ...netip.Prefix) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if name == "" || len(name) > unix.IFNAMSIZ-1-len(portPrefix) {
		return nil, fmt.Errorf("add host %q: the name must have 1 to %d bytes", name, unix.IFNAMSIZ-1-len(portPrefix))
	}
	for _, h := range l.hosts {
		if h.name == name {
			return nil, fmt.Errorf("add host %s: there is one of this name", name)
		}
	}
	h, err := newHost(l, name, len(l.hosts)+1, addrs)
	if err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	l.hosts = append(l.hosts, h)
	return h, nil
}

// Host returns the host of this name, or nil.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// Hosts returns the hosts in the order in which they were added.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Host(nil), l.hosts...)
}

// killAll kills every process on every host and returns at once.
func (l *Lab) killAll() {
	for _, h := range l.Hosts() {
		for _, p := range h.Procs() {
			p.KillTree()
		}
	}
}

// Close kills every process, waits for their end and removes the LAN. It may be called more than once.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	hosts := l.hosts
	l.mu.Unlock()

	if l.stop != nil {
		l.stop()
	}
	l.killAll()
	var errs []error
	for _, h := range hosts {
		if err := h.shutdown(); err != nil {
			errs = append(errs, err)
		}
	}
	if l.nl != nil {
		l.nl.Close()
	}
	l.ns.close()
	return errors.Join(errs...)
}
