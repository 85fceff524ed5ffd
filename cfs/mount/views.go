package mount

import (
	"etcpve/cfs/layout"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/status"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// newViews returns the virtual names of the root.
func (m *Mount) newViews() *virtual.Root {
	v := virtual.NewRoot()
	file := func(render func(uid uint32) []byte) virtual.File { return virtual.File{Mode: 0o440, Render: render} }

	v.Show(".clusterlog", file(func(uint32) []byte { return m.cfg.ClusterLog.JSON("") }))
	v.Show(".debug", virtual.Debug(m.cfg.Level))
	v.Show(".members", file(func(uint32) []byte { return virtual.Members(m.cfg.Node, m.cluster()) }))
	v.Show(".rrd", virtual.Samples{Store: m.cfg.Status})
	v.Show(".version", file(m.renderVersion))
	v.Show(".vmlist", file(func(uint32) []byte { return virtual.Guests(m.cfg.Tree.Guests()) }))
	for _, l := range layout.Links(m.cfg.Node) {
		v.Show(l.Name, virtual.Link(l.Target))
	}
	v.Hide(virtual.StatusName, virtual.Documents{Node: m.cfg.Node, Tree: m.cfg.Tree, Store: m.cfg.Status, History: m.cfg.History})
	v.Hide(virtual.RejectedName, file(m.rejected.Render))
	v.Hide(virtual.EventsName, file(func(uint32) []byte { return nil }))
	if m.cfg.History != nil {
		v.Hide(virtual.HistoryName, virtual.Past{Node: m.cfg.Node, Tree: m.cfg.Tree, History: m.cfg.History})
	}
	return v
}

func (m *Mount) fillVirtual(out *fuse.Attr, id uint64, info virtual.Info) {
	t := info.Time
	if t == 0 {
		t = m.start.Unix()
	}
	m.describe(out, id, info.Mode, info.Dir, info.Size, t)
	if info.Link != "" {
		out.Mode = fuse.S_IFLNK | info.Mode
	}
}

// describes what .version counts.
func (m *Mount) renderVersion(uint32) []byte {
	guests, _ := m.cfg.Tree.Guests()
	return virtual.Versions(m.cfg.Node, m.start.Unix(), m.cluster().Change, guests, m.cfg.Tree.Counters(), m.cfg.Status.List(status.KV))
}

func (m *Mount) cluster() virtual.Cluster {
	if m.cfg.Cluster == nil {
		return virtual.Cluster{}
	}
	return m.cfg.Cluster()
}
