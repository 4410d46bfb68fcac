//go:build integ

package clustered

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

// way is a way in which a director loses what it owns to another one.
type way struct {
	name    string
	orderly bool // the program cleans up
	lose    func(s *stage, owner, other *site.Node) error
}

var (
	move      = way{"hactl move", true, func(s *stage, owner, other *site.Node) error { return s.asked(owner, other, 200*time.Millisecond) }}
	terminate = way{"SIGTERM", true, func(s *stage, owner, _ *site.Node) error { return s.Terminate(owner) }}
	kill      = way{"kill -9", false, func(s *stage, owner, _ *site.Node) error { return s.Kill(owner) }}
	ways      = []way{kill, move, terminate}
)

// serviceKey is what the kernel knows the service of a port by.
func serviceKey(port int) lvs.ServiceKey {
	return lvs.ServiceKey{Family: lvs.IPv4, Protocol: lvs.TCP, Address: netip.AddrPortFrom(vip, uint16(port))}
}

func serverKey(address string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
}

// syncs is what a file says so that the owner tells of its connections.
const syncs = "global_defs {\n  lvs_sync_daemon eth0 VI_4\n}\n"

// daemons waits until a director has this synchronization daemon, and no other.
func (s *stage) daemons(n *site.Node, role ipvs.Role) {
	s.t.Helper()
	s.eventually(settleLimit, func() error {
		all, err := s.kernels[n].Daemons()
		if err == nil && (len(all) != 1 || all[0].Role != role || all[0].Interface != "eth0" || all[0].ID != 51) {
			err = fmt.Errorf("%s has the daemons %+v, want role %d alone", n.Name, all, role)
		}
		return err
	})
}
