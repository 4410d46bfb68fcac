package member

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
)

// requestID names a command so that it is applied once however often it is proposed.
func requestID(node string) string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return node + "-" + hex.EncodeToString(b[:])
}

// NewLife returns the random id of a process life; never zero.
func NewLife() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return max(binary.BigEndian.Uint64(b[:]), 1)
}
