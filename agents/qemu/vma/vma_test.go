package vma

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"etcpve/agents/qemu/vma/vmatest"
)

// disks are two of odd sizes, with holes.
func disks() []vmatest.Disk {
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(size int) []byte {
		content := make([]byte, size)
		for at := 0; at+4096 <= size; at += 4096 * (1 + random.IntN(9)) {
			content[at+random.IntN(4096)] = byte(1 + random.IntN(255))
		}
		return content
	}
	return []vmatest.Disk{{Name: "drive-scsi0", Content: fill(10<<20 + 512)}, {Name: "drive-efidisk0", Content: fill(540672)}}
}

func extract(archive []byte) (map[string][]byte, *Archive, error) {
	a, err := Open(bytes.NewReader(archive))
	if err != nil {
		return nil, nil, err
	}
	got := map[string][]byte{}
	for _, d := range a.Devices {
		got[d.Name] = bytes.Repeat([]byte{0xee}, int(d.Size))
	}
	return got, a, a.Extract(func(d *Device, offset int64, data []byte, length int) error {
		part := got[d.Name][offset : offset+int64(length)]
		clear(part)
		copy(part, data)
		return nil
	})
}

func TestArchivesAreReadWhole(t *testing.T) {
	files := map[string]string{"qemu-server.conf": "memory: 512\n", "qemu-server.fw": "[OPTIONS]\n"}
	want := disks()
	got, a, err := extract(vmatest.Make(files, want...))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(a.Configs, files) || a.Time.Unix() != 1700000000 || len(a.Devices) != 2 {
		t.Errorf("%+v", a)
	}
	for _, d := range want {
		if !bytes.Equal(got[d.Name], d.Content) {
			t.Errorf("%s is not what it was", d.Name)
		}
	}
}

// TestDamageIsSeen changes, cuts off and repeats parts of an archive.
func TestDamageIsSeen(t *testing.T) {
	whole := vmatest.Make(map[string]string{"qemu-server.conf": "memory: 512\n"}, disks()...)
	head := int(whole[58])<<8 | int(whole[59])
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"nothing":            {nil, "vma: header: EOF"},
		"half a header":      {whole[:5000], "vma: header: unexpected EOF"},
		"something else":     {bytes.Repeat([]byte("text"), 9999), "vma: not a VMA archive"},
		"a version to come":  {change(whole, 7, 2), "vma: version 2 is unknown"},
		"a changed header":   {change(whole, 100, 1), "vma: header: the checksum does not fit"},
		"a changed text":     {change(whole, 12300, 'x'), "vma: header: the checksum does not fit"},
		"a changed extent":   {change(whole, head+41, 0xff), "vma: extent: the checksum does not fit"},
		"another's extent":   {change(whole, head+8, 'x'), "vma: extent: it belongs to another archive"},
		"no extent":          {change(whole, head, 'x'), "vma: extent: there is none where one should begin"},
		"no extents":         {whole[:head], "vma: the archive ends early: 161 clusters of 'drive-scsi0' are missing"},
		"half an extent":     {whole[:head+600], ": unexpected EOF"},
		"an extent too much": {append(slices.Clone(whole), whole[head:]...), "or it came twice"},
	} {
		if _, _, err := extract(c.archive); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func change(whole []byte, at int, to byte) []byte {
	changed := slices.Clone(whole)
	changed[at] = to
	return changed
}

func FuzzOpen(f *testing.F) {
	whole := vmatest.Make(map[string]string{"qemu-server.conf": "memory: 512\n"}, vmatest.Disk{Name: "drive-ide0", Content: []byte("x")})
	f.Add(whole)
	f.Add(whole[:12288])
	f.Fuzz(func(t *testing.T, archive []byte) {
		if _, a, err := extract(archive); err == nil && a == nil {
			t.Error("neither an archive nor an error")
		}
	})
}
