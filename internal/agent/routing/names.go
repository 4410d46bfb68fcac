package routing

import (
	"bufio"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/hactl/had/internal/conf"
)

// Names are the machine's names for numbers, as iproute2 and the C library know them.
type Names struct {
	Tables, Protocols, DSFields, Realms, Groups map[string]uint32
	IPProtocols                                 map[string]uint32
}

// ReadNames reads the tables of names below root (in production the root directory): those of iproute2 in the given
// directories, the later ones counting more, and /etc/protocols. What is not there has no names.
func ReadNames(root fs.FS, iproute ...string) Names {
	read := func(file string) map[string]uint32 {
		names := map[string]uint32{}
		for _, dir := range iproute {
			dir = strings.Trim(dir, "/")
			readTable(root, path.Join(dir, file), 1, names)
			more, _ := fs.Glob(root, path.Join(dir, file+".d", "*.conf"))
			for _, name := range more {
				readTable(root, name, 1, names)
			}
		}
		return names
	}
	n := Names{Tables: read("rt_tables"), Protocols: read("rt_protos"), DSFields: read("rt_dsfield"), Realms: read("rt_realms"),
		Groups: read("group"), IPProtocols: map[string]uint32{}}
	readTable(root, "etc/protocols", 0, n.IPProtocols)
	return n
}

// readTable reads lines of a name and a number, the name at position at. What cannot be understood is no name.
func readTable(root fs.FS, file string, at int, names map[string]uint32) {
	f, err := root.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(words[1-at], 0, 32); err == nil {
			names[words[at]] = uint32(n)
		}
	}
}

// number returns the value of a number that may be a name.
func number(n conf.Number, names map[string]uint32, what string) (uint32, error) {
	if n.Name == "" {
		return n.Value, nil
	}
	value, known := names[n.Name]
	if !known {
		return 0, fmt.Errorf("no %s is called %q on this machine", what, n.Name)
	}
	return value, nil
}

// octet is number for what has 8 bits.
func octet(n conf.Number, names map[string]uint32, what string) (uint8, error) {
	value, err := number(n, names, what)
	if err == nil && value > 255 {
		err = fmt.Errorf("%s %d is larger than 255", what, value)
	}
	return uint8(value), err
}

// realms reads [SOURCE/]DESTINATION.
func (n Names) realms(text string) (uint32, error) {
	if text == "" {
		return 0, nil
	}
	var value uint32
	for part := range strings.SplitSeq(text, "/") {
		realm, known := n.Realms[part]
		if !known {
			number, err := strconv.ParseUint(part, 0, 16)
			if err != nil {
				return 0, fmt.Errorf("no realm is called %q on this machine", part)
			}
			realm = uint32(number)
		}
		value = value<<16 | realm&0xffff
	}
	return value, nil
}
