package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// What the log says about the load balancer: which virtual services there are, and which of their real servers answer.
// What a service or a server is, is text in keepalived's language, which this package does not read: the directors do,
// and a witness keeps it for them. A key says which service or server a text is of; whoever makes a key makes one spelling
// of it.

// Bounds of the load balancer's part of the state. A command beyond them is not valid, or refused.
const (
	MaxDefinition = 64 << 10 // bytes of the text of one service without its servers, or of one server
	MaxChange     = 1 << 20  // bytes of all texts in one command
	MaxVerdicts   = 512      // in one command
	MaxServices   = 16 << 10 // in the state
	MaxServers    = 128 << 10
	MaxTexts      = 64 << 20 // bytes of all texts in the state
	maxParts      = 256      // of a seed
	maxWeight     = 1<<31 - 1
)

// KindSeed, KindBalance and KindVerdicts are the kinds of commands about the load balancer.
const (
	KindSeed     Kind = "seed"
	KindBalance  Kind = "lvs"
	KindVerdicts Kind = "verdicts"
)

// Definition is a virtual service with its real servers, as a file or a person gives it.
type Definition struct {
	Key     string             `json:"key"`
	Text    string             `json:"text"` // without the servers
	Servers []ServerDefinition `json:"servers,omitempty"`
}

// ServerDefinition is a real server of a service.
type ServerDefinition struct {
	Key    string  `json:"key"`
	Text   string  `json:"text"`
	Weight *uint32 `json:"weight,omitempty"` // instead of that in Text
}

// Seed gives the cluster its first virtual services, from a node's file. What does not fit into one command comes in
// parts, one after the other; only the last makes them the cluster's. A part 0 begins anew, whoever has begun before.
type Seed struct {
	Part     int          `json:"part"` // counted from 0
	Parts    int          `json:"parts"`
	Services []Definition `json:"services"`
}

// Operation is what a Balance does.
type Operation string

// The operations.
const (
	SetService    Operation = "set"           // make Definition the service, whether there was one or not; drains of servers that stay, stay
	RemoveService Operation = "remove"        //
	SetServer     Operation = "set-server"    // make Text the server of the service, whether there was one or not
	RemoveServer  Operation = "remove-server" //
	SetWeight     Operation = "weight"        // of a server, instead of that in its text; without Weight, that in its text again
	Drain         Operation = "drain"         // no new connections for a server
	Undrain       Operation = "undrain"       //
)

// Balance is a person's change of the virtual services.
type Balance struct {
	Do      Operation           `json:"do"`
	Service string              `json:"service,omitempty"` // empty with Drain and Undrain: all that have the server
	Server  string              `json:"server,omitempty"`  // with Drain and Undrain, one without a port is all its ports
	Text    string              `json:"text,omitempty"`
	Servers *[]ServerDefinition `json:"servers,omitempty"` // of SetService
	File    bool                `json:"file,omitempty"`    // SetService: Text is from the file of the proposer's node
	Weight  *uint32             `json:"weight,omitempty"`
	Until   Wall                `json:"until,omitempty"`  // of a drain; zero: until taken off. With Undrain: take off that one only
	Expect  *uint64             `json:"expect,omitempty"` // the version that the service has, 0 if there is none; nil: whatever it has
	By      string              `json:"by,omitempty"`
	Reason  string              `json:"reason,omitempty"`
}

// Verdicts says which real servers answer, in the eyes of the owner of a group. It applies only while the owner holds the
// group under Epoch. What it says of services and servers that are no more is passed over.
type Verdicts struct {
	Group string    `json:"group"`
	Epoch uint64    `json:"epoch"`
	List  []Verdict `json:"list"`
}

// Verdict is about one server of one service.
type Verdict struct {
	Service string `json:"service"`
	Server  string `json:"server"`
	Health
}

// Health is what checks have found out about a server.
type Health struct {
	Up     bool   `json:"up"`
	Adds   int64  `json:"adds,omitempty"` // what checks add to its weight, or take from it
	Reason string `json:"reason,omitempty"`
}

// Same tells whether two findings ask for the same; why does not matter.
func (h Health) Same(o Health) bool { return h.Up == o.Up && h.Adds == o.Adds }

func sameWeight(a, b *uint32) bool { return a == b || a != nil && b != nil && *a == *b }

// Service is a virtual service of the cluster. A State gives Services away without copying them: they are never changed,
// neither by the State, which replaces them, nor by their readers.
type Service struct {
	Key     string   `json:"key"`
	Text    string   `json:"text"`    // without the servers
	File    string   `json:"file"`    // the node whose file it was taken from; empty: a person added it
	Servers []Server `json:"servers"` // in their order
	Version uint64   `json:"version"` // log index of the newest change by a person or a file; what checks find does not count
	Change
}

// Change tells when, by whom and why something was changed.
type Change struct {
	Since  Wall   `json:"since,omitempty"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Server is a real server of a service.
type Server struct {
	Key     string   `json:"key"`
	Text    string   `json:"text"`
	Weight  *uint32  `json:"weight,omitempty"` // instead of that in Text
	Drained *Drained `json:"drained,omitempty"`
	Found   *Finding `json:"found,omitempty"` // nil: nobody has said anything about it
	Changed Change   `json:"changed"`         // of weight and text
}

// Drained says that a server gets no new connections.
type Drained struct {
	Change
	Until Wall `json:"until,omitempty"` // zero: until taken off
}

// Finding is the newest verdict about a server.
type Finding struct {
	Health
	At Wall   `json:"at,omitempty"`
	By string `json:"by,omitempty"` // the node
}

// Server returns a server of the service.
func (s *Service) Server(key string) (Server, bool) {
	if i := s.index(key); i >= 0 {
		return s.Servers[i], true
	}
	return Server{}, false
}

func (s *Service) index(key string) int {
	return slices.IndexFunc(s.Servers, func(v Server) bool { return v.Key == key })
}

// balancer is the load balancer's part of a State.
type balancer struct {
	changed  uint64 // log index of the newest change; zero: the cluster has no table yet
	services map[string]*Service
	servers  int    // in all of services
	texts    int    // bytes of all texts
	digest   uint64 // all services' hashes, added
	seeding  *seeding
}

// seeding is a seed of which parts are still to come.
type seeding struct {
	Node     string       `json:"node"`
	Parts    int          `json:"parts"`
	Next     int          `json:"next"`
	Services []Definition `json:"services"`
}

// Table is the load balancer's part of a State.
type Table struct {
	Changed  uint64     // log index of the newest change; zero: the cluster has no table yet
	Services []*Service // by key; shared with the State
}

// Balanced returns the log index of the newest change of the virtual services or of what is known of their servers; zero
// if the cluster has no table yet: then nothing is known of services.
func (s *State) Balanced() uint64 { return s.balancer.changed }

// Services returns all virtual services.
func (s *State) Services() Table {
	return Table{Changed: s.balancer.changed, Services: inOrder(s.balancer.services)}
}

// Service returns a virtual service.
func (s *State) Service(key string) (*Service, bool) {
	v, found := s.balancer.services[key]
	return v, found
}

func (s *State) seed(c Command) Result {
	b, part := &s.balancer, *c.Seed
	switch {
	case b.changed != 0:
		return refused("the cluster has its virtual services already")
	case part.Part == 0:
		b.seeding = &seeding{Node: c.Node, Parts: part.Parts}
	case b.seeding == nil || b.seeding.Node != c.Node || b.seeding.Parts != part.Parts || b.seeding.Next != part.Part:
		return refused("part %d of %d does not follow what came before", part.Part, part.Parts)
	}
	next := *b.seeding
	next.Next, next.Services = part.Part+1, slices.Concat(next.Services, part.Services)
	servers, texts := 0, 0
	for _, d := range next.Services {
		servers, texts = servers+len(d.Servers), texts+d.Size()
	}
	if problem := tooMany(len(next.Services), servers, texts); problem != "" {
		b.seeding = nil
		return refused("%s", problem)
	}
	b.seeding = &next
	if next.Next < next.Parts {
		return Result{}
	}
	b.seeding = nil
	for _, d := range next.Services {
		if b.services[d.Key] == nil { // a file may say it twice: the first counts, as with keepalived
			s.putService(d.Key, s.made(d, nil, Change{Since: c.Time}, c.Node))
		}
	}
	b.changed = s.applied
	s.record(c, Event{Severity: Info, Node: c.Node, Text: fmt.Sprintf("the cluster's virtual services are those of the file of %s: %d",
		c.Node, len(b.services))})
	return Result{Version: s.applied}
}

// tooMany says why so much is too much, if it is.
func tooMany(services, servers, texts int) string {
	if services > MaxServices || servers > MaxServers || texts > MaxTexts {
		return fmt.Sprintf("%d virtual services with %d real servers in %d bytes are more than %d, %d or %d", services, servers, texts,
			MaxServices, MaxServers, MaxTexts)
	}
	return ""
}

// Size is how many bytes the texts have.
func (d Definition) Size() int {
	n := len(d.Text)
	for _, server := range d.Servers {
		n += len(server.Text)
	}
	return n
}

func (s *Service) size() int {
	n := len(s.Text)
	for _, server := range s.Servers {
		n += len(server.Text)
	}
	return n
}

// made returns the service of a definition. Servers that an older one has keep their drains, and what is known of them.
func (s *State) made(d Definition, old *Service, why Change, file string) *Service {
	v := &Service{Key: d.Key, Text: d.Text, File: file, Version: s.applied, Change: why, Servers: make([]Server, 0, len(d.Servers))}
	for _, sd := range d.Servers {
		if v.index(sd.Key) >= 0 {
			continue
		}
		n := Server{Key: sd.Key, Text: sd.Text, Weight: sd.Weight, Changed: why}
		if old != nil {
			if was, found := old.Server(sd.Key); found {
				n.Drained, n.Found = was.Drained, was.Found
				if was.Text == n.Text && sameWeight(was.Weight, n.Weight) {
					n.Changed = was.Changed
				}
			}
		}
		v.Servers = append(v.Servers, n)
	}
	return v
}

// putService replaces a service; nil removes it.
func (s *State) putService(key string, v *Service) {
	b := &s.balancer
	if old := b.services[key]; old != nil {
		b.digest -= hash(0, old)
		b.servers, b.texts = b.servers-len(old.Servers), b.texts-old.size()
		delete(b.services, key)
	}
	if v != nil {
		b.digest += hash(0, v)
		b.servers, b.texts = b.servers+len(v.Servers), b.texts+v.size()
		b.services[key] = v
	}
	b.changed, b.seeding = s.applied, nil
}

func (s *State) balance(c Command) Result {
	b := *c.Balance
	if b.Do == Drain || b.Do == Undrain {
		return s.drain(c)
	}
	old := s.balancer.services[b.Service]
	if problem := s.stale(b, old); problem != "" {
		return refused("%s", problem)
	}
	why := Change{Since: c.Time, By: b.By, Reason: b.Reason}
	var next *Service
	var text string
	switch {
	case b.Do == SetService:
		file := ""
		if b.File {
			file = c.Node
		}
		next = s.made(Definition{Key: b.Service, Text: b.Text, Servers: *b.Servers}, old, why, file)
		text = "virtual service " + b.Service + " is added"
		if old != nil {
			text = "virtual service " + b.Service + " is changed"
		}
		if b.File {
			text += ", from the file of " + c.Node
		}
	case old == nil:
		return refused("there is no virtual service %s", b.Service)
	case b.Do == RemoveService:
		text = "virtual service " + b.Service + " is removed"
	default:
		var problem string
		if next, text, problem = s.changedServer(b, old, why); problem != "" {
			return refused("%s", problem)
		}
	}
	if next != nil {
		services, servers, texts := len(s.balancer.services)+1, s.balancer.servers+len(next.Servers), s.balancer.texts+next.size()
		if old != nil {
			services, servers, texts = services-1, servers-len(old.Servers), texts-old.size()
		}
		if problem := tooMany(services, servers, texts); problem != "" {
			return refused("%s", problem)
		}
	}
	s.putService(b.Service, next)
	s.record(c, Event{Severity: Info, Node: c.Node, Text: clipped(text, longestText), Reason: b.Reason, By: b.By})
	return Result{Version: s.applied}
}

// stale says why a change that expects a version of a service comes too late, if it does.
func (s *State) stale(b Balance, old *Service) string {
	switch {
	case b.Expect == nil:
	case old == nil && *b.Expect != 0:
		return fmt.Sprintf("there is no virtual service %s any more", b.Service)
	case old != nil && *b.Expect == 0:
		return fmt.Sprintf("there is a virtual service %s already, version %d", b.Service, old.Version)
	case old != nil && *b.Expect != old.Version:
		text := fmt.Sprintf("version %d of %s has been replaced by version %d", *b.Expect, b.Service, old.Version)
		if old.By != "" {
			text += " of " + old.By
		}
		return text
	}
	return ""
}

// changedServer returns a service with a change of one of its servers, and what that change is.
func (s *State) changedServer(b Balance, old *Service, why Change) (next *Service, text, problem string) {
	v := *old
	v.Servers, v.Version, v.Change = slices.Clone(old.Servers), s.applied, why
	i := v.index(b.Server)
	if i < 0 && b.Do != SetServer {
		return nil, "", fmt.Sprintf("%s has no real server %s", b.Service, b.Server)
	}
	name := fmt.Sprintf("real server %s of %s", b.Server, b.Service)
	switch b.Do {
	case SetServer:
		n := Server{Key: b.Server, Text: b.Text, Changed: why}
		if i < 0 {
			v.Servers = append(v.Servers, n)
			return &v, name + " is added", ""
		}
		n.Drained, n.Found = v.Servers[i].Drained, v.Servers[i].Found
		v.Servers[i] = n
		return &v, name + " is changed", ""
	case RemoveServer:
		v.Servers = slices.Delete(v.Servers, i, i+1)
		return &v, name + " is removed", ""
	default:
		v.Servers[i].Weight, v.Servers[i].Changed = b.Weight, why
		if b.Weight == nil {
			return &v, name + " has the weight of its definition again", ""
		}
		return &v, fmt.Sprintf("%s has weight %d", name, *b.Weight), ""
	}
}

// drain marks a server in one service or in all, or takes the mark off.
func (s *State) drain(c Command) Result {
	b := *c.Balance
	keys := slices.Sorted(maps.Keys(s.balancer.services))
	if b.Service != "" {
		old := s.balancer.services[b.Service]
		if problem := s.stale(b, old); problem != "" {
			return refused("%s", problem)
		}
		if old == nil {
			return refused("there is no virtual service %s", b.Service)
		}
		keys = []string{b.Service}
	}
	known, changed := false, 0
	for _, key := range keys {
		old := s.balancer.services[key]
		v := *old
		v.Servers = slices.Clone(old.Servers)
		hit := false
		for i := range v.Servers {
			server := &v.Servers[i]
			if server.Key != b.Server && !strings.HasPrefix(server.Key, b.Server+":") {
				continue
			}
			known = true
			if b.Do == Drain {
				d := &Drained{Change: Change{Since: c.Time, By: b.By, Reason: b.Reason}, Until: b.Until}
				if server.Drained != nil {
					d.Since = server.Drained.Since
				}
				server.Drained, hit = d, true
			} else if server.Drained != nil && (b.Until == 0 || b.Until == server.Drained.Until) {
				server.Drained, hit = nil, true
			}
		}
		if hit {
			changed++
			v.Version, v.Change = s.applied, Change{Since: c.Time, By: b.By, Reason: b.Reason}
			s.putService(key, &v)
		}
	}
	where := cmp.Or(b.Service, "any virtual service")
	switch {
	case !known:
		return refused("there is no real server %s in %s", b.Server, where)
	case changed == 0 && b.Until != 0:
		return refused("the drain of %s that ends at %s has been replaced", b.Server, b.Until)
	case changed == 0:
		return refused("%s is not drained in %s", b.Server, where)
	}
	text := "real server " + b.Server + " is drained"
	if b.Do == Undrain {
		text = "real server " + b.Server + " gets connections again"
	}
	if b.Service != "" {
		text += " in " + b.Service
	} else {
		text += fmt.Sprintf(" in all its virtual services (%d)", changed)
	}
	if b.Do == Drain && b.Until != 0 {
		text += " until " + b.Until.String()
	}
	s.record(c, Event{Severity: Info, Node: c.Node, Text: clipped(text, longestText), Reason: b.Reason, By: b.By})
	return Result{Version: s.applied}
}

// namedVerdicts is how many servers an event about verdicts names.
const namedVerdicts = 5

func (s *State) verdicts(c Command) Result {
	v := *c.Verdicts
	group := s.groups[v.Group]
	switch {
	case group == nil:
		return refused("nobody owns %s", v.Group)
	case group.Grant.Epoch != v.Epoch || !group.Held():
		return refused("epoch %d of %s is over", v.Epoch, v.Group)
	case group.Grant.Member.Node() != c.Node:
		return refused("%s owns %s, not %s", group.Grant.Member.Node(), v.Group, c.Node)
	}
	next := map[string]*Service{}
	var up, down []Verdict
	for _, verdict := range v.List {
		service := next[verdict.Service]
		if service == nil {
			old := s.balancer.services[verdict.Service]
			if old == nil {
				continue
			}
			copied := *old
			copied.Servers = slices.Clone(old.Servers)
			service = &copied
		}
		i := service.index(verdict.Server)
		if i < 0 || service.Servers[i].Found != nil && service.Servers[i].Found.Same(verdict.Health) {
			continue
		}
		before := service.Servers[i].Found
		service.Servers[i].Found = &Finding{Health: verdict.Health, At: c.Time, By: c.Node}
		next[verdict.Service] = service
		switch {
		case before != nil && before.Up == verdict.Up: // another weight is no news
		case verdict.Up && before != nil:
			up = append(up, verdict)
		case !verdict.Up:
			down = append(down, verdict)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(next)) {
		s.putService(key, next[key])
	}
	if len(up)+len(down) == 0 {
		return Result{}
	}
	e := Event{Severity: Info, Node: c.Node, Group: v.Group, Epoch: v.Epoch}
	var parts []string
	for _, list := range []struct {
		word     string
		verdicts []Verdict
	}{{"down", down}, {"up", up}} {
		if len(list.verdicts) == 0 {
			continue
		}
		var names []string
		for _, verdict := range list.verdicts[:min(namedVerdicts, len(list.verdicts))] {
			names = append(names, verdict.Server+" of "+verdict.Service)
		}
		if more := len(list.verdicts) - namedVerdicts; more > 0 {
			names = append(names, fmt.Sprintf("%d more", more))
		}
		parts = append(parts, list.word+": "+strings.Join(names, ", "))
		e.Reason = cmp.Or(e.Reason, list.verdicts[0].Reason)
	}
	if len(down) > 0 {
		e.Severity = Warn
	}
	e.Text = clipped("real servers "+strings.Join(parts, "; "), longestText)
	s.record(c, e)
	return Result{}
}

// validateBalancer tells what is wrong with the load balancer's commands.
func (c Command) validateBalancer(complain func(string, ...any) error) error {
	total := 0
	text := func(what, s string) error {
		total += len(s)
		switch {
		case s == "":
			return complain("%s is empty", what)
		case len(s) > MaxDefinition:
			return complain("%s has %d bytes, more than %d", what, len(s), MaxDefinition)
		case !utf8.ValidString(s):
			return complain("%s is not UTF-8", what)
		case total > MaxChange:
			return complain("the texts have more than %d bytes", MaxChange)
		}
		return nil
	}
	key := func(what, s string) error {
		switch {
		case s == "":
			return complain("%s is empty", what)
		case len(s) > longestName:
			return complain("%s has %d bytes, more than %d", what, len(s), longestName)
		case !utf8.ValidString(s):
			return complain("%s is not UTF-8: %q", what, s)
		}
		return nil
	}
	weight := func(w *uint32) error {
		if w != nil && *w > maxWeight {
			return complain("weight %d is above %d", *w, maxWeight)
		}
		return nil
	}
	servers := func(list []ServerDefinition) error {
		for _, d := range list {
			if err := first(key("key of a server", d.Key), text("text of "+d.Key, d.Text), weight(d.Weight)); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case c.Seed != nil:
		if c.Seed.Parts < 1 || c.Seed.Parts > maxParts || c.Seed.Part < 0 || c.Seed.Part >= c.Seed.Parts {
			return complain("part %d of %d", c.Seed.Part, c.Seed.Parts)
		}
		if len(c.Seed.Services) == 0 {
			return complain("a seed without services")
		}
		for _, d := range c.Seed.Services {
			if err := first(key("key of a service", d.Key), text("text of "+d.Key, d.Text), servers(d.Servers)); err != nil {
				return err
			}
		}
	case c.Balance != nil:
		return first(c.Balance.validate(complain, key, text, servers), weight(c.Balance.Weight))
	case c.Verdicts != nil:
		if n := len(c.Verdicts.List); n == 0 || n > MaxVerdicts {
			return complain("%d verdicts, not 1 to %d", n, MaxVerdicts)
		}
		for _, v := range c.Verdicts.List {
			if err := first(key("key of a service", v.Service), key("key of a server", v.Server)); err != nil {
				return err
			}
			if v.Adds < -maxWeight || v.Adds > maxWeight {
				return complain("a verdict adds %d to a weight", v.Adds)
			}
			if len(v.Reason) > longestName || !utf8.ValidString(v.Reason) {
				return complain("reason of a verdict: %q", v.Reason)
			}
		}
	}
	return nil
}

func (b *Balance) validate(complain func(string, ...any) error, key, text func(string, string) error,
	servers func([]ServerDefinition) error) error {
	var err error
	needs := map[Operation]string{SetService: "service text servers", RemoveService: "service", SetServer: "service server text",
		RemoveServer: "service server", SetWeight: "service server weight?", Drain: "service? server until?",
		Undrain: "service? server until?"}[b.Do]
	if needs == "" {
		return complain("operation %q is not known", b.Do)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"service", b.Service != ""}, {"server", b.Server != ""}, {"text", b.Text != ""}, {"servers", b.Servers != nil},
		{"weight", b.Weight != nil}, {"until", b.Until != 0}} {
		switch words := strings.Fields(needs); {
		case slices.Contains(words, f.name) && !f.set:
			return complain("%s needs a %s", b.Do, f.name)
		case f.set && !slices.Contains(words, f.name) && !slices.Contains(words, f.name+"?"):
			return complain("%s takes no %s", b.Do, f.name)
		}
	}
	switch {
	case b.File && b.Do != SetService:
		return complain("%s is never from a file", b.Do)
	case b.Service == "" && b.Expect != nil:
		return complain("a version of no service is expected")
	}
	if b.Service != "" {
		err = key("service", b.Service)
	}
	if b.Server != "" {
		err = first(err, key("server", b.Server))
	}
	if b.Text != "" {
		err = first(err, text("text", b.Text))
	}
	if b.Servers != nil {
		err = first(err, servers(*b.Servers))
	}
	return err
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// snapshotBalancer is the load balancer's part of a snapshot; nil if there is none.
func (s *State) snapshotBalancer() *balancerSnapshot {
	b := &s.balancer
	if b.changed == 0 && b.seeding == nil {
		return nil
	}
	return &balancerSnapshot{Changed: b.changed, Seeding: b.seeding, Services: s.Services().Services}
}

type balancerSnapshot struct {
	Changed  uint64     `json:"changed,omitempty"`
	Seeding  *seeding   `json:"seeding,omitempty"`
	Services []*Service `json:"services"`
}

// restoreBalancer is the reverse of snapshotBalancer.
func (s *State) restoreBalancer(snap *balancerSnapshot) {
	if snap == nil {
		return
	}
	for _, v := range snap.Services {
		if v != nil {
			s.putService(v.Key, v)
		}
	}
	s.balancer.changed, s.balancer.seeding = snap.Changed, snap.Seeding
}
