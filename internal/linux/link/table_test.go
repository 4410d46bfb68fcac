package link

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/hactl/had/internal/linux/address"
)

func addr(index int, prefix string) address.Address {
	return address.Address{Index: index, Prefix: netip.MustParsePrefix(prefix)}
}

// feed applies events to the table as the Monitor does and returns them.
func feed(t *Table, events []Event) []Event {
	for _, ev := range events {
		t.Apply(ev)
	}
	return events
}

func TestEventsOfNotifications(t *testing.T) {
	eth0 := Link{Index: 2, Name: "eth0", Up: true}
	running, renamed := eth0, eth0
	running.Running = true
	renamed.Name = "lan0"
	a, secondary := addr(2, "192.0.2.1/24"), addr(2, "192.0.2.1/24")
	secondary.Flags = address.Secondary
	tests := []struct {
		name   string
		before []Event
		seen   func(*Table) []Event
		want   []Event
	}{
		{"a new interface", nil,
			func(t *Table) []Event { return t.linkSeen(eth0) }, []Event{LinkChanged{Link: eth0}}},
		{"an interface that did not change", []Event{LinkChanged{Link: eth0}},
			func(t *Table) []Event { return t.linkSeen(eth0) }, nil},
		{"the link comes up", []Event{LinkChanged{Link: eth0}},
			func(t *Table) []Event { return t.linkSeen(running) }, []Event{LinkChanged{Before: eth0, Link: running}}},
		{"an interface is renamed", []Event{LinkChanged{Link: eth0}},
			func(t *Table) []Event { return t.linkSeen(renamed) }, []Event{LinkChanged{Before: eth0, Link: renamed}}},
		{"an interface goes with its addresses", []Event{LinkChanged{Link: eth0}, AddressAdded{a}},
			func(t *Table) []Event { return t.linkGone(2) }, []Event{AddressRemoved{a}, LinkRemoved{eth0}}},
		{"an unknown interface goes", nil,
			func(t *Table) []Event { return t.linkGone(2) }, nil},
		{"a new address", []Event{LinkChanged{Link: eth0}},
			func(t *Table) []Event { return t.addressSeen(a) }, []Event{AddressAdded{a}}},
		{"an address is refreshed", []Event{LinkChanged{Link: eth0}, AddressAdded{a}},
			func(t *Table) []Event { return t.addressSeen(a) }, nil},
		{"an address becomes secondary", []Event{LinkChanged{Link: eth0}, AddressAdded{a}},
			func(t *Table) []Event { return t.addressSeen(secondary) },
			[]Event{AddressChanged{Before: a, Address: secondary}}},
		{"an address is removed, the notification shows other flags", []Event{LinkChanged{Link: eth0}, AddressAdded{a}},
			func(t *Table) []Event { return t.addressGone(secondary) }, []Event{AddressRemoved{a}}},
		{"an unknown address is removed", []Event{LinkChanged{Link: eth0}},
			func(t *Table) []Event { return t.addressGone(a) }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var table Table
			feed(&table, test.before)
			if got := test.seen(&table); !slices.Equal(got, test.want) {
				t.Errorf("events\n got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestInterfaceCreatedAgainDuringALossIsAnotherOne(t *testing.T) {
	before, after := Link{Index: 2, Name: "eth0"}, Link{Index: 9, Name: "eth0"}
	a, b := addr(2, "192.0.2.1/24"), addr(9, "192.0.2.1/24")
	var table Table
	feed(&table, []Event{LinkChanged{Link: before}, AddressAdded{a}})
	got := feed(&table, table.diff([]Link{after}, []address.Address{b}))
	want := []Event{AddressRemoved{a}, LinkRemoved{before}, LinkChanged{Link: after}, AddressAdded{b}}
	if !slices.Equal(got, want) {
		t.Errorf("events\n got %+v\nwant %+v", got, want)
	}
	if l, ok := table.ByName("eth0"); !ok || l != after {
		t.Errorf("ByName = %v, %v, want %v", l, ok, after)
	}
}

// However the kernel's state changes without our hearing of it, the difference leads to it, and a second look finds
// nothing to report.
func TestDiffLeadsFromAnyStateToAnyOther(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	state := func() (links []Link, addresses []address.Address) {
		for index := 1; index <= 4; index++ {
			if random.IntN(3) == 0 {
				continue
			}
			links = append(links, Link{Index: index, Name: fmt.Sprint("eth", random.IntN(3)), Up: random.IntN(2) == 0})
			for host := range 3 {
				if random.IntN(2) == 0 {
					a := addr(index, fmt.Sprintf("192.0.2.%d/24", host))
					a.Flags = address.Flags(random.IntN(2)) * address.Secondary
					addresses = append(addresses, a)
				}
			}
		}
		return links, addresses
	}
	var table Table
	for range 2000 {
		links, addresses := state()
		feed(&table, table.diff(links, addresses))
		if got := table.Links(); !slices.Equal(got, links) {
			t.Fatalf("links %v, want %v", got, links)
		}
		var got []address.Address
		for _, l := range links {
			on := table.Addresses(l.Index)
			slices.SortFunc(on, func(a, b address.Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
			got = append(got, on...)
		}
		if !slices.Equal(got, addresses) {
			t.Fatalf("addresses %v, want %v", got, addresses)
		}
		if again := table.diff(links, addresses); len(again) != 0 {
			t.Fatalf("second look: %v", again)
		}
	}
}

func TestSource(t *testing.T) {
	flagged := func(prefix string, flags address.Flags) address.Address {
		a := addr(2, prefix)
		a.Flags = flags
		return a
	}
	v4 := []address.Address{
		flagged("192.0.2.9/24", address.Secondary), addr(2, "192.0.2.5/24"), addr(2, "192.0.2.1/32"), addr(3, "10.0.0.1/8"),
	}
	v6 := []address.Address{
		addr(2, "2001:db8::1/64"), flagged("fe80::1/64", address.Tentative), flagged("fe80::2/64", address.DADFailed),
		addr(2, "fe80::3/64"), addr(2, "fe80::4/64"),
	}
	tests := []struct {
		name      string
		addresses []address.Address
		ipv6      bool
		current   string
		exclude   string
		want      string
	}{
		{"the first IPv4 address that is not secondary", v4, false, "", "", "192.0.2.5"},
		{"the current one stays", v4, false, "192.0.2.1", "", "192.0.2.1"},
		{"a current one that is gone does not", v4, false, "192.0.2.77", "", "192.0.2.5"},
		{"a current one that became secondary does not", v4, false, "192.0.2.9", "", "192.0.2.5"},
		{"a virtual address is none", v4, false, "192.0.2.5", "192.0.2.5", "192.0.2.1"},
		{"IPv6 is spoken from a usable link-local address", v6, true, "", "", "fe80::3"},
		{"a virtual link-local address is none", v6, true, "", "fe80::3", "fe80::4"},
		{"IPv4 only", v4, true, "", "", ""},
		{"IPv6 only", v6, false, "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var table Table
			feed(&table, table.diff([]Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "eth1"}}, test.addresses))
			parse := func(s string) (a netip.Addr) {
				if s != "" {
					a = netip.MustParseAddr(s)
				}
				return a
			}
			excluded := parse(test.exclude)
			exclude := func(a netip.Addr) bool { return a == excluded }
			got, ok := table.Source(2, test.ipv6, parse(test.current), exclude)
			if want := parse(test.want); got != want || ok != want.IsValid() {
				t.Errorf("Source = %v, %v, want %v", got, ok, want)
			}
		})
	}
}
