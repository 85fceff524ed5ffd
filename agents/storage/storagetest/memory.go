package storagetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"etcpve/agents/storage"
)

// A Memory is a type of storage that keeps block volumes in memory, named as
// ZFS names them. The zero value is ready.
type Memory struct {
	mu      sync.Mutex // guards volumes and Active
	volumes map[string]*memoryVolume
	Active  bool // as Activate and Deactivate left it
}

type memoryVolume struct {
	storage.Volume
	bytes     int64
	content   byte
	snapshots map[string]byte
}

// capacity is how much a Memory claims to hold, in bytes.
const capacity = 1 << 40

func (m *Memory) form() storage.BlockForm {
	return storage.BlockForm{Type: "memory", Names: "vm|base", Bases: "base"}
}

// Parse understands a volume name.
func (m *Memory) Parse(name string) (storage.Volume, error) { return m.form().Parse(name) }

// Path is no path of the machine.
func (m *Memory) Path(c *storage.Config, v storage.Volume, _ string) (string, error) {
	return "memory:" + c.ID + "/" + v.File, nil
}

// Activate remembers that it was called.
func (m *Memory) Activate(ctx context.Context, _ *storage.Config) error { return m.set(ctx, true) }

// Deactivate remembers that it was called.
func (m *Memory) Deactivate(ctx context.Context, _ *storage.Config) error { return m.set(ctx, false) }

func (m *Memory) set(ctx context.Context, active bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Active = active
	return ctx.Err()
}

// Status counts the volumes.
func (m *Memory) Status(context.Context, *storage.Config) (s storage.Status, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.volumes {
		s.Used += v.bytes
	}
	s.Total, s.Available = capacity, capacity-s.Used
	return s, nil
}

// List returns the volumes.
func (m *Memory) List(_ context.Context, _ *storage.Config, q storage.Query) (all []storage.Info, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, file := range slices.Sorted(maps.Keys(m.volumes)) {
		if v := m.volumes[file]; q.Wants(v.VMID) {
			all = append(all, storage.Info{Name: v.Name, Content: q.Content, Format: v.Format, VMID: v.VMID, Size: v.bytes})
		}
	}
	return all, nil
}

// Alloc creates a volume.
func (m *Memory) Alloc(_ context.Context, _ *storage.Config, r storage.Request) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.place(r)
	if err != nil {
		return "", err
	}
	v.bytes = r.Bytes
	return v.Name, nil
}

func (m *Memory) place(r storage.Request) (*memoryVolume, error) {
	if r.Name == "" {
		var err error
		if r.Name, err = storage.FreeName("vm", r.VMID, "", slices.Collect(maps.Keys(m.volumes))); err != nil {
			return nil, err
		}
	}
	v, err := m.Parse(r.Name)
	if err != nil {
		return nil, err
	}
	if m.volumes[v.File] != nil {
		return nil, fmt.Errorf("volume '%s' already exists", v.File)
	}
	if m.volumes == nil {
		m.volumes = map[string]*memoryVolume{}
	}
	placed := &memoryVolume{Volume: v, snapshots: map[string]byte{}}
	m.volumes[v.File] = placed
	return placed, nil
}

// Free removes a volume.
func (m *Memory) Free(_ context.Context, _ *storage.Config, v storage.Volume) error {
	return m.with(v, func(*memoryVolume) error {
		for _, other := range m.volumes {
			if other.Base == v.File {
				return fmt.Errorf("base volume '%s' is still in use by linked clone '%s'", v.File, other.Name)
			}
		}
		delete(m.volumes, v.File)
		return nil
	})
}

// with calls f with a volume that exists.
func (m *Memory) with(v storage.Volume, f func(*memoryVolume) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.volumes[v.File]
	if found == nil {
		return fmt.Errorf("no such volume '%s'", v.Name)
	}
	return f(found)
}

// Features says that everything can be done.
func (m *Memory) Features(*storage.Config) storage.Features {
	return storage.Features{"snapshot": {"current", "snap"}, "template": {"current"}, "clone": {"base"}}
}

// Snapshot keeps the content of a volume.
func (m *Memory) Snapshot(_ context.Context, _ *storage.Config, v storage.Volume, name string) error {
	return m.with(v, func(v *memoryVolume) error {
		v.snapshots[name] = v.content
		return nil
	})
}

// DeleteSnapshot forgets it.
func (m *Memory) DeleteSnapshot(_ context.Context, _ *storage.Config, v storage.Volume, name string) error {
	return m.with(v, func(v *memoryVolume) error {
		delete(v.snapshots, name)
		return nil
	})
}

// Rollback returns to it.
func (m *Memory) Rollback(_ context.Context, _ *storage.Config, v storage.Volume, name string) error {
	return m.with(v, func(v *memoryVolume) error {
		content, ok := v.snapshots[name]
		if !ok {
			return fmt.Errorf("no such snapshot '%s'", name)
		}
		v.content = content
		return nil
	})
}

// Size returns a volume's size in bytes.
func (m *Memory) Size(_ context.Context, _ *storage.Config, v storage.Volume) (bytes int64, err error) {
	err = m.with(v, func(v *memoryVolume) error {
		bytes = v.bytes
		return nil
	})
	return bytes, err
}

// Resize grows a volume.
func (m *Memory) Resize(_ context.Context, _ *storage.Config, v storage.Volume, bytes int64) error {
	return m.with(v, func(v *memoryVolume) error {
		if bytes < v.bytes {
			return errors.New("volumes cannot shrink")
		}
		v.bytes = bytes
		return nil
	})
}

// CreateBase renames a volume.
func (m *Memory) CreateBase(_ context.Context, _ *storage.Config, v storage.Volume) (string, error) {
	base, err := m.Parse("base-" + strings.TrimPrefix(v.File, "vm-"))
	if err != nil {
		return "", err
	}
	return base.Name, m.with(v, func(found *memoryVolume) error {
		delete(m.volumes, v.File)
		found.Volume = base
		m.volumes[base.File] = found
		return nil
	})
}

// Clone creates a volume on top of a base.
func (m *Memory) Clone(_ context.Context, _ *storage.Config, v storage.Volume, vmid uint32, _ string) (name string, err error) {
	err = m.with(v, func(base *memoryVolume) error {
		if !base.IsBase {
			return fmt.Errorf("'%s' is no base", base.Name)
		}
		clone, err := m.place(storage.Request{VMID: vmid})
		if err != nil {
			return err
		}
		clone.Base, clone.BaseVMID, clone.Name = base.File, base.VMID, base.File+"/"+clone.File
		clone.bytes, clone.content, name = base.bytes, base.content, clone.Name
		return nil
	})
	return name, err
}

// Content returns the content of the volume at a path, and SetContent changes it.
func (m *Memory) Content(path string) byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.volumes[fileOf(path)].content
}

// SetContent changes the content of the volume at a path.
func (m *Memory) SetContent(path string, content byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volumes[fileOf(path)].content = content
}

func fileOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
