// Package clustered tests load balancing by a cluster in a virtual machine whose kernel has IPVS: two directors and a witness,
// real servers and clients, each a network namespace (make vm).
package clustered
