package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/agent/routing"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/route"
)

// router is what changes routes and rules: *route.Manager.
type router interface {
	Put(route.Route) error
	Remove(route.Route) error
	PutRule(route.Rule) error
	RemoveRule(route.Rule) error
}

// forwarding is the routes and rules of one instance, or the static ones, in the kernel. The loop owns it.
type forwarding struct {
	kernel router
	links  routing.Links
	routes []routing.Route
	rules  []routing.Rule
	taken  bool        // they should be there
	before *forwarding // of the configuration that a reload has replaced, until takeNew
}

// take adds all routes, then all rules. Those that can be had are there even if an error says that others cannot.
func (f *forwarding) take() error {
	f.taken, f.before = true, nil
	var errs []error
	for _, r := range f.routes {
		errs = append(errs, f.put(r))
	}
	for _, r := range f.rules {
		errs = append(errs, f.kernel.PutRule(r.Kernel))
	}
	return errors.Join(errs...)
}

func (f *forwarding) put(r routing.Route) error {
	k, err := r.Kernel(f.links)
	if err != nil {
		return err
	}
	return f.kernel.Put(k)
}

// drop removes all rules, then all routes, each in the order of the file, whether they are known to be there or not. What
// others also want stays.
func (f *forwarding) drop(others []*forwarding) error {
	f.taken = false
	var errs []error
	for _, r := range f.rules {
		if !slices.ContainsFunc(others, func(o *forwarding) bool { return o.wantsRule(r.Kernel) }) {
			errs = append(errs, f.kernel.RemoveRule(r.Kernel))
		}
	}
	for _, r := range f.routes {
		k, err := r.Kernel(f.links)
		if err != nil {
			continue // no interface, no route
		}
		if !slices.ContainsFunc(others, func(o *forwarding) bool { return o.wants(k) }) {
			errs = append(errs, f.kernel.Remove(k))
		}
	}
	return errors.Join(errs...)
}

// succeed takes the place of the routes and rules of the configuration before, and removes those of them that it does not
// want, nor do others, which it is part of.
func (f *forwarding) succeed(before *forwarding, others []*forwarding) error {
	f.taken = before.taken
	if !before.taken {
		return nil
	}
	f.before = before
	return before.drop(others)
}

// takeNew adds the routes and rules that those before it did not have.
func (f *forwarding) takeNew() error {
	before := f.before
	if f.before = nil; before == nil || !f.taken {
		return nil
	}
	before.taken = true // as far as these have not been removed: that is what is asked here
	var errs []error
	for _, r := range f.routes {
		if k, err := r.Kernel(f.links); err != nil || !before.wants(k) {
			errs = append(errs, f.put(r))
		}
	}
	for _, r := range f.rules {
		if !before.wantsRule(r.Kernel) {
			errs = append(errs, f.kernel.PutRule(r.Kernel))
		}
	}
	return errors.Join(errs...)
}

// wants tells whether a route should be there, with the same attributes.
func (f *forwarding) wants(k route.Route) bool {
	return f.taken && slices.ContainsFunc(f.routes, func(r routing.Route) bool {
		mine, err := r.Kernel(f.links)
		return err == nil && reflect.DeepEqual(mine, k)
	})
}

// wantsRule tells whether a rule should be there.
func (f *forwarding) wantsRule(k route.Rule) bool {
	return f.taken && slices.ContainsFunc(f.rules, func(r routing.Rule) bool { return r.Kernel == k })
}

// lost names a tracked route or rule that should be there and that somebody else has removed, according to an event.
func (f *forwarding) lost(ev route.Event) string {
	if !f.taken {
		return ""
	}
	for _, r := range f.routes {
		k, err := r.Kernel(f.links)
		if err != nil || !r.Track {
			continue
		}
		switch ev := ev.(type) {
		case route.Removed:
			if k.Is(ev.Route) {
				return "the route " + r.String()
			}
		case route.Listed:
			if !slices.ContainsFunc(ev.Routes, k.Is) {
				return "the route " + r.String()
			}
		}
	}
	for _, r := range f.rules {
		switch ev := ev.(type) {
		case route.RuleRemoved:
			if r.Track && r.Kernel == ev.Rule {
				return r.Kernel.String()
			}
		case route.Listed:
			if r.Track && !slices.Contains(ev.Rules, r.Kernel) {
				return r.Kernel.String()
			}
		}
	}
	return ""
}

// restore adds tracked routes and rules again, if they should be there.
func (f *forwarding) restore() error {
	var errs []error
	for _, r := range f.routes {
		if f.taken && r.Track {
			errs = append(errs, f.put(r))
		}
	}
	for _, r := range f.rules {
		if f.taken && r.Track {
			errs = append(errs, f.kernel.PutRule(r.Kernel))
		}
	}
	return errors.Join(errs...)
}

// restoreAfter adds the tracked routes again that the kernel may have removed, without a word, when an interface went down
// or an address was removed from it; addr is unset for the interface as a whole.
func (f *forwarding) restoreAfter(iface string, addr netip.Addr) error {
	var errs []error
	for _, r := range f.routes {
		if f.taken && r.Track && r.DependsOn(iface, addr) {
			errs = append(errs, f.put(r))
		}
	}
	return errors.Join(errs...)
}

// ways are the routes and rules of a configuration.
type ways struct {
	router   *route.Manager // nil: there are none
	static   *forwarding
	of       map[string]*forwarding // by instance
	unusable []string               // lines that name what this machine does not know; they are left out, as in keepalived
}

// openWays prepares the routes and rules of a configuration. It reads files, for which the loop must not wait. router is what
// is open already; nil: nothing.
func (a *Agent) openWays(c *conf.Config, router *route.Manager) (*ways, error) {
	w := &ways{router: router, of: map[string]*forwarding{}}
	static := staticInstance(c)
	any := len(static.Routes)+len(static.Rules) > 0
	for i := range c.Instances {
		any = any || len(c.Instances[i].Routes)+len(c.Instances[i].Rules) > 0
	}
	var names routing.Names
	if any {
		var err error
		if w.router == nil {
			if w.router, err = route.New(); err != nil {
				return nil, err
			}
		}
		names = routing.ReadNames(os.DirFS("/"), nameDirectories(c.Global)...)
	}
	w.static = w.forwarding(static, names, a.table.ByName, a.log)
	for i := range c.Instances {
		w.of[c.Instances[i].Name] = w.forwarding(&c.Instances[i], names, a.table.ByName, a.log)
	}
	return w, nil
}

// staticInstance holds the static addresses, routes and rules.
func staticInstance(c *conf.Config) *conf.Instance {
	return &conf.Instance{Name: "static", Addresses: c.Static.Addresses, Routes: c.Static.Routes, Rules: c.Static.Rules}
}

// openForwarding prepares the routes and rules of the configuration. It comes before the loop.
func (a *Agent) openForwarding() error {
	w, err := a.openWays(a.cfg, nil)
	if err != nil {
		return err
	}
	a.router, a.unusable = w.router, w.unusable
	a.static = &holding{instance: staticInstance(a.cfg), kernel: a.manager, table: &a.table}
	a.staticForwarding = w.static
	for name, i := range a.instances {
		i.forwarding = w.of[name]
	}
	return nil
}

// replaceStatic brings the static entries in line with a new configuration.
func (a *Agent) replaceStatic(w *ways) {
	_, err := a.static.replace(staticInstance(a.cfg))
	before := a.staticForwarding
	a.staticForwarding = w.static
	err = errors.Join(err, w.static.succeed(before, a.forwardings()))
	_, added := a.static.add(a.clock.Now())
	if err = errors.Join(err, added, w.static.takeNew()); err != nil {
		a.log.Error("cannot change static addresses, routes or rules", "err", err)
	}
}

// watchForwarding has removals of routes and rules by others reported, if there is anything to watch.
func (a *Agent) watchForwarding() error {
	if a.router == nil {
		return nil
	}
	monitor, err := route.Open(a.log, a.router.Port())
	if err != nil {
		return err
	}
	a.runForwardingMonitor(monitor)
	return nil
}

func (a *Agent) runForwardingMonitor(monitor *route.Monitor) {
	go func() {
		if err := monitor.Run(a.work, func(ev route.Event) { a.post(a.work, ev) }); err != nil {
			a.log.Error("removals of routes and rules are not noticed any more", "err", err)
		}
	}()
}

func (a *Agent) closeForwarding() {
	if a.router != nil {
		a.router.Close()
	}
}

// nameDirectories are where the tables of names of iproute2 are, those that count least first.
func nameDirectories(g conf.Global) []string {
	if g.IPRouteUsrDir != "" {
		return []string{g.IPRouteUsrDir, g.IPRouteEtcDir}
	}
	return []string{"/usr/lib/iproute2", "/usr/share/iproute2", g.IPRouteEtcDir}
}

// forwarding turns an instance's routes and rules into the kernel's form. What names something that this machine does not
// know is left out, as in keepalived, and said.
func (w *ways) forwarding(in *conf.Instance, names routing.Names, links routing.Links, log *slog.Logger) *forwarding {
	f := &forwarding{kernel: w.router, links: links}
	unusable := func(at conf.Pos, err error) {
		w.unusable = append(w.unusable, fmt.Sprintf("%v: %v; the line is left out", at, err))
		log.Error("route or rule cannot be used", "position", at.String(), "err", err)
	}
	for _, c := range in.Routes {
		if r, err := names.Route(c); err != nil {
			unusable(c.Pos, err)
		} else {
			f.routes = append(f.routes, r)
		}
	}
	for _, c := range in.Rules {
		if r, err := names.Rule(c); err != nil {
			unusable(c.Pos, err)
		} else {
			f.rules = append(f.rules, r)
		}
	}
	return f
}

// takeForwarding adds the routes and rules of an instance that has its addresses. One that cannot be added is no reason to
// give the addresses up.
func (a *Agent) takeForwarding(i *instance) {
	if err := i.forwarding.take(); err != nil {
		a.log.Error("cannot add routes or rules", "instance", i.conf.Name, "err", err)
	}
}

// dropForwarding removes the routes and rules of an instance.
func (a *Agent) dropForwarding(i *instance) {
	if err := i.forwarding.drop(a.forwardings()); err != nil {
		a.log.Error("cannot remove routes or rules", "instance", i.conf.Name, "err", err)
	}
}

// forwardings lists the routes and rules of all instances, and the static ones.
func (a *Agent) forwardings() []*forwarding {
	all := []*forwarding{a.staticForwarding}
	for _, name := range a.order {
		if i := a.instances[name]; i != nil { // in a reload not all of them are made yet
			all = append(all, i.forwarding)
		}
	}
	return all
}

// takeStatic adds the static addresses, routes and rules.
func (a *Agent) takeStatic() {
	if err := errors.Join(a.static.take(a.clock.Now(), 0), a.staticForwarding.take()); err != nil {
		a.log.Error("cannot add static addresses, routes or rules", "err", err)
	}
}

func (a *Agent) dropStatic() {
	if err := errors.Join(a.staticForwarding.drop(a.forwardings()), a.static.drop()); err != nil {
		a.log.Error("cannot remove static addresses, routes or rules", "err", err)
	}
}

// forwardingChanged takes in that somebody has removed routes or rules.
func (a *Agent) forwardingChanged(ev route.Event) {
	if what := a.staticForwarding.lost(ev); what != "" {
		a.staticGone(what)
	}
	for _, name := range a.order {
		i := a.instances[name]
		if what := i.forwarding.lost(ev); what != "" {
			i.restored++
			a.step(director.AddressesGone{Instance: name, Reason: what + " was removed by somebody else"})
		}
	}
}

// staticGone puts back what somebody has removed.
func (a *Agent) staticGone(what string) {
	a.log.Info("static entry was removed by somebody else and is put back", "entry", what)
	if err := errors.Join(a.static.restore(0), a.staticForwarding.restore()); err != nil {
		a.log.Error("cannot put back static addresses, routes or rules", "err", err)
	}
}

// staticAddressGone puts a static address back, unless it is not tracked.
func (a *Agent) staticAddressGone(gone address.Address) {
	if a.static.taken && a.static.tracks(gone) {
		a.staticGone(gone.Prefix.String())
	}
}

// restoreAfter adds again what went with an interface or an address that has come back.
func (a *Agent) restoreAfter(ev link.Event) {
	var iface link.Link
	var addr netip.Addr
	switch ev := ev.(type) {
	case link.LinkChanged:
		if appeared := ev.Before == (link.Link{}); !appeared && (ev.Before.Up || !ev.Link.Up) {
			return
		}
		iface = ev.Link
	case link.AddressAdded:
		iface, _ = a.table.ByIndex(ev.Address.Index)
		addr = ev.Address.Prefix.Addr()
	default:
		return
	}
	var errs []error
	if !addr.IsValid() && a.static.taken {
		errs = append(errs, a.static.restore(iface.Index))
	}
	for _, f := range a.forwardings() {
		errs = append(errs, f.restoreAfter(iface.Name, addr))
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Warn("cannot add again what went with an interface", "interface", iface.Name, "err", err)
	}
}
