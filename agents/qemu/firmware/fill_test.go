package firmware

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/qemu/blockdev"
)

func TestFillTakesTheTemplateOnlyForABlankStore(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	template := filepath.Join(dir, "vars.fd")
	content := bytes.Repeat([]byte("variables "), 13107)
	if err := os.WriteFile(template, content, 0o600); err != nil {
		t.Fatal(err)
	}
	image := func(format, from string) blockdev.Volume {
		v := blockdev.Volume{Path: filepath.Join(dir, "store."+format), Format: format}
		os.Remove(v.Path)
		argv := []string{"qemu-img", "create", "-q", "-f", format, v.Path, "256K"}
		if from != "" {
			argv = []string{"qemu-img", "convert", "-f", "raw", "-O", format, from, v.Path}
		}
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return v
	}
	used := filepath.Join(dir, "used")
	if err := os.WriteFile(used, append([]byte("mine"), make([]byte, 256<<10)...), 0o600); err != nil {
		t.Fatal(err)
	}
	begins := func(v blockdev.Volume, want []byte) bool {
		out := filepath.Join(dir, "out")
		if text, err := exec.Command("qemu-img", "convert", "-f", v.Format, "-O", "raw", v.Path, out).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		got, err := os.ReadFile(out)
		return err == nil && bytes.HasPrefix(got, want)
	}
	fill := func(v blockdev.Volume) {
		t.Helper()
		if err := Fill(t.Context(), host.System{}, template, v, dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"raw", "qcow2"} {
		v := image(format, "")
		fill(v)
		if !begins(v, content) {
			t.Errorf("%s: a blank store was not filled", format)
		}
		v = image(format, used)
		fill(v)
		if !begins(v, []byte("mine\x00")) {
			t.Errorf("%s: a store in use was overwritten", format)
		}
	}
	fresh := blockdev.Volume{Path: filepath.Join(dir, "fresh"), Format: "raw"}
	fill(fresh)
	if !begins(fresh, content) {
		t.Error("a file that was not there was not made")
	}
}
