package rtnl

import (
	"encoding/binary"
	"iter"
	"slices"
)

const (
	attributeHeaderLen = 4
	attributeAlign     = 4

	// attributeTypeMask leaves out the flags for nested attributes and for network byte order.
	attributeTypeMask = 0x3fff
)

// Attributes yields the type and value of each attribute in b. What cannot be an attribute ends it.
func Attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= attributeHeaderLen {
			length := int(binary.NativeEndian.Uint16(b))
			if length < attributeHeaderLen || length > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) & attributeTypeMask
			if !yield(kind, slices.Clip(b[attributeHeaderLen:length])) {
				return
			}
			aligned := (length + attributeAlign - 1) / attributeAlign * attributeAlign
			b = b[min(aligned, len(b)):]
		}
	}
}

// Uint32 returns a value that the kernel wrote as a 32-bit number; 0 if it is too short.
func Uint32(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}
