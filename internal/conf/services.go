package conf

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// Service is a virtual server as text: in keepalived's language, with nothing in it that depends on the file around it,
// such as definitions, conditions and includes, and spaced always alike. The text begins with the virtual_server_group that
// the service names, if it names one, and ends with the virtual_server block, out of which the real servers are taken.
type Service struct {
	Key     string // "TCP 192.0.2.10:80", "fwmark 7 inet", "group web TCP inet"
	Text    string
	Servers []ServiceServer
}

// ServiceServer is the real_server block of a Service.
type ServiceServer struct {
	Key  string // address and port
	Text string
}

// source is what a Config keeps of its files. It is of no meaning for the configuration.
type source struct {
	opts    Options
	around  []*Node         // blocks that checkers and virtual servers depend on
	servers []serviceSource // of the virtual servers, in their order
}

// serviceSource is the text of a virtual server with those of its real servers, in their order. What was read is ten times as large.
type serviceSource struct {
	text    string
	servers []string
}

// newSource picks from the blocks outside any block.
func newSource(opts Options, top []*Node) *source {
	s := &source{opts: opts}
	for _, n := range top {
		switch n.Keyword() {
		case "global_defs", "SSL", "bfd_instance", "track_file", "vrrp_track_file":
			s.around = append(s.around, n)
		}
	}
	return s
}

// Key names a virtual server in the cluster: what it is, not what it does.
func (v *VirtualServer) Key() string {
	protocol := map[Protocol]string{TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}[v.Protocol]
	family := map[Family]string{IPv4: "inet", IPv6: "inet6"}[v.Family]
	switch {
	case v.Address.IsValid():
		return protocol + " " + v.Address.String()
	case v.Mark != 0:
		return fmt.Sprintf("fwmark %d %s", v.Mark, family)
	}
	return strings.Join(slices.DeleteFunc([]string{"group", v.Group, protocol, family}, func(s string) bool { return s == "" }), " ")
}

// Key names a real server within its virtual server.
func (r *RealServer) Key() string { return r.Address.String() }

// Services returns the virtual servers as text, in their order: of a configuration with a cluster, or that ReadServices has read. Others
// have none.
func (c *Config) Services() []Service {
	all := make([]Service, len(c.source.servers))
	for i, from := range c.source.servers {
		v := &c.VirtualServers[i]
		all[i] = Service{Key: v.Key(), Text: from.text}
		for j := range v.Servers {
			all[i].Servers = append(all[i].Servers, ServiceServer{v.Servers[j].Key(), from.servers[j]})
		}
	}
	return all
}

// sourceOf keeps the text of a virtual server, of the group that it names, and of its real servers.
func sourceOf(virtual, group *Node, servers []*Node) (from serviceSource) {
	whole := *virtual
	whole.Children = slices.DeleteFunc(slices.Clone(whole.Children), func(n *Node) bool { return n.Keyword() == "real_server" })
	var b strings.Builder
	if group != nil {
		write(&b, group, 0)
	}
	write(&b, &whole, 0)
	end := b.Len()
	ends := make([]int, len(servers))
	for i, n := range servers {
		write(&b, n, 1)
		ends[i] = b.Len()
	}
	text := strings.Clone(b.String()) // of one length and no more
	from = serviceSource{text: text[:end], servers: make([]string, len(servers))}
	for i := range servers {
		from.servers[i], end = text[end:ends[i]], ends[i]
	}
	return from
}

// write writes a statement with its block.
func write(b *strings.Builder, n *Node, depth int) {
	indent(b, depth)
	b.WriteString(writable(n.Line))
	if n.IsBlock {
		b.WriteString(" {\n")
		for _, child := range n.Children {
			write(b, child, depth+1)
		}
		indent(b, depth)
		b.WriteString("}")
	}
	b.WriteString("\n")
}

func indent(b *strings.Builder, depth int) {
	for range depth {
		b.WriteString("    ")
	}
}

// writable is a statement as it was read such that it reads as that again: what begins a comment is protected once more,
// and blanks between words are one space, unless quotes or backslashes may have a say in it.
func writable(line string) string {
	if !strings.ContainsAny(line, "\"'\\#!\t\v\f\r") && !strings.Contains(line, "  ") {
		return strings.TrimSpace(line) // as nearly always
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
			b.WriteByte(c)
		case c == '\\' && i+1 < len(line):
			b.WriteString(line[i : i+2])
			i++
		case !quoted && (c == '#' || c == '!'):
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	if out := b.String(); strings.ContainsAny(out, `"'\`) {
		return out
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// servicesName is the name of a text of services in findings.
const servicesName = "services"

// ReadServices reads virtual_server and virtual_server_group blocks as if they stood in the files of this configuration in
// place of those that do. The result has these, their Services, and nothing else of meaning; it is nil if the text cannot be
// used. The findings are about the text.
func (c *Config) ReadServices(text string) (*Config, []Finding) {
	opts := c.source.opts
	opts.Path, opts.Files, opts.Witness = servicesName, onlyFile(text), false
	l := newLoader(opts)
	l.texts = true
	wrong := false
	for _, n := range l.tree.Top {
		if k := n.Keyword(); k != "virtual_server" && k != "virtual_server_group" {
			wrong = true
			l.errorf(CodeUnknownWord, n.Words[0], "%s is neither a virtual_server nor a virtual_server_group", quote(k))
		}
	}
	l.tree.Top = append(slices.Clone(c.source.around), l.tree.Top...)
	l.read()
	findings := slices.DeleteFunc(l.findings, func(f Finding) bool { return f.Pos.File != servicesName })
	if wrong || slices.ContainsFunc(findings, func(f Finding) bool { return f.Fatal }) {
		return nil, findings
	}
	return l.cfg, findings
}

// onlyFile is a file system with one file, called servicesName.
type onlyFile string

func (f onlyFile) ReadFile(name string) ([]byte, error) {
	if name != servicesName {
		return nil, fs.ErrNotExist
	}
	return []byte(f), nil
}

func (f onlyFile) Stat(name string) (fs.FileInfo, error) {
	if name != servicesName {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

func (f onlyFile) ReadDir(string) ([]fs.DirEntry, error) { return nil, fs.ErrNotExist }
func (f onlyFile) Name() string                          { return servicesName }
func (f onlyFile) Size() int64                           { return int64(len(f)) }
func (f onlyFile) Mode() fs.FileMode                     { return 0o444 }
func (f onlyFile) ModTime() time.Time                    { return time.Time{} }
func (f onlyFile) IsDir() bool                           { return false }
func (f onlyFile) Sys() any                              { return nil }

var _ syntax.Files = onlyFile("")
