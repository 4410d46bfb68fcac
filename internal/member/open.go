package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control"
)

const (
	// LifetimeSlack is how late the kernel may be in removing an address whose lifetime has ended: where lifetimes are
	// the guard, voters wait that much longer.
	LifetimeSlack = 1100 * time.Millisecond

	leaveTime = time.Second // for handing over the leadership of the log
	anewAfter = time.Second // between two lives in one process, so that what ends each of them at once is no busy loop
)

// ClusterConfig is what the cluster block of a configuration means to this process life.
func ClusterConfig(c *conf.Config, version string, lc *leaseclock.Clock, log *slog.Logger) (cluster.Config, error) {
	block := c.Cluster
	key, err := cluster.ReadKey(block.KeyFile)
	if err != nil {
		return cluster.Config{}, fmt.Errorf("cluster block, key_file: %w", err)
	}
	cfg := cluster.Config{
		Name: block.Name, Node: block.Node, Key: key, DataDir: block.DataDir, Port: block.Port,
		Lease: c.LeaseDuration(), Version: version, Life: NewLife(), Clock: lc.Now, Logger: log,
	}
	if block.Guard == conf.GuardLifetime {
		cfg.Slack = LifetimeSlack
	}
	for _, p := range block.Peers {
		peer := cluster.Peer{Name: p.Name, Address: p.Address, Witness: p.Witness}
		cfg.Peers = append(cfg.Peers, peer)
		if p.Name == block.Node {
			cfg.Self = peer
		}
	}
	return cfg, nil
}

// Part is one life of a member in its cluster: a director's or a witness's.
type Part interface {
	// Run works until ctx ends and hands over what it holds.
	Run(ctx context.Context) error
	// Backend answers the control socket.
	Backend() control.Backend
}

// Live opens the cluster, makes a part of it and runs both until ctx ends. When the data directory has to be given up,
// it begins anew, as a new member.
func Live(ctx context.Context, c *conf.Config, socket, version string, log *slog.Logger,
	part func(cluster.Config, *cluster.Cluster, *leaseclock.Clock) Part) error {
	lc, err := leaseclock.New()
	if err != nil {
		return err
	}
	if source, warning := ClockSource(); warning != "" {
		log.Warn("clocksource", "source", source, "warning", warning)
	}
	for {
		cfg, err := ClusterConfig(c, version, lc, log)
		if err != nil {
			return err
		}
		err = liveOnce(ctx, socket, cfg, lc, part)
		var anew *cluster.RestartError
		if !errors.As(err, &anew) || ctx.Err() != nil {
			return err
		}
		log.Warn("this member begins anew", "reason", anew.Reason)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(anewAfter):
		}
	}
}

func liveOnce(ctx context.Context, socket string, cfg cluster.Config, lc *leaseclock.Clock,
	part func(cluster.Config, *cluster.Cluster, *leaseclock.Clock) Part) error {
	c, err := cluster.Open(cfg)
	if err != nil {
		return err
	}
	p := part(cfg, c, lc)
	// The cluster outlives the part: handing over needs it.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(running) }()
	serving, served, err := serve(running, socket, p.Backend(), cfg.Logger)
	if err == nil {
		err = p.Run(ctx)
	}
	if err == nil {
		leaving, cancel := context.WithTimeout(running, leaveTime)
		if left := c.Leave(leaving); left != nil {
			cfg.Logger.Warn("the cluster was left without a handover of its log", "err", left)
		}
		cancel()
	}
	serving()
	<-served
	stop()
	return errors.Join(err, <-ended, c.Close())
}

// serve answers the control socket until stop is called; done is closed when it has ended. A daemon without a socket
// still does its main job, so only a socket in use is an error: then another one runs here.
func serve(ctx context.Context, path string, b control.Backend, log *slog.Logger) (stop func(), done <-chan struct{}, err error) {
	ended := make(chan struct{})
	l, err := control.Listen(path)
	switch {
	case errors.Is(err, control.ErrInUse):
		close(ended)
		return func() {}, ended, fmt.Errorf("control socket %s: %w", path, err)
	case err != nil:
		log.Error("no control socket: hactl will not reach this node", "path", path, "err", err)
		close(ended)
		return func() {}, ended, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		if err := (&control.Server{Backend: b, Logger: log}).Serve(ctx, l); err != nil {
			log.Error("control socket", "err", err)
		}
	}()
	return cancel, ended, nil
}

// Alone runs a part without a cluster until ctx ends.
func Alone(ctx context.Context, socket string, p Part, log *slog.Logger) error {
	serving, served, err := serve(context.WithoutCancel(ctx), socket, p.Backend(), log)
	if err == nil {
		err = p.Run(ctx)
	}
	serving()
	<-served
	return err
}
