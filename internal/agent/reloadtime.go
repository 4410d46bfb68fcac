package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// reloadTimePoll is how often the file with the time of a reload is looked at.
const reloadTimePoll = time.Second

// reloadAtTime reloads the configuration at the time that reload_time_file holds, until ctx ends. The file is removed then,
// or with reload_repeat it counts again the next day.
func (a *Agent) reloadAtTime(ctx context.Context) {
	var text string  // of the file
	var at time.Time // that it means; zero: none
	for {
		g := &a.running.Load().Global
		var poll <-chan time.Time
		if g.ReloadTimeFile != "" {
			poll = time.After(reloadTimePoll)
		} else {
			text, at = "", time.Time{}
		}
		select {
		case <-ctx.Done():
			return
		case <-a.reconfigured:
			continue
		case <-poll:
		}
		if now := firstLine(g.ReloadTimeFile); now != text {
			text, at = now, a.planReload(now)
		}
		if at.IsZero() || time.Now().Before(at) {
			continue
		}
		_, _ = a.Reload(ctx) // logs what comes of it
		at = time.Time{}
		if g.ReloadRepeat {
			at = a.planReload(text)
		} else if err := os.Remove(g.ReloadTimeFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			a.log.Error("cannot remove reload_time_file", "err", err)
		}
	}
}

// planReload says when a reload is due, and logs it.
func (a *Agent) planReload(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	at, err := reloadTime(text, time.Now())
	if err != nil {
		a.log.Error("no reload is planned", "reload_time_file", text, "err", err)
		return time.Time{}
	}
	a.log.Info("a reload is planned", "at", at.Format(time.RFC3339))
	return at
}

// firstLine is the first line of a file; empty if there is none.
func firstLine(path string) string {
	if path == "" {
		return ""
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	text, _ := io.ReadAll(io.LimitReader(file, 64))
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// reloadTime reads "HH:MM:SS", "YY-MM-DD HH:MM:SS" or "YYYY-MM-DD HH:MM:SS", each with Z for UTC. A time without a date is
// the next one; with a date it must be to come.
func reloadTime(text string, now time.Time) (time.Time, error) {
	clock, utc := strings.CutSuffix(text, "Z")
	zone := now.Location()
	if utc {
		zone = time.UTC
	}
	if at, err := time.ParseInLocation(time.TimeOnly, clock, zone); err == nil {
		today := now.In(zone)
		next := time.Date(today.Year(), today.Month(), today.Day(), at.Hour(), at.Minute(), at.Second(), 0, zone)
		if !next.After(now) {
			next = next.AddDate(0, 0, 1)
		}
		return next, nil
	}
	for _, layout := range []string{time.DateTime, "06-01-02 15:04:05"} {
		at, err := time.ParseInLocation(layout, clock, zone)
		switch {
		case err != nil:
		case !at.After(now):
			return time.Time{}, errors.New("the time has passed")
		default:
			return at, nil
		}
	}
	return time.Time{}, errors.New("it is neither HH:MM:SS nor [YY]YY-MM-DD HH:MM:SS, with or without Z")
}

// defaultReloadFile is keepalived's.
const defaultReloadFile = "keepalived.reload"

// showReload makes the file that is there while the configuration is read (reload_file), and returns what removes it.
func (a *Agent) showReload() (done func(), err error) {
	g := &a.running.Load().Global
	if !g.ReloadFileSet {
		return func() {}, nil
	}
	path := g.ReloadFile
	if path == "" {
		path = filepath.Join("/run", defaultReloadFile)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o644)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return func() {}, fmt.Errorf("reload_file: %w", err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			a.log.Error("cannot remove reload_file", "err", err)
		}
	}, nil
}
