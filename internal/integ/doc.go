// Package integ holds tests with real daemons on a LAN of network namespaces, judged from outside by an observer that asks
// every millisecond who owns the virtual IP. They are built with the tag integ and run by `make integ`:
//
//	go test -tags integ ./internal/integ
//
// They need root or a kernel that lets users make namespaces. Where stock keepalived is installed it meets some of the same
// faults, and the output shows the difference. A test whose observer was not awake is played again, and fails in the end if
// it never was: void is not passed.
//
// The programs are those in the directory HAD_BIN; without it they are built first.
package integ
