// Package lab builds a small LAN inside one machine: a switch, hosts with an address each, processes that run on those
// hosts, and the faults that a LAN, a host and a process can have. The demonstration and the tests with real daemons
// stand on it.
//
// Every host is a network namespace without a name, and so is the switch. A namespace is held by a descriptor and a
// thread of this process, so all of it disappears with the process, however that ends. No other program is started:
// links and addresses go through rtnetlink, filters through nftables' bridge family, both from the standard netlink
// libraries.
//
// # Layers
//
//   - [Main] (and [Enter] below it) runs the program once more inside new PID, mount, network and, without root, user
//     namespaces. The outer process only waits and passes signals on. When it dies, however it dies, the kernel ends the
//     inner process, which is number 1 of its PID namespace, and with it every process that was started there. /run is
//     a private tmpfs inside, so files disappear as well.
//   - [New] makes a [Lab]: the switch. [Lab.AddHost] plugs a [Host] into it.
//   - [Host.Start] runs a program on a host ([Proc]); [Host.Do] runs a function there.
//   - Faults ([Lab.CutPort], [Lab.LinkDown], [Lab.Drop] and its relatives) return a [Fault] that can be healed, alone or
//     by [Lab.HealAll].
//
// # Goroutines
//
// One goroutine per host and one for the switch, each locked to a thread that lives in the namespace: it runs what
// [Host.Do] hands it, one function at a time. One goroutine per running process waits for its end. All of them end with
// [Lab.Close]. Every exported method may be called from any goroutine.
package lab
