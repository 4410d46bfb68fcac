package director

import (
	"net/netip"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// Event is something that has happened: what the cluster says (lease.Input), or a type of this file.
type Event any

type (
	// Start begins all instances. Whatever earlier lives left in the kernel is gone, and the guard is shut.
	Start struct{ Delay time.Duration }
	// Tick lets time pass. It is due at Deadline and harmless at any other time.
	Tick struct{}
	// Advert is an advertisement that passed the checks of vrrp/packet.
	Advert struct {
		Instance string
		From     netip.Addr
		Priority uint8
		Interval time.Duration
	}
	// Fault says that an instance may not run for a cause, or with Gone that this cause has passed. Causes are counted by
	// name. A Silent one is told to nobody: it only holds the instance back until it is known to be fit.
	Fault struct {
		Instance string
		Cause    string
		Gone     bool
		Silent   bool
	}
	// Priority is an instance's effective priority.
	Priority struct {
		Instance string
		Priority uint8
	}
	// Source is the address that an instance's advertisements leave with: the tie-break between equal priorities.
	Source struct {
		Instance string
		Address  netip.Addr
	}
	// Sight is how this director sees its gateways, in words what it does not see, and since when it knows nothing newer: a
	// time at which as many as are needed have answered, zero if they never have.
	Sight struct {
		Sight lease.Sight
		Text  string
		Seen  clock.Time
	}
	// Hardware lists the hardware addresses of this director's interfaces, separated by spaces.
	Hardware struct{ Addresses string }
	// Looked answers Look. Others lists who answers for addresses of the group, this director excepted; nobody is good news.
	Looked struct {
		Group  string
		Serial uint64
		Others []Other
	}
	// Minute is the minute of the day, local time.
	Minute struct{ OfDay int }
	// LinkUp says that an instance's interface came back, so that neighbours may have to be told again.
	LinkUp struct{ Instance string }
	// Competitor says that somebody else claims one of an instance's addresses on the wire.
	Competitor struct {
		Instance string
		Address  netip.Addr
		Hardware string // of the stranger
	}
	// AddressesGone says that somebody removed addresses, routes or rules that should be there.
	AddressesGone struct{ Instance, Reason string }
	// AddressesFailed says that TakeAddresses could not be carried out.
	AddressesFailed struct{ Instance, Reason string }
	// GuardDone is the outcome of a GuardArm; Failed is empty if the guard holds what was asked.
	GuardDone struct {
		Group  string
		Epoch  lease.Epoch
		Failed string
	}
	// GuardGone says that somebody removed the guard's rules, or that the wall clock was stepped: everything is armed anew.
	GuardGone struct{ Reason string }
	// Invisible answers ConfirmInvisible.
	Invisible struct {
		Group string
		Epoch lease.Epoch
	}
	// Retire takes instances and whole groups out, for good: they resign and become invisible, and only then are epochs
	// released. Machine.Retiring tells when nothing is left of them.
	Retire struct{ Groups, Instances []string }
	// Reload replaces the configuration. What is not in it has been retired before, and nothing of that is left.
	Reload struct {
		Groups  []Group
		Kept    map[string]string // instances that go on, with their state, timers and causes of faults: new name to old name
		Fencing Fencing
		Place   fencing.PlaceConfig
		World   []Event // Source, Fault and Priority of all instances, as they are by the new configuration
		// Guard says that the guard has to be built anew before anything new may become visible.
		Guard bool
	}
	// FenceDone answers SwitchOff; Failed is empty only if the node is known to be off.
	FenceDone struct {
		Node    string
		Request uint64
		Method  string
		Failed  string
	}
	// SwitchedOn answers SwitchOn.
	SwitchedOn FenceDone
	// Shutdown hands everything over and ends. Stopped follows.
	Shutdown struct{}
)

// Other is a station that answers for an address.
type Other struct {
	Address  netip.Addr
	Hardware string
	Virtual  bool // it answers from the virtual MAC: it is one of the routers
}

// Action is something for the shell to do, in the order given. The set is lease.Send, lease.Propose, lease.RaiseCeiling
// and the types of this file.
//
// NotAfter is the lease's deadline: the shell looks at the clock right before it acts and does nothing from then on. A
// zero NotAfter is no limit: there is no lease.
type Action any

type (
	// SendAdvert sends one advertisement. One of priority 0 has no NotAfter: it makes nobody visible.
	SendAdvert struct {
		Instance string
		Priority uint8
		NotAfter clock.Time
	}
	// GuardArm opens the guard of a group until Until, or moves its deadline. First: it was shut. GuardDone answers.
	GuardArm struct {
		Group string
		Epoch lease.Epoch
		Until clock.Time
		First bool
	}
	// Look asks the links of a group whether anybody answers for its addresses, for Within. Looked answers.
	Look struct {
		Group  string
		Serial uint64
		Within time.Duration
	}
	// GuardRestore puts the guard's rules back, shut for all groups but those listed. GuardDone answers for each of them.
	GuardRestore struct{ Open []GuardArm }
	// GuardShut shuts the guard of a group.
	GuardShut struct{ Group string }
	// TakeAddresses adds what an Active instance holds: addresses, routes, rules. AddressesFailed answers if it cannot.
	TakeAddresses struct {
		Instance string
		NotAfter clock.Time
	}
	// ChangeAddresses adds what the configuration of an Active instance has got by a Reload, and announces it. What it has
	// lost has been removed before.
	ChangeAddresses struct {
		Instance string
		NotAfter clock.Time
	}
	// DropAddresses removes it, and announcements that still wait.
	DropAddresses struct{ Instance string }
	// Announce sends a burst of gratuitous ARP or unsolicited NA for each address, with Extra for those on other interfaces
	// than the instance's only.
	Announce struct {
		Instance string
		Repeat   int
		Extra    bool
		NotAfter clock.Time
	}
	// ConfirmInvisible asks for Invisible once the guard of the group is shut and, where the guard cannot be relied on,
	// its addresses are gone. Until then nothing is answered.
	ConfirmInvisible struct {
		Group string
		Epoch lease.Epoch
	}
	// Transition reports an instance's change of status: log, notifications.
	Transition struct {
		Instance string
		vrrp.Transition
		Priority uint8 // effective
	}
	// LowerHeard reports that an Active instance heard a lower priority.
	LowerHeard struct {
		Instance string
		vrrp.LowerHeard
	}
	// Submit has a command committed to the cluster's log, by whoever leads it. It may get lost.
	Submit struct{ Command fsm.Command }
	// SwitchOff has a node switched off by its fence devices. FenceDone answers, whenever they have.
	SwitchOff struct {
		Node    string
		Request uint64
	}
	// SwitchOn has a node switched on again that has come back: a device may have cut it off from a network or a disk.
	// SwitchedOn answers.
	SwitchOn struct {
		Node    string
		Request uint64
	}
	// Stand tells the other members what this director could own.
	Stand struct{ Groups map[string]lease.Standing }
	// Journal is for people: the log, and the cluster's journal.
	Journal struct {
		Group    string
		Severity Severity
		Kind     string
		Text     string
	}
	// Stopped ends a Shutdown: nothing is visible, everything is handed over or given up.
	Stopped struct{}
)

// Lapse is the Kind of the Journal entry for a lease that ended without a release.
const Lapse = "lapse"

// Severity of a Journal entry.
type Severity string

const (
	Info  Severity = "info"
	Warn  Severity = "warn"
	Error Severity = "error"
)

// leaseSights are the sights in the words of the lease protocol, which tells the other directors.
var leaseSights = map[fencing.Sight]lease.Sight{fencing.Sees: lease.Sees, fencing.Doubts: lease.Doubts,
	fencing.Recovers: lease.Recovers, fencing.Blind: lease.Blind}

// SightOf is the Sight of gateways; text says what is not seen of them.
func SightOf(g *fencing.Gateways, text string) Sight {
	return Sight{Sight: leaseSights[g.Sight()], Text: text, Seen: g.Seen()}
}
