package lvs

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Operation is what a Change does.
type Operation uint8

// The operations.
const (
	AddService Operation = iota
	EditService
	DeleteService // with its destinations
	AddDestination
	EditDestination
	DeleteDestination
)

func (o Operation) String() string {
	return [...]string{"add service", "edit service", "delete service", "add server", "edit server", "delete server"}[o]
}

// Change is one step from the table that the kernel has to the one that it should have. Its kernel does it in one
// request.
type Change struct {
	Operation   Operation
	Key         ServiceKey
	Service     Service        // AddService, EditService
	Server      DestinationKey // operations on destinations
	Destination Destination    // AddDestination, EditDestination
}

func (c Change) String() string {
	switch c.Operation {
	case AddDestination, EditDestination, DeleteDestination:
		return fmt.Sprintf("%v %v of %v", c.Operation, c.Server, c.Key)
	}
	return fmt.Sprintf("%v %v", c.Operation, c.Key)
}

// Plan returns the changes that make the table have into want, as far as want names services or ours says that a service
// is not somebody else's. A service is complete before the next is begun, and what goes, goes last: at no moment does a
// service lack a destination that it has in both tables, nor is it empty when it is not so at one of the ends. The order is
// the same for the same tables.
func Plan(have, want Table, ours func(ServiceKey) bool) []Change {
	var plan []Change
	for key := range sorted(want) {
		plan = PlanService(plan, key, have, want)
	}
	for key := range sorted(have) {
		if _, wanted := want[key]; !wanted && ours(key) {
			plan = PlanService(plan, key, have, want)
		}
	}
	return plan
}

func sorted(t Table) iter.Seq[ServiceKey] {
	return slices.Values(slices.SortedFunc(maps.Keys(t), ServiceKey.Compare))
}

// PlanService appends the changes of one service: it costs time in proportion to that service. One that is not in want is
// deleted.
func PlanService(plan []Change, key ServiceKey, have, want Table) []Change {
	h, exists := have[key]
	w, wanted := want[key]
	switch {
	case !wanted && exists:
		return append(plan, Change{Operation: DeleteService, Key: key})
	case !wanted:
		return plan
	case !exists:
		plan = append(slices.Grow(plan, 1+len(w.Destinations)), Change{Operation: AddService, Key: key, Service: w.Service})
	case h.Service != w.Service:
		plan = append(plan, Change{Operation: EditService, Key: key, Service: w.Service})
	}
	first := len(plan)
	for server, d := range w.Destinations {
		switch old, found := h.Destinations[server]; {
		case !found:
			plan = append(plan, Change{Operation: AddDestination, Key: key, Server: server, Destination: d})
		case old != d:
			plan = append(plan, Change{Operation: EditDestination, Key: key, Server: server, Destination: d})
		}
	}
	for server := range h.Destinations {
		if _, found := w.Destinations[server]; !found {
			plan = append(plan, Change{Operation: DeleteDestination, Key: key, Server: server})
		}
	}
	// What takes load comes before what sheds it.
	slices.SortFunc(plan[first:], func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(b.Destination.Weight, a.Destination.Weight),
			a.Server.Compare(b.Server))
	})
	return plan
}

// Apply makes the change in the table, as the kernel would.
func (t Table) Apply(c Change) {
	e := t[c.Key]
	switch c.Operation {
	case AddService:
		t[c.Key] = Entry{Service: c.Service, Destinations: make(map[DestinationKey]Destination)}
	case EditService:
		e.Service = c.Service
		t[c.Key] = e
	case DeleteService:
		delete(t, c.Key)
	case AddDestination, EditDestination:
		e.Destinations[c.Server] = c.Destination
	case DeleteDestination:
		delete(e.Destinations, c.Server)
	}
}
