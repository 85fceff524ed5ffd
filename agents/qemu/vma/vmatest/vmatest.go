// Package vmatest makes VMA archives for tests.
//
// It owns nothing but the other direction of the form that vma reads, and is
// written from its description, not from the reader. It never checks what it is
// given.
package vmatest

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"slices"
)

// A Disk is a device with its content.
type Disk struct {
	Name    string
	Content []byte
}

// Make returns an archive of files and disks.
func Make(files map[string]string, disks ...Disk) []byte {
	uuid := []byte("0123456789abcdef")
	head, texts := make([]byte, 12288), []byte{0}
	text := func(s string) uint32 {
		at := uint32(len(texts))
		texts = binary.LittleEndian.AppendUint16(texts, uint16(len(s)))
		texts = append(texts, s...)
		return at
	}
	copy(head, "VMA\x00")
	binary.BigEndian.PutUint32(head[4:], 1)
	copy(head[8:], uuid)
	binary.BigEndian.PutUint64(head[24:], 1700000000)
	i := 0
	for name, content := range files {
		binary.BigEndian.PutUint32(head[2044+4*i:], text(name+"\x00"))
		binary.BigEndian.PutUint32(head[3068+4*i:], text(content))
		i++
	}
	for n, d := range disks {
		entry := head[4096+32*(n+1):]
		binary.BigEndian.PutUint32(entry, text(d.Name+"\x00"))
		binary.BigEndian.PutUint64(entry[8:], uint64(len(d.Content)))
	}
	binary.BigEndian.PutUint32(head[48:], uint32(len(head)))
	binary.BigEndian.PutUint32(head[52:], uint32(len(texts)))
	head = append(head, texts...)
	head = append(head, make([]byte, (512-len(head)%512)%512)...)
	binary.BigEndian.PutUint32(head[56:], uint32(len(head)))
	sum := md5.Sum(head)
	copy(head[32:], sum[:])
	return append(head, extents(uuid, disks)...)
}

// extents are the contents, the disks' clusters in turn and each disk's from its end.
func extents(uuid []byte, disks []Disk) (all []byte) {
	type cluster struct {
		disk, number int
	}
	var order []cluster
	for n, d := range disks {
		for c := range (len(d.Content) + 65535) / 65536 {
			order = append(order, cluster{n, c})
		}
	}
	slices.SortStableFunc(order, func(a, b cluster) int { return b.number - a.number })
	for part := range slices.Chunk(order, 59) {
		head, data := make([]byte, 512), []byte(nil)
		copy(head, "VMAE")
		copy(head[8:], uuid)
		for i, c := range part {
			content := disks[c.disk].Content[c.number*65536:]
			content = append(bytes.Clone(content[:min(len(content), 65536)]), make([]byte, 65536)...)[:65536]
			var mask uint16
			for b := range 16 {
				if block := content[b*4096 : (b+1)*4096]; !bytes.Equal(block, make([]byte, 4096)) {
					mask |= 1 << b
					data = append(data, block...)
				}
			}
			binary.BigEndian.PutUint16(head[40+8*i:], mask)
			head[40+8*i+3] = byte(c.disk + 1)
			binary.BigEndian.PutUint32(head[40+8*i+4:], uint32(c.number))
		}
		binary.BigEndian.PutUint16(head[6:], uint16(len(data)/4096))
		sum := md5.Sum(head)
		copy(head[24:], sum[:])
		all = append(append(all, head...), data...)
	}
	return all
}
