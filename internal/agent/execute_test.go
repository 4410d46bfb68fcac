package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hactl/had/fencing/guard"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
)

// fakeGuard does nothing but fail.
type fakeGuard struct {
	shutErr, replaceErr error
	closed, kept        bool
}

func (g *fakeGuard) Install(guard.Spec) error { return nil }
func (g *fakeGuard) Replace(_ guard.Spec, leases []guard.Lease) ([]error, error) {
	errs := make([]error, len(leases))
	for i := range errs {
		errs[i] = g.replaceErr
	}
	return errs, g.replaceErr
}
func (g *fakeGuard) Arm(leases []guard.Lease) []error                { return make([]error, len(leases)) }
func (g *fakeGuard) Shut([]string) error                             { return g.shutErr }
func (g *fakeGuard) Watch(context.Context, func(guard.Change)) error { return nil }
func (g *fakeGuard) Close(keep bool) error                           { g.closed, g.kept = true, keep; return nil }

// fakeKernel has addresses and may refuse to remove them.
type fakeKernel struct {
	lifetimes map[netip.Prefix]address.Lifetime
	removed   []netip.Prefix // in order
	removeErr error
}

func (k *fakeKernel) Put(a address.Address, l address.Lifetime) error {
	k.lifetimes[a.Prefix] = l
	return nil
}

func (k *fakeKernel) Remove(a address.Address) error {
	if k.removeErr == nil {
		delete(k.lifetimes, a.Prefix)
		k.removed = append(k.removed, a.Prefix)
	}
	return k.removeErr
}

var vip = netip.MustParsePrefix("10.0.0.100/24")

// testAgent is an agent of one instance "x" that has just taken its address, without a machine, sockets and a network.
func testAgent(t *testing.T) (*Agent, *fakeGuard, *fakeKernel) {
	lc, err := leaseclock.New()
	if err != nil {
		t.Fatal(err)
	}
	g, k := &fakeGuard{}, &fakeKernel{lifetimes: map[netip.Prefix]address.Lifetime{}}
	a := New(Options{Logger: slog.New(slog.DiscardHandler), Clock: lc, Config: &conf.Config{Instances: []conf.Instance{{
		Name: "x", Interface: "eth0", Addresses: []conf.Address{{Prefix: vip, PreferredLft: conf.PreferredForever}}}}}})
	a.guard = g
	a.table.Apply(link.LinkChanged{Link: link.Link{Index: 2, Name: "eth0"}})
	h := a.instances["x"].holding
	h.kernel = k
	if err := h.take(a.clock.Now(), 0); err != nil {
		t.Fatal(err)
	}
	return a, g, k
}

// stick is what remains of an instance whose address could not be removed.
func stick(a *Agent, k *fakeKernel) {
	k.removeErr = errors.New("test")
	i := a.instances["x"]
	i.stuck = fmt.Sprint(i.holding.drop())
}

func TestTheGuardOutlivesADaemonThatCouldNotRemoveAnAddress(t *testing.T) {
	a, g, k := testAgent(t)
	stick(a, k)
	a.withdraw()
	if !g.closed || !g.kept {
		t.Fatalf("guard: %+v", g)
	}
}

func TestTheGuardGoesWithADaemonThatHasRemovedEverything(t *testing.T) {
	a, g, k := testAgent(t)
	stick(a, k)
	k.removeErr = nil
	a.withdraw()
	if !g.closed || g.kept || len(k.lifetimes) > 0 {
		t.Fatalf("guard: %+v, addresses: %v", g, k.lifetimes)
	}
}

func TestAGroupIsNotInvisibleWhileItsAddressStaysAndNoGuardIsKnownToBeShut(t *testing.T) {
	for name, fail := range map[string]func(a *Agent, g *fakeGuard){
		"the guard cannot be shut": func(a *Agent, g *fakeGuard) {
			g.shutErr = errors.New("test")
			a.shut([]director.GuardShut{{Group: "x"}})
		},
		"the guard's rules are gone": func(a *Agent, g *fakeGuard) {
			g.shutErr = guard.ErrNotInstalled
			a.shut([]director.GuardShut{{Group: "x"}})
		},
		"the guard's rules could not be put back": func(a *Agent, g *fakeGuard) {
			a.order = nil // nobody is told of the fault
			g.shutErr, g.replaceErr = guard.ErrNotInstalled, errors.New("test")
			a.restoreGuard(director.GuardRestore{})
		},
		"there is no guard": func(a *Agent, _ *fakeGuard) {
			a.guard = nil
			a.shut([]director.GuardShut{{Group: "x"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, g, k := testAgent(t)
			fail(a, g)
			stick(a, k)
			if events := a.confirm(director.ConfirmInvisible{Group: "x", Epoch: 1}); len(events) > 0 {
				t.Fatalf("confirmed: %+v", events)
			}
			k.removeErr = nil
			if events := a.confirm(director.ConfirmInvisible{Group: "x", Epoch: 1}); len(events) != 1 {
				t.Fatal("not confirmed once the address is gone")
			}
		})
	}
}

func TestAGuardThatIsShutIsEnoughToBeInvisible(t *testing.T) {
	a, _, k := testAgent(t)
	a.shut([]director.GuardShut{{Group: "x"}})
	stick(a, k)
	if events := a.confirm(director.ConfirmInvisible{Group: "x", Epoch: 1}); len(events) != 1 {
		t.Fatal("not confirmed")
	}
}

func TestFreshRulesAreShutForWhatIsNotToBeOpen(t *testing.T) {
	a, _, _ := testAgent(t)
	a.order = nil // nobody is told of the fault
	a.unshut["x"] = true
	a.restoreGuard(director.GuardRestore{})
	if a.unshut["x"] {
		t.Fatal("x counts as open")
	}
}

func TestALifetimeThatIsTheGuardEndsBeforeTheLeaseOnTheSlowestClock(t *testing.T) {
	for _, left := range []time.Duration{1200 * time.Millisecond, 2475 * time.Millisecond, 3 * time.Second, 30 * time.Second} {
		a, _, k := testAgent(t)
		h := a.instances["x"].holding
		h.lifetime = true
		now := clock.Time(1)
		if err := h.take(now, now.Add(left)); err != nil {
			t.Fatalf("%v left: %v", left, err)
		}
		valid := time.Duration(k.lifetimes[vip].Valid) * time.Second
		if slowest := valid * 10 / 9; valid < time.Second || slowest > left {
			t.Errorf("with %v left the address lives for up to %v", left, slowest)
		}
	}
}

func TestALeaseTooShortForAWholeSecondIsRefusedByALifetimeThatIsTheGuard(t *testing.T) {
	a, _, _ := testAgent(t)
	h := a.instances["x"].holding
	h.lifetime = true
	if err := h.take(1, clock.Time(1).Add(297*time.Millisecond)); err == nil {
		t.Fatal("taken")
	}
}

func TestAStartDoesNotWaitForAKernelThatCannotBeRead(t *testing.T) {
	a, _, _ := testAgent(t)
	a.unwatched = make(chan error, 1)
	a.unwatched <- errors.New("test")
	if err := a.learnLinks(); err == nil {
		t.Fatal("no error")
	}
}

func TestAddressesAreRemovedInTheOrderOfTheFile(t *testing.T) {
	a, _, k := testAgent(t)
	h := a.instances["x"].holding
	other, excluded := netip.MustParsePrefix("10.0.0.99/24"), netip.MustParsePrefix("10.0.0.98/24")
	h.instance.Addresses = append(h.instance.Addresses, conf.Address{Prefix: other})
	h.instance.Excluded = []conf.Address{{Prefix: excluded}}
	if err := h.drop(); err != nil {
		t.Fatal(err)
	}
	if want := []netip.Prefix{vip, other, excluded}; !slices.Equal(k.removed, want) {
		t.Errorf("removed %v, want %v", k.removed, want)
	}
}
