package guard

import (
	"context"
	"errors"
	"fmt"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

// Spec says what is guarded: the groups with their addresses and virtual routers.
type Spec = fencing.GuardSpec

// Lease asks to open a group's guard, or to keep it open.
type Lease struct {
	Group string     // a group of the installed Spec
	Until clock.Time // the lease's deadline on the lease clock
	// First is true when the lease is newly granted: the guard opens whatever state it is in. When false the call is an
	// extension: it succeeds only if the kernel still holds the group open, otherwise ErrLapsed comes back and the
	// group stays shut.
	First bool
}

// Guard keeps leases in the kernel. All methods but Watch belong to one goroutine; Watch may run beside them.
// *NFTables implements it.
type Guard interface {
	// Install creates the guard of spec with every group shut, in one transaction that replaces whatever an earlier
	// Install or an earlier process left behind. After an error the former state stands.
	Install(spec Spec) error
	// Replace is Install with some leases open in the same transaction, so that a new configuration, or a guard that
	// somebody has removed, costs an owner no packet. The slice holds one error per lease, nil for those that are open;
	// all are set if the transaction failed, and then the second result says why.
	Replace(spec Spec, leases []Lease) ([]error, error)
	// Arm opens or extends leases, at most one per group, and returns one error per lease, nil where the group is open
	// until nine tenths of the lease's time left. A group whose error is not nil has been shut. The exceptions: after
	// ErrNotInstalled nothing guards it, and if even shutting it has failed, the error says so too. Leases that end at the
	// same time are the cheapest together.
	Arm(leases []Lease) []error
	// Shut closes groups at once, whether they are open or not.
	Shut(groups []string) error
	// Watch calls changed, from its own goroutine, after each transaction in which somebody else touched the guard,
	// until ctx ends. The caller answers with Replace.
	Watch(ctx context.Context, changed func(Change)) error
	// Close shuts every group and ends the guard. If keep is false its tables are removed too, so the guarded addresses
	// must be gone before.
	Close(keep bool) error
}

// Change says what somebody else did to the guard.
type Change struct {
	What    string // "table deleted", "set element deleted", ..., or "unknown" when events were lost
	Table   string // "inet had" or "arp had"; empty when unknown
	Process string // name of the thread that did it, in most cases of its program; empty when unknown
	PID     int    // its thread id, which is the process id of a program with one thread; 0 when unknown
}

// String is a sentence for the log.
func (c Change) String() string {
	s := c.What
	if c.Table != "" {
		s = c.Table + ": " + s
	}
	if c.Process != "" {
		s += fmt.Sprintf(" by %s (pid %d)", c.Process, c.PID)
	}
	return s
}

var (
	// ErrLapsed is the refusal to open a group because its time is over: the deadline has passed or is too near, or an
	// extension came after the kernel had shut the group. The group stays shut.
	ErrLapsed = errors.New("lease has lapsed")
	// ErrNotInstalled says that the guard's tables are not in the kernel: never installed, or removed by somebody else.
	ErrNotInstalled = errors.New("guard is not installed")
	// ErrUnknownGroup says that a group is not part of the installed Spec.
	ErrUnknownGroup = errors.New("group is not part of the guard")
)

// UnsupportedError says that this kernel, or this process's rights, do not allow the guard.
type UnsupportedError struct {
	Cause error
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("guard nftables: this kernel does not take the rules, or this process may not set them: %v; needed are "+
		"Linux 5.4 with nf_tables (families inet and arp) and nft_fib_inet, and CAP_NET_ADMIN; the alternatives are "+
		"`guard lifetime` (addresses that expire by themselves, up to 1.1 s late) and `guard none` (a killed daemon's "+
		"addresses stay in use)", e.Cause)
}

func (e *UnsupportedError) Unwrap() error { return e.Cause }

// OwnedError says that another living process owns the guard's table.
type OwnedError struct {
	Table  string // "inet had"
	PortID uint32 // netlink port id of the owner, in most cases its process id
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("guard nftables: table %s belongs to another running process (netlink port %d)", e.Table, e.PortID)
}
