//go:build integ

package address_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/internal/linux/sysctl"
)

func TestMain(m *testing.M) { nettest.Main(m) }

const forever = 0xffffffff

// fixture is an interface, and a manager of its addresses.
type fixture struct {
	*address.Manager
	t     *testing.T
	name  string
	pair  *netlink.Veth
	index int
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, name: nettest.Name("a")}
	f.pair = &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: f.name}, PeerName: f.name + "p"}
	if !nettest.Check(t, netlink.LinkAdd(f.pair)) {
		t.FailNow()
	}
	t.Cleanup(func() { _ = netlink.LinkDel(f.pair) })
	nettest.Check(t, netlink.LinkSetUp(f.pair))
	f.index = nettest.Link(t, f.name).Index
	var err error
	if f.Manager, err = address.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// find returns the address as package netlink sees it.
func (f *fixture) find(prefix netip.Prefix) (netlink.Addr, bool) {
	f.t.Helper()
	list, err := netlink.AddrList(f.pair, netlink.FAMILY_ALL)
	nettest.Check(f.t, err)
	for _, a := range list {
		if a.IPNet.String() == prefix.String() {
			return a, true
		}
	}
	return netlink.Addr{}, false
}

func (f *fixture) virtual(prefix string) address.Address {
	return address.Virtual(f.index, netip.MustParsePrefix(prefix))
}

func TestVirtualAddressesInTheKernel(t *testing.T) {
	tests := []struct {
		prefix           string
		life             address.Lifetime
		flags            int
		valid, preferred int
	}{
		{"192.0.2.10/32", address.Lifetime{}, unix.IFA_F_PERMANENT, forever, forever},
		{"192.0.2.11/24", address.Lifetime{Valid: 30}, 0, 30, 30},
		{"2001:db8::10/128", address.Lifetime{}, unix.IFA_F_PERMANENT | unix.IFA_F_NODAD | unix.IFA_F_DEPRECATED, forever, 0},
		{"2001:db8::11/128", address.Lifetime{Valid: 30}, unix.IFA_F_NODAD | unix.IFA_F_DEPRECATED, 30, 0},
		{"2001:db8:1::12/64", address.Lifetime{Valid: 30, Preferred: address.Forever}, unix.IFA_F_NODAD, 30, 30},
	}
	f := setup(t)
	for _, test := range tests {
		t.Run(test.prefix, func(t *testing.T) {
			a := f.virtual(test.prefix)
			nettest.Check(t, f.Put(a, test.life))
			got, ok := f.find(a.Prefix)
			if !ok {
				t.Fatal("the address is not there")
			}
			if got.ValidLft < test.valid-1 || got.ValidLft > test.valid {
				t.Errorf("valid for %d s, want %d", got.ValidLft, test.valid)
			}
			if got.PreferedLft < test.preferred-1 || got.PreferedLft > test.preferred {
				t.Errorf("preferred for %d s, want %d", got.PreferedLft, test.preferred)
			}
			if got.Flags != test.flags {
				t.Errorf("flags %#x, want %#x", got.Flags, test.flags)
			}
			if got.Broadcast != nil || got.Scope != 0 {
				t.Errorf("broadcast %v, scope %d, want none and 0", got.Broadcast, got.Scope)
			}
			nettest.Check(t, f.Remove(a))
			if _, ok := f.find(a.Prefix); ok {
				t.Error("the address is still there")
			}
		})
	}
}

func TestListShowsWhatWasPut(t *testing.T) {
	f := setup(t)
	full := f.virtual("192.0.2.10/24")
	full.Broadcast = netip.MustParseAddr("192.0.2.255")
	full.Label = f.name + ":v"
	full.Scope = address.ScopeLink
	full.Flags = address.NoPrefixRoute
	pointToPoint := f.virtual("192.0.2.20/32")
	pointToPoint.Peer = netip.MustParseAddr("198.51.100.20")
	pointToPoint6 := f.virtual("2001:db8::20/128")
	pointToPoint6.Peer = netip.MustParseAddr("2001:db8::21")
	for _, want := range []address.Address{full, pointToPoint, pointToPoint6, f.virtual("2001:db8::10/128")} {
		nettest.Check(t, f.Put(want, address.Lifetime{Valid: 60}))
		list, err := f.List()
		nettest.Check(t, err)
		found := false
		for _, got := range list {
			if got.Index != want.Index || got.Prefix != want.Prefix {
				continue
			}
			found = true
			if want.Label == "" && want.Prefix.Addr().Is4() {
				want.Label = f.name // the kernel's default
			}
			if got.Protocol == 0 {
				got.Protocol = address.Protocol // a kernel before 5.18
			}
			if got != want {
				t.Errorf("listed %+v\n  want %+v", got, want)
			}
		}
		if !found {
			t.Errorf("%v is not listed", want)
		}
		nettest.Check(t, f.Remove(want))
	}
}

func TestPutAndRemoveMayBeRepeated(t *testing.T) {
	f := setup(t)
	for _, prefix := range []string{"192.0.2.10/32", "2001:db8::10/128"} {
		a := f.virtual(prefix)
		nettest.Check(t, f.Remove(a))
		for range 3 {
			nettest.Check(t, f.Put(a, address.Lifetime{Valid: 10}))
		}
		for range 3 {
			nettest.Check(t, f.Remove(a))
		}
	}
}

func TestEveryPutSetsTheLifetimes(t *testing.T) {
	f := setup(t)
	for _, prefix := range []string{"192.0.2.10/32", "2001:db8::10/128"} {
		a := f.virtual(prefix)
		for _, valid := range []address.Seconds{10, 100, 20, address.Forever, 10} {
			nettest.Check(t, f.Put(a, address.Lifetime{Valid: valid}))
			got, _ := f.find(a.Prefix)
			if got.ValidLft < int(valid)-1 || got.ValidLft > int(valid) {
				t.Errorf("%s: valid for %d s, want %d", prefix, got.ValidLft, valid)
			}
		}
	}
}

// An address that somebody else made without a lifetime is adopted: it gets one.
func TestForeignAddressIsAdopted(t *testing.T) {
	f := setup(t)
	for _, prefix := range []string{"192.0.2.10/32", "2001:db8::10/128"} {
		nettest.AddAddress(t, f.name, prefix)
		a := f.virtual(prefix)
		nettest.Check(t, f.Put(a, address.Lifetime{Valid: 10}))
		if got, _ := f.find(a.Prefix); got.ValidLft > 10 {
			t.Errorf("%s: valid for %d s, want 10", prefix, got.ValidLft)
		}
		nettest.Check(t, f.Remove(a))
		if _, ok := f.find(a.Prefix); ok {
			t.Errorf("%s is still there", prefix)
		}
	}
}

func TestKernelRemovesAddressAfterItsLifetime(t *testing.T) {
	f := setup(t)
	v4, v6 := f.virtual("192.0.2.10/32"), f.virtual("2001:db8::10/128")
	kept := f.virtual("192.0.2.11/32")
	start := time.Now()
	for range 3 { // refreshed, then left alone
		for _, a := range []address.Address{v4, v6, kept} {
			nettest.Check(t, f.Put(a, address.Lifetime{Valid: 1}))
		}
		time.Sleep(400 * time.Millisecond)
	}
	if time.Since(start) < 1900*time.Millisecond {
		for _, a := range []address.Address{v4, v6} {
			if _, ok := f.find(a.Prefix); !ok {
				t.Errorf("%v is gone although it was refreshed", a)
			}
		}
	}
	nettest.Check(t, f.Put(kept, address.Lifetime{Valid: 60}))
	nettest.Eventually(t, "both are gone", func() bool {
		_, four := f.find(v4.Prefix)
		_, six := f.find(v6.Prefix)
		return !four && !six
	})
	if _, ok := f.find(kept.Prefix); !ok {
		t.Errorf("%v is gone although it was refreshed", kept)
	}
}

// A VIP of the interface's own prefix is secondary; removing it leaves the primary, removing the primary's label matters
// not.
func TestVirtualAddressInTheInterfacesPrefix(t *testing.T) {
	f := setup(t)
	nettest.AddAddress(t, f.name, "192.0.2.1/24")
	a := f.virtual("192.0.2.10/24")
	a.Label = f.name + ":1"
	nettest.Check(t, f.Put(a, address.Lifetime{Valid: 10}))
	if got, ok := f.find(a.Prefix); !ok || got.Flags&unix.IFA_F_SECONDARY == 0 {
		t.Errorf("address %+v, %v, want a secondary one", got, ok)
	}
	a.Label = ""
	nettest.Check(t, f.Remove(a))
	if _, ok := f.find(a.Prefix); ok {
		t.Error("the address is still there")
	}
	if _, ok := f.find(netip.MustParsePrefix("192.0.2.1/24")); !ok {
		t.Error("the primary address is gone")
	}
}

// Where the machine's own address comes back after the virtual one, as after a flush, it is the secondary one. It stays.
func TestTheMachinesOwnAddressOutlivesAVirtualOneThatWasThereBefore(t *testing.T) {
	own := netip.MustParsePrefix("192.0.2.1/24")
	for name, end := range map[string]func(*fixture, address.Address){
		"removed": func(f *fixture, a address.Address) { nettest.Check(f.t, f.Remove(a)) },
		"expired": func(*fixture, address.Address) {},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			a := f.virtual("192.0.2.10/24")
			nettest.Check(t, f.Put(a, address.Lifetime{Valid: 1}))
			nettest.AddAddress(t, f.name, own.String())
			if got, ok := f.find(own); !ok || got.Flags&unix.IFA_F_SECONDARY == 0 {
				t.Fatalf("address %+v, %v, want a secondary one", got, ok)
			}
			end(f, a)
			nettest.Eventually(t, "the virtual address is gone", func() bool { _, there := f.find(a.Prefix); return !there })
			if _, ok := f.find(own); !ok {
				t.Error("the machine's own address went with it")
			}
		})
	}
}

func TestErrorsOfPut(t *testing.T) {
	f := setup(t)
	absent := f.virtual("192.0.2.10/32")
	absent.Index = 1 << 20
	if err := f.Put(absent, address.Lifetime{}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("interface that does not exist: %v", err)
	}
	nettest.Check(t, f.Remove(absent))
	nettest.Check(t, sysctl.IPv6(f.name, "disable_ipv6").SetInt(1))
	err := f.Put(f.virtual("2001:db8::10/128"), address.Lifetime{})
	if err == nil {
		t.Error("IPv6 address on an interface without IPv6")
	}
	t.Log(err)
}

func BenchmarkRefresh(b *testing.B) {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bench0"}, PeerName: "bench1"}
	nettest.Check(b, netlink.LinkAdd(pair))
	defer func() { _ = netlink.LinkDel(pair) }()
	m, err := address.New()
	nettest.Check(b, err)
	defer m.Close()
	a := address.Virtual(nettest.Link(b, "bench0").Index, netip.MustParsePrefix("192.0.2.10/32"))
	for b.Loop() {
		nettest.Check(b, m.Put(a, address.Lifetime{Valid: 10}))
	}
}
