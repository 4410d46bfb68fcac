// Package operation holds tests of what people and machines do to a running cluster besides the faults of package integ:
// mistakes in files, disks that are full or stand still, interfaces that come late, data that is damaged or lost, signals,
// and the commands of hactl; and what a cluster costs when nothing happens. They run the real daemons on a LAN of network
// namespaces, are built with the tag integ, and are run by `make integ`:
//
//	make build && go test -tags integ ./internal/operation
//
// They need root, and mkfs.ext4 for the disks. The programs are those in bin, or in the directory HAD_BIN. Several sites
// play at the same time, each on a LAN of its own.
//
// Where a test claims that an owner kept its address, the observer on the client says so: one owner all the time, and no
// request unanswered for longer than a busy machine explains. What is asserted about messages is what an operator needs to
// act: the name, the file, the place, the cause.
package operation
