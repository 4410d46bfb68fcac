//go:build integ

package integ

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// places waits until the groups of lb1 and lb2 are as many as wanted, by the outside observer, and those that are named are theirs.
func places(t *testing.T, s *site.Site, lb1, lb2 int, named map[string]string) {
	t.Helper()
	if err := s.Poll(t.Context(), recoverLimit, func() error {
		counts, all := map[string]int{}, []string{}
		var wrong error
		for i, vip := range s.VIPs {
			group := fmt.Sprintf("VI_%d", i+1)
			owners := s.Observer.Owners(vip, 300*time.Millisecond)
			all = append(all, group+" "+strings.Join(owners, "+"))
			if len(owners) != 1 || named[group] != "" && named[group] != owners[0] {
				wrong = errors.New("it is not where it is to be")
			}
			for _, n := range owners {
				counts[n]++
			}
		}
		if wrong != nil || counts["lb1"] != lb1 || counts["lb2"] != lb2 {
			return fmt.Errorf("%s; want %d groups on lb1 and %d on lb2, and %v", strings.Join(all, ", "), lb1, lb2, named)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// Four groups, of which each director is to have its share: they are given, lost, and given back as the rules say, and never had by two.
func TestEachDirectorHasItsGroups(t *testing.T) {
	t.Parallel()
	s := setUp(t, func(p *site.Plan) {
		p.Version, p.AdvertInterval, p.Preempt, p.Apart, p.VIPs = 3, 300*time.Millisecond, true, true, nil
		for i := range byte(4) {
			p.VIPs = append(p.VIPs, netip.AddrFrom4([4]byte{10, 77, 0, 100 + i}))
		}
		p.Cluster = []string{"max_groups 2", "group VI_1 { prefer lb1 lb2\n failback 4\n }", "group VI_2 { prefer lb2 lb1\n }"}
	})
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	lb1 := s.Node("lb1")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	why := func(group string, words ...string) {
		t.Helper()
		said, err := s.Hactl(t.Context(), lb1, "why", group)
		must(err)
		for _, w := range words {
			if !strings.Contains(said, w) {
				t.Errorf("hactl why %s does not say %q:\n%s", group, w, said)
			}
		}
	}
	from := observer.Now()
	own := map[string]string{"VI_1": "lb1", "VI_2": "lb2"}
	places(t, s, 2, 2, own)
	must(s.AwaitHealthy(t.Context(), recoverLimit))
	why("VI_1", "it is to be on lb1, since lb1 is preferred to lb2")
	said, err := s.Hactl(t.Context(), lb1, "why", "VI_1", "-o", "json")
	must(err)
	if !strings.Contains(strings.ReplaceAll(said, " ", ""), `"heir":"lb2"`) {
		t.Errorf("hactl why does not say who is to have it after lb1: %s", said)
	}
	why("VI_2", "it is to be on lb2, since lb2 is preferred to lb1")

	// One is killed: the other has all, and gives its own back to it, later the one that is to be fit for a while.
	must(s.Kill(lb1))
	places(t, s, 0, 4, nil)
	must(s.Start(lb1))
	places(t, s, 1, 3, map[string]string{"VI_1": "lb2"})
	why("VI_1", "it is to be on lb1, since lb1 is preferred to lb2; it goes there after 4s")
	places(t, s, 2, 2, own)

	// Maintenance empties a director, and its end fills it again. Its groups come back when the operator says so, and not before.
	_, err = s.Hactl(t.Context(), lb1, "maintenance", "on", "lb2", "--yes")
	must(err)
	places(t, s, 4, 0, nil)
	_, err = s.Hactl(t.Context(), lb1, "maintenance", "off", "lb2")
	must(err)
	places(t, s, 2, 2, own)

	// An operator goes before the rules, until the operator says otherwise or the director is lost.
	_, err = s.Hactl(t.Context(), lb1, "move", "VI_1", "--to", "lb2", "--yes")
	must(err)
	places(t, s, 2, 2, map[string]string{"VI_1": "lb2", "VI_2": "lb2"})
	time.Sleep(6 * time.Second) // longer than the failback, and than the second after which it would be taken
	places(t, s, 2, 2, map[string]string{"VI_1": "lb2", "VI_2": "lb2"})
	why("VI_1", "an operator moved it to lb2")

	v, err := s.Observer.Judge(t.Context(), from, observer.Now())
	must(err)
	figures.Judged(&v)
	for i := range v.VIPs {
		w := &v.VIPs[i]
		if w.DualFor > 0 {
			t.Errorf("%s had two owners for %s", w.VIP, w.DualFor)
		}
		t.Logf("%s: owners %s", w.VIP, strings.Join(slices.Compact(names(&v, w)), ", "))
	}
}
