// Package vma reads VMA archives: a VM's configuration and disks in one stream,
// as Proxmox VE's backups have them.
//
// It owns the form. A header with checksum holds configuration files and names
// the devices; extents follow, each of up to 59 clusters of 64 KiB of any device,
// in any order, of which a mask says the blocks of 4 KiB that are not zero. The
// reader needs no seeking, holds one cluster at a time, and believes nothing: sums,
// lengths and places are checked, and that every cluster came once. It never
// decompresses, never writes to a volume, and knows no VMID.
package vma

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sizes of the parts, in bytes.
const (
	blockSize     = 4 << 10
	ClusterSize   = 16 * blockSize
	headerSize    = 12288 // without what its texts take
	extentSize    = 512
	perExtent     = 59  // clusters
	maxConfigs    = 256 // files
	maxDevices    = 256
	maxHeader     = 64 << 20 // more texts than any VM has
	maxSize       = 64 << 40 // of all devices
	configsAt     = 2044     // of their names in the header, in bytes
	configDataAt  = configsAt + 4*maxConfigs
	devicesAt     = 4096
	deviceSize    = 32
	sumAt         = 32
	extentSumAt   = 24
	extentTableAt = 40
)

// The marks at the beginning of an archive and of an extent.
var (
	magic       = []byte("VMA\x00")
	extentMagic = []byte("VMAE")
)

// Magic reports whether a stream that begins so is an archive.
func Magic(head []byte) bool { return bytes.HasPrefix(head, magic) }

// A Device is a disk in an archive.
type Device struct {
	Name string // drive-scsi0
	Size int64  // bytes

	seen    []uint64 // a bit for each cluster that came
	missing int
}

// An Archive is one whose header was read.
type Archive struct {
	Time    time.Time
	Configs map[string]string // qemu-server.conf and others
	Devices []*Device

	from io.Reader
	uuid []byte
	byID map[byte]*Device
}

// Open reads the header of an archive.
func Open(from io.Reader) (*Archive, error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, fmt.Errorf("vma: header: %w", err)
	}
	if !Magic(head) {
		return nil, errors.New("vma: not a VMA archive")
	}
	if version := binary.BigEndian.Uint32(head[4:]); version != 1 {
		return nil, fmt.Errorf("vma: version %d is unknown", version)
	}
	size := int64(binary.BigEndian.Uint32(head[56:]))
	if size < headerSize || size > maxHeader {
		return nil, fmt.Errorf("vma: header: %d is no size of one", size)
	}
	head = append(head, make([]byte, size-headerSize)...)
	if _, err := io.ReadFull(from, head[headerSize:]); err != nil {
		return nil, fmt.Errorf("vma: header: %w", err)
	}
	if !sound(head, sumAt) {
		return nil, errors.New("vma: header: the checksum does not fit")
	}
	a := &Archive{from: from, uuid: head[8:24], Configs: map[string]string{}, byID: map[byte]*Device{}}
	a.Time = time.Unix(int64(binary.BigEndian.Uint64(head[24:])), 0)
	return a, a.read(head)
}

// sound checks the checksum of a part, which was made with zeros in its place.
func sound(part []byte, at int) bool {
	copied := bytes.Clone(part)
	clear(copied[at : at+md5.Size])
	sum := md5.Sum(copied)
	return bytes.Equal(sum[:], part[at:at+md5.Size])
}

// read takes files and devices from a header.
func (a *Archive) read(head []byte) error {
	at, size := binary.BigEndian.Uint32(head[48:]), binary.BigEndian.Uint32(head[52:])
	if uint64(at)+uint64(size) > uint64(len(head)) {
		return errors.New("vma: header: its texts do not fit")
	}
	texts := blob(head[at : at+size])
	for i := range maxConfigs {
		name, err := texts.at(binary.BigEndian.Uint32(head[configsAt+4*i:]))
		data, err2 := texts.at(binary.BigEndian.Uint32(head[configDataAt+4*i:]))
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("vma: file %d: %w", i, err)
		}
		if name != "" {
			a.Configs[trimmed(name)] = data
		}
	}
	total := int64(0)
	for i := 1; i < maxDevices; i++ { // 0 is none
		entry := head[devicesAt+deviceSize*i:]
		size := int64(binary.BigEndian.Uint64(entry[8:]))
		name, err := texts.at(binary.BigEndian.Uint32(entry))
		if err != nil {
			return fmt.Errorf("vma: device %d: %w", i, err)
		}
		if name == "" || size == 0 {
			continue
		}
		if size < 0 || size > maxSize-total {
			return fmt.Errorf("vma: device %d: %d is no size of a disk", i, size)
		}
		total += size
		clusters := int((size + ClusterSize - 1) / ClusterSize)
		d := &Device{Name: trimmed(name), Size: size, seen: make([]uint64, clusters/64+1), missing: clusters}
		a.Devices, a.byID[byte(i)] = append(a.Devices, d), d
	}
	return nil
}

// trimmed is a text without the zero that ends it.
func trimmed(text string) string {
	name, _, _ := bytes.Cut([]byte(text), []byte{0})
	return string(name)
}

// A blob holds texts, each behind its length, which is the one number here with
// its low byte first.
type blob []byte

func (b blob) at(offset uint32) (string, error) {
	if offset == 0 {
		return "", nil
	}
	if uint64(offset)+2 > uint64(len(b)) {
		return "", errors.New("its text is outside of the texts")
	}
	end := uint64(offset) + 2 + uint64(binary.LittleEndian.Uint16(b[offset:]))
	if end > uint64(len(b)) {
		return "", errors.New("its text is longer than the texts")
	}
	return string(b[offset+2 : end]), nil
}

// Extract reads the rest of an archive and passes on what is in it. A piece of
// zeros comes as nil, with its length.
func (a *Archive) Extract(write func(d *Device, offset int64, data []byte, length int) error) error {
	head := make([]byte, extentSize)
	for {
		switch _, err := io.ReadFull(a.from, head); {
		case errors.Is(err, io.EOF):
			return a.complete()
		case err != nil:
			return fmt.Errorf("vma: extent: %w", err)
		}
		if err := a.extent(head, write); err != nil {
			return fmt.Errorf("vma: %w", err)
		}
	}
}

// complete requires that every cluster came.
func (a *Archive) complete() error {
	for _, d := range a.Devices {
		if d.missing > 0 {
			return fmt.Errorf("vma: the archive ends early: %d clusters of '%s' are missing", d.missing, d.Name)
		}
	}
	return nil
}

func (a *Archive) extent(head []byte, write func(*Device, int64, []byte, int) error) error {
	switch {
	case !bytes.HasPrefix(head, extentMagic):
		return errors.New("extent: there is none where one should begin")
	case !bytes.Equal(head[8:24], a.uuid):
		return errors.New("extent: it belongs to another archive")
	case !sound(head, extentSumAt):
		return errors.New("extent: the checksum does not fit")
	}
	blocks := int(binary.BigEndian.Uint16(head[6:]))
	for i := range perExtent {
		entry := head[extentTableAt+8*i:]
		number, mask := entry[3], binary.BigEndian.Uint16(entry)
		if number == 0 {
			continue
		}
		d := a.byID[number]
		if d == nil {
			return fmt.Errorf("extent: there is no device %d", number)
		}
		n, err := a.cluster(d, binary.BigEndian.Uint32(entry[4:]), mask, write)
		if err != nil {
			return err
		}
		blocks -= n
	}
	if blocks != 0 {
		return errors.New("extent: it has another length than it says")
	}
	return nil
}

// cluster passes one on and returns how many blocks it has.
func (a *Archive) cluster(d *Device, number uint32, mask uint16, write func(*Device, int64, []byte, int) error) (n int, err error) {
	word, bit := number/64, uint64(1)<<(number%64)
	if int64(number)*ClusterSize >= d.Size || d.seen[word]&bit != 0 {
		return 0, fmt.Errorf("'%s' has no cluster %d, or it came twice", d.Name, number)
	}
	d.seen[word] |= bit
	d.missing--
	piece := make([]byte, ClusterSize)
	for i, end := 0, 0; i < ClusterSize/blockSize; i = end {
		there := mask&(1<<i) != 0
		for end = i + 1; end < ClusterSize/blockSize && mask&(1<<end) != 0 == there; {
			end++
		}
		data := []byte(nil)
		if there {
			data = piece[:(end-i)*blockSize]
			if _, err := io.ReadFull(a.from, data); err != nil {
				return n, fmt.Errorf("'%s': cluster %d: %w", d.Name, number, noEnd(err))
			}
			n += end - i
		}
		offset := int64(number)*ClusterSize + int64(i)*blockSize
		length := int(min(int64(end-i)*blockSize, d.Size-offset))
		if length <= 0 {
			continue // blocks behind the end of the disk
		}
		if err := write(d, offset, data[:min(len(data), length)], length); err != nil {
			return n, err
		}
	}
	return n, nil
}

// noEnd is an end in the middle of something.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
