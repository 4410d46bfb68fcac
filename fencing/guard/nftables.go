package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

const (
	socketBuffer = 8 << 20 // bytes; a batch for 1000 groups has under 2 MB
	// maxAttempts bounds retries against other programs that change the same tables at the same time, and against a
	// machine so busy that the kernel learns of a window too late each time.
	maxAttempts = 5
)

// Options configure Open.
type Options struct {
	Clock  func() clock.Time // reads the lease clock; required
	Wall   func() int64      // CLOCK_REALTIME in nanoseconds since 1970; nil reads the kernel's
	NetNS  int               // descriptor of the network namespace to guard; 0 is the calling thread's
	Logger *slog.Logger      // nil discards
}

// NFTables is the guard made of nf_tables rules, in the tables "inet had" and "arp had".
type NFTables struct {
	clock  func() clock.Time
	wall   func() int64
	logger *slog.Logger

	conn   *netlink.Conn
	portID uint32 // of conn
	commit func(*batch) ([]refusal, error)
	list   func() ([]presentTable, error)
	flags  uint32   // of the tables; 0 once the kernel has refused them
	rules  *ruleset // what is installed; nil if nothing is, or if that is not known

	monitor    *netlink.Conn
	watchEnded atomic.Bool
	closeOnce  sync.Once
	closeErr   error
}

var (
	_ Guard = (*NFTables)(nil)

	discard = slog.New(slog.DiscardHandler)
)

// Open connects to nf_tables. It changes nothing yet. The error is an *UnsupportedError if the kernel has no nf_tables
// or the process may not use it.
func Open(o Options) (*NFTables, error) {
	g := &NFTables{clock: o.Clock, wall: o.Wall, logger: o.Logger, flags: tableFlagOwner | tableFlagPersist}
	if g.wall == nil {
		g.wall = kernelWall
	}
	if g.logger == nil {
		g.logger = discard
	}
	var err error
	if g.conn, g.portID, err = dial(o.NetNS); err != nil {
		return nil, supported(err)
	}
	g.commit = func(b *batch) ([]refusal, error) { return b.send(g.conn) }
	g.list = g.present
	if g.monitor, err = dialMonitor(o.NetNS, g.portID); err != nil {
		return nil, errors.Join(supported(err), g.conn.Close())
	}
	if _, err := g.present(); err != nil {
		return nil, errors.Join(supported(err), g.conn.Close(), g.monitor.Close())
	}
	return g, nil
}

func kernelWall() int64 {
	var ts unix.Timespec
	// CLOCK_REALTIME exists everywhere; a zero reading would make the deadline one of 1970, which is shut.
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &ts)
	return ts.Nano()
}

func dial(netns int) (*netlink.Conn, uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, 0, fmt.Errorf("open nf_tables socket: %w", err)
	}
	// Errors come back without the message that caused them.
	err = errors.Join(conn.SetWriteBuffer(socketBuffer), conn.SetReadBuffer(socketBuffer),
		conn.SetOption(netlink.CapAcknowledge, true))
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("set up nf_tables socket: %w", err), conn.Close())
	}
	portID, err := portID(conn)
	if err != nil {
		return nil, 0, errors.Join(err, conn.Close())
	}
	return conn, portID, nil
}

// portID is the address of a netlink socket, by which the kernel names the author of a change.
func portID(conn *netlink.Conn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("nf_tables socket: %w", err)
	}
	var (
		address unix.Sockaddr
		nameErr error
	)
	if err := raw.Control(func(fd uintptr) { address, nameErr = unix.Getsockname(int(fd)) }); err != nil {
		return 0, fmt.Errorf("nf_tables socket: %w", err)
	}
	if nameErr != nil {
		return 0, fmt.Errorf("address of nf_tables socket: %w", nameErr)
	}
	return address.(*unix.SockaddrNetlink).Pid, nil
}

// supported turns errors that mean "not on this kernel" or "not with these rights" into an *UnsupportedError.
func supported(err error) error {
	for _, errno := range []unix.Errno{
		unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT, unix.EPERM, unix.EACCES, unix.EINVAL,
	} {
		if errors.Is(err, errno) {
			return &UnsupportedError{Cause: err}
		}
	}
	return err
}

// presentTable is one of our tables as the kernel has it.
type presentTable struct {
	table *nftables.Table
	owner uint32 // netlink port id of the living process that owns it, 0 if none
}

func tableTitle(family nftables.TableFamily) string {
	if family == nftables.TableFamilyARP {
		return "arp " + tableName
	}
	return "inet " + tableName
}

// present lists which of our tables exist, whoever made them.
func (g *NFTables) present() ([]presentTable, error) {
	answers, err := g.conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{unix.NFPROTO_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return nil, fmt.Errorf("list nf_tables tables: %w", err)
	}
	var present []presentTable
	for _, m := range answers {
		t, err := decodeTable(m)
		if err != nil {
			return nil, err
		}
		if t.table.Name == tableName &&
			(t.table.Family == nftables.TableFamilyINet || t.table.Family == nftables.TableFamilyARP) {
			present = append(present, t)
		}
	}
	return present, nil
}

func decodeTable(m netlink.Message) (presentTable, error) {
	if len(m.Data) < nfgenmsgLength {
		return presentTable{}, fmt.Errorf("list nf_tables tables: message of %d bytes", len(m.Data))
	}
	t := presentTable{table: &nftables.Table{Family: nftables.TableFamily(m.Data[0])}}
	attributes, err := netlink.NewAttributeDecoder(m.Data[nfgenmsgLength:])
	if err != nil {
		return presentTable{}, fmt.Errorf("list nf_tables tables: %w", err)
	}
	attributes.ByteOrder = netlinkOrder
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_TABLE_NAME:
			t.table.Name = attributes.String()
		case unix.NFTA_TABLE_FLAGS:
			t.table.Flags = attributes.Uint32()
		case tableAttrOwner:
			t.owner = attributes.Uint32()
		}
	}
	if err := attributes.Err(); err != nil {
		return presentTable{}, fmt.Errorf("list nf_tables tables: %w", err)
	}
	return t, nil
}

// Install implements Guard.
func (g *NFTables) Install(spec Spec) error {
	_, err := g.Replace(spec, nil)
	return err
}

// Replace implements Guard.
func (g *NFTables) Replace(spec Spec, leases []Lease) ([]error, error) {
	results := make([]error, len(leases))
	err := g.replace(spec, leases, results)
	if err != nil {
		for i, l := range leases {
			results[i] = groupError(l.Group, err)
		}
	}
	return results, err
}

func (g *NFTables) replace(spec Spec, leases []Lease, results []error) error {
	plan, err := spec.Plan()
	if err != nil {
		return err
	}
	for range maxAttempts {
		present, err := g.list()
		if err != nil {
			return err
		}
		b := newBatch()
		for _, p := range present {
			if p.owner != 0 && p.owner != g.portID {
				return &OwnedError{Table: tableTitle(p.table.Family), PortID: p.owner}
			}
			b.deleteTable(p.table)
		}
		rules := newRuleset(plan, g.flags)
		armings := g.window(resolve(plan, leases, results))
		rules.ledger.arrange(armings)
		rules.install(b, armings)
		refused, err := g.send(b)
		if err != nil {
			return fmt.Errorf("guard: install: %w", err)
		}
		if len(refused) == 0 {
			rules.ledger.told(armings, nil)
			g.rules = rules
			g.arm(g.uncovered(armings))
			return nil
		}
		if !g.worthRepeating(refused) {
			return supported(fmt.Errorf("guard: install: %w", refused[0]))
		}
	}
	return fmt.Errorf("guard: install: another program keeps changing table %s", tableName)
}

// send commits a batch. If the outcome is unknown, so is what stands in the kernel, and only Replace can tell it again.
func (g *NFTables) send(b *batch) ([]refusal, error) {
	refused, err := g.commit(b)
	if errors.Is(err, errNoAnswer) {
		g.rules = nil
		err = fmt.Errorf("%w: %w", ErrNotInstalled, err)
	}
	return refused, err
}

// worthRepeating tells whether a refused Install can succeed if it is repeated: the tables have come, gone or changed
// owner since they were listed, or this kernel knows no tables that outlive their owner.
func (g *NFTables) worthRepeating(refused []refusal) bool {
	for _, r := range refused {
		switch {
		case r.op == opDeleteTable && (r.errno == unix.ENOENT || r.errno == unix.EPERM),
			r.op == opTable && r.errno == unix.EEXIST:
			return true
		case r.op == opTable && r.errno == unix.EOPNOTSUPP && g.flags != 0:
			g.logger.Info("this kernel has no nf_tables tables that only their owner can change; " +
				"changes by others will be noticed and repaired instead")
			g.flags = 0
			return true
		}
	}
	return false
}

// resolve finds the groups of leases. A lease of an unknown group gets its result at once, and so does a second one of
// the same group.
func resolve(plan fencing.GuardPlan, leases []Lease, results []error) []*arming {
	armings := make([]*arming, 0, len(leases))
	seen := make(map[uint32]bool, len(leases))
	for i, l := range leases {
		a := &arming{Lease: l, group: plan.Number(l.Group), extend: !l.First, result: &results[i]}
		switch {
		case a.group == 0:
			a.fail(ErrUnknownGroup)
		case seen[a.group]:
			a.fail(errors.New("second lease in one call"))
		default:
			seen[a.group] = true
			armings = append(armings, a)
		}
	}
	return armings
}

// window reads the clocks once and computes the windows. It fails the leases whose time is over, and returns the
// others.
func (g *NFTables) window(armings []*arming) []*arming {
	if len(armings) == 0 {
		return nil
	}
	reading := g.read()
	return slices.DeleteFunc(armings, func(a *arming) bool {
		var ok bool
		if a.window, ok = fencing.WindowUntil(a.Until, reading); !ok {
			a.fail(ErrLapsed)
		}
		return !ok
	})
}

// uncovered returns the leases whose timeout, as the kernel was told just now, would outlive them, because the process
// was held up between reading the clock and telling the kernel. The absolute deadline holds meanwhile.
func (g *NFTables) uncovered(armings []*arming) []*arming {
	if len(armings) == 0 {
		return nil
	}
	told := g.clock()
	return slices.DeleteFunc(armings, func(a *arming) bool {
		a.extend = true
		return a.window.Covers(a.Until, told)
	})
}

// read looks at the wall clock between two looks at the lease clock, again if something came between.
func (g *NFTables) read() fencing.Reading {
	var r fencing.Reading
	for range maxAttempts {
		r = fencing.Reading{Before: g.clock(), Wall: g.wall(), After: g.clock()}
		if r.Tight() {
			break
		}
	}
	return r
}

// Arm implements Guard.
func (g *NFTables) Arm(leases []Lease) []error {
	results := make([]error, len(leases))
	if g.rules == nil {
		for i, l := range leases {
			results[i] = groupError(l.Group, ErrNotInstalled)
		}
		return results
	}
	g.arm(resolve(g.rules.plan, leases, results))
	return results
}

// arm opens or extends leases in one transaction, and in further ones without the culprits if the kernel refuses it or
// if it came too late. Those that are not open in the end are shut.
func (g *NFTables) arm(armings []*arming) {
	all := slices.Clone(armings)
	for range maxAttempts {
		if armings = g.uncovered(g.tell(g.window(armings))); len(armings) == 0 {
			break
		}
		for _, a := range armings { // among them may be groups that had to be told again
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	for _, a := range armings {
		a.fail(fmt.Errorf("%w: the machine is too busy to arm the guard in time", ErrLapsed))
	}
	if g.rules == nil {
		return
	}
	for _, a := range all {
		if *a.result != nil && !errors.Is(*a.result, ErrNotInstalled) {
			g.rules.ledger.lapse(a.group)
		}
	}
	if err := g.shut(g.rules.ledger.lapsed()); err != nil {
		for _, a := range all {
			if *a.result != nil {
				*a.result = errors.Join(*a.result, err)
			}
		}
	}
}

// tell gives windows to the kernel. It fails the leases that the kernel refuses, and returns those that it has taken,
// with those that had to be told again on the way.
func (g *NFTables) tell(armings []*arming) []*arming {
	armings = slices.DeleteFunc(armings, func(a *arming) bool {
		shut := a.extend && g.rules.ledger[a.group-1].place == placeNone
		if shut {
			a.fail(ErrLapsed)
		}
		return shut
	})
	for len(armings) > 0 {
		telling, clear := g.arrange(armings)
		b := newBatch()
		g.rules.open(b, telling, clear)
		refused, err := g.send(b)
		if err == nil && len(refused) == 0 {
			g.rules.ledger.told(telling, clear)
			return telling
		}
		var lapsed map[uint32]bool
		if err == nil {
			lapsed, err = lapsedGroups(refused)
		}
		for group := range lapsed {
			g.rules.ledger.lapse(group)
		}
		armings = slices.DeleteFunc(armings, func(a *arming) bool {
			switch {
			case err != nil:
				a.fail(err)
			case lapsed[a.group]:
				a.fail(ErrLapsed)
			default:
				return false
			}
			return true
		})
	}
	return nil
}

// arrange gives armings their places. It returns them together with the groups that must be told again because the
// common deadline is to be replaced, and the groups that must be cleared for the same reason.
func (g *NFTables) arrange(armings []*arming) (telling []*arming, clear []uint32) {
	displaced, clear := g.rules.ledger.arrange(armings)
	moving := make([]*arming, len(displaced))
	for i, group := range displaced {
		moving[i] = &arming{
			Lease: Lease{Group: g.rules.plan.Groups[group-1], Until: g.rules.ledger[group-1].until},
			group: group, extend: true, place: placeOwn, result: new(error),
		}
	}
	telling = append(slices.Clone(armings), g.window(slices.Clone(moving))...)
	for _, a := range moving {
		if *a.result != nil {
			clear = append(clear, a.group)
		}
	}
	return telling, clear
}

// lapsedGroups reads a refused transaction: the groups whose element was gone, or an error that concerns all of them.
func lapsedGroups(refused []refusal) (map[uint32]bool, error) {
	lapsed := make(map[uint32]bool)
	for _, r := range refused {
		switch {
		case r.errno != unix.ENOENT:
			return nil, r
		case r.op != opDeleteElement:
			return nil, fmt.Errorf("%w: %w", ErrNotInstalled, r)
		}
		lapsed[r.group] = true
	}
	return lapsed, nil
}

// Shut implements Guard.
func (g *NFTables) Shut(groups []string) error {
	if g.rules == nil {
		return fmt.Errorf("guard: shut: %w", ErrNotInstalled)
	}
	var (
		numbers []uint32
		errs    []error
	)
	for _, group := range groups {
		if number := g.rules.plan.Number(group); number != 0 {
			numbers = append(numbers, number)
		} else {
			errs = append(errs, groupError(group, ErrUnknownGroup))
		}
	}
	return errors.Join(append(errs, g.shut(numbers))...)
}

func (g *NFTables) shut(groups []uint32) error {
	if len(groups) == 0 {
		return nil
	}
	b := newBatch()
	g.rules.shut(b, groups)
	if err := isShut(g.send(b)); err != nil {
		return err
	}
	g.rules.ledger.told(nil, groups)
	return nil
}

// Close implements Guard. Further calls return the first one's error.
func (g *NFTables) Close(keep bool) error {
	g.closeOnce.Do(func() {
		var err error
		switch {
		case g.rules == nil:
		case keep:
			err = g.shutAll()
		default:
			err = g.remove()
		}
		g.rules = nil
		g.closeErr = errors.Join(err, g.conn.Close(), g.endWatch())
	})
	return g.closeErr
}

func (g *NFTables) shutAll() error {
	groups := make([]uint32, len(g.rules.plan.Groups))
	for i := range groups {
		groups[i] = uint32(i) + 1
	}
	return g.shut(groups)
}

// remove deletes the tables, those that are still there.
func (g *NFTables) remove() error {
	present, err := g.list()
	if err != nil {
		return err
	}
	b := newBatch()
	for _, p := range present {
		b.deleteTable(p.table)
	}
	if b.empty() {
		return nil
	}
	refused, err := g.send(b)
	if err == nil && len(refused) > 0 {
		err = refused[0]
	}
	if err != nil {
		return fmt.Errorf("guard: remove: %w", err)
	}
	return nil
}

func groupError(group string, err error) error { return fmt.Errorf("guard: group %q: %w", group, err) }
