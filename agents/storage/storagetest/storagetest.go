// Package storagetest is the conformance suite of storage plugins, and a plugin
// that keeps everything in memory.
//
// It owns what every type of storage promises, ability by ability: a type that
// lacks one is not asked for it. It never looks behind the contract, so a type
// passes with real disks, in memory or in a simulation alike.
package storagetest

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/storage"
)

// A Subject is a type of storage to be tested, with an empty storage.
type Subject struct {
	Plugin storage.Plugin
	Config *storage.Config
	Format string // of the volumes to be made
	Limit  bool   // volumes have a size that is kept
	Fixed  bool   // volumes cannot grow
	Apart  bool   // clones do not need their base

	// Given are the volumes of a type that cannot make any, with their size.
	Given     []string
	GivenSize int64

	How string // what stands behind the type: "real", or what takes its place

	// Write and Read change and return the content of a volume, for types whose
	// volumes really keep some. They may be nil.
	Write func(t *testing.T, path string, content byte)
	Read  func(t *testing.T, path string) byte
}

// Sizes of volumes: what every type can do without rounding.
const (
	size = 8 << 20
	more = 16 << 20
)

// A promise is one test of the suite; able is whether a type has that ability.
type promise struct {
	name, ability string
	test          func(Subject, *testing.T) (able bool)
}

// made are the promises of types that make their volumes, given those of types
// that find them.
func made() []promise {
	return []promise{
		{"ActivatingTwiceIsHarmless", "activate", Subject.activates},
		{"ForeignNamesAreRefused", "names", Subject.refusesNames},
		{"VolumesAreListedUntilFreed", "alloc+list+free", Subject.listsVolumes},
		{"LowestFreeNameIsUsed", "free name", Subject.namesVolumes},
		{"VolumesOnlyGrow", "resize", Subject.resizes},
		{"RollbackBringsContentBack", "snapshot", Subject.rollsBack},
		{"BasesOutliveTheirClones", "base+clone", Subject.clones},
		{"RenamingKeepsContent", "rename", Subject.renames},
		{"StreamsCarryContent", "stream", Subject.streams},
	}
}

func given() []promise {
	return []promise{
		{"ActivatingTwiceIsHarmless", "activate", Subject.activates},
		{"ForeignNamesAreRefused", "names", Subject.refusesNames},
		{"GivenVolumesAreListed", "list", Subject.listsGiven},
		{"NothingIsMadeOrRemoved", "fixed", Subject.isFixed},
	}
}

// Run tests a type, and logs which promises it keeps and which abilities it
// does not have. That it does not have one is no failure, but then it must not
// claim it.
func Run(t *testing.T, s Subject) {
	row := []string{s.Config.Type, s.Format, s.How}
	promises := made()
	if s.Given != nil {
		promises = given()
	}
	for _, promise := range promises {
		able := true
		kept := t.Run(promise.name, func(t *testing.T) { able = promise.test(s, t) })
		verdict := "yes"
		switch {
		case !kept:
			verdict = "FAILED"
		case !able:
			verdict = "-"
		}
		row = append(row, promise.ability+" "+verdict)
	}
	t.Log("conformance | " + strings.Join(row, " | "))
}

func (s Subject) activates(t *testing.T) bool {
	for range 2 {
		if err := s.Plugin.Activate(t.Context(), s.Config); err != nil {
			t.Fatal(err)
		}
	}
	status, err := s.Plugin.Status(t.Context(), s.Config)
	if err != nil || status.Total <= 0 && s.Given == nil || status.Used < 0 || status.Used > status.Total || status.Available > status.Total {
		t.Errorf("status %+v, %v", status, err)
	}
	return true
}

func (s Subject) refusesNames(t *testing.T) bool {
	for _, name := range []string{"", "/etc/passwd", "../vm-100-disk-0", "no such form", "100/../../x.raw", "vm-100-disk-0/../x"} {
		if v, err := s.Plugin.Parse(name); err == nil {
			t.Errorf("%q is taken for %+v", name, v)
		}
	}
	return true
}

// alloc creates a volume that is freed in the end, if it still is there.
func (s Subject) alloc(t *testing.T, vmid uint32) storage.Volume {
	t.Helper()
	r := storage.Request{VMID: vmid, Format: s.Format}
	if s.Limit {
		r.Bytes = size
	}
	name, err := s.Plugin.Alloc(t.Context(), s.Config, r)
	if err != nil {
		t.Fatal(err)
	}
	return s.parse(t, name)
}

func (s Subject) parse(t *testing.T, name string) storage.Volume {
	t.Helper()
	v, err := s.Plugin.Parse(name)
	if err != nil || v.Name != name {
		t.Fatalf("%q is taken for %+v, %v", name, v, err)
	}
	return v
}

func (s Subject) free(t *testing.T, volumes ...storage.Volume) {
	t.Helper()
	for _, v := range volumes {
		if err := s.Plugin.Free(t.Context(), s.Config, v); err != nil {
			t.Errorf("free %s: %v", v.Name, err)
		}
	}
	if names := s.names(t, 0); len(names) > 0 {
		t.Errorf("left over: %q", names)
	}
}

func (s Subject) names(t *testing.T, vmid uint32) (names []string) {
	t.Helper()
	all, err := s.Plugin.List(t.Context(), s.Config, storage.Query{Content: storage.Images, VMID: vmid})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return names
}

func (s Subject) path(t *testing.T, v storage.Volume) string {
	t.Helper()
	if a, ok := s.Plugin.(storage.VolumeActivator); ok {
		if err := a.ActivateVolume(t.Context(), s.Config, v, ""); err != nil {
			t.Fatal(err)
		}
	}
	path, err := s.Plugin.Path(s.Config, v, "")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (s Subject) listsVolumes(t *testing.T) bool {
	a, b := s.alloc(t, 100), s.alloc(t, 101)
	if a.VMID != 100 || a.Format != s.Format || a.IsBase || a.Content != storage.Images || s.path(t, a) == s.path(t, b) {
		t.Errorf("%+v, %+v", a, b)
	}
	if names := s.names(t, 0); !slices.Equal(names, []string{a.Name, b.Name}) {
		t.Errorf("all: %q", names)
	}
	if names := s.names(t, 101); !slices.Equal(names, []string{b.Name}) {
		t.Errorf("of 101: %q", names)
	}
	all, err := s.Plugin.List(t.Context(), s.Config, storage.Query{Content: storage.Rootdir, VMID: 100, Containers: func(uint32) bool { return true }})
	if err != nil || len(all) != 1 || all[0].Content != storage.Rootdir || all[0].VMID != 100 || all[0].Format != s.Format || s.Limit && all[0].Size != size {
		t.Errorf("%+v, %v", all, err)
	}
	s.free(t, a, b)
	if err := s.Plugin.Free(t.Context(), s.Config, a); err == nil {
		t.Error("a volume that is gone was freed")
	}
	return true
}

func (s Subject) listsGiven(t *testing.T) bool {
	all, err := s.Plugin.List(t.Context(), s.Config, storage.Query{Content: storage.Images})
	if err != nil || len(all) != len(s.Given) {
		t.Fatalf("%+v, %v; want %q", all, err, s.Given)
	}
	for i, name := range s.Given {
		v := s.parse(t, name)
		if all[i].Name != name || all[i].Size != s.GivenSize || all[i].Format != s.Format || v.Format != s.Format || s.path(t, v) == "" {
			t.Errorf("%+v of %+v", all[i], v)
		}
		if z, ok := s.Plugin.(storage.Sizer); ok {
			if size, err := z.Size(t.Context(), s.Config, v); err != nil || size != s.GivenSize {
				t.Errorf("%s: size %d, %v", name, size, err)
			}
		}
	}
	if names := s.names(t, 100); len(names) > 0 {
		t.Errorf("of guest 100: %q", names)
	}
	return true
}

func (s Subject) isFixed(t *testing.T) bool {
	if name, err := s.Plugin.Alloc(t.Context(), s.Config, storage.Request{VMID: 100, Bytes: size}); err == nil {
		t.Errorf("made %s", name)
	}
	if err := s.Plugin.Free(t.Context(), s.Config, s.parse(t, s.Given[0])); err == nil {
		t.Errorf("removed %s", s.Given[0])
	}
	return true
}

func (s Subject) namesVolumes(t *testing.T) bool {
	a, b := s.alloc(t, 100), s.alloc(t, 100)
	if err := s.Plugin.Free(t.Context(), s.Config, a); err != nil {
		t.Fatal(err)
	}
	again := s.alloc(t, 100)
	if again.Name != a.Name || again.Name == b.Name {
		t.Errorf("%s after %s was freed", again.Name, a.Name)
	}
	if _, err := s.Plugin.Alloc(t.Context(), s.Config, storage.Request{VMID: 100, Format: s.Format, Name: b.File}); err == nil {
		t.Errorf("%s exists twice", b.File)
	}
	s.free(t, b, again)
	return true
}

func (s Subject) resizes(t *testing.T) bool {
	r, can := s.Plugin.(storage.Resizer)
	z, knows := s.Plugin.(storage.Sizer)
	if !can || !knows || !s.Limit || s.Fixed {
		return false
	}
	v := s.alloc(t, 100)
	if err := r.Resize(t.Context(), s.Config, v, more); err != nil {
		t.Fatal(err)
	}
	if got, err := z.Size(t.Context(), s.Config, v); err != nil || got != more {
		t.Errorf("size %d, %v", got, err)
	}
	if err := r.Resize(t.Context(), s.Config, v, size); err == nil {
		t.Error("the volume shrank")
	}
	s.free(t, v)
	return true
}

// has reports whether a volume of the subject has an ability.
func (s Subject) has(ability string, v storage.Volume) bool {
	f, ok := s.Plugin.(storage.Featured)
	return ok && f.Features(s.Config).Has(ability, v, "")
}

func (s Subject) rollsBack(t *testing.T) bool {
	sn, can := s.Plugin.(storage.Snapshotter)
	v := s.alloc(t, 100)
	defer s.free(t, v)
	if !can || !s.has("snapshot", v) {
		if can {
			if err := sn.Snapshot(t.Context(), s.Config, v, "one"); err == nil {
				t.Error("a snapshot was made that the type says it cannot make")
			}
		}
		return false
	}
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	path := s.path(t, v)
	s.write(t, path, 1)
	step("snapshot", sn.Snapshot(t.Context(), s.Config, v, "one"))
	s.write(t, path, 2)
	step("rollback", sn.Rollback(t.Context(), s.Config, v, "one"))
	s.expect(t, path, 1)
	if err := sn.Rollback(t.Context(), s.Config, v, "none"); err == nil {
		t.Error("rolled back to a snapshot that does not exist")
	}
	s.expect(t, path, 1)
	step("delete", sn.DeleteSnapshot(t.Context(), s.Config, v, "one"))
	if err := sn.Rollback(t.Context(), s.Config, v, "one"); err == nil {
		t.Error("rolled back to a snapshot that was removed")
	}
	return true
}

func (s Subject) write(t *testing.T, path string, content byte) {
	t.Helper()
	if s.Write != nil {
		s.Write(t, path, content)
	}
}

func (s Subject) expect(t *testing.T, path string, content byte) {
	t.Helper()
	if s.Read == nil {
		return
	}
	if got := s.Read(t, path); got != content {
		t.Errorf("%s: content %d; want %d", path, got, content)
	}
}

func (s Subject) clones(t *testing.T) bool {
	c, can := s.Plugin.(storage.Cloner)
	v := s.alloc(t, 100)
	if !can || !s.has("template", v) {
		s.free(t, v)
		return false
	}
	s.write(t, s.path(t, v), 7)
	if _, err := c.Clone(t.Context(), s.Config, v, 101, ""); err == nil {
		t.Error("cloned a volume that is no base")
	}
	name, err := c.CreateBase(t.Context(), s.Config, v)
	if err != nil {
		t.Fatal(err)
	}
	base := s.parse(t, name)
	if !base.IsBase || base.VMID != 100 {
		t.Errorf("base: %+v", base)
	}
	if !s.has("clone", base) {
		s.free(t, base)
		return false
	}
	name, err = c.Clone(t.Context(), s.Config, base, 101, "")
	if err != nil {
		t.Fatal(err)
	}
	clone := s.parse(t, name)
	if clone.VMID != 101 || clone.IsBase || !slices.Contains(s.names(t, 101), name) {
		t.Errorf("clone: %+v among %q", clone, s.names(t, 101))
	}
	if clone.Format == s.Format {
		s.expect(t, s.path(t, clone), 7)
	}
	err = s.Plugin.Free(t.Context(), s.Config, base)
	if s.Apart {
		if err != nil {
			t.Errorf("free base: %v", err)
		}
		s.expect(t, s.path(t, clone), 7)
		s.free(t, clone)
		return true
	}
	if err == nil {
		t.Error("a base was freed that a clone stands on")
	}
	s.free(t, clone, base)
	return true
}

func (s Subject) renames(t *testing.T) bool {
	r, can := s.Plugin.(storage.Renamer)
	v := s.alloc(t, 100)
	if !can || !s.has("rename", v) {
		s.free(t, v)
		return false
	}
	s.write(t, s.path(t, v), 5)
	name, err := r.Rename(t.Context(), s.Config, v, 101, "")
	if err != nil {
		t.Fatal(err)
	}
	renamed := s.parse(t, name)
	if renamed.VMID != 101 || !slices.Equal(s.names(t, 0), []string{name}) {
		t.Errorf("renamed: %+v among %q", renamed, s.names(t, 0))
	}
	s.expect(t, s.path(t, renamed), 5)
	other := s.alloc(t, 100)
	if _, err := r.Rename(t.Context(), s.Config, other, 101, renamed.File); err == nil {
		t.Error("a volume took the name of another")
	}
	s.free(t, other, renamed)
	return true
}

func (s Subject) streams(t *testing.T) bool {
	e, can := s.Plugin.(storage.Exporter)
	if !can || s.Write == nil {
		return false
	}
	v := s.alloc(t, 100)
	s.write(t, s.path(t, v), 9)
	formats := e.Streams(s.Config, v, storage.Stream{})
	if len(formats) == 0 {
		t.Error("no format for a stream")
	}
	for _, format := range formats {
		s.travels(t, e, v, storage.Stream{Format: format})
	}
	if err := e.Import(t.Context(), s.Config, v, storage.Stream{Format: "none"}, strings.NewReader("")); err == nil || errors.Is(err, storage.ErrOffline) {
		t.Errorf("a stream of another type was taken: %v", err)
	}
	s.free(t, v)
	return true
}

// travels sends a volume whose content is 9 to another guest, on the same
// storage.
func (s Subject) travels(t *testing.T, e storage.Exporter, v storage.Volume, stream storage.Stream) {
	t.Helper()
	var text bytes.Buffer
	if err := e.Export(t.Context(), s.Config, v, stream, &text); err != nil {
		t.Fatalf("%s: export: %v", stream.Format, err)
	}
	target := s.alloc(t, 101)
	s.write(t, s.path(t, target), 3)
	if err := e.Import(t.Context(), s.Config, target, stream, bytes.NewReader(text.Bytes())); err == nil {
		t.Errorf("%s: an existing volume was overwritten", stream.Format)
	}
	s.expect(t, s.path(t, target), 3)
	if err := s.Plugin.Free(t.Context(), s.Config, target); err != nil {
		t.Fatal(err)
	}
	if err := e.Import(t.Context(), s.Config, target, stream, bytes.NewReader(text.Bytes())); err != nil {
		t.Fatalf("%s: import: %v", stream.Format, err)
	}
	s.expect(t, s.path(t, target), 9)
	if err := s.Plugin.Free(t.Context(), s.Config, target); err != nil {
		t.Error(err)
	}
	// Of a stream that was cut short, nothing stays.
	ends := []int{min(4, text.Len()-1)}
	if stream.Format != "tar+size" { // half of that may be padding
		ends = append(ends, text.Len()/2)
	}
	for _, end := range ends {
		if err := e.Import(t.Context(), s.Config, target, stream, bytes.NewReader(text.Bytes()[:end])); err == nil {
			t.Errorf("%s: a stream that was cut short after %d bytes was taken", stream.Format, end)
		}
	}
	if names := s.names(t, 101); len(names) > 0 {
		t.Errorf("%s: a stream that was cut short left %q", stream.Format, names)
	}
}
