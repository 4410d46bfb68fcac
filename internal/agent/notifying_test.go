package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/lab/need"
)

// onceScript makes a startup script of a text; what it prints goes into a file beside it.
func onceScript(t *testing.T, text string) (command *conf.Command, printed string) {
	t.Helper()
	dir := t.TempDir()
	path, printed := filepath.Join(dir, "script"), filepath.Join(dir, "printed")
	if err := need.Program(path, []byte("#!/bin/sh\nexec >'"+printed+"'\n"+text+"\n")); err != nil {
		t.Fatal(err)
	}
	return &conf.Command{Line: path, Argv: []string{path, "a b"}}, printed
}

func TestTheStartGoesOnWhateverBecomesOfTheStartupScript(t *testing.T) {
	for _, test := range []struct{ name, text, logged string }{
		{"it succeeds", `echo "$# $1"`, "startup_script has run"},
		{"it fails", `echo "$# $1"; exit 3`, "exit status 3"},
		{"it takes too long", `echo "$# $1"; sleep 60`, "timeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			g := &conf.Global{StartupScriptTimeout: 500 * time.Millisecond}
			var printed string
			g.StartupScript, printed = onceScript(t, test.text)
			StartupScript(t.Context(), g, slog.New(slog.NewTextHandler(&log, nil)))
			if got, err := os.ReadFile(printed); err != nil || string(got) != "1 a b\n" {
				t.Errorf("it printed %q, %v", got, err)
			}
			if !strings.Contains(log.String(), test.logged) {
				t.Errorf("%q is not in the log: %s", test.logged, log.String())
			}
		})
	}
}

func TestAStopDuringTheStartupScriptEndsIt(t *testing.T) {
	g := &conf.Global{StartupScriptTimeout: time.Minute}
	var printed string
	g.StartupScript, printed = onceScript(t, "echo begun; sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		StartupScript(ctx, g, slog.New(slog.DiscardHandler))
		close(done)
	}()
	for content := ""; content != "begun\n"; time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(printed)
		content = string(b)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the script goes on")
	}
}

func TestAShutdownScriptThatIsNotThereIsSaid(t *testing.T) {
	var log bytes.Buffer
	ShutdownScript(&conf.Global{}, slog.New(slog.NewTextHandler(&log, nil)))
	if log.Len() != 0 {
		t.Errorf("nothing is configured, and yet: %s", log.String())
	}
	g := &conf.Global{ShutdownScript: &conf.Command{Line: "/nowhere/x", Argv: []string{"/nowhere/x"}}}
	ShutdownScript(g, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "shutdown_script cannot be used") {
		t.Errorf("log: %s", log.String())
	}
}
