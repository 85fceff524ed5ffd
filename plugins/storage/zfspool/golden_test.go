package zfspool_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/fixtures/golden"
	"etcpve/plugins/storage/zfspool"
	"etcpve/plugins/storage/zfspool/zfspooltest"
)

type setup struct {
	Storage struct {
		ID, Pool, Mountpoint string
		Content              []string
	}
	Size         int64  `json:"volume_size"`
	BaseSnapshot string `json:"base_snapshot"`
	Volumes      map[string]struct {
		Kind, Filename, Base string
		IsBase               bool `json:"is_base"`
	}
}

// machine makes the volumes of the setup: bases first, then what stands on them.
func (s setup) machine() *zfspooltest.Machine {
	m := zfspooltest.New(s.Storage.Pool)
	m.Mountpoint = s.Storage.Mountpoint
	name := func(volume string) string { return s.Storage.Pool + "/" + s.Volumes[volume].Filename }
	for volume, v := range s.Volumes {
		d := &zfspooltest.Dataset{Volume: v.Kind == "zvol"}
		if d.Volume {
			d.Volsize = s.Size
		} else {
			d.Refquota = s.Size
		}
		if v.Base != "" {
			d.Origin = name(v.Base) + "@" + s.BaseSnapshot
		}
		m.Sets[name(volume)] = d
		if v.IsBase {
			copied := *d
			m.Sets[name(volume)+"@"+s.BaseSnapshot] = &copied
		}
	}
	return m
}

func TestGoldenZFS(t *testing.T) {
	type zfsCase struct {
		Name  string
		Steps []storagetest.Step
	}
	cases := golden.Cases[zfsCase](t, "storage", "zfs")
	text, err := os.ReadFile(filepath.Join(golden.Dir(t, "storage"), "zfs", "setup.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s setup
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		golden.Case(t, "storage", c.Name, func(t *testing.T) {
			m := s.machine()
			play := storagetest.Play{Plugin: zfspool.New(m), Machine: m, Dataset: func(file string) string { return s.Storage.Pool + "/" + file },
				Config: &storage.Config{ID: s.Storage.ID, Type: "zfspool", Values: map[string]string{
					"pool": s.Storage.Pool, "mountpoint": s.Storage.Mountpoint, "content": strings.Join(s.Storage.Content, ",")}}}
			for _, step := range c.Steps {
				play.Do(t, step)
			}
		})
	}
}
