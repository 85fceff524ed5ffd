package qm

import (
	"context"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/record"
)

// qmpTimeout is how long a guest's QEMU may take to say what it does.
const qmpTimeout = 2 * time.Second

// An observed is what a VM does now.
type observed struct {
	status  string // QEMU's word where it runs, else "stopped"
	process host.Process
	usage   host.Usage
}

func (o observed) runs() bool { return o.process.PID != 0 }

// plain is the status without QEMU's finer distinctions.
func (o observed) plain() string {
	if o.runs() {
		return "running"
	}
	return "stopped"
}

// observe looks at the record that the agent keeps, the process, and QEMU.
func (p Place) observe(ctx context.Context, vmid uint32) observed {
	if p.remote {
		return p.report(vmid)
	}
	stopped := observed{status: "stopped"}
	r, ok, err := record.Dir(p.RunDir).Load(vmid)
	if err != nil || !ok {
		return stopped
	}
	usage, err := host.Proc.Usage(r.Process)
	if err != nil {
		return stopped
	}
	return observed{status: p.ask(ctx, vmid), process: r.Process, usage: usage}
}

// ask returns QEMU's word for what the guest does. A QEMU that does not answer
// still runs.
func (p Place) ask(ctx context.Context, vmid uint32) string {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, err := monitor.Dial(ctx, cmdline.RunFile(p.RunDir, vmid, "qmp"))
	if err != nil {
		return "running"
	}
	defer m.Close()
	var answer struct{ Status string }
	if err := m.Run(ctx, "query-status", nil, &answer); err != nil || answer.Status == "" {
		return "running"
	}
	return answer.Status
}
