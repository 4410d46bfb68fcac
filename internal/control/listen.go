package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ErrInUse says that a living process serves the socket already.
var ErrInUse = errors.New("another process serves it")

// DefaultSocket is where had and hawitness listen and hactl asks, unless told otherwise.
const DefaultSocket = "/run/had/had.sock"

// SocketGroup is the group that may use the socket besides root, if it exists on the machine.
const SocketGroup = "had"

const maxSocketPath = 107 // sun_path without its final zero

// Listen opens the control socket at path with mode 0660, readable by SocketGroup if the machine has it and the process
// may give the socket away. A socket that a dead process has left behind is replaced; one that answers is ErrInUse. The
// socket gets its name only when its mode is right. Closing the listener removes it, unless it has been replaced.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path is longer than %d bytes", path, maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("listen on %s: the file exists and is no socket", path)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("listen on %s: %w", path, ErrInUse)
		}
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid()))
	if len(temporary) > maxSocketPath {
		temporary = path // a path at the limit: the short window is accepted
	}
	_ = os.Remove(temporary)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	fail := func(err error) (net.Listener, error) {
		l.Close()
		_ = os.Remove(temporary)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(temporary, 0o660); err != nil {
		return fail(err)
	}
	if g, err := user.LookupGroup(SocketGroup); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			if err := os.Chown(temporary, -1, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
				return fail(err)
			}
		}
	}
	if temporary != path {
		if err := os.Rename(temporary, path); err != nil {
			return fail(err)
		}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fail(err)
	}
	return &listener{Listener: l, path: path, inode: inodeOf(info), slots: make(chan struct{}, maxConnections)}, nil
}

// listener bounds the number of open connections and removes its socket when closed.
type listener struct {
	net.Listener
	path  string
	inode uint64
	slots chan struct{}
	once  sync.Once
}

func inodeOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// Accept returns the next connection. One beyond the bound is closed at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &conn{UnixConn: c.(*net.UnixConn), release: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			c.Close()
		}
	}
}

// Close stops listening and removes the socket.
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() {
		if info, statErr := os.Lstat(l.path); statErr == nil && inodeOf(info) == l.inode {
			_ = os.Remove(l.path)
		}
	})
	return err
}

// conn gives its slot back when closed.
type conn struct {
	*net.UnixConn
	release func()
}

func (c *conn) Close() error {
	c.release()
	return c.UnixConn.Close()
}

// peer asks the kernel who opened a connection of a Listen listener.
func peer(c net.Conn) (*syscall.Ucred, error) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("read peer credentials: %T is no socket", c)
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	if err := rc.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	if credErr != nil {
		return nil, fmt.Errorf("read peer credentials: %w", credErr)
	}
	return cred, nil
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	cred, err := peer(c)
	if err != nil {
		return ctx // callers without credentials may read but not act
	}
	return context.WithValue(ctx, peerKey{}, cred)
}
