package cmdline

import (
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/cpumodel"
	"etcpve/agents/qemu/qdev"
)

func (b *builder) cpus() error {
	t, err := b.config.Topology()
	if err != nil {
		return err
	}
	if b.cmd.CPUs = b.config["affinity"]; strings.Trim(b.cmd.CPUs, "0123456789,-") != "" {
		return config.Errorf("affinity", "%q is not a list of CPUs", b.cmd.CPUs)
	}
	now := t.VCPUs
	if b.hotCPUs(t) {
		now = 1 // the others are devices, which can be taken away again
	}
	b.arg("-smp", fmt.Sprintf("%d,sockets=%d,cores=%d,maxcpus=%d", now, t.Sockets, t.Cores, t.Max()))
	b.arg("-nodefaults", "-boot", "menu=on,strict=on,reboot-timeout=1000")
	return nil
}

// hotCPUs reports whether CPUs can come and go: all but the first are devices.
func (b *builder) hotCPUs(t config.Topology) bool {
	return b.config.Hotplug()["cpu"] && t.VCPUs < t.Max() && !b.machine.ARM
}

func (b *builder) cpu() error {
	if b.config.Windows() > 0 && b.kvm() && !b.machine.ARM {
		b.arg("-global", "kvm-pit.lost_tick_policy=discard")
	}
	c, err := b.cpuModel()
	if err != nil {
		return err
	}
	for _, w := range c.Warnings {
		b.warn("cpu", w)
	}
	b.arg("-cpu", c.String())
	return nil
}

func (b *builder) cpuModel() (cpumodel.CPU, error) {
	o, err := b.config.Options("cpu", "cputype")
	if err != nil {
		return cpumodel.CPU{}, err
	}
	models := map[string]map[string]string{}
	for name, m := range b.host.Models {
		models[name] = m
	}
	c, err := cpumodel.Of(cpumodel.Request{
		Options: o, Models: models, ARM: b.machine.ARM, KVM: b.kvm(), NoKVM: !b.config.Bool("kvm", true),
		Windows: b.config.Windows(), OSType: b.config["ostype"], GPU: b.config.GraphicsCard(), Vendor: b.host.CPUVendor,
		QEMU: b.host.QEMU.AtLeast,
	})
	if err != nil {
		err = &KeyError{Key: "cpu", Err: err}
	}
	return c, err
}

// hotCPUDevices adds the CPUs beyond the first as devices.
func (b *builder) hotCPUDevices() error {
	t, err := b.config.Topology()
	if err != nil || !b.hotCPUs(t) {
		return err
	}
	cpus, err := b.cpuDevices(t)
	for _, d := range cpus {
		b.add(d)
	}
	return err
}

// CPUsOf returns the CPUs of a guest beyond the first as devices, for plugging
// them in while it runs.
func CPUsOf(g Guest, h Host) ([]qdev.Device, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return nil, err
	}
	t, err := b.config.Topology()
	if err != nil {
		return nil, err
	}
	return b.cpuDevices(t)
}

func (b *builder) cpuDevices(t config.Topology) (cpus []qdev.Device, err error) {
	c, err := b.cpuModel()
	if err != nil {
		return nil, err
	}
	for n := 1; n < t.VCPUs; n++ {
		cpus = append(cpus, qdev.New(c.Model+"-x86_64-cpu", "id", "cpu"+strconv.Itoa(n+1),
			"socket-id", n/t.Cores, "core-id", n%t.Cores, "thread-id", 0))
	}
	return cpus, nil
}
