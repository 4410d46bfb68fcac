package daemon

import (
	"io"
	"log/slog"
	"os"
)

// CompanionVar marks a process of this program that is the companion of a daemon. Its value says where that one works.
const CompanionVar = "HAD_COMPANION"

const (
	inForeground = "foreground"
	inBackground = "background"
)

// CompanionValue is the value of CompanionVar for the companion of this daemon.
func (c *Configuration) CompanionValue() string {
	if c.background {
		return inBackground
	}
	return inForeground
}

// CompanionStderr is where the companion writes to: nowhere in the background.
func (c *Configuration) CompanionStderr() *os.File {
	if c.background {
		return nil
	}
	return os.Stderr
}

// CompanionLog tells whether this process is a companion, and returns its log, which is the daemon's: both have the same
// command line.
func CompanionLog(name, version string, args []string, stderr io.Writer) (log *slog.Logger, is bool) {
	where := os.Getenv(CompanionVar)
	if where == "" {
		return nil, false
	}
	flags, _, _ := parse(name, version, args, io.Discard, io.Discard)
	log, err := openLog(name, flags, where == inBackground, stderr)
	if err != nil {
		log = slog.New(slog.NewTextHandler(stderr, nil))
	}
	return log.With("component", "companion"), true
}
