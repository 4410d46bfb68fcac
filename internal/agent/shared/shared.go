// Package shared decides which of two views of a real server counts on a director: that of the cluster, which the owner of
// the service's group has had committed, or that of the director's own checks; and what an owner has to have committed. It
// is pure: what it knows is in its arguments.
//
// The owner's own checks count, at once, and what they find is told to the cluster. Everybody else goes by what the cluster
// has, to which a server that nobody has said anything about is one that has yet to be checked, and checks all the same, so
// as to know when it is the owner. Upon a grant the new owner begins with what the cluster has, and what its own checks find after
// the grant counts at once. What they have found before may be out of date: it takes a check its interval, and several attempts that
// time out, to see that a server is gone, which the cluster may know already. Where it is not what the cluster has, it is doubted
// until attempts that begin after the grant bear it out.
package shared

import (
	"cmp"
	"slices"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// Server names a real server.
type Server struct{ Service, Server string }

// Hold is a group that this director holds.
type Hold struct {
	Epoch uint64
	Since clock.Time // of holding it
}

// Health is what this director's own checks say of a server.
type Health struct {
	fsm.Health
	Known bool       // all checks have run
	At    clock.Time // the latest moment at which all of it follows from what was found since
}

// World is what a decision is made of.
type World struct {
	Table  fsm.Table
	Holds  map[string]Hold   // by group; groups that this director does not hold are absent
	Groups map[string]string // group by service; services of no group are absent
	Health map[Server]Health
}

// Say is what a server's checks are overruled by.
type Say struct {
	Weight *uint32     // instead of that of the definition
	Drain  bool        //
	Found  *fsm.Health // instead of what the checks say
	Begins bool        // the checks do not count: it is as it was before them
}

// Decision is what follows.
type Decision struct {
	Says map[Server]Say // of servers whose definition and checks are not all that counts
	Tell []fsm.Verdicts // to have committed, one command for each group, as much as one command may hold

	// Doubt are servers of which the checks of this director have found something else than the cluster has, but not since the
	// moment from which on it holds their group: that one.
	Doubt map[Server]clock.Time
}

// Decide decides about all servers of the cluster's table.
func Decide(w World) Decision {
	d := Decision{Says: map[Server]Say{}, Doubt: map[Server]clock.Time{}}
	told := map[string]*fsm.Verdicts{}
	for _, service := range w.Table.Services {
		group := w.Groups[service.Key]
		hold, held := w.Holds[group]
		for i := range service.Servers {
			server := &service.Servers[i]
			name := Server{service.Key, server.Key}
			say := Say{Weight: server.Weight, Drain: server.Drained != nil}
			own := w.Health[name]
			tell := false
			switch found := server.Found; {
			case group == "":
			case !held && found == nil:
				say.Begins = true
			case !held:
				say.Found = &found.Health
			case found == nil:
				tell = own.Known
			case !own.Known:
				say.Found = &found.Health
			case own.At <= hold.Since: // what its checks have found since they were looked at does not count yet either
				say.Found = &found.Health
				if !found.Same(own.Health) {
					d.Doubt[name] = hold.Since
				}
			default:
				tell = !found.Same(own.Health)
			}
			if say != (Say{}) {
				d.Says[name] = say
			}
			if !tell {
				continue
			}
			v := told[group]
			if v == nil {
				v = &fsm.Verdicts{Group: group, Epoch: hold.Epoch}
				told[group] = v
			}
			if len(v.List) < fsm.MaxVerdicts {
				v.List = append(v.List, fsm.Verdict{Service: service.Key, Server: server.Key, Health: own.Health})
			}
		}
	}
	for _, v := range told {
		d.Tell = append(d.Tell, *v)
	}
	slices.SortFunc(d.Tell, func(a, b fsm.Verdicts) int { return cmp.Compare(a.Group, b.Group) })
	return d
}
