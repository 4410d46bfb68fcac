// Package site sets up a cluster of real programs on a LAN of package lab, with an observer beside it: two directors (had),
// a witness (hawitness), a client. The demonstration plays on it, and so do the tests with real daemons. For comparison
// the directors can run stock keepalived instead, from the same vrrp_instance blocks.
//
// A site belongs to one goroutine.
package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
)

const (
	// recent is the time over which the observer is asked who owns an address now.
	recent = 100 * time.Millisecond
	// pollPeriod is the time between two questions to the cluster.
	pollPeriod = 100 * time.Millisecond
	// statusLimit bounds one question to a node for its status.
	statusLimit = 10 * time.Second
	// commandLimit bounds one hactl.
	commandLimit = 40 * time.Second
	// StopGrace is how long a program may take to end after SIGTERM.
	StopGrace = 5 * time.Second
	// nobody is the user that the witness runs as, where there is more than one user.
	nobody = 65534
)

// Site is a LAN with the members of a cluster, a client and an observer on the client.
type Site struct {
	Plan
	Lab      *lab.Lab
	Nodes    []*Node
	Client   *lab.Host
	Observer *observer.Observer
}

// Node is a member of the cluster and the host that it runs on.
type Node struct {
	Member
	Host *lab.Host
	Proc *lab.Proc // the program that was started last, or nil
	dir  string
}

// Dir returns the node's directory: configuration, key, log, data.
func (n *Node) Dir() string { return n.dir }

// Socket returns the path of the node's control socket.
func (n *Node) Socket() string { return filepath.Join(n.dir, "had.sock") }

// Config returns the path of the node's configuration file.
func (n *Node) Config() string { return filepath.Join(n.dir, "keepalived.conf") }

// Log returns the path of the file with the output of the node's program.
func (n *Node) Log() string { return filepath.Join(n.dir, "log") }

// Data returns the path of the node's data directory.
func (n *Node) Data() string { return filepath.Join(n.dir, "data") }

// PIDFile returns the path of the file with the number of a director's daemon: nodes share the file system, and with it the default.
func (n *Node) PIDFile() string { return filepath.Join(n.dir, "had.pid") }

// Running says whether the node's program runs; one that is stopped does.
func (n *Node) Running() bool { return n.Proc != nil && n.Proc.Running() }

// user returns whom the node's program runs as: the witness needs no privilege.
func (n *Node) user() *lab.User {
	if !n.Witness || lab.OwnUserNamespace() {
		return nil
	}
	return &lab.User{UID: nobody, GID: nobody}
}

// Unprivileged says whether the node's program runs as an ordinary user.
func (n *Node) Unprivileged() bool { return n.user() != nil }

// Build makes the LAN, the files of the nodes and the observer. No program of a node runs yet.
func Build(ctx context.Context, plan Plan) (*Site, error) {
	l, err := lab.New(ctx, lab.Options{})
	if err != nil {
		return nil, err
	}
	s := &Site{Plan: plan, Lab: l}
	if err := s.build(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Site) build(ctx context.Context) error {
	key := ""
	if s.Keepalived == "" {
		var err error
		if key, err = s.Hactl(ctx, nil, "keygen"); err != nil {
			return fmt.Errorf("make a cluster key: %w", err)
		}
	}
	var directors []*lab.Host
	for _, member := range s.Members {
		if s.Keepalived != "" && member.Witness {
			continue
		}
		n := &Node{Member: member, dir: filepath.Join(s.Dir, member.Name)}
		host, err := s.Lab.AddHost(n.Name, n.prefixes()...)
		if err != nil {
			return err
		}
		n.Host = host
		if !n.Witness {
			directors = append(directors, host)
		}
		if err := s.furnish(n, key); err != nil {
			return fmt.Errorf("prepare %s: %w", n.Name, err)
		}
		s.Nodes = append(s.Nodes, n)
	}
	host, err := s.Lab.AddHost("client", netip.PrefixFrom(Client4, Subnet4.Bits()), netip.PrefixFrom(Client6, Subnet6.Bits()))
	if err != nil {
		return err
	}
	s.Client = host
	s.Observer, err = observer.Start(ctx, host, observer.Config{
		VIPs:     s.VIPs,
		Sources4: observer.Sources(Client4, askers),
		Sources6: observer.Sources(Client6, askers),
		Stations: directors,
		Period:   s.Period,
	})
	return err
}

// furnish makes a node's directory and files.
func (s *Site) furnish(n *Node, key string) error {
	// The way to a node's directory is open to the witness's user, the directory is its own.
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{n.dir, n.Data()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	files := []string{"", "data", "keepalived.conf"}
	if err := os.WriteFile(n.Config(), []byte(s.Configuration(n)), 0o600); err != nil {
		return err
	}
	if key != "" {
		files = append(files, "cluster.key")
		if err := os.WriteFile(filepath.Join(n.dir, "cluster.key"), []byte(key), 0o600); err != nil {
			return err
		}
	}
	if user := n.user(); user != nil {
		for _, name := range files {
			if err := os.Chown(filepath.Join(n.dir, name), int(user.UID), int(user.GID)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close ends the observer and all programs and removes the LAN and the nodes' directories.
func (s *Site) Close() error {
	if s.Observer != nil {
		s.Observer.Stop()
	}
	errs := []error{s.Lab.Close()}
	for _, n := range s.Nodes {
		errs = append(errs, os.RemoveAll(n.dir))
	}
	return errors.Join(errs...)
}

// Node returns the member of this name, or nil.
func (s *Site) Node(name string) *Node {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Directors returns the members that can own addresses.
func (s *Site) Directors() []*Node {
	var list []*Node
	for _, n := range s.Nodes {
		if !n.Witness {
			list = append(list, n)
		}
	}
	return list
}

// Witness returns the first witness, or nil.
func (s *Site) Witness() *Node {
	for _, n := range s.Nodes {
		if n.Witness {
			return n
		}
	}
	return nil
}

// Owner returns the director that alone answers for all addresses, by the observer's word, and another one.
func (s *Site) Owner() (owner, other *Node, err error) {
	for _, vip := range s.VIPs {
		names := s.Observer.Owners(vip, recent)
		if len(names) != 1 || s.Node(names[0]) == nil || owner != nil && owner.Name != names[0] {
			return nil, nil, fmt.Errorf("%s is answered for by %s, not by one director", vip, orNobody(names))
		}
		owner = s.Node(names[0])
	}
	for _, n := range s.Directors() {
		if n != owner {
			other = n
		}
	}
	return owner, other, nil
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, " and ")
}

// AwaitOwner waits until there is an owner.
func (s *Site) AwaitOwner(ctx context.Context, limit time.Duration) (owner, other *Node, err error) {
	err = s.Poll(ctx, limit, func() error {
		owner, other, err = s.Owner()
		return err
	})
	return owner, other, s.withDeaths(err)
}

// AwaitOwnedBy waits until a node alone has answered for all addresses for a span.
func (s *Site) AwaitOwnedBy(ctx context.Context, n *Node, span, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, vip := range s.VIPs {
		if err := s.Observer.WaitOwner(ctx, vip, n.Name, span); err != nil {
			return fmt.Errorf("%s does not own %s: %w", n.Name, vip, err)
		}
	}
	return nil
}

// Start starts a node's program, which must not be running.
func (s *Site) Start(n *Node) error {
	if n.Running() {
		return fmt.Errorf("%s is running already", n.Name)
	}
	command := lab.Command{Path: s.Had, Args: []string{"-f", n.Config(), "-p", n.PIDFile()}, LogFile: n.Log(), User: n.user()}
	switch {
	case s.Keepalived != "":
		command.Path = s.Keepalived
		command.Args = []string{"--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file", n.Config(),
			"--pid", filepath.Join(n.dir, "keepalived.pid"), "--vrrp_pid", filepath.Join(n.dir, "vrrp.pid")}
	case n.Witness:
		command.Path, command.Args = s.Hawitness, []string{"-f", n.Config()}
	}
	proc, err := n.Host.Start(command)
	if err != nil {
		return err
	}
	n.Proc = proc
	return nil
}

// StartAll starts every node's program.
func (s *Site) StartAll() error {
	for _, n := range s.Nodes {
		if err := s.Start(n); err != nil {
			return err
		}
	}
	return nil
}

// Kill kills all of a node's processes with SIGKILL and waits for their end.
func (s *Site) Kill(n *Node) error {
	if !n.Running() {
		return fmt.Errorf("%s is not running", n.Name)
	}
	if err := n.Proc.KillTree(); err != nil {
		return err
	}
	<-n.Proc.Done()
	return nil
}

// KillDaemon kills a director's daemon alone with SIGKILL and waits for its end: the companion lives.
func (s *Site) KillDaemon(n *Node) error {
	if !n.Running() {
		return fmt.Errorf("%s is not running", n.Name)
	}
	if err := n.Proc.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-n.Proc.Done()
	return nil
}

// Companion returns the number of the companion process of a director, the last one that was started.
func (n *Node) Companion() (pid int, err error) {
	text, err := os.ReadFile(n.Socket() + ".companion")
	if err != nil {
		return 0, err
	}
	var daemon int
	_, err = fmt.Sscan(string(text), &daemon, &pid)
	return pid, err
}

// Freeze stops all of a node's processes; Thaw lets them go on.
func (s *Site) Freeze(n *Node) error { return s.signal(n, syscall.SIGSTOP) }

// Thaw is the end of Freeze.
func (s *Site) Thaw(n *Node) error { return s.signal(n, syscall.SIGCONT) }

func (s *Site) signal(n *Node, sig syscall.Signal) error {
	if !n.Running() {
		return fmt.Errorf("%s is not running", n.Name)
	}
	return n.Proc.SignalTree(sig)
}

// Terminate sends a node's program SIGTERM and waits for its end, which must be an orderly one.
func (s *Site) Terminate(n *Node) error {
	if !n.Running() {
		return fmt.Errorf("%s is not running", n.Name)
	}
	if err := n.Proc.Stop(StopGrace); err != nil {
		return err
	}
	if code := n.Proc.ExitCode(); code != 0 {
		return fmt.Errorf("%s on %s ended with exit code %d after SIGTERM", n.Program(), n.Name, code)
	}
	return nil
}

// Program returns the name of the program that a node runs.
func (n *Node) Program() string {
	if n.Witness {
		return "hawitness"
	}
	return "had"
}

// Poll tries something until it succeeds, for a limited time, and returns its last error if it does not.
func (s *Site) Poll(ctx context.Context, limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %.1f s: %w", limit.Seconds(), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollPeriod):
		}
	}
}

// AwaitHealthy waits until every node says that all nodes take part and every group is owned.
func (s *Site) AwaitHealthy(ctx context.Context, limit time.Duration) error {
	err := s.Poll(ctx, limit, func() error {
		for _, n := range s.Nodes {
			status, err := s.Status(ctx, n)
			switch {
			case err != nil:
				return err
			case status.Verdict != api.Healthy:
				return fmt.Errorf("%s says that the cluster is %s", n.Name, Describe(status))
			}
		}
		return nil
	})
	if err != nil {
		err = s.withDeaths(fmt.Errorf("the cluster is not healthy %w", err))
	}
	return err
}

// withDeaths adds to an error which programs have ended.
func (s *Site) withDeaths(err error) error {
	if err == nil {
		return nil
	}
	for _, n := range s.Nodes {
		if n.Proc != nil && !n.Proc.Running() {
			err = fmt.Errorf("%w; %s on %s has ended with exit code %d", err, n.Program(), n.Name, n.Proc.ExitCode())
		}
	}
	return err
}

// Describe says in one line what a status says.
func Describe(status api.ClusterStatus) string {
	var texts []string
	for _, f := range status.Findings {
		if f.Severity != api.Info {
			texts = append(texts, f.Text)
		}
	}
	if len(texts) == 0 {
		return string(status.Verdict)
	}
	return string(status.Verdict) + ": " + strings.Join(texts, "; ")
}

// Status asks a node for the status of the cluster, as `hactl status` does. Without quorum there is an answer too.
func (s *Site) Status(ctx context.Context, n *Node) (api.ClusterStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	client := control.NewClient(n.Socket())
	defer client.Close()
	status, err := client.Status(ctx, false)
	if err != nil {
		return status, fmt.Errorf("ask %s for its status: %w", n.Name, err)
	}
	return status, nil
}

// Hactl runs a command of hactl against a node, or none, and returns its standard output.
func (s *Site) Hactl(ctx context.Context, n *Node, args ...string) (string, error) {
	if n != nil {
		args = append([]string{"-s", n.Socket()}, args...)
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Plan.Hactl, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("hactl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// LogTail returns the end of what a node's program has written.
func (n *Node) LogTail(limit int64) string {
	f, err := os.Open(n.Log())
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		if _, err := f.Seek(-limit, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	if int64(len(data)) == limit {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return string(data)
}

// SaveLogs copies the nodes' logs and configuration files into a directory.
func (s *Site) SaveLogs(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, n := range s.Nodes {
		for _, path := range []string{n.Log(), n.Config()} {
			data, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, n.Name+"."+filepath.Base(path)), data, 0o644)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
