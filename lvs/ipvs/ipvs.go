// Package ipvs is the door to the kernel's IPVS: it reads its table, changes it step by step, and starts and stops the
// synchronization of connections. It speaks generic netlink by itself (netlink.go), since a large table is to be there soon: many
// changes are one call of the kernel.
package ipvs

import (
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
	"github.com/hactl/had/lvs"
)

// family is the name of IPVS in generic netlink.
const family = "IPVS"

// UnsupportedError says that this kernel has no IPVS, or that the process may not ask for it.
type UnsupportedError struct{ Cause error }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the kernel has no IPVS: %v; load the module ip_vs, or use a kernel that has it", e.Cause)
}

func (e *UnsupportedError) Unwrap() error { return e.Cause }

// Probe asks the kernel for IPVS in the network namespace of the calling thread. The error is an *UnsupportedError. It
// needs no privilege, and may be called at any time: a module that is loaded later is found then.
func Probe() error {
	_, err := probe()
	return err
}

func probe() (id uint16, err error) {
	f, err := netlink.GenlFamilyGet(family)
	if err != nil {
		return 0, &UnsupportedError{Cause: err}
	}
	return f.ID, nil
}

// What the kernel answers when its table is not what the caller took it for. Reading it again helps.
var (
	ErrNoService     = errors.New("the kernel has no such service")
	ErrNoDestination = errors.New("the service has no such destination in the kernel")
	ErrExists        = errors.New("the kernel has it already")
)

// MissingError says that the kernel has no scheduler of this name, or no persistence engine of this name: it does not say
// which. Their modules are called ip_vs_NAME and ip_vs_pe_NAME.
type MissingError struct{ Scheduler, Engine string }

func (e *MissingError) Error() string {
	if e.Engine == "" {
		return fmt.Sprintf("the kernel has no scheduler %s (module ip_vs_%s)", e.Scheduler, e.Scheduler)
	}
	return fmt.Sprintf("the kernel has no scheduler %s (module ip_vs_%s) or no persistence engine %s (module ip_vs_pe_%s)",
		e.Scheduler, e.Scheduler, e.Engine, e.Engine)
}

// MixedError says that the kernel does not take a destination of another address family than its service's: it does so
// with tunnels alone, and not while the synchronization of connections runs.
type MixedError struct{}

func (*MixedError) Error() string {
	return "a real server of another address family than the virtual server's needs lvs_method TUN, and no lvs_sync_daemon"
}

// Conn changes and reads the IPVS of one network namespace. One goroutine at a time may call its methods. The kernel answers each
// request at once: an answer that is not there is an error.
type Conn struct{ kernel *socket }

// Open returns a Conn for the network namespace that path names, or of the calling thread if it is empty. A kernel whose
// module is not loaded yet is made to load it. The error is an *UnsupportedError if there is no IPVS.
func Open(path string) (*Conn, error) {
	id, err := probe()
	if err != nil {
		// A kernel that has it built in has no module, and a machine without modprobe may have it loaded: only what is
		// found afterwards counts.
		_ = exec.Command("modprobe", "ip_vs").Run()
		if id, err = probe(); err != nil {
			return nil, err
		}
	}
	kernel, err := open(path, id)
	if err != nil {
		return nil, err
	}
	return &Conn{kernel}, nil
}

// Close ends the use of the Conn.
func (c *Conn) Close() { c.kernel.close() }

// Apply makes changes, in order, and returns an error for each, nil for those that the kernel has made; what follows one that it
// has not made is made nonetheless. Connections stay when a service or a destination is changed. Those of a destination that is
// deleted stay for as long as their time limits say, and get no further packets. The errors may be ErrExists, ErrNoService,
// ErrNoDestination, a *MissingError and a *MixedError.
func (c *Conn) Apply(changes []lvs.Change) []error {
	requests := make([]request, 0, len(changes))
	for _, change := range changes {
		requests = append(requests, requestFor(change))
	}
	errs := c.kernel.all(requests)
	for i, err := range errs {
		if err == nil {
			continue
		}
		switch change := changes[i]; change.Operation {
		case lvs.AddService, lvs.EditService, lvs.DeleteService:
			errs[i] = serviceError(err, change.Service)
		default:
			errs[i] = destinationError(err, change)
		}
	}
	return errs
}

func requestFor(c lvs.Change) request {
	switch c.Operation {
	case lvs.AddService:
		return request{commandNewService, serviceAttributes(c.Key, &c.Service)}
	case lvs.EditService:
		return request{commandSetService, serviceAttributes(c.Key, &c.Service)}
	case lvs.DeleteService:
		return request{commandDeleteService, serviceAttributes(c.Key, nil)}
	case lvs.AddDestination:
		return request{commandNewDestination, destinationAttributes(c.Key, c.Server, &c.Destination)}
	case lvs.EditDestination:
		return request{commandSetDestination, destinationAttributes(c.Key, c.Server, &c.Destination)}
	default:
		return request{commandDeleteDestination, destinationAttributes(c.Key, c.Server, nil)}
	}
}

// serviceError names what the kernel means by its answer to a request about a service.
func serviceError(err error, s lvs.Service) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return ErrExists
	case errors.Is(err, unix.ESRCH):
		return ErrNoService
	case errors.Is(err, unix.ENOENT):
		return &MissingError{Scheduler: s.Scheduler, Engine: s.Persistence.Engine}
	default:
		return err
	}
}

// destinationError names what the kernel means by its answer to a request about a destination.
func destinationError(err error, c lvs.Change) error {
	invalid := errors.Is(err, unix.EINVAL) && c.Operation != lvs.DeleteDestination
	switch {
	case errors.Is(err, unix.EEXIST):
		return ErrExists
	case errors.Is(err, unix.ESRCH):
		return ErrNoService
	case errors.Is(err, unix.ENOENT):
		return ErrNoDestination
	case invalid && c.Key.Family != familyOf(c.Server):
		return &MixedError{}
	case invalid:
		return fmt.Errorf("the kernel does not take it for a real server (its address must be a unicast one): %w", err)
	default:
		return err
	}
}

// Flush removes all services.
func (c *Conn) Flush() error { return c.kernel.do(request{command: commandFlush}) }

// Zero sets the statistics of a service and its destinations to zero. The error may be ErrNoService.
func (c *Conn) Zero(key lvs.ServiceKey) error {
	return serviceError(c.kernel.do(request{commandZero, serviceAttributes(key, nil)}), lvs.Service{})
}

// Timeouts are the spans after which a connection without packets is forgotten, in whole seconds.
type Timeouts struct{ TCP, TCPFin, UDP time.Duration }

// Timeouts returns those of the namespace.
func (c *Conn) Timeouts() (t Timeouts, err error) {
	err = c.kernel.ask(request{command: commandGetTimeouts}, unix.NLM_F_ACK, func(b []byte) {
		for kind, value := range rtnl.Attributes(b) {
			limit := time.Duration(rtnl.Uint32(value)) * time.Second
			switch kind {
			case attributeTCP:
				t.TCP = limit
			case attributeTCPFin:
				t.TCPFin = limit
			case attributeUDP:
				t.UDP = limit
			}
		}
	})
	if err != nil {
		return Timeouts{}, fmt.Errorf("read the time limits of connections: %w", err)
	}
	return t, nil
}

// SetTimeouts changes those that are not zero.
func (c *Conn) SetTimeouts(t Timeouts) error {
	a := attributes{}.uint32(attributeTCP, uint32(t.TCP/time.Second)).uint32(attributeTCPFin, uint32(t.TCPFin/time.Second)).
		uint32(attributeUDP, uint32(t.UDP/time.Second))
	if err := c.kernel.do(request{commandSetTimeouts, a}); err != nil {
		return fmt.Errorf("set the time limits of connections: %w", err)
	}
	return nil
}
