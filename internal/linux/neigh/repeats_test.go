package neigh

import (
	"testing"
	"time"

	"github.com/hactl/had/internal/linux/ether"
)

func TestEqualClaimsAreReportedOncePerInterval(t *testing.T) {
	var r repeats
	c := Claim{Index: 2, Addr: vip4, MAC: stranger}
	reported, suppressed := 0, 0
	for now := time.Duration(0); now < time.Second; now += 10 * time.Millisecond {
		if n, ok := r.admit(c, now); ok {
			reported++
			suppressed += n
		}
	}
	if reported != 10 || suppressed != 81 {
		t.Errorf("%d reported, %d suppressed before them, want 10 and 81", reported, suppressed)
	}
}

func TestDifferentClaimsAreReportedEach(t *testing.T) {
	var r repeats
	for _, c := range []Claim{
		{Index: 2, Addr: vip4, MAC: stranger},
		{Index: 3, Addr: vip4, MAC: stranger},
		{Index: 2, Addr: other4, MAC: stranger},
		{Index: 2, Addr: vip4, MAC: ours},
	} {
		if _, ok := r.admit(c, 0); !ok {
			t.Errorf("%+v is not reported", c)
		}
	}
}

func TestMemoryOfClaimsIsBounded(t *testing.T) {
	var r repeats
	forged := func(i int) Claim {
		return Claim{Addr: vip4, MAC: ether.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}}
	}
	admitted := 0
	for i := range 3 * repeatsMost {
		if _, ok := r.admit(forged(i), 0); ok {
			admitted++
		}
	}
	if admitted != repeatsMost || len(r.seen) != repeatsMost {
		t.Errorf("%d of a flood reported, %d remembered, want %d", admitted, len(r.seen), repeatsMost)
	}
	if _, ok := r.admit(forged(4*repeatsMost), repeatInterval); !ok {
		t.Error("nothing is reported after the flood")
	}
}
