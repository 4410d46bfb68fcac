// Package host lets package conf read the files, the environment and the name of this machine. Package conf itself
// knows no operating system.
package host

import (
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf"
)

// Files is the machine's file system.
type Files struct{}

// ReadFile implements conf.Files.
func (Files) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// Stat implements conf.Files.
func (Files) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir implements conf.Files.
func (Files) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Options returns the options with which this machine reads the file at path. An empty configID is the host name up to
// its first dot, as in keepalived. The error says that the machine has no name.
func Options(path, configID string) (conf.Options, error) {
	name, err := os.Hostname()
	if err != nil {
		return conf.Options{}, err
	}
	if configID == "" {
		configID, _, _ = strings.Cut(name, ".")
	}
	return conf.Options{
		Path: path, ConfigID: configID, Node: name, Env: os.LookupEnv, Files: Files{}, Seed: uint64(time.Now().UnixNano()),
	}, nil
}
