package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file under testdata: what has once been written into a log or a snapshot must be read, and
// written the same way, by every later version.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
	}
}

func TestGoldenCommands(t *testing.T) {
	var got []byte
	for _, c := range story() {
		b, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		got = append(append(got, b...), '\n')
	}
	golden(t, "commands.jsonl", got)
}

func TestGoldenStory(t *testing.T) {
	log, err := os.ReadFile(filepath.Join("testdata", "commands.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	var results []byte
	for _, line := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		c, err := DecodeCommand(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		r, err := json.Marshal(apply(t, s, c)[0])
		if err != nil {
			t.Fatal(err)
		}
		results = append(append(results, r...), '\n')
	}
	golden(t, "results.jsonl", results)
	golden(t, "snapshot.json", s.Snapshot())
	var events []byte
	for _, e := range s.Journal(0) {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		events = append(append(events, b...), '\n')
	}
	golden(t, "journal.jsonl", events)
	old, err := os.ReadFile(filepath.Join("testdata", "snapshot.json"))
	if err != nil {
		t.Fatal(err)
	}
	restored, err := Restore(old)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Hash() != s.Hash() {
		t.Errorf("hash %x of the golden snapshot, want %x", restored.Hash(), s.Hash())
	}
}

func TestDecodeRefusesWhatEncodeDoesNotWrite(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              ``,
		"no object":          `7`,
		"null":               `null`,
		"unknown kind":       `{"banish":{"node":"lb1"}}`,
		"unknown field":      `{"grant":{"group":"g","member":"a/1","epoch":1,"weight":2}}`,
		"other case":         `{"Grant":{"group":"g","member":"a/1","epoch":1}}`,
		"field twice":        `{"grant":{"group":"g","group":"h","member":"a/1","epoch":1}}`,
		"white space":        `{"grant": {"group":"g","member":"a/1","epoch":1}}`,
		"bytes behind":       `{"grant":{"group":"g","member":"a/1","epoch":1}}}`,
		"two commands":       `{"grant":{"group":"g","member":"a/1","epoch":1}}{"found":{"cluster_id":"a"}}`,
		"negative epoch":     `{"grant":{"group":"g","member":"a/1","epoch":-1}}`,
		"epoch too large":    `{"grant":{"group":"g","member":"a/1","epoch":18446744073709551616}}`,
		"broken UTF-8":       "{\"found\":{\"cluster_id\":\"\xff\"}}",
		"time in other form": `{"time":"2026-07-01T10:51:30Z","found":{"cluster_id":"a"}}`,
	} {
		if c, err := DecodeCommand([]byte(text)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, error %v", name, c, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range append(story(), balanced()...) {
		b, err := EncodeCommand(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"grant":{"group":"g","member":"/","epoch":18446744073709551614}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		again, err := EncodeCommand(c)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s is written as %s, error %v", b, again, err)
		}
		if !reflect.DeepEqual(c.Clip(), c) {
			t.Fatalf("%s does not fit", b)
		}
		s, twin := New(), New()
		apply(t, s, append(story(), c)...)
		apply(t, twin, append(story(), c)...)
		if s.Hash() != twin.Hash() {
			t.Fatalf("%s has two outcomes", b)
		}
		if _, err := Restore(s.Snapshot()); err != nil {
			t.Fatalf("after %s: %v", b, err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	s := New()
	f.Add(s.Snapshot())
	for i, c := range story() {
		if _, err := s.Apply(uint64(i+1), c); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(s.Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Restore(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Snapshot(), b) {
			t.Fatalf("%s comes back as %s", b, s.Snapshot())
		}
	})
}
