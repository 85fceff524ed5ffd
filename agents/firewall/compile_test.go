package firewall_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/firewalltest"
	"etcpve/agents/firewall/iptables"
	fw "etcpve/cfs/format/firewall"
)

func parse(scope fw.Scope, content string) *fw.Document { return fw.Parse(scope, "x.fw", content) }

// node returns a node with one guest.
func node(cluster, host, guest string) firewall.Input {
	in := firewall.Input{Cluster: parse(fw.Cluster, cluster), Host: parse(fw.Host, host)}
	in.Node.LocalNetworks = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
	in.Guests = []firewall.Guest{{VMID: 100, Rules: parse(fw.Guest, guest), NICs: []firewall.NIC{
		{Number: 0, MAC: "BC:24:11:00:00:01", Bridge: "vmbr0", Firewall: true},
		{Number: 1, MAC: "BC:24:11:00:00:02", Bridge: "vmbr0"},
	}}}
	return in
}

const on = "[OPTIONS]\nenable: 1\n"

// lines returns the rules of a chain as text.
func lines(t *testing.T, in firewall.Input, family firewall.Family, table, chain string) []string {
	t.Helper()
	r, _ := firewall.Compile(in)
	c, ok := r.Table(family, table).Chains[chain]
	if !ok {
		t.Fatalf("no chain %s in:\n%s", chain, r)
	}
	return strings.Split(strings.TrimSuffix(c.Text(chain), "\n"), "\n")
}

func TestRulesAreWrittenAsTheToolsTakeThem(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     firewall.Input
		family firewall.Family
		table  string
		chain  string
		want   []string // all of them are in the chain, in this order
	}{
		{"a log comes before its rule, with guest, level and chain", node(on, "", on+"[RULES]\nIN DROP -p tcp -dport 25 -log warning\n"),
			firewall.IPv4, "filter", "tap100i0-IN", []string{
				`-A tap100i0-IN -p tcp --dport 25 -m limit --limit 1/second --limit-burst 5 -j NFLOG --nflog-prefix ":100:4:tap100i0-IN: DROP: "`,
				"-A tap100i0-IN -p tcp --dport 25 -j DROP",
			}},
		{"the log of a policy", node(on+"log_ratelimit: 1,rate=5/minute,burst=2\npolicy_in: REJECT\n", "[OPTIONS]\nlog_level_in: info\n", ""),
			firewall.IPv4, "filter", "PVEFW-HOST-IN", []string{
				"-A PVEFW-HOST-IN -j PVEFW-Reject",
				`-A PVEFW-HOST-IN -m limit --limit 5/minute --limit-burst 2 -j NFLOG --nflog-prefix ":0:6:PVEFW-HOST-IN: policy REJECT: "`,
				"-A PVEFW-HOST-IN -g PVEFW-reject",
			}},
		{"without a limit", node(on+"log_ratelimit: 0\n", "[OPTIONS]\nlog_level_in: emerg\n", ""),
			firewall.IPv4, "filter", "PVEFW-HOST-IN", []string{`-A PVEFW-HOST-IN -j NFLOG --nflog-prefix ":0:0:PVEFW-HOST-IN: policy DROP: "`}},
		{"floods and helpers", node(on, "[OPTIONS]\nprotection_synflood: 1\nprotection_synflood_rate: 50\nnf_conntrack_helpers: ftp,pptp\n", ""),
			firewall.IPv4, "raw", "PVEFW-PREROUTING", []string{
				"-A PVEFW-PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m hashlimit --hashlimit-above 50/sec --hashlimit-burst 1000 --hashlimit-mode srcip --hashlimit-name pvefw-syn --hashlimit-htable-expire 10000 -j DROP",
				"-A PVEFW-PREROUTING -p tcp --dport 21 -j CT --helper ftp",
				"-A PVEFW-PREROUTING -p tcp --dport 1723 -j CT --helper pptp",
			}},
		{"more ports than one rule can name", node(on+"[RULES]\nIN ACCEPT -p tcp -dport 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16:17\n", "", ""),
			firewall.IPv6, "filter", "PVEFW-HOST-IN", []string{
				"-A PVEFW-HOST-IN -p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -j RETURN",
				"-A PVEFW-HOST-IN -p tcp -m multiport --dports 16:17 -j RETURN",
			}},
		{"ICMP of IPv6", node(on+"[RULES]\nIN ACCEPT -p icmpv6 -icmp-type echo-request\n", "", ""),
			firewall.IPv6, "filter", "PVEFW-HOST-IN", []string{"-A PVEFW-HOST-IN -p ipv6-icmp -m icmp6 --icmpv6-type echo-request -j RETURN"}},
		{"what the node routes", node(on+"policy_forward: DROP\n[RULES]\nFORWARD ACCEPT -i vmbr1 -dest 10.0.0.0/8\n", "", ""),
			firewall.IPv4, "filter", "PVEFW-HOST-FWD", []string{
				"-A PVEFW-HOST-FWD -i vmbr1 -d 10.0.0.0/8 -j RETURN", "-A PVEFW-HOST-FWD -j DROP"}},
	} {
		got, from := lines(t, c.in, c.family, c.table, c.chain), 0
		for _, want := range c.want {
			at := slices.Index(got[from:], want)
			if at < 0 {
				t.Errorf("%s: no %q in\n%s", c.name, want, strings.Join(got[from:], "\n"))
				break
			}
			from += at + 1
		}
	}
}

func TestNetworksRulesHoldForWhatPassesThem(t *testing.T) {
	in := node(on, "", "")
	in.VNets = []firewall.VNet{{Name: "blue", Rules: parse(fw.VNet, on+"policy_forward: DROP\n[RULES]\nFORWARD ACCEPT -p tcp -dport 80\n")}}
	r, _ := firewall.Compile(in)
	p := firewall.Packet{
		In: "blue", Out: "blue", Bridged: true, PortIn: "a", PortOut: "b", Protocol: "tcp", DestPort: 80, State: "NEW", Flags: "SYN",
		Source: netip.MustParseAddr("10.0.0.1"), Dest: netip.MustParseAddr("10.0.0.2"),
	}
	if v := r.Send(p, firewall.IPv4, "filter", "FORWARD", nil); v != firewall.Accept {
		t.Errorf("port 80: %s", v)
	}
	p.DestPort = 81
	if v := r.Send(p, firewall.IPv4, "filter", "FORWARD", nil); v != firewall.Drop {
		t.Errorf("port 81: %s", v)
	}
	p.In, p.Out = "vmbr0", "vmbr0"
	if v := r.Send(p, firewall.IPv4, "filter", "FORWARD", nil); v != firewall.Accept {
		t.Errorf("another bridge: %s", v)
	}
}

func TestRulesWithoutEffectAreToldOnce(t *testing.T) {
	in := node(on, "", on+"[RULES]\nIN ACCEPT -source +nowhere\nIN ACCEPT -source nobody\nGROUP none\nIN ACCEPT -i thisnameistoolong\n")
	_, problems := firewall.Compile(in)
	if len(problems) != 3 || problems[0].Line != 4 || problems[2].Line != 6 {
		t.Errorf("problems: %v", problems)
	}
}

func TestRangesBecomeNetworks(t *testing.T) {
	in := node(on+"[IPSET xs]\n10.0.0.5-10.0.0.12\n10.0.1.0-10.0.1.255\n2001:db8::-2001:db8::1\n", "", "")
	r, _ := firewall.Compile(in)
	s, _ := r.Set("PVEFW-0-xs-v4")
	if got, want := s.Text("x"), "add x 10.0.0.5\nadd x 10.0.0.6/31\nadd x 10.0.0.8/30\nadd x 10.0.0.12\nadd x 10.0.1.0/24\n"; got != want {
		t.Errorf("members:\n%swant:\n%s", got, want)
	}
	s, _ = r.Set("PVEFW-0-xs-v6")
	if got, want := s.Text("x"), "add x 2001:db8::/127\n"; got != want {
		t.Errorf("members:\n%swant:\n%s", got, want)
	}
}

func TestDisabledMeansNothing(t *testing.T) {
	r, _ := firewall.Compile(node("[OPTIONS]\nenable: 0\n", "", on))
	if r.Enabled || len(r.Tables)+len(r.Sets)+len(r.Kernel) > 0 {
		t.Errorf("rules of a firewall that is off:\n%s", r)
	}
}

// TestRuleSetsDoNotDependOnThoseBefore: what a compiler keeps of guests makes no
// difference, whatever changes.
func TestRuleSetsDoNotDependOnThoseBefore(t *testing.T) {
	var c firewall.Compiler
	in := firewalltest.Large(5)
	edits := []func(){
		func() {},
		func() {
			in.Guests[2].Rules = parse(fw.Guest, on+"[IPSET mine]\n10.0.0.1\n[RULES]\nIN ACCEPT -source +mine\n")
		},
		func() { in.Guests[2].NICs = append(in.Guests[2].NICs, firewall.NIC{Number: 1, Firewall: true}) },
		func() { in.Cluster = parse(fw.Cluster, on+"[ALIASES]\noffice 10.9.0.0/16\n[GROUP base]\nIN DROP\n") },
		func() { in.Host = parse(fw.Host, "[OPTIONS]\nndp: 0\n") },
		func() { in.Node.LocalNetworks = []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")} },
		func() { in.Guests = in.Guests[1:] },
		func() { in.Guests[0].Rules = nil },
		func() { in.Cluster = parse(fw.Cluster, "[OPTIONS]\nenable: 0\n") },
		func() { in.Cluster = parse(fw.Cluster, on+"ebtables: 0\n") },
	}
	state := iptables.State{}
	for i, edit := range edits {
		edit()
		got, gotProblems := c.Compile(in)
		want, wantProblems := firewall.Compile(in)
		if got.String() != want.String() || fmt.Sprint(gotProblems) != fmt.Sprint(wantProblems) {
			t.Errorf("after edit %d:\n%s\n%v\nwant:\n%s\n%v", i, got, gotProblems, want, wantProblems)
		}
		after := iptables.After(got, state)
		if plan := iptables.Plan(got, after); len(plan) > 0 {
			t.Errorf("after edit %d: still to do: %v", i, plan)
		}
		if fresh := iptables.After(want, iptables.State{}); !reflect.DeepEqual(after.Tables, fresh.Tables) || !reflect.DeepEqual(after.Sets, fresh.Sets) {
			t.Errorf("after edit %d: foreseen is another state", i)
		}
		if want, got := iptables.Plan(want, state), iptables.Plan(got, state); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after edit %d: plan %v, want %v", i, got, want)
		}
		state = after
	}
}

func BenchmarkCompile1000Guests(b *testing.B) {
	in := firewalltest.Large(1000)
	for b.Loop() {
		firewall.Compile(in)
	}
}

// BenchmarkOneRuleOf1000Guests is what one edit costs short of the kernel:
// parse the file, compile, find the difference.
func BenchmarkOneRuleOf1000Guests(b *testing.B) {
	var c firewall.Compiler
	in := firewalltest.Large(1000)
	r, _ := c.Compile(in)
	state := iptables.After(r, iptables.State{})
	content := in.Guests[500].Rules.String()
	for i := 0; b.Loop(); i++ {
		in.Guests[500].Rules = parse(fw.Guest, fmt.Sprintf("%sIN DROP -p tcp -dport %d\n", content, 1+i%60000))
		r, _ := c.Compile(in)
		if plan := iptables.Plan(r, state); len(plan) != 2 {
			b.Fatal(plan)
		}
		state = iptables.After(r, state)
	}
}

// FuzzCompile: whatever the files say, the rule set can be written, packets
// come to an end, and a firewall that is on keeps its hooks.
func FuzzCompile(f *testing.F) {
	dirs, _ := filepath.Glob("../../fixtures/firewall/*")
	for _, dir := range dirs {
		var texts [3]string
		for i, name := range []string{"cluster.fw", "host.fw", "100.fw"} {
			content, _ := os.ReadFile(filepath.Join(dir, name))
			texts[i] = string(content)
		}
		f.Add(texts[0], texts[1], texts[2])
	}
	f.Fuzz(func(t *testing.T, cluster, host, guest string) {
		in := node(cluster, host, guest)
		r, _ := firewall.Compile(in)
		if enabled, ok := in.Cluster.Option("enable"); r.Enabled != (ok && enabled != "0" && enabled != "") && strings.Trim(enabled, "0") != "" {
			t.Errorf("enable is %q, the rule set says %v", enabled, r.Enabled)
		}
		if !r.Enabled {
			return
		}
		text := r.String()
		for line := range strings.Lines(text) {
			if len(line) > 1000 || strings.ContainsAny(line, "\x00\r`$;") {
				t.Errorf("line %q", line)
			}
		}
		for _, base := range []string{"INPUT", "OUTPUT", "FORWARD"} {
			p := firewall.Packet{State: "NEW", Protocol: "tcp", Bridged: base == "FORWARD", PortIn: "fwln100i0", PortOut: "tap100i0",
				Source: netip.MustParseAddr("198.51.100.1"), Dest: netip.MustParseAddr("198.51.100.2"), SourcePort: 1, DestPort: 2, Flags: "SYN"}
			r.Send(p, firewall.IPv4, "filter", base, nil)
			if len(r.Table(firewall.IPv4, "filter").Hooks()) != 3 {
				t.Error("a hook is missing")
			}
		}
	})
}
