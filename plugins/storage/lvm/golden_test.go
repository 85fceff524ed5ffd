package lvm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/fixtures/golden"
	"etcpve/plugins/storage/lvm"
)

func TestGoldenLVM(t *testing.T) {
	type lvmCase struct {
		Name  string
		Steps []storagetest.Step
	}
	cases := golden.Cases[lvmCase](t, "storage", "lvm")
	text, err := os.ReadFile(filepath.Join(golden.Dir(t, "storage"), "lvm", "setup.json"))
	if err != nil {
		t.Fatal(err)
	}
	var setup struct {
		Storage struct {
			ID, VGName string
			Content    []string
		}
		Volume struct {
			Volid string
			Size  int64
		}
	}
	if err := json.Unmarshal(text, &setup); err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(setup.Volume.Volid, ":")
	for _, c := range cases {
		golden.Case(t, "storage", c.Name, func(t *testing.T) {
			m := newMachine(setup.Storage.VGName)
			m.lvs = append(m.lvs, &lv{name: name, size: setup.Volume.Size, active: true})
			play := storagetest.Play{Plugin: lvm.New(m), Machine: m, Dataset: func(file string) string { return file },
				Config: &storage.Config{ID: setup.Storage.ID, Type: "lvm", Values: map[string]string{
					"vgname": setup.Storage.VGName, "content": strings.Join(setup.Storage.Content, ",")}}}
			for _, step := range c.Steps {
				play.Do(t, step)
			}
		})
	}
}
