package cfstest

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"strings"
	"time"
)

// note is one thing that happened.
type note struct {
	what    string
	numbers []uint64
}

// trace is all that happened in a simulation, in order: its digest, and the text
// if somebody wants to read it.
type trace struct {
	hash hash.Hash64
	text *strings.Builder

	scratch [8]byte
}

func newTrace() *trace { return &trace{hash: fnv.New64a()} }

func (t *trace) add(at time.Duration, n note) {
	if t.text != nil {
		fmt.Fprintln(t.text, at, n.what, n.numbers)
	}
	t.hash.Write([]byte(n.what))
	t.number(uint64(at))
	for _, x := range n.numbers {
		t.number(x)
	}
}

func (t *trace) number(n uint64) {
	binary.LittleEndian.PutUint64(t.scratch[:], n)
	t.hash.Write(t.scratch[:])
}

func digest(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// counts says how often something happened.
type counts map[string]int

func (c counts) add(other counts) {
	for what, n := range other {
		c[what] += n
	}
}
