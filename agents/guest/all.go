package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"etcpve/cfs/format/vmlist"
	"etcpve/cfs/layout"
)

// All returns the guests of the cluster whose file system is at tree, each where it is
// at one moment. Who looks into the directories of the nodes one after the other may
// see a guest that moves meanwhile nowhere, and would take it for deleted.
func All(tree string) ([]layout.Guest, error) {
	text, err := os.ReadFile(filepath.Join(tree, ".vmlist"))
	if errors.Is(err, fs.ErrNotExist) {
		return scanned(tree)
	}
	if err != nil {
		return nil, err
	}
	return vmlist.Parse(text)
}

// scanned is All for a tree that is a plain directory: it looks until it sees the same
// twice.
func scanned(tree string) ([]layout.Guest, error) {
	last, err := scan(tree)
	for err == nil {
		var all []layout.Guest
		if all, err = scan(tree); err == nil && slices.Equal(all, last) {
			return all, nil
		}
		last = all
	}
	return nil, err
}

func scan(tree string) (all []layout.Guest, err error) {
	nodes, err := os.ReadDir(filepath.Join(tree, "nodes"))
	if err != nil {
		return nil, err
	}
	for _, node := range nodes {
		for _, kind := range []layout.Kind{layout.QEMU, layout.LXC} {
			dir := "nodes/" + node.Name() + "/" + kind.Dir()
			entries, err := os.ReadDir(filepath.Join(tree, dir))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a node may have had no such guest yet
				return nil, err
			}
			for _, e := range entries {
				if g, ok := layout.GuestOf(dir + "/" + e.Name()); ok {
					all = append(all, g)
				}
			}
		}
	}
	return all, nil
}
