package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
)

// Kind says whether a change concerns a vrrp_instance or a vrrp_sync_group.
type Kind string

// The kinds, as scripts and pipes get them.
const (
	Instance Kind = "INSTANCE"
	Group    Kind = "GROUP"
)

// State is what an instance or group has become, or what happened to it, as scripts and pipes get it.
type State string

// The states. The last three are no changes of state: the first of them has a script of its own and no generic one, the
// other two are written to pipes only.
const (
	Master  State = "MASTER"
	Backup  State = "BACKUP"
	Fault   State = "FAULT"
	Stop    State = "STOP"
	Deleted State = "DELETED"

	MasterRxLowerPri State = "MASTER_RX_LOWER_PRI"
	MasterPriority   State = "MASTER_PRIORITY"
	BackupPriority   State = "BACKUP_PRIORITY"
)

// Change is one notification.
type Change struct {
	Kind     Kind
	Name     string
	State    State
	Priority uint8 // effective priority; a group has none and reports 0
	Mail     bool  // smtp_alert
	Router   Router
}

// Router is what a trap about an instance tells besides.
type Router struct {
	Version         uint8
	VRID            uint8
	Interface       int        // index; 0: none
	Address         netip.Addr // source of its advertisements
	InitialMaster   bool       // as configured
	NewMasterReason int        // of one that has become MASTER, as in RFC 6527: 1 resigned, 2 preempted, 3 no response
}

// priority returns what is reported.
func (c Change) priority() uint8 {
	if c.Kind == Group {
		return 0
	}
	return c.Priority
}

// Line returns the line that pipes get, without its end.
func (c Change) Line() string {
	return fmt.Sprintf("%s \"%s\" %s %d", c.Kind, c.Name, c.State, c.priority())
}

// Scripts are the notification scripts of one instance or group; nil where none is configured.
type Scripts struct {
	Master, Backup, Fault, Stop, Deleted *Script // without further arguments
	MasterRxLowerPri                     *Script // without further arguments
	Any                                  *Script // "notify": with kind, name, state and priority
}

// of returns the scripts to run for a state, in order.
func (s Scripts) of(state State) (specific, generic *Script) {
	switch state {
	case Master:
		return s.Master, s.Any
	case Backup:
		return s.Backup, s.Any
	case Fault:
		return s.Fault, s.Any
	case Stop:
		return s.Stop, s.Any
	case Deleted:
		return s.Deleted, s.Any
	case MasterRxLowerPri:
		return s.MasterRxLowerPri, nil
	}
	return nil, nil
}

// Receiver is told of changes after scripts and pipes, by the goroutine that calls Notify or NotifyServer. Its methods do not
// block, and either may be called while the other runs.
type Receiver interface {
	Tell(Change)
	TellServer(ServerChange)
}

// Notifier tells scripts, pipes and others of changes.
type Notifier struct {
	Runner    *Runner
	FIFOs     []*FIFO // in the order of writing
	Receivers []Receiver
	Logger    *slog.Logger
}

// Notify tells of one change: the script of the state, the generic script, the pipes, then the receivers. Scripts are
// started in the order of all calls, but none waits for another to end, and none has a time limit. It does not block. A
// script that fails and a line that is lost are logged.
func (n *Notifier) Notify(change Change, scripts Scripts) {
	specific, generic := scripts.of(change.State)
	if specific != nil {
		n.run(slog.String("instance", change.Name), string(change.State), *specific, nil)
	}
	if generic != nil {
		n.run(slog.String("instance", change.Name), string(change.State), *generic, []string{
			string(change.Kind), change.Name, string(change.State), strconv.Itoa(int(change.priority())),
		})
	}
	n.Write(change)
	for _, r := range n.Receivers {
		r.Tell(change)
	}
}

// Write writes the line of a change to the pipes and tells nobody else. It does not block; a line that is lost is logged.
func (n *Notifier) Write(change Change) {
	for _, fifo := range n.FIFOs {
		if err := fifo.WriteLine(change.Line()); err != nil {
			n.Logger.Warn("notification was not written", "instance", change.Name, "state", string(change.State), "err", err)
		}
	}
}

func (n *Notifier) run(about slog.Attr, state string, script Script, extra []string) {
	n.Runner.Run(context.Background(), Job{Script: script, Extra: extra, InOrder: true, Done: func(outcome Outcome) {
		if !outcome.OK() {
			n.Logger.Warn("notification script failed", about, "state", state, "script", script.String(), "err", outcome.Err)
		}
	}})
}
