package check

import (
	"context"
	"fmt"

	"github.com/hactl/had/lvs/check/verdict"
)

// TCP succeeds when a connection is established (TCP_CHECK).
type TCP struct{ Endpoint }

func (TCP) schedule(*verdict.Config) {}

type tcpProber struct {
	TCP
	done string // the reason of a success
}

func (p TCP) prepare(*Engine) (prober, error) {
	return &tcpProber{p, fmt.Sprintf("connect %v: done", p.Target)}, nil
}

func (p *tcpProber) attempt(ctx context.Context, _ int) verdict.Outcome {
	conn, err := p.tcp(ctx)
	if err != nil {
		return failed(err.Error())
	}
	conn.Close()
	return succeeded(p.done)
}
