package companion

import (
	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/vrrp/speaker"
)

// Estate is what a life of the daemon leaves that does not change while it lasts.
type Estate struct {
	Cluster *cluster.Estate  // nil without a cluster
	Member  cluster.MemberID // who the daemon is in the cluster
	Life    uint64           // of the daemon in the lease protocol
	Guarded bool             // the guard is nftables rules, which have to be shut
}

// Hold is what an instance may have in the kernel, and how to resign for it.
type Hold struct {
	Addresses []address.Address
	Farewell  speaker.Farewell
}

// message is a line of what the daemon says. Exactly one field is set.
type message struct {
	Estate *Estate `json:",omitempty"` // a life begins, which holds nothing yet
	Hold   *hold   `json:",omitempty"`
	Lease  *grant  `json:",omitempty"`
	Forget bool    `json:",omitempty"` // nothing is held; what is, follows
	Bye    bool    `json:",omitempty"` // the daemon ends, and holds nothing any more
}

// hold is what one instance holds; nothing, if Hold is nil.
type hold struct {
	Instance string
	Hold     *Hold `json:",omitempty"`
}

// grant is a group's lease; none, if Epoch is zero.
type grant struct {
	Group string
	Epoch uint64 `json:",omitempty"`
}

// will is all that was said, as it stands.
type will struct {
	estate *Estate
	holds  map[string]Hold
	leases map[string]uint64
}

func newWill() will { return will{holds: map[string]Hold{}, leases: map[string]uint64{}} }

// take takes in a message.
func (w *will) take(m message) {
	switch {
	case m.Estate != nil:
		*w = newWill()
		w.estate = m.Estate
	case m.Forget:
		clear(w.holds)
		clear(w.leases)
	case m.Hold != nil && m.Hold.Hold == nil:
		delete(w.holds, m.Hold.Instance)
	case m.Hold != nil:
		w.holds[m.Hold.Instance] = *m.Hold.Hold
	case m.Lease != nil && m.Lease.Epoch == 0:
		delete(w.leases, m.Lease.Group)
	case m.Lease != nil:
		w.leases[m.Lease.Group] = m.Lease.Epoch
	}
}

// messages say all of it to a companion that knows nothing. Leases come last: whoever hears of one knows all that may be
// visible under it.
func (w *will) messages() []message {
	var all []message
	if w.estate != nil {
		all = append(all, message{Estate: w.estate})
	}
	for instance, h := range w.holds {
		all = append(all, message{Hold: &hold{instance, &h}})
	}
	for group, epoch := range w.leases {
		all = append(all, message{Lease: &grant{group, epoch}})
	}
	return all
}
