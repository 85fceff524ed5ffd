// Package plugins lists the plugins there are, for main to hand on.
//
// It owns these tables and nothing else: a plugin that is missing here does not
// exist for any agent.
package plugins

import (
	"etcpve/agents/storage"
	"etcpve/plugins/storage/btrfs"
	"etcpve/plugins/storage/dir"
	"etcpve/plugins/storage/iscsi"
	"etcpve/plugins/storage/iscsidirect"
	"etcpve/plugins/storage/lvm"
	"etcpve/plugins/storage/mount"
	"etcpve/plugins/storage/pbs"
	"etcpve/plugins/storage/rbd"
	"etcpve/plugins/storage/zfs"
	"etcpve/plugins/storage/zfspool"
)

// Storage returns the types of storage, by the word in storage.cfg. Secrets are
// below the tree.
func Storage(run storage.Runner, tree string) map[string]storage.Plugin {
	return map[string]storage.Plugin{
		"btrfs":       btrfs.New(run),
		"cephfs":      mount.CephFS(run, tree),
		"cifs":        mount.CIFS(run, tree),
		"glusterfs":   mount.GlusterFS(run),
		"iscsi":       iscsi.New(run, ""),
		"iscsidirect": iscsidirect.New(run),
		"dir":         dir.Plugin{Run: run},
		"lvm":         lvm.New(run),
		"lvmthin":     lvm.NewThin(run),
		"nfs":         mount.NFS(run),
		"pbs":         pbs.New(run, tree),
		"rbd":         rbd.New(run, tree),
		"zfs":         zfs.New(run, tree, zfs.Active),
		"zfspool":     zfspool.New(run),
	}
}
