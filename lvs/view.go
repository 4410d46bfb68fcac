package lvs

import "net/netip"

// View is the state of a virtual server.
type View struct {
	Name    string
	Keys    []ServiceKey
	Quorate bool
	Sorry   bool  // the sorry server serves
	Total   int64 // weight of the servers that are up
	Servers []ServerView
}

// ServerView is the state of a server.
type ServerView struct {
	Address  netip.AddrPort
	Up       bool
	Known    bool  // somebody has looked; else Up is what it begins with
	Weight   int64 // that it has, or would have if it were up
	Override Override
	Failed   []string // IDs of checks that have failed
}

// Views returns the state of all virtual servers, as they are configured.
func (p *Pool) Views() []View {
	all := make([]View, 0, len(p.order))
	for _, v := range p.order {
		all = append(all, v.view())
	}
	return all
}

// View returns the state of one virtual server, if there is one of this name.
func (p *Pool) View(name string) (v View, found bool) {
	if s := p.virtuals[name]; s != nil {
		return s.view(), true
	}
	return v, false
}

func (v *virtual) view() View {
	view := View{Name: v.Name, Keys: v.Keys, Quorate: v.quorate, Sorry: v.Sorry != nil && !v.quorate, Total: v.total()}
	for _, r := range v.VirtualServer.Servers {
		view.Servers = append(view.Servers, v.servers[r.Address].view())
	}
	return view
}

// Health returns what the checks of this machine say of a server, whatever a person or the cluster says; known is false
// while one of them has not run.
func (p *Pool) Health(name string, address netip.AddrPort) (found Verdict, known bool) {
	_, s := p.server(name, address)
	if s == nil {
		return Verdict{}, false
	}
	found, known = Verdict{Up: true}, true
	for _, c := range s.checks {
		found.Up = found.Up && c.Up
		found.Adds += c.Adds
		known = known && c.ran
	}
	return found, known
}

func (s *server) view() ServerView {
	v := ServerView{Address: s.Address, Up: s.up(), Known: s.override.Found != nil || len(s.checks) == 0, Weight: s.weight(),
		Override: s.override}
	for _, c := range s.Checks {
		state := s.checks[c.ID]
		v.Known = v.Known || state.ran
		if !state.Up {
			v.Failed = append(v.Failed, c.ID)
		}
	}
	return v
}
