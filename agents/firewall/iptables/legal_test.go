package iptables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/firewalltest"
	fw "etcpve/cfs/format/firewall"
)

// The words that rules may use, as cfs/format/firewall takes them.
var (
	protocolWords = strings.Fields(`all ip icmp igmp ggp ipencap st tcp egp igp pup udp hmp xns-idp rdp iso-tp4 dccp xtp
		ddp idpr-cmtp ipv6 ipv6-route ipv6-frag idrp rsvp gre esp ah skip ipv6-icmp icmpv6 ipv6-nonxt ipv6-opts rspf
		vmtp eigrp ospf ax.25 ipip etherip encap pim ipcomp vrrp l2tp isis sctp fc mobility-header udplite mpls-in-ip
		manet hip shim6 wesp rohc ethernet hopopt TCP UDP`)
	typeWords = map[string][]string{
		"icmp": strings.Fields(`any echo-reply pong destination-unreachable network-unreachable host-unreachable
			protocol-unreachable port-unreachable fragmentation-needed source-route-failed network-unknown host-unknown
			network-prohibited host-prohibited TOS-network-unreachable TOS-host-unreachable communication-prohibited
			host-precedence-violation precedence-cutoff source-quench redirect network-redirect host-redirect
			TOS-network-redirect TOS-host-redirect echo-request ping router-advertisement router-solicitation
			time-exceeded ttl-exceeded ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem
			ip-header-bad required-option-missing timestamp-request timestamp-reply address-mask-request
			address-mask-reply 0 3 3/1 8 008 010 08/09 255 255/255 254/0`),
		"ipv6-icmp": strings.Fields(`any destination-unreachable no-route communication-prohibited beyond-scope
			address-unreachable port-unreachable failed-policy reject-route packet-too-big time-exceeded ttl-exceeded
			ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem bad-header unknown-header-type
			unknown-option echo-request ping echo-reply pong router-solicitation router-advertisement
			neighbour-solicitation neighbor-solicitation neighbour-advertisement neighbor-advertisement redirect
			1 1/4 128 09 255 255/255`),
	}
)

// legalRules are rules of every kind that the files may hold.
func legalRules() (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for i, p := range protocolWords {
		add("IN ACCEPT -p %s", p)
		add("OUT %s -p %s -source 10.0.0.1,10.0.0.0/24 -log info", []string{"DROP", "REJECT"}[i%2], p)
		add("FORWARD DROP -p %s -dest fd00::1-fd00::ff -log debug", p)
	}
	for n := range 256 {
		add("IN DROP -p %d", n)
	}
	for _, p := range []string{"tcp", "udp", "udplite", "dccp", "sctp"} {
		for _, ports := range []string{"0", "80", "65535", "0:65535", "80,443", "80,100:200,ssh", "http", "00080",
			"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "1:2,3:4,5:6,7:8,9:10,11:12,13:14,15:16"} {
			add("IN REJECT -p %s -dport %s", p, ports)
			add("IN REJECT -p %s -sport %s -dport 1", p, ports)
			add("OUT ACCEPT -p %s -sport %s -source +both -dest +dc/both", p, ports)
		}
	}
	for p, kinds := range typeWords {
		for _, kind := range kinds {
			add("IN ACCEPT -p %s -icmp-type %s", p, kind)
			add("OUT DROP -p %s -dport %s -log emerg", p, kind)
		}
	}
	for _, m := range fw.Macros() {
		for _, action := range []string{"ACCEPT", "DROP", "REJECT"} {
			add("IN %s(%s) -log warning", m.Name, action)
			add("OUT %s(%s) -source any4", m.Name, action)
			add("FORWARD %s(%s) -dest +both", m.Name, action)
		}
	}
	for _, a := range []string{"0.0.0.0/0", "::/0", "0.0.0.0", "::", "255.255.255.255", "10.0.0.1-10.0.0.1",
		"0.0.0.0-255.255.255.255", "any4", "dc/any6", "local_network", "+management", "+blacklist"} {
		add("IN DROP -source %s", a)
		add("OUT DROP -dest %s -log notice", a)
	}
	return list
}

// legalCluster is a cluster.fw with all legal rules, for the node and in a group.
func legalCluster() string {
	rules := strings.Join(legalRules(), "\n")
	return "[OPTIONS]\nenable: 1\npolicy_forward: DROP\nlog_ratelimit: enable=1,rate=999999999999/second,burst=99999999999\n" +
		"[ALIASES]\nany4 10.0.0.0/8\nany6 fd00::/64\n" +
		"[IPSET both]\n10.0.0.0/8\n!10.0.0.1\nfd00::/64\n! fd00::1\n0.0.0.0/0\n::/0\n10.0.0.0-10.0.0.77\nany4\n" +
		"[IPSET blacklist]\n192.0.2.0/24\n" +
		"[IPSET a-name-as-long-as-it-may-be-in-a-file-but-not-in-the-kernel-0123]\n10.0.0.1\n" +
		"[GROUP all-legal-rules-01]\n" + rules +
		// Refused on save, but a tree that is adopted may hold it.
		"\n[IPSET both]\n10.7.0.0/16\n[GROUP all-legal-rules-01]\nIN DROP\n[IPSET management]\n[IPSET management]\n10.7.0.0/16\n" +
		"[RULES]\nGROUP all-legal-rules-01 -i no_interface_has_it\nGROUP all-legal-rules-01\nGROUP all-legal-rules-01 -i eth0.12\n" +
		"IN DROP -i no_interface_has_it\n" + rules + "\n"
}

const legalHost = "[OPTIONS]\nprotection_synflood: 1\nprotection_synflood_rate: 999999999999999999\nprotection_synflood_burst: 999999999999999999\n" +
	"nf_conntrack_helpers: amanda,ftp,irc,netbios-ns,pptp,sane,sip,snmp,tftp\ntcpflags: 1\nlog_level_in: debug\nsmurf_log_level: info\ntcp_flags_log_level: err\n"

// legalGuests have NICs as configurations may write them, and rules of every kind.
func legalGuests() (list []firewall.Guest) {
	content := "[OPTIONS]\nenable: 1\nipfilter: 1\nradv: 0\npolicy_out: REJECT\nlog_level_in: info\nlog_level_out: info\n" +
		"[ALIASES]\nany4 10.9.0.0/16\n[IPSET ipfilter-net1]\n10.0.0.0/24\n!10.0.0.7\nfd00::/64\n0.0.0.0/0\n[IPSET both]\n10.1.0.0/16\n" +
		"[RULES]\n" + strings.Join(legalRules(), "\n") + "\nGROUP all-legal-rules-01 -i net1\nIN ACCEPT -i net31 -source guest/any4\n"
	for i, vmid := range []uint32{100, 999999999} {
		list = append(list, firewall.Guest{VMID: vmid, Container: i == 1,
			Rules: fw.Parse(fw.Guest, fmt.Sprintf("%d.fw", vmid), content),
			NICs: []firewall.NIC{
				{Number: 0, MAC: "BC:24:11:00:00:01", Bridge: "vmbr0", Firewall: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24"), netip.MustParsePrefix("fd00::5/64")}},
				{Number: 1, MAC: "bc:24:11:0a:00:02", Bridge: "vmbr1", Firewall: true},
				{Number: 31, Bridge: "vmbr1", Firewall: true},
			}})
	}
	return list
}

// TestEveryLegalRuleLoads brings into the kernel whatever the files may ask for.
// A single line that a tool refuses would keep every other change away.
func TestEveryLegalRuleLoads(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	in := firewall.Input{
		Cluster: fw.Parse(fw.Cluster, "cluster.fw", legalCluster()),
		Host:    fw.Parse(fw.Host, "host.fw", legalHost),
		Guests:  legalGuests(),
		VNets:   []firewall.VNet{{Name: "vnet1234", Rules: fw.Parse(fw.VNet, "vnet1234.fw", "[OPTIONS]\nenable: 1\n[RULES]\nFORWARD DROP -p udplite -dport 1\n")}},
	}
	for _, p := range append(in.Cluster.Problems, in.Host.Problems...) {
		if p.Message != "the rule mixes IPv4 and IPv6" && !strings.Contains(p.Message, "twice") {
			t.Error(p)
		}
	}
	want, _ := firewall.Compile(in)
	for name, d := range drivers(t) {
		reach(t, d, want)
		if again := reach(t, d, want); len(again) > 0 {
			t.Errorf("%s: not content with its own rule set: %q", name, again)
		}
		reach(t, d, &firewall.Ruleset{})
	}
}
