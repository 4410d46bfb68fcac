package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func targets(names ...string) []Target {
	var list []Target
	for _, name := range names {
		iface, addr, _ := strings.Cut(name, "/")
		list = append(list, Target{Interface: iface, Address: netip.MustParseAddr(addr)})
	}
	return list
}

// drain takes everything from the queue, passing the time that it asks for, and returns what left when.
func drain(q *queue) []string {
	var log []string
	now := time.Duration(0)
	for {
		_, target, wait, ok := q.take(now)
		switch {
		case ok:
			log = append(log, fmt.Sprintf("%v %s/%v", now, target.Interface, target.Address))
		case wait == 0:
			return log
		default:
			now += wait
		}
	}
}

func newQueue(spacing func(string) Spacing) *queue {
	if spacing == nil {
		spacing = func(string) Spacing { return Spacing{} }
	}
	return &queue{spacing: spacing, free: make(map[spacingKey]time.Duration)}
}

func TestQueueOrder(t *testing.T) {
	ms := time.Millisecond
	spacings := map[string]Spacing{
		"eth0": {ARP: 10 * ms, NA: 30 * ms},
		"eth1": {Group: "g", ARP: 10 * ms},
		"eth2": {Group: "g", ARP: 10 * ms},
	}
	spaced := func(iface string) Spacing { return spacings[iface] }
	tests := []struct {
		name    string
		spacing func(string) Spacing
		bursts  []burst
		want    []string
	}{
		{
			"repeats follow each other at once, round by round", nil,
			[]burst{{targets: targets("eth0/192.0.2.1", "eth0/192.0.2.2"), rounds: 2}},
			[]string{"0s eth0/192.0.2.1", "0s eth0/192.0.2.2", "0s eth0/192.0.2.1", "0s eth0/192.0.2.2"},
		},
		{
			"every address of every router comes before a repeat", nil,
			[]burst{
				{targets: targets("eth0/192.0.2.1", "eth0/192.0.2.2"), rounds: 2},
				{targets: targets("eth0/192.0.2.3"), rounds: 3},
			},
			[]string{
				"0s eth0/192.0.2.1", "0s eth0/192.0.2.2", "0s eth0/192.0.2.3", "0s eth0/192.0.2.1", "0s eth0/192.0.2.2",
				"0s eth0/192.0.2.3", "0s eth0/192.0.2.3",
			},
		},
		{
			"nothing to do", nil,
			[]burst{{rounds: 5}, {targets: targets("eth0/192.0.2.1")}},
			nil,
		},
		{
			"messages of an interface keep their distance, ARP and NA apart", spaced,
			[]burst{{targets: targets("eth0/192.0.2.1", "eth0/192.0.2.2", "eth0/2001:db8::1", "eth0/2001:db8::2"), rounds: 1}},
			[]string{"0s eth0/192.0.2.1", "10ms eth0/192.0.2.2", "10ms eth0/2001:db8::1", "40ms eth0/2001:db8::2"},
		},
		{
			"interfaces of a group share the distance", spaced,
			[]burst{
				{targets: targets("eth1/192.0.2.1"), rounds: 2},
				{targets: targets("eth2/192.0.2.2"), rounds: 1},
			},
			[]string{"0s eth1/192.0.2.1", "10ms eth2/192.0.2.2", "20ms eth1/192.0.2.1"},
		},
		{
			"an interface without distance does not wait for another", spaced,
			[]burst{
				{targets: targets("eth0/192.0.2.1"), rounds: 2},
				{targets: targets("eth9/192.0.2.2"), rounds: 2},
			},
			[]string{"0s eth0/192.0.2.1", "0s eth9/192.0.2.2", "0s eth9/192.0.2.2", "10ms eth0/192.0.2.1"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := newQueue(test.spacing)
			for i := range test.bursts {
				q.add(&test.bursts[i])
			}
			if got := drain(q); !slices.Equal(got, test.want) {
				t.Errorf("sent\n got %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestCancelDropsOneSpeakersBursts(t *testing.T) {
	q := newQueue(nil)
	one, other := &Speaker{}, &Speaker{}
	for _, owner := range []*Speaker{one, other, one} {
		q.add(&burst{owner: owner, targets: targets("eth0/192.0.2.1"), rounds: 3})
	}
	q.take(0)
	q.cancel(one)
	for range 3 {
		if b, _, _, ok := q.take(0); !ok || b.owner != other {
			t.Fatalf("took %+v, %v", b, ok)
		}
	}
	if _, _, _, ok := q.take(0); ok {
		t.Error("something is left")
	}
}

// However often something asks for announcements that have not left yet, they are queued once, and come as often as the last one wants them.
func TestAFloodOfBurstsIsOneBurst(t *testing.T) {
	ms := time.Millisecond
	q := newQueue(func(string) Spacing { return Spacing{ARP: 10 * ms} })
	one, other := &Speaker{}, &Speaker{}
	last := 0
	ask := func(times int) {
		for n := range times {
			q.add(&burst{owner: one, targets: targets("eth0/192.0.2.1", "eth0/192.0.2.2"), rounds: 2,
				check: func() bool { last = n; return true }})
		}
	}
	q.add(&burst{owner: other, targets: targets("eth0/192.0.2.1", "eth0/192.0.2.2"), rounds: 1})
	ask(1000)
	if len(q.bursts) != 2 {
		t.Fatalf("there are %d bursts, want one of each speaker", len(q.bursts))
	}
	b, _, _, _ := q.take(0)
	for range 2 { // the second announcement of the other speaker, and the first one of this
		b, _, _, _ = q.take(time.Second)
		delete(q.free, spacingKey{group: "interface eth0"})
	}
	if b.owner != one || !b.check() || last != 999 {
		t.Errorf("it asks for the leave of call %d, want the last one", last)
	}
	// One of its round has left already: both addresses are still to come twice.
	ask(10)
	want := []string{"0s eth0/192.0.2.2", "10ms eth0/192.0.2.1", "20ms eth0/192.0.2.2", "30ms eth0/192.0.2.1", "40ms eth0/192.0.2.2"}
	if got := drain(q); !slices.Equal(got, want) {
		t.Errorf("sent\n got %q\nwant %q", got, want)
	}
}
