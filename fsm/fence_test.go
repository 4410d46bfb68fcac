package fsm

import (
	"slices"
	"strings"
	"testing"
)

func fence(stage Stage, node, by string, request uint64, proved ...Proof) Command {
	return Command{Time: 5000, Node: by, Fence: &Fence{Node: node, Stage: stage, By: by, Life: 7, Request: request, Proved: proved}}
}

func proofOf(g Command) Proof {
	return Proof{Group: g.Grant.Group, Member: g.Grant.Member, Life: g.Grant.Life, Epoch: g.Grant.Epoch}
}

// TestFenceRules: each story ends in one command that is accepted or refused.
func TestFenceRules(t *testing.T) {
	marked := maintenance("lb1", true)
	byPerson := fence(FenceRequested, "lb1", "lb2", 0)
	byPerson.Fence.Person = "alice"
	otherLife := fence(FenceConfirmed, "lb1", "lb2", 1)
	otherLife.Fence.Life = 8
	word := fence(FenceConfirmed, "lb1", "lb2", 0)
	word.Fence.Person, word.Fence.Life = "alice", 0
	for name, test := range map[string]struct {
		story   []Command
		refused string
	}{
		"a request":                          {[]Command{fence(FenceRequested, "lb1", "lb2", 0)}, ""},
		"of oneself":                         {[]Command{fence(FenceRequested, "lb1", "lb1", 0)}, "lb1 does not fence itself"},
		"of each other":                      {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceRequested, "lb2", "lb1", 0)}, "lb1 is about to be fenced itself, by lb2"},
		"after the other one is over":        {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceFailed, "lb1", "lb2", 1), fence(FenceRequested, "lb2", "lb1", 0)}, ""},
		"by two":                             {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceRequested, "lb1", "lb3", 0)}, "lb2 is about to fence lb1"},
		"taken over":                         {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceRequested, "lb1", "lb3", 1)}, ""},
		"the end of one that was taken over": {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceRequested, "lb1", "lb3", 1), fence(FenceConfirmed, "lb1", "lb2", 1)}, "that is not the newest request to fence lb1"},
		"in maintenance":                     {[]Command{marked, fence(FenceRequested, "lb1", "lb2", 0)}, "lb1 is in maintenance"},
		"in maintenance, by a person":        {[]Command{marked, byPerson}, ""},
		"confirmed":                          {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceConfirmed, "lb1", "lb2", 1)}, ""},
		"confirmed without a request":        {[]Command{fence(FenceConfirmed, "lb1", "lb2", 0)}, "that is not the newest request to fence lb1"},
		"confirmed by a life that is over":   {[]Command{fence(FenceRequested, "lb1", "lb2", 0), otherLife}, "that is not the newest request to fence lb1"},
		"confirmed twice":                    {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceConfirmed, "lb1", "lb2", 1), fence(FenceConfirmed, "lb1", "lb2", 1)}, "the fencing of lb1 is confirmed"},
		"confirmed after it failed":          {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceFailed, "lb1", "lb2", 1), fence(FenceConfirmed, "lb1", "lb2", 1)}, "the fencing of lb1 is failed"},
		"a person's word":                    {[]Command{word}, ""},
		"a person's word during a request":   {[]Command{fence(FenceRequested, "lb1", "lb2", 0), word}, ""},
		"the end after a person's word":      {[]Command{fence(FenceRequested, "lb1", "lb2", 0), word, fence(FenceFailed, "lb1", "lb2", 1)}, "that is not the newest request to fence lb1"},
		"withdrawn":                          {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceWithdrawn, "lb1", "lb2", 1)}, ""},
		"back":                               {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceConfirmed, "lb1", "lb2", 1), fence(FenceReturned, "lb1", "lb2", 1)}, ""},
		"back before it was off":             {[]Command{fence(FenceRequested, "lb1", "lb2", 0), fence(FenceReturned, "lb1", "lb2", 1)}, "the fencing of lb1 is requested"},
	} {
		s := New()
		results := apply(t, s, test.story...)
		if got := results[len(results)-1].Refused; got != test.refused {
			t.Errorf("%s: refused %q, want %q", name, got, test.refused)
		}
		if restored, err := Restore(s.Snapshot()); err != nil || restored.Hash() != s.Hash() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAProofIsOfOneLease: a fence that is confirmed ends the very grants that were proved, and nothing that came later.
func TestAProofIsOfOneLease(t *testing.T) {
	again, otherLife := grant(lb1, 2), proofOf(grant(lb1, 1))
	again.Grant.Life++
	otherLife.Life++
	for name, test := range map[string]struct {
		meanwhile []Command // between request and confirmation
		proof     Proof
		released  uint64
	}{
		"the lease":                    {nil, proofOf(grant(lb1, 1)), 1},
		"of a life that is over":       {nil, otherLife, 0},
		"granted again, F05":           {[]Command{again}, proofOf(grant(lb1, 1)), 0},
		"granted to somebody else":     {[]Command{grant(lb2, 2)}, proofOf(grant(lb1, 1)), 0},
		"released":                     {[]Command{release(lb1, 1, "")}, proofOf(grant(lb1, 1)), 1},
		"of a group that nobody knows": {nil, Proof{Group: "x", Member: lb1, Epoch: 1}, 0},
	} {
		s := New()
		apply(t, s, grant(lb1, 1), fence(FenceRequested, "lb1", "lb2", 0))
		apply(t, s, test.meanwhile...)
		if r := apply(t, s, fence(FenceConfirmed, "lb1", "lb2", 2, test.proof))[0]; !r.OK {
			t.Fatalf("%s: %s", name, r.Refused)
		}
		if got := s.Released("VI_WEB"); got != test.released {
			t.Errorf("%s: epoch %d is released, want %d", name, got, test.released)
		}
	}
}

func TestHeldIsWhatAFenceProves(t *testing.T) {
	s := New()
	apply(t, s, grant(lb1, 1), Command{Grant: &Grant{Group: "VI_DB", Member: lb2, Epoch: 4}}, Command{Grant: &Grant{Group: "A", Member: lb1, Epoch: 2}})
	if got := s.Held("lb1"); !slices.Equal(got, []Proof{{Group: "A", Member: lb1, Epoch: 2}, proofOf(grant(lb1, 1))}) {
		t.Errorf("%+v", got)
	}
	apply(t, s, fence(FenceRequested, "lb1", "lb2", 0), fence(FenceConfirmed, "lb1", "lb2", 4, s.Held("lb1")...))
	if got := s.Held("lb1"); len(got) != 0 {
		t.Errorf("%+v is held by a machine that is off", got)
	}
	member, life, epoch := s.ReleasedBy("VI_WEB")
	if want := grant(lb1, 1).Grant; member != lb1 || life != want.Life || epoch != 1 {
		t.Errorf("released by %s, life %d, epoch %d", member, life, epoch)
	}
	events := s.Journal(4)
	if len(events) != 2 || events[0].Kind != "fence" || !strings.Contains(events[1].Text, "lb1 does not own A, VI_WEB any more") {
		t.Errorf("%+v", events)
	}
}

// TestAGrantThatNeedsAProof is what fencing required rests on.
func TestAGrantThatNeedsAProof(t *testing.T) {
	proved := grant(lb2, 2)
	proved.Grant.Proved = true
	own := grant(lb1, 2)
	own.Grant.Proved = true
	for name, test := range map[string]struct {
		story   []Command
		refused string
	}{
		"nobody had it": {[]Command{proved}, ""},
		"it is held":    {[]Command{grant(lb1, 1), proved}, "lb1 holds VI_WEB, and is not proved to be off"},
		"its own":       {[]Command{grant(lb1, 1), own}, ""},
		"released":      {[]Command{grant(lb1, 1), release(lb1, 1, ""), proved}, ""},
		"requested":     {[]Command{grant(lb1, 1), fence(FenceRequested, "lb1", "lb2", 0), proved}, "lb1 holds VI_WEB, and is not proved to be off"},
		"failed": {[]Command{grant(lb1, 1), fence(FenceRequested, "lb1", "lb2", 0), fence(FenceFailed, "lb1", "lb2", 2), proved},
			"lb1 holds VI_WEB, and is not proved to be off"},
		"fenced": {[]Command{grant(lb1, 1), fence(FenceRequested, "lb1", "lb2", 0), fence(FenceConfirmed, "lb1", "lb2", 2, proofOf(grant(lb1, 1))),
			proved}, ""},
	} {
		results := apply(t, New(), test.story...)
		if got := results[len(results)-1].Refused; got != test.refused {
			t.Errorf("%s: refused %q, want %q", name, got, test.refused)
		}
	}
}

func TestFencesThatNoLogHolds(t *testing.T) {
	many := fence(FenceConfirmed, "lb1", "lb2", 1)
	many.Fence.Proved = make([]Proof, mostProofs+1)
	for name, c := range map[string]Command{
		"no stage":         fence("", "lb1", "lb2", 0),
		"unknown stage":    fence("done", "lb1", "lb2", 0),
		"nobody":           fence(FenceRequested, "", "lb2", 0),
		"by nobody":        fence(FenceRequested, "lb1", "", 0),
		"a proof too soon": fence(FenceRequested, "lb1", "lb2", 0, proofOf(grant(lb1, 1))),
		"proof of epoch 0": fence(FenceConfirmed, "lb1", "lb2", 1, Proof{Group: "g", Member: lb1}),
		"too many proofs":  many,
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: valid", name)
		}
	}
}
