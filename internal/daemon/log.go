package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strings"
	"sync"
)

// defaultLogFile is keepalived's.
const defaultLogFile = "/tmp/keepalived.log"

// openLog makes the log: to standard error, and to syslog in the background or where -S asks for it, and to the file of -g.
func openLog(name string, f Flags, background bool, stderr io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.Detail {
		options.Level = slog.LevelDebug
	}
	handlers := []slog.Handler{slog.NewTextHandler(stderr, options)}
	if (background || f.Syslog) && !f.NoSyslog {
		w, err := syslog.New(facility(f.Facility)|syslog.LOG_INFO, name)
		if err != nil {
			fmt.Fprintf(stderr, "%s: syslog cannot be reached: %v\n", name, err)
		} else {
			handlers = append(handlers, newSyslogHandler(w, options))
		}
	}
	if f.LogFile != "" {
		file, err := os.OpenFile(f.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return nil, fmt.Errorf("open log file: %w", err)
		}
		handlers = append(handlers, slog.NewTextHandler(file, options))
	}
	if len(handlers) == 1 {
		return slog.New(handlers[0]), nil
	}
	return slog.New(slog.NewMultiHandler(handlers...)), nil
}

// facility is what -S asks for; keepalived's default is daemon.
func facility(word string) syslog.Priority {
	switch word = strings.TrimPrefix(word, "local"); word {
	case "", "daemon":
		return syslog.LOG_DAEMON
	case "user":
		return syslog.LOG_USER
	}
	return syslog.LOG_LOCAL0 + syslog.Priority(word[0]-'0')<<3
}

// syslogHandler writes records as lines to syslog, by their level.
type syslogHandler struct {
	slog.Handler // writes into line
	out          *syslogOut
}

type syslogOut struct {
	mu   sync.Mutex
	line bytes.Buffer
	w    *syslog.Writer
}

func newSyslogHandler(w *syslog.Writer, options *slog.HandlerOptions) *syslogHandler {
	out := &syslogOut{w: w}
	withoutTime := *options
	withoutTime.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{} // syslog has both
		}
		return a
	}
	return &syslogHandler{Handler: slog.NewTextHandler(&out.line, &withoutTime), out: out}
}

// Handle implements slog.Handler.
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	line := strings.TrimSuffix(h.out.line.String(), "\n")
	switch {
	case r.Level >= slog.LevelError:
		return h.out.w.Err(line)
	case r.Level >= slog.LevelWarn:
		return h.out.w.Warning(line)
	case r.Level >= slog.LevelInfo:
		return h.out.w.Info(line)
	}
	return h.out.w.Debug(line)
}

// WithAttrs implements slog.Handler.
func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &syslogHandler{Handler: h.Handler.WithAttrs(attrs), out: h.out}
}

// WithGroup implements slog.Handler.
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return &syslogHandler{Handler: h.Handler.WithGroup(name), out: h.out}
}
