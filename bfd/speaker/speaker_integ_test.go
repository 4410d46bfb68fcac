//go:build integ

package speaker_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hactl/had/bfd"
	"github.com/hactl/had/bfd/speaker"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/linux/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

const patience = 10 * time.Second

func now() clock.Time { return clock.Time(time.Since(began)) + 1 }

var began = time.Now()

// both is a session between two addresses of this host, seen from either end.
func both(a, b string, ttl int, change func(c *speaker.Config)) []speaker.Config {
	c := speaker.Config{Name: "a", Source: netip.MustParseAddr(a), Neighbor: netip.MustParseAddr(b), TTL: ttl,
		Session: bfd.Config{MinTX: 20 * time.Millisecond, MinRX: 20 * time.Millisecond, IdleTX: time.Second, Multiplier: 5}}
	if change != nil {
		change(&c)
	}
	d := c
	d.Name, d.Source, d.Neighbor = "b", c.Neighbor, c.Source
	return []speaker.Config{c, d}
}

// run keeps sessions until the test ends, and returns the reports.
func run(t *testing.T, configs []speaker.Config) (s *speaker.Speaker, reports <-chan string) {
	t.Helper()
	s = speaker.New(slog.New(slog.NewTextHandler(t.Output(), nil)), now)
	s.Configure(configs)
	ctx, cancel := context.WithCancel(context.Background())
	all := make(chan string, 64)
	var ended sync.WaitGroup
	ended.Go(func() {
		s.Run(ctx, func(name string, up bool) {
			if up {
				name += " up"
			} else {
				name += " down"
			}
			all <- name
		})
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	return s, all
}

func await(t *testing.T, reports <-chan string, wanted ...string) {
	t.Helper()
	left := map[string]bool{}
	for _, w := range wanted {
		left[w] = true
	}
	for deadline := time.After(patience); len(left) > 0; {
		select {
		case r := <-reports:
			if !left[r] {
				t.Fatalf("reported %s, want %v", r, left)
			}
			delete(left, r)
		case <-deadline:
			t.Fatalf("not reported: %v", left)
		}
	}
}

func TestSessionsComeUp(t *testing.T) {
	for _, tt := range []struct {
		name    string
		configs []speaker.Config
	}{
		{"IPv4", both("127.0.0.1", "127.0.0.2", 255, nil)},
		{"IPv4, multihop", both("127.0.0.1", "127.0.0.2", 64, func(c *speaker.Config) { c.Multihop, c.MaxHops = true, 10 })},
		{"IPv6", both("fd00::1", "fd00::2", 255, nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "IPv6" {
				for _, address := range []string{"fd00::1/128", "fd00::2/128"} {
					nettest.AddAddress(t, "lo", address)
					t.Cleanup(func() { nettest.DeleteAddress(t, "lo", address) })
				}
			}
			_, reports := run(t, tt.configs)
			await(t, reports, "a up", "b up")
			select {
			case r := <-reports:
				t.Errorf("reported %s", r)
			case <-time.After(time.Second):
			}
		})
	}
}

// A packet that has passed through a router has a lower TTL than it was sent with (RFC 5881 section 5).
func TestPacketsFromAfarAreDropped(t *testing.T) {
	far := both("127.0.0.1", "127.0.0.2", 255, nil)
	far[0].TTL = 254
	_, reports := run(t, far)
	select {
	case r := <-reports:
		t.Errorf("reported %s", r)
	case <-time.After(3 * time.Second):
	}
}

func TestWhatStaysTheSameIsNotTouched(t *testing.T) {
	kept := both("127.0.0.1", "127.0.0.2", 255, nil)
	gone := both("127.0.0.3", "127.0.0.4", 255, nil)
	gone[0].Name, gone[1].Name = "c", "d"
	s, reports := run(t, append(kept, gone...))
	await(t, reports, "a up", "b up", "c up", "d up")
	changed := gone[0]
	changed.Session.MinTX *= 2
	s.Configure([]speaker.Config{kept[1], kept[0], changed, gone[1]})
	await(t, reports, "c down", "d down")
	await(t, reports, "c up", "d up")
	s.Configure(kept)
	await(t, reports, "c down", "d down")
	select {
	case r := <-reports:
		t.Errorf("reported %s", r)
	case <-time.After(time.Second):
	}
}

// Somebody else has the port for a while.
func TestAPortThatIsTakenIsTriedAgain(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 3784})
	if err != nil {
		t.Fatal(err)
	}
	_, reports := run(t, both("127.0.0.1", "127.0.0.2", 255, nil))
	select {
	case r := <-reports:
		t.Errorf("reported %s", r)
	case <-time.After(time.Second):
	}
	taken.Close()
	await(t, reports, "a up", "b up")
}
