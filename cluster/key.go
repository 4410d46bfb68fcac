package cluster

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// KeySize is the length of a cluster key in bytes.
const KeySize = 32

const (
	keyPrefix  = "had-key-1:"
	maxKeyFile = 4096
)

// GenerateKey returns the contents of a new key file: comment lines and one line with the key.
func GenerateKey() ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("generate cluster key: %w", err)
	}
	return []byte("# Key of a had cluster. Every member has the same. Keep it secret: whoever has it is a member.\n" +
		keyPrefix + base64.StdEncoding.EncodeToString(key) + "\n"), nil
}

// ReadKey reads a key file. It refuses one that its group or everybody may read or write.
func ReadKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read cluster key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read cluster key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read cluster key %s: not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read cluster key %s: mode is %04o and must be 0600: others than its owner can get at it",
			path, mode)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read cluster key %s: %w", path, err)
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("read cluster key %s: longer than %d bytes", path, maxKeyFile)
	}
	key, err := parseKey(string(content))
	if err != nil {
		return nil, fmt.Errorf("read cluster key %s: %w", path, err)
	}
	return key, nil
}

func parseKey(content string) ([]byte, error) {
	var key []byte
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		encoded, ok := strings.CutPrefix(line, keyPrefix)
		if !ok {
			return nil, fmt.Errorf("no line that begins with %q", keyPrefix)
		}
		if key != nil {
			return nil, errors.New("more than one key")
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, errors.New("the key is not valid base64")
		}
		if len(decoded) != KeySize {
			return nil, fmt.Errorf("the key has %d bytes instead of %d", len(decoded), KeySize)
		}
		key = decoded
	}
	if key == nil {
		return nil, errors.New("no key in it")
	}
	return key, nil
}
