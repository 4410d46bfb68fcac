// Command hactl asks and steers a had cluster: see hactl(1).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fencing/stonith"
	"github.com/hactl/had/internal/control/cli"
	"github.com/hactl/had/internal/lab/demo"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/lvs/check"
)

var version = "unknown" // set by the linker

func main() {
	observer.MaybeRun() // `hactl demo` starts this program again as its observer
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	code := cli.Run(ctx, cli.Environment{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		StdinTTY: term.IsTerminal(int(os.Stdin.Fd())), StdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		Version: version, GenerateKey: cluster.GenerateKey, Demo: play, Genhash: genhash,
		CheckKey: func(path string) error {
			_, err := cluster.ReadKey(path)
			return err
		},
		FenceOptions: func(agent string) ([]string, error) {
			about, err := stonith.Describe(ctx, agent)
			return about.Options(), err
		},
	})
	stop()
	os.Exit(code)
}

func play(ctx context.Context, o cli.DemoOptions) error {
	return demo.Run(ctx, demo.Options{Interactive: o.Interactive, Colour: o.Colour, ASCII: o.ASCII, In: o.In, Out: o.Out, LogDir: o.LogDir})
}

func genhash(ctx context.Context, o cli.GenhashOptions) (digest string, err error) {
	versions := map[string]check.Protocol{"1.0": check.HTTP10, "1.0c": check.HTTP10Close, "1.1": check.HTTP11, "2": check.HTTP2}
	page := check.HTTP{
		Endpoint: check.Endpoint{Target: o.Server, Mark: o.Mark, Timeout: o.Timeout},
		Secure:   o.TLS, Protocol: versions[o.Protocol],
		URLs: []check.URL{{Path: o.Path, Host: o.VirtualHost, ServerName: o.ServerName}},
	}
	_, digest, err = page.Fetch(ctx, o.Raw)
	return digest, err
}
