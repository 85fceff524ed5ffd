package mount

import (
	"strconv"
	"strings"

	"etcpve/cfs/layout"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/status"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Names of the root that pmxcfs does not have. They can be opened by name, but
// no listing shows them: whoever walks the tree must not walk into a stream
// that never ends or a second copy of everything.
const (
	statusName   = ".status"
	historyName  = ".history"
	rejectedName = ".rejected"
	eventsName   = ".events"
)

// views are the virtual names of the root.
type views struct {
	byName map[string]virtual.View
	listed []virtual.Item
}

func (m *Mount) newViews() views {
	v := views{byName: map[string]virtual.View{}}
	show := func(name string, view virtual.View) {
		_, link := view.(virtual.Link)
		v.byName[name] = view
		v.listed = append(v.listed, virtual.Item{Name: name, Link: link})
	}
	file := func(render func(uid uint32) []byte) virtual.File { return virtual.File{Mode: 0o440, Render: render} }

	show(".clusterlog", file(func(uint32) []byte { return m.cfg.ClusterLog.JSON("") }))
	show(".debug", virtual.Debug(m.cfg.Level))
	show(".members", file(func(uint32) []byte { return virtual.Members(m.cfg.Node, m.cluster()) }))
	show(".rrd", virtual.Samples{Store: m.cfg.Status})
	show(".version", file(m.renderVersion))
	show(".vmlist", file(func(uint32) []byte { return virtual.Guests(m.cfg.Tree.Guests()) }))
	for _, l := range layout.Links(m.cfg.Node) {
		show(l.Name, virtual.Link(l.Target))
	}
	v.byName[statusName] = virtual.Documents{Node: m.cfg.Node, Tree: m.cfg.Tree, Store: m.cfg.Status}
	v.byName[rejectedName] = file(m.rejected.Render)
	v.byName[eventsName] = file(func(uint32) []byte { return nil })
	if m.cfg.History != nil {
		v.byName[historyName] = virtual.Past{Node: m.cfg.Node, Tree: m.cfg.Tree, History: m.cfg.History}
	}
	return v
}

// find returns the view that a virtual name belongs to and the path inside it.
func (v views) find(name string) (view virtual.View, path string, ok bool) {
	first, path, _ := strings.Cut(name, "/")
	if _, ok := eventsAfter(first); ok && path == "" {
		first = eventsName
	}
	view, ok = v.byName[first]
	return view, path, ok
}

// eventsAfter returns the index in a name of the form ".events.INDEX".
func eventsAfter(name string) (index uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, eventsName+".")
	if !ok {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil
}

// isVirtual reports whether name, in the root, is one that the tree cannot have.
func (v views) isVirtual(name string) bool {
	_, _, ok := v.find(name)
	return ok
}

// stat describes a virtual name.
func (m *Mount) stat(name string) (virtual.Info, error) {
	view, path, ok := m.views.find(name)
	if !ok {
		return virtual.Info{}, virtual.ErrNotExist
	}
	return view.Stat(path)
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
