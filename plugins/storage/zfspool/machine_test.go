package zfspool_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"etcpve/agents/host"
)

// A machine stands in for a node with a pool. It does what the commands of ZFS
// do, as far as they are used, and refuses what it does not know.
type machine struct {
	mu   sync.Mutex // guards sets
	sets map[string]*dataset
	pool string
	txg  int
}

// A dataset is a volume, a file system or, with "@" in its name, a snapshot.
type dataset struct {
	volume            bool
	volsize, refquota int64
	origin            string
	content           byte
	txg               int
	mounted           bool
}

func newMachine(pool string) *machine {
	return &machine{pool: pool, sets: map[string]*dataset{pool: {mounted: true}, pool + "/data": {}}}
}

func (m *machine) Run(_ context.Context, c host.Command) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch c.Argv[0] {
	case "udevadm":
		if _, ok := m.sets[strings.TrimPrefix(c.Argv[3], "/dev/zvol/")]; !ok {
			return nil, fmt.Errorf("no device %s", c.Argv[3])
		}
		return nil, nil
	case "zpool":
		if name := c.Argv[len(c.Argv)-1]; c.Argv[1] != "list" || m.sets[name] == nil {
			return nil, fmt.Errorf("cannot open '%s': no such pool", name)
		}
		return []byte(m.pool + "\n"), nil
	case "dd":
		return nil, m.dd(c)
	}
	options, rest := map[string]string{}, []string{}
	for i := 2; i < len(c.Argv); i++ {
		switch word := c.Argv[i]; {
		case slices.Contains([]string{"-o", "-V", "-b", "-t", "-d", "-s", "-i", "-I"}, word) && (word != "-s" || c.Argv[1] == "list"):
			options[word+strings.Split(c.Argv[i+1], "=")[0]] = c.Argv[i+1]
			i++
		case strings.HasPrefix(word, "-"):
			options[word] = ""
		default:
			rest = append(rest, word)
		}
	}
	work := map[string]func(map[string]string, []string) (string, error){
		"get": m.get, "set": m.set, "list": m.list, "create": m.create, "destroy": m.destroy, "snapshot": m.snapshot,
		"rollback": m.rollback, "rename": m.rename, "clone": m.clone, "mount": m.mount, "unmount": m.mount,
	}[c.Argv[1]]
	if work == nil {
		return nil, m.stream(c, rest)
	}
	out, err := work(options, rest)
	return []byte(out), err
}

func (m *machine) find(name string) (*dataset, error) {
	if d := m.sets[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("cannot open '%s': dataset does not exist", name)
}

func (m *machine) add(name string, d *dataset) (string, error) {
	if m.sets[name] != nil {
		return "", fmt.Errorf("cannot create '%s': dataset already exists", name)
	}
	m.txg++
	d.txg = m.txg
	m.sets[name] = d
	return "", nil
}

func bytesOf(text string) int64 {
	_, text, _ = strings.Cut("="+text, "=")
	if i := strings.LastIndexByte(text, '='); i >= 0 {
		text = text[i+1:]
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "k"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

func (m *machine) get(options map[string]string, rest []string) (string, error) {
	d, err := m.find(rest[1])
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, property := range strings.Split(rest[0], ",") {
		fmt.Fprintln(&b, map[string]string{"available": "1000000000", "used": "5000", "volsize": fmt.Sprint(d.volsize),
			"refquota": fmt.Sprint(d.refquota), "mounted": map[bool]string{true: "yes", false: "no"}[d.mounted]}[property])
	}
	return b.String(), nil
}

func (m *machine) set(_ map[string]string, rest []string) (string, error) {
	d, err := m.find(rest[1])
	if err != nil {
		return "", err
	}
	switch property, value, _ := strings.Cut(rest[0], "="); property {
	case "volsize":
		d.volsize = bytesOf(value)
	case "refquota":
		d.refquota = bytesOf(value)
	}
	return "", nil
}

// snapshotsOf returns the snapshots of a data set, oldest first.
func (m *machine) snapshotsOf(name string) []string {
	var all []string
	for other := range maps.Keys(m.sets) {
		if strings.HasPrefix(other, name+"@") {
			all = append(all, other)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return m.sets[a].txg - m.sets[b].txg })
	return all
}

func (m *machine) list(options map[string]string, rest []string) (string, error) {
	if _, err := m.find(rest[0]); err != nil {
		return "", err
	}
	var b strings.Builder
	if options["-tsnapshot"] != "" {
		for _, name := range m.snapshotsOf(rest[0]) {
			fmt.Fprintln(&b, name)
		}
		return b.String(), nil
	}
	for _, name := range slices.Sorted(maps.Keys(m.sets)) {
		d := m.sets[name]
		if strings.Contains(name, "@") || !strings.HasPrefix(name, rest[0]) {
			continue
		}
		volsize, origin := "-", "-"
		if d.volume {
			volsize = fmt.Sprint(d.volsize)
		}
		if d.origin != "" {
			origin = d.origin
		}
		fmt.Fprintf(&b, "%s\t%s\t%d\t4096\t%s\t1700000000\n", name, volsize, d.refquota, origin)
	}
	return b.String(), nil
}

func (m *machine) create(options map[string]string, rest []string) (string, error) {
	d := &dataset{}
	for key, value := range options {
		switch {
		case strings.HasPrefix(key, "-V"):
			d.volume, d.volsize = true, bytesOf(value)
		case key == "-orefquota":
			d.refquota = bytesOf(value)
		}
	}
	d.mounted = !d.volume
	return m.add(rest[0], d)
}

func (m *machine) destroy(_ map[string]string, rest []string) (string, error) {
	if _, err := m.find(rest[0]); err != nil {
		return "", err
	}
	doomed := append(m.snapshotsOf(rest[0]), rest[0])
	for name, d := range m.sets {
		if slices.Contains(doomed, d.origin) {
			return "", fmt.Errorf("cannot destroy '%s': filesystem has dependent clones %s", rest[0], name)
		}
	}
	for _, name := range doomed {
		delete(m.sets, name)
	}
	return "", nil
}

func (m *machine) snapshot(_ map[string]string, rest []string) (string, error) {
	of, _, _ := strings.Cut(rest[0], "@")
	d, err := m.find(of)
	if err != nil {
		return "", err
	}
	copied := *d
	copied.origin = ""
	return m.add(rest[0], &copied)
}

func (m *machine) rollback(_ map[string]string, rest []string) (string, error) {
	s, err := m.find(rest[0])
	if err != nil {
		return "", err
	}
	of, _, _ := strings.Cut(rest[0], "@")
	if all := m.snapshotsOf(of); all[len(all)-1] != rest[0] {
		return "", fmt.Errorf("cannot rollback to '%s': more recent snapshots or bookmarks exist", rest[0])
	}
	m.sets[of].content, m.sets[of].volsize = s.content, s.volsize
	return "", nil
}

func (m *machine) rename(_ map[string]string, rest []string) (string, error) {
	d, err := m.find(rest[0])
	if err != nil || m.sets[rest[1]] != nil {
		return "", fmt.Errorf("cannot rename %q: %w", rest, err)
	}
	for _, name := range m.snapshotsOf(rest[0]) {
		m.sets[rest[1]+strings.TrimPrefix(name, rest[0])] = m.sets[name]
		delete(m.sets, name)
	}
	delete(m.sets, rest[0])
	m.sets[rest[1]] = d
	return "", nil
}

func (m *machine) clone(options map[string]string, rest []string) (string, error) {
	s, err := m.find(rest[0])
	if err != nil {
		return "", err
	}
	return m.add(rest[1], &dataset{volume: s.volume, volsize: s.volsize, content: s.content, origin: rest[0],
		refquota: bytesOf(options["-orefquota"]), mounted: !s.volume})
}

func (m *machine) mount(_ map[string]string, rest []string) (string, error) { return "", nil }

// stream does "zfs send" and "zfs recv", with one byte as the content.
func (m *machine) stream(c host.Command, rest []string) error {
	switch c.Argv[1] {
	case "send":
		d, err := m.find(rest[len(rest)-1])
		if err == nil {
			_, err = c.Output.Write([]byte{d.content})
		}
		return err
	case "recv":
		text, err := io.ReadAll(c.Input)
		if err != nil || len(text) != 1 {
			return fmt.Errorf("cannot receive: %q, %w", text, err)
		}
		d := &dataset{volume: path.Base(rest[0])[0] != 's', content: text[0]}
		if _, err := m.add(rest[0], d); err != nil {
			return err
		}
		_, err = m.snapshot(nil, []string{rest[0] + "@__migration__"})
		return err
	}
	return fmt.Errorf("%s: no such command", c)
}

// dd copies the one byte that the content of a volume is here, as often as the
// volume is long.
func (m *machine) dd(c host.Command) error {
	for _, word := range c.Argv[1:] {
		key, name, _ := strings.Cut(word, "=")
		d := m.sets[strings.TrimPrefix(name, "/dev/zvol/")]
		switch {
		case key == "if" && d != nil:
			_, err := io.Copy(c.Output, io.LimitReader(endless(d.content), d.volsize))
			return err
		case key == "of" && d != nil:
			text, err := io.ReadAll(c.Input)
			if err == nil && int64(len(text)) != d.volsize {
				err = fmt.Errorf("%d bytes for a volume of %d", len(text), d.volsize)
			}
			d.content = text[0]
			return err
		}
	}
	return fmt.Errorf("%s: no such device", c)
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// at returns the data set behind a path.
func (m *machine) at(t *testing.T, path string) *dataset {
	t.Helper()
	for _, prefix := range []string{"/dev/zvol/", "/", "/regressiontest_mnt/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			if d := m.sets[rest]; d != nil {
				return d
			}
			if d := m.sets[m.pool+"/"+rest]; d != nil {
				return d
			}
		}
	}
	t.Fatalf("no data set at %s", path)
	return nil
}

// The machine as storagetest asks it.

func (m *machine) Has(name string) bool { return m.sets[name] != nil }

func (m *machine) Snapshot(name string) error {
	_, err := m.snapshot(nil, []string{name})
	return err
}

func (m *machine) Property(name, property string) string {
	d := m.sets[name]
	bytes := map[string]int64{"volsize": d.volsize, "refquota": d.refquota}[property]
	for shift, unit := range map[int]string{30: "G", 20: "M"} {
		if bytes>>shift > 0 && bytes%(1<<shift) == 0 && (shift == 30 || bytes < 1<<30) {
			return fmt.Sprint(bytes>>shift, unit)
		}
	}
	return fmt.Sprint(bytes)
}

func (m *machine) Write(t *testing.T, path string, content byte) { m.at(t, path).content = content }

func (m *machine) Read(t *testing.T, path string) byte { return m.at(t, path).content }
