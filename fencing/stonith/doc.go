// Package stonith switches machines off through fence agents: programs of the ClusterLabs fence-agent API, of which
// distributions carry a hundred (fence_ipmilan, fence_redfish, fence_apc, ...), or a plain command.
//
// An agent gets its options and the action as lines name=value on its standard input; no password is ever an argument or
// part of an error. Its exit code is the answer. A run that takes too long is a failure, never a success: the whole
// process group is killed. Output is read up to a bound and shown as one line.
//
// Off is believed only when the same agent, asked for the status afterwards, says that the machine is off. Agents that do
// not offer a status, and commands, are believed by their exit code alone; Outcome.Verified tells.
//
// Everything here blocks for as long as the machines that are asked take, so it is called from goroutines of its own.
package stonith
