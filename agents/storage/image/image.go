// Package image reads the head of a disk image: its virtual size and the image
// it stands on.
//
// It owns the little that a listing needs of qcow2 and vmdk, so that listing a
// thousand images starts no process and opens no image but the one asked for. It
// never follows a backing file and never guesses a format: which one an image is
// in, its name says.
package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// An Info is what the head of an image says.
type Info struct {
	Size    int64  // virtual, in bytes
	Backing string // as recorded; "" for none
}

// maxBacking is the longest name of a backing file that QEMU takes, in bytes.
const maxBacking = 1023

// ErrFormat says that a file is not in the format its name claims.
var ErrFormat = errors.New("not in the format that the name says")

// ErrElsewhere says that the content of an image is in another file, which its
// head names. Nothing here makes such images.
var ErrElsewhere = errors.New("its content is in another file")

// Read reads the head of an image of a format: raw, qcow2 or vmdk, or one of these
// in an archive, as in ova+vmdk.
func Read(path, format string) (Info, error) {
	if inner, ok := strings.CutPrefix(format, "ova+"); ok {
		return readPart(path, inner)
	}
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	switch format {
	case "raw":
		size, err := f.Seek(0, io.SeekEnd) // a device has no size in its stat
		return Info{Size: size}, err
	case "qcow2":
		return decorated(path)(qcow2(f))
	case "vmdk":
		return decorated(path)(vmdk(f))
	}
	return Info{}, fmt.Errorf("%s: image format '%s' is not known", path, format)
}

func decorated(path string) func(Info, error) (Info, error) {
	return func(i Info, err error) (Info, error) {
		if err != nil {
			return Info{}, fmt.Errorf("%s: %w", path, err)
		}
		return i, nil
	}
}

// qcow2 reads a header that begins
//
//	u32 magic "QFI\xfb", u32 version, u64 backing file offset,
//	u32 backing file length, u32 cluster bits, u64 size
//
// all big-endian. From version 3 on, u64 incompatible features follow at byte 72.
func qcow2(f io.ReaderAt) (Info, error) {
	head := make([]byte, 32)
	if err := readAt(f, head, 0); err != nil {
		return Info{}, err
	}
	if !bytes.HasPrefix(head, []byte("QFI\xfb")) {
		return Info{}, ErrFormat
	}
	u64 := binary.BigEndian.Uint64
	info := Info{Size: int64(u64(head[24:]))}
	switch external, err := dataFile(f, head); {
	case err != nil:
		return Info{}, err
	case external:
		return Info{}, ErrElsewhere
	}
	offset, length := u64(head[8:]), binary.BigEndian.Uint32(head[16:])
	if info.Size < 0 || length > maxBacking || int64(offset) < 0 {
		return Info{}, ErrFormat
	}
	if offset == 0 {
		return info, nil
	}
	name := make([]byte, length)
	err := readAt(f, name, int64(offset))
	info.Backing = string(name)
	return info, err
}

// dataFile reports whether the content of a qcow2 is in another file.
func dataFile(f io.ReaderAt, head []byte) (bool, error) {
	const features, external = 72, 1 << 2
	if binary.BigEndian.Uint32(head[4:]) < 3 {
		return false, nil
	}
	bits := make([]byte, 8)
	err := readAt(f, bits, features)
	return binary.BigEndian.Uint64(bits)&external != 0, err
}

// A vmdk has sectors of 512 bytes, and a descriptor of a few hundred bytes.
const (
	sector        = 512
	maxDescriptor = 1 << 20
)

// vmdk reads the header of a sparse extent, all little-endian:
//
//	u32 magic "KDMV", u32 version, u32 flags, u64 capacity, u64 grain size,
//	u64 descriptor offset, u64 descriptor size
//
// in sectors. The parent is named in the descriptor.
func vmdk(f io.ReaderAt) (Info, error) {
	head := make([]byte, 44)
	if err := readAt(f, head, 0); err != nil {
		return Info{}, err
	}
	if !bytes.HasPrefix(head, []byte("KDMV")) {
		return Info{}, ErrFormat
	}
	u64 := binary.LittleEndian.Uint64
	capacity, offset, size := u64(head[12:]), u64(head[28:]), u64(head[36:])
	if capacity > 1<<53 || offset > 1<<53 || size > maxDescriptor/sector {
		return Info{}, ErrFormat
	}
	info := Info{Size: int64(capacity) * sector}
	descriptor := make([]byte, size*sector)
	if err := readAt(f, descriptor, int64(offset)*sector); err != nil {
		return Info{}, err
	}
	for line := range strings.Lines(string(bytes.TrimRight(descriptor, "\x00"))) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "parentFileNameHint="); ok {
			info.Backing = strings.Trim(name, `"`)
		}
	}
	return info, nil
}

// readAt fills buffer; a file that ends before that is none of the format.
func readAt(f io.ReaderAt, buffer []byte, offset int64) error {
	_, err := io.ReadFull(io.NewSectionReader(f, offset, int64(len(buffer))), buffer)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrFormat
	}
	return err
}
