package meter

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/qemu/cmdline"
	"etcpve/cfs/layout"
)

// parsed is a configuration as it was read last.
type parsed struct {
	text   string
	config cmdline.Config
}

// list returns the VMs that are configured on the node. Where one runs, its
// CPUs and memory are those in effect.
func (m *Meter) list() (vms []VM, err error) {
	dir := filepath.Join(m.Tree, m.Dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // no VM was ever made here
	}
	fresh := map[uint32]parsed{}
	for _, e := range entries {
		stem, conf := strings.CutSuffix(e.Name(), ".conf")
		vmid, ok := layout.ParseVMID(stem)
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if !conf || !ok || err != nil {
			continue // it may have gone meanwhile
		}
		p := m.parsed[vmid]
		if p.config == nil || p.text != string(text) {
			p = parsed{string(text), m.Parse(vmid, string(text))}
		}
		fresh[vmid] = p
		vm := VM{VMID: vmid, Config: p.config}
		if process, running, ok := m.Running(vmid); ok {
			vm.Process, vm.Config = process, inForce(p.config, running)
		}
		vms = append(vms, vm)
	}
	m.parsed = fresh
	return vms, err
}

// inForce is a configuration with what a running VM takes a restart for.
func inForce(written, running cmdline.Config) cmdline.Config {
	c := maps.Clone(written)
	for _, key := range []string{"memory", "sockets", "cores", "vcpus"} {
		delete(c, key)
		if value, ok := running[key]; ok {
			c[key] = value
		}
	}
	if running["balloon"] == "0" { // it has not the device
		c["balloon"] = "0"
	}
	return c
}
