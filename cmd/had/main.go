// Command had is the daemon of a director: keepalived's job, without two owners.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/agent"
	"github.com/hactl/had/internal/agent/companion"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/daemon"
	"github.com/hactl/had/internal/member"
)

var version = "unknown" // set by the linker

func main() {
	if log, is := daemon.CompanionLog("had", version, os.Args[1:], os.Stderr); is {
		os.Exit(companion.Run(log))
	}
	os.Exit(daemon.Run("had", version, os.Args[1:], os.Stdout, os.Stderr, run))
}

func run(ctx context.Context, c daemon.Configuration, log *slog.Logger) error {
	if c.Cluster != nil && c.Cluster.Self().Witness {
		return &daemon.ConfigError{Text: fmt.Sprintf("peer %s is a witness in the cluster block: run hawitness", c.Cluster.Self().Name)}
	}
	keeper, err := companion.Start(companion.Options{Lock: c.Socket + ".companion", Var: daemon.CompanionVar,
		Value: c.CompanionValue(), Args: os.Args[1:], Stderr: c.CompanionStderr(), Log: log})
	if err != nil {
		return err
	}
	defer keeper.Close()
	agent.StartupScript(ctx, &c.Global, log)
	defer agent.ShutdownScript(&c.Global, log)
	opt := agent.Options{Config: c.Config, Findings: c.Findings, Version: version, Logger: log, Reread: c.Reread, Signals: c.Signals,
		Supervisor: c.Supervisor, Companion: keeper, DumpDir: filepath.Dir(c.Socket), KeepIPVS: c.KeepIPVS}
	if c.Cluster == nil {
		log.Warn("no cluster block: nothing protects a virtual IP from two owners")
		lc, err := leaseclock.New()
		if err != nil {
			return err
		}
		opt.Clock = lc
		return member.Alone(ctx, c.Socket, agent.New(opt), log)
	}
	var life *agent.Agent
	return member.Live(ctx, c.Config, c.Socket, version, log,
		func(cfg cluster.Config, cl *cluster.Cluster, lc *leaseclock.Clock) member.Part {
			if life != nil { // the last one may have reloaded it
				opt.Config, opt.Findings = life.Configuration()
			}
			opt.Cluster, opt.Member, opt.Clock = cl, cfg, lc
			life = agent.New(opt)
			return life
		})
}
