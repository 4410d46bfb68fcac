package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hactl/had/lvs/check/verdict"
)

// Misc succeeds when a script does (MISC_CHECK).
type Misc struct {
	Name    string        // of the script, for reasons
	Script  any           // what Options.Run is given
	Timeout time.Duration // from start to kill

	// Dynamic gives exit codes a meaning: 0 is up, 1 is failed, 2 to 255 are up with the weight of the code less 2.
	Dynamic bool
	Weight  int // the server's weight in the configuration, which a dynamic weight replaces
}

type miscProber struct {
	Misc
	run func(ctx context.Context, script any, timeout time.Duration) (status int, err error)
}

func (Misc) schedule(c *verdict.Config) { c.FromStart = true }

func (p Misc) prepare(e *Engine) (prober, error) {
	if e.options.Run == nil {
		return nil, errors.New("scripts cannot be run here")
	}
	return &miscProber{p, e.options.Run}, nil
}

func (p *miscProber) attempt(ctx context.Context, _ int) verdict.Outcome {
	status, err := p.run(ctx, p.Script, p.Timeout)
	switch {
	case err != nil:
		return failed(fmt.Sprintf("script %s: %v", p.Name, err))
	case status == 0:
		return succeeded(fmt.Sprintf("script %s: exit status 0", p.Name))
	case p.Dynamic && status >= 2 && status <= 255:
		return verdict.Outcome{OK: true, Adjust: status - 2 - p.Weight,
			Reason: fmt.Sprintf("script %s: exit status %d, weight %d", p.Name, status, status-2)}
	}
	return failed(fmt.Sprintf("script %s: exit status %d", p.Name, status))
}
