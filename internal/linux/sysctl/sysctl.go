// Package sysctl reads and writes the kernel parameters under /proc/sys that belong to the network, such as
// net.ipv4.conf.INTERFACE.arp_ignore. Names are given as path elements, because an interface name may hold a dot.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotExist is the cause when the kernel has no such parameter: the interface is gone, or the feature is not built in.
var ErrNotExist = fs.ErrNotExist

// root is where the kernel shows its parameters.
const root = "/proc/sys"

// Parameter names one kernel parameter.
type Parameter struct{ elements []string }

// Net returns the parameter below net with these elements, e.g. Net("ipv4", "ip_nonlocal_bind").
func Net(elements ...string) Parameter { return Parameter{append([]string{"net"}, elements...)} }

// IPv4 returns a parameter of an interface, or of "all" or "default": net.ipv4.conf.iface.name.
func IPv4(iface, name string) Parameter { return Net("ipv4", "conf", iface, name) }

// IPv6 returns a parameter of an interface, or of "all" or "default": net.ipv6.conf.iface.name.
func IPv6(iface, name string) Parameter { return Net("ipv6", "conf", iface, name) }

// ForwardingIPv6 tells whether an interface forwards IPv6 packets. One that does not exist forwards nothing.
func ForwardingIPv6(iface string) bool {
	value, err := IPv6(iface, "forwarding").GetInt()
	return err == nil && value != 0
}

// String returns the name as sysctl(8) writes it: dots between elements, a slash for a dot within one.
func (p Parameter) String() string {
	names := make([]string, len(p.elements))
	for i, element := range p.elements {
		names[i] = strings.ReplaceAll(element, ".", "/")
	}
	return strings.Join(names, ".")
}

// path returns the file of the parameter. An element must be a single name, so that no interface name leads elsewhere.
func (p Parameter) path() (string, error) {
	for _, element := range p.elements {
		if element == "" || element == "." || element == ".." || strings.ContainsRune(element, '/') {
			return "", fmt.Errorf("%q is not a name", element)
		}
	}
	return filepath.Join(append([]string{root}, p.elements...)...), nil
}

// Get returns the value without the line end.
func (p Parameter) Get() (string, error) {
	path, err := p.path()
	if err != nil {
		return "", fmt.Errorf("read %v: %w", p, err)
	}
	value, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %v: %w", p, cause(err))
	}
	return strings.TrimSuffix(string(value), "\n"), nil
}

// GetInt returns the value of a parameter that is one number.
func (p Parameter) GetInt() (int, error) {
	value, err := p.Get()
	if err != nil {
		return 0, err
	}
	number, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("read %v: %w", p, err)
	}
	return number, nil
}

// Set writes the value.
func (p Parameter) Set(value string) error {
	path, err := p.path()
	if err != nil {
		return fmt.Errorf("set %v to %s: %w", p, value, err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(value)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("set %v to %s: %w", p, value, cause(err))
	}
	return nil
}

// SetInt writes a number.
func (p Parameter) SetInt(value int) error { return p.Set(strconv.Itoa(value)) }

// cause takes the path out of an error of package os, whose place the parameter's name takes.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
