package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// PCIMappings is mapping/pci.cfg.
var PCIMappings = &section.Definition{
	ID:   named("pve-configid"),
	Bare: "pci",
	Base: schema.Keys{
		"description":            text(4096),
		"live-migration-capable": boolean(),
		"map": many(properties(schema.Keys{
			"description":  text(4096),
			"id":           required(matches("^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$")),
			"iommugroup":   integer(),
			"node":         required(named("pve-node")),
			"path":         required(matches("(?:[a-f0-9]{4,}:[a-f0-9]{2}:[a-f0-9]{2}(?:.[a-f0-9])?;)*[a-f0-9]{4,}:[a-f0-9]{2}:[a-f0-9]{2}(?:.[a-f0-9])?")),
			"subsystem-id": matches("^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$"),
		})),
		"mdev": boolean(),
	},
	Types: kinds(map[string]string{
		"pci": "description? live-migration-capable? map mdev?",
	}),
}

// USBMappings is mapping/usb.cfg.
var USBMappings = &section.Definition{
	ID:   named("pve-configid"),
	Bare: "usb",
	Base: schema.Keys{
		"description": text(4096),
		"map": required(many(properties(schema.Keys{
			"description": text(4096),
			"id":          required(matches("^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$")),
			"node":        required(named("pve-node")),
			"path":        matches(`^(\d+)\-(\d+(\.\d+)*)$`),
		}))),
	},
	Types: kinds(map[string]string{
		"usb": "description? map",
	}),
}

// DirectoryMappings is mapping/directory.cfg.
var DirectoryMappings = &section.Definition{
	ID:   named("pve-configid"),
	Bare: "dir",
	Base: schema.Keys{
		"description": text(4096),
		"map": many(properties(schema.Keys{
			"node": required(named("pve-node")),
			"path": required(named("pve-storage-path-in-property-string")),
		})),
	},
	Types: kinds(map[string]string{
		"dir": "description? map",
	}),
}
