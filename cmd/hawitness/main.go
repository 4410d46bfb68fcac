// Command hawitness is the daemon of a witness: it votes, and owns nothing.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"syscall"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/daemon"
	"github.com/hactl/had/internal/member"
	"github.com/hactl/had/witness"
)

var version = "unknown" // set by the linker

func main() {
	// A witness answers small messages one after the other: more processors would only wake each other.
	runtime.GOMAXPROCS(1)
	os.Exit(daemon.Run("hawitness", version, os.Args[1:], os.Stdout, os.Stderr, run))
}

func run(ctx context.Context, c daemon.Configuration, log *slog.Logger) error {
	if c.Cluster == nil {
		return &daemon.ConfigError{Text: "the configuration has no cluster block, and a witness needs nothing else"}
	}
	if self := c.Cluster.Self(); !self.Witness {
		return &daemon.ConfigError{Text: fmt.Sprintf("peer %s is a director in the cluster block: run had, or add the word witness to it", self.Name)}
	}
	go func() {
		for s := range c.Signals {
			if s == syscall.SIGHUP {
				log.Warn("a witness does not reload its configuration: restart it if the cluster block has changed")
			}
		}
	}()
	return member.Live(ctx, c.Config, c.Socket, version, log,
		func(cfg cluster.Config, cl *cluster.Cluster, lc *leaseclock.Clock) member.Part {
			return witness.New(cfg, cl, lc, c.Supervisor)
		})
}
