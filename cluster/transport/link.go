package transport

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hactl/had/internal/clock/alarm"
)

// LinkConfig is what a Link is made of.
type LinkConfig struct {
	To      Target
	Stall   time.Duration   // when a ping is not acknowledged for that long the connection is replaced
	Ping    time.Duration   // how often the other side is pinged; an eighth earlier if this member is awake
	MaxAge  time.Duration   // older messages are not sent any more
	Self    func() Hello    // what this member says of itself
	Changed func(LinkState) // called when the link goes up or down, from the link's goroutine; must not block
}

// LinkState tells how a link does.
type LinkState struct {
	Up     bool
	New    bool  // up on another connection than before
	Remote Hello // of the other side, while up
	Err    error // why it is down
}

// Bounds of a link.
const (
	MaxMessage   = 256 << 10        // bytes of one message
	linkQueue    = 512              // messages
	linkQueueMax = 4 << 20          // bytes
	linkBatch    = 64 << 10         // bytes written at once
	linkSilence  = 30 * time.Second // an incoming link without anything for that long is closed
)

// The first byte of a frame of a link. Pings alone are acknowledged: a ping that goes along with a message costs no packet,
// and its acknowledgement says of everything before it that it has arrived.
const (
	framePing    = 0
	frameMessage = 1 // a byte says of what it is
	frameHello   = 2 // what the sender says about itself has changed
)

// Content tells messages of a link apart by whom they are for.
type Content byte

// Link sends messages to one peer over one connection that is kept open. What it cannot send it drops, the oldest first.
type Link struct {
	mux *Mux
	cfg LinkConfig

	wake chan struct{}

	mu      sync.Mutex
	queue   []queued
	bytes   int
	dropped uint64
	rtt     time.Duration
	heard   time.Time // the newest acknowledgement
	greet   bool      // a new Hello is due
	due     time.Time // when what is queued is to go out, all of it
	pinged  time.Time // when the newest ping went out
}

type queued struct {
	member  string
	content Content
	payload []byte
	at      time.Time
}

// NewLink makes a link. Run works on it.
func NewLink(mux *Mux, cfg LinkConfig) *Link {
	return &Link{mux: mux, cfg: cfg, wake: make(chan struct{}, 1)}
}

// Send queues a message for a member. It never blocks. The payload must not be changed afterwards. If the peer turns out
// to be another member, the message is dropped. With patience, zero if there is none, it waits that long at most for others that it can
// go along with: alone it would wake the peer for itself.
func (l *Link) Send(member string, content Content, payload []byte, patience time.Duration) {
	now := time.Now()
	l.mu.Lock()
	if len(payload) > MaxMessage {
		l.dropped++
		l.mu.Unlock()
		return
	}
	if due := now.Add(patience); len(l.queue) == 0 || due.Before(l.due) {
		l.due = due
	}
	l.queue = append(l.queue, queued{member, content, payload, now})
	l.bytes += len(payload)
	for len(l.queue) > linkQueue || l.bytes > linkQueueMax {
		l.drop()
	}
	l.mu.Unlock()
	l.nudge()
}

// drop takes out the oldest message. The caller holds mu.
func (l *Link) drop() {
	l.bytes -= len(l.queue[0].payload)
	l.queue = l.queue[1:]
	l.dropped++
}

// Hasten ends all patience: what is queued goes out now.
func (l *Link) Hasten() {
	l.mu.Lock()
	waits := len(l.queue) > 0
	l.due = time.Time{}
	l.mu.Unlock()
	if waits {
		l.nudge()
	}
}

// Accompany tells the link that this member is awake for another one: what waits for company goes out, and a ping that is due soon.
func (l *Link) Accompany() {
	l.mu.Lock()
	now := time.Now()
	goes := len(l.queue) > 0 || now.Sub(l.pinged) >= l.pingSoon()
	if goes {
		l.due = time.Time{}
	}
	l.mu.Unlock()
	if goes {
		l.nudge()
	}
}

// pingSoon is how long after the one before a ping goes out once something has woken this member.
func (l *Link) pingSoon() time.Duration { return l.cfg.Ping * 7 / 8 }

// Dropped is how many messages were given up.
func (l *Link) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Traffic returns the newest round trip, and when it ended; zero if there was none.
func (l *Link) Traffic() (roundTrip time.Duration, heard time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rtt, l.heard
}

// Greet tells the other side anew what this member says of itself.
func (l *Link) Greet() {
	l.mu.Lock()
	l.greet = true
	l.mu.Unlock()
	l.nudge()
}

func (l *Link) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run keeps the link connected until ctx ends.
func (l *Link) Run(ctx context.Context) {
	r := &redialer{link: l, ctx: ctx, failures: make(chan error, 1)}
	defer r.stop()
	for ctx.Err() == nil {
		r.start()
		var conn *Conn
		select {
		case <-ctx.Done():
			return
		case err := <-r.failures:
			l.cfg.Changed(LinkState{Err: err})
			continue
		case g := <-r.result:
			r.taken()
			if g.err != nil {
				l.cfg.Changed(LinkState{Err: g.err})
				continue
			}
			conn = g.conn
		}
		for conn != nil && ctx.Err() == nil {
			l.cfg.Changed(LinkState{Up: true, New: true, Remote: conn.Hello})
			next, err := l.serve(ctx, conn, r)
			_ = conn.Close()
			if err != nil && ctx.Err() == nil {
				l.cfg.Changed(LinkState{Err: err})
			}
			conn = next
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// A link greets at most once per greetEvery, and more rarely while new connections stall soon after they were made: stalls
// that come from a lack of computing must not cause more of it.
const (
	greetEvery    = 500 * time.Millisecond
	greetRarely   = 4 * time.Second
	soonAfterward = 2 * time.Second
)

// redialer dials in the background. The link's goroutine owns it.
type redialer struct {
	link     *Link
	ctx      context.Context
	failures chan error   // of single tries; the newest may be lost
	result   chan greeted // of the dial under way; nil: none is
	cancel   context.CancelFunc
	begun    time.Time     // when the newest dial began
	spacing  time.Duration // between greetings
	made     time.Time     // when the newest connection was made
}

// start begins to dial, unless that is under way.
func (r *redialer) start() {
	if r.result != nil {
		return
	}
	result := make(chan greeted, 1)
	ctx, cancel := context.WithCancel(r.ctx)
	r.result, r.cancel = result, cancel
	if time.Since(r.made) < soonAfterward {
		r.spacing = min(2*r.spacing, greetRarely)
	} else {
		r.spacing = greetEvery
	}
	options := DialOptions{GreetAfter: r.begun.Add(r.spacing), Failed: func(err error) {
		select {
		case r.failures <- err:
		default:
		}
	}}
	r.begun = time.Now()
	l := r.link
	go func() {
		conn, err := l.mux.Dial(ctx, KindLink, l.cfg.To, options)
		var refusal *Refusal
		if errors.As(err, &refusal) {
			select {
			case <-ctx.Done():
			case <-time.After(refusedPause(refusal.Code)):
			}
		}
		result <- greeted{conn, err}
	}()
}

// stop ends the dial under way, if its result has not been taken.
func (r *redialer) stop() {
	if r.result == nil {
		return
	}
	r.cancel()
	select {
	case <-r.failures:
	default:
	}
	go func(result chan greeted) {
		if g := <-result; g.conn != nil {
			_ = g.conn.Close()
		}
	}(r.result)
	r.result = nil
}

// taken notes that the result was taken.
func (r *redialer) taken() {
	r.cancel()
	r.result = nil
	r.made = time.Now()
}

// refusedPause is how long to wait after a refusal.
func refusedPause(code Code) time.Duration {
	if code == CodeNotReady || code == CodeMember {
		return 100 * time.Millisecond
	}
	return time.Second
}

// unacknowledged are the pings of one connection that the other side has not acknowledged.
type unacknowledged struct {
	mu    sync.Mutex
	sent  []time.Time // oldest first
	acked uint64
}

func (u *unacknowledged) add(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = append(u.sent, now)
}

// acknowledge takes off the pings up to a total, and returns when the newest of them was sent.
func (u *unacknowledged) acknowledge(total uint64) (sent time.Time, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	newly := total - u.acked
	if total <= u.acked || newly > uint64(len(u.sent)) {
		return time.Time{}, fmt.Errorf("it acknowledges ping %d, and %d were sent", total, u.acked+uint64(len(u.sent)))
	}
	sent = u.sent[newly-1]
	u.acked, u.sent = total, u.sent[newly:]
	return sent, nil
}

func (u *unacknowledged) oldest() (sent time.Time, any bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sent) == 0 {
		return time.Time{}, false
	}
	return u.sent[0], true
}

// serve sends until the connection ends, or until another one is there to replace it, which it returns. When
// acknowledgements stay away it dials anew and keeps the old connection until one of the two works.
func (l *Link) serve(ctx context.Context, conn *Conn, r *redialer) (next *Conn, err error) {
	flight := &unacknowledged{}
	ended := make(chan error, 1)
	acked := make(chan struct{}, 1)
	go func() {
		for {
			var ack [8]byte
			_, err := io.ReadFull(conn, ack[:])
			var sent time.Time
			if err == nil {
				sent, err = flight.acknowledge(binary.BigEndian.Uint64(ack[:]))
			}
			if err != nil {
				ended <- err
				return
			}
			l.mu.Lock()
			l.heard = time.Now()
			l.rtt = l.heard.Sub(sent)
			l.mu.Unlock()
			select {
			case acked <- struct{}{}:
			default:
			}
		}
	}()
	var timer alarm.Alarm
	defer timer.Stop()
	timer.Set(0)
	var buf []byte
	pinged := l.pinging(time.Time{}) // the first one goes out at once
	stalled := false
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-ended:
			return nil, err
		case g := <-r.result:
			r.taken()
			if g.err == nil {
				return g.conn, nil
			}
		case <-acked:
		case <-l.wake:
		case <-timer.C:
		}
		now := time.Now()
		since, any := flight.oldest()
		waiting := now.Sub(since)
		switch {
		case any && waiting >= l.cfg.Stall:
			if !stalled {
				stalled = true
				l.cfg.Changed(LinkState{Err: fmt.Errorf("no acknowledgement for %s", waiting.Round(time.Millisecond))})
			}
			r.start()
			timer.Set(l.cfg.Ping)
			continue
		case stalled:
			stalled = false
			r.stop()
			l.cfg.Changed(LinkState{Up: true, Remote: conn.Hello})
		}
		for {
			ping := now.Sub(pinged) >= l.pingSoon() // whatever it is that has woken this
			buf = l.fill(buf[:0], now, conn.Hello.Member, ping)
			if ping {
				buf = appendFrame(buf, []byte{framePing})
				flight.add(now)
				pinged = l.pinging(now)
			}
			if len(buf) == 0 {
				break
			}
			_ = conn.SetWriteDeadline(now.Add(l.cfg.Stall))
			if _, err := conn.Write(buf); err != nil {
				return nil, err
			}
		}
		wait := time.Until(pinged.Add(l.cfg.Ping))
		if since, any := flight.oldest(); any {
			wait = min(wait, time.Until(since.Add(l.cfg.Stall)))
		}
		if due, any := l.waiting(); any {
			wait = min(wait, time.Until(due))
		}
		timer.Set(max(wait, time.Millisecond))
	}
}

// pinging notes when a ping goes out.
func (l *Link) pinging(now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pinged = now
	return now
}

// waiting says when what waits for company is to go out without it.
func (l *Link) waiting() (due time.Time, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.due, len(l.queue) > 0
}

// fill takes queued messages into a buffer, if they are due or something else goes out anyway.
func (l *Link) fill(buf []byte, now time.Time, member string, anyway bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.greet {
		l.greet = false
		if b, err := json.Marshal(l.cfg.Self()); err == nil && len(b) <= maxHello {
			buf = appendFrame(buf, append([]byte{frameHello}, b...))
		}
	}
	if now.Before(l.due) && !anyway && len(buf) == 0 {
		return buf
	}
	for len(l.queue) > 0 && len(buf) < linkBatch {
		m := l.queue[0]
		if now.Sub(m.at) > l.cfg.MaxAge || m.member != member {
			l.drop()
			continue
		}
		l.queue = l.queue[1:]
		l.bytes -= len(m.payload)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(m.payload)+2))
		buf = append(buf, frameMessage, byte(m.content))
		buf = append(buf, m.payload...)
	}
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return buf
}

// ServeLink reads messages from an incoming link and acknowledges its pings. deliver must not block; it owns the payload.
// greeted is called when the other side says anew who it is; its error ends the link.
func ServeLink(conn *Conn, deliver func(content Content, payload []byte), greeted func(Hello) error) error {
	var pings uint64
	for {
		_ = conn.SetReadDeadline(time.Now().Add(linkSilence))
		frame, err := readFrame(conn, MaxMessage+2)
		if err != nil {
			return err
		}
		switch {
		case len(frame) == 1 && frame[0] == framePing:
			pings++
			_ = conn.SetWriteDeadline(time.Now().Add(linkSilence))
			if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, pings)); err != nil {
				return err
			}
		case len(frame) >= 2 && frame[0] == frameMessage:
			deliver(Content(frame[1]), frame[2:])
		case len(frame) >= 1 && frame[0] == frameHello:
			var h Hello
			if err := json.Unmarshal(frame[1:], &h); err != nil {
				return fmt.Errorf("decode hello: %w", err)
			}
			if err := greeted(h); err != nil {
				return err
			}
		default:
			return errors.New("unknown frame on a link")
		}
	}
}
