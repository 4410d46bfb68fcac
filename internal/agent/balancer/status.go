package balancer

import (
	"context"
	"math"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/lvs"
)

// Status is how the load balancer stands.
type Status struct {
	Missing  string // why there is no IPVS; empty: there is
	Pending  int    // services that the kernel has yet to be told of
	Repaired int    // services that others had changed in the kernel
	Refused  []Refusal
	Services []Service
}

// Refusal is a change that the kernel did not make. It is tried again.
type Refusal struct {
	Change string
	Where  string // file and line, and what stands there
	Why    string
	Since  time.Time
}

// Service is a virtual server.
type Service struct {
	Config  *conf.VirtualServer
	View    lvs.View
	Servers []ServerStatus // in the order of View.Servers
}

// ServerStatus is what is known of a server besides its View.
type ServerStatus struct {
	Reason string    // of its state
	Since  time.Time // of its state; zero: since it was configured
	Found  *Finding  // by the checks of this machine; nil: they are not through yet
}

// Status tells how everything stands. It waits for the Balancer's goroutine, which may be at the kernel for a while.
func (b *Balancer) Status(ctx context.Context) (s Status, err error) {
	err = b.inRun(ctx, func() { s = b.status() })
	return s, err
}

func (b *Balancer) status() Status {
	t := b.table
	s := Status{Pending: len(t.queue), Repaired: t.repaired}
	if t.missing != nil {
		s.Missing = t.missing.Error()
	}
	for e, r := range t.refused {
		s.Refused = append(s.Refused, Refusal{Change: r.change.String(), Where: t.where(e), Why: r.err.Error(), Since: r.since})
	}
	for _, v := range b.pool.Views() {
		service := Service{Config: b.plan.conf[v.Name], View: v}
		for _, r := range v.Servers {
			service.Servers = append(service.Servers, b.serverStatus(v.Name, r))
		}
		s.Services = append(s.Services, service)
	}
	return s
}

func (b *Balancer) serverStatus(virtual string, r lvs.ServerView) ServerStatus {
	c := b.changes[Server{virtual, r.Address}]
	s := ServerStatus{Reason: c.reason, Since: c.at}
	if r.Ran {
		f := b.together(r.Checks)
		f.Verdict = r.Found
		s.Found = &f
	}
	return s
}

// together returns why and when the checks of a server have found what they did: the reason of the first one that has failed, else of
// the last one. One that fails is enough, and the newest of these counts; that it is up takes all of them.
func (b *Balancer) together(checks []lvs.Check) (all Finding) {
	all.Up, all.At = true, math.MaxInt64 // without checks it is up, ever anew
	for _, c := range checks {
		switch f := b.plan.checks[c.ID].Finding; {
		case f.Up && all.Up:
			all.Reason, all.At = f.Reason, min(all.At, f.At)
		case f.Up:
		case all.Up:
			all = f
		default:
			all.At = max(all.At, f.At)
		}
	}
	return all
}
