package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hactl/had/lvs/check/verdict"
)

// smtpReplyMax bounds one reply of a mail server, in bytes.
const smtpReplyMax = 8 << 10

// SMTP succeeds when the server greets with 220 and answers HELO with 250 (SMTP_CHECK; RFC 5321, 3.1 and 4.1.1.1).
type SMTP struct {
	Endpoint
	Helo string // name that this host gives itself
}

func (*SMTP) schedule(c *verdict.Config) { c.RetryFailed = true }

func (p *SMTP) prepare(*Engine) (prober, error) { return p, nil }

func (p *SMTP) attempt(ctx context.Context, _ int) verdict.Outcome {
	conn, err := p.tcp(ctx)
	if err != nil {
		return failed(err.Error())
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, smtpReplyMax)
	if err := p.expect(r, "greeting", "220"); err != nil {
		return failed(err.Error())
	}
	if _, err := fmt.Fprintf(conn, "HELO %s\r\n", p.Helo); err != nil {
		return failed(fmt.Sprintf("HELO to %v: %s", p.Target, p.reason(err)))
	}
	if err := p.expect(r, "HELO", "250"); err != nil {
		return failed(err.Error())
	}
	// The answer to QUIT says nothing about the server.
	_, _ = fmt.Fprint(conn, "QUIT\r\n")
	_, _ = reply(r)
	return succeeded(fmt.Sprintf("HELO to %v: 250", p.Target))
}

// expect reads a reply and compares its code.
func (p *SMTP) expect(r *bufio.Reader, what, code string) error {
	line, err := reply(r)
	switch {
	case errors.Is(err, errTooLong):
		return fmt.Errorf("%s of %v: %w", what, p.Target, err)
	case err != nil:
		return fmt.Errorf("%s of %v: %s", what, p.Target, p.reason(err))
	case !strings.HasPrefix(line, code):
		return fmt.Errorf("%s of %v: %q, wanted %s", what, p.Target, excerpt(line), code)
	}
	return nil
}

var errTooLong = fmt.Errorf("a reply of more than %d bytes", smtpReplyMax)

// reply returns the last line of a reply: the first whose code is not followed by a hyphen.
func reply(r *bufio.Reader) (string, error) {
	for total := 0; ; {
		line, err := r.ReadSlice('\n')
		total += len(line)
		switch {
		case errors.Is(err, bufio.ErrBufferFull), total > smtpReplyMax:
			return "", errTooLong
		case err != nil:
			return "", err
		case len(line) < 4 || line[3] != '-':
			return strings.TrimRight(string(line), "\r\n"), nil
		}
	}
}

// excerpt returns the begin of what a server sent, for a reason.
func excerpt(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
