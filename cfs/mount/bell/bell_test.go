package bell

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestABatchSurvivesThePipe(t *testing.T) {
	want := []Ring{{Op: Create, Path: "a"}, {Op: Rename, Path: "a", To: "b/c"}, {Op: Modify, Path: strings.Repeat("x", maxPath)}}
	var got []Ring
	if err := decode(bufio.NewReader(bytes.NewReader(encode(want))), func(r Ring) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode([]Ring{{Op: Create, Path: "a"}, {Op: Rename, Path: "a", To: "b"}}))
	f.Add([]byte{1, 0, 0, 0, 1, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got []Ring
		if err := decode(bufio.NewReader(bytes.NewReader(b)), func(r Ring) { got = append(got, r) }); err == nil {
			if again := encode(got); !bytes.HasPrefix(b, again) {
				t.Errorf("%x was read as %x", b, again)
			}
		}
	})
}

// TestNothingIsRungOnAnotherFileSystem: what is repeated must never happen to
// the directory that a mount has left.
func TestNothingIsRungOnAnotherFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Device++
	err = Run(bytes.NewReader(encode([]Ring{{Op: Remove, Path: "precious"}})), io.Discard, m)
	if !errors.Is(err, errGone) {
		t.Errorf("the bell of a mount that is gone: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
		t.Error(err)
	}
}

func TestEachRingIsItsCall(t *testing.T) {
	dir := t.TempDir()
	m, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	rings := []Ring{{Op: Create, Path: "f"}, {Op: Mkdir, Path: "d"}, {Op: Modify, Path: "f"}, {Op: Touch, Path: "f"},
		{Op: Rename, Path: "f", To: "d/g"}, {Op: Create, Path: "h"}, {Op: Remove, Path: "h"}, {Op: Mkdir, Path: "e"}, {Op: Rmdir, Path: "e"}}
	var out bytes.Buffer
	if err := Run(bytes.NewReader(encode(rings)), &out, m); err != nil {
		t.Fatal(err)
	}
	if b := out.Bytes(); len(b) != 5 || b[4] != done {
		t.Errorf("the bell answers %x", b)
	}
	names, err := filepath.Glob(dir + "/*")
	if err != nil || len(names) != 1 {
		t.Errorf("left: %v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "d/g")); err != nil {
		t.Error(err)
	}
}
