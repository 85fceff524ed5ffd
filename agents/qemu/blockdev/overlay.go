package blockdev

import (
	"crypto/sha256"
	"encoding/hex"
)

// The nodes of a drive whose states are files do not go with it, as those of
// Stack do. Their names begin with OverlayPrefix and end with a hash of what
// they are for.

// Overlay returns the format node with which a volume begins anew: without
// backing, for blockdev-snapshot to put it on top of what is there.
func Overlay(d Drive, v Volume, state string) map[string]any {
	top, file := parts(d, v)
	return merge(top, map[string]any{"node-name": overlayName(d.Key, state), "file": file, "backing": nil})
}

// File returns the protocol node with which a format node goes on when its file
// has got another name. QEMU has the file open and locked already.
func File(d Drive, v Volume, state string) map[string]any {
	_, file := parts(d, v)
	return merge(file, map[string]any{"node-name": overlayName(d.Key, v.Path+"@"+state), "locking": "off"})
}

// Reopened returns what blockdev-reopen takes to let a format node go on with a
// file, on top of below; "" for nothing.
func Reopened(d Drive, v Volume, node string, file map[string]any, below string) map[string]any {
	top, _ := parts(d, v)
	top = merge(top, map[string]any{"node-name": node, "file": file["node-name"], "backing": nil})
	if below != "" {
		top["backing"] = below
	}
	return top
}

// parts returns the format and the protocol node of a drive.
func parts(d Drive, v Volume) (top, file map[string]any) {
	top = Stack(d, v)["file"].(map[string]any)
	file = merge(top["file"].(map[string]any))
	delete(file, "node-name")
	return top, file
}

// OverlayPrefix begins the names of the nodes of a drive.
func OverlayPrefix(key string) string { return "c" + short(key) + "-" }

func overlayName(key, purpose string) string { return OverlayPrefix(key) + short(purpose) }

// short leaves room for two of its kind in the name of a node.
func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:7])
}
