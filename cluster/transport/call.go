package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// MaxCall is the largest request or answer, in bytes.
const MaxCall = 4 << 20

// longestCall bounds a call for which the caller set a longer deadline, or none.
const longestCall = time.Minute

type request struct {
	Method  string          `json:"method"`
	Timeout time.Duration   `json:"timeout"`
	Body    json.RawMessage `json:"body,omitempty"`
}

type response struct {
	Error *string         `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// AnswerError is an error that the other side's handler returned.
type AnswerError struct{ Text string }

func (e *AnswerError) Error() string { return e.Text }

// Call sends a request to a member and waits for the answer. It uses a connection of its own, so that calls do not wait
// for each other, and hanging up cancels the call at the other side.
func (m *Mux) Call(ctx context.Context, to Target, method string, body json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, longestCall)
	defer cancel()
	conn, err := m.Dial(ctx, KindCall, to, DialOptions{GiveUp: true})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	deadline, _ := ctx.Deadline()
	b, err := json.Marshal(request{Method: method, Timeout: time.Until(deadline), Body: body})
	if err != nil {
		return nil, fmt.Errorf("encode request %s: %w", method, err)
	}
	if len(b) > MaxCall {
		return nil, fmt.Errorf("request %s: %w", method, errFrameTooLong)
	}
	answer, err := func() ([]byte, error) {
		if _, err := conn.Write(appendFrame(nil, b)); err != nil {
			return nil, err
		}
		return readFrame(conn, MaxCall)
	}()
	if ctx.Err() != nil {
		err = ctx.Err() // an answer that comes now is the other side's word that it was given up
	}
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", method, err)
	}
	var r response
	if err := json.Unmarshal(answer, &r); err != nil {
		return nil, fmt.Errorf("decode answer to %s: %w", method, err)
	}
	if r.Error != nil {
		return nil, &AnswerError{*r.Error}
	}
	return r.Body, nil
}

// requestWait bounds the wait for the request on a connection that was made for one.
const requestWait = 5 * time.Second

// callGrace is how much longer a handler may take than its caller waits: who gives up first is the caller.
const callGrace = 500 * time.Millisecond

// ServeCall answers the one request of an incoming call. ctx of the handler ends with the caller's deadline, or when the
// caller hangs up.
func ServeCall(ctx context.Context, conn *Conn,
	handle func(ctx context.Context, method string, body json.RawMessage) (any, error)) error {
	_ = conn.SetReadDeadline(time.Now().Add(requestWait))
	frame, err := readFrame(conn, MaxCall)
	if err != nil {
		return err
	}
	var q request
	if err := json.Unmarshal(frame, &q); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, min(q.Timeout, longestCall)+callGrace)
	defer cancel()
	_ = conn.SetReadDeadline(time.Time{})
	go func() {
		_, _ = io.ReadFull(conn, make([]byte, 1)) // nothing more is sent: this waits for the caller to hang up
		cancel()
	}()
	var r response
	answer, err := handle(ctx, q.Method, q.Body)
	if err == nil {
		r.Body, err = json.Marshal(answer)
	}
	if err == nil && len(r.Body) > MaxCall-1024 {
		err = fmt.Errorf("answer to %s: %w", q.Method, errFrameTooLong)
	}
	if err != nil {
		text := err.Error()
		r = response{Error: &text}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode answer to %s: %w", q.Method, err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(requestWait))
	_, err = conn.Write(appendFrame(nil, b))
	return err
}
