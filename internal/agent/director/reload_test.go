package director

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/vrrp"
)

// reload retires and replaces the configuration as the shell does. Instances of the same name are kept, unless they are
// named in anew.
func (b *bench) reload(guard bool, groups []Group, anew ...string) {
	b.t.Helper()
	b.retire(groups, anew...)
	if b.m.Retiring() {
		b.t.Fatal("what is gone from the configuration is still there")
	}
	kept := map[string]string{}
	for _, g := range groups {
		for _, vc := range g.Instances {
			if b.m.instances[vc.Name] != nil {
				kept[vc.Name] = vc.Name
			}
		}
	}
	b.step(Reload{Groups: groups, Kept: kept, Guard: guard})
}

func (b *bench) retire(groups []Group, anew ...string) {
	var gone Retire
	stays, names := map[string]bool{}, map[string]bool{}
	for _, g := range groups {
		names[g.Name] = true
		for _, vc := range g.Instances {
			stays[vc.Name] = true
		}
	}
	for _, name := range anew {
		stays[name] = false
	}
	for _, g := range b.m.groups {
		if !names[g.name] {
			gone.Groups = append(gone.Groups, g.name)
		}
		for _, i := range g.instances {
			if !stays[i.cfg.Name] {
				gone.Instances = append(gone.Instances, i.cfg.Name)
			}
		}
	}
	b.step(gone)
}

func apart(names ...string) []Group {
	var groups []Group
	for _, n := range names {
		groups = append(groups, Group{Name: n, Instances: []vrrp.Config{router(n, 100)}})
	}
	return groups
}

// active is a machine without a cluster whose groups are all Active.
func active(t *testing.T, groups ...string) *bench {
	b := newBench(t, false, groups...)
	b.step(Start{})
	b.pass(4 * time.Second)
	for _, g := range groups {
		b.mustBe(g, true)
	}
	b.trace = nil
	return b
}

func TestAReloadThatChangesNothingSendsNothing(t *testing.T) {
	for name, b := range map[string]*bench{"alone": active(t, "x", "y"), "with a lease": owner(t, "x")} {
		t.Run(name, func(t *testing.T) {
			groups := apart("x")
			if b.m.byName["y"] != nil {
				groups = apart("x", "y")
			}
			before := b.m.State("x")
			b.reload(false, groups)
			b.mustTell("")
			if b.m.State("x") != before {
				t.Fatalf("state %+v, before %+v", b.m.State("x"), before)
			}
			b.pass(5 * time.Second)
			b.mustBe("x", true)
			b.mustNot("drop x", "shut x", "resign x")
		})
	}
}

func TestAnInstanceThatIsRemovedResignsAndOthersStay(t *testing.T) {
	b := active(t, "x", "y")
	b.reload(false, apart("y"))
	b.mustTell("resign x, drop x, " + short(Transition{Instance: "x", Transition: vrrp.Transition{To: vrrp.Initialize}}))
	b.mustBe("y", true)
	if b.m.instances["x"] != nil || b.m.byName["x"] != nil {
		t.Fatal("x is still there")
	}
	b.advert("x", 200) // what was on its way
}

func TestAnInstanceThatIsNewStartsAsAtTheStart(t *testing.T) {
	b := active(t, "x")
	b.reload(false, apart("x", "z"))
	if got := b.m.State("z").Status; got != vrrp.Backup {
		t.Fatalf("z is %v", got)
	}
	b.pass(4 * time.Second)
	b.mustBe("z", true)
}

func TestANewInstanceWithAFaultDoesNotRun(t *testing.T) {
	b := active(t, "x")
	b.step(Reload{Groups: apart("x", "z"), Kept: map[string]string{"x": "x"},
		World: []Event{Fault{Instance: "z", Cause: "interface is down"}}})
	if got := b.m.State("z").Status; got != vrrp.Fault {
		t.Fatalf("z is %v", got)
	}
	b.mustNot(short(Transition{Instance: "z", Transition: vrrp.Transition{To: vrrp.Backup}}))
}

func TestARenamedInstanceKeepsItsState(t *testing.T) {
	b := active(t, "x")
	b.step(Source{Instance: "x", Address: netip.MustParseAddr("10.0.0.1")})
	before := b.m.State("x")
	b.step(Reload{Groups: apart("new"), Kept: map[string]string{"new": "x"}})
	if b.m.State("new") != before || b.m.instances["x"] != nil {
		t.Fatalf("state %+v, before %+v", b.m.State("new"), before)
	}
	if b.m.instances["new"].cfg.Local != netip.MustParseAddr("10.0.0.1") {
		t.Fatal("the source address is forgotten")
	}
}

func TestAnotherRouterUnderTheSameNameBeginsAnew(t *testing.T) {
	b := active(t, "x")
	b.reload(false, apart("x"), "x")
	b.mustNot("take x")
	if got := b.m.State("x").Status; got != vrrp.Backup {
		t.Fatalf("x is %v", got)
	}
}

func TestANewMemberBringsAnActiveSyncGroupToBackup(t *testing.T) {
	b := active(t, "x")
	b.reload(false, []Group{{Name: "g", Instances: []vrrp.Config{router("x", 100), router("y", 100)}}})
	for _, name := range []string{"x", "y"} {
		if got := b.m.State(name).Status; got != vrrp.Backup {
			t.Fatalf("%s is %v", name, got)
		}
	}
	b.pass(5 * time.Second)
	b.mustBe("g", true)
}

func TestALeavingGroupIsInvisibleBeforeItIsReleased(t *testing.T) {
	b := owner(t, "x")
	b.stuck = true
	b.retire(nil)
	b.mustNot("release x", "waive x")
	if !b.m.Retiring() {
		t.Fatal("the machine has forgotten a group that is visible")
	}
	b.stuck = false
	b.step(Tick{})
	if b.m.Retiring() {
		t.Fatal("still there")
	}
	story := b.story()
	for _, order := range [][2]string{{"shut x", "drop x"}, {"drop x", "confirm x"}, {"confirm x", "waive x"}} {
		if !before(story, order[0], order[1]) {
			t.Fatalf("%q is not before %q in: %s", order[0], order[1], story)
		}
	}
	if b.log.Released("x") != 1 {
		t.Fatalf("released epoch %d", b.log.Released("x"))
	}
}

func TestAGroupThatStaysKeepsItsLease(t *testing.T) {
	b := owner(t, "x+y")
	epoch := b.m.byName["x+y"].epoch
	// y is replaced by z.
	b.reload(true, []Group{{Name: "x+y", Instances: []vrrp.Config{router("x", 100), router("z", 100)}}})
	b.mustBe("x+y", true)
	if g := b.m.byName["x+y"]; g.epoch != epoch {
		t.Fatalf("epoch %d, before %d", g.epoch, epoch)
	}
	b.mustNot("shut x+y", "drop x", "take x", "release x+y", "confirm x+y", "give x+y")
	if !before(b.story(), "drop y", "take z") {
		t.Fatal(b.story())
	}
	b.pass(5 * time.Second)
	b.mustBe("x+y", true)
	b.mustNot("shut x+y", "drop x")
}

func TestNothingNewIsVisibleBeforeTheGuardCoversIt(t *testing.T) {
	b := owner(t, "x")
	b.armFails = "test"
	b.reload(true, []Group{{Name: "x", Instances: []vrrp.Config{router("x", 100), router("z", 100)}}})
	b.mustNot("take z")
	for _, a := range b.trace {
		if _, changed := a.(ChangeAddresses); changed {
			t.Fatal("addresses were added")
		}
	}
	b.mustBe("x", false)
}

func TestAllMembersOfAHeldGroupMayBeReplaced(t *testing.T) {
	b := owner(t, "x")
	b.reload(true, apart("x"), "x")
	b.mustBe("x", true)
	b.mustNot("release x", "claim x", "give x")
}

func TestAClaimOfARetiredGroupEnds(t *testing.T) {
	b := start(t, "x")
	b.noGrants = true
	b.pass(4 * time.Second)
	b.trace = nil
	b.reload(true, nil)
	b.pass(4 * time.Second)
	b.mustNot("claim x", "take x")
}

// before tells whether first is in the story, and earlier than second.
func before(story, first, second string) bool {
	_, after, found := strings.Cut(story, first)
	return found && strings.Contains(after, second)
}
