package witness

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/control/api"
)

// loopback is an address on which nothing else is given ports.
const loopback = "127.91.0.1"

type watched struct{}

func (watched) Ready()    {}
func (watched) Stopping() {}
func (watched) Alive()    {}

// Messages come more often than the loop keeps house. They do not keep it from noticing that a majority answers.
func TestABusyWitnessKeepsHouse(t *testing.T) {
	t.Parallel()
	self := cluster.Peer{Name: "w1", Address: netip.MustParseAddr(loopback)} // no cluster has witnesses only
	lc, err := leaseclock.New()
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Config{Name: "busy", Node: "w1", Key: make([]byte, cluster.KeySize), DataDir: t.TempDir(), Port: freePorts(t),
		Self: self, Peers: []cluster.Peer{self}, Lease: time.Second, Version: "test", Life: 1, Clock: lc.Now,
		Logger: slog.New(slog.DiscardHandler)}
	c, err := cluster.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := New(cfg, c, lc, watched{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- c.Run(ctx) }()
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(housekeeping / 50) {
		c.Send(c.Self(), []byte("no message of the lease protocol"))
		page, _, err := w.Backend().Events(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if e.Kind == api.EventQuorum && e.Severity == api.Info {
				return
			}
		}
	}
	t.Error("a majority answers, and the witness has not noticed within 30 s")
}

// freePorts returns a TCP port for the log, after which comes one for gossip.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(loopback), Port: port + 1})
		_ = first.Close()
		if err == nil {
			_ = second.Close()
			return port
		}
	}
	t.Fatal("no two free ports in a row")
	return 0
}
