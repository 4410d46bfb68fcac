package daemon

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/hactl/had/internal/control"
)

// Flags is a parsed command line.
type Flags struct {
	File      string
	ConfigID  string
	Socket    string // control socket; empty: that of the cluster block, or the default
	Namespace string // network namespace; empty: that of the configuration
	Test      bool
	TestLog   string // where -t writes; empty: standard error
	Detail    bool
	DontFork  bool
	PIDFile   string // empty: the default
	Syslog    bool   // -S was given
	Facility  string // of syslog
	NoSyslog  bool
	LogFile   string
	Umask     int // -1: not given
	Checks    bool
	IgnoreINT bool
	KeepIPVS  bool // the table of IPVS stays at the end
}

// signalNumbers are the signals of a running daemon by the names that --signum takes.
var signalNumbers = map[string]syscall.Signal{
	"STOP": syscall.SIGTERM, "RELOAD": syscall.SIGHUP, "DATA": syscall.SIGUSR1, "STATS": syscall.SIGUSR2,
	"STATS_CLEAR": SignalClearStats, "JSON": SignalJSON,
}

// Signals of keepalived beyond the usual ones, by the C library's SIGRTMIN (34) and SIGRTMAX (64).
const (
	SignalJSON       = syscall.Signal(34 + 2)
	SignalClearStats = syscall.Signal(64 - 1)
)

// facilities are the words that -S takes.
var facilities = []string{"0", "1", "2", "3", "4", "5", "6", "7", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
	"local7", "user", "daemon"}

// without says what is lost, or that nothing is, by a flag of keepalived that had accepts and does nothing about.
var without = []struct {
	long, short string
	value       string // name of its argument; empty: none. In brackets: it may be left out
	text        string
	harmless    bool
}{
	{"vrrp", "P", "", "had is one process; leave virtual_server blocks out of the file to run VRRP alone", true},
	{"check", "C", "", "VRRP runs too: leave its instances out of the file to run none", false},
	{"no_bfd", "B", "", "had is one process", true},
	{"all", "", "", "had is one process", true},
	{"flush-log-file", "", "", "every message is written at once", true},
	{"release-vips", "X", "", "addresses are released whenever an instance leaves MASTER", true},
	{"dont-release-vrrp", "V", "", "addresses are removed when had stops: in its absence nobody would keep them from being on two machines", false},
	{"dont-respawn", "R", "", "had is one process; the service manager starts it again", true},
	{"dump-conf", "d", "", "use hactl config check, or SIGUSR1", false},
	{"vrrp_pid", "r", "FILE", "had is one process: only --pid is written", false},
	{"checkers_pid", "c", "FILE", "had is one process: only --pid is written", false},
	{"bfd_pid", "b", "FILE", "had is one process: only --pid is written", false},
	{"genhash", "T", "", "had has no genhash", false},
	{"address-monitoring", "a", "", "changes of virtual addresses by others are logged always, other addresses never", false},
	{"snmp", "x", "", "there is no SNMP agent to talk to", false},
	{"snmp-agent-socket", "A", "FILE", "there is no SNMP agent to talk to", false},
	{"core-dump", "m", "", "a crash leaves its goroutines in the log, and no core dump", false},
	{"core-dump-pattern", "M", "[PATTERN]", "a crash leaves its goroutines in the log, and no core dump", false},
	{"perf", "", "[MODE]", "perf attaches from outside", true},
	{"debug", "", "[OPTIONS]", "use --log-detail", true},
	{"no-mem-check", "", "", "the language manages memory", true},
	{"mem-check-log", "L", "", "the language manages memory", true},
}

// attachedValues spells out -tFILE, -gFILE and -MPATTERN, whose values the C library takes if they follow at once.
func attachedValues(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		for short, long := range map[string]string{"-t": "config-test", "-g": "log-file", "-M": "core-dump-pattern"} {
			if value, found := strings.CutPrefix(arg, short); found && value != "" && value[0] != '=' {
				args[i] = "--" + long + "=" + value
			}
		}
	}
	return args
}

// parse reads the command line. done says that there is nothing more to do.
func parse(name, version string, args []string, stdout, stderr io.Writer) (f Flags, code int, done bool) {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SetOutput(stderr)
	set.SortFlags = false
	set.StringVarP(&f.File, "use-file", "f", DefaultFile, "read this configuration `file`")
	set.StringVarP(&f.ConfigID, "config-id", "i", "", "`id` for conditional lines (@id); default: the host name up to its first dot")
	set.StringVar(&f.Socket, "control-socket", "", "answer hactl at this `path`; default: the cluster block's, or "+control.DefaultSocket)
	test := set.StringP("config-test", "t", "", "check the configuration, say everything that is wrong with it to standard error or to this `file`, and end")
	set.Lookup("config-test").NoOptDefVal = "-"
	detail := set.CountP("log-detail", "D", "log in detail")
	set.BoolVarP(&f.DontFork, "dont-fork", "n", false, "stay in the foreground, whatever the service manager expects")
	set.StringVarP(&f.PIDFile, "pid", "p", "", "write the process id into this `file` and lock it; default: "+DefaultPIDFile)
	set.BoolP("log-console", "l", true, "log to standard error (always so in the foreground)")
	accepted := without
	var umask, signum string
	if name == witnessName {
		accepted = nil // it is no keepalived
	} else {
		set.StringVarP(&f.Facility, "log-facility", "S", "", "log to syslog with this `facility`: 0 to 7, local0 to local7, user or daemon")
		set.BoolVarP(&f.NoSyslog, "no-syslog", "G", false, "do not log to syslog, not in the background either")
		set.StringVarP(&f.LogFile, "log-file", "g", "", "log to this `file`, too")
		set.Lookup("log-file").NoOptDefVal = defaultLogFile
		set.StringVarP(&umask, "umask", "u", "", "`mask` for files that are created")
		set.BoolVarP(&f.Checks, "all-config", "e", false, "an include that finds nothing is an error")
		set.StringVarP(&f.Namespace, "namespace", "s", "", "run in the network namespace `name`, whatever the configuration says")
		set.BoolVar(&f.IgnoreINT, "ignore-sigint", false, "do not stop at SIGINT")
		set.BoolVarP(&f.KeepIPVS, "dont-release-ipvs", "I", false, "leave the virtual servers in the kernel when had stops")
		set.StringVar(&signum, "signum", "", "print the number of a `signal` and end: STOP, RELOAD, DATA, STATS, STATS_CLEAR or JSON")
	}
	for _, w := range accepted {
		if w.value == "" {
			set.BoolP(w.long, w.short, false, "accepted; "+w.text)
			continue
		}
		set.StringP(w.long, w.short, "", "accepted; "+w.text)
		if strings.HasPrefix(w.value, "[") {
			set.Lookup(w.long).NoOptDefVal = "-"
		}
	}
	showVersion := set.BoolP("version", "v", false, "print the version and end")
	fail := func(format string, args ...any) (Flags, int, bool) {
		fmt.Fprintf(stderr, name+": "+format+"\n", args...)
		return f, ExitFailed, true
	}
	err := set.Parse(attachedValues(args))
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return f, ExitOK, true
	case err != nil:
		return fail("%v", err)
	case *showVersion:
		fmt.Fprintf(stdout, "%s %s\n", name, version)
		return f, ExitOK, true
	case signum != "":
		number, known := signalNumbers[signum]
		if !known {
			return fail("no signal is called %s", signum)
		}
		fmt.Fprintln(stdout, int(number))
		return f, ExitOK, true
	case f.Facility != "" && !slices.Contains(facilities, f.Facility):
		return fail("--log-facility: no facility %s", f.Facility)
	}
	f.Umask = -1
	if umask != "" {
		mask, err := strconv.ParseUint(umask, 0, 9)
		if err != nil {
			return fail("--umask: %v", err)
		}
		f.Umask = int(mask)
	}
	f.Detail, f.Syslog = *detail > 0, f.Facility != ""
	if *test != "" {
		f.Test = true
		if *test != "-" {
			f.TestLog = *test
		}
	}
	rest := set.Args()
	for _, word := range rest {
		fmt.Fprintf(stderr, "%s: unexpected argument %q is ignored\n", name, word)
	}
	for _, w := range accepted {
		if set.Changed(w.long) && !w.harmless {
			fmt.Fprintf(stderr, "%s: --%s does nothing: %s\n", name, w.long, w.text)
		}
	}
	return f, ExitOK, false
}
