package storage_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"etcpve/agents/storage"
	"etcpve/cfs/format/user"
	"etcpve/fixtures/golden"
)

const suite = "storage"

// optional returns nil for a zero value: "not defined".
func optional[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// same compares with what was read from JSON; keys without a value are as good
// as absent.
func same(t *testing.T, got, want any) {
	t.Helper()
	normal := func(v any) (n any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &n); err != nil {
			t.Fatal(err)
		}
		if m, ok := n.(map[string]any); ok {
			for key, value := range m {
				if value == nil {
					delete(m, key)
				}
			}
		}
		return n
	}
	g, _ := json.Marshal(normal(got))
	w, _ := json.Marshal(normal(want))
	if string(g) != string(w) {
		t.Errorf("got %s; want %s", g, w)
	}
}

func sameError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error()+"\n" != want {
		t.Errorf("error %v; want %q", err, want)
	}
}

type volumeCase struct {
	Name    string
	Storage struct {
		Path        string
		ContentDirs map[string]string `json:"content-dirs"`
	}
	Input struct {
		Volname, Archive, Vtype string
	}
	Expected any
	Error    string
}

func describe(v storage.Volume) map[string]any {
	return map[string]any{
		"vtype": v.Content, "name": v.File, "vmid": optional(v.VMID), "basename": optional(v.Base),
		"basevmid": optional(v.BaseVMID), "is_base": v.IsBase, "format": v.Format,
	}
}

func TestGoldenParseVolname(t *testing.T) {
	for _, c := range golden.Cases[volumeCase](t, suite, "parse_volname") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			v, err := storage.ParseFile(c.Input.Volname)
			if c.Error != "" {
				sameError(t, err, c.Error)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, describe(v), c.Expected)
		})
	}
}

func TestGoldenArchiveInfo(t *testing.T) {
	for _, c := range golden.Cases[volumeCase](t, suite, "archive_info") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			a, err := storage.ParseArchive(c.Input.Archive, time.UTC)
			if c.Error != "" {
				sameError(t, err, c.Error)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]any{
				"type": a.Type, "format": a.Format, "compression": optional(a.Compression), "filename": a.File, "is_std_name": a.Standard,
			}
			if len(a.Decompressor) > 0 {
				got["decompressor"] = a.Decompressor
			}
			if a.Standard {
				got["vmid"], got["ctime"], got["logfilename"], got["notesfilename"] = a.VMID, a.Created.Unix(), a.Log, a.Notes
			}
			same(t, got, c.Expected)
		})
	}
}

func TestGoldenGetSubdir(t *testing.T) {
	for _, c := range golden.Cases[volumeCase](t, suite, "get_subdir") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			var dirs []string
			for content, dir := range c.Storage.ContentDirs {
				dirs = append(dirs, content+"="+dir)
			}
			s := &storage.Config{Type: "dir", Values: map[string]string{"path": c.Storage.Path, "content-dirs": strings.Join(dirs, ",")}}
			dir, err := s.Subdir(c.Input.Vtype)
			if c.Error != "" {
				sameError(t, err, c.Error)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, dir, c.Expected)
		})
	}
}

type backupEntry struct {
	Volid     string `json:"volid"`
	VMID      uint32 `json:"vmid,omitempty"`
	Ctime     int64  `json:"ctime"`
	Protected bool   `json:"protected,omitempty"`
	Type      string `json:"type,omitempty"`
	Mark      string `json:"mark,omitempty"`
}

func TestGoldenPruneBackups(t *testing.T) {
	type pruneCase struct {
		Name  string
		Input struct {
			Keep    map[string]any
			VMID    uint32
			Type    string
			Backups []backupEntry
		}
		Expected any
		Error    string
	}
	for _, c := range golden.Cases[pruneCase](t, suite, "prune_backups") {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			keep := storage.Retention{}
			for key, value := range c.Input.Keep {
				switch v := value.(type) {
				case float64:
					keep[key] = int(v)
				case bool:
					if v {
						keep[key] = 1
					}
				case string:
					n, err := strconv.Atoi(v)
					if err != nil {
						t.Fatal(err)
					}
					keep[key] = n
				case nil:
				default:
					t.Fatalf("%s: %v", key, value)
				}
			}
			var backups []storage.Candidate
			for _, b := range c.Input.Backups {
				backups = append(backups, storage.Candidate{ID: b.Volid, VMID: b.VMID, Created: b.Ctime, Protected: b.Protected})
			}
			got := []backupEntry{}
			for _, b := range storage.Prune(backups, keep, c.Input.Type, c.Input.VMID, time.UTC) {
				got = append(got, backupEntry{Volid: b.ID, VMID: b.VMID, Ctime: b.Created, Type: b.Type, Mark: string(b.Mark)})
			}
			same(t, got, c.Expected)
		})
	}
}

func read(t *testing.T, part, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(golden.Dir(t, suite), part, file))
	if err != nil {
		t.Skipf("golden data not on this machine: %v", err)
	}
	return string(text)
}

func TestGoldenBandwidth(t *testing.T) {
	type limitCase struct {
		Name, User, Operation string
		Storages              []*string
		Override, Expected    *float64
	}
	cases := golden.Cases[limitCase](t, suite, "bwlimit")
	configs, _ := storage.ParseConfigs(read(t, "bwlimit", "storage.cfg"))
	datacenter := strings.TrimSpace(strings.TrimPrefix(read(t, "bwlimit", "datacenter.cfg"), "bwlimit:"))
	var permissions map[string]map[string][]string
	if err := json.Unmarshal([]byte(read(t, "bwlimit", "permissions.json")), &permissions); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			b := storage.Bandwidth{Operation: c.Operation, Override: c.Override, Datacenter: datacenter}
			for _, s := range c.Storages {
				if s != nil {
					b.Storages = append(b.Storages, *s)
				}
			}
			b.Can = func(path, privilege string) bool {
				return c.User == "root@pam" || slices.Contains(permissions[c.User][path], privilege)
			}
			b.Of = func(id string) string {
				i := slices.IndexFunc(configs, func(c *storage.Config) bool { return c.ID == id })
				if i < 0 {
					t.Fatalf("no storage %s", id)
				}
				return configs[i].Value("bwlimit")
			}
			same(t, b.Limit(), c.Expected)
		})
	}
}

// privileges answers for a user of user.cfg, by the nearest path that names the
// user. That is less than all rules of access, and enough for storages.
func privileges(c *user.Config, who string) storage.Can {
	return func(path, privilege string) bool {
		if who == "root@pam" {
			return true
		}
		for first := true; ; first = false {
			if n := c.Node(path, false); n != nil && n.Users[who] != nil {
				for role, below := range n.Users[who] {
					if (first || below) && c.Roles[role][privilege] {
						return true
					}
				}
				return false
			}
			if path == "/" {
				return false
			}
			path = filepath.Dir(path)
		}
	}
}

func TestGoldenVolumeAccess(t *testing.T) {
	type accessCase struct {
		Name, Volid         string
		VMID                uint32
		AllowedUsers        []string `json:"allowed_users"`
		DeniedUsers         []string `json:"denied_users"`
		AllowedContentTypes []string `json:"allowed_content_types"`
		DeniedContentTypes  []string `json:"denied_content_types"`
	}
	cases := golden.Cases[accessCase](t, suite, "volume_access")
	users := user.Parse(read(t, "volume_access", "user.cfg"))
	for _, c := range cases {
		golden.Case(t, suite, c.Name, func(t *testing.T) {
			check := func(who, content string) error {
				return storage.CheckUse(c.Volid, storage.ParseFile, content, c.VMID, who == "root@pam", privileges(users, who))
			}
			for _, who := range c.AllowedUsers {
				if err := check(who, ""); err != nil {
					t.Errorf("%s is denied: %v", who, err)
				}
			}
			for _, who := range c.DeniedUsers {
				if check(who, "") == nil {
					t.Errorf("%s is allowed", who)
				}
			}
			for _, content := range c.AllowedContentTypes {
				if err := check("root@pam", content); err != nil {
					t.Errorf("as %s: %v", content, err)
				}
			}
			for _, content := range c.DeniedContentTypes {
				if check("root@pam", content) == nil {
					t.Errorf("allowed as %s", content)
				}
			}
		})
	}
}
