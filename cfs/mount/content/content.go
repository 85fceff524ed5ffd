// Package content is what write and truncate do to the bytes of a file, within
// the limit of a file's size. It never knows files, nor who has them open.
package content

import (
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// Splice puts chunk at an offset of data; a hole is filled with zeros.
func Splice(data []byte, off uint64, chunk []byte) ([]byte, error) {
	end := off + uint64(len(chunk))
	if end > layout.MaxFile || end < off {
		return nil, tree.ErrTooBig
	}
	if int(off) == len(data) {
		return append(data, chunk...), nil
	}
	if int(end) > len(data) {
		data = append(data, make([]byte, int(end)-len(data))...)
	}
	copy(data[off:], chunk)
	return data, nil
}

// Resize cuts data or fills it up with zeros. It leaves data itself as it is.
func Resize(data []byte, size uint64) ([]byte, error) {
	if size > layout.MaxFile {
		return nil, tree.ErrTooBig
	}
	sized := make([]byte, size)
	copy(sized, data)
	return sized, nil
}
