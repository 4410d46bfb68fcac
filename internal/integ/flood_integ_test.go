//go:build integ

package integ

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/linux/arp"
	"github.com/hactl/had/internal/linux/ether"
)

// storm has the client ask the LAN so many times a second, for a while, who has an address that nobody has.
func (s *scene) storm(perSecond int, span time.Duration) error {
	link, err := s.Client.Netlink().LinkByName(lab.Interface)
	if err != nil {
		return err
	}
	question, err := arp.NewRequest(ether.MAC(s.Client.MAC()), site.Client4, netip.MustParseAddr("10.77.0.250")).AppendFrame(nil, ether.Broadcast)
	if err != nil {
		return err
	}
	var socket int
	if err := s.Client.Do(func() (err error) {
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		return err
	}
	defer unix.Close(socket)
	to := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}
	began, sent := time.Now(), 0
	for passed := time.Duration(0); passed < span; passed = time.Since(began) {
		due := int(passed.Seconds() * float64(perSecond))
		for sent = max(sent, due-perSecond/100); sent < due; sent++ { // what was missed for longer is not made up for at once
			if err := unix.Sendto(socket, question, 0, to); err != nil {
				return err
			}
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
