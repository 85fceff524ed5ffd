package qm

import (
	"context"
	"strconv"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/tools/qm/figures"
)

// rest are the figures of a VM that does not run.
func (v vm) rest() figures.Figures {
	f := figures.Figures{
		"cpus": v.cpus(), "disk": 0, "diskread": 0, "diskwrite": 0, "maxdisk": v.bootDisk(), "maxmem": int64(v.memory()) * mib,
		"mem": 0, "name": v.name(), "netin": 0, "netout": 0, "qmpstatus": "stopped", "status": "stopped", "uptime": 0, "vmid": v.VMID,
	}
	for _, key := range []string{"tags", "lock", "template", "shares"} {
		if v.Main.Has(key) {
			f[key] = v.Main.Get(key)
		}
	}
	if least, err := strconv.ParseInt(v.Main.Get("balloon"), 10, 64); err == nil && least > 0 {
		f["balloon_min"] = least * mib
	}
	if len(v.Main.Series("serial")) > 0 {
		f["serial"] = 1
	}
	return f
}

// figures are those of a VM now.
func (p Place) figures(ctx context.Context, v vm, o observed) figures.Figures {
	f := v.rest()
	if !o.runs() {
		return f
	}
	f["status"], f["qmpstatus"], f["pid"] = "running", o.status, o.process.PID
	f["mem"], f["memhost"], f["uptime"] = o.usage.RSS, o.usage.RSS, int64(o.usage.Age.Seconds())
	f.Network(p.sys(), v.VMID)
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, err := monitor.Dial(ctx, cmdline.RunFile(p.RunDir, v.VMID, "qmp"))
	if err != nil {
		return f // a QEMU that does not answer still runs
	}
	defer m.Close()
	f.Ask(ctx, m)
	return f
}

func (p Place) sys() string {
	if p.Sys == "" {
		return "/sys"
	}
	return p.Sys
}
