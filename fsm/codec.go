package fsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// EncodeCommand returns the form of c in the log: JSON with the fields in a fixed order, so that one command has one
// encoding. An error wraps ErrInvalid.
func EncodeCommand(c Command) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return b, nil
}

// DecodeCommand reads what EncodeCommand wrote, and nothing else: a field or a kind that this version does not know is
// an error, because ignoring it would let replicas of different versions diverge. Errors wrap ErrInvalid. A node that
// meets one in its log must stop.
func DecodeCommand(b []byte) (Command, error) {
	var c Command
	if err := decodeStrictly(b, &c); err != nil {
		return Command{}, fmt.Errorf("decode command: %w: %w", ErrInvalid, err)
	}
	again, err := EncodeCommand(c)
	if err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	if !bytes.Equal(b, again) {
		return Command{}, fmt.Errorf("decode command: %w: not in the form in which commands are written", ErrInvalid)
	}
	return c, nil
}

// decodeStrictly reads one JSON value that has no unknown fields and nothing after it.
func decodeStrictly(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("bytes after the end")
	}
	return nil
}
