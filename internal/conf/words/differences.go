package words

// Difference is a deliberate difference in behaviour from keepalived that is not of one word alone.
type Difference struct {
	Area       Area
	Keepalived string // what keepalived does
	Had        string // what had does
	Why        string
}

// Area is what a difference is about.
type Area string

// The areas, in the order of the page about compatibility.
const (
	Reading   Area = "Reading the file"
	VRRP      Area = "VRRP"
	Releases  Area = "Where releases of keepalived differ, had is like 2.3"
	Scripts   Area = "Scripts and notification"
	Checks    Area = "Health checks"
	LifeCycle Area = "Life cycle"
	Leases    Area = "With a cluster block"
)

// Areas returns all areas in the order of the page.
func Areas() []Area { return []Area{Reading, VRRP, Releases, Scripts, Checks, LifeCycle, Leases} }

// Differences are the deliberate differences, by area. A difference of one word stands with its effect.
var Differences = []Difference{
	{Reading, "ends at a word that lacks its argument",
		"reports it with everything else that is wrong, and does not start",
		"a person wants all mistakes at once"},
	{Reading, "ignores what follows the last argument of a word, without a message",
		"reports it; a keyword of the block there begins a statement of its own",
		"`interface eth0 priority 50` on one line is always meant as two statements"},
	{Reading, "reads the content of an unknown block as if it stood in the block around, which the unknown block's brace then ends",
		"skips the unknown block as a whole, with an error",
		"a misspelt block should not change the meaning of what follows it"},
	{Reading, "takes a second address on a line of an address block for an unknown option",
		"reads it as an entry, with a warning",
		"`virtual_ipaddress { 10.0.0.1 10.0.0.2 }` leaves no doubt"},
	{Reading, "takes the words after a `script` that is not quoted for a user, or leaves them out",
		"runs it with its arguments, with a warning",
		"the check would otherwise be another one than was written"},
	{Reading, "takes a byte order mark for a part of the first word",
		"skips it, with a note",
		"editors write it"},
	{Reading, "reads a file that includes itself until no more files can be opened, and goes on",
		"reports it and does not start; includes nest 64 deep, blocks too",
		"every input has a bound"},
	{Reading, "logs findings without a column, and with a line only in part",
		"gives each a severity, a code and file:line:column",
		"editors and CI systems understand that"},
	{VRRP, "stops if an interface of its configuration does not exist, unless dynamic_interfaces is given",
		"says so, and the instance waits in FAULT until the interface appears",
		"one interface should not take down the other instances; dynamic_interfaces is always on, in this sense"},
	{VRRP, "takes a route that the kernel itself removes, at the end of its `expires` or with its interface, for removed by somebody",
		"knows the two apart, and adds it again with the interface",
		"nobody has interfered"},
	{VRRP, "removes a route or rule that two instances have when the first of them leaves MASTER, and lets the other follow",
		"keeps it until the last of them leaves",
		"the second one still needs it"},
	{VRRP, "repeats the announcements of its addresses after garp_lower_prio_delay for each advert of a lower priority",
		"repeats them once, after the last such advert",
		"a rival that goes on should not multiply them"},
	{VRRP, "sends one announcement of each address when more have to wait for vrrp_garp_interval or vrrp_gna_interval",
		"sends all that were asked for, one after the other",
		"the number that is configured is meant"},
	{VRRP, "leaves an address that is on the interface already as it is",
		"gives it the options of the file",
		"the address should be what the file says, whoever was there first"},
	{VRRP, "does not announce its addresses when the link of the interface comes back to a router that stayed MASTER",
		"announces them",
		"a switch may have forgotten where they are"},
	{Releases, "up to 2.2 waits for the whole down timer at the start with state MASTER and a priority below 255",
		"waits for one interval and the skew time",
		"as 2.3"},
	{Releases, "up to 2.2 drops an advertisement with another list of addresses",
		"counts it, says so, and accepts it",
		"as 2.3: two routers that disagree about an address must not both be MASTER"},
	{Releases, "up to 2.2 sends the first refresh after garp_master_refresh",
		"sends it after garp_master_delay and garp_master_refresh",
		"as 2.3"},
	{Releases, "up to 2.2 takes an address that is there twice in an instance twice",
		"ignores the second, with a warning",
		"as 2.3"},
	{Releases, "up to 2.2 leaves an address with a peer behind, and does not report a sync group of which a member has lost an address",
		"removes it, and reports it",
		"as 2.3"},
	{Releases, "up to 2.2 lets two owners (priority 255) of one virtual router go on until one yields to the higher address",
		"lets one of them go down to 254 until the other is gone",
		"as 2.3"},
	{Releases, "up to 2.2 sends its next advertisement later, whenever as a master it drops somebody else's",
		"sends it when it is due",
		"whoever sends rubbish must not be able to silence a master"},
	{Releases, "up to 2.2 does not notice that a virtual route, or anything static, is removed",
		"comes back after the skew time, or puts it back",
		"as 2.3"},
	{Releases, "up to 2.2 knows track_src_ip without effect, and takes inet and inet6 in routes and rules for a mistake",
		"does what they say",
		"as 2.3"},
	{Scripts, "counts a tracked script that is found but cannot be executed as successful",
		"counts it as failed",
		"a check that does not run has not succeeded"},
	{Scripts, "reports a sync group before its members when it starts, and after them if a member had to wait for a script",
		"reports it before them in both cases",
		"a start is a start"},
	{Scripts, "runs scripts with the umask of its own files, 0177 unless umask says otherwise",
		"runs them with the umask that it was started with",
		"what a script writes is not the daemon's"},
	{Scripts, "up to 2.2 sends traps about the quorums that are there at its start, and at its end about all real servers and quorums",
		"sends none at its start, and at its end those about virtual servers with omega", "no server has failed or recovered"},
	{Scripts, "ends before the mails about its stop have been sent", "gives them a second",
		"the mail that somebody has stopped it is worth having"},
	{Scripts, "gives up a mail at the first trouble, and all its recipients if the server refuses one of them",
		"tries again for 10 minutes, and mails to those whom the server accepts",
		"the network is often in trouble at the very moment of which the mail tells"},
	{Scripts, "leaves out the FAULT of the other members of a sync group if it comes while the first results of scripts are awaited",
		"reports it for every member", "their state has changed"},
	{Checks, "reads whatever a server answers, for as long as it answers something within connect_timeout",
		"takes a server for failed that sends an HTTP header of more than 64 KiB or a body of more than 64 MiB (1 MiB with a regex), " +
			"or whose answer takes longer than delay_loop and longer than four times connect_timeout",
		"a server that never ends is not up, and must not take the memory of the director"},
	{Checks, "searches with PCRE2", "searches with an engine that has lookaround and back references, but no possessive quantifiers, " +
		"recursion and verbs; a pattern that it does not know is an error; a search has one second",
		"PCRE2 is a library in C"},
	{Checks, "makes all checks that are due at once", "makes at most 4096 at once, and runs 64 scripts at once; the next wait, and that is logged",
		"the director's memory and descriptors are bounded"},
	{Checks, "needs net.ipv4.ping_group_range for PING_CHECK", "takes a raw socket where that does not allow an unprivileged one",
		"there is nothing to set up"},
	{Checks, "up to 2.2 takes a greeting of several lines (220-) for a bad one", "reads replies of several lines, as RFC 5321 has them",
		"such a mail server is up"},
	{LifeCycle, "reloads what it can read of a file with errors, unless reload_check_config is given, and ends when it can use none of it",
		"changes nothing if there is any error, and says all of them",
		"a reload should not be able to take down what runs"},
	{LifeCycle, "sends an advertisement from every MASTER before it reloads",
		"sends nothing beyond its turn for what has not changed",
		"nothing about it has changed, and 500 instances would send at once"},
	{LifeCycle, "exits 5 from `-t` for whatever it logs, such as nopreempt with state MASTER",
		"exits 5 for errors and for words that are read otherwise than they are written, not for what it only advises against; " +
			"`hactl config check --strict` fails for all warnings",
		"advice is no failure"},
	{LifeCycle, "exits 0 from `-t` if the file is missing",
		"exits 6",
		"a test of nothing should not pass"},
	{LifeCycle, "writes its state to files in /tmp for whoever sends a signal",
		"writes them into the directory of its control socket, /run/had, each replaced as a whole, and follows no symbolic link; " +
			"`hactl status` answers at any time",
		"anybody can prepare a link in /tmp"},
	{LifeCycle, "leaves its addresses on the machine when its VRRP process is killed, until that one has been started again",
		"has a companion process that removes them and sends priority 0 when the daemon dies; there is nothing to turn it off",
		"until then the address would be on two machines"},
	{LifeCycle, "goes into the background unless it is told not to",
		"stays in the foreground, unless a unit of Type=forking with a PIDFile starts it, or a link called keepalived",
		"a program that vanishes from a terminal or a container surprises whoever started it"},
	{Leases, "becomes MASTER when it has heard no other router for long enough",
		"becomes MASTER when it has, and holds the lease of the group, which a majority of the cluster has granted; in between it is " +
			"BACKUP and sends nothing",
		"two nodes that do not hear each other must not both own the addresses"},
	{Leases, "stays MASTER while it is cut off from the others",
		"leaves MASTER when its lease ends, with nobody's help: the kernel shuts the addresses too",
		"the majority side has taken over by then"},
	{Leases, "takes over from an owner whose advertisements do not arrive, alive or not",
		"does not move the addresses while the owner renews its lease, and says whose advertisements are missing",
		"a filter between two nodes is no failure of either"},
	{Leases, "lets the router with the higher priority take over by an advertisement, while the old one still acts",
		"asks the old owner to give up, and takes over when it has: a handover of a few milliseconds",
		"at no instant may both answer"},
	{Leases, "goes through BACKUP when somebody removes one of its addresses, routes or rules",
		"puts it back, and keeps the lease",
		"to leave would only move the addresses to another node"},
	{Leases, "leaves its addresses in the kernel when it is killed or stopped",
		"withdraws them in the kernel when the lease ends, and removes what an earlier life left before it begins",
		"nobody in user space may be there to do it"},
	{Leases, "runs with one address in two instances that are in no sync group",
		"refuses it",
		"each group has a lease of its own, so that the address could have two owners"},
}
