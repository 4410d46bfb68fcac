package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/controltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server of the backend and returns its socket, a client, and what stops it.
func serve(t *testing.T, backend control.Backend) (socket string, client *control.Client, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "had.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := control.Server{Backend: backend, Logger: slog.New(slog.DiscardHandler)}
	go func() { done <- server.Serve(ctx, l) }()
	client = control.NewClient(socket)
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
		client.Close()
	}
	t.Cleanup(stop)
	return socket, client, stop
}

// raw sends a request without the client.
func raw(t *testing.T, socket, method, path, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://had"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func problemOf(t *testing.T, err error) *api.Problem {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Fatalf("error %v (%T) is no problem", err, err)
	}
	return p
}

func TestTheJournalLearnsWhoAskedFromTheKernel(t *testing.T) {
	backend := controltest.NewBackend(controltest.Healthy())
	_, client, _ := serve(t, backend)
	if _, err := client.Move(t.Context(), api.MoveRequest{Groups: []string{"VI_WEB"}, To: "lb2", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Maintenance(t.Context(), api.MaintenanceRequest{Node: "lb1", On: true, ForSeconds: 60, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprint(os.Getuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	want := fmt.Sprintf("[move VI_WEB lb1->lb2 reason=\"test\" by=%s maintenance lb1 on=true until=true reason=\"test\" by=%s]", name, name)
	if got := fmt.Sprint(backend.Calls()); got != want {
		t.Errorf("calls %s, want %s", got, want)
	}
}

func TestFollowingGetsWhatIsKeptAndWhatHappensNext(t *testing.T) {
	backend := controltest.NewBackend(controltest.Healthy())
	_, client, _ := serve(t, backend)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err := client.Follow(ctx, 2, func(page api.EventPage) error {
		for _, e := range page.Events {
			got = append(got, e.ID)
		}
		switch {
		case len(got) == 2:
			backend.Log.Append(api.Event{ID: "e", Text: "later"})
		case len(got) == 3:
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || fmt.Sprint(got) != "[c d e]" {
		t.Errorf("followed %v until %v, want c d e until canceled", got, err)
	}
}

func TestFollowingEndsWhenTheDaemonStops(t *testing.T) {
	_, client, stop := serve(t, controltest.NewBackend(controltest.Healthy()))
	err := client.Follow(t.Context(), 0, func(api.EventPage) error {
		go stop()
		return nil
	})
	if p := problemOf(t, err); p.Kind != api.Unreachable || p.ExitCode() != api.ExitUnreachable {
		t.Errorf("got %+v, want unreachable", p)
	}
}

func TestAnActionGoesOnWhenItsCallerHangsUp(t *testing.T) {
	backend := &slowBackend{Backend: controltest.NewBackend(controltest.Healthy()), began: make(chan struct{}), proceed: make(chan struct{}),
		ended: make(chan error, 1)}
	_, client, _ := serve(t, backend)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-backend.began
		cancel()
	}()
	_, err := client.Move(ctx, api.MoveRequest{Groups: []string{"VI_WEB"}, To: "lb2"})
	if p := problemOf(t, err); p.Kind != api.TimedOut || !strings.Contains(p.What, "interrupted: an action that has begun goes on") {
		t.Errorf("got %+v, want interrupted", p)
	}
	close(backend.proceed)
	if err := <-backend.ended; err != nil {
		t.Errorf("the action ended with %v", err)
	}
}

// slowBackend moves when it is told to.
type slowBackend struct {
	*controltest.Backend
	began, proceed chan struct{}
	ended          chan error
}

func (b *slowBackend) Move(ctx context.Context, step api.MoveStep, reason string, by api.Caller) (api.MoveOutcome, error) {
	close(b.began)
	<-b.proceed
	b.ended <- ctx.Err()
	return b.Backend.Move(ctx, step, reason, by)
}

// electing has no leader of the log for a number of questions, and then is healthy.
type electing struct {
	*controltest.Backend
	left atomic.Int32
}

func (b *electing) Gather(ctx context.Context, local bool) (api.Gathered, error) {
	if b.left.Add(-1) >= 0 {
		return controltest.NoLeader(), nil
	}
	return b.Backend.Gather(ctx, local)
}

func TestAChangeWaitsForAnElection(t *testing.T) {
	backend := &electing{Backend: controltest.NewBackend(controltest.Healthy())}
	_, client, _ := serve(t, backend)
	backend.left.Store(2)
	if _, err := client.Move(t.Context(), api.MoveRequest{Groups: []string{"VI_WEB"}, To: "lb2"}); err != nil {
		t.Errorf("move: %v", err)
	}
	backend.left.Store(2)
	if _, err := client.Maintenance(t.Context(), api.MaintenanceRequest{Node: "lb1", On: true}); err != nil {
		t.Errorf("maintenance: %v", err)
	}
	if calls := backend.Calls(); len(calls) != 2 {
		t.Errorf("carried out: %q", calls)
	}
}

// late is a cluster in whose lb2 the log is some questions behind when its maintenance is over.
type late struct {
	*controltest.Backend
	left atomic.Int32
}

func (b *late) Gather(ctx context.Context, local bool) (api.Gathered, error) {
	in, err := b.Backend.Gather(ctx, local)
	if over := len(b.Calls()) > 0; over && b.left.Add(-1) < 0 {
		for _, p := range in.Peers {
			for i := range p.Report.Groups {
				p.Report.Groups[i].WhyNot, p.Report.Groups[i].Eligible = nil, true
			}
		}
	}
	return in, err
}

func TestTheEndOfAMaintenanceIsThereWhenTheNodeKnowsOfIt(t *testing.T) {
	backend := &late{Backend: controltest.NewBackend(controltest.Maintenance())}
	_, client, _ := serve(t, backend)
	backend.left.Store(3)
	if _, err := client.Maintenance(t.Context(), api.MaintenanceRequest{Node: "lb2"}); err != nil {
		t.Fatal(err)
	}
	if left := backend.left.Load(); left >= 0 {
		t.Errorf("the answer came %d questions before lb2 knew of it", left+1)
	}
	if _, err := client.Move(t.Context(), api.MoveRequest{Groups: []string{"VI_WEB"}, To: "lb2"}); err != nil {
		t.Errorf("move: %v", err)
	}
}

func TestAStoppingDaemonEndsItsActions(t *testing.T) {
	backend := controltest.NewBackend(controltest.Healthy())
	backend.Block = true
	_, client, stop := serve(t, backend)
	go func() {
		time.Sleep(50 * time.Millisecond)
		stop()
	}()
	_, err := client.Move(t.Context(), api.MoveRequest{Groups: []string{"VI_WEB"}, To: "lb2"})
	if p := problemOf(t, err); p.Kind != api.TimedOut || !strings.Contains(p.What, "daemon is stopping") {
		t.Errorf("got %+v, want the outcome to be unknown", p)
	}
}

func TestBadRequestsAreAnsweredWithAProblem(t *testing.T) {
	socket, _, _ := serve(t, controltest.NewBackend(controltest.Healthy()))
	for _, test := range []struct {
		method, path, body string
		status             int
		kind               api.ProblemKind
	}{
		{"GET", "/", "", 400, api.Usage},
		{"GET", "/v2/status", "", 400, api.Usage},
		{"POST", "/v1/status", "", 400, api.Usage},
		{"GET", "/v1/why?group=VI_X", "", 404, api.NotFound},
		{"GET", "/v1/events?after=x", "", 400, api.Usage},
		{"POST", "/v1/move", "{", 400, api.Usage},
		{"POST", "/v1/move", `{"grups":["VI_WEB"]}`, 400, api.Usage},
		{"POST", "/v1/move", `{"groups":["VI_WEB","VI_DB"]}`, 400, api.Usage},
		{"POST", "/v1/move", `{"all":true,"from":"lb1"}`, 400, api.Usage},
		{"POST", "/v1/move", `{"groups":["VI_WEB"],"to":"w1"}`, 409, api.Refused},
		{"POST", "/v1/move/plan", strings.Repeat(" ", 70<<10), 400, api.Usage},
		{"POST", "/v1/maintenance", `{"node":"lb9","on":true}`, 404, api.NotFound},
	} {
		status, text := raw(t, socket, test.method, test.path, test.body)
		var p api.Problem
		err := json.Unmarshal([]byte(text), &p)
		if err != nil || status != test.status || p.Kind != test.kind || p.What == "" {
			t.Errorf("%s %s %.40q: %d %s, want %d %s", test.method, test.path, test.body, status, text, test.status, test.kind)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	socket, client, _ := serve(t, controltest.NewBackend(controltest.Healthy()))
	var open []net.Conn
	for range 64 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := client.Report(t.Context()); err == nil {
		t.Error("a 65th connection was served")
	}
	for _, c := range open {
		c.Close()
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		if _, err := client.Report(t.Context()); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("no connection is served after the others were closed: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestARequestThatNeverArrivesHoldsNothingUp(t *testing.T) {
	socket, client, stop := serve(t, controltest.NewBackend(controltest.Healthy()))
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, "POST /v1/move HTTP/1.1\r\nHost: had\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), false); err != nil {
		t.Error(err)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestABackendErrorIsAFailure(t *testing.T) {
	_, client, _ := serve(t, failingBackend{controltest.NewBackend(controltest.Healthy())})
	_, err := client.Status(t.Context(), false)
	if p := problemOf(t, err); p.Kind != api.Failed || p.What != "gather: the loop is gone" || p.ExitCode() != api.ExitFailed {
		t.Errorf("got %+v", p)
	}
}

type failingBackend struct{ *controltest.Backend }

func (failingBackend) Gather(context.Context, bool) (api.Gathered, error) {
	return api.Gathered{}, errors.New("gather: the loop is gone")
}

func TestListen(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "run", "had.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o660 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("mode %v, err %v; want a socket with 0660", info.Mode(), err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if _, err := control.Listen(path); !errors.Is(err, control.ErrInUse) {
		t.Errorf("a second listener: %v, want ErrInUse", err)
	}
	(<-accepted).Close()
	l.Close()
	l.Close()
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	l, err = control.Listen(path)
	if err != nil {
		t.Fatalf("over a socket that nobody serves: %v", err)
	}
	defer l.Close()

	plain := filepath.Join(directory, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(plain); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("over a plain file: %v", err)
	}
	if _, err := control.Listen(filepath.Join(directory, strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "longer than 107") {
		t.Errorf("a path too long: %v", err)
	}
	if _, err := control.Listen(filepath.Join(plain, "had.sock")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

func TestASocketThatWasReplacedIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "had.sock")
	first, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first listener removed the socket of the second: %v", err)
	}
}

func TestWhatGoesOverTheSocketComesBackTheSame(t *testing.T) {
	for _, name := range controltest.Names() {
		before, err := json.Marshal(controltest.Scenarios[name]())
		if err != nil {
			t.Fatal(err)
		}
		var in api.Gathered
		if err := json.Unmarshal(before, &in); err != nil {
			t.Fatal(err)
		}
		after, err := json.Marshal(in)
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: %v\n%s\n%s", name, err, before, after)
		}
	}
}
