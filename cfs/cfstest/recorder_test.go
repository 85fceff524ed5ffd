package cfstest

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// An event is something that reached the disk below the database, or an
// acknowledgement above it.
type event struct {
	kind eventKind
	file string
	to   string // rename
	off  int64  // write: where; truncate: the new size
	data []byte
}

type eventKind uint8

const (
	wrote eventKind = iota
	truncated
	created
	unlinked
	renamed
	synced
	acknowledged
)

// recorder is a pass-through file system that notes what a disk would see.
type recorder struct {
	mu     sync.Mutex
	events []event
}

func (r *recorder) add(e event) {
	if strings.HasSuffix(e.file, "-shm") { // shared memory, rebuilt after a crash
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// mount returns a directory whose changes are recorded.
func (r *recorder) mount(t *testing.T) string {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	below, dir := t.TempDir(), t.TempDir()
	root := &fs.LoopbackRoot{Path: below}
	node := &recordedNode{LoopbackNode: fs.LoopbackNode{RootData: root}, r: r, below: below}
	root.RootNode = node
	server, err := fs.Mount(dir, node, &fs.Options{MountOptions: fuse.MountOptions{FsName: "recorder", DirectMount: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
	return dir
}

type recordedNode struct {
	fs.LoopbackNode
	r     *recorder
	below string
}

var (
	_ fs.NodeWrapChilder = (*recordedNode)(nil)
	_ fs.NodeOpener      = (*recordedNode)(nil)
	_ fs.NodeCreater     = (*recordedNode)(nil)
	_ fs.NodeSetattrer   = (*recordedNode)(nil)
	_ fs.NodeUnlinker    = (*recordedNode)(nil)
	_ fs.NodeRenamer     = (*recordedNode)(nil)
)

func (n *recordedNode) WrapChild(context.Context, fs.InodeEmbedder) fs.InodeEmbedder {
	return &recordedNode{LoopbackNode: fs.LoopbackNode{RootData: n.RootData}, r: n.r, below: n.below}
}

func (n *recordedNode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	name := n.Path(nil)
	f, err := os.OpenFile(filepath.Join(n.below, name), int(flags)&(syscall.O_ACCMODE|syscall.O_TRUNC), 0)
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	return &recordedFile{f: f, name: name, r: n.r}, 0, 0
}

func (n *recordedNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, h, _, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	h.(fs.FileReleaser).Release(ctx)
	n.r.add(event{kind: created, file: name})
	f, err := os.OpenFile(filepath.Join(n.below, name), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	return inode, &recordedFile{f: f, name: name, r: n.r}, 0, 0
}

func (n *recordedNode) Setattr(ctx context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	errno := n.LoopbackNode.Setattr(ctx, nil, in, out)
	if size, ok := in.GetSize(); ok && errno == 0 {
		n.r.add(event{kind: truncated, file: n.Path(nil), off: int64(size)})
	}
	return errno
}

func (n *recordedNode) Unlink(ctx context.Context, name string) syscall.Errno {
	n.r.add(event{kind: unlinked, file: name})
	return n.LoopbackNode.Unlink(ctx, name)
}

func (n *recordedNode) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	n.r.add(event{kind: renamed, file: name, to: to})
	return n.LoopbackNode.Rename(ctx, name, parent, to, flags)
}

type recordedFile struct {
	f    *os.File
	name string
	r    *recorder
}

var (
	_ fs.FileReader   = (*recordedFile)(nil)
	_ fs.FileWriter   = (*recordedFile)(nil)
	_ fs.FileFsyncer  = (*recordedFile)(nil)
	_ fs.FileReleaser = (*recordedFile)(nil)
)

func (h *recordedFile) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultFd(h.f.Fd(), off, len(dest)), 0
}

func (h *recordedFile) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.r.add(event{kind: wrote, file: h.name, off: off, data: bytes.Clone(data)})
	n, err := h.f.WriteAt(data, off)
	return uint32(n), fs.ToErrno(err)
}

// Fsync is durable when it returns, so everything before it is.
func (h *recordedFile) Fsync(context.Context, uint32) syscall.Errno {
	h.r.add(event{kind: synced, file: h.name})
	return 0
}

func (h *recordedFile) Release(context.Context) syscall.Errno { return fs.ToErrno(h.f.Close()) }

// disk is what a disk holds after a number of events: what is certain, and the
// writes since the last sync of each file, which a power cut may lose.
type disk struct {
	certain map[string][]byte
	loose   map[string][]event
}

func newDisk() *disk { return &disk{certain: map[string][]byte{}, loose: map[string][]event{}} }

// see takes one event. Creating, renaming and removing files is certain at once:
// the directory is synced by SQLite, and losing it would only lose whole files.
func (d *disk) see(e event) {
	switch e.kind {
	case wrote, truncated:
		d.loose[e.file] = append(d.loose[e.file], e)
	case synced:
		for _, w := range d.loose[e.file] {
			d.certain[e.file] = w.on(d.certain[e.file])
		}
		delete(d.loose, e.file)
	case created:
		if _, ok := d.certain[e.file]; !ok {
			d.certain[e.file] = nil
		}
	case unlinked:
		delete(d.certain, e.file)
		delete(d.loose, e.file)
	case renamed:
		d.certain[e.to], d.loose[e.to] = d.certain[e.file], d.loose[e.file]
		delete(d.certain, e.file)
		delete(d.loose, e.file)
	}
}

// on returns content after the event, reusing its memory.
func (e event) on(content []byte) []byte {
	size := e.off
	if e.kind == wrote {
		size = max(int64(len(content)), e.off+int64(len(e.data)))
	}
	if grow := size - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	content = content[:size]
	copy(content[min(e.off, size):], e.data)
	return content
}

// A fate decides what becomes of a loose write: the part of it that survives.
type fate func(e event) (event, bool)

func allLost(event) (event, bool)   { return event{}, false }
func allKept(e event) (event, bool) { return e, true }

// torn keeps every second write on average, and of those only some sectors.
func torn(random *rand.Rand, sector int) fate {
	return func(e event) (event, bool) {
		if random.IntN(2) == 0 {
			return e, false
		}
		if e.kind != wrote || len(e.data) <= sector || random.IntN(2) == 0 {
			return e, true
		}
		e.data = e.data[:sector*(1+random.IntN(len(e.data)/sector))]
		return e, true
	}
}

// image writes what is left after a power cut to dir.
func (d *disk) image(t *testing.T, dir string, f fate) {
	t.Helper()
	files := maps.Clone(d.certain)
	for _, name := range slices.Sorted(maps.Keys(d.loose)) {
		files[name] = bytes.Clone(files[name])
		for _, e := range d.loose[name] {
			if survivor, ok := f(e); ok {
				files[name] = survivor.on(files[name])
			}
		}
	}
	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	for name, content := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}
