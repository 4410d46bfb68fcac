package daemon

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/lint"
)

// test checks the configuration as this machine (-t), and returns keepalived's exit codes.
func test(name string, f Flags, stderr io.Writer) int {
	out := stderr
	if f.TestLog != "" {
		file, err := os.OpenFile(f.TestLog, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
			return ExitFailed
		}
		defer file.Close()
		out = file
	}
	options, err := options(f, name == witnessName)
	if err != nil {
		fmt.Fprintf(stderr, "%s: configuration: %v\n", name, err)
		return ExitMissing
	}
	o := lint.Options{Paths: []string{f.File}, Load: options, AsNode: true}
	if name != witnessName {
		o.Machine = &lint.Machine{Interfaces: net.Interfaces, Addresses: net.InterfaceAddrs, Key: func(path string) error {
			_, err := cluster.ReadKey(path)
			return err
		}}
	}
	findings := lint.Check(o).Findings
	for _, finding := range findings {
		fmt.Fprintln(out, finding.String())
	}
	return testCode(findings)
}

// ours are the codes of warnings about what keepalived does not look at.
var ours = []conf.Code{conf.CodeNotDone, conf.CodeScriptRoot, conf.CodeScriptShell, conf.CodeNoPreemptMaster, conf.CodeSameAddress,
	conf.CodeOwnAddress, conf.CodeOddAddress, conf.CodeNodesDiffer, conf.CodeEqualPriority, conf.CodeBothMaster, conf.CodeWeightTooSmall,
	conf.CodeUnprotected, conf.CodeConditionNode}

// testCode is the exit code for findings. As in keepalived an unsafe script hides everything else, and an ordinary error
// hides one that keeps the daemon from starting. Warnings count, as far as they are keepalived's.
func testCode(findings []conf.Finding) int {
	code := ExitOK
	for _, f := range findings {
		switch {
		case f.Code == conf.CodeScriptUnsafe:
			code = max(code, ExitTestUnsafe)
		case f.Fatal, f.Code == conf.CodeInterface && f.Severity == conf.Error:
			code = max(code, ExitTestFatal)
		case f.Severity == conf.Error,
			f.Severity == conf.Warning && !slices.Contains(ours, f.Code) && !strings.HasPrefix(string(f.Code), "cluster"):
			code = max(code, ExitTestErrors)
		}
	}
	return code
}
