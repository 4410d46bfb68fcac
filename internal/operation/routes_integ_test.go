//go:build integ

package operation

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/route"
	"github.com/hactl/had/internal/linux/rtnl"
)

// forwardingLines make the group have a route and a rule, and every director static ones. The virtual route needs the
// virtual address.
var forwardingLines = fmt.Sprintf(`virtual_routes {
        198.51.100.0/24 dev eth0 src %s
    }
    virtual_rules {
        from 198.51.100.0/24 table 100 preference 500
    }
    virtual_ipaddress {`, site.VIP4)

const staticLines = `static_ipaddress {
    203.0.113.1/32 dev lo
}
static_routes {
    198.51.101.0/24 dev eth0
}
static_rules {
    from 198.51.101.0/24 table 100 preference 501
}
vrrp_instance`

// changes is what came and went on a host, in the kernel's order.
type changes struct {
	mu   sync.Mutex
	now  map[string]bool
	list []string
}

func (c *changes) note(what string, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if what != "" && c.now[what] != there { // a refresh is no change
		c.now[what] = there
		c.list = append(c.list, map[bool]string{true: "+", false: "-"}[there]+what)
	}
}

// take returns the changes since the last call.
func (c *changes) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.Join(c.list, " ")
	c.list = nil
	return text
}

// has lists what is there.
func (c *changes) has() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for what, there := range c.now {
		if there {
			list = append(list, what)
		}
	}
	slices.Sort(list)
	return list
}

// follow notes what comes and goes on a host until the test ends.
func (s *stage) follow(n *site.Node) *changes {
	s.t.Helper()
	c := &changes{now: map[string]bool{}}
	var feed *rtnl.Subscription
	s.must(n.Host.Do(func() (err error) {
		feed, err = rtnl.Subscribe(slog.New(slog.DiscardHandler), unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
			unix.RTNLGRP_IPV4_RULE)
		return err
	}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			messages, err := feed.Receive()
			if err != nil {
				return
			}
			for _, m := range messages {
				there := m.Header.Type == unix.RTM_NEWADDR || m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_NEWRULE
				switch m.Header.Type {
				case unix.RTM_NEWADDR, unix.RTM_DELADDR:
					if a, err := address.Parse(m.Data); err == nil {
						addr := a.Prefix.Addr().String()
						c.note(map[string]string{site.VIP4.String(): "vip", "203.0.113.1": "static-address"}[addr], there)
					}
				case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
					if r, err := route.Parse(m.Data); err == nil && r.Protocol == route.Protocol {
						to := r.Destination.String()
						c.note(map[string]string{"198.51.100.0/24": "route", "198.51.101.0/24": "static-route"}[to], there)
					}
				case unix.RTM_NEWRULE, unix.RTM_DELRULE:
					if r, err := route.ParseRule(m.Data); err == nil && r.Protocol == route.Protocol {
						c.note(map[uint32]string{500: "rule", 501: "static-rule"}[r.Priority], there)
					}
				}
			}
		}
	}()
	s.t.Cleanup(func() { _ = feed.Close(); <-ended })
	return c
}

// expectChanges waits until exactly these changes have come since they were last looked at.
func (s *stage) expectChanges(n *site.Node, c *changes, want string) {
	s.t.Helper()
	var seen []string
	s.eventually(sayLimit, func() error {
		if text := c.take(); text != "" {
			seen = append(seen, text)
		}
		if got := strings.Join(seen, " "); got != want {
			return fmt.Errorf("%s: %q, want %q", n.Name, got, want)
		}
		return nil
	})
}

// removeRoute takes the virtual route away behind had's back.
func (s *stage) removeRoute(n *site.Node) {
	s.t.Helper()
	_, prefix, err := net.ParseCIDR("198.51.100.0/24")
	s.must(err)
	list, err := n.Host.Netlink().RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: prefix}, netlink.RT_FILTER_DST)
	s.must(err)
	if len(list) != 1 {
		s.t.Fatalf("%d routes on %s", len(list), n.Name)
	}
	s.must(n.Host.Netlink().RouteDel(&list[0]))
}

// removeRule does so with a rule.
func (s *stage) removeRule(n *site.Node, priority int) {
	s.t.Helper()
	list, err := n.Host.Netlink().RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Priority: priority}, netlink.RT_FILTER_PRIORITY)
	s.must(err)
	if len(list) != 1 {
		s.t.Fatalf("%d rules on %s", len(list), n.Name)
	}
	s.must(n.Host.Netlink().RuleDel(&list[0]))
}

// Routes and rules are where the lease is: they come after the address and go before it, and are put back when somebody
// removes them, without a change of the owner. Static ones are on every director that runs.
func TestRoutesFollowTheLease(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	kernel := map[string]*changes{}
	for _, n := range s.Directors() {
		s.configure(n, "virtual_ipaddress {", forwardingLines, "vrrp_instance", staticLines)
		kernel[n.Name] = s.follow(n)
	}
	s.must(s.StartAll())
	owner, other := s.awaitWhole()
	static := "+static-address +static-route +static-rule"
	s.expectChanges(owner, kernel[owner.Name], static+" +vip +route +rule")
	s.expectChanges(other, kernel[other.Name], static)

	status, err := s.Status(s.ctx, owner)
	s.must(err)
	var shown []string
	for _, g := range status.Groups {
		for _, i := range g.Instances {
			shown = append(shown, slices.Concat(i.Routes, i.Rules)...)
		}
	}
	if text := strings.Join(shown, "; "); len(shown) != 2 || !strings.Contains(text, "198.51.100.0/24") || !strings.Contains(text, "500") {
		t.Errorf("routes and rules in the status: %s", text)
	}

	s.undisturbed("what somebody removes is put back", owner, func(s *stage) {
		s.removeRoute(owner)
		s.expectChanges(owner, kernel[owner.Name], "-route +route")
		s.removeRule(owner, 500)
		s.expectChanges(owner, kernel[owner.Name], "-rule +rule")
		s.removeRule(other, 501)
		s.expectChanges(other, kernel[other.Name], "-static-rule +static-rule")
	})

	s.move(owner, other)
	s.expectChanges(owner, kernel[owner.Name], "-rule -route -vip")
	s.expectChanges(other, kernel[other.Name], "+vip +route +rule")

	// What a killed daemon leaves behind goes at the next start, before anything else.
	s.must(s.Kill(other))
	s.awaitOwner(owner, recoverLimit)
	s.expectChanges(owner, kernel[owner.Name], "+vip +route +rule")
	s.must(s.Start(other))
	s.eventually(recoverLimit, func() error {
		if has := kernel[other.Name].has(); !slices.Equal(has, []string{"static-address", "static-route", "static-rule"}) {
			return fmt.Errorf("%s has %v", other.Name, has)
		}
		return nil
	})
	s.must(s.AwaitHealthy(s.ctx, recoverLimit))

	for _, n := range s.Directors() {
		s.must(s.Terminate(n))
	}
	for _, n := range s.Directors() {
		s.eventually(sayLimit, func() error {
			if has := kernel[n.Name].has(); len(has) > 0 {
				return fmt.Errorf("%s left behind %v", n.Name, has)
			}
			return nil
		})
	}
}
