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

	Found  Verdict // what the checks of this machine say, whatever a person or the cluster says
	Ran    bool    // each of them has run
	Checks []Check // as configured; not to be changed
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
	for _, s := range v.servers {
		view.Servers = append(view.Servers, s.view())
	}
	return view
}

// Checks returns the checks of a server as they are configured. They must not be changed.
func (p *Pool) Checks(name string, address netip.AddrPort) []Check {
	if _, s := p.server(name, address); s != nil {
		return s.Checks
	}
	return nil
}

func (s *server) view() ServerView {
	v := ServerView{Address: s.Address, Up: s.up(), Known: s.override.Found != nil || len(s.checks) == 0, Weight: s.weight(),
		Override: s.override, Found: Verdict{Up: true}, Ran: true, Checks: s.Checks}
	for _, c := range s.checks {
		v.Known = v.Known || c.ran
		v.Found.Up = v.Found.Up && c.Up
		v.Found.Adds += c.Adds
		v.Ran = v.Ran && c.ran
	}
	return v
}
