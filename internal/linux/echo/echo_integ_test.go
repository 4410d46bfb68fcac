//go:build integ

package echo_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/linux/echo"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

// TestAHostAnswersOrDoesNot asks a host by both families, and one that is not there.
func TestAHostAnswersOrDoesNot(t *testing.T) {
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	prefix := netip.MustParsePrefix
	asker, err := l.AddHost("asker", prefix("10.77.0.1/24"), prefix("fd00:77::1/64"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AddHost("gw", prefix("10.77.0.2/24"), prefix("fd00:77::2/64")); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		q       echo.Question
		answers bool
	}{
		{echo.Question{Host: addr("10.77.0.2")}, true},
		{echo.Question{Host: addr("10.77.0.2"), Source: addr("10.77.0.1"), Interface: lab.Interface}, true},
		{echo.Question{Host: addr("fd00:77::2")}, true},
		{echo.Question{Host: addr("fd00:77::2"), Source: addr("fd00:77::1"), Interface: lab.Interface}, true},
		{echo.Question{Host: addr("10.77.0.3")}, false},
		{echo.Question{Host: addr("fd00:77::3")}, false},
		{echo.Question{Host: addr("10.99.0.1")}, false},
		{echo.Question{Host: addr("10.77.0.2"), Interface: "no-such"}, false},
		{echo.Question{Host: addr("10.77.0.2"), Source: addr("10.77.0.9")}, false},
	} {
		if err := asker.Do(func() error {
			limit := 5 * time.Second
			if !tt.answers {
				limit = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := echo.Ask(ctx, tt.q)
			if (err == nil) != tt.answers {
				t.Errorf("%+v: %v", tt.q, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	if err := asker.Do(func() error {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := echo.Ask(ctx, echo.Question{Host: addr("10.77.0.3")}); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut short: %v", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
