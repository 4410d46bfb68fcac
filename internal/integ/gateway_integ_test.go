//go:build integ

package integ

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
)

var (
	gateway4 = netip.MustParseAddr("10.77.0.254")
	gateway6 = netip.MustParseAddr("fd00:77::254")
)

// flap takes the way between hosts away and gives it back, each for a span, for as long as total.
func (s *scene) flap(total, span time.Duration, cut func() (*lab.Fault, error)) error {
	for end := time.Now().Add(total); time.Now().Before(end); {
		fault, err := cut()
		if err != nil {
			return err
		}
		time.Sleep(span)
		if err := fault.Heal(); err != nil {
			return err
		}
		time.Sleep(span)
	}
	return nil
}

// says waits until a node's status names the gateway, and asserts that the reason for the group's place does, too.
func (s *scene) saysGateway(t *testing.T) {
	t.Helper()
	if err := s.Poll(s.ctx, recoverLimit, func() error {
		status, err := s.Status(s.ctx, s.other)
		if err != nil {
			return err
		}
		if text := site.Describe(status); !strings.Contains(text, s.owner.Name+" does not reach the gateway") {
			return errors.New("the status does not name the gateway: " + text)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	why, err := s.Hactl(s.ctx, s.other, "why", s.Group())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(why, "gateway") {
		t.Errorf("hactl why does not name the gateway:\n%s", why)
	}
}

// ready waits until the other director would do as the owner. It is started anew, so that it has lost no gateway before, and is held
// back for none.
func (s *scene) ready() error {
	if err := errors.Join(s.Terminate(s.other), s.Start(s.other)); err != nil {
		return err
	}
	return s.Poll(s.ctx, recoverLimit, func() error {
		status, err := s.Status(s.ctx, s.other)
		if err != nil {
			return err
		}
		for _, g := range status.Groups {
			for _, k := range g.Candidates {
				if k.Node == s.other.Name && !k.Eligible {
					return fmt.Errorf("%s could not own %s: %v", k.Node, g.Name, k.WhyNot)
				}
			}
		}
		return nil
	})
}

// A gateway beside the directors: whoever does not reach it gives its groups to one that does, once, and one that nobody reaches, or
// that comes and goes for all of them, moves nothing.
func TestGatewayDecidesBetweenDirectors(t *testing.T) {
	t.Parallel()
	var gw *lab.Host
	down := trial{
		name: "the gateway is down for everybody", id: "N20", expect: stays, bound: withoutLoss, hold: 4 * time.Second,
		make: func(s *scene) error { return keep(s.Lab.CutPort(gw)) },
	}
	unreachable := trial{
		name: "the owner alone does not reach the gateway", id: "N21", expect: moves, bound: withinHandover, hold: 500 * time.Millisecond,
		make: func(s *scene) error {
			return errors.Join(s.ready(), keep(s.Lab.DropPair(s.owner.Host, gw)))
		},
		during: func(t *testing.T, s *scene) { s.saysGateway(t) },
	}
	flapping := trial{
		name: "the gateway comes and goes for everybody", id: "N22", expect: stays, bound: withoutLoss,
		make: func(s *scene) error {
			return s.flap(10*time.Second, 2500*time.Millisecond, func() (*lab.Fault, error) { return s.Lab.CutPort(gw) })
		},
	}
	noICMP := trial{
		name: "the gateway answers the owner by ARP, not by ICMP", id: "N22", expect: stays, bound: withoutLoss, hold: 3 * time.Second,
		make: func(s *scene) error { return keep(s.Lab.DropProtocol(unix.IPPROTO_ICMP, s.owner.Host, gw)) },
	}
	for _, tt := range []struct {
		name, rules string
		trials      []trial
	}{
		{"by ICMP", "gateway 10.77.0.254 { interval 0.5 }", []trial{down, unreachable, flapping}},
		{"by ARP", "gateway 10.77.0.254 { interval 0.5  method arp  interface eth0 }", []trial{noICMP}},
		{"both families", "gateway 10.77.0.254 { interval 0.5 } gateway fd00:77::254 { interval 0.5  method arp  interface eth0 } " +
			"gateway_require all", []trial{unreachable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := setUp(t, func(p *site.Plan) { p.Cluster = []string{tt.rules} })
			var err error
			gw, err = s.Lab.AddHost("gw", netip.PrefixFrom(gateway4, site.Subnet4.Bits()), netip.PrefixFrom(gateway6, site.Subnet6.Bits()))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.StartAll(); err != nil {
				t.Fatal(err)
			}
			awaitWhole(t, s)
			for _, tr := range tt.trials {
				play(t, s, tr)
			}
		})
	}
}
