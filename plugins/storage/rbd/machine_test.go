package rbd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/storage/storagetest"
)

// A machine stands in for a node with a Ceph cluster. It does what rbd, ceph and
// "qemu-img convert" do, as far as they are used, and refuses what it does not
// know.
type machine struct {
	mu     sync.Mutex // guards images and mapped
	pools  []string
	images []*img
	mapped []string // by full name
}

// An img is an image: the full name without "@" is pool[/namespace]/name. Its
// content is one byte, and its size in MiB.
type img struct {
	name, parent string // parent is an image@snapshot
	size         int64
	content      byte
	states       []snap
}

type snap struct {
	name      string
	content   byte
	protected bool
}

func (m *machine) Run(_ context.Context, c host.Command) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	options, words := map[string]string{}, []string{}
	for i := 1; i < len(c.Argv); i++ {
		word := c.Argv[i]
		if strings.HasPrefix(word, "-") && len(word) > 1 && !slices.Contains([]string{"-l", "--no-progress", "--target-is-zero", "--image-opts", "--target-image-opts"}, word) && (c.Argv[0] != "qemu-img" || word != "-n") {
			options[word] = c.Argv[i+1]
			i++
		} else if !strings.HasPrefix(word, "-") || word == "-" {
			words = append(words, word)
		}
	}
	switch c.Argv[0] {
	case "ceph":
		return fmt.Appendf(nil, `{"pools":[{"name":"%s","stats":{"stored":1000,"max_avail":9000}}]}`, m.pools[0]), nil
	case "qemu-img":
		return nil, m.convert(words[len(words)-2], words[len(words)-1])
	case "rbd":
		return m.rbd(c, words, options)
	}
	return nil, fmt.Errorf("%s: no such command", c)
}

// find returns an image and the position of the snapshot that a name is of, -1
// for none.
func (m *machine) find(spec string) (*img, int, error) {
	name, state, of := strings.Cut(spec, "@")
	i := slices.IndexFunc(m.images, func(i *img) bool { return i.name == name })
	if i < 0 {
		return nil, -1, fmt.Errorf("rbd: error opening image %s: (2) No such file or directory", spec)
	}
	if !of {
		return m.images[i], -1, nil
	}
	n := slices.IndexFunc(m.images[i].states, func(s snap) bool { return s.name == state })
	if n < 0 {
		return nil, -1, fmt.Errorf("rbd: no snapshot %s", spec)
	}
	return m.images[i], n, nil
}

func (m *machine) rbd(c host.Command, words []string, options map[string]string) ([]byte, error) {
	last := words[len(words)-1]
	switch verb := words[0]; verb {
	case "ls":
		return m.list(last, c.Argv)
	case "create", "clone", "import":
		return nil, m.make(verb, words, options, c.Input)
	case "showmapped":
		rows := []map[string]string{}
		for i, spec := range m.mapped {
			parts := strings.Split(spec, "/")
			name, state, of := strings.Cut(parts[len(parts)-1], "@")
			if !of {
				state = "-"
			}
			rows = append(rows, map[string]string{"pool": parts[0], "namespace": strings.Join(parts[1:len(parts)-1], ""), "name": name, "snap": state, "device": fmt.Sprint("/dev/rbd", i)})
		}
		return json.Marshal(rows)
	case "unmap":
		i, err := strconv.Atoi(strings.TrimPrefix(last, "/dev/rbd"))
		if err != nil {
			return nil, err
		}
		m.mapped = slices.Delete(m.mapped, i, i+1)
		return nil, nil
	case "rename":
		i, _, err := m.find(words[1])
		if err == nil {
			for _, clone := range m.images {
				if rest, ok := strings.CutPrefix(clone.parent, i.name+"@"); ok {
					clone.parent = last + "@" + rest
				}
			}
			i.name = last
		}
		return nil, err
	}
	if words[0] == "snap" && words[1] == "create" {
		name, state, _ := strings.Cut(last, "@")
		i, _, err := m.find(name)
		if err == nil {
			i.states = append(i.states, snap{name: state, content: i.content})
		}
		return nil, err
	}
	words = slices.DeleteFunc(words, func(word string) bool { return word == "-" })
	i, n, err := m.find(words[len(words)-1])
	if err != nil {
		return nil, err
	}
	return m.work(c, strings.Join(words[:len(words)-1], " "), i, n, options)
}

// work does what has an image, or a snapshot, as its subject.
func (m *machine) work(c host.Command, verb string, i *img, n int, options map[string]string) ([]byte, error) {
	switch {
	case verb == "map":
		m.mapped = append(m.mapped, i.name)
	case verb == "info":
		return fmt.Appendf(nil, `{"name":"%s","size":%d}`, i.name, i.size<<20), nil
	case verb == "rm":
		if len(i.states) > 0 || slices.Contains(m.mapped, i.name) {
			return nil, fmt.Errorf("rbd: image %s has snapshots or watchers", i.name)
		}
		m.images = slices.DeleteFunc(m.images, func(o *img) bool { return o == i })
	case verb == "resize":
		size, err := strconv.ParseInt(options["--size"], 10, 64)
		i.size = size
		return nil, err
	case verb == "snap ls":
		rows := []map[string]any{}
		for _, s := range i.states {
			rows = append(rows, map[string]any{"name": s.name, "size": i.size << 20, "protected": fmt.Sprint(s.protected)})
		}
		return json.Marshal(rows)
	case verb == "snap purge":
		if slices.ContainsFunc(i.states, func(s snap) bool { return s.protected }) {
			return nil, fmt.Errorf("rbd: protected snapshots of %s", i.name)
		}
		i.states = nil
	case n >= 0 && verb == "snap rollback":
		i.content = i.states[n].content
	case n >= 0 && (verb == "snap protect" || verb == "snap unprotect"):
		i.states[n].protected = verb == "snap protect"
	case n >= 0 && verb == "snap rm" && !i.states[n].protected:
		i.states = slices.Delete(i.states, n, n+1)
	case strings.HasPrefix(verb, "export"):
		content := i.content
		if n >= 0 {
			content = i.states[n].content
		}
		return nil, storagetest.Fill(c.Output, content, i.size<<20)
	default:
		return nil, fmt.Errorf("%s: no such command", c)
	}
	return nil, nil
}

func (m *machine) list(spec string, argv []string) ([]byte, error) {
	if pool, _, _ := strings.Cut(spec, "/"); !slices.Contains(m.pools, pool) {
		return nil, fmt.Errorf("rbd: error opening pool '%s'", pool)
	}
	names, rows := []string{}, []map[string]any{}
	for _, i := range m.images {
		file := i.name[strings.LastIndexByte(i.name, '/')+1:]
		if i.name != spec+"/"+file {
			continue
		}
		names = append(names, file)
		row := map[string]any{"image": file, "size": i.size << 20}
		if i.parent != "" {
			parent, state, _ := strings.Cut(i.parent, "@")
			row["parent"] = map[string]string{"image": parent[strings.LastIndexByte(parent, '/')+1:], "snapshot": state}
		}
		rows = append(rows, row)
		for _, s := range i.states {
			rows = append(rows, map[string]any{"image": file, "snapshot": s.name, "size": i.size << 20})
		}
	}
	if slices.Contains(argv, "-l") {
		return json.Marshal(rows)
	}
	return json.Marshal(names)
}

func (m *machine) make(verb string, words []string, options map[string]string, from io.Reader) error {
	i := &img{name: words[len(words)-1]}
	if _, _, err := m.find(i.name); err == nil {
		return fmt.Errorf("rbd: image %s exists", i.name)
	}
	switch verb {
	case "create":
		size, err := strconv.ParseInt(options["--size"], 10, 64)
		if err != nil {
			return err
		}
		i.size = size
	case "clone":
		base, n, err := m.find(words[1])
		if err != nil {
			return err
		}
		if n < 0 || !base.states[n].protected {
			return fmt.Errorf("rbd: parent %s is not protected", words[1])
		}
		i.size, i.content, i.parent = base.size, base.states[n].content, words[1]
	case "import":
		text, err := io.ReadAll(from)
		if err != nil {
			return err
		}
		i.size, i.content = int64(len(text))>>20, text[0]
	}
	m.images = append(m.images, i)
	return nil
}

// convert copies between what two sets of image options lead to.
func (m *machine) convert(from, to string) error {
	spec := func(text string) string {
		values := map[string]string{}
		for _, option := range strings.Split(text, ",") {
			key, value, _ := strings.Cut(option, "=")
			values[strings.TrimPrefix(key, "file.")] = value
		}
		if path := values["filename"]; path != "" {
			return strings.TrimPrefix(path, "/dev/rbd/")
		}
		name := values["pool"] + "/"
		if values["namespace"] != "" {
			name += values["namespace"] + "/"
		}
		return name + values["image"]
	}
	source, _, err := m.find(spec(from))
	if err != nil {
		return err
	}
	target, _, err := m.find(spec(to))
	if err != nil {
		return err
	}
	if source.size != target.size {
		return fmt.Errorf("qemu-img: %d MiB into %d", source.size, target.size)
	}
	target.content = source.content
	return nil
}

// at returns the image behind a path.
func (m *machine) at(t *testing.T, path string) *img {
	t.Helper()
	spec, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, "rbd:"), "/dev/rbd/"), ":")
	i, _, err := m.find(spec)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (m *machine) write(t *testing.T, path string, content byte) { m.at(t, path).content = content }

func (m *machine) read(t *testing.T, path string) byte { return m.at(t, path).content }
