package words

// ownTables holds the words that had adds to keepalived's blocks.
var ownTables = []table{
	{
		block: "global_defs", kind: Keyword, own: true,
		rows: []entry{
			{"smtp_tls", "starttls|implicit [CA_FILE]", "", "none: as keepalived", "starttls, implicit", 2,
				"Mail is sent with TLS only, and only to a server whose certificate is good for smtp_server; CA_FILE replaces the system's authorities"},
			{"smtp_login", "USER PASSWORD", "", "none", "needs smtp_tls", 2,
				"Login at the mail server (AUTH PLAIN)"},
			{"snmp_trap", "ADDR|HOST [PORT] { block }", "", "none; port 162", "may occur several times", 2,
				"Receiver of traps, which had sends itself; enable_traps and the enable_snmp words say which"},
		},
	},
	{
		block: "virtual_server/real_server/SSL_GET", kind: Keyword, own: true,
		rows: []entry{
			{"tls_verify", "[BOOL]", "", "false: as keepalived", "BOOL", 2,
				"The server's certificate must be good for its sni_name, or without one for its address; the CA of the SSL block replaces the system's authorities"},
		},
	},
	{
		block: "virtual_server/real_server/HTTP_GET/http_protocol", kind: Value, own: true,
		rows: []entry{
			{"2", "", "", "", "", 2,
				"HTTP/2; with HTTP_GET without negotiation"},
		},
	},
	{
		block: "global_defs/snmp_trap", kind: Keyword, own: true,
		rows: []entry{
			{"community", "STRING", "", "public", "", 2,
				"Traps are of version 2c with this community"},
			{"user", "NAME", "", "none: version 2c", "at most 32 bytes", 2,
				"Traps are of version 3 with this user of the security model USM"},
			{"auth", "MD5|SHA|SHA224|SHA256|SHA384|SHA512 PASSWORD", "", "none", "at least 8 characters", 2,
				"Authentication of the user's traps"},
			{"priv", "DES|AES PASSWORD", "", "none", "at least 8 characters; needs auth", 2,
				"Encryption of the user's traps"},
			{"engine_id", "HEX", "", "80002572 04 and the router_id", "5..32 bytes", 3,
				"Engine ID of this sender, which the receiver of version 3 must know"},
		},
	},
}
