package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

const (
	lb1 Member = "lb1/3f9a1c20"
	lb2 Member = "lb2/77aa0012"
)

// apply applies commands at the next indices and returns their results.
func apply(t *testing.T, s *State, commands ...Command) []Result {
	t.Helper()
	var results []Result
	for _, c := range commands {
		r, err := s.Apply(s.Applied()+1, c)
		if err != nil {
			t.Fatalf("apply %+v: %v", c, err)
		}
		if r.OK != (r.Refused == "") {
			t.Errorf("result %+v says both", r)
		}
		results = append(results, r)
	}
	return results
}

func grant(member Member, epoch uint64) Command {
	return Command{Grant: &Grant{Group: "VI_WEB", Member: member, Epoch: epoch, ClaimID: 7, Life: 9, Reason: "master down"}}
}

func release(member Member, epoch uint64, successor Member) Command {
	return Command{Release: &Release{Group: "VI_WEB", Member: member, Epoch: epoch, Life: 9, Reason: "stopping",
		Successor: successor, SuccessorClaimID: 8, SuccessorLife: 10}}
}

func transfer(from uint64, to Member) Command {
	return Command{Transfer: &Transfer{Group: "VI_WEB", FromEpoch: from, To: to, Reason: "higher priority"}}
}

func until(node string, on bool, end Wall) Command {
	return Command{Maintenance: &Maintenance{Node: node, On: on, Until: end}}
}

func maintenance(node string, on bool) Command {
	return Command{Maintenance: &Maintenance{Node: node, On: on, By: "alice", Reason: "kernel update"}}
}

func TestRules(t *testing.T) {
	tests := []struct {
		name     string
		before   []Command
		command  Command
		refused  string
		epoch    uint64 // of the result
		owner    Member // afterwards
		held     bool
		released uint64
	}{
		{name: "a first grant applies", command: grant(lb1, 1), epoch: 1, owner: lb1, held: true},
		{name: "epochs may leave gaps", command: grant(lb1, 41), epoch: 41, owner: lb1, held: true},
		{name: "a grant of a newer epoch replaces a grant that was never released",
			before: []Command{grant(lb1, 1)}, command: grant(lb2, 2), epoch: 2, owner: lb2, held: true},
		{name: "a grant of the same epoch is refused", before: []Command{grant(lb1, 3)}, command: grant(lb2, 3),
			refused: "epoch 3 of VI_WEB is not newer than 3", owner: lb1, held: true},
		{name: "a grant of an older epoch is refused", before: []Command{grant(lb1, 3)}, command: grant(lb2, 2),
			refused: "epoch 2 of VI_WEB is not newer than 3", owner: lb1, held: true},
		{name: "a released epoch is not granted again", before: []Command{grant(lb1, 3), release(lb1, 3, "")},
			command: grant(lb1, 3), refused: "epoch 3 of VI_WEB is not newer than 3", owner: lb1, released: 3},
		{name: "a node in maintenance is granted nothing", before: []Command{maintenance("lb1", true)},
			command: grant(lb1, 1), refused: "lb1 is in maintenance"},
		{name: "the end of a maintenance that has been replaced does not end its successor",
			before: []Command{until("lb1", true, 7), until("lb1", true, 9)}, command: until("lb1", false, 7),
			refused: "the maintenance of lb1 that ends at 1970-01-01T00:00:00.007Z has been replaced"},
		{name: "the end of a maintenance ends it", before: []Command{until("lb1", true, 7), until("lb1", false, 7)},
			command: grant(lb1, 1), epoch: 1, owner: lb1, held: true},
		{name: "a node back from maintenance is granted again",
			before: []Command{maintenance("lb1", true), maintenance("lb1", false)}, command: grant(lb1, 1), epoch: 1,
			owner: lb1, held: true},

		{name: "a release frees the group", before: []Command{grant(lb1, 1)}, command: release(lb1, 1, ""), epoch: 1,
			owner: lb1, released: 1},
		{name: "a release with a successor grants the next epoch", before: []Command{grant(lb1, 1)},
			command: release(lb1, 1, lb2), epoch: 2, owner: lb2, held: true, released: 1},
		{name: "a release by somebody else is refused", before: []Command{grant(lb1, 1)}, command: release(lb2, 1, lb2),
			refused: "lb1/3f9a1c20 owns VI_WEB, not lb2/77aa0012", owner: lb1, held: true},
		{name: "a release by the same node with other data is refused", before: []Command{grant(lb1, 1)},
			command: release("lb1/00000000", 1, ""), refused: "lb1/3f9a1c20 owns VI_WEB, not lb1/00000000", owner: lb1, held: true},
		{name: "a release for another life is refused", before: []Command{{Grant: &Grant{Group: "VI_WEB", Member: lb1, Epoch: 1, Life: 0xa}}},
			command: release(lb1, 1, lb2), refused: "epoch 1 of VI_WEB was granted to life a of lb1/3f9a1c20, not to 9", owner: lb1,
			held: true},
		{name: "a release of an older epoch is refused and grants nobody", before: []Command{grant(lb1, 1), grant(lb2, 2)},
			command: release(lb1, 1, lb1), refused: "the epoch of VI_WEB is 2, not 1", owner: lb2, held: true},
		{name: "a release of an epoch not granted yet is refused", before: []Command{grant(lb1, 1)},
			command: release(lb1, 2, ""), refused: "the epoch of VI_WEB is 1, not 2", owner: lb1, held: true},
		{name: "a second release is refused and grants nobody", before: []Command{grant(lb1, 1), release(lb1, 1, "")},
			command: release(lb1, 1, lb2), refused: "lb1 has released VI_WEB before", owner: lb1, released: 1},
		{name: "a release of an unknown group is refused", command: release(lb1, 1, ""), refused: "nobody owns VI_WEB"},
		{name: "a successor that went into maintenance is granted all the same",
			before: []Command{grant(lb1, 1), maintenance("lb2", true)}, command: release(lb1, 1, lb2), epoch: 2, owner: lb2,
			held: true, released: 1},

		{name: "a transfer leaves the owner in place", before: []Command{grant(lb1, 1)}, command: transfer(1, lb2),
			epoch: 1, owner: lb1, held: true},
		{name: "a transfer of an older epoch is refused", before: []Command{grant(lb1, 1), grant(lb1, 2)},
			command: transfer(1, lb2), refused: "the epoch of VI_WEB is 2, not 1", owner: lb1, held: true},
		{name: "a transfer of a released group is refused", before: []Command{grant(lb1, 1), release(lb1, 1, "")},
			command: transfer(1, lb2), refused: "lb1 has released VI_WEB", owner: lb1, released: 1},
		{name: "a transfer to the owner is refused", before: []Command{grant(lb1, 1)}, command: transfer(1, lb1),
			refused: "lb1 owns VI_WEB already", owner: lb1, held: true},
		{name: "a transfer to a node in maintenance is refused", before: []Command{grant(lb1, 1), maintenance("lb2", true)},
			command: transfer(1, lb2), refused: "lb2 is in maintenance", owner: lb1, held: true},
		{name: "a transfer of an unknown group is refused", command: transfer(1, lb2), refused: "nobody owns VI_WEB"},

		{name: "a mark that is not set cannot be taken off", command: maintenance("lb1", false),
			refused: "lb1 is not in maintenance"},
		{name: "maintenance of the owner does not take its grant", before: []Command{grant(lb1, 1)},
			command: maintenance("lb1", true), owner: lb1, held: true},
		{name: "a cluster is founded once", before: []Command{{Found: &Found{ClusterID: "aa"}}},
			command: Command{Found: &Found{ClusterID: "bb"}}, refused: "the cluster has been founded as aa"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := New()
			for i, r := range apply(t, s, test.before...) {
				if !r.OK {
					t.Fatalf("command %d before: %s", i, r.Refused)
				}
			}
			before := s.Journal(0)
			r := apply(t, s, test.command)[0]
			if r.Refused != test.refused {
				t.Errorf("refused %q, want %q", r.Refused, test.refused)
			}
			if r.Epoch != test.epoch {
				t.Errorf("result epoch %d, want %d", r.Epoch, test.epoch)
			}
			owner, epoch, held := s.Owner("VI_WEB")
			if owner != test.owner || held != test.held || s.Released("VI_WEB") != test.released {
				t.Errorf("owner %q (held %v) with epoch %d released, want %q (%v), %d", owner, held,
					s.Released("VI_WEB"), test.owner, test.held, test.released)
			}
			if g, ok := s.Grant("VI_WEB"); ok != (owner != "") || g.Member != owner || g.Epoch != epoch {
				t.Errorf("grant %+v and owner %q, epoch %d disagree", g, owner, epoch)
			}
			if got := len(s.Journal(0)) - len(before); (got == 0) != (test.refused != "") {
				t.Errorf("%d new events for result %+v", got, r)
			}
		})
	}
}

func TestASuccessorsGrantAnswersItsOwnClaim(t *testing.T) {
	s := New()
	c := release(lb1, 1, lb2)
	c.Release.Placed = true
	apply(t, s, grant(lb1, 1), c)
	want := Grant{Group: "VI_WEB", Member: lb2, Epoch: 2, ClaimID: 8, Life: 10, Placed: true, Reason: "stopping"}
	if g, _ := s.Grant("VI_WEB"); g != want {
		t.Errorf("grant %+v, want %+v", g, want)
	}
	if !s.Placed("VI_WEB") {
		t.Error("not placed")
	}
	if member, life, epoch := s.ReleasedBy("VI_WEB"); member != lb1 || life != 9 || epoch != 1 {
		t.Errorf("epoch %d was released by life %d of %s", epoch, life, member)
	}
}

func TestAPendingTransferEndsWithReleaseAndWithGrant(t *testing.T) {
	for name, end := range map[string]Command{
		"release": release(lb1, 1, ""), "handover": release(lb1, 1, lb2), "grant": grant(lb2, 2),
	} {
		s := New()
		apply(t, s, grant(lb1, 1), transfer(1, lb2))
		if tr, ok := s.PendingTransfer("VI_WEB"); !ok || tr.To != lb2 {
			t.Fatalf("%s: pending transfer %+v, %v", name, tr, ok)
		}
		apply(t, s, end)
		if tr, ok := s.PendingTransfer("VI_WEB"); ok {
			t.Errorf("%s: transfer %+v is still pending", name, tr)
		}
	}
}

func TestARequestIsAppliedOnce(t *testing.T) {
	s := New()
	first := grant(lb1, 1)
	first.ID = "lb1-1"
	again := release(lb1, 1, "")
	again.ID = "lb1-1" // the id decides, not the content
	results := apply(t, s, first, again, first)
	for i, r := range results {
		if r != results[0] {
			t.Errorf("result %d is %+v, want %+v", i, r, results[0])
		}
	}
	if _, _, held := s.Owner("VI_WEB"); !held || s.Applied() != 3 || len(s.Journal(0)) != 1 {
		t.Errorf("held %v, applied %d, %d events", held, s.Applied(), len(s.Journal(0)))
	}
	apply(t, s, release(lb1, 1, "")) // without an id nothing is remembered
	if _, _, held := s.Owner("VI_WEB"); held {
		t.Error("not released")
	}
	for i := range RequestsKept {
		apply(t, s, Command{ID: fmt.Sprint("x", i), Note: &Note{Kind: "node", Severity: Info, Text: "x"}})
	}
	if len(s.results) != RequestsKept || len(s.requests.values) != RequestsKept {
		t.Fatalf("%d results and %d requests kept, want %d", len(s.results), len(s.requests.values), RequestsKept)
	}
	if r := apply(t, s, first)[0]; r.OK {
		t.Errorf("a forgotten request gave %+v without meeting the rules", r)
	}
}

func TestRefusalsAreRememberedToo(t *testing.T) {
	s := New()
	c := release(lb1, 1, "")
	c.ID = "r"
	apply(t, s, c, grant(lb1, 1))
	if r := apply(t, s, c)[0]; r.Refused != "nobody owns VI_WEB" {
		t.Errorf("result %+v, want the first one again", r)
	}
}

func TestAnInvalidCommandStopsTheNode(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), longestName+1))
	for name, c := range map[string]Command{
		"nothing":               {},
		"two contents":          {Found: &Found{ClusterID: "a"}, Grant: grant(lb1, 1).Grant},
		"no group":              {Grant: &Grant{Member: lb1, Epoch: 1}},
		"no member":             {Grant: &Grant{Group: "g", Epoch: 1}},
		"epoch 0":               grant(lb1, 0),
		"last epoch":            grant(lb1, ^uint64(0)),
		"release of epoch 0":    release(lb1, 0, ""),
		"transfer of epoch 0":   transfer(0, lb2),
		"transfer to nobody":    transfer(1, ""),
		"long name":             {Grant: &Grant{Group: long, Member: lb1, Epoch: 1}},
		"long id":               {ID: long, Found: &Found{ClusterID: "a"}},
		"not UTF-8":             {Maintenance: &Maintenance{Node: "\xff"}},
		"time before 1970":      {Time: -1, Found: &Found{ClusterID: "a"}},
		"until after 9999":      {Maintenance: &Maintenance{Node: "a", Until: latestWall + 1}},
		"unknown severity":      {Note: &Note{Kind: "node", Severity: "fatal", Text: "x"}},
		"note without text":     {Note: &Note{Kind: "node", Severity: Info}},
		"founding without id":   {Found: &Found{}},
		"force of nobody dead":  {Force: &Force{ClusterID: "b", Former: "a"}},
		"force without former":  {Force: &Force{ClusterID: "b", Dead: []string{"lb2"}}},
		"maintenance of nobody": {Maintenance: &Maintenance{On: true}},
	} {
		s := New()
		if _, err := s.Apply(1, c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := EncodeCommand(c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: encoded with error %v", name, err)
		}
		if s.Applied() != 0 {
			t.Errorf("%s: applied", name)
		}
	}
}

func TestTheLogDoesNotGoBack(t *testing.T) {
	s := New()
	if _, err := s.Apply(5, grant(lb1, 1)); err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint64{0, 4, 5} {
		if _, err := s.Apply(index, grant(lb1, 9)); err == nil {
			t.Errorf("entry %d was applied after entry 5", index)
		}
	}
	if s.Epoch("VI_WEB") != 1 {
		t.Error("state changed")
	}
}

func TestClipMakesTextsFit(t *testing.T) {
	long := string(bytes.Repeat([]byte("ä"), longestText))
	c := Command{Note: &Note{Kind: "node", Severity: Warn, Text: "a" + long, Reason: "\xff\xfe"}}
	clipped := c.Clip()
	if err := clipped.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := len(clipped.Note.Text); got != longestText-1 { // "a" and whole two-byte letters
		t.Errorf("text has %d bytes", got)
	}
	if c.Note.Reason != "\xff\xfe" {
		t.Error("the original has changed")
	}
	for _, c := range []Command{
		{Grant: &Grant{Group: "g", Member: lb1, Epoch: 1, Reason: long}},
		{Transfer: &Transfer{Group: "g", To: lb1, FromEpoch: 1, Reason: long}},
		{Release: &Release{Group: "g", Member: lb1, Epoch: 1, Reason: long}},
		{Maintenance: &Maintenance{Node: "lb1", Reason: long}},
		{Force: &Force{ClusterID: "b", Former: "a", Dead: []string{"lb2"}, Reason: long, Method: long}},
	} {
		if err := c.Clip().Validate(); err != nil {
			t.Errorf("%s: %v", c.Kind(), err)
		}
	}
}

func TestJournalKeepsTheNewest(t *testing.T) {
	s := New()
	const count = JournalSize + 10
	for i := range count {
		apply(t, s, Command{ID: fmt.Sprint(i), Node: "lb1", Time: Wall(i + 1), Note: &Note{Kind: "node", Severity: Warn, Text: fmt.Sprint(i)}})
	}
	all := s.Journal(0)
	if len(all) != JournalSize || all[0].Index != 11 || all[len(all)-1].Index != count {
		t.Fatalf("%d events from %d to %d", len(all), all[0].Index, all[len(all)-1].Index)
	}
	want := Event{Index: count, ID: fmt.Sprint(count - 1), Time: count, Severity: Warn, Kind: "node", Node: "lb1", Text: fmt.Sprint(count - 1)}
	if got := s.Journal(count - 1); len(got) != 1 || got[0] != want {
		t.Errorf("newest %+v, want %+v", got, want)
	}
	if got := s.Journal(count); len(got) != 0 {
		t.Errorf("%d events after the newest", len(got))
	}
}

func TestAHandoverIsTwoEventsOfOneEntry(t *testing.T) {
	s := New()
	c := release(lb1, 1, lb2)
	c.ID = "q"
	apply(t, s, grant(lb1, 1), c)
	got := s.Journal(1)
	if len(got) != 2 || got[0].ID != "q" || got[1].ID != "q/2" || got[0].Index != 2 || got[1].Index != 2 {
		t.Errorf("events %+v", got)
	}
}

func TestHashSeesEveryPartOfTheState(t *testing.T) {
	note := Command{ID: "n", Note: &Note{Kind: "node", Severity: Info, Text: "x"}}
	other := note
	other.ID = "m"
	seen := map[uint64]string{}
	for name, commands := range map[string][]Command{
		"empty": nil, "founded": {{Found: &Found{ClusterID: "a"}}}, "grant": {grant(lb1, 1)}, "other owner": {grant(lb2, 1)},
		"other epoch": {grant(lb1, 2)}, "released": {grant(lb1, 1), release(lb1, 1, "")},
		"transfer": {grant(lb1, 1), transfer(1, lb2)}, "handed over": {grant(lb1, 1), release(lb1, 1, lb2)},
		"maintenance": {maintenance("lb1", true)}, "note": {note}, "other request id": {other},
		"forced":  {{Force: &Force{ClusterID: "a", Former: "b", Dead: []string{"lb2"}}}},
		"refused": {release(lb1, 1, "")},
	} {
		s := New()
		apply(t, s, commands...)
		if twin, ok := seen[s.Hash()]; ok {
			t.Errorf("%q and %q have one hash", name, twin)
		}
		seen[s.Hash()] = name
	}
}

// story is a log with everything in it.
func story() []Command {
	at := WallOf(time.Date(2026, 7, 1, 10, 51, 30, 812_345_678, time.UTC))
	commands := []Command{
		{Found: &Found{ClusterID: "6a0c3f6e5b1d4f7c"}},
		grant(lb1, 1),
		{Grant: &Grant{Group: "VI_DB", Member: lb2, Epoch: 4, ClaimID: 3, Life: 0xfeedfacecafebeef, Placed: true, Reason: "hactl move"}},
		grant(lb2, 1),
		transfer(1, lb2),
		release(lb1, 1, lb2),
		{Maintenance: &Maintenance{Node: "lb1", On: true, Until: at + 7_200_000, By: "alice", Reason: "kernel update"}},
		{Note: &Note{Kind: "stranger", Severity: Error, Group: "VI_WEB", Text: "02:00:00:00:00:01 answers for 192.0.2.10 <&>", Reason: "gratuitous ARP"}},
		release(lb2, 4, ""),
		{Release: &Release{Group: "VI_DB", Member: lb2, Epoch: 4, Life: 0xfeedfacecafebeef, Reason: "script chk failed"}},
		{Maintenance: &Maintenance{Node: "lb2", On: true}},
		{Maintenance: &Maintenance{Node: "lb2"}},
		transfer(2, lb1),
	}
	for i := range commands {
		commands[i].ID = fmt.Sprintf("lb1/3f9a1c20-%d", i)
		commands[i].Time = at + Wall(i)*1000
		commands[i].Node = "lb1"
	}
	return commands
}

func TestSnapshotRestoresTheState(t *testing.T) {
	commands := story()
	for cut := range len(commands) + 1 {
		straight, broken := New(), New()
		apply(t, broken, commands[:cut]...)
		restored, err := Restore(broken.Snapshot())
		if err != nil {
			t.Fatalf("after %d commands: %v", cut, err)
		}
		apply(t, straight, commands...)
		apply(t, restored, commands[cut:]...)
		if !bytes.Equal(straight.Snapshot(), restored.Snapshot()) || straight.Hash() != restored.Hash() {
			t.Errorf("restored after %d commands:\n%s\nwant\n%s", cut, restored.Snapshot(), straight.Snapshot())
		}
		if !reflect.DeepEqual(straight.View(), restored.View()) {
			t.Errorf("restored after %d commands: view %+v, want %+v", cut, restored.View(), straight.View())
		}
	}
}

func TestSnapshotOfFullRings(t *testing.T) {
	s := New()
	for i := range JournalSize + RequestsKept + 3 {
		apply(t, s, Command{ID: fmt.Sprint(i), Note: &Note{Kind: "node", Severity: Info, Text: "x"}})
	}
	r, err := Restore(s.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	more := Command{ID: "more", Note: &Note{Kind: "node", Severity: Info, Text: "y"}}
	apply(t, s, more)
	apply(t, r, more)
	if !bytes.Equal(s.Snapshot(), r.Snapshot()) {
		t.Error("the rings differ after one more command")
	}
}

func TestRestoreRefusesWhatSnapshotDoesNotWrite(t *testing.T) {
	s := New()
	apply(t, s, story()...)
	good := s.Snapshot()
	replace := func(old, with string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("no %s in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	for name, b := range map[string][]byte{
		"empty":          nil,
		"torn":           good[:len(good)-10],
		"more behind":    append(bytes.Clone(good), '{'),
		"other format":   replace(`"format":1`, `"format":2`),
		"unknown field":  replace(`"format":1`, `"format":1,"fences":[]`),
		"changed epoch":  replace(`"epoch":4`, `"epoch":5`),
		"changed owner":  replace(`"member":"lb2/77aa0012"`, `"member":"lb2/77aa0013"`),
		"foreign grant":  replace(`"name":"VI_DB"`, `"name":"VI_DC"`),
		"changed digest": replace(`"digest":`, `"digest":1`),
		"white space":    replace(`"format":1`, `"format": 1`),
	} {
		if _, err := Restore(b); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestViewsAreCopies(t *testing.T) {
	s := New()
	apply(t, s, grant(lb1, 1), transfer(1, lb2), maintenance("lb3", true))
	before := s.Hash()
	v := s.View()
	v.Groups[0].Grant.Epoch = 99
	v.Groups[0].Transfer.To = "x"
	v.Maintenance[0].Node = "x"
	s.Journal(0)[0].Text = "x"
	if s.Hash() != before {
		t.Error("changing a view changed the state")
	}
	if m, ok := s.Maintenance("lb3"); !ok || m.By != "alice" {
		t.Errorf("mark %+v, %v", m, ok)
	}
}

func TestAMarkKeepsItsBeginning(t *testing.T) {
	s := New()
	c := maintenance("lb1", true)
	c.Time = 1000
	apply(t, s, c)
	c = maintenance("lb1", true)
	c.Time, c.Maintenance.Until = 2000, 9000
	apply(t, s, c)
	if m, _ := s.Maintenance("lb1"); m.Since != 1000 || m.Until != 9000 {
		t.Errorf("mark %+v", m)
	}
}

func TestWall(t *testing.T) {
	at := time.Date(2026, 7, 1, 10, 51, 30, 812_999_999, time.FixedZone("", 7200))
	if got := WallOf(at).String(); got != "2026-07-01T08:51:30.812Z" {
		t.Error(got)
	}
	for _, at := range []time.Time{{}, time.Unix(-5, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if w := WallOf(at); w != 0 || w.String() != "" || !w.Time().IsZero() {
			t.Errorf("%v gives %d, %q, %v", at, w, w, w.Time())
		}
	}
	if latestWall.String() != "9999-12-31T23:59:59.999Z" {
		t.Error(latestWall)
	}
	var w Wall
	for _, text := range []string{"x", "1969-12-31T23:59:59.999Z", "2026-07-01T08:51:30.812+02:00"} {
		if err := w.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s was read as %v", text, w)
		}
	}
}

func TestAClusterThatWasForcedKnowsItsFormerIDs(t *testing.T) {
	s := New()
	force := func(id, former string) Command {
		return Command{Node: "lb1", Force: &Force{ClusterID: id, Former: former, Dead: []string{"lb2", "w1"}, Person: "root"}}
	}
	results := apply(t, s, Command{Found: &Found{ClusterID: "a"}}, grant(lb1, 3), force("b", "a"), force("b", "a"), force("d", "c"))
	if results[2].Refused != "" || results[3].Refused != "the cluster is b already" || results[4].Refused != "" {
		t.Errorf("%+v", results)
	}
	restored, err := Restore(s.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*State{s, restored} {
		for _, id := range []string{"a", "b", "c"} {
			if !s.Superseded(id) {
				t.Errorf("%s is not known as a former id", id)
			}
		}
		if s.ClusterID() != "d" || s.Superseded("d") || s.Superseded("") || s.Epoch("VI_WEB") != 3 {
			t.Errorf("cluster %s, epoch %d", s.ClusterID(), s.Epoch("VI_WEB"))
		}
	}
	events := s.Journal(0)
	if e := events[len(events)-1]; e.Severity != Error || e.By != "root" || e.Text != "lb1 is the only voter: lb2, w1 declared dead; the cluster goes on as d" {
		t.Errorf("%+v", e)
	}
}
