// Package ipvs is the door to the kernel's IPVS: it reads its table, changes it step by step, and starts and stops the
// synchronization of connections. Services and time limits go through github.com/moby/ipvs; what that lacks or would
// lose, which is all of reading and all of destinations, goes through generic netlink beside it (netlink.go).
package ipvs

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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

// Conn changes and reads the IPVS of one network namespace. One goroutine at a time may call its methods. Each request is
// answered by the kernel at once; an answer that does not come within answerTime is an error.
type Conn struct {
	services *moby.Handle
	kernel   *socket
}

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
	logrus.SetOutput(io.Discard) // the library's complaints about modprobe
	services, err := moby.New(path)
	if err != nil {
		return nil, fmt.Errorf("open a socket for IPVS: %w", err)
	}
	kernel, err := open(path, id)
	if err != nil {
		services.Close()
		return nil, err
	}
	c := &Conn{services: services, kernel: kernel}
	// The library looks for the family once in a process's life.
	if _, err := c.Timeouts(); err != nil {
		c.Close()
		if errors.Is(err, unix.ENOENT) {
			err = &UnsupportedError{Cause: errors.New("its module was unloaded and loaded again; a new start of this program finds it")}
		}
		return nil, err
	}
	return c, nil
}

// Close ends the use of the Conn.
func (c *Conn) Close() {
	c.services.Close()
	c.kernel.close()
}

// AddService adds a service without destinations. The error may be ErrExists or a *MissingError.
func (c *Conn) AddService(key lvs.ServiceKey, s lvs.Service) error {
	return serviceError(c.services.NewService(mobyService(key, s)), s)
}

// SetService changes a service that exists; its destinations and connections stay. The error may be ErrNoService or a
// *MissingError.
func (c *Conn) SetService(key lvs.ServiceKey, s lvs.Service) error {
	return serviceError(c.services.UpdateService(mobyService(key, s)), s)
}

// DeleteService removes a service with its destinations. The error may be ErrNoService.
func (c *Conn) DeleteService(key lvs.ServiceKey) error {
	return serviceError(c.services.DelService(mobyService(key, lvs.Service{})), lvs.Service{})
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

// AddDestination adds a destination to a service. The error may be ErrNoService, ErrExists or a *MixedError.
func (c *Conn) AddDestination(service lvs.ServiceKey, key lvs.DestinationKey, d lvs.Destination) error {
	return c.destination(commandNewDestination, service, key, &d)
}

// SetDestination changes a destination; its connections stay. The error may be ErrNoService, ErrNoDestination or a
// *MixedError.
func (c *Conn) SetDestination(service lvs.ServiceKey, key lvs.DestinationKey, d lvs.Destination) error {
	return c.destination(commandSetDestination, service, key, &d)
}

// DeleteDestination removes a destination. Its connections stay for as long as their time limits say, and get no further
// packets. The error may be ErrNoService or ErrNoDestination.
func (c *Conn) DeleteDestination(service lvs.ServiceKey, key lvs.DestinationKey) error {
	return c.destination(commandDeleteDestination, service, key, nil)
}

// destination makes a request about one destination; without d, the key alone says which.
func (c *Conn) destination(command uint8, service lvs.ServiceKey, key lvs.DestinationKey, d *lvs.Destination) error {
	err := c.kernel.do(command, serviceAttributes(service), destinationAttributes(key, d))
	switch {
	case errors.Is(err, unix.EEXIST):
		return ErrExists
	case errors.Is(err, unix.ESRCH):
		return ErrNoService
	case errors.Is(err, unix.ENOENT):
		return ErrNoDestination
	case errors.Is(err, unix.EINVAL) && d != nil && service.Family != familyOf(key):
		return &MixedError{}
	case errors.Is(err, unix.EINVAL) && d != nil:
		return fmt.Errorf("the kernel does not take it for a real server (its address must be a unicast one): %w", err)
	default:
		return err
	}
}

// Flush removes all services.
func (c *Conn) Flush() error { return c.services.Flush() }

// Zero sets the statistics of a service and its destinations to zero. The error may be ErrNoService.
func (c *Conn) Zero(key lvs.ServiceKey) error {
	return serviceError(c.kernel.do(commandZero, serviceAttributes(key)), lvs.Service{})
}

// Timeouts are the spans after which a connection without packets is forgotten, in whole seconds.
type Timeouts struct{ TCP, TCPFin, UDP time.Duration }

// Timeouts returns those of the namespace.
func (c *Conn) Timeouts() (Timeouts, error) {
	t, err := c.services.GetConfig()
	if err != nil {
		return Timeouts{}, fmt.Errorf("read the time limits of connections: %w", err)
	}
	return Timeouts{TCP: t.TimeoutTCP, TCPFin: t.TimeoutTCPFin, UDP: t.TimeoutUDP}, nil
}

// SetTimeouts changes those that are not zero.
func (c *Conn) SetTimeouts(t Timeouts) error {
	err := c.services.SetConfig(&moby.Config{TimeoutTCP: t.TCP, TimeoutTCPFin: t.TCPFin, TimeoutUDP: t.UDP})
	if err != nil {
		return fmt.Errorf("set the time limits of connections: %w", err)
	}
	return nil
}
