// Package demo plays failures on a real cluster inside one machine and shows what a client sees: the command `hactl demo`.
//
// It starts two directors (had) and a witness (hawitness) as processes of their own on the hosts of a lab, and an observer
// that asks for the virtual IP by ARP and ping every millisecond. Each phase does one thing to the cluster, waits for the
// outcome, and prints how long nobody answered, how long two did, and a timeline. A phase in which the observer was not
// awake is repeated: it proves nothing.
//
// Everything happens inside the namespaces of [lab.Enter], with all files on a tmpfs in there, so nothing is left behind,
// however the demonstration ends.
package demo
