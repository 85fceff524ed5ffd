package definitions

import (
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// Storage is storage.cfg: where volumes live.
var Storage = &section.Definition{
	ID: named("pve-storage-id"),
	Base: schema.Keys{
		"base":                     named("pve-volume-id"),
		"blocksize":                named("pve-storage-zfs-blocksize"),
		"bwlimit":                  properties(bandwidth),
		"comstar_hg":               text(),
		"comstar_tg":               text(),
		"content":                  named("pve-storage-content-list"),
		"content-dirs":             named("pve-dir-override-list"),
		"create-base-path":         boolean(),
		"create-subdirs":           boolean(),
		"data-pool":                text(),
		"datastore":                text(),
		"disable":                  boolean(),
		"domain":                   text(256),
		"encryption-key":           text(),
		"export":                   named("pve-storage-path"),
		"fingerprint":              matches("([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}"),
		"format":                   oneOf("raw qcow2 subvol vmdk"),
		"fs-name":                  named("pve-configid"),
		"fuse":                     boolean(),
		"is_mountpoint":            text(),
		"iscsiprovider":            text(),
		"keyring":                  text(),
		"krbd":                     boolean(),
		"lio_tpg":                  text(),
		"master-pubkey":            text(),
		"max-protected-backups":    integer(-1),
		"mkdir":                    boolean(),
		"monhost":                  named("pve-storage-portal-dns-list"),
		"mountpoint":               named("pve-storage-path"),
		"namespace":                text(),
		"nocow":                    boolean(),
		"nodes":                    named("pve-node-list"),
		"nowritecache":             boolean(),
		"options":                  named("pve-storage-options"),
		"password":                 text(256),
		"path":                     named("pve-storage-path"),
		"pool":                     text(),
		"port":                     integer(1, 65535),
		"portal":                   named("pve-storage-portal-dns"),
		"preallocation":            oneOf("off metadata falloc full"),
		"prune-backups":            properties(pruneBackups),
		"saferemove":               boolean(),
		"saferemove-stepsize":      {Type: "integer", Enum: []string{"1", "2", "4", "8", "16", "32"}, Optional: true},
		"saferemove_throughput":    text(),
		"server":                   named("pve-storage-server"),
		"share":                    text(),
		"shared":                   boolean(),
		"skip-cert-verification":   boolean(),
		"smbversion":               oneOf("default 2.0 2.1 3 3.0 3.11"),
		"snapshot-as-volume-chain": boolean(),
		"sparse":                   boolean(),
		"subdir":                   named("pve-storage-path"),
		"tagged_only":              boolean(),
		"target":                   text(),
		"thinpool":                 named("pve-storage-vgname"),
		"username":                 text(),
		"vgname":                   named("pve-storage-vgname"),
		"zfs-base-path":            named("pve-storage-path"),
	},
	Types: map[string]*section.Type{
		"btrfs": storage("backup images import iso none rootdir snippets vztmpl",
			"content? create-base-path? create-subdirs? disable? format? is_mountpoint? max-protected-backups? mkdir? nocow? nodes? path! preallocation? prune-backups? shared?"),
		"cephfs": storage("backup import iso snippets vztmpl",
			"bwlimit? content? content-dirs? create-base-path? create-subdirs? disable? format? fs-name? fuse? keyring? max-protected-backups? mkdir? monhost? nodes? options? path! prune-backups? subdir? username?"),
		"cifs": storage("backup images import iso rootdir snippets vztmpl",
			"bwlimit? content? content-dirs? create-base-path? create-subdirs? disable? domain? format? max-protected-backups? mkdir? nodes? options? password? path! preallocation? prune-backups? server! share! smbversion? snapshot-as-volume-chain?! subdir? username?"),
		"dir": storage("backup images import iso none rootdir snippets vztmpl",
			"bwlimit? content? content-dirs? create-base-path? create-subdirs? disable? format? is_mountpoint? max-protected-backups? mkdir? nodes? path! preallocation? prune-backups? shared? snapshot-as-volume-chain?!"),
		"esxi": storage("import",
			"content? disable? nodes? password? port? server shared? skip-cert-verification? username"),
		"glusterfs": glusterfs(),
		"iscsi": storage("images none",
			"bwlimit? content? disable? nodes? portal! target!"),
		"iscsidirect": storage("images none",
			"bwlimit? content? disable? nodes? portal! target!"),
		"lvm": storage("images rootdir",
			"base?! bwlimit? content? disable? nodes? saferemove? saferemove-stepsize? saferemove_throughput? shared? snapshot-as-volume-chain? tagged_only? vgname!"),
		"lvmthin": storage("images rootdir",
			"bwlimit? content? disable? nodes? thinpool! vgname!"),
		"nfs": storage("backup images import iso rootdir snippets vztmpl",
			"bwlimit? content? content-dirs? create-base-path? create-subdirs? disable? export! format? max-protected-backups? mkdir? nodes? options? path! preallocation? prune-backups? server! snapshot-as-volume-chain?!"),
		"pbs": storage("backup none",
			"content? datastore! disable? encryption-key? fingerprint? master-pubkey? max-protected-backups? namespace? nodes? password? port? prune-backups? server! username?"),
		"rbd": storage("images rootdir",
			"bwlimit? content? data-pool? disable? keyring? krbd? monhost? namespace? nodes? pool? username?"),
		"zfs": storage("images",
			"blocksize! bwlimit? comstar_hg? comstar_tg? content? disable? iscsiprovider! lio_tpg? nodes? nowritecache? pool! portal! sparse? target! zfs-base-path?"),
		"zfspool": storage("images rootdir",
			"blocksize? bwlimit? content? disable? mountpoint? nodes? pool! sparse?"),
	},
}

// storage makes a type that can hold certain content.
func storage(content, keys string) *section.Type {
	return &section.Type{Options: takes(keys), Words: map[string][]string{"content": strings.Fields(content)}}
}

// glusterfs is a type that Proxmox VE 9 has no more: its keys are its own.
func glusterfs() *section.Type {
	kind := storage("backup images import iso rootdir snippets vztmpl",
		"bwlimit? content? content-dirs? create-base-path? create-subdirs? disable? format? max-protected-backups? mkdir? nodes? options? path! preallocation? prune-backups? server! server2? transport? volume!")
	kind.Properties = schema.Keys{
		"server2":   named("pve-storage-server"),
		"transport": oneOf("tcp rdma unix"),
		"volume":    text(),
	}
	return kind
}

// pruneBackups is how many backups are kept.
var pruneBackups = schema.Keys{
	"keep-all":     boolean(),
	"keep-daily":   integer(0),
	"keep-hourly":  integer(0),
	"keep-last":    integer(0),
	"keep-monthly": integer(0),
	"keep-weekly":  integer(0),
	"keep-yearly":  integer(0),
}

// bandwidth limits transfers, in KiB/s.
var bandwidth = schema.Keys{
	"clone":     number(0),
	"default":   number(0),
	"migration": number(0),
	"move":      number(0),
	"restore":   number(0),
}
