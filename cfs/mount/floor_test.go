package mount

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// floor is a file system of one file that does nothing: what it takes to read it is
// the kernel's and the library's share of a read.
type floor struct {
	fuse.RawFileSystem
	data []byte
}

func (f *floor) fill(out *fuse.Attr, id uint64) {
	out.Ino, out.Mode, out.Nlink, out.Size = id, fuse.S_IFREG|0o640, 1, uint64(len(f.data))
	if id == fuse.FUSE_ROOT_ID {
		out.Mode = fuse.S_IFDIR | 0o755
	}
}

func (f *floor) Lookup(_ <-chan struct{}, _ *fuse.InHeader, _ string, out *fuse.EntryOut) fuse.Status {
	out.NodeId = fuse.FUSE_ROOT_ID + 1
	f.fill(&out.Attr, out.NodeId)
	out.SetEntryTimeout(validity)
	out.SetAttrTimeout(validity)
	return fuse.OK
}

func (f *floor) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.fill(&out.Attr, in.NodeId)
	out.SetTimeout(validity)
	return fuse.OK
}

func (f *floor) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (f *floor) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	begin := min(in.Offset, uint64(len(f.data)))
	return fuse.ReadResultData(f.data[begin:min(begin+uint64(in.Size), uint64(len(f.data)))]), fuse.OK
}

func (f *floor) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// mountFloor mounts a floor with the options of the mount itself.
func mountFloor(b *testing.B, m *Mount, size int) string {
	dir := b.TempDir()
	guard(b, dir)
	opt := m.options()
	opt.DirectMount, opt.AllowOther, opt.FsName = true, true, "floor"
	server, err := fuse.NewServer(&floor{fuse.NewDefaultRawFileSystem(), make([]byte, size)}, dir, opt)
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve()
	}()
	refusePoll(b, dir)
	b.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		<-served
	})
	return filepath.Join(dir, "a")
}

// BenchmarkReadBesideTheFloor reads a file of the mount and one of a file system
// that does nothing, in turns of the same seconds.
func BenchmarkReadBesideTheFloor(b *testing.B) {
	const size, turn = 700, 100
	r := benchRig(b)
	r.write("bench/a", string(make([]byte, size)))
	paths := []string{r.path("bench/a"), mountFloor(b, r.m, size)}
	var took [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		k := i / turn % 2
		begin := time.Now()
		if got, err := os.ReadFile(paths[k]); err != nil || len(got) != size {
			b.Fatal(len(got), err)
		}
		took[k] = append(took[k], time.Since(begin))
	}
	if len(took[1]) == 0 {
		return // too few for one turn of each
	}
	var p50 [2]float64
	for k := range took {
		slices.Sort(took[k])
		p50[k] = took[k][len(took[k])/2].Seconds() * 1e6
	}
	b.ReportMetric(p50[0], "µs-p50")
	b.ReportMetric(p50[1], "µs-floor")
	b.ReportMetric(p50[0]/p50[1], "of-floor")
}
