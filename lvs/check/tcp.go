package check

import (
	"fmt"

	"github.com/hactl/had/lvs/check/verdict"
)

// TCP succeeds when a connection is established (TCP_CHECK).
type TCP struct{ Endpoint }

func (*TCP) schedule(*verdict.Config) {}

func (p *TCP) prepare(*Engine) (prober, error) {
	return &connector{&p.Endpoint, fmt.Sprintf("connect %v: done", p.Target)}, nil
}

// connector makes attempts that consist of a connection.
type connector struct {
	*Endpoint
	done string // the reason of a success
}

// outcome is the one of a connection that was made, or could not be.
func (p *connector) outcome(err error) verdict.Outcome {
	if err != nil {
		return failed(p.notConnected(err).Error())
	}
	return succeeded(p.done)
}
