package speaker

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/linux/link"
)

func always() bool { return true }

func TestAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{Forwarding: func(iface string) bool { return iface == "eth0" }})
		second := eth0
		second.Index, second.Name = 3, "eth1"
		loopback := link.Link{Index: 1, Name: "lo", Loopback: true}
		n.addLink(eth0, "192.0.2.1/24")
		n.addLink(second)
		n.addLink(loopback)
		s := n.mustOpen(n.config(51))
		s.Announce(targets("eth0/192.0.2.51", "lo/192.0.2.51", "eth0/2001:db8::51", "gone/192.0.2.51", "eth1/2001:db8::51"),
			2, always)
		synctest.Wait()
		round := []string{
			"announce 192.0.2.51 on eth0, router false",
			"announce 2001:db8::51 on eth0, router true",
			"announce 2001:db8::51 on eth1, router false",
		}
		expectLog(t, n.takeLog(), append(round, round...)...)
	})
}

func TestCheckIsAskedBeforeEachFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.addLink(eth0, "192.0.2.1/24")
		s := n.mustOpen(n.config(51))
		calls := 0
		s.Announce(targets("eth0/192.0.2.51", "eth0/192.0.2.52"), 5, func() bool {
			calls++
			return calls <= 3
		})
		synctest.Wait()
		expectLog(t, n.takeLog(),
			"announce 192.0.2.51 on eth0, router false",
			"announce 192.0.2.52 on eth0, router false",
			"announce 192.0.2.51 on eth0, router false")
		if calls != 4 {
			t.Errorf("check was called %d times after it had said no, want once", calls-3)
		}
	})
}

func TestSpacingOfAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{Spacing: func(string) Spacing { return Spacing{ARP: time.Second} }})
		n.addLink(eth0, "192.0.2.1/24")
		s := n.mustOpen(n.config(51))
		s.Announce(targets("eth0/192.0.2.51"), 3, always)
		for range 3 {
			synctest.Wait()
			expectLog(t, n.takeLog(), "announce 192.0.2.51 on eth0, router false")
			time.Sleep(999 * time.Millisecond)
			synctest.Wait()
			expectLog(t, n.takeLog())
			time.Sleep(time.Millisecond)
		}
		s.Announce(targets("eth0/192.0.2.51"), 3, always)
		synctest.Wait()
		s.CancelAnnouncements()
		time.Sleep(time.Minute)
		expectLog(t, n.takeLog(), "announce 192.0.2.51 on eth0, router false")
	})
}

// slowSender is in the middle of a frame for as long as it is told.
type slowSender struct {
	begun, proceed chan struct{}
	frames         atomic.Int32
}

func (s *slowSender) Announce(link.Link, netip.Addr, bool) error {
	s.begun <- struct{}{}
	<-s.proceed
	s.frames.Add(1)
	return nil
}

// Whoever cancels can rely on it that nothing is sent afterwards, also if a frame was being sent.
func TestCancelWaitsForTheFrameThatIsBeingSent(t *testing.T) {
	sender := &slowSender{begun: make(chan struct{}), proceed: make(chan struct{})}
	n := newFakeNet(t, Options{Sender: sender})
	n.addLink(eth0, "192.0.2.1/24")
	s := n.mustOpen(n.config(51))
	s.Announce(targets("eth0/192.0.2.51"), 100, always)
	<-sender.begun
	cancelled := make(chan int32)
	go func() {
		s.CancelAnnouncements()
		cancelled <- sender.frames.Load()
	}()
	select {
	case <-cancelled:
		t.Error("cancelled while a frame is being sent")
	case <-time.After(20 * time.Millisecond):
	}
	close(sender.proceed)
	for {
		select {
		case <-sender.begun: // one more may have begun before the cancellation got its turn
			continue
		case frames := <-cancelled:
			time.Sleep(20 * time.Millisecond)
			if now := sender.frames.Load(); now != frames {
				t.Errorf("%d frames were sent after the cancellation", now-frames)
			}
			return
		}
	}
}
