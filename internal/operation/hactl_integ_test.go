//go:build integ

package operation

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/site"
)

// The commands of hactl against a real cluster, with their exit codes.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, other := s.awaitWhole()
	w := s.Witness()
	group := s.Group()

	s.run("keygen", func(s *stage) {
		key := filepath.Join(s.Dir, "new.key")
		_, errs := s.hactl(nil, api.ExitOK, "keygen", key)
		s.says(errs, key, "mode 0600")
		info, err := os.Stat(key)
		s.must(err)
		if info.Mode().Perm() != 0o600 {
			s.t.Errorf("the key has mode %o", info.Mode().Perm())
		}
		_, errs = s.hactl(nil, api.ExitRefused, "keygen", key)
		s.says(errs, "exists and is left alone")
		s.hactl(nil, api.ExitFailed, "keygen", "/nowhere/key")
		s.must(os.Remove(key))
	})
	s.undisturbed("asking, on every node", owner, func(s *stage) {
		for _, n := range s.Nodes {
			out, _ := s.hactl(n, api.ExitOK, "status")
			s.says(out, "demo", "HEALTHY", "quorum 3/3", owner.Name, other.Name, w.Name, group, site.VIP4.String())
			out, _ = s.hactl(n, api.ExitOK, "cluster", "members")
			s.says(out, owner.Name+"/", other.Name+"/", w.Name+"/")
			out, _ = s.hactl(n, api.ExitOK, "vip", "list")
			s.says(out, site.VIP4.String(), owner.Name)
			out, _ = s.hactl(n, api.ExitOK, "group", "list")
			s.says(out, group, owner.Name, other.Name+"=")
			out, _ = s.hactl(n, api.ExitOK, "why", group)
			s.says(out, owner.Name, "Why not "+other.Name)
			out, _ = s.hactl(n, api.ExitOK, "events")
			s.says(out, "grant", group, owner.Name)
			out, _ = s.hactl(n, api.ExitOK, "version")
			s.says(out, "hactl", n.Name)
		}
	})
	s.undisturbed("json", owner, func(s *stage) {
		for _, args := range [][]string{{"cluster", "status"}, {"cluster", "members"}, {"vip", "list"}, {"group", "list"}, {"why", group},
			{"events"}, {"maintenance", "list"}, {"version"}} {
			out, _ := s.hactl(w, api.ExitOK, append(args, "-o", "json")...)
			var v struct{ Schema string }
			if err := json.Unmarshal([]byte(out), &v); err != nil || v.Schema != api.Schema {
				s.t.Errorf("hactl %s: schema %q, %v", strings.Join(args, " "), v.Schema, err)
			}
		}
	})
	s.undisturbed("mistakes", owner, func(s *stage) {
		s.hactl(owner, api.ExitUsage, "frobnicate")
		s.hactl(owner, api.ExitUsage, "status", "-o", "yaml")
		s.hactl(owner, api.ExitUsage, "move", group, "--to", other.Name) // no terminal to ask on
		_, errs := s.hactl(owner, api.ExitNotFound, "why", "VI_NONE")
		s.says(errs, "VI_NONE", group)
		_, errs = s.hactl(owner, api.ExitNotFound, "move", group, "--to", "lb9", "--yes")
		s.says(errs, "lb9", other.Name)
		_, errs = s.hactl(owner, api.ExitRefused, "move", group, "--to", w.Name, "--yes")
		s.says(errs, "witness")
		_, errs = s.hactl(nil, api.ExitUnreachable, "-s", s.Dir+"/nobody.sock", "status")
		s.says(errs, s.Dir+"/nobody.sock")
		s.hactl(owner, api.ExitOK, "move", group, "--to", owner.Name, "--yes") // it is there already
	})
	s.run("move, asked of the witness", func(s *stage) {
		owner, other := s.awaitWhole()
		watched := s.watch()
		out, _ := s.hactl(w, api.ExitOK, "move", group, "--to", other.Name, "--yes", "--reason", "kernel update")
		s.says(out, group+": "+owner.Name+" -> "+other.Name, "lease granted to "+other.Name, "answers from "+other.Name)
		s.awaitOwner(other, recoverLimit)
		watched.moved(owner, other, handoverBound)
		s.eventually(sayLimit, func() error {
			out, err := s.Hactl(s.ctx, owner, "events", "--group", group)
			if err == nil && !strings.Contains(out, "kernel update") {
				err = fmt.Errorf("the reason is not in the journal:\n%s", out)
			}
			return err
		})
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
	})
	s.run("maintenance", func(s *stage) {
		other, owner := s.awaitWhole() // the owner to be, when the other one is in maintenance
		watched := s.watch()
		out, _ := s.hactl(owner, api.ExitOK, "maintenance", "on", other.Name, "--yes", "--for", "1h", "--reason", "new fan")
		s.says(out, group+" -> "+owner.Name, other.Name+" takes no groups", "Undo: hactl maintenance off "+other.Name)
		s.awaitOwner(owner, recoverLimit)
		watched.moved(other, owner, handoverBound)
		out, _ = s.hactl(w, api.ExitOK, "maintenance", "list")
		s.says(out, other.Name, "new fan")
		_, errs := s.hactl(owner, api.ExitRefused, "maintenance", "on", owner.Name, "--yes")
		s.says(errs, "last-node")
		_, errs = s.hactl(owner, api.ExitRefused, "move", group, "--to", other.Name, "--yes")
		s.says(errs, "maintenance")
		// The mark survives a restart of everything but the owner.
		s.restart(other)
		s.eventually(sayLimit, func() error {
			status, err := s.Status(s.ctx, other)
			if err == nil && nodeStatus(status, other.Name).State != api.NodeMaintenance {
				err = fmt.Errorf("%s is %s", other.Name, nodeStatus(status, other.Name).State)
			}
			return err
		})
		s.hactl(owner, api.ExitOK, "maintenance", "off", other.Name)
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		// With an end it ends by itself.
		s.hactl(owner, api.ExitOK, "maintenance", "on", other.Name, "--yes", "--for", "2s")
		s.eventually(recoverLimit, func() error {
			out, err := s.Hactl(s.ctx, owner, "events")
			if err == nil && !strings.Contains(out, "its time is over") {
				err = fmt.Errorf("the end is not in the journal:\n%s", out)
			}
			return err
		})
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		s.move(w, other)
		s.move(w, owner)
	})
	s.run("without quorum", func(s *stage) {
		owner, other := s.awaitWhole()
		watched := s.watch()
		s.must(s.Kill(w))
		s.must(s.Kill(owner))
		s.eventually(sayLimit, func() error {
			status, err := s.Status(s.ctx, other)
			if err == nil && status.Quorum.OK {
				err = fmt.Errorf("%s sees %d votes", other.Name, status.Quorum.Reachable)
			}
			return err
		})
		for _, args := range [][]string{{"status"}, {"cluster", "status"}} {
			out, _ := s.hactl(other, api.ExitNoQuorum, args...)
			s.says(out, "NO QUORUM", "LOCAL VIEW of "+other.Name, "sees 1 of 3 votes", owner.Name, w.Name)
		}
		_, errs := s.hactl(other, api.ExitNoQuorum, "move", group, "--to", other.Name, "--yes")
		s.says(errs, "quorum")
		_, errs = s.hactl(other, api.ExitNoQuorum, "maintenance", "on", other.Name, "--yes")
		s.says(errs, "quorum")
		out, _ := s.hactl(other, api.ExitOK, "why", group)
		s.says(out, "LOCAL VIEW of "+other.Name)
		out, _ = s.hactl(other, api.ExitOK, "events")
		s.says(out, "quorum")
		// The killed owner's kernel answers until its lease ends; after that nobody may.
		s.eventually(2*leaseTime, func() error {
			if owners := s.Observer.Owners(site.VIP4, 300*time.Millisecond); len(owners) > 0 {
				return fmt.Errorf("%v answers without a majority", owners)
			}
			return nil
		})
		s.must(s.Start(w))
		s.must(s.Start(owner))
		s.awaitWhole()
		watched.verdict()
	})
}

// leaseTime is the lease at advert_int 1.
const leaseTime = 2500 * time.Millisecond

// That nobody owns a group is a state with a name: since when, and for each node why not. It ends by itself.
func TestNobodyOwnsIt(t *testing.T) {
	t.Parallel()
	s := setUp(t, func(p *site.Plan) {
		p.Instance = []string{"track_script {\n        chk\n    }"}
	})
	flags := map[*site.Node]string{}
	for _, n := range s.Directors() {
		// A script runs as a user of its own, who cannot look into the node's directory.
		flags[n] = filepath.Join(s.Dir, "healthy-"+n.Name)
		s.must(os.WriteFile(flags[n], nil, 0o644))
		script := fmt.Sprintf("vrrp_script chk {\n    script \"/usr/bin/test -e %s\"\n    interval 1\n    fall 1\n    rise 1\n}\n\n", flags[n])
		s.must(os.WriteFile(n.Config(), []byte(strings.Replace(s.Configuration(n), "vrrp_instance ", script+"vrrp_instance ", 1)), 0o600))
	}
	w := s.Witness()
	s.configure(w, "    track_script {\n        chk\n    }\n", "")
	s.must(s.StartAll())
	s.awaitWhole()
	s.run("both fail, and both recover", func(s *stage) { bothFail(s, flags) })
}

// bothFail makes the script of one director after the other fail, and succeed again.
func bothFail(s *stage, flags map[*site.Node]string) {
	owner, other := s.awaitWhole()
	w, group := s.Witness(), s.Group()

	// One after the other fails: first the group moves, then there is nobody left.
	watched := s.watch()
	s.must(os.Remove(flags[owner]))
	s.awaitOwner(other, recoverLimit)
	watched.moved(owner, other, handoverBound)
	s.must(os.Remove(flags[other]))
	failed := time.Now()
	s.eventually(sayLimit, func() error {
		status, err := s.Status(s.ctx, w)
		if err == nil && (len(status.Groups) != 1 || status.Groups[0].State != api.Unowned || status.Groups[0].Since.IsZero()) {
			err = fmt.Errorf("groups %+v", status.Groups)
		}
		return err
	})
	for _, n := range s.Nodes {
		out, _ := s.hactl(n, api.ExitFailed, "status")
		s.says(out, "CRITICAL", "nobody owns "+group+" ("+site.VIP4.String()+") for ", owner.Name+": ", other.Name+": ", "script chk")
		out, _ = s.hactl(n, api.ExitOK, "why", group)
		s.says(out, group+" ("+site.VIP4.String()+"): nobody, unowned", "Why not "+owner.Name, "Why not "+other.Name, "script chk")
	}
	_, errs := s.hactl(owner, api.ExitRefused, "move", group, "--to", other.Name, "--yes")
	s.says(errs, "has no owner")
	out, _ := s.hactl(w, api.ExitOK, "events", "--group", group)
	s.says(out, "release", "script chk")
	s.t.Logf("the events of the group:\n%s", out)
	time.Sleep(time.Until(failed.Add(5 * time.Second)))
	if owners := s.Observer.Owners(site.VIP4, 500*time.Millisecond); len(owners) > 0 {
		s.t.Errorf("%v answers although both are in fault", owners)
	}
	for _, n := range s.Directors() {
		if list := s.leftovers(n); strings.Contains(strings.Join(list, " "), "address") {
			s.t.Errorf("%s still has %v", n.Name, list)
		}
	}
	s.must(os.WriteFile(flags[other], nil, 0o644))
	s.awaitOwner(other, recoverLimit)
	s.t.Logf("%s owns it again %s after its script succeeds", other.Name, time.Since(failed.Add(5*time.Second)).Round(time.Millisecond))
	s.must(os.WriteFile(flags[owner], nil, 0o644))
	s.must(s.AwaitHealthy(s.ctx, recoverLimit))
	watched.verdict()
}
