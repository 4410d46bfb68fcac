package check

import (
	"context"
	"fmt"

	"github.com/hactl/had/lvs/check/verdict"
)

// TCP succeeds when a connection is established (TCP_CHECK).
type TCP struct{ Endpoint }

func (TCP) schedule(*verdict.Config) {}

func (p TCP) prepare(*Engine) (prober, error) { return &p, nil }

func (p *TCP) attempt(ctx context.Context, _ int) verdict.Outcome {
	conn, err := p.dial(ctx, "tcp")
	if err != nil {
		return failed(err.Error())
	}
	conn.Close()
	return succeeded(fmt.Sprintf("connect %v: done", p.Target))
}
