package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"time"

	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/check"
	"github.com/hactl/had/lvs/check/verdict"
)

// healthChecks makes the health checks of the load balancer, and gives those of files and BFD sessions what the agent knows
// of these. Its methods may be called by any goroutine.
type healthChecks struct {
	engine *check.Engine
	runner notify.Runner

	mu       sync.Mutex
	inputs   []balancer.Check // FILE_CHECK and BFD_CHECK
	files    map[string]int32 // values by track_file
	sessions map[string]bool  // BFD sessions by name
}

func newHealthChecks() *healthChecks {
	return &healthChecks{files: map[string]int32{}, sessions: map[string]bool{}}
}

// start makes the engine, which reports to found.
func (h *healthChecks) start(now func() clock.Time, log *slog.Logger, found func(string, balancer.Finding)) balancer.Checks {
	engine := check.New(check.Options{Now: now, Run: h.run, Log: log, Report: func(r check.Result) {
		found(r.ID, balancer.Finding{Verdict: lvs.Verdict{Up: r.Up, Adds: int64(r.Adjust)}, Reason: r.Reason, At: r.At})
	}})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.engine = engine
	return h
}

// Set implements balancer.Checks.
func (h *healthChecks) Set(all []balancer.Check, presented *check.TLS) {
	checks := make([]check.Check, 0, len(all))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inputs = nil
	for _, c := range all {
		checks = append(checks, engineCheck(c, presented))
		if c.Checker.Kind == conf.FileCheck || c.Checker.Kind == conf.BFDCheck {
			h.inputs = append(h.inputs, c)
		}
	}
	h.engine.Set(checks)
	for _, c := range h.inputs {
		h.give(c)
	}
}

// Suspend implements balancer.Checks.
func (h *healthChecks) Suspend(id string, suspended bool) { h.engine.Suspend(id, suspended) }

// Doubt implements balancer.Checks.
func (h *healthChecks) Doubt(ids []string) { h.engine.Doubt(ids) }

// Close implements balancer.Checks.
func (h *healthChecks) Close() {
	h.mu.Lock()
	engine := h.engine
	h.engine, h.inputs = nil, nil
	h.mu.Unlock()
	engine.Close()
}

// file takes in the value of a track_file.
func (h *healthChecks) file(name string, value int32) {
	h.learn(func() { h.files[name] = value }, func(c *conf.Checker) bool { return c.File != nil && c.File.TrackFile == name })
}

// session takes in the state of a BFD session.
func (h *healthChecks) session(name string, up bool) {
	h.learn(func() { h.sessions[name] = up }, func(c *conf.Checker) bool { return c.Kind == conf.BFDCheck && c.Session == name })
}

func (h *healthChecks) learn(take func(), concerns func(*conf.Checker) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	take()
	for _, c := range h.inputs {
		if concerns(c.Checker) {
			h.give(c)
		}
	}
}

// give tells the engine what is known about a check.
func (h *healthChecks) give(c balancer.Check) {
	if c.Checker.Kind == conf.BFDCheck {
		up, known := h.sessions[c.Checker.Session]
		if known {
			h.engine.Input(c.ID, sessionOutcome(c.Checker.Session, up))
		}
		return
	}
	if value, known := h.files[c.Checker.File.TrackFile]; known {
		h.engine.Input(c.ID, fileOutcome(c.Checker.File, value))
	}
}

func sessionOutcome(name string, up bool) verdict.Outcome {
	state := "down"
	if up {
		state = "up"
	}
	return verdict.Outcome{OK: up, Reason: fmt.Sprintf("bfd session %s is %s", name, state)}
}

// fileOutcome is what the value of a file means: it times the weight is added to the server's, and without a weight
// another value than 0 is a failure, or 0 with reverse.
func fileOutcome(f *conf.FileCheckFields, value int32) verdict.Outcome {
	o := verdict.Outcome{OK: true, Reason: fmt.Sprintf("track_file %s holds %d", f.TrackFile, value)}
	switch {
	case f.Weight == 0:
		o.OK = (value == 0) != f.Reverse
	case f.Reverse:
		o.Adjust = -int(value) * f.Weight
	default:
		o.Adjust = int(value) * f.Weight
	}
	return o
}

// run runs the script of a MISC_CHECK.
func (h *healthChecks) run(ctx context.Context, script any, timeout time.Duration) (status int, err error) {
	done := make(chan notify.Outcome, 1)
	h.runner.Run(ctx, notify.Job{Script: *script.(*notify.Script), Timeout: timeout, Done: func(o notify.Outcome) { done <- o }})
	o := <-done
	var exit *exec.ExitError
	if errors.As(o.Err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, o.Err
}

// engineCheck is a check as the engine wants it.
func engineCheck(b balancer.Check, presented *check.TLS) check.Check {
	c := b.Checker
	to := check.Endpoint{Target: c.Target, Bind: c.BindAddress, BindPort: c.BindPort, Interface: c.BindInterface, Mark: c.Mark,
		Timeout: c.ConnectTimeout}
	e := check.Check{ID: b.ID, Alpha: c.Alpha, LogFailures: c.LogAllFailures, Schedule: check.Schedule{Interval: c.DelayLoop,
		RetryDelay: c.DelayBeforeRetry, Retries: c.Retry, Warmup: c.Warmup}}
	switch c.Kind {
	case conf.TCPCheck:
		e.Probe = &check.TCP{Endpoint: to}
	case conf.HTTPGet, conf.SSLGet:
		e.Probe = httpProbe(c, to, presented)
	case conf.SMTPCheck:
		e.Probe = &check.SMTP{Endpoint: to, Helo: c.HeloName}
	case conf.DNSCheck:
		e.Probe = &check.DNS{Endpoint: to, Type: c.DNS.Type, Name: c.DNS.Name}
	case conf.UDPCheck:
		e.Probe = &check.UDP{Endpoint: to, Payload: c.UDP.Payload, RequireReply: c.UDP.RequireReply, Reply: c.UDP.Reply,
			ReplyMask: c.UDP.ReplyMask, MinReply: c.UDP.MinReply, MaxReply: c.UDP.MaxReply}
	case conf.PingCheck:
		e.Probe = &check.Ping{Endpoint: to}
	case conf.MiscCheck:
		e.Probe = check.Misc{Name: c.Misc.Command.Line, Script: b.Script, Timeout: c.Misc.Timeout, Dynamic: c.Misc.Dynamic,
			Weight: b.Weight}
	default:
		e.Probe = check.Input{}
	}
	return e
}

var httpVersions = map[string]check.Protocol{"1.0": check.HTTP10, "1.0C": check.HTTP10Close, "1.1": check.HTTP11,
	"2": check.HTTP2}

func httpProbe(c *conf.Checker, to check.Endpoint, presented *check.TLS) *check.HTTP {
	p := &check.HTTP{Endpoint: to, Secure: c.Kind == conf.SSLGet, Protocol: httpVersions[c.HTTP.Protocol],
		FastRecovery: c.HTTP.FastRecovery}
	if p.Secure {
		p.TLS = presented
	}
	for _, u := range c.HTTP.URLs {
		url := check.URL{Path: u.Path, Host: u.Host, ServerName: u.ServerName, Digest: u.Digest, Verify: u.TLSVerify,
			Compliant: u.TLSCompliant}
		for _, s := range u.Status {
			url.Status = append(url.Status, check.StatusRange(s))
		}
		if r := u.Regex; r != nil {
			url.Regex = &check.Regex{Pattern: r.Pattern, Options: r.Options, NoMatch: r.NoMatch, MinOffset: r.MinOffset,
				MaxOffset: r.MaxOffset}
		}
		p.URLs = append(p.URLs, url)
	}
	return p
}

// presentedTo loads what checks present to TLS servers. It waits for the file system.
func presentedTo(s *conf.SSL, log *slog.Logger) *check.TLS {
	if s == nil {
		return nil
	}
	t, err := check.LoadTLS(check.TLSFiles{CA: s.CA, Certificate: s.Certificate, Key: s.Key, Password: s.Password})
	if err != nil {
		log.Error("the SSL block cannot be used; SSL_GET presents no certificate", "at", s.Pos, "err", err)
		return nil
	}
	return t
}
