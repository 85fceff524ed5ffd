package job

import (
	"strings"

	config "etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// mentions reports whether a configuration file names a volume, also in a
// snapshot or as unused.
func mentions(file, content, volume string) bool {
	if !strings.Contains(content, volume) || strings.Contains(file, "/lxc/") {
		return strings.Contains(content, volume) // a container's volumes are not told apart here
	}
	c, _ := config.Parse(layout.QEMU, 0, content)
	return VolumesOf(c)[volume]
}

// VolumesOf are all volumes that a configuration names.
func VolumesOf(c *config.Config) map[string]bool {
	all := map[string]bool{}
	sections := []*config.Section{c.Main, c.Pending}
	for _, s := range c.Snapshots {
		sections = append(sections, s)
	}
	for _, s := range sections {
		for _, v := range Owned(s) {
			all[v.Volume] = true
		}
		if state := s.Get("vmstate"); state != "" {
			all[state] = true
		}
	}
	return all
}

// Owned are the volumes of a section that are on a storage, used or not.
func Owned(s *config.Section) (all []config.Volume) {
	for _, v := range config.Volumes(layout.QEMU, s) {
		if _, _, ok := v.Storage(); ok {
			all = append(all, v)
		}
	}
	for _, key := range s.Series("unused") {
		all = append(all, config.Volume{Kind: layout.QEMU, Key: key, Bus: "unused", Volume: strings.TrimPrefix(s.Get(key), "file=")})
	}
	return all
}
