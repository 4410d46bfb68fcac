package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/conf"
)

func TestTheTimeOfAReload(t *testing.T) {
	zone := time.FixedZone("test", 2*60*60)
	now := time.Date(2026, 3, 4, 12, 30, 0, 0, zone)
	for _, c := range []struct{ text, want string }{
		{"12:30:01", "2026-03-04T12:30:01+02:00"},
		{"12:30:00", "2026-03-05T12:30:00+02:00"},
		{"11:00:00Z", "2026-03-04T11:00:00Z"},
		{"10:00:00Z", "2026-03-05T10:00:00Z"},
		{"26-03-04 12:31:00", "2026-03-04T12:31:00+02:00"},
		{"2026-03-04 12:31:00Z", "2026-03-04T12:31:00Z"},
		{"2026-03-04 12:29:00", ""},
		{"12:30", ""},
		{" 12:30:01", ""},
		{"tomorrow", ""},
	} {
		at, err := reloadTime(c.text, now)
		if got := at.Format(time.RFC3339); (err != nil) != (c.want == "") || err == nil && got != c.want {
			t.Errorf("%q: %s, %v; want %s", c.text, got, err, c.want)
		}
	}
}

func TestTheFileWithTheTimeOfAReloadMayBeNamedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := testAgent(t)
		var log bytes.Buffer
		a.log = slog.New(slog.NewTextHandler(&log, nil))
		path := filepath.Join(t.TempDir(), "time")
		if err := os.WriteFile(path, []byte("2000-02-01 00:00:00Z\n"), 0o600); err != nil { // a bubble's time begins a month before
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); a.reloadAtTime(ctx) }()
		time.Sleep(time.Minute)
		a.running.Store(&conf.Config{Global: conf.Global{ReloadTimeFile: path}})
		a.reconfigured <- struct{}{}
		time.Sleep(2 * reloadTimePoll)
		cancel()
		<-ended
		if !strings.Contains(log.String(), "a reload is planned") {
			t.Errorf("nothing is planned:\n%s", log.String())
		}
	})
}

func TestTheReloadFileIsThereWhileTheConfigurationIsRead(t *testing.T) {
	a, _, _ := testAgent(t)
	path := filepath.Join(t.TempDir(), "reload")
	if err := os.WriteFile(path, []byte("made by whoever changes the configuration"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.running.Store(&conf.Config{Global: conf.Global{ReloadFileSet: true, ReloadFile: path}})
	done, err := a.showReload()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("not emptied: %v, %v", info, err)
	}
	done()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}
