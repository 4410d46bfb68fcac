// Package cli is hactl: the command tree, what it prints, and its exit codes.
//
// The answer goes to stdout, everything else to stderr. Every failure is an api.Problem, printed as what failed, why,
// and the next command; its kind is the exit code. Run takes everything that it touches as an argument, so that tests
// run it in their own process.
package cli
