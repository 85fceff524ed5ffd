package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// HAResources is ha/resources.cfg: guests under high availability.
var HAResources = &section.Definition{
	ID:        named("pve-vmid"), // of the guest
	IDsByType: true,
	Base: schema.Keys{
		"comment":      text(4096),
		"failback":     boolean(),
		"group":        named("pve-configid"),
		"max_relocate": integer(0),
		"max_restart":  integer(0),
		"state":        oneOf("started stopped enabled disabled ignored"),
	},
	Types: kinds(map[string]string{
		"ct": "comment? failback? group? max_relocate? max_restart? state?",
		"vm": "comment? failback? group? max_relocate? max_restart? state?",
	}),
}

// HARules is ha/rules.cfg: where and beside what they may run.
var HARules = &section.Definition{
	ID: named("pve-configid"),
	Base: schema.Keys{
		"comment":   text(4096),
		"disable":   boolean(),
		"resources": required(named("pve-ha-resource-id-list")),
	},
	Isolated: true,
	Types: map[string]*section.Type{
		"node-affinity": {
			Properties: schema.Keys{"nodes": required(named("pve-ha-node-list")), "strict": boolean()},
			Options:    takes("comment? disable? resources"),
		},
		"resource-affinity": {
			Properties: schema.Keys{"affinity": required(oneOf("positive negative"))},
			Options:    takes("comment? disable? resources"),
		},
	},
}

// HAGroups is ha/groups.cfg: the older form of node affinity.
var HAGroups = &section.Definition{
	ID: named("pve-configid"),
	Base: schema.Keys{
		"comment":    text(4096),
		"nodes":      named("pve-ha-node-list"),
		"nofailback": boolean(),
		"restricted": boolean(),
	},
	Types: kinds(map[string]string{
		"group": "comment? nodes nofailback? restricted?",
	}),
}
