package qemu

import (
	"context"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/meter"
)

// metered is an agent as the meter of its VMs sees it.
type metered struct{ *Agent }

var _ meter.VMs = metered{}

func (a *Agent) meter() *meter.Meter {
	return &meter.Meter{VMs: metered{a}, Tree: a.Tree, Dir: a.confDir(), Node: a.Node, Log: a.Log}
}

func (metered) Parse(vmid uint32, content string) cmdline.Config {
	c, _, _ := readConfig(vmid, content)
	return c
}

func (m metered) Running(vmid uint32) (host.Process, cmdline.Config, bool) {
	r, ok, err := m.records().Load(vmid)
	return r.Process, r.Config, err == nil && ok && r.Process.PID != 0 && host.Proc.Alive(r.Process)
}

func (m metered) Ask(ctx context.Context, vmid uint32, command string, args, result any) error {
	return m.command(ctx, vmid, command, args, result)
}
