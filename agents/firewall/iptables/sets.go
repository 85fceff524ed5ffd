package iptables

import (
	"maps"
	"slices"
	"strings"

	"etcpve/agents/firewall"
)

// next is the ending of the name under which the new version of a set is built.
const next = "_new"

// ownSet is how the names of the firewall's sets begin.
const ownSet = "PVEFW-"

// setScript returns the input of "ipset restore" that creates and replaces
// sets, and how many it writes.
func setScript(want []firewall.Set, have map[string]string) (script string, n int) {
	var b strings.Builder
	for _, s := range want {
		old, exists := have[s.Name]
		if exists && old == setDigest(s) {
			continue
		}
		n++
		if !exists {
			b.WriteString(s.Create(s.Name) + s.Text(s.Name))
			continue
		}
		if _, left := have[s.Name+next]; left {
			b.WriteString("destroy " + s.Name + next + "\n")
		}
		b.WriteString(s.Create(s.Name+next) + s.Text(s.Name+next))
		b.WriteString("swap " + s.Name + " " + s.Name + next + "\n")
		b.WriteString("destroy " + s.Name + next + "\n")
	}
	return b.String(), n
}

// staleSets returns the input that removes sets that are not wanted any more.
func staleSets(want []firewall.Set, have map[string]string) (script string, n int) {
	wanted := map[string]bool{}
	for _, s := range want {
		wanted[s.Name] = true
		wanted[s.Name+next] = true // went when the set was written, or will the next time
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !wanted[name] {
			n++
			b.WriteString("destroy " + name + "\n")
		}
	}
	return b.String(), n
}

// setDigest identifies the members of a set, in whatever order.
func setDigest(s firewall.Set) string {
	lines := strings.SplitAfter(s.Text(""), "\n")
	slices.Sort(lines)
	return digest(strings.Join(lines, ""))
}

// parseSets reads what "ipset save" prints.
func parseSets(text string) map[string]string {
	members := map[string][]string{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 || !strings.HasPrefix(words[1], ownSet) {
			continue
		}
		switch words[0] {
		case "create":
			members[words[1]] = []string{""}
		case "add":
			members[words[1]] = append(members[words[1]], "add  "+strings.Join(words[2:], " ")+"\n")
		}
	}
	sets := make(map[string]string, len(members))
	for name, lines := range members {
		slices.Sort(lines)
		sets[name] = digest(strings.Join(lines, ""))
	}
	return sets
}
