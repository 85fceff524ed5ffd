package dir_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/fixtures/golden"
	"etcpve/plugins/storage/dir"
)

const suite = "storage"

type definition struct {
	ID, Path string
	Content  []string
}

// at is a storage that keeps its files below root instead of its path.
func (d definition) at(root string) *storage.Config {
	return &storage.Config{ID: d.ID, Type: "dir", Values: map[string]string{
		"path": filepath.Join(root, d.Path), "content": strings.Join(d.Content, ","),
	}}
}

func TestGoldenFilesystemPath(t *testing.T) {
	type pathCase struct {
		Name    string
		Storage definition
		Input   struct{ Volname, Snapname string }

		Expected struct {
			Path, Vtype string
			VMID        uint32
		}
		Error string
	}
	for _, c := range golden.Cases[pathCase](t, suite, "filesystem_path") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			p := dir.Plugin{}
			v, err := p.Parse(c.Input.Volname)
			path := ""
			if err == nil {
				path, err = p.Path(c.Storage.at("/"), v, c.Input.Snapname)
			}
			if c.Error != "" {
				if err == nil || err.Error()+"\n" != c.Error {
					t.Errorf("error %v; want %q", err, c.Error)
				}
				return
			}
			if err != nil || path != c.Expected.Path || v.VMID != c.Expected.VMID || v.Content != c.Expected.Vtype {
				t.Errorf("%s %+v, %v; want %+v", path, v, err, c.Expected)
			}
		})
	}
}

func TestGoldenPathToVolumeID(t *testing.T) {
	type locateCase struct {
		Name    string
		Storage definition
		Input   struct {
			Path      string
			Directory bool `json:"is_directory"`
		}
		Expected struct{ Vtype, Volid string }
	}
	for _, c := range golden.Cases[locateCase](t, suite, "path_to_volume_id") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			root := t.TempDir()
			s, p := c.Storage.at(root), dir.Plugin{}
			if err := p.Activate(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(root, c.Input.Path)
			place(t, path, c.Input.Directory, "")
			v, ok := p.Locate(s, path)
			volid := ""
			if ok {
				volid = storage.ID{Storage: s.ID, Name: v.Name}.String()
			}
			if volid != c.Expected.Volid || v.Content != c.Expected.Vtype {
				t.Errorf("%s %s; want %+v", volid, v.Content, c.Expected)
			}
		})
	}
}

// place creates an empty file, a directory, or an image made with arguments of
// "qemu-img create".
func place(t *testing.T, path string, directory bool, format string, args ...string) {
	t.Helper()
	if directory {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if format == "" {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	argv := append([]string{"create", "-q", "-f", format}, args...)
	if out, err := exec.Command("qemu-img", append(argv, path, "131072")...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", argv, err, out)
	}
}

func TestGoldenListVolumes(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	type listCase struct {
		Name    string
		Storage definition
		Input   struct {
			VMID         uint32
			ContentTypes []string `json:"content_types"`
			Files        []struct {
				Path        string
				Format      string `json:"image_format"`
				BackingFile string `json:"backing_file"`
				Directory   bool
			}
			Guests map[string]string `json:"cluster_guests"`
		}
		Expected []map[string]any
	}
	for _, c := range golden.Cases[listCase](t, suite, "list_volumes") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			root := t.TempDir()
			s, p := c.Storage.at(root), dir.Plugin{Run: host.System{}, Zone: time.UTC}
			for _, f := range c.Input.Files {
				var args []string
				if f.BackingFile != "" {
					args = []string{"-u", "-F", strings.TrimPrefix(filepath.Ext(f.BackingFile), "."), "-b", f.BackingFile}
				}
				place(t, filepath.Join(root, f.Path), f.Directory, f.Format, args...)
			}
			got := []map[string]any{}
			for _, content := range c.Input.ContentTypes {
				all, err := p.List(t.Context(), s, storage.Query{Content: content, VMID: c.Input.VMID, Containers: func(vmid uint32) bool {
					return c.Input.Guests[itoa(vmid)] == "lxc"
				}})
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range all {
					got = append(got, listed(s.ID, i))
				}
			}
			if want := normal(t, c.Expected); !reflect.DeepEqual(normal(t, got), want) {
				t.Errorf("\n got %v\nwant %v", normal(t, got), want)
			}
		})
	}
}

// listed is a volume in the form of the cases, which leave the file system's
// own answers out: the time of a file, and how much of it is allocated.
func listed(id string, i storage.Info) map[string]any {
	m := map[string]any{"volid": id + ":" + i.Name, "content": i.Content, "format": i.Format, "size": i.Size, "ctime": 1234567890}
	if i.Content == storage.Images || i.Content == storage.Rootdir {
		m["used"], m["parent"] = 262144, nil
		if i.Parent != "" {
			m["parent"] = i.Parent
		}
	}
	if i.Format == "subvol" {
		m["size"] = 131072
	}
	if i.VMID != 0 {
		m["vmid"] = i.VMID
	}
	if i.Content == storage.Backup {
		m["subtype"] = i.Subtype
		if a, err := storage.ParseArchive(i.Name, time.UTC); err == nil && a.Standard {
			m["ctime"] = i.Created
		}
	}
	return m
}

func normal(t *testing.T, v any) (n []map[string]any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func itoa(n uint32) string {
	text, _ := json.Marshal(n) // cannot fail
	return string(text)
}
