package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/view"
)

// Bounds of the server.
const (
	maxConnections  = 64
	maxBody         = 1 << 20 // bytes of a request
	maxHeader       = 16 << 10
	readTimeout     = 5 * time.Second // for a request to arrive
	writeTimeout    = 5 * time.Second // for each write of an answer
	gatherTimeout   = 3 * time.Second
	defaultTimeout  = 30 * time.Second // of an action
	maxTimeout      = 10 * time.Minute
	pollPeriod      = 100 * time.Millisecond
	returnWait      = 3 * time.Second // for a node to hear that its maintenance is over
	electionWait    = 4 * time.Second // for a leader of the log before a change is refused
	followHeartbeat = 5 * time.Second
	shutdownTimeout = time.Second
	recentEvents    = 5 // shown by a node without quorum
)

// Server answers on the control socket of one node.
type Server struct {
	Backend Backend
	Logger  *slog.Logger
}

// Serve answers requests on l until ctx ends, then closes l, gives running requests a second and returns nil. It owns
// one goroutine per connection, of which there are at most 64.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	server := &http.Server{
		Handler:           s.handler(running),
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve control socket: %w", err)
	case <-ctx.Done():
	}
	stop() // ends actions and followers
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	<-done
	return nil
}

func (s *Server) handler(running context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/report", s.answer(func(ctx context.Context, r *http.Request) (any, error) {
		return s.Backend.Report(ctx)
	}))
	mux.HandleFunc("GET /v1/status", s.answer(func(ctx context.Context, r *http.Request) (any, error) {
		return s.status(ctx, r.URL.Query().Get("local") != "")
	}))
	mux.HandleFunc("GET /v1/why", s.answer(s.why))
	mux.HandleFunc("GET /v1/events", s.events(running))
	mux.HandleFunc("POST /v1/move/plan", s.answer(read(s.planMove)))
	mux.HandleFunc("POST /v1/move", s.act(running, action(s.move)))
	mux.HandleFunc("POST /v1/maintenance/plan", s.answer(read(s.planMaintenance)))
	mux.HandleFunc("POST /v1/maintenance", s.act(running, action(s.maintenance)))
	mux.HandleFunc("GET /v1/lvs", s.answer(s.lvs))
	mux.HandleFunc("GET /v1/lvs/diff", s.answer(func(ctx context.Context, _ *http.Request) (any, error) {
		in, err := s.Backend.LVS(ctx, false)
		if err != nil {
			return nil, err
		}
		return view.LVSDifference(in), nil
	}))
	mux.HandleFunc("POST /v1/lvs", s.act(running, action(s.Backend.ChangeLVS)))
	mux.HandleFunc("GET /v1/fence", s.answer(func(ctx context.Context, _ *http.Request) (any, error) { return s.Backend.Fences(ctx) }))
	mux.HandleFunc("POST /v1/fence/test", s.act(running, action(func(ctx context.Context, req api.FenceRequest, _ api.Caller) (api.FenceTest, error) {
		return s.Backend.TestFences(ctx, req.Node)
	})))
	mux.HandleFunc("POST /v1/fence", s.act(running, action(s.Backend.Fence)))
	mux.HandleFunc("POST /v1/member/remove", s.act(running, action(s.Backend.RemoveMember)))
	mux.HandleFunc("POST /v1/force-quorum", s.act(running, action(s.Backend.ForceQuorum)))
	mux.HandleFunc("POST /v1/config/reload", s.act(running, s.reload))
	mux.HandleFunc("/", s.answer(func(ctx context.Context, r *http.Request) (any, error) {
		return nil, &api.Problem{Kind: api.Usage, What: "no route " + r.Method + " " + r.URL.Path,
			Why: "hactl and the daemon may be of different versions", Next: "hactl version"}
	}))
	return mux
}

// answer serves a read: it is bounded by gatherTimeout and ends when the caller hangs up.
func (s *Server) answer(f func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), gatherTimeout)
		defer cancel()
		if err := receive(w, r); err != nil {
			s.reply(w, nil, err)
			return
		}
		v, err := f(ctx, r)
		s.reply(w, v, err)
	}
}

// act serves an action. It goes on when the caller hangs up, and ends with the server.
func (s *Server) act(running context.Context, f func(context.Context, *http.Request, api.Caller) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by, err := callerOf(r)
		if err == nil {
			err = receive(w, r)
		}
		if err != nil {
			s.reply(w, nil, err)
			return
		}
		s.Logger.Info("action requested", "action", r.URL.Path, "user", by.User, "uid", by.UID, "pid", by.PID)
		v, err := f(running, r, by)
		if err != nil {
			s.Logger.Warn("action failed", "action", r.URL.Path, "user", by.User, "err", err)
		}
		s.reply(w, v, err)
	}
}

func callerOf(r *http.Request) (api.Caller, error) {
	cred, ok := r.Context().Value(peerKey{}).(*syscall.Ucred)
	if !ok {
		return api.Caller{}, &api.Problem{Kind: api.Refused, Check: "caller", What: "the action is refused",
			Why: "the kernel does not say who asks", Next: "use the unix socket of the daemon"}
	}
	c := api.Caller{UID: cred.Uid, PID: cred.Pid, User: strconv.FormatUint(uint64(cred.Uid), 10)}
	if u, err := user.LookupId(c.User); err == nil {
		c.User = u.Username
	}
	return c, nil
}

func (s *Server) reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		p := problemOf(err)
		v = p
		status = httpStatus(p.Kind)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	body, err := json.Marshal(v)
	if err != nil {
		s.Logger.Error("control answer cannot be encoded", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a caller that is gone needs no answer
}

// problemOf turns any error into a Problem.
func problemOf(err error) *api.Problem {
	var p *api.Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Problem{Kind: api.TimedOut, What: "no outcome in time", Why: err.Error(), Next: "hactl status"}
	case errors.Is(err, context.Canceled):
		return &api.Problem{Kind: api.TimedOut, What: "the daemon is stopping; the outcome is unknown", Next: "hactl status"}
	default:
		return &api.Problem{Kind: api.Failed, What: err.Error()}
	}
}

func httpStatus(k api.ProblemKind) int {
	switch k {
	case api.Usage:
		return http.StatusBadRequest
	case api.QuorumLost:
		return http.StatusServiceUnavailable
	case api.Refused:
		return http.StatusConflict
	case api.NotFound:
		return http.StatusNotFound
	case api.TimedOut:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// receive reads the whole request within readTimeout and leaves it in r.Body. The server has no general read timeout:
// that would also end the context of a request which has arrived long ago.
func receive(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		return &api.Problem{Kind: api.Usage, What: "the request cannot be read", Why: err.Error()}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &api.Problem{Kind: api.Usage, What: "the request cannot be read", Why: err.Error(), Next: "hactl version"}
	}
	return nil
}

// read has f answer a request that it gets decoded.
func read[Q, A any](f func(context.Context, Q) (A, error)) func(context.Context, *http.Request) (any, error) {
	return func(ctx context.Context, r *http.Request) (any, error) {
		var req Q
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		return f(ctx, req)
	}
}

// action has f do what a request asks for, which it gets decoded, within the time that the caller has.
func action[Q api.Request, A any](f func(context.Context, Q, api.Caller) (A, error)) func(context.Context, *http.Request, api.Caller) (any, error) {
	return func(ctx context.Context, r *http.Request, by api.Caller) (any, error) {
		var req Q
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, patience(req))
		defer cancel()
		return f(ctx, req, by)
	}
}

func (s *Server) gather(ctx context.Context, local bool) (api.Gathered, error) {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	return s.Backend.Gather(ctx, local)
}

func (s *Server) status(ctx context.Context, local bool) (api.ClusterStatus, error) {
	in, err := s.gather(ctx, local)
	if err != nil {
		return api.ClusterStatus{}, err
	}
	status := view.Compose(in)
	page, _, err := s.Backend.Events(ctx, 0)
	if err != nil {
		return api.ClusterStatus{}, err
	}
	for _, e := range slices.Backward(page.Events) {
		if e.Kind == api.EventGrant || e.Kind == api.EventLapse || e.Kind == api.EventUnowned {
			status.Last = &e
			break
		}
	}
	if status.Verdict == api.NoQuorum {
		status.Recent = page.Events[max(0, len(page.Events)-recentEvents):]
	}
	return status, nil
}

func (s *Server) why(ctx context.Context, r *http.Request) (any, error) {
	in, err := s.gather(ctx, false)
	if err != nil {
		return nil, err
	}
	why, problem := view.Why(in, r.URL.Query().Get("group"))
	if problem != nil {
		return nil, problem
	}
	return why, nil
}

// changeable gathers what a change is planned from. While the members elect a leader of the log it waits for the end of that.
func (s *Server) changeable(ctx context.Context) (status api.ClusterStatus, err error) {
	waiting, cancel := context.WithTimeout(ctx, electionWait)
	defer cancel()
	poll(waiting, func() bool {
		status, err = s.status(ctx, false)
		return err != nil || !view.Electing(status)
	})
	return status, err
}

func (s *Server) planMove(ctx context.Context, req api.MoveRequest) (api.MovePlan, error) {
	status, err := s.changeable(ctx)
	if err != nil {
		return api.MovePlan{}, err
	}
	plan, problem := view.PlanMove(status, req)
	if problem != nil {
		return api.MovePlan{}, problem
	}
	return plan, nil
}

func (s *Server) move(ctx context.Context, req api.MoveRequest, by api.Caller) (outcome api.MoveOutcome, err error) {
	if req.All || len(req.Groups) != 1 {
		return outcome, &api.Problem{Kind: api.Usage, What: "a move concerns one group at a time", Next: "hactl move --help"}
	}
	plan, err := s.planMove(ctx, req)
	if err != nil {
		return outcome, err
	}
	step := plan.Steps[0]
	if step.Refused != nil {
		return outcome, step.Refused
	}
	if step.Nothing {
		return api.MoveOutcome{Schema: api.Schema, Group: step.Group, From: step.From, To: step.To, Nothing: true}, nil
	}
	outcome, err = s.Backend.Move(ctx, step, req.Reason, by)
	if errors.Is(err, context.DeadlineExceeded) {
		return outcome, &api.Problem{Kind: api.TimedOut, What: fmt.Sprintf("moving %s to %s: no outcome within %s; it may still happen",
			step.Group, step.To, patience(req)), Why: strings.TrimSuffix(err.Error(), ": "+context.DeadlineExceeded.Error()), Next: "hactl why " + step.Group}
	}
	outcome.Schema = api.Schema
	return outcome, err
}

// patience is how long an action may take.
func patience(req api.Request) time.Duration {
	if limit := req.Patience(); limit > 0 {
		return min(limit.Duration(), maxTimeout)
	}
	return defaultTimeout
}

func (s *Server) planMaintenance(ctx context.Context, req api.MaintenanceRequest) (api.MaintenancePlan, error) {
	status, err := s.changeable(ctx)
	if err != nil {
		return api.MaintenancePlan{}, err
	}
	plan, problem := view.PlanMaintenance(status, req)
	if problem != nil {
		return api.MaintenancePlan{}, problem
	}
	return plan, nil
}

// maintenance commits the mark and waits until the node owns none of the groups that can leave it, or until it may take groups again.
func (s *Server) maintenance(ctx context.Context, req api.MaintenanceRequest, by api.Caller) (outcome api.MaintenanceOutcome, err error) {
	plan, err := s.planMaintenance(ctx, req)
	if err != nil {
		return outcome, err
	}
	if plan.Refused != nil {
		return outcome, plan.Refused
	}
	outcome = api.MaintenanceOutcome{Schema: api.Schema, On: req.On,
		Mark: api.Maintenance{Node: plan.Node, Since: api.At(time.Now()), Until: plan.Until, By: by.User, Reason: req.Reason}}
	if plan.Nothing {
		return outcome, nil
	}
	began := time.Now()
	if err := s.Backend.SetMaintenance(ctx, outcome.Mark, req.On); err != nil {
		return outcome, err
	}
	if !req.On {
		s.awaitReturn(ctx, plan.Node)
	}
	waiting := map[string]bool{}
	for _, step := range plan.Steps {
		if step.Refused == nil {
			waiting[step.Group] = true
		} else {
			outcome.Remains = append(outcome.Remains, step.Group)
		}
	}
	drained := len(waiting) == 0 || poll(ctx, func() bool {
		status, err := s.status(ctx, false)
		if err != nil {
			return false
		}
		for _, g := range status.Groups {
			if waiting[g.Name] && g.Owner != "" && g.Owner != plan.Node {
				delete(waiting, g.Name)
				outcome.Moved = append(outcome.Moved, api.DrainedGroup{Group: g.Name, To: g.Owner,
					Seconds: api.SecondsOf(time.Since(began))})
			}
		}
		return len(waiting) == 0
	})
	if !drained {
		return outcome, drainProblem(plan, waiting, patience(req))
	}
	return outcome, nil
}

// awaitReturn waits until a node has heard from its log, too, that its maintenance is over: until then it takes no group.
func (s *Server) awaitReturn(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, returnWait)
	defer cancel()
	poll(ctx, func() bool {
		status, err := s.status(ctx, false)
		return err != nil || !view.Returning(status, node)
	})
}

// poll asks again and again until something is so. False if ctx ended before.
func poll(ctx context.Context, so func() bool) bool {
	for !so() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pollPeriod):
		}
	}
	return true
}

func drainProblem(plan api.MaintenancePlan, waiting map[string]bool, timeout time.Duration) *api.Problem {
	for _, step := range plan.Steps {
		if waiting[step.Group] {
			return &api.Problem{Kind: api.TimedOut,
				What: fmt.Sprintf("%s is in maintenance, but %s has no other owner after %s", plan.Node, step.Group, timeout),
				Why:  "the hand-over goes on without this command", Next: "hactl why " + step.Group}
		}
	}
	return nil
}

func (s *Server) lvs(ctx context.Context, r *http.Request) (any, error) {
	in, err := s.Backend.LVS(ctx, r.URL.Query().Get("local") != "")
	if err != nil {
		return nil, err
	}
	report := view.LVS(in)
	if name := r.URL.Query().Get("service"); name != "" {
		var keys []string
		for _, service := range report.Services {
			keys = append(keys, service.Key)
		}
		key, problem := view.LVSKey(keys, name)
		if problem != nil {
			return nil, problem
		}
		report.Services = slices.DeleteFunc(report.Services, func(v api.LVSService) bool { return v.Key != key })
	}
	return report, nil
}

func (s *Server) reload(ctx context.Context, _ *http.Request, _ api.Caller) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	return s.Backend.Reload(ctx)
}

// events serves a page of events, or one page after the other while the caller listens.
func (s *Server) events(running context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		after, err := strconv.ParseUint(cmp.Or(query.Get("after"), "0"), 10, 64)
		if err != nil {
			s.reply(w, nil, &api.Problem{Kind: api.Usage, What: "the cursor of events is no number", Why: err.Error()})
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(running, cancel)()
		page, changed, err := s.Backend.Events(ctx, after)
		if err != nil || query.Get("follow") == "" {
			s.reply(w, page, err)
			return
		}
		out := http.NewResponseController(w)
		w.Header().Set("Content-Type", "application/jsonl")
		encoder := json.NewEncoder(w)
		for {
			_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
			if encoder.Encode(page) != nil || out.Flush() != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-time.After(followHeartbeat):
			}
			if page, changed, err = s.Backend.Events(ctx, page.Next); err != nil {
				return
			}
		}
	}
}
