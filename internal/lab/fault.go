package lab

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Fault is a disturbance in force. It ends with Heal, with [Lab.HealAll] or with the lab.
type Fault struct {
	lab  *Lab
	name string
	// undo ends the fault; nil for one that consists of filters, which are part of the switch's rule set while it is in force.
	undo    func() error
	filters []Filter
	once    sync.Once
}

// String says what the fault does, for reports: "lb1 is cut off".
func (f *Fault) String() string { return f.name }

// Heal ends the fault. A second call does nothing.
func (f *Fault) Heal() error {
	var err error
	f.once.Do(func() { err = f.lab.heal(f) })
	if err != nil {
		return fmt.Errorf("heal %q: %w", f.name, err)
	}
	return nil
}

// heal takes the fault off the list and undoes it.
func (l *Lab) heal(f *Fault) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = slices.DeleteFunc(l.faults, func(g *Fault) bool { return g == f })
	l.log.Debug("fault healed", "fault", f.name)
	if f.undo == nil {
		return l.applyFilters()
	}
	return f.undo()
}

// HealAll ends all faults, the youngest first.
func (l *Lab) HealAll() error {
	l.mu.Lock()
	faults := slices.Clone(l.faults)
	l.mu.Unlock()
	slices.Reverse(faults)
	var errs []error
	for _, f := range faults {
		errs = append(errs, f.Heal())
	}
	return errors.Join(errs...)
}

// Faults returns the faults in force, the oldest first.
func (l *Lab) Faults() []*Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults)
}

// CutPort takes the host's port out of the switch. The host still has carrier and hears nobody, nobody hears it.
func (l *Lab) CutPort(h *Host) (*Fault, error) {
	return l.portFault(h, h.name+" is cut off", func() error {
		port, err := l.nl.LinkByName(h.Port())
		if err != nil {
			return err
		}
		return l.nl.LinkSetNoMaster(port)
	}, func() error {
		port, err := l.nl.LinkByName(h.Port())
		if err != nil {
			return err
		}
		return l.nl.LinkSetMasterByIndex(port, l.bridge)
	})
}

// LinkDown shuts the host's port on the switch down, so that the host loses carrier. Healed, the link carries frames when the
// kernel has noticed, which may take it a second.
func (l *Lab) LinkDown(h *Host) (*Fault, error) {
	return l.portFault(h, h.name+" has no carrier", func() error {
		port, err := l.nl.LinkByName(h.Port())
		if err != nil {
			return err
		}
		return l.nl.LinkSetDown(port)
	}, func() error {
		port, err := l.nl.LinkByName(h.Port())
		if err != nil {
			return err
		}
		return l.nl.LinkSetUp(port)
	})
}

func (l *Lab) portFault(h *Host, name string, do, undo func() error) (*Fault, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := do(); err != nil {
		return nil, fmt.Errorf("make %q: port %s: %w", name, h.Port(), err)
	}
	f := &Fault{lab: l, name: name, undo: undo}
	l.faults = append(l.faults, f)
	l.log.Debug("fault made", "fault", name)
	return f, nil
}

// Drop makes the switch drop the frames that any of the filters describes. name is what [Fault.String] says.
func (l *Lab) Drop(name string, filters ...Filter) (*Fault, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &Fault{lab: l, name: name, filters: slices.Clone(filters)}
	l.faults = append(l.faults, f)
	if err := l.applyFilters(); err != nil {
		l.faults = l.faults[:len(l.faults)-1]
		return nil, fmt.Errorf("make %q: %w", name, err)
	}
	l.log.Debug("fault made", "fault", name)
	return f, nil
}

// DropOneWay drops all frames from one host to another and lets the other direction pass. Either may be nil: any host.
func (l *Lab) DropOneWay(from, to *Host) (*Fault, error) {
	return l.Drop(fmt.Sprintf("nothing passes from %s to %s", orAny(from), orAny(to)), Filter{From: from, To: to})
}

// DropPair drops all frames between two hosts.
func (l *Lab) DropPair(a, b *Host) (*Fault, error) {
	return l.Drop(fmt.Sprintf("nothing passes between %s and %s", orAny(a), orAny(b)), Both(Filter{From: a, To: b})...)
}

// DropProtocol drops the packets of an IP protocol, in IPv4 and IPv6, between two hosts: VRRP is 112.
func (l *Lab) DropProtocol(protocol uint8, a, b *Host) (*Fault, error) {
	return l.Drop(fmt.Sprintf("IP protocol %d is dropped between %s and %s", protocol, orAny(a), orAny(b)),
		Both(Filter{From: a, To: b, Protocol: protocol})...)
}

// DropPort drops the segments or datagrams of a TCP (6) or UDP (17) port between two hosts, whichever side has the port.
func (l *Lab) DropPort(protocol uint8, port uint16, a, b *Host) (*Fault, error) {
	return l.Drop(fmt.Sprintf("port %d of IP protocol %d is dropped between %s and %s", port, protocol, orAny(a), orAny(b)),
		Both(Filter{From: a, To: b, Protocol: protocol, Port: port})...)
}

// Lose drops a share of the frames between two hosts at random, in percent.
func (l *Lab) Lose(percent int, a, b *Host) (*Fault, error) {
	return l.Drop(fmt.Sprintf("%d%% of the frames between %s and %s are lost", percent, orAny(a), orAny(b)),
		Both(Filter{From: a, To: b, Percent: percent})...)
}

func orAny(h *Host) string {
	if h == nil {
		return "anybody"
	}
	return h.name
}
