package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// MetricServers is status.cfg: where load and counters are sent.
var MetricServers = &section.Definition{
	ID: named("pve-configid"),
	Base: schema.Keys{
		"api-path-prefix":          text(),
		"bucket":                   text(),
		"disable":                  boolean(),
		"influxdbproto":            oneOf("udp http https"),
		"max-body-size":            integer(1),
		"mtu":                      integer(512, 65536),
		"organization":             text(),
		"otel-compression":         oneOf("none gzip"),
		"otel-headers":             text(1024),
		"otel-max-body-size":       integer(1024),
		"otel-path":                text(),
		"otel-protocol":            oneOf("http https"),
		"otel-resource-attributes": text(1024),
		"otel-timeout":             integer(1, 10),
		"otel-verify-ssl":          boolean(),
		"path":                     named("graphite-path"),
		"port":                     required(integer(1, 65536)),
		"proto":                    oneOf("udp tcp"),
		"server":                   required(named("address")),
		"timeout":                  integer(0),
		"token":                    text(),
		"verify-certificate":       boolean(),
	},
	Types: kinds(map[string]string{
		"graphite":      "disable? mtu? path? port? proto? server timeout?",
		"influxdb":      "api-path-prefix? bucket? disable? influxdbproto? max-body-size? mtu? organization? port server timeout? token? verify-certificate?",
		"opentelemetry": "disable? otel-compression? otel-headers? otel-max-body-size? otel-path? otel-protocol? otel-resource-attributes? otel-timeout? otel-verify-ssl? port? server",
	}),
}

// CPUModels is virtual-guest/cpu-models.conf.
var CPUModels = &section.Definition{
	Base: schema.Keys{
		"cputype":         text(),
		"flags":           matches("[+-][a-zA-Z0-9_.-]+(;[+-][a-zA-Z0-9_.-]+)*"),
		"guest-phys-bits": integer(32, 64),
		"hidden":          boolean(),
		"hv-vendor-id":    matches("[a-zA-Z0-9]{1,12}"),
		"level":           integer(0, 4294967295),
		"phys-bits":       named("pve-phys-bits"),
		"reported-model":  matches("[a-zA-Z0-9._-]+"),
	},
	Types: kinds(map[string]string{
		"cpu-model": "cputype? flags? guest-phys-bits? hidden? hv-vendor-id? level? phys-bits? reported-model?",
	}),
}

// ACMEPlugins is priv/acme/plugins.cfg.
var ACMEPlugins = &section.Definition{
	ID: named("pve-configid"),
	Base: schema.Keys{
		"api":              matches("[a-z0-9_]+"),
		"data":             text(),
		"disable":          boolean(),
		"nodes":            named("pve-node-list"),
		"validation-delay": integer(0, 172800),
	},
	Types: kinds(map[string]string{
		"dns":        "api data? disable? nodes? validation-delay?",
		"standalone": "disable? nodes?",
	}),
}
