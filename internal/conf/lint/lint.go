// Package lint says everything that there is to say about configuration files before they are used: what loading them finds,
// for every node that they serve, what the nodes' configurations together cannot do, and what does not fit the machine.
//
// It reads files, interfaces, addresses and accounts, and changes nothing. With no Machine it asks none, so that it gives
// the same answer everywhere.
package lint

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/syntax"
)

// Options says what is looked at.
type Options struct {
	// Paths are the files. Several are those of several nodes, one each, and are compared; no machine is asked then.
	Paths []string

	// Load is how a file is read, but for its Path.
	Load conf.Options

	// AsNode says that Load.ConfigID was chosen: of a file that serves several nodes only that one is looked at.
	AsNode bool

	// Machine is the one that the file is for; nil: it is for another one.
	Machine *Machine
}

// Result is what was found.
type Result struct {
	Loadable bool           // by every node that was looked at
	Files    []string       // all that were read, in the order of reading
	Findings []conf.Finding // in the order of Files, each once
}

// Check looks at configuration files.
func Check(o Options) Result {
	r := Result{Loadable: true}
	var found []conf.Finding
	if len(o.Paths) == 1 {
		found = r.file(o)
	} else {
		found = r.files(o)
	}
	seen := make(map[conf.Finding]bool)
	for _, f := range found {
		if !seen[f] {
			seen[f] = true
			r.Findings = append(r.Findings, f)
		}
	}
	syntax.Sort(r.Findings, r.Files)
	return r
}

// load loads a file as one node reads it. cfg is nil if that node cannot use it.
func (r *Result) load(opts conf.Options) (cfg *conf.Config, findings []conf.Finding) {
	cfg, findings = conf.Load(opts)
	r.Loadable = r.Loadable && cfg != nil
	if cfg != nil {
		r.Files = append(r.Files, cfg.Files...)
	} else {
		r.Files = append(r.Files, opts.Path)
	}
	return cfg, findings
}

// file looks at one file: as this machine, as the node that was chosen, or as each of the nodes that it serves.
func (r *Result) file(o Options) (all []conf.Finding) {
	opts := o.Load
	opts.Path = o.Paths[0]
	names, conditional := conf.NodeNames(opts)
	conditional = conditional && !o.AsNode
	if o.Machine != nil || o.AsNode || len(names) == 0 {
		cfg, findings := r.load(opts)
		all = append(all, findings...)
		if cfg != nil && o.Machine != nil {
			all = append(all, onMachine(cfg, o.Machine)...)
		}
		if cfg != nil && !conditional {
			all = append(all, conf.Suspect(cfg)...)
		}
		if !conditional {
			return all
		}
	}
	if !conditional {
		names = names[:1] // it says the same to all
	}
	var nodes []conf.NodeConfig
	for _, name := range names {
		cfg, findings := r.load(opts.For(name))
		all = append(all, findings...)
		if cfg != nil {
			nodes = append(nodes, conf.NodeConfig{Node: name, Config: cfg})
		}
	}
	return append(all, together(nodes)...)
}

// files looks at the files of several nodes.
func (r *Result) files(o Options) (all []conf.Finding) {
	var nodes []conf.NodeConfig
	taken := make(map[string]bool)
	for _, path := range o.Paths {
		opts := o.Load
		opts.Path = path
		label := path
		if names, _ := conf.NodeNames(opts); len(names) > 0 {
			// The node is the one that the file is called after, else the next one.
			stem := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
			i := slices.IndexFunc(names, func(name string) bool { return name == stem })
			if i < 0 {
				i = max(0, slices.IndexFunc(names, func(name string) bool { return !taken[name] }))
			}
			opts = opts.For(names[i])
			label = names[i]
		}
		cfg, findings := r.load(opts)
		all = append(all, findings...)
		if cfg == nil {
			continue
		}
		if cfg.Cluster != nil {
			label = cfg.Cluster.Node
		}
		if taken[label] {
			label = path
		}
		taken[label] = true
		nodes = append(nodes, conf.NodeConfig{Node: label, Config: cfg})
	}
	return append(all, together(nodes)...)
}

// together compares the nodes, or suspects the one that there is.
func together(nodes []conf.NodeConfig) []conf.Finding {
	if len(nodes) == 1 {
		return conf.Suspect(nodes[0].Config)
	}
	return conf.CompareNodes(nodes)
}
