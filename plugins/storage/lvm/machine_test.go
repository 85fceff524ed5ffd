package lvm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/storage/storagetest"
)

// A machine stands in for a node with the volume group "vg", in it the thin pool
// "pool". It does what LVM's commands do, as far as they are used, and refuses
// what it does not know.
type machine struct {
	mu  sync.Mutex // guards lvs
	lvs []*lv
	vg  string
}

// An lv is a logical volume. Size is in bytes.
type lv struct {
	name, pool, origin string
	size               int64
	readOnly, active   bool
	tags               []string
	content            byte
}

// groupSize is the size of the volume group, in bytes.
const groupSize = 100 << 30

func newMachine(vg string) *machine {
	return &machine{vg: vg, lvs: []*lv{{name: "pool", size: 50 << 30, active: true}, {name: "root", size: 1 << 30, active: true}}}
}

// args takes a command's words apart. Options that take a value are named.
func args(argv []string) (options map[string]string, rest []string) {
	valued := "--size --virtualsize --name --addtag --deltag --thinpool --snapshot --permission --setactivationskip --config --options --reportformat --units"
	options = map[string]string{}
	for i := 1; i < len(argv); i++ {
		switch word := argv[i]; {
		case slices.Contains(strings.Fields(valued), word):
			options[word] = argv[i+1]
			i++
		case strings.HasPrefix(word, "-"):
			options[word] = ""
		default:
			rest = append(rest, word)
		}
	}
	return options, rest
}

func (m *machine) Run(_ context.Context, c host.Command) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	options, rest := args(c.Argv)
	work := map[string]func(map[string]string, []string) ([]byte, error){
		"vgs": m.vgs, "lvs": m.list, "lvcreate": m.create, "lvremove": m.remove, "lvrename": m.rename,
		"lvchange": m.change, "lvextend": m.extend, "vgchange": m.deactivate,
	}[c.Argv[0]]
	switch {
	case work != nil:
		return work(options, rest)
	case c.Argv[0] == "dd":
		return nil, m.dd(c)
	}
	return nil, fmt.Errorf("%s: no such command", c)
}

func (m *machine) find(name string) *lv {
	name = path.Base(name)
	if i := slices.IndexFunc(m.lvs, func(l *lv) bool { return l.name == name }); i >= 0 {
		return m.lvs[i]
	}
	return nil
}

func fail(format string, a ...any) ([]byte, error) {
	return nil, fmt.Errorf("exit status 5: "+format, a...)
}

func (m *machine) vgs(_ map[string]string, rest []string) ([]byte, error) {
	if rest[0] != m.vg {
		return fail("Volume group %q not found", rest[0])
	}
	free := int64(groupSize)
	for _, l := range m.lvs {
		if l.pool == "" {
			free -= l.size
		}
	}
	return fmt.Appendf(nil, `{"report":[{"vg":[{"vg_name":"%s","vg_size":"%d","vg_free":"%d"}]}]}`, m.vg, int64(groupSize), free), nil
}

func (m *machine) list(map[string]string, []string) ([]byte, error) {
	rows := []map[string]string{}
	for _, l := range m.lvs {
		attr := []byte("-wi-------")
		if l.name == "pool" {
			copy(attr, "twi")
		} else if l.pool != "" {
			copy(attr, "Vwi")
		}
		if l.active {
			attr[4] = 'a'
		}
		row := map[string]string{"lv_name": l.name, "lv_size": fmt.Sprint(l.size), "lv_attr": string(attr), "pool_lv": l.pool,
			"origin": l.origin, "data_percent": "", "lv_tags": strings.Join(l.tags, ","), "lv_time": "1700000000"}
		if l.name == "pool" {
			row["data_percent"] = "25.00"
		}
		rows = append(rows, row)
	}
	return json.Marshal(map[string]any{"report": []any{map[string]any{"lv": rows}}})
}

// extents rounds a size in KiB up to whole extents of 4 MiB, as LVM does.
func extents(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "k"), 10, 64)
	if err != nil {
		return 0
	}
	const extent = 4 << 20
	return (n<<10 + extent - 1) / extent * extent
}

func (m *machine) create(options map[string]string, _ []string) ([]byte, error) {
	l := &lv{name: options["--name"], active: true, tags: strings.Fields(options["--addtag"]), readOnly: options["--permission"] == "r"}
	if m.find(l.name) != nil {
		return fail("Logical Volume %q already exists", l.name)
	}
	switch from := options["--snapshot"]; {
	case from != "":
		origin := m.find(from)
		if origin == nil {
			return fail("Failed to find logical volume %q", from)
		}
		l.size, l.pool, l.origin, l.content = origin.size, origin.pool, origin.name, origin.content
	case options["--thinpool"] != "":
		l.size, l.pool = extents(options["--virtualsize"]), "pool"
	default:
		l.size = extents(options["--size"])
	}
	if l.size == 0 {
		return fail("Missing size")
	}
	m.lvs = append(m.lvs, l)
	return nil, nil
}

func (m *machine) remove(_ map[string]string, rest []string) ([]byte, error) {
	l := m.find(rest[0])
	if l == nil {
		return fail("Failed to find logical volume %q", rest[0])
	}
	m.lvs = slices.DeleteFunc(m.lvs, func(o *lv) bool { return o == l })
	for _, o := range m.lvs {
		if o.origin == l.name {
			o.origin = ""
		}
	}
	return nil, nil
}

func (m *machine) rename(_ map[string]string, rest []string) ([]byte, error) {
	l := m.find(rest[1])
	if l == nil || m.find(rest[2]) != nil {
		return fail("cannot rename %q", rest)
	}
	for _, o := range m.lvs {
		if o.origin == l.name {
			o.origin = rest[2]
		}
	}
	l.name = rest[2]
	return nil, nil
}

func (m *machine) change(options map[string]string, rest []string) ([]byte, error) {
	l := m.find(rest[0])
	if l == nil {
		return fail("Failed to find logical volume %q", rest[0])
	}
	for option := range options {
		switch option {
		case "-ay", "-aly":
			l.active = true
		case "-an", "-aln":
			l.active = false
		case "-pr":
			l.readOnly = true
		}
	}
	return nil, nil
}

func (m *machine) extend(options map[string]string, rest []string) ([]byte, error) {
	l := m.find(rest[0])
	if l == nil || extents(options["--size"]) <= l.size {
		return fail("New size not larger than existing size")
	}
	l.size = extents(options["--size"])
	return nil, nil
}

func (m *machine) deactivate(map[string]string, []string) ([]byte, error) { return nil, nil }

// dd copies the one byte that the content of a volume is here, as often as the
// volume is long.
func (m *machine) dd(c host.Command) error {
	for _, word := range c.Argv[1:] {
		key, name, _ := strings.Cut(word, "=")
		l := m.find(name)
		switch {
		case key == "if" && l != nil && l.active:
			return storagetest.Fill(c.Output, l.content, l.size)
		case key == "of" && l != nil && l.active && !l.readOnly:
			content, err := storagetest.Drain(c.Input, l.size)
			l.content = content
			return err
		}
	}
	return fmt.Errorf("%s: no such device", c)
}

// The machine as storagetest asks it.

func (m *machine) Has(name string) bool { return m.find(name) != nil }

func (m *machine) Snapshot(name string) error { return fmt.Errorf("%s: no such command", name) }

func (m *machine) Property(name, property string) string {
	return fmt.Sprintf("%.2fg", float64(m.find(name).size)/(1<<30))
}

// Write and Read change and return the content of the volume behind a device.
func (m *machine) Write(t *testing.T, path string, content byte) {
	t.Helper()
	l := m.find(path)
	if l == nil || !strings.HasPrefix(path, "/dev/"+m.vg+"/") || l.readOnly {
		t.Fatalf("%s cannot be written", path)
	}
	l.content = content
}

func (m *machine) Read(t *testing.T, path string) byte {
	t.Helper()
	l := m.find(path)
	if l == nil {
		t.Fatalf("no device %s", path)
	}
	return l.content
}
