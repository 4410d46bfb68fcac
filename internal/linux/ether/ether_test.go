package ether

import (
	"bytes"
	"testing"
)

func TestHeaderRoundTrip(t *testing.T) {
	want := Header{Dst: Broadcast, Src: MAC{0, 0, 0x5e, 0, 1, 0x33}, Type: TypeARP}
	frame := append(want.Append(nil), 1, 2, 3)
	got, payload, ok := Parse(frame)
	if !ok || got != want || !bytes.Equal(payload, []byte{1, 2, 3}) {
		t.Errorf("Parse(%x) = %v, %x, %v", frame, got, payload, ok)
	}
	if got := want.Src.String(); got != "00:00:5e:00:01:33" {
		t.Errorf("String() = %q", got)
	}
}

func TestParseRefusesShortFrames(t *testing.T) {
	for n := range HeaderLen {
		if _, _, ok := Parse(make([]byte, n)); ok {
			t.Errorf("%d bytes were accepted", n)
		}
	}
}

func TestFromSliceTakesSixBytesOnly(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 5), make([]byte, 8), make([]byte, 20)} {
		if mac, ok := FromSlice(b); ok || !mac.IsZero() {
			t.Errorf("FromSlice of %d bytes = %v, %v", len(b), mac, ok)
		}
	}
	if mac, ok := FromSlice([]byte{1, 2, 3, 4, 5, 6}); !ok || mac != (MAC{1, 2, 3, 4, 5, 6}) {
		t.Errorf("FromSlice = %v, %v", mac, ok)
	}
}
