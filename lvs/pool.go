package lvs

import (
	"maps"
	"net/netip"
	"slices"
)

// VirtualServer is what one virtual_server block asks for.
type VirtualServer struct {
	Name       string       // identifies it from one configuration to the next
	Keys       []ServiceKey // the services that it is: one, or those of a group
	Service    Service      // of each of them; a PrefixLen of 0 is that of a whole address
	Quorum     int64        // total weight of the servers that are up, at least 1
	Hysteresis int64        // below Quorum
	Omega      bool         // its end is told as if everything had failed
	Sorry      *SorryServer // nil: none
	Servers    []RealServer
}

// SorryServer serves while the quorum is missing.
type SorryServer struct {
	Address    netip.AddrPort // port 0: that of the service
	Forwarding Forwarding
	Inhibit    bool // present with weight 0 while it is not needed
}

// RealServer is a server of a VirtualServer.
type RealServer struct {
	Address      netip.AddrPort // identifies it in its virtual server; port 0: that of the service
	Forwarding   Forwarding
	Weight       int64
	Upper, Lower uint32
	Inhibit      bool // present with weight 0 while it is down
	Checks       []Check
}

// Check is a health check of a server.
type Check struct {
	ID    string // identifies it among all checks, from one configuration to the next
	Alpha bool   // failed until it has succeeded
}

// Verdict is what a check found.
type Verdict struct {
	Up   bool
	Adds int64 // to the weight of the server while it is up
}

// Override is what a person or the cluster says of a server, over what its configuration and its checks say.
type Override struct {
	Weight *int64   // instead of the configured one
	Drain  bool     // no new connections
	Found  *Verdict // instead of what the checks found; Adds is to Weight
	Begins bool     // without Found: the checks do not count, and the server is as it was before the first of them
}

// NoticeKind is a kind of Notice.
type NoticeKind uint8

// The kinds.
const (
	ServerUp NoticeKind = iota
	ServerDown
	QuorumUp
	QuorumDown
)

// Notice tells what scripts, pipes, mails and traps tell of a virtual server.
type Notice struct {
	Kind    NoticeKind
	Virtual string         // name of the virtual server
	Server  netip.AddrPort // ServerUp, ServerDown
	Ending  bool           // because the virtual server ends, not because of a failure
}

// Outcome is what an event leads to.
type Outcome struct {
	Services []ServiceKey // whose entries have changed; the others are as they were
	Notices  []Notice     // in the order in which they are told
}

func (o *Outcome) notice(n Notice) { o.Notices = append(o.Notices, n) }

// Pool knows which servers of which services are up, and from that which table the kernel should have. It does nothing
// itself and knows no time. Its methods are called by one goroutine; an event costs time in proportion to the virtual
// server that it is about.
type Pool struct {
	initNotices bool
	order       []*virtual // as configured
	virtuals    map[string]*virtual
	want        Table
	owner       map[ServiceKey]string // virtual server that has the service
}

// virtual is a virtual server with its state. Its Servers are in servers.
type virtual struct {
	VirtualServer
	quorate bool
	servers []*server // as configured
}

// server is a real server with its state.
type server struct {
	RealServer
	checks   []check // the state of each of Checks
	override Override
	told     told
}

// told is the state of a server that was told last.
type told uint8

const (
	toldNothing told = iota // it began with alpha, and nothing is known yet
	toldUp
	toldDown
)

type check struct {
	Verdict
	ran bool
}

// NewPool returns a Pool without virtual servers.
func NewPool() *Pool {
	return &Pool{virtuals: make(map[string]*virtual), want: make(Table), owner: make(map[ServiceKey]string)}
}

// Want returns the table that the kernel should have. It must not be changed, and holds until the next event.
func (p *Pool) Want() Table { return p.want }

// Configure makes these the virtual servers. What was there before, by name, address and ID, keeps its state.
// initNotices says that servers that begin as up are told of (rs_init_notifies). Of virtual servers with one key the
// first has it.
func (p *Pool) Configure(all []VirtualServer, initNotices bool) Outcome {
	var out Outcome
	p.initNotices = initNotices
	before, order, owned := p.virtuals, p.order, p.owner
	p.virtuals, p.order, p.owner = make(map[string]*virtual, len(all)), nil, make(map[ServiceKey]string)
	for _, spec := range all {
		if p.virtuals[spec.Name] == nil {
			v := newVirtual(spec, before[spec.Name])
			p.claim(v)
			p.virtuals[v.Name] = v
			p.order = append(p.order, v)
		}
	}
	for _, v := range order {
		if p.virtuals[v.Name] == nil {
			v.end(&out)
		}
	}
	for key := range owned {
		if _, kept := p.owner[key]; !kept {
			delete(p.want, key)
			out.Services = append(out.Services, key)
		}
	}
	for _, v := range p.order {
		if old := before[v.Name]; old == nil {
			p.begin(v, &out)
		} else {
			v.quorate = old.quorate
			p.tellServers(v, &out)
			v.count(&out)
		}
		p.write(v, &out)
	}
	slices.SortFunc(out.Services, ServiceKey.Compare)
	return out
}

// claim leaves a virtual server the keys that no other has yet.
func (p *Pool) claim(v *virtual) {
	var free []ServiceKey
	for _, key := range v.Keys {
		if _, taken := p.owner[key]; !taken {
			p.owner[key] = v.Name
			free = append(free, key)
		}
	}
	v.Keys = free
}

// newVirtual returns a virtual server whose servers have the state that they have in old, which may be nil.
func newVirtual(spec VirtualServer, old *virtual) *virtual {
	v := &virtual{VirtualServer: spec, servers: make([]*server, 0, len(spec.Servers))}
	v.Servers = nil
	for _, r := range spec.Servers {
		if v.server(r.Address) == nil {
			v.servers = append(v.servers, newServer(r, old))
		}
	}
	return v
}

// newServer returns a server with the state that it has in old, which may be nil.
func newServer(r RealServer, old *virtual) *server {
	s := &server{RealServer: r, checks: make([]check, len(r.Checks))}
	var before *server
	if old != nil {
		before = old.server(r.Address)
	}
	if before != nil {
		s.override, s.told = before.override, before.told
	}
	for i, c := range r.Checks {
		s.checks[i].Up = !c.Alpha
		if before != nil {
			if was := before.check(c.ID); was != nil {
				s.checks[i] = *was
			}
		}
	}
	return s
}

// server returns the server with an address, or nil.
func (v *virtual) server(address netip.AddrPort) *server {
	for _, s := range v.servers {
		if s.Address == address {
			return s
		}
	}
	return nil
}

// check returns the state of a check, or nil.
func (s *server) check(id string) *check {
	for i := range s.Checks {
		if s.Checks[i].ID == id {
			return &s.checks[i]
		}
	}
	return nil
}

// up tells whether the server is in the pool.
func (s *server) up() bool {
	if f := s.override.Found; f != nil {
		return f.Up
	}
	if s.override.Begins {
		return !slices.ContainsFunc(s.Checks, func(c Check) bool { return c.Alpha })
	}
	for _, c := range s.checks {
		if !c.Up {
			return false
		}
	}
	return true
}

// weight returns the weight that the server has while it is up.
func (s *server) weight() int64 {
	if s.override.Drain {
		return 0
	}
	w := s.Weight
	if s.override.Weight != nil {
		w = *s.override.Weight
	}
	if f := s.override.Found; f != nil {
		w += f.Adds
	} else if !s.override.Begins {
		for _, c := range s.checks {
			w += c.Adds
		}
	}
	return min(max(w, 0), MaxWeight)
}

// begin gives a new virtual server its first state, of which nothing is told: but for a quorum that is missing where a
// sorry server has to serve, and for servers if that is asked for.
func (p *Pool) begin(v *virtual, out *Outcome) {
	p.tellServers(v, out)
	v.quorate = v.total() >= v.Quorum+v.Hysteresis
	if !v.quorate && v.Sorry != nil {
		out.notice(Notice{Kind: QuorumDown, Virtual: v.Name})
	}
}

// tellServers compares the state of all servers with what was told of them.
func (p *Pool) tellServers(v *virtual, out *Outcome) {
	for _, s := range v.servers {
		if s.told == toldNothing && s.up() && !p.initNotices {
			s.told = toldUp
			continue
		}
		v.tell(s, out)
	}
}

// tell adds a notice if the state of the server is another than the one that was told. Of one that began with alpha, and of
// which no check has failed yet, there is none.
func (v *virtual) tell(s *server, out *Outcome) {
	up := s.up()
	switch {
	case up && s.told != toldUp:
		s.told = toldUp
		out.notice(Notice{Kind: ServerUp, Virtual: v.Name, Server: s.Address})
	case !up && s.told != toldDown && (s.told == toldUp || s.failed()):
		s.told = toldDown
		out.notice(Notice{Kind: ServerDown, Virtual: v.Name, Server: s.Address})
	}
}

// failed tells whether somebody has found the server down, as opposed to it having to show that it is up.
func (s *server) failed() bool {
	if s.override.Found != nil || s.override.Begins {
		return s.override.Found != nil
	}
	for _, c := range s.checks {
		if c.ran && !c.Up {
			return true
		}
	}
	return false
}

// total returns the weight of the servers that are up.
func (v *virtual) total() (sum int64) {
	for _, s := range v.servers {
		if s.up() {
			sum += s.weight()
		}
	}
	return sum
}

// count decides anew whether there is a quorum.
func (v *virtual) count(out *Outcome) {
	switch sum := v.total(); {
	case !v.quorate && sum >= v.Quorum+v.Hysteresis:
		v.quorate = true
		out.notice(Notice{Kind: QuorumUp, Virtual: v.Name})
	case v.quorate && (sum == 0 || sum < v.Quorum-v.Hysteresis):
		v.quorate = false
		out.notice(Notice{Kind: QuorumDown, Virtual: v.Name})
	}
}

// end tells the end of a virtual server with omega.
func (v *virtual) end(out *Outcome) {
	if !v.Omega {
		return
	}
	for _, s := range v.servers {
		if s.told == toldUp {
			out.notice(Notice{Kind: ServerDown, Virtual: v.Name, Server: s.Address, Ending: true})
		}
	}
	if v.quorate {
		out.notice(Notice{Kind: QuorumDown, Virtual: v.Name, Ending: true})
	}
}

// Found is the event that a check of a server has come to a verdict. What is not configured is passed over.
func (p *Pool) Found(name string, address netip.AddrPort, id string, found Verdict) (out Outcome) {
	v, s := p.server(name, address)
	if s == nil {
		return out
	}
	c := s.check(id)
	if c == nil {
		return out
	}
	if !found.Up {
		found.Adds = 0
	}
	confirmed := c.Verdict == found && (c.ran || found.Up) // the first to say that it is down tells more than what was assumed
	c.Verdict, c.ran = found, true
	if !confirmed {
		p.changed(v, s, &out)
	}
	return out
}

// Override is the event that a person or the cluster says something else of a server. What is not configured is passed
// over.
func (p *Pool) Override(name string, address netip.AddrPort, o Override) (out Outcome) {
	if v, s := p.server(name, address); s != nil {
		s.override = o
		p.changed(v, s, &out)
	}
	return out
}

func (p *Pool) changed(v *virtual, s *server, out *Outcome) {
	v.tell(s, out)
	v.count(out)
	p.write(v, out)
}

// End is the event that nothing is served any more. It changes no table.
func (p *Pool) End() (out Outcome) {
	for _, v := range p.order {
		v.end(&out)
	}
	return out
}

func (p *Pool) server(name string, address netip.AddrPort) (*virtual, *server) {
	v := p.virtuals[name]
	if v == nil {
		return nil, nil
	}
	return v, v.server(address)
}

// write brings the entries of a virtual server up to date.
func (p *Pool) write(v *virtual, out *Outcome) {
	for _, key := range v.Keys {
		e := v.entry(key)
		old, exists := p.want[key]
		if !exists || old.Service != e.Service || !maps.Equal(old.Destinations, e.Destinations) {
			p.want[key] = e
			out.Services = append(out.Services, key)
		}
	}
}

// entry returns what one of the services should be.
func (v *virtual) entry(key ServiceKey) Entry {
	e := Entry{Service: v.Service, Destinations: make(map[DestinationKey]Destination, len(v.servers)+1)}
	if pers := &e.Persistence; pers.TimeoutSeconds == 0 {
		*pers = Persistence{}
	} else if whole := addressBits(key.Family); pers.PrefixLen == 0 || pers.PrefixLen > whole {
		pers.PrefixLen = whole
	}
	sorry := v.Sorry != nil && !v.quorate
	for _, s := range v.servers {
		server, fits := destinationKey(key, s.Address, s.Forwarding)
		if !fits {
			continue
		}
		d := Destination{Forwarding: s.Forwarding, Upper: s.Upper, Lower: s.Lower}
		if s.up() && !sorry {
			d.Weight = uint32(s.weight())
		} else if !s.Inhibit {
			continue
		}
		e.Destinations[server] = d
	}
	if v.Sorry == nil || !sorry && !v.Sorry.Inhibit {
		return e
	}
	server, fits := destinationKey(key, v.Sorry.Address, v.Sorry.Forwarding)
	if _, shared := e.Destinations[server]; fits && (sorry || !shared) {
		d := Destination{Forwarding: v.Sorry.Forwarding}
		if sorry {
			d.Weight = 1
		}
		e.Destinations[server] = d
	}
	return e
}

func addressBits(f Family) uint8 {
	if f == IPv6 {
		return 128
	}
	return 32
}

// destinationKey returns what a service knows a server by; fits is false if the server is of another family and not
// reached by a tunnel. By DirectRoute and Tunnel packets arrive as they were sent, so that the port is the service's.
func destinationKey(key ServiceKey, a netip.AddrPort, f Forwarding) (server DestinationKey, fits bool) {
	family := IPv6
	if a.Addr().Is4() {
		family = IPv4
	}
	if port := key.Address.Port(); f.Method != NAT || a.Port() == 0 {
		a = netip.AddrPortFrom(a.Addr(), port)
	}
	return a, f.Method == Tunnel || family == key.Family
}
