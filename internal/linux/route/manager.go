package route

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

// Manager changes routes and rules in one network namespace. Its methods may be called by any goroutine; requests go to
// the kernel one by one.
type Manager struct{ conn *rtnl.Conn }

// New returns a Manager for the network namespace of the calling thread.
func New() (*Manager, error) {
	conn, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	return &Manager{conn}, nil
}

// Close ends the use of the Manager.
func (m *Manager) Close() { m.conn.Close() }

// Port is what the kernel's notifications call the Manager: what it does itself need not be news.
func (m *Manager) Port() uint32 { return m.conn.Port() }

// Put adds the route. It succeeds if the route exists.
func (m *Manager) Put(r Route) error {
	req, err := request(r, unix.RTM_NEWROUTE)
	if err == nil {
		err = m.conn.Do(req)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("put route %v: %w", r, err)
	}
	return nil
}

// Remove removes the route. It succeeds if the route, or the interface that it leads through, does not exist.
func (m *Manager) Remove(r Route) error {
	req, err := request(r, unix.RTM_DELROUTE)
	if err == nil {
		err = m.conn.Do(req)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove route %v: %w", r, err)
	}
	return nil
}

// PutRule adds the rule. It succeeds if the rule exists.
func (m *Manager) PutRule(r Rule) error {
	if err := m.conn.Do(ruleRequest(r, unix.RTM_NEWRULE)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("put %v: %w", r, err)
	}
	return nil
}

// RemoveRule removes the rule. It succeeds if the rule does not exist.
func (m *Manager) RemoveRule(r Rule) error {
	if err := m.conn.Do(ruleRequest(r, unix.RTM_DELRULE)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %v: %w", r, err)
	}
	return nil
}

// list returns the routes and rules that carry keepalived's number.
func list(conn *rtnl.Conn) ([]Route, []Rule, error) {
	header := &nl.RtMsg{}
	payloads, err := conn.Dump(unix.RTM_GETROUTE, header, unix.RTM_NEWROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, payload := range payloads {
		if r, err := Parse(payload); err == nil && r.Protocol == Protocol {
			routes = append(routes, r)
		}
	}
	payloads, err = conn.Dump(unix.RTM_GETRULE, header, unix.RTM_NEWRULE)
	if err != nil {
		return nil, nil, fmt.Errorf("list rules: %w", err)
	}
	var rules []Rule
	for _, payload := range payloads {
		if r, err := ParseRule(payload); err == nil && r.Protocol == Protocol {
			rules = append(rules, r)
		}
	}
	return routes, rules, nil
}
