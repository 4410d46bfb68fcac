package controltest

import "github.com/hactl/had/internal/control/api"

// Services are two virtual services of the cluster edge: one of the group VI_WEB, of which lb2 disagrees about a server, one
// server is drained and one has a weight that was set by hand, and which differs from the file of lb1; and one of no group.
func Services() api.GatheredLVS {
	weight := uint32(7)
	web := api.LVSRecord{LVSText: api.LVSText{Key: "TCP 192.0.2.10:80", Text: "virtual_server 192.0.2.10 80 {\n    lb_algo wlc\n}\n",
		Servers: []api.LVSServerText{{Key: "10.0.0.1:80", Text: "    real_server 10.0.0.1 80 {\n    }\n"},
			{Key: "10.0.0.2:80", Text: "    real_server 10.0.0.2 80 {\n    }\n"},
			{Key: "10.0.0.3:80", Text: "    real_server 10.0.0.3 80 {\n    }\n", Weight: &weight}}},
		Version: 41, File: "lb1", Since: ago(day),
		Marks: []api.LVSMark{{Found: &api.LVSVerdict{Up: true, Node: "lb1", At: ago(hour)}},
			{Drained: &api.LVSDrain{Since: ago(minute), Until: ago(-hour), By: "alice", Reason: "new fan"},
				Found: &api.LVSVerdict{Up: true, Node: "lb1", At: ago(hour)}},
			{Found: &api.LVSVerdict{Reason: "connection refused", Node: "lb1", At: ago(2 * minute)}}}}
	dns := api.LVSRecord{LVSText: api.LVSText{Key: "UDP 198.51.100.1:53", Text: "virtual_server 198.51.100.1 53 {\n}\n",
		Servers: []api.LVSServerText{{Key: "10.0.0.9:53", Text: "    real_server 10.0.0.9 53 {\n    }\n"}}},
		Version: 44, Since: ago(minute), By: "bob", Reason: "trial", Marks: []api.LVSMark{{}}}
	file := web.LVSText
	file.Text = "virtual_server 192.0.2.10 80 {\n    lb_algo rr\n}\n"
	view := func(node string, owner bool) *api.NodeLVS {
		up, down := &api.LVSVerdict{Up: true}, &api.LVSVerdict{Reason: "timeout"}
		first := up
		if !owner {
			first = down
		}
		return &api.NodeLVS{Node: node, Version: 44, Services: []api.NodeService{
			{Key: web.Key, Group: "VI_WEB", Owner: owner, Quorum: true, Servers: []api.NodeServer{
				{Key: "10.0.0.1:80", Found: first, Serves: true, InKernel: true, Weight: 1, Active: 12, Inactive: 3},
				{Key: "10.0.0.2:80", Found: up, Serves: true, InKernel: true, Active: 2},
				{Key: "10.0.0.3:80", Found: down, Weight: 7}}},
			{Key: dns.Key, Quorum: true, Servers: []api.NodeServer{{Key: "10.0.0.9:53", Found: up, Serves: true, InKernel: true, Weight: 1}}},
		}}
	}
	self, other := view("lb1", true), view("lb2", false)
	self.File = []api.LVSText{file}
	other.Kernel = []string{"edit server 10.0.0.1:80 of TCP 192.0.2.10:80"}
	return api.GatheredLVS{At: api.At(Now), Node: "lb1", Cluster: "edge", Consistent: true,
		Table: api.LVSTable{Version: 44, Services: []api.LVSRecord{web, dns}}, Self: self,
		Peers: []api.LVSPeer{{Name: "lb2", View: other}}}
}
