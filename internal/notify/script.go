package notify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Script is a program with its arguments, ready to run.
type Script struct {
	// Path is the file to execute; with Args[0] beginning with "</" it is a file that only has to be readable.
	Path string

	// Args are the words of the configuration. Args[0] is the program as it was written there.
	Args []string

	Identity Identity
}

// String returns the words of the configuration.
func (s Script) String() string { return strings.Join(s.Args, " ") }

// opensFile tells whether the "script" succeeds if a file can be opened.
func (s Script) opensFile() bool { return len(s.Args) > 0 && strings.HasPrefix(s.Args[0], "</") }

// Problem says why a script cannot be used.
type Problem uint8

// The problems.
const (
	NotFound      Problem = iota + 1 // no such file, also not in PATH
	NotExecutable                    // not a regular file, or its user may not execute it
	Insecure                         // fails the security check
)

// String returns the problem in words.
func (p Problem) String() string {
	switch p {
	case NotFound:
		return "not found"
	case NotExecutable:
		return "not executable"
	case Insecure:
		return "insecure"
	}
	return fmt.Sprintf("problem(%d)", uint8(p))
}

// ScriptError says that a script of the configuration cannot be used. The configuration loads without it.
type ScriptError struct {
	Program  string // as written
	Problem  Problem
	Security Security // with Insecure
	Err      error    // with NotFound and NotExecutable; may be nil
}

// Error returns the problem in one line.
func (e *ScriptError) Error() string {
	switch {
	case e.Problem == Insecure:
		return fmt.Sprintf("script %s: %v", e.Program, e.Security)
	case e.Err != nil:
		return fmt.Sprintf("script %s: %v: %v", e.Program, e.Problem, e.Err)
	}
	return fmt.Sprintf("script %s: %v", e.Program, e.Problem)
}

// Unwrap returns the cause.
func (e *ScriptError) Unwrap() error { return e.Err }

// ResolveOptions are the settings of global_defs that concern how a script is found.
type ResolveOptions struct {
	UseSymlinkPaths bool // execute the path as written, not the one with symbolic links resolved
	Security        bool // enable_script_security
}

// Resolve finds the program of a script, as its identity, once at configuration time: with a slash as it is given,
// otherwise along PATH. Every error is a *ScriptError.
func Resolve(args []string, id Identity, opts ResolveOptions) (Script, error) {
	if len(args) == 0 || args[0] == "" {
		return Script{}, &ScriptError{Problem: NotFound}
	}
	s := Script{Args: args, Identity: id}
	if s.opensFile() {
		s.Path = args[0][1:]
		return s, nil
	}
	written, err := find(args[0], id)
	if err != nil {
		return Script{}, err
	}
	if s.Path, err = filepath.EvalSymlinks(written); err != nil {
		return Script{}, &ScriptError{Program: args[0], Problem: NotFound, Err: err}
	}
	if opts.Security {
		security, err := CheckSecurity(written, id)
		switch {
		case err != nil:
			return Script{}, &ScriptError{Program: args[0], Problem: NotFound, Err: err}
		case security.Kind != Secure:
			return Script{}, &ScriptError{Program: args[0], Problem: Insecure, Security: security}
		}
	}
	if opts.UseSymlinkPaths {
		s.Path = written
	}
	return s, nil
}

// find returns the absolute path of a program that the identity may execute.
func find(program string, id Identity) (string, error) {
	if strings.Contains(program, "/") {
		path, err := filepath.Abs(program)
		if err != nil {
			return "", &ScriptError{Program: program, Problem: NotFound, Err: err}
		}
		return path, executable(program, path, id)
	}
	problem := error(&ScriptError{Program: program, Problem: NotFound, Err: errors.New("not in PATH")})
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue // never the working directory
		}
		path := filepath.Join(dir, program)
		err := executable(program, path, id)
		if err == nil {
			return path, nil
		}
		var scriptError *ScriptError
		if errors.As(err, &scriptError) && scriptError.Problem == NotExecutable {
			problem = err
		}
	}
	return "", problem
}

// executable checks that a file is there and that the identity may execute it and reach it.
func executable(program, path string, id Identity) error {
	st, err := stat(path)
	switch {
	case err != nil:
		return &ScriptError{Program: program, Problem: NotFound, Err: err}
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return &ScriptError{Program: program, Problem: NotExecutable, Err: errors.New("not a regular file")}
	case !id.may(st, 1):
		return &ScriptError{Program: program, Problem: NotExecutable,
			Err: fmt.Errorf("mode %#o does not let user %d execute it", st.Mode&0o7777, id.UID)}
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		st, err := stat(dir)
		if err != nil {
			return &ScriptError{Program: program, Problem: NotFound, Err: err}
		}
		if !id.may(st, 1) {
			return &ScriptError{Program: program, Problem: NotExecutable,
				Err: fmt.Errorf("directory %s does not let user %d through", dir, id.UID)}
		}
		if dir == "/" {
			return nil
		}
	}
}

func stat(path string) (*syscall.Stat_t, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return &st, nil
}

func lstat(path string) (*syscall.Stat_t, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return &st, nil
}
