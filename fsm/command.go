package fsm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Member is the Raft server id of a member: the configured name of its node, a slash, and the id of its data directory.
type Member string

// Node returns the configured name in a member id.
func (m Member) Node() string {
	name, _, _ := strings.Cut(string(m), "/")
	return name
}

// Kind names what a Command does.
type Kind string

// The kinds of commands.
const (
	KindFound       Kind = "found"
	KindForce       Kind = "force"
	KindGrant       Kind = "grant"
	KindTransfer    Kind = "transfer"
	KindRelease     Kind = "release"
	KindMaintenance Kind = "maintenance"
	KindNote        Kind = "note"
	KindFence       Kind = "fence"
)

// Command is one entry of the replicated log. Exactly one of the pointers is set.
type Command struct {
	// ID is the request id: a command that comes again under an id still remembered is not applied again, and gives the
	// Result of the first time. Empty: every copy is applied.
	ID   string `json:"id,omitempty"`
	Time Wall   `json:"time,omitempty"` // the proposer's wall clock
	Node string `json:"node,omitempty"` // the proposer's node

	Found       *Found       `json:"found,omitempty"`
	Force       *Force       `json:"force,omitempty"`
	Grant       *Grant       `json:"grant,omitempty"`
	Transfer    *Transfer    `json:"transfer,omitempty"`
	Release     *Release     `json:"release,omitempty"`
	Maintenance *Maintenance `json:"maintenance,omitempty"`
	Note        *Note        `json:"note,omitempty"`
	Fence       *Fence       `json:"fence,omitempty"`
	Seed        *Seed        `json:"seed,omitempty"`
	Balance     *Balance     `json:"lvs,omitempty"`
	Verdicts    *Verdicts    `json:"verdicts,omitempty"`
}

// Found gives a new cluster its identity.
type Found struct {
	ClusterID string `json:"cluster_id"`
}

// Force says that the proposer has been made the only voter, because a person has declared the other voters dead. The cluster is
// another one from there on: whoever still belongs to the former one has to come back as a new member.
type Force struct {
	ClusterID string   `json:"cluster_id"`
	Former    string   `json:"former"`
	Dead      []string `json:"dead"`             // nodes
	Method    string   `json:"method,omitempty"` // how they are known to be off
	Person    string   `json:"person,omitempty"`
	Reason    string   `json:"reason,omitempty"`
}

// Grant makes Member the owner of Group under Epoch. It applies only if Epoch is newer than the group's.
type Grant struct {
	Group   string `json:"group"`
	Member  Member `json:"member"`
	Epoch   uint64 `json:"epoch"`
	ClaimID uint64 `json:"claim_id,omitempty"` // the claim it answers, unique within Life
	Life    uint64 `json:"life,omitempty"`     // the process life that claimed
	Placed  bool   `json:"placed,omitempty"`   // an operator wants it there
	Reason  string `json:"reason,omitempty"`

	// Proved: it applies only if no other node holds the group as far as the log knows, because the last owner has released
	// it or is proved to be off.
	Proved bool `json:"proved,omitempty"`
}

// Transfer asks the owner of FromEpoch to hand Group over to To.
type Transfer struct {
	Group     string `json:"group"`
	FromEpoch uint64 `json:"from_epoch"`
	To        Member `json:"to"`
	ClaimID   uint64 `json:"claim_id,omitempty"`
	Life      uint64 `json:"life,omitempty"`
	Placed    bool   `json:"placed,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// Release says that Member is invisible under Epoch for good. With a Successor the same entry grants it the next epoch.
type Release struct {
	Group            string `json:"group"`
	Epoch            uint64 `json:"epoch"`
	Member           Member `json:"member"`
	Life             uint64 `json:"life,omitempty"` // the process life that was granted Epoch
	Reason           string `json:"reason,omitempty"`
	Successor        Member `json:"successor,omitempty"`
	SuccessorClaimID uint64 `json:"successor_claim_id,omitempty"`
	SuccessorLife    uint64 `json:"successor_life,omitempty"`
	Placed           bool   `json:"placed,omitempty"`
}

// Maintenance sets or takes off the mark of a node. The mark stays until a command takes it off; the leader proposes one
// when Until has come. Such a command names Until too, and takes off that mark only, not one that was set meanwhile.
type Maintenance struct {
	Node   string `json:"node"`
	On     bool   `json:"on,omitempty"`
	Until  Wall   `json:"until,omitempty"` // zero: until taken off
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Note puts an event that a node has seen into the journal.
type Note struct {
	Kind     string   `json:"kind"`
	Severity Severity `json:"severity"`
	Group    string   `json:"group,omitempty"`
	Epoch    uint64   `json:"epoch,omitempty"`
	Text     string   `json:"text"`
	Reason   string   `json:"reason,omitempty"`
	By       string   `json:"by,omitempty"`
}

// Kind tells what c does; empty if c is not valid.
func (c Command) Kind() Kind {
	kinds := c.kinds()
	if len(kinds) != 1 {
		return ""
	}
	return kinds[0]
}

func (c Command) kinds() []Kind {
	var kinds []Kind
	for _, content := range []struct {
		set  bool
		kind Kind
	}{
		{c.Found != nil, KindFound},
		{c.Force != nil, KindForce},
		{c.Grant != nil, KindGrant},
		{c.Transfer != nil, KindTransfer},
		{c.Release != nil, KindRelease},
		{c.Maintenance != nil, KindMaintenance},
		{c.Note != nil, KindNote},
		{c.Fence != nil, KindFence},
		{c.Seed != nil, KindSeed},
		{c.Balance != nil, KindBalance},
		{c.Verdicts != nil, KindVerdicts},
	} {
		if content.set {
			kinds = append(kinds, content.kind)
		}
	}
	return kinds
}

// Bounds of a command, in bytes.
const (
	longestName = 256  // of nodes, members, groups, kinds and ids
	longestText = 1024 // of texts and reasons
)

// mostDead is how many nodes one command can declare dead.
const mostDead = 64

// ErrInvalid is wrapped by every error about a command that no log may hold.
var ErrInvalid = errors.New("not a valid command")

// Validate tells what is wrong with c, if anything. A log holds valid commands only: EncodeCommand and DecodeCommand
// both see to it.
func (c Command) Validate() error {
	complain := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	if n := len(c.kinds()); n != 1 {
		return complain("%d contents instead of one", n)
	}
	type field struct {
		name, value string
		required    bool
	}
	names := []field{{"id", c.ID, false}, {"node", c.Node, false}}
	var texts []field
	walls := []Wall{c.Time}
	epochs := []uint64{}
	switch {
	case c.Found != nil:
		names = append(names, field{"cluster_id", c.Found.ClusterID, true})
	case c.Force != nil:
		f := c.Force
		if len(f.Dead) == 0 || len(f.Dead) > mostDead {
			return complain("%d dead nodes, and not 1 to %d", len(f.Dead), mostDead)
		}
		names = append(names, field{"cluster_id", f.ClusterID, true}, field{"former", f.Former, true}, field{"person", f.Person, false})
		for _, node := range f.Dead {
			names = append(names, field{"dead", node, true})
		}
		texts = append(texts, field{"method", f.Method, false}, field{"reason", f.Reason, false})
	case c.Grant != nil:
		g := c.Grant
		names = append(names, field{"group", g.Group, true}, field{"member", string(g.Member), true})
		texts = append(texts, field{"reason", g.Reason, false})
		epochs = append(epochs, g.Epoch)
	case c.Transfer != nil:
		t := c.Transfer
		names = append(names, field{"group", t.Group, true}, field{"to", string(t.To), true})
		texts = append(texts, field{"reason", t.Reason, false})
		epochs = append(epochs, t.FromEpoch)
	case c.Release != nil:
		r := c.Release
		names = append(names, field{"group", r.Group, true}, field{"member", string(r.Member), true},
			field{"successor", string(r.Successor), false})
		texts = append(texts, field{"reason", r.Reason, false})
		epochs = append(epochs, r.Epoch)
	case c.Maintenance != nil:
		m := c.Maintenance
		names = append(names, field{"node", m.Node, true}, field{"by", m.By, false})
		texts = append(texts, field{"reason", m.Reason, false})
		walls = append(walls, m.Until)
	case c.Note != nil:
		n := c.Note
		if !n.Severity.valid() {
			return complain("severity %q is not one of info, warn, error", n.Severity)
		}
		names = append(names, field{"kind", n.Kind, true}, field{"group", n.Group, false}, field{"by", n.By, false})
		texts = append(texts, field{"text", n.Text, true}, field{"reason", n.Reason, false})
	case c.Fence != nil:
		f := c.Fence
		switch {
		case !slices.Contains([]Stage{FenceRequested, FenceConfirmed, FenceFailed, FenceWithdrawn, FenceReturned}, f.Stage):
			return complain("%q is no stage of fencing", f.Stage)
		case len(f.Proved) > mostProofs:
			return complain("%d leases, more than %d", len(f.Proved), mostProofs)
		case len(f.Proved) > 0 && f.Stage != FenceConfirmed:
			return complain("a fencing that is %s proves nothing", f.Stage)
		}
		names = append(names, field{"node", f.Node, true}, field{"by", f.By, true}, field{"person", f.Person, false})
		texts = append(texts, field{"method", f.Method, false}, field{"reason", f.Reason, false})
		for _, p := range f.Proved {
			names = append(names, field{"group", p.Group, true}, field{"member", string(p.Member), true})
			epochs = append(epochs, p.Epoch)
		}
	case c.Balance != nil:
		names = append(names, field{"by", c.Balance.By, false})
		texts = append(texts, field{"reason", c.Balance.Reason, false})
		walls = append(walls, c.Balance.Until)
	case c.Verdicts != nil:
		names = append(names, field{"group", c.Verdicts.Group, true})
		epochs = append(epochs, c.Verdicts.Epoch)
	}
	for _, fields := range []struct {
		longest int
		fields  []field
	}{{longestName, names}, {longestText, texts}} {
		for _, f := range fields.fields {
			switch {
			case f.required && f.value == "":
				return complain("%s is empty", f.name)
			case len(f.value) > fields.longest:
				return complain("%s has %d bytes, more than %d", f.name, len(f.value), fields.longest)
			case !utf8.ValidString(f.value):
				return complain("%s is not UTF-8: %q", f.name, f.value)
			}
		}
	}
	for _, w := range walls {
		if !w.valid() {
			return complain("time %d ms is not in 1970..9999", w)
		}
	}
	for _, e := range epochs {
		if e == 0 || e == ^uint64(0) {
			return complain("epoch %d cannot be granted", e)
		}
	}
	return c.validateBalancer(complain)
}

// Clip returns c with texts and reasons cut to what a log may hold. Proposers whose texts come from outside use it.
func (c Command) Clip() Command {
	clip := func(s *string) { *s = clipped(*s, longestText) }
	switch {
	case c.Force != nil:
		f := *c.Force
		clip(&f.Method)
		clip(&f.Reason)
		c.Force = &f
	case c.Grant != nil:
		g := *c.Grant
		clip(&g.Reason)
		c.Grant = &g
	case c.Transfer != nil:
		t := *c.Transfer
		clip(&t.Reason)
		c.Transfer = &t
	case c.Release != nil:
		r := *c.Release
		clip(&r.Reason)
		c.Release = &r
	case c.Maintenance != nil:
		m := *c.Maintenance
		clip(&m.Reason)
		c.Maintenance = &m
	case c.Note != nil:
		n := *c.Note
		clip(&n.Text)
		clip(&n.Reason)
		c.Note = &n
	case c.Fence != nil:
		f := *c.Fence
		clip(&f.Method)
		clip(&f.Reason)
		c.Fence = &f
	case c.Balance != nil:
		b := *c.Balance
		clip(&b.Reason)
		c.Balance = &b
	case c.Verdicts != nil:
		v := *c.Verdicts
		v.List = slices.Clone(v.List)
		for i := range v.List {
			v.List[i].Reason = clipped(v.List[i].Reason, longestName)
		}
		c.Verdicts = &v
	}
	return c
}

// clipped is s cut to a number of bytes, between two characters, and in UTF-8.
func clipped(s string, longest int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for len(s) > longest {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
