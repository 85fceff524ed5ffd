package iptables

import (
	"strings"
	"testing"
	"time"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/firewalltest"
	fw "etcpve/cfs/format/firewall"
)

// others are rules and sets that are not the firewall's.
func others(t *testing.T, d *Driver) (before string) {
	t.Helper()
	for _, tool := range []string{d.binary(firewall.IPv4, ""), d.binary(firewall.IPv6, ""), "ebtables"} {
		sh(t, tool+" -N OTHER")
		sh(t, tool+" -A FORWARD -i eth7 -j OTHER")
		sh(t, tool+" -A OTHER -j DROP")
	}
	sh(t, "ipset create other hash:ip")
	return dump(t, d)
}

func removeOthers(t *testing.T, d *Driver) {
	for _, tool := range []string{d.binary(firewall.IPv4, ""), d.binary(firewall.IPv6, ""), "ebtables"} {
		sh(t, tool+" -D FORWARD -i eth7 -j OTHER")
		sh(t, tool+" -F OTHER")
		sh(t, tool+" -X OTHER")
	}
	sh(t, "ipset destroy other")
}

// dump returns everything in the kernel, without what changes by itself.
func dump(t *testing.T, d *Driver) string {
	t.Helper()
	var all strings.Builder
	for _, tool := range []string{d.binary(firewall.IPv4, "-save"), d.binary(firewall.IPv6, "-save"), "ebtables-save", "ipset save"} {
		for line := range strings.Lines(sh(t, tool)) {
			if line[0] != '#' && line[0] != '\n' && !strings.HasPrefix(line, "*raw") {
				line, _, _ = strings.Cut(line, "[")
				all.WriteString(tool + ": " + strings.TrimSpace(line) + "\n")
			}
		}
	}
	return all.String()
}

// TestEveryScenarioLoads brings each rule set into the kernel after the other,
// with both variants of the tools.
func TestEveryScenarioLoads(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	for name, d := range drivers(t) {
		others(t, d)
		reach(t, d, &firewall.Ruleset{})
		for _, dir := range scenarios(t) {
			want := load(t, dir)
			reach(t, d, want)
			if again := reach(t, d, want); len(again) > 0 {
				t.Errorf("%s: %s: not content with its own rule set: %q", name, dir, again)
			}
		}
		reach(t, d, &firewall.Ruleset{})
		removeOthers(t, d)
	}
}

func TestRemovalLeavesTheRulesOfOthers(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	for name, d := range drivers(t) {
		// The first use of a tool makes the kernel's own chains appear.
		dump(t, d)
		before := others(t, d)
		reach(t, d, load(t, "../../../fixtures/firewall/groups"))
		if have := dump(t, d); !strings.Contains(have, "PVEFW-INPUT") || !strings.Contains(have, "-j OTHER") {
			t.Errorf("%s: rules are missing:\n%s", name, have)
		}
		reach(t, d, &firewall.Ruleset{})
		if after := withoutEmptyTables(dump(t, d)); after != withoutEmptyTables(before) {
			t.Errorf("%s: not as before:\n%s\nbefore:\n%s", name, after, before)
		}
		removeOthers(t, d)
	}
}

// withoutEmptyTables leaves out what tells only that a table was looked at.
func withoutEmptyTables(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, ":PREROUTING") && !strings.HasSuffix(line, ": COMMIT\n") && !strings.Contains(line, ":OUTPUT") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestOneEditWritesOneChain(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	d := drivers(t)["nft"]
	want := load(t, "../../../fixtures/firewall/guest-options")
	reach(t, d, want)
	filter := want.Table(firewall.IPv4, "filter")
	filter.Chains["tap101i0-IN"] = filter.Chains["tap101i0-IN"][:1]
	got := reach(t, d, want)
	if len(got) != 1 || got[0] != "iptables filter: 1 chains written, 0 removed" {
		t.Errorf("done: %q", got)
	}
	sh(t, "iptables -F PVEFW-HOST-IN")
	if got := reach(t, d, want); len(got) != 1 {
		t.Errorf("a chain that somebody emptied was not repaired: %q", got)
	}
	sh(t, "iptables -D INPUT -j PVEFW-INPUT")
	if got := reach(t, d, want); len(got) != 1 || got[0] != "iptables filter: hook into INPUT" {
		t.Errorf("a hook that somebody removed was not repaired: %q", got)
	}
	sh(t, "ipset flush PVEFW-0-management-v4")
	if got := reach(t, d, want); len(got) != 1 || got[0] != "ipset: 1 written" {
		t.Errorf("a set that somebody emptied was not repaired: %q", got)
	}
}

// TestLargeNode says what a node with 1,000 guests costs the kernel.
func TestLargeNode(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	if !firewalltest.InNamespace(t) {
		return
	}
	for name, d := range drivers(t) {
		var c firewall.Compiler
		in := firewalltest.Large(1000)
		all, _ := c.Compile(in)
		begin := time.Now()
		reach(t, d, all)
		t.Logf("%s: everything: %v", name, time.Since(begin))

		state := After(all, State{})
		begin = time.Now()
		content := in.Guests[500].Rules.String() + "IN DROP -p tcp -dport 9\n"
		in.Guests[500].Rules = fw.Parse(fw.Guest, "600.fw", content)
		edited, _ := c.Compile(in)
		plan := Plan(edited, state)
		t.Logf("%s: one rule, planned: %v", name, time.Since(begin))
		for _, a := range plan {
			if err := d.Apply(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: one rule, in the kernel: %v", name, time.Since(begin))
		begin = time.Now()
		if again := reach(t, d, edited); len(again) > 0 {
			t.Errorf("%s: what was applied is not what was foreseen: %q", name, again)
		}
		t.Logf("%s: looked at: %v", name, time.Since(begin))
		reach(t, d, &firewall.Ruleset{})
	}
}
