package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"etcpve/cfs/layout"
)

// format is the version of the encoding, the first byte of every command.
const format = 1

// compressFrom is the content size in bytes from which compression is tried:
// below it the log's page is written in any case.
const compressFrom = 1 << 10

const (
	flagExclusive = 1 << iota
	flagReplace
	flagCompressed
	flagID
	flagsKnown = flagExclusive | flagReplace | flagCompressed | flagID
)

const (
	maxPath = 4096 // bytes; the kernel's PATH_MAX
	maxNode = 255
)

// MaxSize is the largest encoding of a command in bytes.
const MaxSize = layout.MaxFile + 2*maxPath + maxNode + 128

// ErrMalformed is the cause of every failed Unmarshal.
var ErrMalformed = errors.New("malformed command")

// Both are safe for concurrent EncodeAll and DecodeAll; they are built at first
// use because each holds some memory.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // only for options that contradict each other
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(layout.MaxFile), zstd.WithDecoderMaxWindow(layout.MaxFile))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// Marshal returns the binary form of c.
func (c *Command) Marshal() []byte {
	flags := byte(0)
	for _, f := range []struct {
		set bool
		bit byte
	}{{c.Exclusive, flagExclusive}, {c.Replace, flagReplace}, {c.ID != 0, flagID}} {
		if f.set {
			flags |= f.bit
		}
	}
	body := c.Data
	if len(c.Data) >= compressFrom {
		if packed := encoder().EncodeAll(c.Data, make([]byte, 0, len(c.Data))); len(packed) < len(c.Data) {
			body, flags = packed, flags|flagCompressed
		}
	}
	b := make([]byte, 0, len(body)+len(c.Path)+len(c.To)+len(c.Node)+64)
	b = append(b, format, byte(c.Op), flags)
	if c.ID != 0 {
		b = binary.LittleEndian.AppendUint64(b, c.ID)
	}
	b = binary.AppendUvarint(b, uint64(c.Writer))
	b = binary.AppendUvarint(b, uint64(c.UID))
	b = binary.AppendVarint(b, c.Time)
	b = binary.AppendUvarint(b, c.Expect)
	for _, s := range []string{c.Node, c.Path, c.To} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Data)))
	return append(b, body...)
}

// Check returns why Unmarshal would not read c again on some node. An entry of the
// log that nobody can read stops every node for good, so none may get there.
func (c *Command) Check() error {
	switch {
	case len(c.Data) > layout.MaxFile:
		return fmt.Errorf("%w: %d bytes of content", ErrMalformed, len(c.Data))
	case len(c.Path) > maxPath, len(c.To) > maxPath, len(c.Node) > maxNode:
		return fmt.Errorf("%w: name too long", ErrMalformed)
	case c.Op >= opEnd:
		return fmt.Errorf("%w: %v", ErrMalformed, c.Op)
	}
	return nil
}

// Unmarshal reads the binary form. The result shares no memory with b.
func Unmarshal(b []byte) (*Command, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	r := reader{rest: b}
	if v := r.byte(); r.err == nil && v != format {
		return nil, fmt.Errorf("%w: format %d is not known", ErrMalformed, v)
	}
	c := &Command{Op: Op(r.byte())}
	flags := r.byte()
	if flags&^flagsKnown != 0 || c.Op >= opEnd {
		r.fail("unknown operation or flag")
	}
	c.Exclusive, c.Replace = flags&flagExclusive != 0, flags&flagReplace != 0
	if flags&flagID != 0 {
		c.ID = r.fixed64()
	}
	c.Writer, c.UID = r.uint32(), r.uint32()
	c.Time = r.varint()
	c.Expect = r.uvarint()
	c.Node, c.Path, c.To = r.string(maxNode), r.string(maxPath), r.string(maxPath)
	c.Data = r.content(flags&flagCompressed != 0)
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

// IDOf returns the ID of an encoded command without reading the rest of it.
func IDOf(b []byte) uint64 {
	if len(b) < 11 || b[0] != format || b[2]&flagID == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(b[3:])
}

// reader takes fields off the front of rest; after the first error every
// field is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, why)
	}
	r.rest = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail("cut short")
		return nil
	}
	head := r.rest[:n]
	r.rest = r.rest[n:]
	return head
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) fixed64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.fail("number too large")
	}
	return uint32(v)
}

func (r *reader) length(limit int) int {
	v := r.uvarint()
	if v > uint64(limit) {
		r.fail("field too long")
		return 0
	}
	return int(v)
}

func (r *reader) string(limit int) string { return string(r.take(r.length(limit))) }

// content reads the rest as content whose size stands in front of it.
func (r *reader) content(compressed bool) []byte {
	size := r.length(layout.MaxFile)
	if !compressed {
		if len(r.rest) != size {
			r.fail("content has another size than promised")
		}
		if r.err != nil || size == 0 {
			return nil
		}
		return append(make([]byte, 0, size), r.rest...)
	}
	if r.err != nil {
		return nil
	}
	// DecodeAll never grows beyond the decoder's memory limit of MaxFile.
	data, err := decoder().DecodeAll(r.rest, make([]byte, 0, size))
	if err != nil || len(data) != size {
		r.fail("content does not decompress to the size promised")
	}
	if len(data) == 0 || r.err != nil {
		return nil
	}
	return data
}
