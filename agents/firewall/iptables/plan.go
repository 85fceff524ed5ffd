package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcpve/agents/firewall"
)

// An Action is one step from what the kernel holds to what it should hold.
type Action struct {
	kind     kind
	summary  string
	family   firewall.Family
	table    string
	script   string // for the restore tools
	hook     firewall.Hook
	settings []firewall.Setting
}

// A kind of action says by which door it goes to the kernel.
type kind int

const (
	writeSettings kind = iota
	restoreSets
	restoreTable
	insertHook
	deleteHook
)

// String says what the action does, for plans and logs.
func (a Action) String() string { return a.summary }

// Plan returns the steps that bring the kernel from have to want: nothing if it
// is there already. At no step is a packet without rules that had some: sets
// are filled before rules name them and swapped whole; all chains of a table
// change in one transaction; a chain is hooked in when it is complete, and
// unhooked before it goes. Chains of others are not touched.
func Plan(want *firewall.Ruleset, have State) (plan []Action) {
	was := unlessNil(have.rules)
	if script, n := setScript(changedSets(want, was), have.Sets); n > 0 {
		plan = append(plan, Action{kind: restoreSets, script: script, summary: fmt.Sprintf("ipset: %d written", n)})
	}
	for _, key := range tableKeys {
		plan = append(plan, planTable(want.Table(key.Family, key.Name), have.Tables[key], was.Table(key.Family, key.Name))...)
	}
	if script, n := staleSets(want.Sets, have.Sets); n > 0 {
		plan = append(plan, Action{kind: restoreSets, script: script, summary: fmt.Sprintf("ipset: %d removed", n)})
	}
	if changed := changedSettings(want.Kernel, have.Settings); len(changed) > 0 {
		plan = append(plan, Action{kind: writeSettings, settings: changed, summary: "settings: " + settingNames(changed)})
	}
	return plan
}

// unlessNil returns the rule set that is known to be in force, or an empty one.
func unlessNil(r *firewall.Ruleset) *firewall.Ruleset {
	if r == nil {
		return &firewall.Ruleset{}
	}
	return r
}

// same reports whether two lists are one: a rule set takes over from the one
// before what did not change. Others may be equal all the same.
func same[E any, L ~[]E](a, b L) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}

// changedSets leaves out the sets that are as they were.
func changedSets(want, was *firewall.Ruleset) (changed []firewall.Set) {
	for _, s := range want.Sets {
		if old, ok := was.Set(s.Name); !ok || !same(s.Members, old.Members) {
			changed = append(changed, s)
		}
	}
	return changed
}

// A Key names a table of the kernel.
type Key struct {
	Family firewall.Family
	Name   string
}

// tableKeys are the tables that may hold chains of the firewall.
var tableKeys = []Key{
	{firewall.IPv4, "filter"}, {firewall.IPv6, "filter"},
	{firewall.IPv4, "raw"}, {firewall.IPv6, "raw"},
	{firewall.Bridge, "filter"},
}

// planTable unhooks, writes, then hooks. Chains that are the same as those of a
// table that is known to be in force need not be compared.
func planTable(want firewall.Table, have Table, was firewall.Table) (plan []Action) {
	hooks := want.Hooks()
	for _, h := range have.Hooks {
		if !slices.Contains(hooks, h) {
			plan = append(plan, hookAction(deleteHook, want, h))
		}
	}
	if a, ok := writeAction(want, have, was); ok {
		plan = append(plan, a)
	}
	for _, h := range hooks {
		if !slices.Contains(have.Hooks, h) {
			plan = append(plan, hookAction(insertHook, want, h))
		}
	}
	return plan
}

func hookAction(k kind, t firewall.Table, h firewall.Hook) Action {
	verb := map[kind]string{insertHook: "hook into", deleteHook: "unhook from"}[k]
	return Action{kind: k, family: t.Family, table: t.Name, hook: h,
		summary: fmt.Sprintf("%s %s: %s %s", tools[t.Family].name, t.Name, verb, h.From)}
}

// writeAction returns the transaction that replaces the chains that changed and
// removes those that are gone. A chain that is declared in a restore is emptied
// by it, and a chain can only go when no rule leads to it, so all declarations
// come first and the removals last.
func writeAction(want firewall.Table, have Table, was firewall.Table) (Action, bool) {
	var declared, rules, removed strings.Builder
	var written, gone int
	for _, name := range want.Names() {
		chain := want.Chains[name]
		if same(chain, was.Chains[name]) || have.Chains[name] == stateOf(want.Family, name, chain) {
			continue
		}
		written++
		declared.WriteString(declaration(want.Family, name))
		rules.WriteString(signed(want.Family, chain).Text(name))
	}
	for _, name := range slices.Sorted(maps.Keys(have.Chains)) {
		if _, ok := want.Chains[name]; !ok {
			gone++
			declared.WriteString(declaration(want.Family, name))
			removed.WriteString("-X " + name + "\n")
		}
	}
	return Action{
		kind: restoreTable, family: want.Family, table: want.Name,
		script:  "*" + want.Name + "\n" + declared.String() + rules.String() + removed.String() + "COMMIT\n",
		summary: fmt.Sprintf("%s %s: %d chains written, %d removed", tools[want.Family].name, want.Name, written, gone),
	}, written+gone > 0
}

func declaration(family firewall.Family, chain string) string {
	if family == firewall.Bridge {
		return ":" + chain + " ACCEPT\n"
	}
	return ":" + chain + " - [0:0]\n"
}

// signature is the comment by which a chain is known again; it is what Proxmox
// VE uses.
const signature = "PVESIG:"

// A comment is a condition that always holds.
type comment string

func (c comment) String() string { return `-m comment --comment "` + string(c) + `"` }

// Holds implements firewall.Condition.
func (comment) Holds(*firewall.Packet, *firewall.Ruleset) bool { return true }

// signed returns the chain with its signature. There are no comments in layer 2;
// its chains are few and known by their text.
func signed(family firewall.Family, c firewall.Chain) firewall.Chain {
	if family == firewall.Bridge {
		return c
	}
	first := firewall.Rule{Conditions: []firewall.Condition{comment(signature + c.Digest())}}
	return append(firewall.Chain{first}, c...)
}

// stateOf returns what a chain looks like in the kernel.
func stateOf(family firewall.Family, name string, c firewall.Chain) Chain {
	if family == firewall.Bridge {
		return Chain{Digest: digest(c.Text(name)), Rules: len(c)}
	}
	return Chain{Digest: c.Digest(), Rules: len(c) + 1}
}

func changedSettings(want []firewall.Setting, have map[string]string) (changed []firewall.Setting) {
	for _, s := range want {
		if value, ok := have[s.Name]; ok && value != s.Value {
			changed = append(changed, s)
		}
	}
	return changed
}

func settingNames(list []firewall.Setting) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Name + "=" + s.Value
	}
	return strings.Join(names, " ")
}

// After returns what Observe would find once a rule set is in force, beginning
// from what it found before.
func After(r *firewall.Ruleset, before State) State {
	was := unlessNil(before.rules)
	s := State{Tables: map[Key]Table{}, Sets: map[string]string{}, Settings: maps.Clone(before.Settings), rules: r}
	for _, key := range tableKeys {
		want, old := r.Table(key.Family, key.Name), was.Table(key.Family, key.Name)
		t := Table{Chains: make(map[string]Chain, len(want.Chains)), Hooks: want.Hooks()}
		for name, c := range want.Chains {
			if same(c, old.Chains[name]) {
				t.Chains[name] = before.Tables[key].Chains[name]
			} else {
				t.Chains[name] = stateOf(key.Family, name, c)
			}
		}
		s.Tables[key] = t
	}
	for _, set := range r.Sets {
		if old, ok := was.Set(set.Name); ok && same(set.Members, old.Members) {
			s.Sets[set.Name] = before.Sets[set.Name]
		} else {
			s.Sets[set.Name] = setDigest(set)
		}
	}
	for _, changed := range changedSettings(r.Kernel, before.Settings) {
		s.Settings[changed.Name] = changed.Value
	}
	return s
}
