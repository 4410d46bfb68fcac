package words

import (
	"strconv"
	"strings"
)

// Effect says what had does about a word that it knows, compared with keepalived. Words for which nothing else is said here
// are Same. docs/keepalived-compat.md is made of this.
type Effect uint8

// The effects.
const (
	Same     Effect = iota // it acts as in keepalived
	Differs                // it acts, but not quite as in keepalived: the text says how
	Inert                  // it does nothing, and nothing in keepalived either: a note says so
	NoEffect               // nothing is done, and nothing is lost: a note says why
	Warned                 // nothing is done, and something is lost: a warning says what
	Refused                // nothing is done, and starting without it would do harm: an error says so
)

// Acts tells whether had does something about the word.
func (e Effect) Acts() bool { return e == Same || e == Differs }

// Lost tells whether something that keepalived does with the word is not done.
func (e Effect) Lost() bool { return e == Warned || e == Refused }

// Status is the word for it on the page about compatibility: same, differs, warned or refused.
func (e Effect) Status() string {
	switch e {
	case Same, Inert:
		return "same"
	case Differs, NoEffect:
		return "differs"
	case Warned:
		return "warned"
	case Refused:
		return "refused"
	}
	return "effect(" + strconv.Itoa(int(e)) + ")"
}

const (
	oneProcess     = "had is one process and schedules itself"
	noSNMP         = "no MIB is served, since had does not speak AgentX"
	mibTables      = "no MIB is served, since had does not speak AgentX; its traps are sent (snmp_trap)"
	noDBus         = "nothing is published on D-Bus; notify_fifo and hactl tell the same"
	noIPVSRules    = "each address of a group is a service of its own"
	routesDiffer   = "routes of type local, broadcast and anycast get the scope that the kernel demands of them"
	viaNftables    = "nftables does what they would do, in a table named keepalived or as nftables says"
	noBuffers      = "the kernel's sizes are used"
	noAddressCheck = "the addresses in an advertisement are no reason to drop it"
)

// effects holds what is not Same, by block and word, one line each.
var effects = map[string]struct {
	effect Effect
	text   string
}{
	"(root)/linkbeat_use_polling":  {NoEffect, "link state comes from netlink"},
	"(root)/namespace_with_ipsets": {NoEffect, "ipsets are not used"},
	"(root)/child_wait_time":       {NoEffect, "there are no child processes to wait for"},
	"(root)/net_namespace":         {Differs, "hactl asks that daemon at /run/had/NAME/had.sock, and its dumps are there"},
	"(root)/use_pid_dir":           {NoEffect, "there is one pid file, that of --pid, else /run/keepalived.pid"},
	"(root)/instance":              {NoEffect, "there is one pid file, that of --pid, else /run/keepalived.pid"},
	"(root)/net_namespace_ipvs":    {Warned, "IPVS is that of the namespace that had runs in"},
	"(root)/virtual_server":        {Differs, "a server or a setting that others change in its entry of the kernel is put right within a second; a reload keeps what a check has found as long as the check is of the same server and kind"},
	"(root)/static_routes":         {Differs, routesDiffer},
	"(root)/linkbeat_interfaces":   {NoEffect, "link state comes from netlink"},
	"(root)/vrrp_track_process":    {Differs, "a name counts on its first 15 characters, however long it is given; where the kernel sends no process events, as in a container, processes are looked at every second"},
	"(root)/bfd_instance":          {Differs, "sessions are kept by the one process; a neighbor is told when it stops"},
	"(root)/track_file":            {Differs, "the directory need not exist, and a symbolic link may be pointed elsewhere; a value that is a fault adds nothing"},

	"global_defs/process_names":                       {NoEffect, oneProcess},
	"global_defs/process_name":                        {NoEffect, oneProcess},
	"global_defs/vrrp_process_name":                   {NoEffect, oneProcess},
	"global_defs/checker_process_name":                {NoEffect, oneProcess},
	"global_defs/lvs_process_name":                    {NoEffect, oneProcess},
	"global_defs/bfd_process_name":                    {NoEffect, oneProcess},
	"global_defs/smtp_server":                         {Differs, "a mail that the server does not take at once is tried again for 10 minutes, and one at a time"},
	"global_defs/smtp_helo_name":                      {Differs, "it is said with EHLO, and with HELO to a server that does not know that"},
	"global_defs/max_auto_priority":                   {NoEffect, oneProcess},
	"global_defs/min_auto_priority_delay":             {NoEffect, oneProcess},
	"global_defs/vrrp_iptables":                       {NoEffect, viaNftables},
	"global_defs/vrrp_ipsets":                         {NoEffect, viaNftables},
	"global_defs/nftables":                            {Differs, "the rules are there from the start to the stop, and not only while the router is MASTER"},
	"global_defs/nftables_ifindex":                    {NoEffect, "names are compared, which outlive an interface that is made anew"},
	"global_defs/vrrp_priority":                       {NoEffect, oneProcess},
	"global_defs/vrrp_no_swap":                        {NoEffect, oneProcess},
	"global_defs/vrrp_rt_priority":                    {NoEffect, oneProcess},
	"global_defs/vrrp_cpu_affinity":                   {NoEffect, oneProcess},
	"global_defs/vrrp_rlimit_rttime":                  {NoEffect, oneProcess},
	"global_defs/vrrp_rlimit_rtime":                   {NoEffect, oneProcess},
	"global_defs/nftables_ipvs":                       {NoEffect, noIPVSRules},
	"global_defs/nftables_ipvs_priority":              {NoEffect, noIPVSRules},
	"global_defs/nftables_ipvs_start_fwmark":          {NoEffect, noIPVSRules},
	"global_defs/checker_priority":                    {NoEffect, oneProcess},
	"global_defs/checker_no_swap":                     {NoEffect, oneProcess},
	"global_defs/checker_rt_priority":                 {NoEffect, oneProcess},
	"global_defs/checker_cpu_affinity":                {NoEffect, oneProcess},
	"global_defs/checker_rlimit_rttime":               {NoEffect, oneProcess},
	"global_defs/checker_rlimit_rtime":                {NoEffect, oneProcess},
	"global_defs/bfd_priority":                        {NoEffect, oneProcess},
	"global_defs/bfd_no_swap":                         {NoEffect, oneProcess},
	"global_defs/bfd_rt_priority":                     {NoEffect, oneProcess},
	"global_defs/bfd_cpu_affinity":                    {NoEffect, oneProcess},
	"global_defs/bfd_rlimit_rttime":                   {NoEffect, oneProcess},
	"global_defs/bfd_rlimit_rtime":                    {NoEffect, oneProcess},
	"global_defs/snmp_socket":                         {NoEffect, noSNMP},
	"global_defs/enable_traps":                        {Differs, "had sends them itself, to the receivers that snmp_trap names, and not through an SNMP agent"},
	"global_defs/enable_snmp_vrrp":                    {Warned, mibTables},
	"global_defs/enable_snmp_keepalived":              {Warned, mibTables},
	"global_defs/enable_snmp_rfc":                     {Warned, mibTables},
	"global_defs/enable_snmp_rfcv2":                   {Warned, mibTables},
	"global_defs/enable_snmp_rfcv3":                   {Warned, mibTables},
	"global_defs/enable_snmp_checker":                 {Warned, mibTables},
	"global_defs/snmp_vs_stats_update_interval":       {NoEffect, noSNMP},
	"global_defs/snmp_rs_stats_update_interval":       {NoEffect, noSNMP},
	"global_defs/enable_dbus":                         {Warned, noDBus},
	"global_defs/dbus_service_name":                   {NoEffect, noDBus},
	"global_defs/dbus_no_interface_name":              {NoEffect, noDBus},
	"global_defs/vrrp_netlink_cmd_rcv_bufs":           {NoEffect, noBuffers},
	"global_defs/vrrp_netlink_cmd_rcv_bufs_force":     {NoEffect, noBuffers},
	"global_defs/vrrp_netlink_monitor_rcv_bufs":       {NoEffect, noBuffers},
	"global_defs/vrrp_netlink_monitor_rcv_bufs_force": {NoEffect, noBuffers},
	"global_defs/process_monitor_rcv_bufs":            {NoEffect, noBuffers},
	"global_defs/process_monitor_rcv_bufs_force":      {NoEffect, noBuffers},
	"global_defs/lvs_netlink_cmd_rcv_bufs":            {NoEffect, noBuffers},
	"global_defs/lvs_netlink_cmd_rcv_bufs_force":      {NoEffect, noBuffers},
	"global_defs/lvs_netlink_monitor_rcv_bufs":        {NoEffect, noBuffers},
	"global_defs/lvs_netlink_monitor_rcv_bufs_force":  {NoEffect, noBuffers},
	"global_defs/no_checker_emails":                   {NoEffect, "mails are about servers, and not about single checks, in any case"},
	"global_defs/vrrp_rx_bufs_policy":                 {NoEffect, noBuffers},
	"global_defs/vrrp_rx_bufs_multiplier":             {NoEffect, noBuffers},
	"global_defs/random_seed":                         {NoEffect, "nothing that it would begin is left to chance"},
	"global_defs/reload_check_config":                 {NoEffect, "a configuration is always checked before it is used"},
	"global_defs/config_save_dir":                     {Warned, "no copy is kept"},
	"global_defs/tmp_config_directory":                {NoEffect, oneProcess},
	"global_defs/data_use_instance":                   {NoEffect, "dumps go into the directory of the control socket, which tells instances apart"},
	"global_defs/state_dump_file":                     {Differs, "without it the file is keepalived.data in the directory of the control socket, /run/had, not in /tmp"},
	"global_defs/stats_dump_file":                     {Differs, "without it the file is keepalived.stats in the directory of the control socket, /run/had, not in /tmp"},
	"global_defs/json_dump_file":                      {Differs, "without it the file is keepalived.json in the directory of the control socket, /run/had, not in /tmp"},

	"global_defs/log_unknown_vrids":        {Differs, "each sender and virtual router is logged once"},
	"global_defs/vrrp_skip_check_adv_addr": {NoEffect, noAddressCheck},

	"vrrp_script/init_fail": {Inert, "it has none in keepalived either, once the script is tracked"},

	"virtual_server/hashed":                {Inert, "services are always hashed"},
	"virtual_server/snmp_name":             {NoEffect, noSNMP},
	"virtual_server/real_server/snmp_name": {NoEffect, noSNMP},

	"vrrp_sync_group/global_tracking": {Inert, "it has none in keepalived either"},

	"vrrp_instance/authentication/auth_type/AH": {Refused, "without it no other router would be understood; PASS keeps as few off the link"},

	"global_defs/dynamic_interfaces": {Differs, "an instance waits for an interface that does not exist in any case"},

	"vrrp_instance/use_vmac":             {Differs, "a VMAC that somebody deletes is made again; kernel parameters of the interface below are put back at stop"},
	"vrrp_instance/use_ipvlan":           {Differs, "over IPv4 without an address it speaks from that of the interface below"},
	"vrrp_instance/linkbeat_use_polling": {NoEffect, "link state comes from netlink"},
	"vrrp_instance/virtual_routes":       {Differs, routesDiffer},
	"vrrp_instance/no_accept":            {Differs, "the rules are there from the start to the stop, and not only while the router is MASTER"},
	"vrrp_instance/debug":                {Inert, "it has none in keepalived either"},
	"vrrp_instance/skip_check_adv_addr":  {NoEffect, noAddressCheck},
}

// EffectOf says what had does about a word, and in a few words how it differs, why or what is lost. It is what stands here
// for the word itself: see EffectWithin.
func EffectOf(block, word string) (Effect, string) {
	e := effects[block+"/"+word]
	return e.effect, e.text
}

// EffectWithin is EffectOf, but a word of which nothing is said shares the fate of the blocks and words around it when those
// do not act.
func EffectWithin(block, word string) (Effect, string) {
	if e, found := effects[block+"/"+word]; found {
		return e.effect, e.text
	}
	for block != Root {
		outer, name := Root, block
		if i := strings.LastIndexByte(block, '/'); i >= 0 {
			outer, name = block[:i], block[i+1:]
		}
		if e, found := effects[outer+"/"+name]; found && !e.effect.Acts() {
			return e.effect, e.text
		}
		block = outer
	}
	return Same, ""
}
