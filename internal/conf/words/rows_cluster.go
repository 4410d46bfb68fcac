package words

// clusterTables holds the cluster block, which keepalived does not know.
var clusterTables = []table{
	{
		block: Root, kind: Keyword, own: true,
		rows: []entry{
			{"cluster", "{ block }", "", "none: as keepalived", "one only", 1,
				"Gives virtual addresses to whoever holds a lease that a majority of the peers has granted"},
		},
	},
	{
		block: "cluster", kind: Keyword, own: true,
		rows: []entry{
			{"name", "NAME", "", "", "letters, digits, . _ -; at most 63", 1,
				"Name of the cluster, the same on every member"},
			{"node", "NAME", "", "host name", "name of a peer", 1,
				"Which of the peers this machine is"},
			{"key_file", "PATH", "", "/etc/had/cluster.key", "absolute", 1,
				"Secret of the cluster, made by hactl keygen; keys of transport and gossip derive from it"},
			{"data_dir", "PATH", "", "/var/lib/had", "absolute", 1,
				"Directory of the replicated log and of what must survive a restart"},
			{"port", "INT", "", "7770", "1..65534", 1,
				"TCP port of log, leases and forwarding; gossip uses the next one, TCP and UDP"},
			{"lease", "DEC", "s", "2.5 x the smallest advert_int, at least 0.3", "0.3..3600", 1,
				"How long an owner may go on after the last acknowledgement of a majority"},
			{"peer", "NAME { block }", "", "", "unique; one of them this machine", 1,
				"A member of the cluster, this machine included"},
			{"gateway", "ADDR { block }", "", "none", "unique", 2,
				"Address that every director probes; one that cannot reach it is not eligible while another can"},
			{"gateway_require", "any|all", "", "any", "any, all", 3,
				"Whether one gateway is enough where there are several"},
			{"quorum_loss", "demote|hold", "", "demote", "demote, hold", 2,
				"What an owner does without a majority: give up, or keep its addresses unprotected while a gateway answers"},
			{"arbitration", "majority|gateway", "", "majority", "majority, gateway", 2,
				"Who decides between two nodes without a witness: nobody, or the gateway, without protection from two owners"},
			{"guard", "nftables|lifetime|none", "", "nftables", "nftables, lifetime, none", 2,
				"What keeps an address from being used in the kernel once its lease has ended"},
			{"control_socket", "PATH", "", "/run/had/had.sock", "absolute, at most 107 bytes", 2,
				"Unix socket for hactl"},
		},
	},
	{
		block: "cluster/peer", kind: Keyword, own: true,
		rows: []entry{
			{"address", "ADDR", "", "", "unique", 1,
				"Address at which the other members reach this peer"},
			{"witness", "", "", "off", "", 1,
				"The peer only votes; it runs hawitness"},
		},
	},
	{
		block: "cluster/gateway", kind: Keyword, own: true,
		rows: []entry{
			{"interval", "DEC", "s", "1", "0.1..3600", 2,
				"Time between two probes"},
			{"timeout", "DEC", "s", "interval, at most 1", "0.01..3600", 2,
				"Time after which a probe counts as failed; at most interval"},
			{"fall", "INT", "", "3", "1..255", 2,
				"Failed probes in a row that make the gateway unreachable"},
			{"rise", "INT", "", "2", "1..255", 2,
				"Answered probes in a row that make it reachable again"},
			{"method", "icmp|arp", "", "icmp", "icmp, arp", 2,
				"How to probe; arp means neighbour solicitation for IPv6 and needs an interface"},
			{"interface", "IF", "", "by route", "at most 15 characters", 2,
				"Interface on which to probe"},
		},
	},
}
