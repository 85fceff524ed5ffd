package definitions

import (
	"strconv"

	"etcpve/cfs/format/schema"
)

// Datacenter is datacenter.cfg: settings of the whole cluster.
var Datacenter = schema.Keys{
	"bwlimit":      properties(bandwidth),
	"consent-text": text(65536),
	"console":      oneOf("applet vv html5 xtermjs"),
	"crs": properties(schema.Keys{
		"ha":                              oneOf("basic static dynamic"),
		"ha-auto-rebalance":               boolean(),
		"ha-auto-rebalance-hold-duration": needs("ha-auto-rebalance", number(0)),
		"ha-auto-rebalance-margin":        needs("ha-auto-rebalance", number(0, 100)),
		"ha-auto-rebalance-method":        needs("ha-auto-rebalance", oneOf("bruteforce topsis")),
		"ha-auto-rebalance-threshold":     needs("ha-auto-rebalance", number(0, 100)),
		"ha-rebalance-on-start":           boolean(),
	}),
	"description": text(65536),
	"email_from":  named("email-opt"),
	"fencing":     oneOf("watchdog hardware both"),
	"ha": properties(schema.Keys{
		"shutdown_policy": required(oneOf("freeze failover conditional migrate")),
	}),
	"http_proxy":  matches("http://.*"),
	"keyboard":    oneOf("de de-ch da en-gb en-us es fi fr fr-be fr-ca fr-ch hu is it ja lt mk nl no pl pt pt-br sv sl tr"),
	"language":    oneOf("ar ca da de en es eu fa fr hr he it ja ka kr nb nl nn pl pt_BR ru sl sv tr ukr zh_CN zh_TW"),
	"location":    properties(place),
	"mac_prefix":  named("mac-prefix"),
	"max_workers": integer(1),
	"migration": properties(schema.Keys{
		"network": named("CIDR"),
		"type":    required(preset(oneOf("secure insecure"))),
	}),
	"migration_unsecure": boolean(),
	"next-id": properties(schema.Keys{
		"lower": integer(100, 999999999),
		"upper": integer(100, 1000000000),
	}),
	"notify": properties(schema.Keys{
		"fencing":                oneOf("always never"),
		"package-updates":        oneOf("auto always never"),
		"replication":            oneOf("always never"),
		"target-fencing":         text(),
		"target-package-updates": text(),
		"target-replication":     text(),
	}),
	"registered-tags": matches(`(?:(?^i:[a-z0-9_][a-z0-9_\-\+\.]*);)*(?^i:[a-z0-9_][a-z0-9_\-\+\.]*)`),
	"replication": properties(schema.Keys{
		"network": named("CIDR"),
		"type":    required(preset(oneOf("secure insecure"))),
	}),
	"restore-power": boolean(),
	"tag-style": properties(schema.Keys{
		"case-sensitive": boolean(),
		"color-map":      matches(`(?:(?^i:[a-z0-9_][a-z0-9_\-\+\.]*):[0-9a-fA-F]{6}(?::[0-9a-fA-F]{6})?)(?:;(?:(?^i:[a-z0-9_][a-z0-9_\-\+\.]*):[0-9a-fA-F]{6}(?::[0-9a-fA-F]{6})?))*`),
		"ordering":       oneOf("config alphabetical"),
		"shape":          oneOf("full circle dense none"),
	}),
	"u2f": properties(schema.Keys{
		"appid":  text(),
		"origin": text(),
	}),
	"user-tag-access": properties(schema.Keys{
		"user-allow":      oneOf("none list existing free"),
		"user-allow-list": matches(`(?^i:[a-z0-9_][a-z0-9_\-\+\.]*)(?:;(?^i:[a-z0-9_][a-z0-9_\-\+\.]*))*`),
	}),
	"webauthn": properties(schema.Keys{
		"allow-subdomains": boolean(),
		"id":               text(),
		"origin":           text(),
		"rp":               text(),
	}),
}

// Node is nodes/NODE/config: settings of one node. The keys acmedomain0 to
// acmedomain5 come from a series.
var Node = withSeries("acmedomain", 6, properties(schema.Keys{
	"alias":  named("pve-acme-alias"),
	"domain": required(preset(named("pve-acme-domain"))),
	"plugin": named("pve-configid"),
}), schema.Keys{
	"acme": properties(schema.Keys{
		"account": named("pve-configid"),
		"domains": named("pve-acme-domain-list"),
	}),
	"ballooning-target":     integer(0, 100),
	"description":           text(65536),
	"location":              properties(place),
	"startall-onboot-delay": integer(0, 300),
	"wakeonlan": properties(schema.Keys{
		"bind-interface":    named("pve-iface"),
		"broadcast-address": named("ipv4"),
		"mac":               required(preset(named("mac-addr"))),
	}),
})

// place is where a machine stands.
var place = schema.Keys{
	"latitude":  required(number(-90, 90)),
	"longitude": required(number(-180, 180)),
	"name":      text(128),
}

// withSeries adds the numbered keys name0, name1, … to keys.
func withSeries(name string, count int, p *schema.Property, keys schema.Keys) schema.Keys {
	for i := range count {
		keys[name+strconv.Itoa(i)] = p
	}
	return keys
}
