// Package notify runs the scripts of the configuration, those that track something and those that are told of changes,
// and writes changes to named pipes. Arguments, order and text are keepalived's.
//
// Nothing here blocks its caller: every script has a goroutine of its own, and a pipe that is full loses lines. A script
// runs in its own process group, with its standard streams on /dev/null, without the variables that could change what a
// program does (IFS, LD_PRELOAD, LD_LIBRARY_PATH), as the user configured for it. It is sent SIGTERM by the kernel when
// this process dies. Since its output goes to /dev/null, a program that it leaves behind never meets a closed pipe.
//
// One thing is not as in keepalived: there a tracked script that cannot be executed counts as a success. Here it is
// a failure, because what cannot be checked must not be taken for healthy.
package notify
