package sim

import (
	"slices"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
)

// A person may have a director go on alone that has lost the majority for good: it becomes the only voter of another cluster. Clusters are
// numbered in this order, since the person asks members of the last one only. Members of an earlier one that reach one of the last one give
// up their data, and come back as new members of that.

// force is what a person does who declares all other voters dead, with what the product does to find out whether that is true: it refuses as
// long as one of them answers, or somebody advertises, and switches off who is not off.
func (w *world) force(m *machine, f Fault) {
	p := m.process
	if p == nil || p.director == nil || p.frozen() || p.cluster != w.clusters {
		return
	}
	r, ok := p.log.(*raft)
	if !ok || !r.latest().Has(p.member) {
		return
	}
	var others []*machine
	for _, member := range slices.Concat(r.latest().Voters, r.d.configurationAt(r.commit).Voters) {
		if o := w.machineOf(member); o != m && !slices.Contains(others, o) {
			others = append(others, o)
		}
	}
	passes := func(o *machine, c class) bool {
		return w.links[m.index][o.index].cuts[c] == 0 && w.links[o.index][m.index].cuts[c] == 0
	}
	answers := func(o *machine) bool {
		return o.state == running && o.process != nil && !o.process.frozen() && passes(o, clusterPort)
	}
	advertises := func(o *machine) bool {
		return o != m && passes(o, vrrpGroup) && slices.ContainsFunc(w.shape.groups, func(g group) bool {
			_, visible := o.visible(g.name)
			return visible
		})
	}
	if len(others) == 0 || slices.ContainsFunc(others, answers) || slices.ContainsFunc(w.machines, advertises) {
		return
	}
	device := newRandom(w.cfg.Seed, 9, uint64(f.At))
	for _, o := range others {
		switch {
		case o.state == dead || w.cfg.Broken.ForceUnproved:
		case device.chance(300_000):
			w.say(m.name, "cannot switch off %s", o.name)
			return
		default:
			w.stats.Fences++
			o.crash(f.For)
		}
	}
	w.clusters++
	w.stats.Forced++
	m.disk.becomeOnlyVoter(w.clusters)
	m.disk.ceiling = max(m.disk.ceiling, w.promise())
	p.end("becomes the only voter")
}

// becomeOnlyVoter rewrites the log: what is in it counts as committed.
func (d *disk) becomeOnlyVoter(cluster int) {
	state, last := restore(d.raft.snapshot), d.raft.last()
	for i, e := range d.raft.entries {
		if e.command == nil {
			continue
		}
		if _, err := state.Apply(d.raft.base+1+uint64(i), *e.command); err != nil {
			panic(err)
		}
	}
	d.cluster = cluster
	d.raft = raftDisk{term: d.raft.term, base: last, baseTerm: d.raft.termOf(last), snapshot: state.Snapshot(),
		voters: lease.Configuration{Index: last, Voters: []fsm.Member{d.member}}}
}

// meet tells whether a message passes from one process to another: if both are members of one cluster. Else the one whose cluster is not the
// last one is told so.
func (w *world) meet(from, to *process) bool {
	if from.cluster == to.cluster {
		return true
	}
	former, last := from, to
	if former.cluster > last.cluster {
		former, last = last, former
	}
	w.send(last.machine, former.machine, clusterPort, func() {
		former.aside(func() {
			former.machine.kill(0, "its cluster is not the last one: gives up its data")
			former.machine.loseData()
		})
	})
	return false
}

// knock reaches out to all other machines, again and again, as members of a cluster do.
func (p *process) knock() {
	w := p.machine.world
	if p.ended || w.shape.profile != Forced {
		return
	}
	if !p.frozen() {
		for _, other := range w.machines {
			if other != p.machine {
				w.send(p.machine, other, clusterPort, func() {
					if q := other.process; q != nil && !q.frozen() {
						w.meet(p, q)
					}
				})
			}
		}
	}
	w.after(w.shape.lease/8, p.knock)
}

// watchReturn is for a process that has begun as a member of a former cluster: it has to be told so while its voter abstains. If it is not,
// nobody has said that it would not do anything, and the run is over.
func (p *process) watchReturn() {
	w := p.machine.world
	if p.cluster == w.clusters || w.cfg.Broken.ForceUnproved {
		return
	}
	w.after(max(p.machine.disk.ceiling*97/100, w.shape.election), func() {
		if !p.ended && !w.void {
			w.say(p.machine.name, "has not reached the last cluster")
			w.void = true
			w.stats.Voids++
		}
	})
}
