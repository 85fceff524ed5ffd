// Package zfspooltest stands in for a machine with a ZFS pool, for the tests of
// the types of storage that use one.
//
// It owns what the commands of ZFS do as far as they are used, and refuses what
// it does not know. It never runs a command.
package zfspooltest

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
	"etcpve/agents/storage/storagetest"
)

// A Machine has a pool.
type Machine struct {
	Sets       map[string]*Dataset // by name
	Mountpoint string              // of the pool, "/" and its name if empty

	mu   sync.Mutex // guards Sets while commands run
	pool string
	txg  int
}

// A Dataset is a volume, a file system or, with "@" in its name, a snapshot.
type Dataset struct {
	Volume            bool
	Volsize, Refquota int64
	Origin            string
	Content           byte

	txg     int
	mounted bool
}

// New returns a machine with a pool, or a data set that takes its place.
func New(pool string) *Machine {
	m := &Machine{pool: pool, Sets: map[string]*Dataset{pool: {mounted: true}, pool + "/data": {}}}
	if root, _, below := strings.Cut(pool, "/"); below {
		m.Sets[root] = &Dataset{}
	}
	return m
}

func (m *Machine) Run(_ context.Context, c host.Command) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch c.Argv[0] {
	case "udevadm":
		if _, ok := m.Sets[strings.TrimPrefix(c.Argv[3], "/dev/zvol/")]; !ok {
			return nil, fmt.Errorf("no device %s", c.Argv[3])
		}
		return nil, nil
	case "zpool":
		if name := c.Argv[len(c.Argv)-1]; c.Argv[1] != "list" || m.Sets[name] == nil {
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

func (m *Machine) find(name string) (*Dataset, error) {
	if d := m.Sets[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("cannot open '%s': dataset does not exist", name)
}

func (m *Machine) add(name string, d *Dataset) (string, error) {
	if m.Sets[name] != nil {
		return "", fmt.Errorf("cannot create '%s': dataset already exists", name)
	}
	m.txg++
	d.txg = m.txg
	m.Sets[name] = d
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

func (m *Machine) get(options map[string]string, rest []string) (string, error) {
	d, err := m.find(rest[1])
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, property := range strings.Split(rest[0], ",") {
		fmt.Fprintln(&b, map[string]string{"available": "1000000000", "used": "5000", "volsize": fmt.Sprint(d.Volsize),
			"refquota": fmt.Sprint(d.Refquota), "mounted": map[bool]string{true: "yes", false: "no"}[d.mounted]}[property])
	}
	return b.String(), nil
}

func (m *Machine) set(_ map[string]string, rest []string) (string, error) {
	d, err := m.find(rest[1])
	if err != nil {
		return "", err
	}
	switch property, value, _ := strings.Cut(rest[0], "="); property {
	case "volsize":
		d.Volsize = bytesOf(value)
	case "refquota":
		d.Refquota = bytesOf(value)
	}
	return "", nil
}

// snapshotsOf returns the snapshots of a data set, oldest first.
func (m *Machine) snapshotsOf(name string) []string {
	var all []string
	for other := range maps.Keys(m.Sets) {
		if strings.HasPrefix(other, name+"@") {
			all = append(all, other)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return m.Sets[a].txg - m.Sets[b].txg })
	return all
}

func (m *Machine) list(options map[string]string, rest []string) (string, error) {
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
	for _, name := range slices.Sorted(maps.Keys(m.Sets)) {
		d := m.Sets[name]
		if strings.Contains(name, "@") || !strings.HasPrefix(name, rest[0]) {
			continue
		}
		volsize, origin := "-", "-"
		if d.Volume {
			volsize = fmt.Sprint(d.Volsize)
		}
		if d.Origin != "" {
			origin = d.Origin
		}
		fmt.Fprintf(&b, "%s\t%s\t%d\t4096\t%s\t1700000000\n", name, volsize, d.Refquota, origin)
	}
	return b.String(), nil
}

func (m *Machine) create(options map[string]string, rest []string) (string, error) {
	d := &Dataset{}
	for key, value := range options {
		switch {
		case strings.HasPrefix(key, "-V"):
			d.Volume, d.Volsize = true, bytesOf(value)
		case key == "-orefquota":
			d.Refquota = bytesOf(value)
		}
	}
	d.mounted = !d.Volume
	return m.add(rest[0], d)
}

func (m *Machine) destroy(_ map[string]string, rest []string) (string, error) {
	if _, err := m.find(rest[0]); err != nil {
		return "", err
	}
	doomed := append(m.snapshotsOf(rest[0]), rest[0])
	for name, d := range m.Sets {
		if slices.Contains(doomed, d.Origin) {
			return "", fmt.Errorf("cannot destroy '%s': filesystem has dependent clones %s", rest[0], name)
		}
	}
	for _, name := range doomed {
		delete(m.Sets, name)
	}
	return "", nil
}

func (m *Machine) snapshot(_ map[string]string, rest []string) (string, error) {
	of, _, _ := strings.Cut(rest[0], "@")
	d, err := m.find(of)
	if err != nil {
		return "", err
	}
	copied := *d
	copied.Origin = ""
	return m.add(rest[0], &copied)
}

func (m *Machine) rollback(_ map[string]string, rest []string) (string, error) {
	s, err := m.find(rest[0])
	if err != nil {
		return "", err
	}
	of, _, _ := strings.Cut(rest[0], "@")
	if all := m.snapshotsOf(of); all[len(all)-1] != rest[0] {
		return "", fmt.Errorf("cannot rollback to '%s': more recent snapshots or bookmarks exist", rest[0])
	}
	m.Sets[of].Content, m.Sets[of].Volsize = s.Content, s.Volsize
	return "", nil
}

func (m *Machine) rename(_ map[string]string, rest []string) (string, error) {
	d, err := m.find(rest[0])
	if err != nil || m.Sets[rest[1]] != nil {
		return "", fmt.Errorf("cannot rename %q: %w", rest, err)
	}
	for _, name := range m.snapshotsOf(rest[0]) {
		m.Sets[rest[1]+strings.TrimPrefix(name, rest[0])] = m.Sets[name]
		delete(m.Sets, name)
	}
	delete(m.Sets, rest[0])
	m.Sets[rest[1]] = d
	return "", nil
}

func (m *Machine) clone(options map[string]string, rest []string) (string, error) {
	s, err := m.find(rest[0])
	if err != nil {
		return "", err
	}
	return m.add(rest[1], &Dataset{Volume: s.Volume, Volsize: s.Volsize, Content: s.Content, Origin: rest[0],
		Refquota: bytesOf(options["-orefquota"]), mounted: !s.Volume})
}

func (m *Machine) mount(_ map[string]string, rest []string) (string, error) { return "", nil }

// stream does "zfs send" and "zfs recv", with one byte as the content.
func (m *Machine) stream(c host.Command, rest []string) error {
	switch c.Argv[1] {
	case "send":
		d, err := m.find(rest[len(rest)-1])
		if err == nil {
			_, err = c.Output.Write([]byte{d.Content})
		}
		return err
	case "recv":
		text, err := io.ReadAll(c.Input)
		if err != nil || len(text) != 1 {
			return fmt.Errorf("cannot receive: %q, %w", text, err)
		}
		d := &Dataset{Volume: path.Base(rest[0])[0] != 's', Content: text[0]}
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
func (m *Machine) dd(c host.Command) error {
	for _, word := range c.Argv[1:] {
		key, name, _ := strings.Cut(word, "=")
		d := m.Sets[strings.TrimPrefix(name, "/dev/zvol/")]
		switch {
		case key == "if" && d != nil:
			return storagetest.Fill(c.Output, d.Content, d.Volsize)
		case key == "of" && d != nil:
			content, err := storagetest.Drain(c.Input, d.Volsize)
			d.Content = content
			return err
		}
	}
	return fmt.Errorf("%s: no such device", c)
}

// at returns the data set behind a path.
func (m *Machine) at(t *testing.T, path string) *Dataset {
	t.Helper()
	for _, prefix := range []string{"/dev/zvol/", "/", m.Mountpoint + "/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			if d := m.Sets[rest]; d != nil {
				return d
			}
			if d := m.Sets[m.pool+"/"+rest]; d != nil {
				return d
			}
		}
	}
	t.Fatalf("no data set at %s", path)
	return nil
}

// The machine as storagetest asks it.

func (m *Machine) Has(name string) bool { return m.Sets[name] != nil }

func (m *Machine) Snapshot(name string) error {
	_, err := m.snapshot(nil, []string{name})
	return err
}

func (m *Machine) Property(name, property string) string {
	d := m.Sets[name]
	bytes := map[string]int64{"volsize": d.Volsize, "refquota": d.Refquota}[property]
	for shift, unit := range map[int]string{30: "G", 20: "M"} {
		if bytes>>shift > 0 && bytes%(1<<shift) == 0 && (shift == 30 || bytes < 1<<30) {
			return fmt.Sprint(bytes>>shift, unit)
		}
	}
	return fmt.Sprint(bytes)
}

func (m *Machine) Write(t *testing.T, path string, content byte) { m.at(t, path).Content = content }

func (m *Machine) Read(t *testing.T, path string) byte { return m.at(t, path).Content }
