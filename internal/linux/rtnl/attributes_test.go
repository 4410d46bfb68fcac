package rtnl

import (
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
)

func list(b []byte) (all []string) {
	for kind, value := range Attributes(b) {
		all = append(all, fmt.Sprintf("%d=%s", kind, hex.EncodeToString(value)))
	}
	return all
}

func TestAttributes(t *testing.T) {
	one := nl.NewRtAttr(1, []byte{0xaa, 0xbb}).Serialize()
	two := nl.NewRtAttr(2|1<<15, []byte{1, 2, 3, 4}).Serialize() // nested
	empty := nl.NewRtAttr(3, nil).Serialize()
	all := slices.Concat(one, two, empty)
	tests := []struct {
		name string
		b    []byte
		want []string
	}{
		{"none", nil, nil},
		{"three, padded", all, []string{"1=aabb", "2=01020304", "3="}},
		{"last one without padding", one[:6], []string{"1=aabb"}},
		{"last one cut off", all[:len(one)+6], []string{"1=aabb"}},
		{"half a header", all[:len(one)+2], []string{"1=aabb"}},
		{"length shorter than a header", []byte{3, 0, 1, 0}, nil},
		{"length 0", make([]byte, 8), nil},
	}
	for _, test := range tests {
		if got := list(test.b); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	for range Attributes(all) {
		break
	}
}

// Whatever a message holds, it comes to an end without a panic, and no more is yielded than is there.
func FuzzAttributes(f *testing.F) {
	f.Add(nl.NewRtAttr(1, []byte{1, 2, 3}).Serialize())
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for _, value := range Attributes(b) {
			total += attributeHeaderLen + len(value)
		}
		if total > len(b) {
			t.Errorf("%d bytes of %d", total, len(b))
		}
	})
}
