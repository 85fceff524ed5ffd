// Package hamanager is the command line tool for high availability.
//
// It owns its table of commands and their output, which is that of Proxmox VE's
// ha-manager. Every command reads or edits files below /etc/pve/ha; it never
// touches a guest: what is done about the files is up to the CRM.
package hamanager

import (
	"strings"

	"etcpve/agents/ha/files"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

// New returns the tool for a cluster file system.
func New(root string) *cli.Tool {
	t := tool{files.Tree{Root: root}}
	sid := cli.Param{Name: "sid", Rule: must(schema.Named("pve-ha-resource-or-vm-id"), "A service, such as vm:100, or a VMID.")}
	node := cli.Param{Name: "node", Rule: must(schema.Named("pve-node"), "A node.")}
	rule := cli.Param{Name: "rule", Rule: must(schema.Named("pve-configid"), "The id of a rule.")}
	kind := cli.Param{Name: "type", Rule: must(ruleKind(), "The kind of rule.")}
	group := cli.Param{Name: "group", Rule: must(schema.Named("pve-configid"), "The id of a group.")}
	migrate := cli.Command{Words: "crm-command migrate", Summary: "Ask the master to migrate a service.",
		Run: t.motion("migrate"), Args: []cli.Param{sid, node}}
	relocate := cli.Command{Words: "crm-command relocate", Summary: "Ask the master to stop a service, and to start it on another node.",
		Run: t.motion("relocate"), Args: []cli.Param{sid, node}}
	return &cli.Tool{Name: "ha-manager", Summary: "manage high availability", Commands: []cli.Command{
		{Words: "status", Summary: "Show quorum, master, LRMs and services.", Run: t.status,
			Options: schema.Keys{"verbose": about(schema.Truth(), "Show the status files too.")}},
		{Words: "config", Summary: "Show the configured resources.", Run: t.config,
			Options: schema.Keys{"type": about(schema.Choice("ct", "vm"), "Only resources of this type.")}},
		{Words: "add", Summary: "Put a guest under the care of HA.", Run: t.add, Args: []cli.Param{sid}, Options: addKeys()},
		{Words: "set", Summary: "Change how HA cares for a guest.", Run: t.set, Args: []cli.Param{sid}, Options: deletable(resourceKeys())},
		{Words: "remove", Summary: "Leave a guest to itself.", Run: t.remove, Args: []cli.Param{sid},
			Options: schema.Keys{"purge": about(schema.Truth(), "Take it out of all rules too; on unless switched off.")}},
		migrate, relocate, short(migrate), short(relocate),
		{Words: "crm-command stop", Summary: "Ask the master to stop a service; with a timeout of 0 at once.", Run: t.order("stop", "sid", "timeout"),
			Args: []cli.Param{sid, {Name: "timeout", Rule: must(schema.Integer().Min(0), "Seconds.")}}},
		{Words: "crm-command node-maintenance enable", Summary: "Ask the master to empty a node.",
			Run: t.order("enable-node-maintenance", "node"), Args: []cli.Param{node}},
		{Words: "crm-command node-maintenance disable", Summary: "Ask the master to use a node again.",
			Run: t.order("disable-node-maintenance", "node"), Args: []cli.Param{node}},
		{Words: "crm-command disarm-ha", Summary: "Ask the master to switch HA off: freeze leaves services as they are, ignore leaves them to you.",
			Run:  t.order("disarm-ha", "resource-mode"),
			Args: []cli.Param{{Name: "resource-mode", Rule: must(schema.Choice("freeze", "ignore"), "What becomes of services.")}}},
		{Words: "crm-command arm-ha", Summary: "Ask the master to switch HA on again.", Run: t.order("arm-ha")},
		{Words: "groupadd", Summary: "Add a group.", Run: t.addGroup, Args: []cli.Param{group}, Options: newGroupKeys()},
		{Words: "groupset", Summary: "Change a group.", Run: t.setGroup, Args: []cli.Param{group}, Options: deletable(groupKeys())},
		{Words: "groupremove", Summary: "Remove a group that no service is in.", Run: t.removeGroup, Args: []cli.Param{group}},
		{Words: "groupconfig", Summary: "List the groups, the older form of node affinity.", Run: t.listGroups},
		{Words: "rules list", Summary: "List the ids of rules; as JSON or YAML everything that is known of them.", Run: t.listRules("rule"), Options: listKeys()},
		{Words: "rules config", Summary: "Show the rules and whether they hold.", Options: listKeys(),
			Run: t.listRules("enabled", "state", "rule", "type", "resources", "comment")},
		{Words: "rules add", Summary: "Add a rule.", Run: t.addRule, Args: []cli.Param{kind, rule}, Options: ruleKeys()},
		{Words: "rules set", Summary: "Change a rule.", Run: t.setRule, Args: []cli.Param{kind, rule}, Options: deletable(ruleKeys())},
		{Words: "rules remove", Summary: "Remove a rule.", Run: t.removeRule, Args: []cli.Param{rule}},
	}}
}

// short is a command of the CRM without its first word, which is left out of
// lists.
func short(c cli.Command) cli.Command {
	c.Words, c.Hidden = strings.TrimPrefix(c.Words, "crm-command "), true
	return c
}

// tool is ha-manager at a place.
type tool struct{ files.Tree }

// resourceKeys are the options of a resource.
func resourceKeys() schema.Keys {
	return schema.Keys{
		"state":        about(schema.Choice("started", "stopped", "enabled", "disabled", "ignored"), "The state asked for."),
		"failback":     about(schema.Truth(), "Move it back to a node its rules prefer."),
		"group":        about(schema.Named("pve-configid"), "The group it is in, where there are no rules yet."),
		"max_restart":  about(schema.Integer().Min(0), "Starts to try again on one node."),
		"max_relocate": about(schema.Integer().Min(0), "Nodes to try after starting failed."),
		"comment":      about(schema.Text().Long(4096), "A note."),
	}
}

// addKeys are the options of a resource that is added.
func addKeys() schema.Keys {
	keys := resourceKeys()
	keys["type"] = about(schema.Choice("ct", "vm"), "Its type, which is known without.")
	return keys
}

// groupKeys are the options of a group.
func groupKeys() schema.Keys {
	return schema.Keys{
		"nodes":      about(schema.Named("pve-ha-node-list"), "Nodes with priorities, such as n1:2,n2."),
		"nofailback": about(schema.Truth(), "Do not move services back to a preferred node."),
		"restricted": about(schema.Truth(), "Never use other nodes."),
		"comment":    about(schema.Text().Long(4096), "A note."),
	}
}

// newGroupKeys are the options of a group that is added.
func newGroupKeys() schema.Keys {
	keys := groupKeys()
	keys["nodes"].Optional = false
	keys["type"] = about(schema.Choice("group"), "Always group.")
	return keys
}

// listKeys are the options of lists of rules.
func listKeys() schema.Keys {
	keys := cli.OutputKeys()
	keys["resource"] = about(schema.Text(), "Only rules that name this service.")
	keys["type"] = about(ruleKind(), "Only rules of this kind.")
	return keys
}

func ruleKind() *schema.Property { return schema.Choice("node-affinity", "resource-affinity") }

// ruleKeys are the options of a rule.
func ruleKeys() schema.Keys {
	return schema.Keys{
		"resources": about(schema.Named("pve-ha-resource-id-list"), "Services, separated by commas."),
		"nodes":     about(schema.Named("pve-ha-node-list"), "Nodes with priorities, such as n1:2,n2; for node affinity."),
		"strict":    about(schema.Truth(), "Never use other nodes; for node affinity."),
		"affinity":  about(schema.Choice("positive", "negative"), "Together or apart; for resource affinity."),
		"disable":   about(schema.Truth(), "Switch the rule off."),
		"comment":   about(schema.Text().Long(4096), "A note."),
	}
}

func deletable(keys schema.Keys) schema.Keys {
	keys["delete"] = about(schema.Named("pve-configid-list").Long(4096), "Settings to remove.")
	keys["digest"] = about(schema.Text().Long(64), "Only if the SHA-1 of the file is this.")
	return keys
}

func about(p *schema.Property, text string) *schema.Property {
	p.Description = text
	return p
}

func must(p *schema.Property, text string) *schema.Property {
	p.Optional = false
	return about(p, text)
}
