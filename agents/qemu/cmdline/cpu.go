package cmdline

import (
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/qemu/cpumodel"
	"etcpve/agents/qemu/qdev"
)

// A topology counts the CPUs of a guest.
type topology struct{ sockets, cores, vcpus int }

func (t topology) max() int { return t.sockets * t.cores }

func (c Config) topology() (t topology, err error) {
	if t.sockets, err = c.Int("sockets", 1); err != nil {
		return t, err
	}
	if t.cores, err = c.Int("cores", 1); err != nil {
		return t, err
	}
	if t.vcpus, err = c.Int("vcpus", t.max()); err != nil {
		return t, err
	}
	switch {
	case t.sockets < 1 || t.cores < 1:
		return t, keyErr("cores", "a guest needs at least one CPU")
	case t.vcpus < 1 || t.vcpus > t.max():
		return t, keyErr("vcpus", "must be between 1 and sockets * cores = %d", t.max())
	}
	return t, nil
}

func (b *builder) cpus() error {
	t, err := b.config.topology()
	if err != nil {
		return err
	}
	if b.cmd.CPUs = b.config["affinity"]; strings.Trim(b.cmd.CPUs, "0123456789,-") != "" {
		return keyErr("affinity", "%q is not a list of CPUs", b.cmd.CPUs)
	}
	now := t.vcpus
	if b.hotCPUs(t) {
		now = 1 // the others are devices, which can be taken away again
	}
	b.arg("-smp", fmt.Sprintf("%d,sockets=%d,cores=%d,maxcpus=%d", now, t.sockets, t.cores, t.max()))
	b.arg("-nodefaults", "-boot", "menu=on,strict=on,reboot-timeout=1000")
	return nil
}

// hotCPUs reports whether CPUs can come and go: all but the first are devices.
func (b *builder) hotCPUs(t topology) bool {
	return b.config.Hotplug()["cpu"] && t.vcpus < t.max() && !b.machine.ARM
}

func (b *builder) cpu() error {
	if b.config.windows() > 0 && b.kvm() && !b.machine.ARM {
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
		Windows: b.config.windows(), OSType: b.config["ostype"], GPU: b.config.graphicsCard(), Vendor: b.host.CPUVendor,
		QEMU: b.host.QEMU.AtLeast,
	})
	if err != nil {
		err = &KeyError{Key: "cpu", Err: err}
	}
	return c, err
}

// VCPUs is the number of CPUs the guest starts with.
func (c Config) VCPUs() (int, error) {
	t, err := c.topology()
	return t.vcpus, err
}

// hotCPUDevices adds the CPUs beyond the first as devices.
func (b *builder) hotCPUDevices() error {
	t, err := b.config.topology()
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
	t, err := b.config.topology()
	if err != nil {
		return nil, err
	}
	return b.cpuDevices(t)
}

func (b *builder) cpuDevices(t topology) (cpus []qdev.Device, err error) {
	c, err := b.cpuModel()
	if err != nil {
		return nil, err
	}
	for n := 1; n < t.vcpus; n++ {
		cpus = append(cpus, qdev.New(c.Model+"-x86_64-cpu", "id", "cpu"+strconv.Itoa(n+1),
			"socket-id", n/t.cores, "core-id", n%t.cores, "thread-id", 0))
	}
	return cpus, nil
}
