// Package vmlist reads .vmlist: which guests the cluster has, and where each is at one
// moment. Who lists the directories of the nodes one after the other instead may see
// a guest that moves meanwhile twice, or nowhere.
//
// It owns the form of that file. It never writes it, which the file system does, and
// never opens one.
package vmlist

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"etcpve/cfs/layout"
)

// Parse reads the content of the file: the guests in the order of their VMIDs.
func Parse(content []byte) (all []layout.Guest, err error) {
	var file struct {
		IDs map[string]struct {
			Node string      `json:"node"`
			Type layout.Kind `json:"type"`
		} `json:"ids"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf(".vmlist: %w", err)
	}
	for id, g := range file.IDs {
		if vmid, ok := layout.ParseVMID(id); ok {
			all = append(all, layout.Guest{VMID: vmid, Node: g.Node, Kind: g.Type})
		}
	}
	slices.SortFunc(all, func(a, b layout.Guest) int { return cmp.Compare(a.VMID, b.VMID) })
	return all, nil
}
