package firewall

import "strings"

// A Macro is a name for one or more rules.
type Macro struct {
	Name  string
	Rules []MacroRule
	IPv6  bool // for IPv6 only
}

// A MacroRule is what one rule of a macro asks for; the other options of the
// rule that names the macro are added to it.
type MacroRule struct {
	Proto        string
	Dport, Sport string // lists are joined by commas
	ICMPType     string
}

// Macros returns all macros by name without regard to case: "SSH(ACCEPT)".
func Macros() []Macro { return macros }

// FindMacro returns the macro of that name, whatever its case.
func FindMacro(name string) (Macro, bool) {
	m, ok := macroIndex[strings.ToLower(name)]
	return m, ok
}

var (
	macros     = readMacros(macroTable)
	macroIndex = indexMacros(macros)
)

func indexMacros(all []Macro) map[string]Macro {
	index := make(map[string]Macro, len(all))
	for _, m := range all {
		index[strings.ToLower(m.Name)] = m
	}
	return index
}

// readMacros reads the table below: rules are joined by " + "; each is a
// protocol with its ports, "from" before source ports, "protocol N", or ICMP
// with a type.
func readMacros(table [][2]string) []Macro {
	all := make([]Macro, 0, len(table))
	for _, row := range table {
		m := Macro{Name: row[0]}
		for _, part := range strings.Split(row[1], " + ") {
			words := strings.Fields(part)
			rule := MacroRule{Proto: words[0]}
			switch {
			case rule.Proto == "protocol":
				rule.Proto = words[1]
			case icmpFamily(rule.Proto) != 0:
				rule.ICMPType = words[1]
			default:
				rule.Dport = words[1]
			}
			if len(words) == 4 {
				rule.Sport = words[3]
			}
			m.IPv6 = m.IPv6 || icmpFamily(rule.Proto) == 6 || m.Name == "DHCPv6"
			m.Rules = append(m.Rules, rule)
		}
		all = append(all, m)
	}
	return all
}

var macroTable = [][2]string{
	{"Amanda", "udp 10080 + tcp 10080"},
	{"Auth", "tcp 113"},
	{"BGP", "tcp 179"},
	{"BitTorrent", "tcp 6881:6889 + udp 6881"},
	{"BitTorrent32", "tcp 6881:6999 + udp 6881"},
	{"Ceph", "tcp 6789 + tcp 3300 + tcp 6800:7300"},
	{"Citrix", "tcp 1494 + udp 1604 + tcp 2598"},
	{"CVS", "tcp 2401"},
	{"DAAP", "tcp 3689 + udp 3689"},
	{"DCC", "tcp 6277"},
	{"DHCPfwd", "udp 67:68 from 67:68"},
	{"DHCPv6", "udp 546:547 from 546:547"},
	{"Distcc", "tcp 3632"},
	{"DNS", "udp 53 + tcp 53"},
	{"Finger", "tcp 79"},
	{"FTP", "tcp 21"},
	{"Git", "tcp 9418"},
	{"GNUnet", "tcp 2086 + udp 2086 + tcp 1080 + udp 1080"},
	{"GRE", "protocol 47"},
	{"HKP", "tcp 11371"},
	{"HTTP", "tcp 80"},
	{"HTTPS", "tcp 443"},
	{"ICPV2", "udp 3130"},
	{"ICQ", "tcp 5190"},
	{"IMAP", "tcp 143"},
	{"IMAPS", "tcp 993"},
	{"IPIP", "protocol 94"},
	{"IPsec", "udp 500 from 500 + protocol 50"},
	{"IPsecah", "udp 500 from 500 + protocol 51"},
	{"IPsecnat", "udp 500 + udp 4500 + protocol 50"},
	{"IRC", "tcp 6667"},
	{"Jetdirect", "tcp 9100"},
	{"L2TP", "udp 1701"},
	{"LDAP", "tcp 389"},
	{"LDAPS", "tcp 636"},
	{"Mail", "tcp 25 + tcp 465 + tcp 587"},
	{"MDNS", "udp 5353"},
	{"MSNP", "tcp 1863"},
	{"MSSQL", "tcp 1433"},
	{"Munin", "tcp 4949"},
	{"MySQL", "tcp 3306"},
	{"NeighborDiscovery", "icmpv6 router-solicitation + icmpv6 router-advertisement + icmpv6 neighbor-solicitation + icmpv6 neighbor-advertisement"},
	{"NNTP", "tcp 119"},
	{"NNTPS", "tcp 563"},
	{"NTP", "udp 123"},
	{"OpenVPN", "udp 1194"},
	{"OSPF", "protocol 89"},
	{"PCA", "udp 5632 + tcp 5631"},
	{"Ping", "icmp echo-request"},
	{"PMG", "tcp 8006"},
	{"POP3", "tcp 110"},
	{"POP3S", "tcp 995"},
	{"PostgreSQL", "tcp 5432"},
	{"PPtP", "protocol 47 + tcp 1723"},
	{"Printer", "tcp 515"},
	{"Razor", "tcp 2703"},
	{"Rdate", "tcp 37"},
	{"RDP", "tcp 3389"},
	{"RIP", "udp 520"},
	{"RNDC", "tcp 953"},
	{"Rsync", "tcp 873"},
	{"SANE", "tcp 6566"},
	{"SixXS", "tcp 3874 + udp 3740 + protocol 41 + udp 5072,8374"},
	{"SMB", "udp 135,445 + udp 137:139 + udp 1024:65535 from 137 + tcp 135,139,445"},
	{"SMBswat", "tcp 901"},
	{"SMTP", "tcp 25"},
	{"SMTPS", "tcp 465"},
	{"SNMP", "udp 161:162 + tcp 161"},
	{"SPAMD", "tcp 783"},
	{"SPICEproxy", "tcp 3128"},
	{"Squid", "tcp 3128"},
	{"SSH", "tcp 22"},
	{"Submission", "tcp 587"},
	{"SVN", "tcp 3690"},
	{"Syslog", "udp 514 + tcp 514"},
	{"Telnet", "tcp 23"},
	{"Telnets", "tcp 992"},
	{"TFTP", "udp 69"},
	{"Time", "tcp 37"},
	{"Trcrt", "udp 33434:33524 + icmp echo-request"},
	{"VNC", "tcp 5900:5999"},
	{"VNCL", "tcp 5500"},
	{"Web", "tcp 80 + tcp 443"},
	{"Webcache", "tcp 8080"},
	{"Webmin", "tcp 10000"},
	{"Whois", "tcp 43"}}
