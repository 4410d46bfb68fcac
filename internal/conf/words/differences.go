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
	Scripts   Area = "Scripts and notification"
	LifeCycle Area = "Life cycle"
	Leases    Area = "With a cluster block"
)

// Areas returns all areas in the order of the page.
func Areas() []Area { return []Area{Reading, VRRP, Scripts, LifeCycle, Leases} }

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
	{Reading, "reads a file that includes itself without end",
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
	{Scripts, "counts a tracked script that is found but cannot be executed as successful",
		"counts it as failed",
		"a check that does not run has not succeeded"},
	{LifeCycle, "exits 5 from `-t` for a mere warning, such as nopreempt with state MASTER",
		"exits 5 for errors only; `hactl config check --strict` fails for warnings too",
		"a warning loads, and says what is lost"},
	{LifeCycle, "exits 0 from `-t` if the file is missing",
		"exits 6",
		"a test of nothing should not pass"},
	{LifeCycle, "writes its state to a file in /tmp for whoever sends a signal",
		"answers `hactl status` and `hactl why`, at any time, with JSON for programs",
		"a file says neither when it was written nor whether it is complete"},
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
