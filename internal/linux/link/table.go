package link

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/hactl/had/internal/linux/address"
)

// Table is the state that a stream of Events describes. The zero Table is empty and ready for use. It is not safe for
// concurrent use. A Table is pure: it takes events and kernel states as values.
type Table struct {
	links     map[int]Link
	addresses map[addressKey]*address.Address
	on        map[int][]*address.Address // those of an interface, in the order of appearance, which is the kernel's order
}

// addressKey is what tells addresses of a namespace apart.
type addressKey struct {
	index  int
	prefix netip.Prefix
	peer   netip.Addr
}

func keyOf(a address.Address) addressKey { return addressKey{a.Index, a.Prefix, a.Peer} }

// Apply enters the change that ev describes.
func (t *Table) Apply(ev Event) {
	if t.links == nil {
		t.links = make(map[int]Link)
		t.addresses = make(map[addressKey]*address.Address)
		t.on = make(map[int][]*address.Address)
	}
	switch ev := ev.(type) {
	case LinkChanged:
		t.links[ev.Link.Index] = ev.Link
	case LinkRemoved:
		delete(t.links, ev.Link.Index)
	case AddressAdded:
		t.put(ev.Address)
	case AddressChanged:
		t.put(ev.Address)
	case AddressRemoved:
		t.remove(keyOf(ev.Address))
	case Synced:
	default:
		panic(fmt.Sprintf("link: unknown event %T", ev))
	}
}

// put enters an address. One that is there already keeps its place.
func (t *Table) put(a address.Address) {
	if there := t.addresses[keyOf(a)]; there != nil {
		*there = a
		return
	}
	t.addresses[keyOf(a)] = &a
	t.on[a.Index] = append(t.on[a.Index], &a)
}

func (t *Table) remove(key addressKey) {
	gone := t.addresses[key]
	if gone == nil {
		return
	}
	delete(t.addresses, key)
	t.on[key.index] = slices.DeleteFunc(t.on[key.index], func(a *address.Address) bool { return a == gone })
	if len(t.on[key.index]) == 0 {
		delete(t.on, key.index)
	}
}

// ByIndex returns the interface with this index.
func (t *Table) ByIndex(index int) (Link, bool) {
	l, ok := t.links[index]
	return l, ok
}

// ByName returns the interface with this name.
func (t *Table) ByName(name string) (Link, bool) {
	for _, l := range t.links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// Links returns all interfaces by index.
func (t *Table) Links() []Link {
	return slices.SortedFunc(maps.Values(t.links), func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
}

// Addresses returns the addresses of the interface with this index in the order in which they appeared.
func (t *Table) Addresses(index int) []address.Address {
	addresses := make([]address.Address, len(t.on[index]))
	for i, a := range t.on[index] {
		addresses[i] = *a
	}
	return addresses
}

// Has tells whether an interface has the address a, whatever its properties.
func (t *Table) Has(a address.Address) bool {
	_, ok := t.addresses[keyOf(a)]
	return ok
}

// linkSeen returns the events for the kernel's word that l exists as given.
func (t *Table) linkSeen(l Link) []Event {
	before := t.links[l.Index]
	if before == l {
		return nil
	}
	return []Event{LinkChanged{Before: before, Link: l}}
}

// linkGone returns the events for the kernel's word that the interface no longer exists.
func (t *Table) linkGone(index int) []Event {
	l, ok := t.links[index]
	if !ok {
		return nil
	}
	var events []Event
	for _, a := range t.Addresses(index) {
		events = append(events, AddressRemoved{a})
	}
	return append(events, LinkRemoved{l})
}

// addressSeen returns the events for the kernel's word that a exists as given.
func (t *Table) addressSeen(a address.Address) []Event {
	before, ok := t.addresses[keyOf(a)]
	switch {
	case !ok:
		return []Event{AddressAdded{a}}
	case *before == a:
		return nil
	}
	return []Event{AddressChanged{Before: *before, Address: a}}
}

// addressGone returns the events for the kernel's word that a no longer exists.
func (t *Table) addressGone(a address.Address) []Event {
	before, ok := t.addresses[keyOf(a)]
	if !ok {
		return nil
	}
	return []Event{AddressRemoved{*before}}
}

// diff returns the events that lead from the table to the given state of the kernel: first what is gone, then the
// interfaces, then their addresses.
func (t *Table) diff(links []Link, addresses []address.Address) []Event {
	var events []Event
	there := make(map[int]bool, len(links))
	for _, l := range links {
		there[l.Index] = true
	}
	kept := make(map[addressKey]bool, len(addresses))
	for _, a := range addresses {
		kept[keyOf(a)] = true
	}
	for _, l := range t.Links() {
		for _, a := range t.Addresses(l.Index) {
			if !kept[keyOf(a)] || !there[l.Index] {
				events = append(events, AddressRemoved{a})
			}
		}
		if !there[l.Index] {
			events = append(events, LinkRemoved{l})
		}
	}
	for _, l := range links {
		events = append(events, t.linkSeen(l)...)
	}
	for _, a := range addresses {
		if there[a.Index] {
			events = append(events, t.addressSeen(a)...)
		}
	}
	return events
}
