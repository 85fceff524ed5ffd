package storagetest

import (
	"testing"

	"etcpve/agents/storage"
)

func TestMemoryConforms(t *testing.T) {
	m := &Memory{}
	Run(t, Subject{
		Plugin: m, Config: &storage.Config{ID: "mem", Type: "memory"}, Format: "raw", Limit: true,
		Write: func(_ *testing.T, path string, content byte) { m.SetContent(path, content) },
		Read:  func(_ *testing.T, path string) byte { return m.Content(path) },
	})
}
