package provision

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchiveWithoutItsProgram names the package that is missing.
func TestArchiveWithoutItsProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for mark, program := range map[string]string{"\x28\xb5\x2f\xfd": "zstd", "\x1f\x8b\x08\x00": "gzip", "\x89LZO": "lzop"} {
		_, _, err := unpack(t.Context(), strings.NewReader(mark+"more"))
		if want := "is compressed, and program '" + program + "' is not there to unpack it: install the package " + program; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// What is not compressed needs none.
	from, wait, err := unpack(t.Context(), strings.NewReader("VMA\x00 and more"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(from); string(text) != "VMA\x00 and more" || err != nil || wait() != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// TestUnpackerThatFails ends the archive with what the program says.
func TestUnpackerThatFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lzop"), []byte("#!/bin/sh\necho it is broken >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	from, wait, err := unpack(t.Context(), strings.NewReader("\x89LZOmore"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(from); err == nil || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("%v", err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
}
