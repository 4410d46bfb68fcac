package watchdog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatIsNoWatchdogIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{"/nowhere/watchdog": "no such file", file: "it is no watchdog", "/dev/null": "it is no watchdog"} {
		d, err := Open(path, time.Second)
		if err == nil {
			t.Errorf("%s: %+v", path, d)
		} else if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
