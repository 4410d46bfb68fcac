package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// logEvery is how often one complaint about one thing is repeated in the log.
const logEvery = 30 * time.Second

// limiter keeps a log readable: what is said again and again is said once per logEvery, with a count.
type limiter struct {
	mu   sync.Mutex
	said map[string]*saying
}

type saying struct {
	at    time.Time
	again int
}

const limiterKeys = 256

// allow tells whether the saying with this key may be logged now, and how often it was not since the last time.
func (l *limiter) allow(key string) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s := l.said[key]
	if s != nil && now.Sub(s.at) < logEvery {
		s.again++
		return false, 0
	}
	if s == nil {
		if l.said == nil || len(l.said) >= limiterKeys {
			l.said = map[string]*saying{}
		}
		s = &saying{}
		l.said[key] = s
	}
	suppressed, s.again, s.at = s.again, 0, now
	return true, suppressed
}

// libraryLog gives hashicorp's loggers a slog.Logger. What the libraries call an error is a warning here: none of it
// needs a person, who is told by this package's own messages.
type libraryLog struct {
	log   *slog.Logger
	limit *limiter
	args  []any
}

func newLibraryLog(log *slog.Logger, component string) *libraryLog {
	return &libraryLog{log: log.With("component", component), limit: &limiter{}}
}

func (l *libraryLog) level(level hclog.Level) slog.Level {
	if level >= hclog.Error {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Log implements hclog.Logger.
func (l *libraryLog) Log(level hclog.Level, msg string, args ...any) {
	to := l.level(level)
	if !l.log.Enabled(context.Background(), to) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	key := msg
	for i, a := range slices.Concat(l.args, args) {
		if format, ok := a.(hclog.Format); ok && len(format) > 0 {
			a = fmt.Sprintf(fmt.Sprint(format[0]), format[1:]...)
		}
		if i%2 == 0 {
			a = strings.ReplaceAll(fmt.Sprint(a), "-", "_")
		} else if i > 0 && (attrs[i-1] == "peer" || attrs[i-1] == "target" || attrs[i-1] == "from") {
			key += fmt.Sprint(a)
		}
		attrs = append(attrs, a)
	}
	ok, suppressed := l.limit.allow(key)
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	l.log.Log(context.Background(), to, msg, attrs...)
}

// The rest of hclog.Logger.

func (l *libraryLog) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *libraryLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *libraryLog) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *libraryLog) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *libraryLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }
func (l *libraryLog) IsTrace() bool                 { return l.enabled(slog.LevelDebug) }
func (l *libraryLog) IsDebug() bool                 { return l.enabled(slog.LevelDebug) }
func (l *libraryLog) IsInfo() bool                  { return l.enabled(slog.LevelDebug) }
func (l *libraryLog) IsWarn() bool                  { return l.enabled(slog.LevelDebug) }
func (l *libraryLog) IsError() bool                 { return l.enabled(slog.LevelWarn) }
func (l *libraryLog) enabled(level slog.Level) bool {
	return l.log.Enabled(context.Background(), level)
}
func (l *libraryLog) ImpliedArgs() []any             { return l.args }
func (l *libraryLog) Name() string                   { return "" }
func (l *libraryLog) Named(string) hclog.Logger      { return l }
func (l *libraryLog) ResetNamed(string) hclog.Logger { return l }
func (l *libraryLog) SetLevel(hclog.Level)           {}
func (l *libraryLog) GetLevel() hclog.Level          { return hclog.NoLevel }
func (l *libraryLog) With(args ...any) hclog.Logger {
	return &libraryLog{log: l.log, limit: l.limit, args: slices.Concat(l.args, args)}
}

// StandardLogger implements hclog.Logger.
func (l *libraryLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(lineWriter{l}, "", 0)
}

// StandardWriter implements hclog.Logger.
func (l *libraryLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

// lineWriter reads the level that hashicorp's libraries write in front of a line.
type lineWriter struct{ log *libraryLog }

func (w lineWriter) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	level := hclog.Debug
	for prefix, l := range map[string]hclog.Level{"[ERR] ": hclog.Error, "[ERROR] ": hclog.Error, "[WARN] ": hclog.Warn} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			line, level = rest, l
		}
	}
	// The text before the first colon behind the component says what kind of complaint it is.
	kind, detail, _ := strings.Cut(strings.TrimPrefix(line, "memberlist: "), ": ")
	w.log.Log(level, kind, "detail", detail)
	return len(b), nil
}
