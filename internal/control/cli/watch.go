package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hactl/had/internal/control/api"
)

// watchFlag adds -w to a command that reads.
func watchFlag(flags *pflag.FlagSet, every *time.Duration) {
	flags.DurationVarP(every, "watch", "w", 0, "print again and again; --watch alone is every 2 seconds")
	flags.Lookup("watch").NoOptDefVal = "2s"
}

const (
	screenOn   = "\x1b[?1049h"
	screenOff  = "\x1b[?1049l"
	screenHome = "\x1b[H\x1b[2J"
)

// reads makes a command body of a function that asks and returns the text to print. With a watch interval it asks again
// and again until interrupted; on a terminal the text is redrawn in place and lines that have changed are bold.
func (a *app) reads(every *time.Duration, f func(ctx context.Context, args []string) (string, error)) func(*cobra.Command, []string) error {
	return run(func(c *cobra.Command, args []string) error {
		once := func() (string, error) {
			ctx, cancel := ask(c.Context())
			defer cancel()
			return f(ctx, args)
		}
		if *every == 0 {
			text, err := once()
			fmt.Fprint(a.env.Stdout, text)
			return err
		}
		if *every < 100*time.Millisecond {
			return &api.Problem{Kind: api.Usage, What: "a watch interval below 100ms is refused", Next: c.CommandPath() + " --help"}
		}
		if a.env.StdoutTTY {
			fmt.Fprint(a.env.Stdout, screenOn)
			defer fmt.Fprint(a.env.Stdout, screenOff)
		}
		var before []string
		for {
			text, err := once()
			if c.Context().Err() != nil {
				return nil // interrupted: that is how a watch ends
			}
			if err != nil {
				text = fmt.Sprintf("%s  %v\n", time.Now().Format(time.TimeOnly), err)
			}
			if a.env.StdoutTTY {
				lines := strings.Split(text, "\n")
				fmt.Fprint(a.env.Stdout, screenHome, strings.Join(a.markChanges(before, lines), "\r\n"))
				before = lines
			} else {
				fmt.Fprintln(a.env.Stdout, text)
			}
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(*every):
			}
		}
	})
}

func (a *app) markChanges(before, lines []string) []string {
	if before == nil {
		return lines
	}
	marked := make([]string, len(lines))
	for i, line := range lines {
		marked[i] = line
		if !slices.Contains(before, line) {
			marked[i] = a.paint(line, bold)
		}
	}
	return marked
}
