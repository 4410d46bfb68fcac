//go:build interop

package interop_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hactl/had/internal/conf/syntax"
	language "github.com/hactl/had/internal/conf/words"
)

// TestWordsOfScenarios finds out which words that people use no scenario has, and demands a reason for each of them.
func TestWordsOfScenarios(t *testing.T) {
	used := map[*language.Row]bool{}
	for _, s := range allScenarios() {
		markWords(used, nil, parse(s.conf))
		for _, step := range s.steps {
			markWords(used, nil, parse(step.conf))
		}
	}
	given := map[string]bool{}
	for _, block := range language.Blocks() {
		if !playable(block) {
			continue
		}
		for _, row := range language.Rows(block) {
			placeholder := strings.ToLower(row.Word) != row.Word && strings.ToUpper(row.Word) == row.Word && row.Kind == language.Value
			if row.Tier > 2 || row.Own || row.Kind == language.Lexical || placeholder {
				continue
			}
			name := strings.TrimPrefix(row.Block+" "+row.Word, language.Root+" ")
			reason := cmp.Or(unplayed[name], unplayed[row.Block])
			given[name], given[row.Block] = true, true
			switch {
			case used[row] && unplayed[name] != "":
				t.Errorf("%s: a scenario has it, and there is a reason why none could", name)
			case !used[row] && reason == "":
				t.Errorf("%s: no scenario has it, and no reason is given", name)
			}
		}
	}
	for name := range unplayed {
		if !given[name] {
			t.Errorf("%s: there is a reason for it, and it is no word that people use", name)
		}
	}
}

// playable tells whether the words of a block are those of VRRP, of what is tracked, or of the whole.
func playable(block string) bool {
	top, _, _ := strings.Cut(block, "/")
	return slices.Contains([]string{language.Root, "global_defs", "vrrp_instance", "vrrp_sync_group", "vrrp_script", "vrrp_track_file",
		"vrrp_track_process", "track_file", "static_ipaddress", "static_routes", "static_rules", "bfd_instance"}, top)
}

func parse(conf string) []*syntax.Node {
	files := fstest.MapFS{"test.conf": {Data: []byte(conf)}}
	return syntax.Read(syntax.Options{Path: "test.conf", Files: files, Env: func(string) (string, bool) { return "", false }},
		language.Grammar{}).Top
}

// markWords marks the words of statements in the block of a path.
func markWords(used map[*language.Row]bool, path []string, nodes []*syntax.Node) {
	block := language.BlockName(path)
	for _, n := range nodes {
		if row := language.Lookup(block, n.Keyword()); row != nil {
			used[row] = true
		}
		for _, w := range n.Words {
			for _, b := range language.Blocks() {
				below := strings.HasPrefix(b, block+"/"+n.Keyword()) || len(path) > 0 && strings.HasPrefix(b, block+"/")
				if row := language.Lookup(b, w.Text); row != nil && row.Kind == language.Value && (b == block || below) {
					used[row] = true
				}
			}
		}
		markWords(used, append(slices.Clone(path), n.Keyword()), n.Children)
	}
}

// Reasons that several words have.
const (
	withMail      = "mails and traps have tests of their own, with a server that takes them; a trace has none"
	withProcesses = "the kernel must tell of processes: TestTrackers, where it does, and internal/linux/process"
	withBFD       = "needs a neighbour that speaks BFD: TestBFD"
	withServers   = "is about virtual servers, not about VRRP"
	readingOnly   = "its work is over once the file is read: the tests of internal/conf"
	ofTheProcess  = "changes how the process runs, not what it does: the tests of internal/daemon and internal/operation"
	logOnly       = "shows in the log"
)

// unplayed has the words that a scenario cannot show, or blocks of them, and why.
var unplayed = map[string]string{
	"net_namespace": ofTheProcess, "use_pid_dir": ofTheProcess, "instance": ofTheProcess,
	"SSL": withServers, "virtual_server_group": withServers, "virtual_server": withServers,
	"vrrp_track_process": withProcesses, "vrrp_sync_group track_process": withProcesses,
	"vrrp_sync_group/track_process": withProcesses,
	"vrrp_instance track_process":   withProcesses, "vrrp_instance/track_process": withProcesses,
	"bfd_instance": withBFD, "vrrp_sync_group track_bfd": withBFD, "vrrp_sync_group/track_bfd": withBFD,
	"vrrp_instance track_bfd": withBFD,
	"vrrp_instance/track_bfd": withBFD,

	"global_defs notification_email_from": withMail, "global_defs smtp_server": withMail,
	"global_defs smtp_helo_name":       withMail,
	"global_defs smtp_connect_timeout": withMail, "global_defs notification_email": withMail,
	"global_defs smtp_alert":      withMail,
	"global_defs smtp_alert_vrrp": withMail, "global_defs no_email_faults": withMail, "vrrp_sync_group smtp_alert": withMail,
	"vrrp_instance smtp_alert": withMail, "global_defs snmp_socket": withMail, "global_defs enable_traps": withMail,
	"global_defs enable_snmp_vrrp": withMail, "global_defs enable_snmp_rfc": withMail,

	"global_defs smtp_alert_checker": withServers, "global_defs checker_log_all_failures": withServers,
	"global_defs lvs_timeouts": withServers,
	"global_defs/lvs_timeouts": withServers, "global_defs lvs_flush": withServers,
	"global_defs lvs_flush_on_stop": withServers, "global_defs lvs_sync_daemon": withServers,
	"global_defs/lvs_sync_daemon": withServers,
	"global_defs lvs_notify_fifo": withServers, "global_defs lvs_notify_fifo_script": withServers,
	"global_defs checker_priority": withServers,
	"global_defs checker_no_swap":  withServers, "global_defs enable_snmp_checker": withServers,
	"global_defs rs_init_notifies":  withServers,
	"global_defs no_checker_emails": withServers,

	"global_defs vrrp_priority": ofTheProcess, "global_defs vrrp_no_swap": ofTheProcess,
	"global_defs vrrp_rt_priority":  ofTheProcess,
	"global_defs json_version":      "is about a dump: internal/agent/dump",
	"global_defs log_unknown_vrids": logOnly, "global_defs reload_check_config": readingOnly,
	"global_defs include_check": readingOnly, "global_defs/include_check": readingOnly,
	"global_defs enable_script_security":   "only forbids scripts: the tests of internal/notify",
	"global_defs vrrp_skip_check_adv_addr": "had never drops an advert for its list of addresses, and says so",
	"global_defs vrrp_iptables":            "had filters through nftables: TestAcceptMode",
	"global_defs nftables":                 "TestAcceptMode",
	"vrrp_instance/use_vmac name":          "2.2.7 takes the word for the name: the tests of internal/conf",
	"vrrp_sync_group track_file":           "the members of a group take it over: the tests of internal/conf",
	"vrrp_sync_group/track_file":           "the members of a group take it over: the tests of internal/conf",
}
