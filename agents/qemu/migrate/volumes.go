package migrate

import (
	"context"
	"slices"
	"strings"

	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// A use is one place in a configuration that names a volume.
type use struct {
	section *config.Section
	main    bool // of the VM itself and not of a snapshot or of a pending change
	state   bool // "vmstate": saved memory
	config.Volume
}

// uses are all places that name a volume, or a drive of the node.
func uses(c *config.Config) (all []use) {
	of := func(s *config.Section, main bool) {
		for _, v := range config.Volumes(layout.QEMU, s) {
			all = append(all, use{section: s, main: main, Volume: v})
		}
		for _, key := range s.Series("unused") {
			v := config.Volume{Kind: layout.QEMU, Key: key, Bus: "unused", Volume: strings.TrimPrefix(s.Get(key), "file=")}
			all = append(all, use{section: s, main: main, Volume: v})
		}
		if id := s.Get("vmstate"); id != "" {
			v := config.Volume{Kind: layout.QEMU, Key: "vmstate", Bus: "unused", Volume: id}
			all = append(all, use{section: s, state: true, Volume: v})
		}
	}
	of(c.Main, true)
	of(c.Pending, false)
	for _, s := range c.Snapshots {
		of(s, false)
	}
	return all
}

// rename writes other volumes into a configuration, all at the same time.
func rename(c *config.Config, moved map[string]string) {
	for _, u := range uses(c) {
		to := moved[u.Volume.Volume]
		switch {
		case to == "" || to == u.Volume.Volume:
		case u.Bus == "unused":
			u.section.Set(u.Key, to)
		default:
			u.Volume.Volume = to
			delete(u.Options, "format") // the name tells
			u.section.Set(u.Key, u.String())
		}
	}
}

// named reports whether a configuration names a volume of this node: of any
// guest of the cluster if all nodes see it, else of one that is here.
func (j job) named(ctx context.Context, volume string) (bool, error) {
	at, err := j.Catalog.Locate(volume)
	if err != nil {
		return false, err
	}
	return j.AnyConfiguration(ctx, func(path, content string) bool {
		switch {
		case !at.Config.Shared() && !strings.HasPrefix(path, "nodes/"+j.Node+"/") || !strings.Contains(content, volume):
			return false
		case strings.Contains(path, "/lxc/"):
			return true // a container's volumes are not told apart here
		}
		c, _ := config.Parse(layout.QEMU, 0, content)
		return slices.ContainsFunc(uses(c), func(u use) bool { return u.Volume.Volume == volume })
	})
}
