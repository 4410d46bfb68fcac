package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/hactl/had/internal/control/api"
)

// Client asks one daemon. Its errors are *api.Problem. Any goroutine may use it.
type Client struct {
	socket string
	http   *http.Client
}

const (
	dialTimeout   = time.Second
	maxAnswer     = 32 << 20         // bytes of an answer
	followSilence = 15 * time.Second // without even a heartbeat the daemon counts as gone
)

// NewClient makes a client of the daemon behind the socket at path. It connects with the first request.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 1,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Report returns what the node knows for itself.
func (c *Client) Report(ctx context.Context) (api.NodeReport, error) {
	return get[api.NodeReport](ctx, c, "/v1/report", nil)
}

// Status returns the status of the cluster; with local set the daemon asks nobody else.
func (c *Client) Status(ctx context.Context, local bool) (api.ClusterStatus, error) {
	query := url.Values{}
	if local {
		query.Set("local", "1")
	}
	return get[api.ClusterStatus](ctx, c, "/v1/status", query)
}

// Why explains a group.
func (c *Client) Why(ctx context.Context, group string) (api.Why, error) {
	return get[api.Why](ctx, c, "/v1/why", url.Values{"group": {group}})
}

// Events returns the kept events after the cursor, 0 for all.
func (c *Client) Events(ctx context.Context, after uint64) (api.EventPage, error) {
	return get[api.EventPage](ctx, c, "/v1/events", url.Values{"after": {strconv.FormatUint(after, 10)}})
}

// Follow calls each for every page of events after the cursor as they happen, until ctx ends, each returns an error or
// the daemon goes away.
func (c *Client) Follow(ctx context.Context, after uint64, each func(api.EventPage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "follow": {"1"}}
	body, err := c.do(ctx, http.MethodGet, "/v1/events", query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	gone := &api.Problem{Kind: api.Unreachable, What: "the daemon behind " + c.socket + " went away", Next: "hactl status"}
	silence := time.AfterFunc(followSilence, func() { cancel(gone) })
	defer silence.Stop()
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return gone
		}
		silence.Reset(followSilence)
		var page api.EventPage
		if err := json.Unmarshal(line, &page); err != nil {
			return &api.Problem{Kind: api.Failed, What: "an event cannot be read", Why: err.Error(), Next: "hactl version"}
		}
		if err := each(page); err != nil {
			return err
		}
	}
}

// PlanMove says what a move would do.
func (c *Client) PlanMove(ctx context.Context, req api.MoveRequest) (api.MovePlan, error) {
	return post[api.MovePlan](ctx, c, "/v1/move/plan", req)
}

// Move moves one group and returns the observed outcome.
func (c *Client) Move(ctx context.Context, req api.MoveRequest) (api.MoveOutcome, error) {
	return post[api.MoveOutcome](ctx, c, "/v1/move", req)
}

// PlanMaintenance says what a change of maintenance would do.
func (c *Client) PlanMaintenance(ctx context.Context, req api.MaintenanceRequest) (api.MaintenancePlan, error) {
	return post[api.MaintenancePlan](ctx, c, "/v1/maintenance/plan", req)
}

// Maintenance sets or takes off a mark and returns the observed outcome.
func (c *Client) Maintenance(ctx context.Context, req api.MaintenanceRequest) (api.MaintenanceOutcome, error) {
	return post[api.MaintenanceOutcome](ctx, c, "/v1/maintenance", req)
}

// LVS lists the virtual services, or the one that is named; with local set the daemon asks nobody else.
func (c *Client) LVS(ctx context.Context, local bool, service string) (api.LVSReport, error) {
	query := url.Values{}
	if local {
		query.Set("local", "1")
	}
	if service != "" {
		query.Set("service", service)
	}
	return get[api.LVSReport](ctx, c, "/v1/lvs", query)
}

// LVSDifference says how file, cluster and kernels differ.
func (c *Client) LVSDifference(ctx context.Context) (api.LVSDifference, error) {
	return get[api.LVSDifference](ctx, c, "/v1/lvs/diff", nil)
}

// ChangeLVS changes virtual services and returns once the change is committed.
func (c *Client) ChangeLVS(ctx context.Context, req api.LVSRequest) (api.LVSOutcome, error) {
	return post[api.LVSOutcome](ctx, c, "/v1/lvs", req)
}

// RemoveMember takes a member out of the cluster for good.
func (c *Client) RemoveMember(ctx context.Context, req api.RemovalRequest) (api.RemovalOutcome, error) {
	return post[api.RemovalOutcome](ctx, c, "/v1/member/remove", req)
}

// ForceQuorum makes the asked node the only voter.
func (c *Client) ForceQuorum(ctx context.Context, req api.ForceRequest) (api.ForceOutcome, error) {
	return post[api.ForceOutcome](ctx, c, "/v1/force-quorum", req)
}

// Fences returns the fence devices of the node that is asked, and what the log says of fencing.
func (c *Client) Fences(ctx context.Context) (api.FenceList, error) {
	return get[api.FenceList](ctx, c, "/v1/fence", nil)
}

// TestFences has fence devices asked whether they answer.
func (c *Client) TestFences(ctx context.Context, req api.FenceRequest) (api.FenceTest, error) {
	return post[api.FenceTest](ctx, c, "/v1/fence/test", req)
}

// Fence has a node switched off, or says that it is off, and returns the outcome that the log has.
func (c *Client) Fence(ctx context.Context, req api.FenceRequest) (api.FenceOutcome, error) {
	return post[api.FenceOutcome](ctx, c, "/v1/fence", req)
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (api.ReloadOutcome, error) {
	return post[api.ReloadOutcome](ctx, c, "/v1/config/reload", struct{}{})
}

// get asks for an A.
func get[A any](ctx context.Context, c *Client, path string, query url.Values) (A, error) {
	return exchange[A](ctx, c, http.MethodGet, path, query, nil)
}

// post has something done, and returns what came of it.
func post[A any](ctx context.Context, c *Client, path string, request any) (answer A, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, fmt.Errorf("encode request for %s: %w", path, err)
	}
	return exchange[A](ctx, c, http.MethodPost, path, nil, body)
}

func exchange[A any](ctx context.Context, c *Client, method, path string, query url.Values, request []byte) (answer A, err error) {
	body, err := c.do(ctx, method, path, query, request)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&answer); err != nil {
		return answer, c.transportProblem(ctx, fmt.Errorf("read answer: %w", err))
	}
	return answer, nil
}

// do sends a request and returns the body of a good answer.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, request []byte) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "had", Path: path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(request))
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", path, err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, c.transportProblem(ctx, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	problem := &api.Problem{}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(problem); err != nil || problem.What == "" {
		return nil, &api.Problem{Kind: api.Failed, What: fmt.Sprintf("%s %s was answered with %s", method, path, answer.Status),
			Next: "hactl version"}
	}
	return nil, problem
}

// transportProblem says why a daemon could not be asked, and what to do about it.
func (c *Client) transportProblem(ctx context.Context, err error) error {
	p := &api.Problem{Kind: api.Unreachable, What: "no daemon answers at " + c.socket}
	var netErr net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &api.Problem{Kind: api.TimedOut, What: "interrupted: an action that has begun goes on", Next: "hactl status"}
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return &api.Problem{Kind: api.TimedOut, What: "the daemon behind " + c.socket + " did not answer in time; the outcome is unknown",
			Next: "hactl status --local"}
	case errors.Is(err, fs.ErrNotExist):
		p.Why, p.Next = "there is no such socket", "systemctl status had hawitness, or give the right one with --socket"
	case errors.Is(err, fs.ErrPermission):
		p.Why, p.Next = "permission denied", "run as root or as a member of the group "+SocketGroup
	case errors.Is(err, syscall.ECONNREFUSED):
		p.Why, p.Next = "the process that made the socket is gone", "systemctl status had hawitness"
	default:
		var op *net.OpError
		if errors.As(err, &op) {
			err = op
		}
		p.Why, p.Next = err.Error(), "systemctl status had hawitness"
	}
	return p
}
