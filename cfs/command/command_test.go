package command

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"strings"
	"testing"

	"etcpve/cfs/layout"
)

func samples() []*Command {
	noise := make([]byte, 5000)
	rand.Read(noise)
	return []*Command{
		{},
		{ID: 1<<64 - 1, Node: "n1", Writer: 1<<32 - 1, UID: 33, Time: -5, Op: Write, Path: "nodes/n1/qemu-server/100.conf", Data: []byte("cores: 2\n"), Expect: 77, Exclusive: true},
		{Op: Write, Path: "a", Data: bytes.Repeat([]byte("cores: 2\n"), 500), Replace: true},
		{Op: Write, Path: "a", Data: noise},
		{Op: Write, Path: "a", Data: bytes.Repeat([]byte("x"), layout.MaxFile)},
		{Op: Rename, Path: "a", To: "b/c", Time: 1 << 40},
		{Op: Unlock, Path: "priv/lock/x", Expect: 1 << 63},
	}
}

func TestACommandSurvivesTheLog(t *testing.T) {
	for _, c := range samples() {
		got, err := Unmarshal(c.Marshal())
		if err != nil {
			t.Fatalf("%v %q: %v", c.Op, c.Path, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%v %q changed on the way", c.Op, c.Path)
		}
		if id := IDOf(c.Marshal()); id != c.ID {
			t.Errorf("%v %q: IDOf = %d, want %d", c.Op, c.Path, id, c.ID)
		}
	}
}

func TestWhatCannotBeReadAgainIsNotedBefore(t *testing.T) {
	for _, c := range samples() {
		if err := c.Check(); err != nil {
			t.Errorf("%v %q: %v", c.Op, c.Path, err)
		}
	}
	long := strings.Repeat("x", maxPath+1)
	for _, c := range []*Command{
		{Op: Write, Path: "a", Data: make([]byte, layout.MaxFile+1)}, {Op: Mkdir, Path: long}, {Op: Rename, To: long}, {Node: long}, {Op: opEnd},
	} {
		if _, err := Unmarshal(c.Marshal()); err == nil {
			t.Errorf("%v: is read all the same", c.Op)
		}
		if err := c.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v", c.Op, err)
		}
	}
}

func TestTextShrinksInTheLog(t *testing.T) {
	c := &Command{Op: Write, Path: "a", Data: bytes.Repeat([]byte("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n"), 100)}
	if n := len(c.Marshal()); n > 400 {
		t.Errorf("%d bytes of repeated text take %d bytes in the log", len(c.Data), n)
	}
}

func TestDamageIsFound(t *testing.T) {
	whole := (&Command{ID: 9, Node: "n", Op: Write, Path: "a", Data: []byte("content")}).Marshal()
	for n := range whole {
		if _, err := Unmarshal(whole[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	newer := bytes.Clone(whole)
	newer[0]++
	for name, b := range map[string][]byte{"newer format": newer, "trailing byte": append(bytes.Clone(whole), 0), "huge": make([]byte, MaxSize+1)} {
		if _, err := Unmarshal(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	c := &Command{Op: Write, Path: "a", Data: make([]byte, layout.MaxFile)}
	bomb := encoder().EncodeAll(make([]byte, 64<<20), nil)
	head := c.Marshal()
	packed := encoder().EncodeAll(c.Data, nil)
	b := append(bytes.Clone(head[:len(head)-len(packed)]), bomb...)
	if _, err := Unmarshal(b); !errors.Is(err, ErrMalformed) {
		t.Errorf("64 MiB from %d bytes: %v", len(b), err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, c := range samples() {
		if b := c.Marshal(); len(b) < 10000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Unmarshal(b)
		if err != nil {
			return
		}
		again, err := Unmarshal(c.Marshal())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v changed on the way: %v", c, err)
		}
	})
}
