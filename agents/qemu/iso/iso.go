// Package iso writes images in the format of ISO 9660 with the Joliet names that
// Linux and Windows read.
//
// It owns the layout: a handful of small files in a few directories, each
// directory in one sector. Equal files give an equal image, so no clock is read
// and no time is kept.
package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// sector is the unit of all places and sizes.
const sector = 2048

// Sectors of the fixed parts.
const (
	primaryAt = 16 + iota
	jolietAt
	endAt
	primaryPathsAt // little-endian, then big-endian
	_
	jolietPathsAt
	_
	directoriesAt
)

// A naming is one of the two views of the tree.
type naming struct {
	joliet bool
	first  int // sector of the root directory
	paths  int // sector of the path table
}

// An image is being laid out.
type image struct {
	label string
	files map[string][]byte // by slash-separated path
	dirs  []string          // "" is the root; parents before children, in order
	start map[string]int    // first sector of a file
	total int
}

// Image returns the image of files, named by their paths, under a label.
func Image(label string, files map[string][]byte) ([]byte, error) {
	m := image{label: label, files: files, start: map[string]int{}}
	m.collect()
	at := directoriesAt + 2*len(m.dirs)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		m.start[name] = at
		at += sectors(len(files[name]))
	}
	m.total = at
	out := make([]byte, at*sector)
	for _, n := range []naming{
		{joliet: false, first: directoriesAt, paths: primaryPathsAt},
		{joliet: true, first: directoriesAt + len(m.dirs), paths: jolietPathsAt},
	} {
		if err := m.view(out, n); err != nil {
			return nil, err
		}
	}
	copy(out[endAt*sector:], "\xffCD001\x01")
	for name, content := range files {
		copy(out[m.start[name]*sector:], content)
	}
	return out, nil
}

func sectors(bytes int) int { return (bytes + sector - 1) / sector }

// collect lists the directories that the files need.
func (m *image) collect() {
	seen := map[string]bool{"": true}
	for name := range m.files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			seen[dir] = true
		}
	}
	m.dirs = slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		if d := depth(a) - depth(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

func depth(dir string) int {
	if dir == "" {
		return 0
	}
	return strings.Count(dir, "/") + 1
}

// parent of a directory, which for the root is itself.
func parent(dir string) string {
	if p := path.Dir(dir); p != "." && dir != "" {
		return p
	}
	return ""
}

// name writes the last element of a path in a view.
func (n naming) name(element string, file bool) []byte {
	if n.joliet {
		return utf16be(element)
	}
	short := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '_'
	}, strings.ToUpper(element))
	if !file {
		return []byte(short)
	}
	if !strings.Contains(short, ".") {
		short += "."
	}
	return []byte(short + ";1")
}

func utf16be(s string) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		out = binary.BigEndian.AppendUint16(out, unit)
	}
	return out
}

// both appends a number in both byte orders.
func both(out []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(out, uint32(n)), uint32(n))
}

func both16(out []byte, n int) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(out, uint16(n)), uint16(n))
}

// record is an entry of a directory.
func record(at, size int, dir bool, name []byte) []byte {
	out := both(both([]byte{0, 0}, at), size)
	out = append(out, 100, 1, 1, 0, 0, 0, 0) // the first day of 2000
	flags := byte(0)
	if dir {
		flags = 2
	}
	out = both16(append(out, flags, 0, 0), 1)
	out = append(append(out, byte(len(name))), name...)
	if len(out)%2 == 1 {
		out = append(out, 0)
	}
	out[0] = byte(len(out))
	return out
}

func (m *image) place(n naming, dir string) int { return n.first + slices.Index(m.dirs, dir) }

// view writes one view of the tree: its descriptor, path tables and directories.
func (m *image) view(out []byte, n naming) error {
	little, big := m.paths(n, binary.LittleEndian), m.paths(n, binary.BigEndian)
	if len(little) > sector {
		return fmt.Errorf("iso: %d directories are too many", len(m.dirs))
	}
	copy(out[n.paths*sector:], little)
	copy(out[(n.paths+1)*sector:], big)
	for _, dir := range m.dirs {
		content := m.directory(n, dir)
		if len(content) > sector {
			return fmt.Errorf("iso: %q has too many entries", dir)
		}
		copy(out[m.place(n, dir)*sector:], content)
	}
	at := primaryAt
	if n.joliet {
		at = jolietAt
	}
	copy(out[at*sector:], m.descriptor(n, len(little)))
	return nil
}

func (m *image) directory(n naming, dir string) []byte {
	out := record(m.place(n, dir), sector, true, []byte{0})
	out = append(out, record(m.place(n, parent(dir)), sector, true, []byte{1})...)
	entries := map[string][]byte{}
	for _, sub := range m.dirs {
		if sub != "" && parent(sub) == dir {
			name := n.name(path.Base(sub), false)
			entries[string(name)] = record(m.place(n, sub), sector, true, name)
		}
	}
	for file, content := range m.files {
		if strings.TrimPrefix(path.Dir(file), ".") == dir {
			name := n.name(path.Base(file), true)
			entries[string(name)] = record(m.start[file], len(content), false, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, entries[name]...)
	}
	return out
}

func (m *image) paths(n naming, order interface {
	binary.AppendByteOrder
}) (out []byte) {
	for _, dir := range m.dirs {
		name := []byte{0}
		if dir != "" {
			name = n.name(path.Base(dir), false)
		}
		out = append(out, byte(len(name)), 0)
		out = order.AppendUint32(out, uint32(m.place(n, dir)))
		out = order.AppendUint16(out, uint16(slices.Index(m.dirs, parent(dir))+1))
		out = append(out, name...)
		if len(name)%2 == 1 {
			out = append(out, 0)
		}
	}
	return out
}

// descriptor describes the volume in one view.
func (m *image) descriptor(n naming, paths int) []byte {
	kind, text := byte(1), func(s string, width int) []byte {
		return append([]byte(s), bytes.Repeat([]byte(" "), width-len(s))...)
	}
	escape := make([]byte, 32)
	if n.joliet {
		kind = 2
		copy(escape, "%/E")
		text = func(s string, width int) []byte {
			wide := utf16be(s)
			for len(wide)+2 <= width {
				wide = append(wide, 0, ' ')
			}
			return append(wide, make([]byte, width-len(wide))...)
		}
	}
	out := append([]byte{kind}, "CD001\x01\x00"...)
	out = append(out, text("LINUX", 32)...)
	out = append(out, text(m.label, 32)...)
	out = both(append(out, make([]byte, 8)...), m.total)
	out = append(out, escape...)
	out = both(both16(both16(both16(out, 1), 1), sector), paths)
	out = binary.LittleEndian.AppendUint32(out, uint32(n.paths))
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(n.paths+1))
	out = binary.BigEndian.AppendUint32(out, 0)
	out = append(out, record(m.place(n, ""), sector, true, []byte{0})...)
	for _, width := range []int{128, 128, 128, 128, 37, 37, 37} {
		out = append(out, text("", width)...)
	}
	for range 4 { // times that are not told
		out = append(out, "0000000000000000\x00"...)
	}
	return append(out, 1, 0)
}
