package virtual

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"
)

func TestFormsAreThoseOfPmxcfs(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"standalone .members", string(Members("c1", Cluster{})), "{\n\"nodename\": \"c1\",\n\"version\": 0\n}\n"},
		{"empty .vmlist", string(Guests(1, nil)), "{\n\"version\": 1\n\n}\n"},
		{".vmlist", string(Guests(4, []tree.Guest{
			{Guest: layout.Guest{VMID: 100, Node: "n1", Kind: layout.QEMU}, Version: 2},
			{Guest: layout.Guest{VMID: 101, Node: "n2", Kind: layout.LXC}, Version: 4},
		})), "{\n\"version\": 4,\n\"ids\": {\n\"100\": { \"node\": \"n1\", \"type\": \"qemu\", \"version\": 2 },\n\"101\": { \"node\": \"n2\", \"type\": \"lxc\", \"version\": 4 }}\n\n}\n"},
		{".members", string(Members("n1", Cluster{Name: "lab", Config: 3, Change: 5, Quorate: true, Nodes: []Member{
			{"n1", 1, true, "10.0.0.1"}, {"n2", 2, false, ""},
		}})), "{\n\"nodename\": \"n1\",\n\"version\": 5,\n\"cluster\": { \"name\": \"lab\", \"version\": 3, \"nodes\": 2, \"quorate\": 1 },\n\"nodelist\": {\n" +
			"  \"n1\": { \"id\": 1, \"online\": 1, \"ip\": \"10.0.0.1\"},\n  \"n2\": { \"id\": 2, \"online\": 0}\n  }\n}\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, c.got, c.want)
		}
	}
}

func TestVersionListsTheKeysOfAllNodes(t *testing.T) {
	raw := Versions("n1", 1700000000, 2, 3, []tree.Counter{{Path: "user.cfg", N: 4}}, []status.Value{
		{Node: "n2", Key: "nodeip", Counter: 7}, {Node: "n1", Key: "nodeip", Counter: 6}, {Node: "n1", Key: "tasklist", Counter: 8},
	})
	var v struct {
		Starttime, Clinfo, Vmlist int
		User                      int `json:"user.cfg"`
		Kvstore                   map[string]map[string]int
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	if got, want := fmt.Sprint(v), "{1700000000 2 3 4 map[n1:map[nodeip:6 tasklist:8] n2:map[nodeip:7]]}"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// kept is a history in memory.
type kept map[string][]Version

func (k kept) Versions(path string) ([]Version, error) { return k[path], nil }

func (k kept) Content(path string, index uint64) ([]byte, error) {
	return fmt.Appendf(nil, "%s at %d", path, index), nil
}

func (k kept) Names(dir string) ([]Item, error) {
	var items []Item
	for path := range k {
		if rest, ok := strings.CutPrefix(path, layout.Join(dir, "")); ok || dir == "" {
			if dir == "" {
				rest = path
			}
			name, _, isDir := strings.Cut(rest, "/")
			items = append(items, Item{Name: name, Dir: isDir})
		}
	}
	return sorted(items), nil
}

func TestHistoryIsADirectoryForEachFile(t *testing.T) {
	p := Past{Node: "n1", Tree: tree.New(), History: kept{
		"storage.cfg":     {{Index: 5, Size: 10}, {Index: 9, Node: "n2", UID: 0, Size: 12}, {Index: 11, Removed: true}},
		"priv/shadow.cfg": {{Index: 7, Size: 3}},
	}}
	for path, want := range map[string]string{
		"storage.cfg": "dir 755", "storage.cfg/5": "file 440", "storage.cfg/log": "file 440", "storage.cfg/6": "none", "storage.cfg/11": "none",
		"priv": "dir 700", "priv/shadow.cfg": "dir 700", "priv/shadow.cfg/7": "file 400", "qemu-server": "link nodes/n1/qemu-server", "other": "none",
	} {
		info, err := p.Stat(path)
		got := fmt.Sprintf("file %o", info.Mode)
		switch {
		case errors.Is(err, ErrNotExist):
			got = "none"
		case err != nil:
			got = err.Error()
		case info.Link != "":
			got = "link " + info.Link
		case info.Dir:
			got = fmt.Sprintf("dir %o", info.Mode)
		}
		if got != want {
			t.Errorf("%s: %s; want %s", path, got, want)
		}
	}
	items, err := p.List("storage.cfg")
	if got := fmt.Sprint(items, err); got != "[{5 false false} {9 false false} {log false false}] <nil>" {
		t.Errorf("list: %s", got)
	}
	log, err := p.Read("storage.cfg/log", 0)
	if want := "5 1970-01-01T00:00:00Z - root 10\n9 1970-01-01T00:00:00Z n2 root 12\n11 1970-01-01T00:00:00Z - root removed\n"; err != nil || string(log) != want {
		t.Errorf("log: %q, %v", log, err)
	}
}

func TestRejectionsArePrivateAndBounded(t *testing.T) {
	r := NewRejected()
	r.Add(Rejection{Path: "priv/a", Reasons: []text.Error{{Line: 1, Message: "secret"}}})
	r.Add(Rejection{Path: "b", Reasons: []text.Error{{Line: 3, Column: 2, Key: "cores", Message: "no number"}}})
	if got := string(r.Render(33)); strings.Contains(got, "secret") || !strings.Contains(got, "b:3:2: cores: no number") {
		t.Errorf("others see %q", got)
	}
	if got := string(r.Render(0)); !strings.Contains(got, "secret") {
		t.Errorf("root sees %q", got)
	}
	for range 1000 {
		r.Add(Rejection{Path: "c", Reasons: make([]text.Error, 100)})
	}
	if n := strings.Count(string(r.Render(0)), "\n"); n > maxRejected*maxReasons {
		t.Errorf("%d lines are kept", n)
	}
}

func TestEventsOfPrivateFilesAreForRoot(t *testing.T) {
	e := NewEvents()
	root, other := e.Now(0), e.Now(33)
	e.Add([]tree.Change{{Index: 1, Kind: tree.Modified, Path: "priv/shadow.cfg"}, {Index: 2, Kind: tree.Renamed, From: "priv/a", Path: "b"}, {Index: 3, Kind: tree.Created, Path: "c"}})
	e.Close()
	for _, c := range []struct {
		reader *Reader
		lines  int
	}{{root, 3}, {other, 1}} {
		all := ""
		for b := make([]byte, 7); ; { // reads are smaller than lines
			n, ok := c.reader.Read(nil, b)
			if !ok || n == 0 {
				break
			}
			all += string(b[:n])
		}
		if n := strings.Count(all, "\n"); n != c.lines {
			t.Errorf("%d lines: %s; want %d", n, all, c.lines)
		}
	}
}

func TestASlowReaderIsToldOfTheGap(t *testing.T) {
	e := NewEvents()
	r := e.Now(0)
	for i := range keptEvents + 10 {
		e.Add([]tree.Change{{Index: uint64(i + 1), Kind: tree.Modified, Path: "a"}})
	}
	b := make([]byte, 1<<20)
	n, _ := r.Read(nil, b)
	first, _, _ := strings.Cut(string(b[:n]), "\n")
	if first != `{"gap":true,"after":0,"until":10}` {
		t.Errorf("first line: %s", first)
	}
	cancel := make(chan struct{})
	close(cancel)
	for {
		if _, ok := r.Read(cancel, b); !ok {
			break
		}
	}
}

func TestNamesAreFreed(t *testing.T) {
	n := NewNames(100)
	id := n.ID("a")
	if n.ID("a") != id || n.ID("b") == id {
		t.Error("a name has one number of its own")
	}
	n.Forget(id, 1)
	if name, ok := n.Name(id); !ok || name != "a" {
		t.Errorf("after one of two: %q %v", name, ok)
	}
	n.Forget(id, 1)
	if _, ok := n.Name(id); ok {
		t.Error("a forgotten number is still known")
	}
}
