// Package balance tests load balancing in a virtual machine whose kernel has IPVS: directors with had and with stock keepalived side
// by side, real servers and clients, each a network namespace (make vm).
package balance
