package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// Notifications is notifications.cfg: who is told of what.
var Notifications = &section.Definition{
	ID: named("pve-configid"),
	Base: schema.Keys{
		"author":         text(),
		"body":           text(),
		"comment":        text(),
		"disable":        boolean(),
		"from-address":   text(),
		"header":         many(text()),
		"invert-match":   boolean(),
		"mailto":         many(named("email-or-username")),
		"mailto-user":    many(named("pve-userid")),
		"match-calendar": many(text()),
		"match-field":    many(text()),
		"match-severity": many(text()),
		"method":         oneOf("post put get"),
		"origin":         oneOf("user-created builtin modified-builtin"),
		"port":           integer(),
		"server":         text(),
		"target":         many(named("pve-configid")),
		"url":            text(),
		"username":       text(),
	},
	Isolated: true,
	Types: own(map[string]schema.Keys{
		"matcher": {"mode": oneOf("all any")},
		"smtp":    {"mode": oneOf("insecure starttls tls")},
	}, kinds(map[string]string{
		"gotify":   "comment? disable? origin? server",
		"matcher":  "comment? disable? invert-match? match-calendar? match-field? match-severity? origin? target?",
		"sendmail": "author? comment? disable? from-address? mailto? mailto-user? origin?",
		"smtp":     "author? comment? disable? from-address mailto? mailto-user? origin? port? server username?",
		"webhook":  "body? comment? disable? header? method origin? url",
	})),
}

// NotificationSecrets is priv/notifications.cfg: what root alone may read of the same sections.
var NotificationSecrets = &section.Definition{
	ID: named("pve-configid"),
	Base: schema.Keys{
		"password": text(),
		"secret":   many(text()),
		"token":    text(),
	},
	Types: kinds(map[string]string{
		"gotify":  "token",
		"smtp":    "password?",
		"webhook": "secret?",
	}),
}
