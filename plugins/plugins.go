// Package plugins lists the plugins there are, for main to hand on.
//
// It owns these tables and nothing else: a plugin that is missing here does not
// exist for any agent.
package plugins

import (
	"etcpve/agents/storage"
	"etcpve/plugins/storage/dir"
	"etcpve/plugins/storage/mount"
)

// Storage returns the types of storage, by the word in storage.cfg. Secrets are
// below the tree.
func Storage(run storage.Runner, tree string) map[string]storage.Plugin {
	return map[string]storage.Plugin{
		"dir":    dir.Plugin{Run: run},
		"nfs":    mount.NFS(run),
		"cifs":   mount.CIFS(run, tree),
		"cephfs": mount.CephFS(run, tree),
	}
}
