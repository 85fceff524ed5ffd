package iso

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var tree = map[string][]byte{
	"user-data": []byte("#cloud-config\n"), "meta-data": bytes.Repeat([]byte("x"), 5000), "empty": nil,
	"openstack/latest/user_data": []byte("user"), "openstack/latest/meta_data.json": []byte("{}"), "openstack/content/0000": []byte("net"),
}

func TestImageIsTheSameForTheSameFiles(t *testing.T) {
	one, err := Image("cidata", tree)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := Image("cidata", tree)
	if !bytes.Equal(one, two) || len(one)%sector != 0 {
		t.Errorf("%d and %d bytes", len(one), len(two))
	}
	many := map[string][]byte{}
	for i := range 100 {
		many[strings.Repeat("a", i+1)] = nil
	}
	if _, err := Image("x", many); err == nil {
		t.Error("a directory of more than a sector was taken")
	}
}

// TestOthersReadTheImage asks a program that others wrote.
func TestOthersReadTheImage(t *testing.T) {
	isoinfo, err := exec.LookPath("isoinfo")
	if err != nil {
		t.Skip(err)
	}
	content, err := Image("cidata", tree)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(isoinfo, append([]string{"-i", name}, args...)...).Output()
		if err != nil {
			t.Fatalf("isoinfo %v: %v", args, err)
		}
		return string(out)
	}
	if got := ask("-d"); !strings.Contains(got, "Volume id: cidata\n") || !strings.Contains(got, "Joliet with UCS level 3 found") {
		t.Errorf("described as\n%s", got)
	}
	for path, want := range tree {
		if got := ask("-J", "-x", "/"+path); got != string(want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := ask("-x", "/OPENSTACK/LATEST/USER_DATA.;1"); got != "user" {
		t.Errorf("without Joliet: %q", got)
	}
}
