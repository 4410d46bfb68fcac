package member

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/view"
)

// Methods about virtual services that members call on each other.
const (
	methodIndex = "index" // how far the log has been committed, from its leader
	methodLVS   = "lvs"   // a director's own view
)

// Balancer is what a director knows of virtual services. Its methods are safe for concurrent use.
type Balancer interface {
	// View returns what this node knows for itself, without its file.
	View(ctx context.Context) (api.NodeLVS, error)
	// File returns the virtual services of this node's configuration.
	File() []fsm.Definition
	// Read reads virtual_server blocks as this node's configuration would have them. The error says what is wrong with them.
	Read(text string) ([]fsm.Definition, error)
}

// handleLVS registers what other members may ask about virtual services.
func (s *Service) handleLVS() {
	s.cluster.Handle(methodIndex, func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
		err := s.cluster.Verify(ctx)
		var index uint64
		s.cluster.Read(func(state *fsm.State) { index = state.Applied() })
		return index, err
	})
	s.cluster.Handle(methodLVS, func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
		if s.balancer == nil {
			return nil, errWitness
		}
		return s.balancer.View(ctx)
	})
}

var errWitness = &api.Problem{Kind: api.Refused, Check: "witness", What: "a witness reads no virtual services",
	Why: "it keeps what the cluster has, and acts on none of it", Next: "ask a director"}

// LVS is part of control.Backend.
func (s *Service) LVS(ctx context.Context, local bool) (api.GatheredLVS, error) {
	g := api.GatheredLVS{At: api.At(time.Now()), Node: s.node, Cluster: s.config.Name, Peers: []api.LVSPeer{}}
	var asked sync.WaitGroup
	for _, p := range s.cluster.Status().Peers {
		if local || p.Witness {
			continue
		}
		g.Peers = append(g.Peers, api.LVSPeer{Name: p.Name})
	}
	for i := range g.Peers {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reportWait)
			defer cancel()
			var v api.NodeLVS
			if err := s.cluster.Call(ctx, g.Peers[i].Name, methodLVS, struct{}{}, &v); err != nil {
				g.Peers[i].Error = err.Error()
				return
			}
			g.Peers[i].View = &v
		})
	}
	if !local {
		if err := s.CatchUp(ctx); err != nil {
			g.Problem = fmt.Sprintf("this is what %s knows; the cluster may have moved on: %v", s.node, err)
		} else {
			g.Consistent = true
		}
	}
	g.Table = s.table()
	if s.balancer != nil {
		own, err := s.balancer.View(ctx)
		if err != nil {
			own = api.NodeLVS{Node: s.node, Version: g.Table.Version, Problem: fmt.Sprintf("its load balancer does not answer: %v", err)}
		}
		own.File = TextsOf(s.balancer.File())
		g.Self = &own
	}
	asked.Wait()
	return g, nil
}

// CatchUp waits until this member has applied all that was committed before the call, for viewWait at most.
func (s *Service) CatchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, viewWait)
	defer cancel()
	var index uint64
	if err := s.cluster.Call(ctx, "", methodIndex, struct{}{}, &index); err != nil {
		return err
	}
	return s.observe(ctx, func() bool { return s.appliedIndex() >= index })
}

// leaderWait is how long a change waits for a leader: an election may be under way.
const leaderWait = 6 * time.Second

// awaitLeader waits until this member has caught up with a leader.
func (s *Service) awaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		err := s.CatchUp(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return &api.Problem{Kind: api.QuorumLost, What: "nothing was changed", Why: err.Error(), Next: "hactl cluster status"}
		case <-time.After(observeWait):
		}
	}
}

func (s *Service) appliedIndex() (index uint64) {
	s.cluster.Read(func(state *fsm.State) { index = state.Applied() })
	return index
}

// table is the replicated state of the virtual services as this member has applied it.
func (s *Service) table() api.LVSTable {
	var t fsm.Table
	s.cluster.Read(func(state *fsm.State) { t = state.Services() })
	return TableOf(t)
}

// TableOf returns the replicated state of virtual services as the control socket has it.
func TableOf(t fsm.Table) api.LVSTable {
	table := api.LVSTable{Version: t.Changed, Services: make([]api.LVSRecord, 0, len(t.Services))}
	for _, v := range t.Services {
		table.Services = append(table.Services, recordOf(v))
	}
	return table
}

func recordOf(v *fsm.Service) api.LVSRecord {
	r := api.LVSRecord{LVSText: api.LVSText{Key: v.Key, Text: v.Text, Servers: []api.LVSServerText{}}, Version: v.Version, File: v.File,
		Since: wall(v.Since), By: v.By, Reason: v.Reason, Marks: []api.LVSMark{}}
	for _, server := range v.Servers {
		r.Servers = append(r.Servers, api.LVSServerText{Key: server.Key, Text: server.Text, Weight: server.Weight})
		var m api.LVSMark
		if d := server.Drained; d != nil {
			m.Drained = &api.LVSDrain{Since: wall(d.Since), Until: wall(d.Until), By: d.By, Reason: d.Reason}
		}
		if f := server.Found; f != nil {
			m.Found = &api.LVSVerdict{Up: f.Up, Adds: f.Adds, Reason: f.Reason, Node: f.By, At: wall(f.At)}
		}
		r.Marks = append(r.Marks, m)
	}
	return r
}

// TextsOf returns definitions as the control socket has them.
func TextsOf(definitions []fsm.Definition) []api.LVSText {
	texts := make([]api.LVSText, 0, len(definitions))
	for _, d := range definitions {
		t := api.LVSText{Key: d.Key, Text: d.Text, Servers: []api.LVSServerText{}}
		for _, server := range d.Servers {
			t.Servers = append(t.Servers, api.LVSServerText(server))
		}
		texts = append(texts, t)
	}
	return texts
}

// ChangeLVS is part of control.Backend.
func (s *Service) ChangeLVS(ctx context.Context, req api.LVSRequest, by api.Caller) (api.LVSOutcome, error) {
	if err := s.awaitLeader(ctx); err != nil {
		return api.LVSOutcome{}, err
	}
	table := s.table()
	changes, err := s.changes(req, table)
	if err != nil {
		return api.LVSOutcome{}, err
	}
	outcome := api.LVSOutcome{Schema: api.Schema, Changed: []string{}}
	if req.ForSeconds > 0 {
		outcome.Until = api.At(time.Now().Add(req.ForSeconds.Duration()))
	}
	for _, b := range changes {
		b.By, b.Reason, b.Until = by.User, req.Reason, fsm.WallOf(outcome.Until.Time)
		if b.Expect == nil {
			b.Expect = req.Expect
		}
		result, err := s.cluster.Submit(ctx, s.command(fsm.Command{Balance: &b}))
		if err != nil {
			return outcome, s.explain(err)
		}
		if result.Refused != "" {
			return outcome, &api.Problem{Kind: api.Refused, Check: checkOf(b), What: "the virtual services were not changed",
				Why: result.Refused, Next: "hactl lvs list", Details: outcome.Changed}
		}
		outcome.Version = result.Version
		outcome.Changed = append(outcome.Changed, strings.TrimSpace(b.Service+" "+b.Server))
	}
	// It is committed. This member's own state shows it soon, unless the disk here does not work.
	settling, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	_ = s.observe(settling, func() bool { return s.appliedIndex() >= outcome.Version })
	return outcome, ctx.Err()
}

func checkOf(b fsm.Balance) string {
	if b.Expect != nil {
		return "version"
	}
	return ""
}

// command makes a command of this member, now.
func (s *Service) command(c fsm.Command) fsm.Command {
	c.ID, c.Time, c.Node = requestID(s.node), fsm.WallOf(time.Now()), s.node
	return c.Clip()
}

// changes are the commands that a request comes to.
func (s *Service) changes(req api.LVSRequest, table api.LVSTable) ([]fsm.Balance, error) {
	one := func(b fsm.Balance) ([]fsm.Balance, error) { return []fsm.Balance{b}, nil }
	if a, err := netip.ParseAddr(req.Server); err == nil && a.Is6() {
		req.Server = "[" + a.String() + "]" // as in a key
	}
	var zero uint64
	switch req.Do {
	case api.LVSAdd:
		definitions, err := s.readLVS(req.Text)
		if err != nil {
			return nil, err
		}
		var all []fsm.Balance
		for _, d := range definitions {
			b := fsm.Balance{Do: fsm.SetService, Service: d.Key, Text: d.Text, Servers: &d.Servers}
			if !req.Replace {
				b.Expect = &zero
			}
			all = append(all, b)
		}
		return all, nil
	case api.LVSApply:
		return s.applyFile(req, table)
	case api.LVSDrainServer, api.LVSUndrain:
		if req.Service == "" {
			do := map[api.LVSAction]fsm.Operation{api.LVSDrainServer: fsm.Drain, api.LVSUndrain: fsm.Undrain}[req.Do]
			return one(fsm.Balance{Do: do, Server: req.Server})
		}
	}
	i, err := service(table, req.Service)
	if err != nil {
		return nil, err
	}
	record := table.Services[i]
	b := fsm.Balance{Service: record.Key, Server: req.Server}
	switch req.Do {
	case api.LVSRemove:
		b.Do = fsm.RemoveService
	case api.LVSRemoveServer:
		b.Do = fsm.RemoveServer
	case api.LVSWeight:
		b.Do, b.Weight = fsm.SetWeight, req.Weight
	case api.LVSDrainServer:
		b.Do = fsm.Drain
	case api.LVSUndrain:
		b.Do = fsm.Undrain
	case api.LVSAddServer:
		return s.addServer(req, record)
	default:
		return nil, &api.Problem{Kind: api.Usage, What: fmt.Sprintf("no action %q", req.Do), Next: "hactl lvs --help"}
	}
	return one(b)
}

func service(table api.LVSTable, name string) (int, error) {
	var keys []string
	for _, r := range table.Services {
		keys = append(keys, r.Key)
	}
	key, problem := view.LVSKey(keys, name)
	if problem != nil {
		return 0, problem
	}
	return slices.IndexFunc(table.Services, func(r api.LVSRecord) bool { return r.Key == key }), nil
}

// readLVS reads blocks that came with a request.
func (s *Service) readLVS(text string) ([]fsm.Definition, error) {
	if s.balancer == nil {
		return nil, errWitness
	}
	definitions, err := s.balancer.Read(text)
	switch {
	case err != nil:
		return nil, &api.Problem{Kind: api.Refused, Check: "config-errors", What: "the virtual services were not changed",
			Details: strings.Split(err.Error(), "\n")}
	case len(definitions) == 0:
		return nil, &api.Problem{Kind: api.Usage, What: "there is no virtual_server in the text"}
	}
	return definitions, nil
}

// addServer makes a server of a text, or like another one of the service. It is read together with its service.
func (s *Service) addServer(req api.LVSRequest, record api.LVSRecord) ([]fsm.Balance, error) {
	text := req.Text
	if req.Like != "" {
		i := slices.IndexFunc(record.Servers, func(v api.LVSServerText) bool { return v.Key == req.Like })
		if i < 0 {
			return nil, &api.Problem{Kind: api.NotFound, What: fmt.Sprintf("%s has no real server %s", record.Key, req.Like), Next: "hactl lvs list"}
		}
		_, block, _ := strings.Cut(record.Servers[i].Text, "{")
		head, _, _ := strings.Cut(req.Text, "{")
		text = head + "{" + block
	}
	definitions, err := s.readLVS(WithServers(record.Text, text))
	if err != nil {
		return nil, err
	}
	if len(definitions) != 1 || definitions[0].Key != record.Key || len(definitions[0].Servers) != 1 {
		return nil, &api.Problem{Kind: api.Usage, What: "the text is not one real_server block"}
	}
	server := definitions[0].Servers[0]
	if !req.Replace && slices.ContainsFunc(record.Servers, func(v api.LVSServerText) bool { return v.Key == server.Key }) {
		return nil, &api.Problem{Kind: api.Refused, Check: "exists", What: fmt.Sprintf("%s has a real server %s already", record.Key, server.Key),
			Next: "hactl lvs add server --replace"}
	}
	b := fsm.Balance{Do: fsm.SetServer, Service: record.Key, Server: server.Key, Text: server.Text}
	if !req.Replace {
		b.Expect = &record.Version // nobody has added it meanwhile
	}
	return []fsm.Balance{b}, nil
}

// WithServers puts the blocks of real servers into the block of a service, which ends the text.
func WithServers(service string, servers ...string) string {
	head := strings.TrimSuffix(strings.TrimRight(service, "\n"), "}")
	return head + strings.Join(servers, "") + "}\n"
}

// applyFile makes services what this node's file says.
func (s *Service) applyFile(req api.LVSRequest, table api.LVSTable) ([]fsm.Balance, error) {
	if s.balancer == nil {
		return nil, errWitness
	}
	file := s.balancer.File()
	drift := view.Drift(table, TextsOf(file))
	if req.Service != "" {
		var keys []string
		for _, d := range drift {
			keys = append(keys, d.Key)
		}
		key, problem := view.LVSKey(keys, req.Service)
		if problem != nil {
			return nil, problem
		}
		drift = slices.DeleteFunc(drift, func(d api.LVSDrift) bool { return d.Key != key })
	}
	var all []fsm.Balance
	for _, d := range drift {
		b := fsm.Balance{Do: fsm.RemoveService, Service: d.Key, Expect: new(uint64)}
		if i := slices.IndexFunc(table.Services, func(r api.LVSRecord) bool { return r.Key == d.Key }); i >= 0 {
			b.Expect = &table.Services[i].Version
		}
		if i := slices.IndexFunc(file, func(f fsm.Definition) bool { return f.Key == d.Key }); i >= 0 {
			b.Do, b.Text, b.Servers, b.File = fsm.SetService, file[i].Text, &file[i].Servers, true
		}
		all = append(all, b)
	}
	return all, nil
}

// endDrains takes off drains whose time is over, and returns when to look again.
func (s *Service) endDrains(ctx context.Context, now time.Time) (again time.Duration) {
	again = expireEvery
	var over []fsm.Balance
	s.cluster.Read(func(state *fsm.State) {
		for _, v := range state.Services().Services {
			for _, server := range v.Servers {
				d := server.Drained
				if d == nil || d.Until == 0 {
					continue
				}
				if left := d.Until.Time().Sub(now); left >= 0 {
					again = min(again, left+time.Millisecond)
					continue
				}
				over = append(over, fsm.Balance{Do: fsm.Undrain, Service: v.Key, Server: server.Key, Until: d.Until, Reason: "its time is over"})
			}
		}
	})
	for _, b := range over {
		ctx, cancel := context.WithTimeout(ctx, expireWait)
		if _, err := s.cluster.Submit(ctx, s.command(fsm.Command{Balance: &b})); err != nil {
			s.log.Warn("cannot end a drain", "server", b.Server, "err", err)
			again = expireAgain
		}
		cancel()
	}
	return again
}

// partSize is how many bytes of text a part of a seed has at most, unless one service alone has more.
const partSize = fsm.MaxChange / 4

// SeedLVS gives the cluster its virtual services from this node's file, if it has none yet. It waits for a leader.
func (s *Service) SeedLVS(ctx context.Context, file []fsm.Definition) error {
	parts := partsOf(file)
	for i, part := range parts {
		result, err := s.cluster.Submit(ctx, s.command(fsm.Command{Seed: &fsm.Seed{Part: i, Parts: len(parts), Services: part}}))
		if err != nil {
			return err
		}
		if result.Refused != "" {
			return fmt.Errorf("%s", result.Refused)
		}
	}
	return nil
}

func partsOf(file []fsm.Definition) [][]fsm.Definition {
	var parts [][]fsm.Definition
	size := partSize
	for _, d := range file {
		if size += d.Size(); size > partSize {
			parts, size = append(parts, nil), d.Size()
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], d)
	}
	return parts
}

// FollowLVS takes into the cluster what has changed between two readings of this node's file, service by service: a
// service that the cluster still has as the file had it. What the cluster has from elsewhere stays as it is, and counts as
// drift.
func (s *Service) FollowLVS(ctx context.Context, before, after []fsm.Definition) (changed []string, err error) {
	if err := s.awaitLeader(ctx); err != nil {
		return nil, err
	}
	for _, b := range followed(s.table(), TextsOf(before), TextsOf(after), after) {
		result, err := s.cluster.Submit(ctx, s.command(fsm.Command{Balance: &b}))
		switch {
		case err != nil:
			return changed, err
		case result.Refused != "":
			s.log.Warn("a virtual service of the file does not become the cluster's", "service", b.Service, "reason", result.Refused)
		default:
			changed = append(changed, b.Service)
		}
	}
	return changed, nil
}

func followed(table api.LVSTable, before, after []api.LVSText, definitions []fsm.Definition) []fsm.Balance {
	find := func(list []api.LVSText, key string) *api.LVSText {
		for i := range list {
			if list[i].Key == key {
				return &list[i]
			}
		}
		return nil
	}
	edited := map[string]bool{}
	for _, d := range view.Drift(api.LVSTable{Services: recordsOf(before)}, after) {
		edited[d.Key] = true
	}
	var all []fsm.Balance
	for _, d := range view.Drift(table, after) {
		if !edited[d.Key] {
			continue
		}
		b := fsm.Balance{Do: fsm.RemoveService, Service: d.Key, Expect: new(uint64), Reason: "the file was reloaded"}
		was := find(before, d.Key)
		if i := slices.IndexFunc(table.Services, func(r api.LVSRecord) bool { return r.Key == d.Key }); i >= 0 {
			record := table.Services[i]
			if was == nil || !slices.Equal(view.Lines(record.LVSText), view.Lines(*was)) {
				continue // it is not what the file had: somebody else has changed it
			}
			b.Expect = &record.Version
		} else if was != nil {
			continue // somebody else has removed it
		}
		if i := slices.IndexFunc(definitions, func(f fsm.Definition) bool { return f.Key == d.Key }); i >= 0 {
			b.Do, b.Text, b.Servers, b.File = fsm.SetService, definitions[i].Text, &definitions[i].Servers, true
		}
		all = append(all, b)
	}
	return all
}

func recordsOf(texts []api.LVSText) []api.LVSRecord {
	var records []api.LVSRecord
	for _, t := range texts {
		records = append(records, api.LVSRecord{LVSText: t})
	}
	return records
}

// verdictWait bounds how long a command with verdicts may take: what it says is old by then.
const verdictWait = 2 * time.Second

// TellVerdicts has the owner's verdicts committed. The error says why they were not; the outcome may be unknown.
func (s *Service) TellVerdicts(ctx context.Context, v fsm.Verdicts) error {
	ctx, cancel := context.WithTimeout(ctx, verdictWait)
	defer cancel()
	result, err := s.cluster.Submit(ctx, s.command(fsm.Command{Verdicts: &v}))
	if err == nil && result.Refused != "" {
		err = fmt.Errorf("%s", result.Refused)
	}
	return err
}
