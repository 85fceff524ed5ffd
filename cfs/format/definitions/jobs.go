package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// Jobs is jobs.cfg: backups and realm synchronisations on a schedule.
var Jobs = &section.Definition{
	ID: length(0, 64, named("pve-configid")),
	Base: schema.Keys{
		"all":          boolean(),
		"bwlimit":      integer(0),
		"comment":      text(512),
		"compress":     oneOf("0 1 gzip lzo zstd"),
		"dumpdir":      text(),
		"enable-new":   boolean(),
		"enabled":      boolean(),
		"exclude":      named("pve-vmid-list"),
		"exclude-path": many(text()),
		"fleecing": properties(schema.Keys{
			"enabled": preset(boolean()),
			"storage": named("pve-storage-id"),
		}),
		"ionice":                    integer(0, 8),
		"lockwait":                  integer(0),
		"mailnotification":          oneOf("always failure"),
		"mailto":                    named("email-or-username-list"),
		"mode":                      oneOf("snapshot suspend stop"),
		"node":                      named("pve-node"),
		"notes-template":            needs("storage", text(1024)),
		"notification-mode":         oneOf("auto legacy-sendmail notification-system"),
		"pbs-change-detection-mode": oneOf("legacy data metadata"),
		"performance": properties(schema.Keys{
			"max-workers":     integer(1, 256),
			"pbs-entries-max": integer(1),
		}),
		"pigz":            integer(),
		"pool":            text(),
		"protected":       needs("storage", boolean()),
		"prune-backups":   properties(pruneBackups),
		"quiet":           boolean(),
		"realm":           length(0, 32, named("pve-realm")),
		"remove":          boolean(),
		"remove-vanished": matches("(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none"),
		"repeat-missed":   boolean(),
		"schedule":        required(length(0, 128, named("pve-calendar-event"))),
		"scope":           oneOf("users groups both"),
		"script":          text(),
		"stdexcludes":     boolean(),
		"stop":            boolean(),
		"stopwait":        integer(0),
		"storage":         named("pve-storage-id"),
		"tmpdir":          text(),
		"vmid":            named("pve-vmid-list"),
		"zstd":            integer(),
	},
	Types: kinds(map[string]string{
		"realm-sync": "comment? enable-new? enabled? realm! remove-vanished? schedule scope",
		"vzdump":     "all? bwlimit? comment? compress? dumpdir? enabled? exclude? exclude-path? fleecing? ionice? lockwait? mailnotification? mailto? mode? node? notes-template? notification-mode? pbs-change-detection-mode? performance? pigz? pool? protected? prune-backups? quiet? remove? repeat-missed? schedule script? stdexcludes? stop? stopwait? storage? tmpdir? vmid? zstd?",
	}),
}

// Replication is replication.cfg: volumes copied to another node.
var Replication = &section.Definition{
	ID: matches(`[1-9][0-9]{2,8}-\d{1,9}`),
	Base: schema.Keys{
		"comment":    text(4096),
		"disable":    boolean(),
		"rate":       number(1),
		"remove_job": oneOf("local full"),
		"schedule":   length(0, 128, named("pve-calendar-event")),
		"source":     named("pve-node"),
		"target":     named("pve-node"),
	},
	Types: kinds(map[string]string{
		"local": "comment? disable? rate? remove_job? schedule? source? target!",
	}),
}
