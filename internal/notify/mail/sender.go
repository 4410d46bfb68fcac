package mail

import (
	"context"
	"errors"
	"log/slog"
	"net/textproto"
	"time"

	"github.com/hactl/had/internal/notify"
)

const (
	maxWaiting = 256              // mails that wait to be delivered; the oldest makes room
	maxAge     = 10 * time.Minute // after which a mail is news no more
	firstRetry = 5 * time.Second  // the next ones come after twice as long each
	lastRetry  = time.Minute
)

// key is what mails are about.
type key struct {
	kind notify.Kind
	name string
}

// Sender sends mails. Make one with Start, and call Stop.
type Sender struct {
	cfg    Config
	log    *slog.Logger
	outbox *notify.Outbox[message]
	last   map[key]notify.State // last mailed

	stopping context.Context // ends with Stop: no further retries
	stop     context.CancelFunc
	cancel   context.CancelFunc
	ended    chan struct{}

	firstRetry time.Duration
	deliver    func(context.Context, Config, message) (refused []error, err error)
}

// Start makes a Sender and its goroutine.
func Start(cfg Config, log *slog.Logger) *Sender {
	s := newSender(cfg, log)
	s.start()
	return s
}

func newSender(cfg Config, log *slog.Logger) *Sender {
	return &Sender{cfg: cfg, log: log, outbox: notify.NewOutbox[message](maxWaiting), last: map[key]notify.State{},
		ended: make(chan struct{}), firstRetry: firstRetry, deliver: deliver}
}

func (s *Sender) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.stopping, s.stop = context.WithCancel(ctx)
	go s.run(ctx)
}

// Tell takes note of a change and has a mail sent if there is to be one. It does not block. It is called by one goroutine.
func (s *Sender) Tell(c notify.Change) {
	k := key{c.Kind, c.Name}
	if !c.Mail || s.last[k] == c.State || c.State == notify.Fault && s.cfg.NoFaults {
		return
	}
	subject, body, ok := compose(s.cfg.RouterID, c)
	if !ok {
		return
	}
	s.last[k] = c.State
	s.put(subject, body)
}

// TellServer has a mail sent about a server if there is to be one. It does not block.
func (s *Sender) TellServer(c notify.ServerChange) {
	if c.Mail {
		s.put(composeServer(s.cfg.RouterID, c))
	}
}

func (s *Sender) put(subject, body string) {
	if dropped := s.outbox.Put(message{at: time.Now(), subject: subject, body: body}); dropped > 0 {
		s.log.Warn("too many mails wait for the mail server, the oldest is dropped", "server", s.cfg.Server, "dropped", dropped)
	}
}

// Stop delivers what waits, without further retries, until ctx ends.
func (s *Sender) Stop(ctx context.Context) {
	s.outbox.Close()
	s.stop()
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.log.Warn("mails were still waiting for the mail server at the end", "server", s.cfg.Server)
	}
	s.cancel()
	<-s.ended
}

func (s *Sender) run(ctx context.Context) {
	defer close(s.ended)
	for {
		m, err := s.outbox.Take(ctx)
		if err != nil {
			return
		}
		s.send(ctx, m)
	}
}

// send delivers one mail or gives it up.
func (s *Sender) send(ctx context.Context, m message) {
	for retry := s.firstRetry; ; retry = min(2*retry, lastRetry) {
		refused, err := s.deliver(ctx, s.cfg, m)
		for _, r := range refused {
			s.log.Warn("the mail server refuses a recipient", "server", s.cfg.Server, "subject", m.subject, "err", r)
		}
		if err == nil {
			s.log.Info("mail sent", "server", s.cfg.Server, "subject", m.subject)
			return
		}
		if permanent(err) || time.Since(m.at)+retry > maxAge || s.stopping.Err() != nil {
			s.log.Warn("mail not sent", "server", s.cfg.Server, "subject", m.subject, "err", err)
			return
		}
		s.log.Warn("mail not sent, to be tried again", "server", s.cfg.Server, "subject", m.subject, "err", err, "after", retry)
		select {
		case <-time.After(retry):
		case <-s.stopping.Done():
		}
	}
}

// permanent tells whether the server has answered that it will not take the mail (RFC 5321 section 4.2.1).
func permanent(err error) bool {
	var answer *textproto.Error
	return errors.As(err, &answer) && answer.Code >= 500
}
