package firewall

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/cfs/format/text"
)

const cluster = `# head
stray
[OPTIONS]
enable: 1
policy_in: drop
log_ratelimit: enable=1,rate=5/minute,burst=3

[ALIASES]
Office 192.0.2.0/24 # main
mail 192.0.2.25

[IPSET management] # who may
office
!192.0.2.7
2001:db8::/32

[RULES]
IN SSH(ACCEPT) -i vmbr0 -source +management -log nolog # admins
|OUT DROP -dest 203.0.113.1-203.0.113.9 -p udp -dport 53,1000:2000
GROUP web -i vmbr1

[group Web]
in ACCEPT -p tcp -dport http,443
IN ping(ACCEPT) -source dc/mail
`

func TestDocumentKeepsEveryByte(t *testing.T) {
	for _, content := range []string{"", cluster, "\r\n[RULES]\r\n  |IN DROP\t\r\nx", "[RULES]\nIN ACCEPT"} {
		if got := Parse(Cluster, "f", content).String(); got != content {
			t.Errorf("got %q; want %q", got, content)
		}
	}
}

func TestParseReadsAllSections(t *testing.T) {
	d := Parse(Cluster, "cluster.fw", cluster)
	if len(d.Problems) != 1 || d.Problems[0].Line != 2 {
		t.Errorf("problems: %v", d.Problems)
	}
	if v, _ := d.Option("policy_in"); v != "DROP" || !d.Enabled("enable", false) || !d.Enabled("ebtables", true) {
		t.Errorf("options: %v", d.Options)
	}
	if a, ok := d.Alias("OFFICE"); !ok || a.Address.String() != "192.0.2.0/24" || a.Comment != "main" {
		t.Errorf("alias: %v", a)
	}
	s, _ := d.IPSet("management")
	if s.Comment != "who may" || len(s.Entries) != 3 || s.Entries[0].Address.Alias != "office" || !s.Entries[1].Negated || s.Entries[2].Address.Family() != 6 {
		t.Errorf("set: %+v", s)
	}
	want := []string{
		"IN SSH(ACCEPT) -i vmbr0 -source +management -log nolog # admins",
		"|OUT DROP -dest 203.0.113.1-203.0.113.9 -p udp -dport 53,1000:2000",
		"GROUP web -i vmbr1",
	}
	for i, u := range d.Rules {
		if u.String() != want[i] {
			t.Errorf("rule %d: %q; want %q", i, u, want[i])
		}
	}
	if g, _ := d.Group("web"); len(g.Rules) != 2 || g.Rules[1].Macro != "Ping" || g.Rules[1].Type != "in" {
		t.Errorf("group: %+v", g)
	}
}

// refusal returns the first reason for which content is refused, and its column.
func refusal(scope Scope, content string) (string, int) {
	d := Parse(scope, "f", content)
	if len(d.Problems) == 0 {
		return "", 0
	}
	return d.Problems[0].Message, d.Problems[0].Column
}

func TestRefusedLines(t *testing.T) {
	for _, c := range []struct {
		scope   Scope
		content string
		column  int
		reason  string
	}{
		{Cluster, "[RULES]\nIN NoSuch(ACCEPT)", 4, "unknown macro"},
		{Cluster, "[RULES]\nIN ALLOW", 4, "unknown action"},
		{Cluster, "[RULES]\nSIDEWAYS ACCEPT", 1, "unknown type"},
		{Cluster, "[RULES]\n  |IN ACCEPT -dport 80", 21, "needs a protocol"},
		{Cluster, "[RULES]\nIN ACCEPT -p tcp -dport 65536", 25, "not a port"},
		{Cluster, "[RULES]\nIN ACCEPT -p tcp -dport 20:10", 25, "not a port"},
		{Cluster, "[RULES]\nIN ACCEPT -p gre -dport 20", 25, "has no ports"},
		{Cluster, "[RULES]\nIN ACCEPT -p nope", 14, "unknown protocol"},
		{Cluster, "[RULES]\nIN ACCEPT -p icmp -icmp-type nope", 30, "unknown ICMP type"},
		{Cluster, "[RULES]\nIN ACCEPT -source 10.0.0.1/24", 19, "expected '10.0.0.0/24'"},
		{Cluster, "[RULES]\nIN ACCEPT -source 10.0.0.300", 19, "not an IP address"},
		{Cluster, "[RULES]\nIN ACCEPT -source 10.0.0.1 -dest 2001:db8::1", 19, "mixes"},
		{Cluster, "[RULES]\nIN ACCEPT -source nowhere", 19, "no such alias"},
		{Cluster, "[RULES]\nIN ACCEPT -source +nowhere", 19, "no such IP set"},
		{Cluster, "[RULES]\nGROUP nowhere", 7, "no such group"},
		{Cluster, "[RULES]\nIN ACCEPT -colour red", 11, "unknown option"},
		{Cluster, "[RULES]\nIN ACCEPT -p  tcp", 11, "blank"},
		{Cluster, "[RULES]\nIN ACCEPT -log loud", 16, "bad log level"},
		{Cluster, "[RULES]\nIN SSH(ACCEPT) -p udp", 4, "contradicts"},
		{Cluster, "[RULES]\nIN", 1, "not a rule"},
		{Cluster, "[OPTIONS]\nenabled: 1", 1, "unknown option"},
		{Cluster, "[OPTIONS]\nenable: yes", 9, "bad value"},
		{Cluster, "[OPTIONS]\nenable: 1\nenable: 0", 1, "twice"},
		{Cluster, "[ALIASES]\nx 1.2.3.4", 1, "bad name"},
		{Cluster, "[ALIASES]\nxy 1.2.3.4-1.2.3.5", 4, "not an IP address or network"},
		{Cluster, "[IPSET x]\n", 8, "bad name"},
		{Cluster, "[IPSET ok]\nmissing\n", 1, "no such alias"},
		{Cluster, "[GROUP ok]\nGROUP other\n", 7, "another group"},
		{Cluster, "[GROUP ok]\nIN ACCEPT -i eth0\n", 14, "cannot name an interface"},
		{Cluster, "[NOTHING]\n", 1, "unknown section"},
		{Guest, "[RULES]\nIN ACCEPT -i eth0", 14, "net0"},
		{Guest, "[RULES]\nIN ACCEPT -source +guest/none", 19, "no such IP set"},
		{Guest, "[GROUP ok]\n", 2, "cannot have"},
		{Host, "[ALIASES]\n", 2, "cannot have"},
		{Host, "[RULES]\nIN ACCEPT -source guest/abc", 19, "only the rules of a guest"},
		{Host, "[OPTIONS]\nnf_conntrack_max: 1000", 19, "at least 32768"},
		{Host, "[OPTIONS]\nnf_conntrack_tcp_timeout_established: 7874", 39, "at least 7875"},
		{Host, "[OPTIONS]\nnf_conntrack_tcp_timeout_syn_recv: 61", 36, "from 30 to 60"},
		{VNet, "[OPTIONS]\npolicy_forward: REJECT", 17, "ACCEPT or DROP"},
	} {
		reason, column := refusal(c.scope, c.content)
		if !strings.Contains(reason, c.reason) || column != c.column {
			t.Errorf("%q: refused at %d with %q; want %d with %q", c.content, column, reason, c.column, c.reason)
		}
	}
}

func TestAcceptedLines(t *testing.T) {
	for _, c := range []struct {
		scope   Scope
		content string
	}{
		{Cluster, ""},
		{Cluster, "[options]\nENABLE: 1700000000"},
		{Cluster, "[RULES]\nIN ACCEPT -source +management\nIN ACCEPT -source +sdn/vnet-all\nIN ACCEPT -source local_network\n[IPSET ours]\nlocal_network\n"},
		{Cluster, "[RULES]\nIN ACCEPT -p 6 -dport 80"},
		{Cluster, "[RULES]\n|GROUP nowhere\n|IN ACCEPT -source +nowhere"},
		{Guest, "[OPTIONS]\nlog_level_in:\npolicy_out: reject\nlayer2_protocols: ARP,IPV4"},
		{Guest, "[RULES]\nIN ACCEPT -i net3 -source +dc/elsewhere -dest elsewhere\nGROUP elsewhere"},
		{Guest, "[RULES]\nIN ACCEPT -p icmp -dport 8/0 -log info\nOUT ACCEPT --proto icmpv6 --icmp-type router-solicitation"},
		{Host, "[RULES]\nFORWARD DROP -i vmbr0.100 -p 47 -dest 10.0.0.1,10.1.0.0/16"},
		{Host, "[OPTIONS]\nnf_conntrack_helpers: ftp,tftp\ntcp_flags_log_level: nolog"},
		{VNet, "[RULES]\nFORWARD ACCEPT"},
	} {
		if reason, column := refusal(c.scope, c.content); reason != "" {
			t.Errorf("%q: refused at %d: %s", c.content, column, reason)
		}
	}
}

func TestBadLinesLeaveTheOthersAlone(t *testing.T) {
	d := Parse(Guest, "100.fw", "[OPTIONS]\nenable: 1\nenable: maybe\n[RULES]\nIN ACCEPT -dport 1\nIN ACCEPT -wrong\nIN DROP\n")
	if !d.Enabled("enable", false) {
		t.Error("the valid option was lost to a later bad one")
	}
	if len(d.Rules) != 2 || d.Rules[0].Invalid == nil || d.Rules[1].Invalid != nil {
		t.Errorf("rules: %+v", d.Rules)
	}
}

func TestNamesHaveToBeDefinedAbove(t *testing.T) {
	d := Parse(Cluster, "f", "[RULES]\nIN ACCEPT -source later\n[ALIASES]\nlater 10.0.0.1\n")
	if len(d.Problems) != 0 || len(d.Warnings) != 1 || d.Warnings[0].Line != 2 {
		t.Errorf("problems %v, warnings %v", d.Problems, d.Warnings)
	}
}

func TestScopeOf(t *testing.T) {
	for path, want := range map[string]Scope{
		"firewall/cluster.fw": Cluster, "firewall/100.fw": Guest, "nodes/n1/host.fw": Host, "sdn/firewall/v1.fw": VNet,
	} {
		if got, ok := ScopeOf(path); !ok || got != want {
			t.Errorf("ScopeOf(%q) = %v, %v", path, got, ok)
		}
	}
	for _, path := range []string{"firewall/x.fw", "host.fw", "firewall/100.cfg", "nodes/n1/x.fw", "a/nodes/n1/host.fw"} {
		if got, ok := ScopeOf(path); ok {
			t.Errorf("ScopeOf(%q) = %v", path, got)
		}
	}
}

func TestMacrosAreFoundInAnyCase(t *testing.T) {
	m, ok := FindMacro("ssh")
	if !ok || m.Name != "SSH" || len(m.Rules) != 1 || m.Rules[0] != (MacroRule{Proto: "tcp", Dport: "22"}) {
		t.Errorf("%+v, %v", m, ok)
	}
	for _, m := range Macros() {
		for _, part := range m.Rules {
			if !IsProtocol(part.Proto) {
				t.Errorf("macro %s: protocol %q", m.Name, part.Proto)
			}
			if part.Dport != "" {
				if _, err := ParsePorts(part.Dport); err != nil {
					t.Errorf("macro %s: %v", m.Name, err)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(0, cluster)
	f.Add(2, "[OPTIONS]\nenable: 1\n[RULES]\nIN ACCEPT -i net0 -p tcp -dport 1:2,ssh # x\n")
	f.Fuzz(func(t *testing.T, scope int, content string) {
		d := Parse(Scope(uint(scope)%4), "f", content)
		if d.String() != content {
			t.Fatal("bytes were lost")
		}
		for _, p := range d.Problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Fatalf("problem without a place: %+v", p)
			}
		}
		for _, u := range d.Rules {
			if u.Invalid != nil {
				continue
			}
			again := NewReader(d.Scope, "f")
			again.Line(text.Line{Number: 1, Text: "[RULES]"})
			again.Line(text.Line{Number: 2, Text: u.String()})
			if len(again.doc.Rules) != 1 || again.doc.Rules[0].String() != u.String() {
				t.Fatalf("%q is not read back: %v", u.String(), again.doc.Problems)
			}
		}
	})
}

func TestPageNamesEveryOptionAndMacro(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "man", "firewall.5"))
	if err != nil {
		t.Fatal(err)
	}
	left := []string{"ips", "ips_queues", "layer2_protocols"} // without effect
	for scope, all := range options {
		for name := range all {
			if !contains(left, name) && !strings.Contains(string(page), "\n.It Ic "+name+"\n") {
				t.Errorf("firewall(5) lacks the option %s of scope %d", name, scope)
			}
		}
	}
	for _, m := range Macros() {
		if !strings.Contains(string(page), "\n.It Ic "+m.Name+"\n") {
			t.Errorf("firewall(5) lacks the macro %s", m.Name)
		}
	}
}

// TestLongFilesAreReadInTime would take minutes if every line looked at all
// the others.
func TestLongFilesAreReadInTime(t *testing.T) {
	var b strings.Builder
	b.WriteString("[ALIASES]\n")
	for i := range 20000 {
		fmt.Fprintf(&b, "host%d 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	b.WriteString("[IPSET all]\n")
	for i := range 20000 {
		fmt.Fprintf(&b, "host%d\n", i)
	}
	b.WriteString("[RULES]\n")
	for i := range 10000 {
		fmt.Fprintf(&b, "IN ACCEPT -source host%d\n", i)
	}
	begin := time.Now()
	d := Parse(Cluster, "f", b.String())
	if took := time.Since(begin); len(d.Problems) > 0 || len(d.IPSets[0].Entries) != 20000 || took > 20*time.Second {
		t.Errorf("%d problems, %v", len(d.Problems), took)
	}
}
