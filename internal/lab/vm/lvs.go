package vm

// Balancing are the modules of IPVS and of what it forwards with, the lab's network and the guard. The kernel has no module for the
// scheduler twos.
var Balancing = []string{"veth", "bridge", "dummy", "nf_conntrack", "nf_tables", "nft_ct", "nft_numgen", "nft_meta_bridge", "nft_fib_inet",
	"ipip", "ip6_tunnel", "sit", "ip_gre", "ip6_gre", "fou", "fou6", "sctp",
	"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_lblc", "ip_vs_lblcr", "ip_vs_sh", "ip_vs_dh", "ip_vs_mh",
	"ip_vs_sed", "ip_vs_nq", "ip_vs_fo", "ip_vs_ovf", "ip_vs_pe_sip"}
