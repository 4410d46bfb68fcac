package conf

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// Membership is what a cluster block needs to say.
type Membership struct {
	Name    string
	KeyFile string
	Lease   time.Duration // 0: fitting to the instances
	Peers   []Peer        // Name, Address and Witness of all members
}

// ErrHasCluster says that a configuration has a cluster block already.
var ErrHasCluster = errors.New("there is a cluster block already")

// ErrUnusable says that a configuration cannot be used, for the reasons in the findings.
var ErrUnusable = errors.New("the configuration cannot be used")

// ErrMember says that a name or an address cannot be one of a cluster's.
var ErrMember = errors.New("no name or address of a cluster")

// AddCluster returns the file at opts.Path with a cluster block: all that stands in it stays as it is, byte for byte. The
// block goes before the first line that is no comment, so that a brace which is missing further down cannot swallow it.
//
// The file is read as each of the directors reads it, before and after. With ErrUnusable it cannot be used by one of them
// as it is, and with ErrUnusable and a text not with the block, for example because an address is in two groups, which
// VRRP tolerates and leases do not; the findings say why. On success they are what the first director is told about the new
// file. Other errors are ErrHasCluster, ErrMember and those of the file system.
func AddCluster(opts Options, m Membership) (text []byte, lease time.Duration, findings []Finding, err error) {
	content, err := opts.Files.ReadFile(opts.Path)
	if err != nil {
		return nil, 0, nil, err
	}
	var before []*Config
	for _, name := range directorsOf(m.Peers) {
		l := load(opts.For(name))
		if l.cluster != nil {
			return nil, 0, nil, fmt.Errorf("%w: %v", ErrHasCluster, l.cluster.Pos())
		}
		if slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Fatal }) {
			return nil, 0, l.findings, ErrUnusable
		}
		before = append(before, l.cfg)
	}
	names, _ := NodeNames(opts)
	for _, name := range names { // of conditions
		if l := load(opts.For(name)); l.cluster != nil {
			return nil, 0, nil, fmt.Errorf("%w for @%s: %v", ErrHasCluster, name, l.cluster.Pos())
		}
	}
	if m.Lease == 0 {
		m.Lease = fittingLease(before)
	}
	text = insert(content, m.block())
	opts.Files = replaced{opts.Files, opts.Path, text}
	for i, p := range m.Peers {
		with := opts.For(p.Name)
		with.Witness = p.Witness
		c, found := Load(with)
		if c == nil {
			return text, 0, found, ErrUnusable
		}
		if !m.is(c.Cluster, p.Name) {
			return nil, 0, nil, fmt.Errorf("%w: what was asked for reads as something else", ErrMember)
		}
		if i == 0 {
			findings = found
		}
	}
	return text, m.Lease, findings, nil
}

// is tells whether a cluster block that was read is the one that was written.
func (m *Membership) is(c *Cluster, node string) bool {
	return c != nil && c.Name == m.Name && c.Node == node && c.KeyFile == m.KeyFile && c.Lease == m.Lease &&
		slices.EqualFunc(c.Peers, m.Peers, func(a, b Peer) bool {
			return a.Name == b.Name && a.Address == b.Address && a.Witness == b.Witness
		})
}

// fittingLease is 2.5 times the smallest advertisement interval of all nodes, but short enough for no takeover to wait for
// it, and at least LeaseMin.
func fittingLease(configs []*Config) time.Duration {
	const fallback = 2500 * time.Millisecond // that of advert_int 1
	var interval, down time.Duration
	for _, c := range configs {
		for i := range c.Instances {
			in := &c.Instances[i]
			if interval == 0 || in.AdvertInterval < interval {
				interval = in.AdvertInterval
			}
			if d := in.ActiveDownInterval(); down == 0 || d < down {
				down = d
			}
		}
	}
	if interval == 0 {
		return fallback
	}
	shorter := time.Duration(float64(down) / (1 + 2*DriftBound)).Truncate(10 * time.Millisecond)
	return max(min(interval*5/2, shorter), LeaseMin)
}

// block returns the lines of the cluster block.
func (m *Membership) block() string {
	var b strings.Builder
	b.WriteString("# Every member has the same block. Each finds itself by its host name, or by the word node.\ncluster {\n")
	fmt.Fprintf(&b, "    name      %s\n", m.Name)
	fmt.Fprintf(&b, "    key_file  %s    # made by hactl keygen, the same on every member\n", m.KeyFile)
	fmt.Fprintf(&b, "    lease     %s\n", strconv.FormatFloat(float64(m.Lease.Microseconds())/1e6, 'f', -1, 64))
	width := 0
	for _, p := range m.Peers {
		width = max(width, len(p.Name))
	}
	for _, p := range m.Peers {
		witness := ""
		if p.Witness {
			witness = "  witness"
		}
		fmt.Fprintf(&b, "    peer %-*s { address %v%s }\n", width, p.Name, p.Address, witness)
	}
	b.WriteString("}\n\n")
	return b.String()
}

// insert puts a block, which ends with an empty line, before the first line of content that is neither empty nor a comment,
// with the line ends of content.
func insert(content []byte, block string) []byte {
	at := 0
	if bytes.HasPrefix(content, []byte("\xef\xbb\xbf")) {
		at = 3 // the byte order mark stays the first thing in the file
	}
	for at < len(content) {
		end := bytes.IndexByte(content[at:], '\n')
		line := bytes.Trim(content[at:], " \t\r\n")
		if end >= 0 {
			line = bytes.Trim(content[at:at+end], " \t\r")
		}
		if len(line) > 0 && line[0] != '#' && line[0] != '!' {
			break
		}
		if end < 0 {
			block, at = "\n"+block, len(content)
			break
		}
		at += end + 1
	}
	if bytes.Contains(content, []byte("\r\n")) {
		block = strings.ReplaceAll(block, "\n", "\r\n")
	}
	return slices.Concat(content[:at], []byte(block), content[at:])
}

// replaced is a file system in which one file has another content.
type replaced struct {
	Files
	name    string
	content []byte
}

// ReadFile implements Files.
func (r replaced) ReadFile(name string) ([]byte, error) {
	if name == r.name {
		return r.content, nil
	}
	return r.Files.ReadFile(name)
}

// WordsUsed returns the row of every word that a configuration uses, each once, in the order of their first use.
func WordsUsed(opts Options) []*words.Row {
	var used []*words.Row
	add := func(block, word string, kind words.Kind) {
		if r := words.Lookup(block, word); r != nil && r.Kind == kind && !slices.Contains(used, r) {
			used = append(used, r)
		}
	}
	var walk func(nodes []*Node, block string)
	walk = func(nodes []*Node, block string) {
		for _, n := range nodes {
			row := words.Lookup(block, n.Keyword())
			if row == nil || row.Kind != words.Keyword {
				continue
			}
			add(block, n.Keyword(), words.Keyword)
			inner := n.Keyword()
			if block != words.Root {
				inner = block + "/" + inner
			}
			for _, w := range n.Args() {
				add(inner, w.Text, words.Value)
			}
			if row.Spec().Shape == syntax.Statements {
				walk(n.Children, inner)
				continue
			}
			for _, line := range n.Children {
				for _, w := range line.Words {
					add(inner, w.Text, words.Value)
				}
			}
		}
	}
	walk(load(opts).tree.Top, words.Root)
	return used
}
