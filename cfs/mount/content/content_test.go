package content

import (
	"errors"
	"testing"

	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

func TestSplice(t *testing.T) {
	for _, c := range []struct {
		data  string
		off   uint64
		chunk string
		want  string
	}{
		{"", 0, "ab", "ab"},
		{"abc", 3, "d", "abcd"},
		{"abc", 1, "X", "aXc"},
		{"abc", 2, "XYZ", "abXYZ"},
		{"a", 3, "b", "a\x00\x00b"},
		{"abc", 1, "", "abc"},
	} {
		if got, err := Splice([]byte(c.data), c.off, []byte(c.chunk)); err != nil || string(got) != c.want {
			t.Errorf("%q at %d of %q: %q, %v", c.chunk, c.off, c.data, got, err)
		}
	}
	if _, err := Splice(nil, layout.MaxFile-1, []byte("ab")); !errors.Is(err, tree.ErrTooBig) {
		t.Errorf("one byte too much: %v", err)
	}
	if _, err := Splice(nil, 1<<64-1, []byte("ab")); !errors.Is(err, tree.ErrTooBig) {
		t.Errorf("an end beyond all numbers: %v", err)
	}
	if got, err := Splice(nil, layout.MaxFile-2, []byte("ab")); err != nil || len(got) != layout.MaxFile {
		t.Errorf("the last bytes: %d, %v", len(got), err)
	}
}

func TestResizeLeavesWhatOthersRead(t *testing.T) {
	data := []byte("abc")
	for size, want := range map[uint64]string{0: "", 2: "ab", 3: "abc", 5: "abc\x00\x00"} {
		got, err := Resize(data, size)
		if err != nil || string(got) != want {
			t.Errorf("%d: %q, %v", size, got, err)
		}
		if len(got) > 0 {
			got[0] = 'X'
		}
		if string(data) != "abc" {
			t.Fatal("the old content has changed")
		}
	}
	if _, err := Resize(data, layout.MaxFile+1); !errors.Is(err, tree.ErrTooBig) {
		t.Errorf("too long: %v", err)
	}
}
