package firewall

import (
	"regexp"
	"strconv"
	"strings"
)

// protocols are the numbers of the protocols that rules may name, from IANA's list.
var protocols = numbers(`all 0 ip 0 hopopt 0 icmp 1 igmp 2 ggp 3 ipencap 4 st 5 tcp 6 egp 8 igp 9 pup 12 udp 17 hmp 20
	xns-idp 22 rdp 27 iso-tp4 29 dccp 33 xtp 36 ddp 37 idpr-cmtp 38 ipv6 41 ipv6-route 43 ipv6-frag 44 idrp 45 rsvp 46
	gre 47 esp 50 ah 51 skip 57 ipv6-icmp 58 icmpv6 58 ipv6-nonxt 59 ipv6-opts 60 rspf 73 vmtp 81 eigrp 88 ospf 89
	ax.25 93 ipip 94 etherip 97 encap 98 pim 103 ipcomp 108 vrrp 112 l2tp 115 isis 124 sctp 132 fc 133
	mobility-header 135 udplite 136 mpls-in-ip 137 manet 138 hip 139 shim6 140 wesp 141 rohc 142 ethernet 143`)

// ported are the protocols with ports, by name and by number.
var ported = set("tcp 6 udp 17 udplite 136 dccp 33 sctp 132")

// ICMP types by the names that iptables knows.
var (
	icmpTypes = set(`any echo-reply pong destination-unreachable network-unreachable host-unreachable
		protocol-unreachable port-unreachable fragmentation-needed source-route-failed network-unknown host-unknown
		network-prohibited host-prohibited TOS-network-unreachable TOS-host-unreachable communication-prohibited
		host-precedence-violation precedence-cutoff source-quench redirect network-redirect host-redirect
		TOS-network-redirect TOS-host-redirect echo-request ping router-advertisement router-solicitation
		time-exceeded ttl-exceeded ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem ip-header-bad
		required-option-missing timestamp-request timestamp-reply address-mask-request address-mask-reply`)
	icmp6Types = set(`any destination-unreachable no-route communication-prohibited beyond-scope address-unreachable
		port-unreachable failed-policy reject-route packet-too-big time-exceeded ttl-exceeded ttl-zero-during-transit
		ttl-zero-during-reassembly parameter-problem bad-header unknown-header-type unknown-option echo-request ping
		echo-reply pong router-solicitation router-advertisement neighbour-solicitation neighbor-solicitation
		neighbour-advertisement neighbor-advertisement redirect`)
	icmpNumber = regexp.MustCompile(`^(\d{1,3})(?:/(\d{1,3}))?$`)
)

func set(words string) map[string]bool {
	s := map[string]bool{}
	for _, w := range strings.Fields(words) {
		s[w] = true
	}
	return s
}

func numbers(words string) map[string]int {
	table, fields := map[string]int{}, strings.Fields(words)
	for i := 0; i+1 < len(fields); i += 2 {
		table[fields[i]], _ = strconv.Atoi(fields[i+1])
	}
	return table
}

// ProtocolNumber returns the number of a protocol, given by name or number; -1 if
// there is none such.
func ProtocolNumber(p string) int {
	if n, ok := protocols[strings.ToLower(p)]; ok {
		return n
	}
	if n, err := strconv.ParseUint(p, 10, 8); err == nil {
		return int(n)
	}
	return -1
}

// IsProtocol reports whether a rule may ask for protocol p: a name or a number.
func IsProtocol(p string) bool {
	if n, err := strconv.ParseUint(p, 10, 8); err == nil {
		return strconv.FormatUint(n, 10) == p
	}
	_, ok := protocols[strings.ToLower(p)]
	return ok
}

// HasPorts reports whether protocol p has ports.
func HasPorts(p string) bool { return ported[strings.ToLower(p)] }

// icmpFamily returns 4 or 6 if p is ICMP of that family, else 0.
func icmpFamily(p string) int {
	switch p {
	case "icmp":
		return 4
	case "icmpv6", "ipv6-icmp":
		return 6
	}
	return 0
}

// IsICMPType reports whether value is a type of the ICMP protocol proto, by
// name, number or number/code.
func IsICMPType(proto, value string) bool {
	if m := icmpNumber.FindStringSubmatch(value); m != nil {
		kind, _ := strconv.Atoi(m[1])
		code, _ := strconv.Atoi(m[2])
		return kind <= 255 && code <= 255
	}
	if icmpFamily(proto) == 6 {
		return icmp6Types[value]
	}
	return icmpTypes[value]
}

// services are the names that ports may be given by, from IANA's registry.
var services = portTable(`tcpmux 1 echo 7 discard 9 systat 11 daytime 13 netstat 15 qotd 17 chargen 19 ftp-data 20 ftp 21
	ssh 22 telnet 23 smtp 25 mail 25 time 37 whois 43 tacacs 49 domain 53 dns 53 bootps 67 bootpc 68 tftp 69 gopher 70 finger 79
	http 80 www 80 kerberos 88 iso-tsap 102 acr-nema 104 pop3 110 pop-3 110 sunrpc 111 portmapper 111 auth 113 nntp 119
	ntp 123 epmap 135 netbios-ns 137 netbios-dgm 138 netbios-ssn 139 imap2 143 imap 143 snmp 161 snmp-trap 162
	snmptrap 162 cmip-man 163 cmip-agent 164 mailq 174 xdmcp 177 bgp 179 smux 199 qmtp 209 z3950 210 ipx 213
	ptp-event 319 ptp-general 320 pawserv 345 zserv 346 rpc2portmap 369 codaauth2 370 clearcase 371 ldap 389
	svrloc 427 https 443 snpp 444 microsoft-ds 445 kpasswd 464 submissions 465 smtps 465 ssmtp 465 urd 465 saft 487 isakmp 500 exec 512
	biff 512 login 513 who 513 shell 514 syslog 514 printer 515 talk 517 ntalk 518 route 520 gdomap 538 uucp 540
	klogin 543 kshell 544 dhcpv6-client 546 dhcpv6-server 547 afpovertcp 548 rtsp 554 nntps 563 nqs 607
	submission 587 ipp 631 ldaps 636 ldp 646 tinc 655 silc 706 kerberos-adm 749 domain-s 853 rsync 873 ftps-data 989
	ftps 990 telnets 992 imaps 993 pop3s 995 socks 1080 proofd 1093 rootd 1094 openvpn 1194 rmiregistry 1099
	lotusnote 1352 ms-sql-s 1433 ms-sql-m 1434 ingreslock 1524 datametrics 1645 sa-msg-port 1646 kermit 1649
	groupwise 1677 l2f 1701 l2tp 1701 radius 1812 radius-acct 1813 msnp 1863 cisco-sccp 2000 nfs 2049 gnunet 2086 rtcm-sc104 2101
	gsigatekeeper 2119 gris 2135 cvspserver 2401 venus 2430 mon 2583 zebra 2600 ripd 2602 ospfd 2604 bgpd 2605
	iscsi-target 3260 mysql 3306 ms-wbt-server 3389 rdp 3389 nut 3493 distcc 3632 daap 3689 svn 3690 suucp 4031 sieve 4190
	epmd 4369 f5-globalsite 2792 mdns 5353 sip 5060 sip-tls 5061 xmpp-client 5222 xmpp-server 5269 postgresql 5432
	amqp 5672 amqps 5671 freeciv 5556 x11 6000 gnutella-svc 6346 redis 6379 ircs-u 6697 ircd 6667 afs3-fileserver 7000
	http-alt 8080 webcache 8080 puppet 8140 bacula-dir 9101 bacula-fd 9102 bacula-sd 9103 git 9418 zabbix-agent 10050
	zabbix-trapper 10051 amanda 10080 webmin 10000 hkp 11371 nbd 10809 bprd 13720`)

func portTable(words string) map[string]uint16 {
	table := map[string]uint16{}
	for name, port := range numbers(words) {
		table[name] = uint16(port)
	}
	return table
}
