package hotplug

import (
	"fmt"
	"slices"
	"strings"

	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/cmdline"
)

// shares are the keys that say how much of the node's CPUs a guest gets.
var shares = []string{"cpulimit", "cpuunits", "affinity"}

// releasing reports whether the guest was asked for a device of a row and still
// has it.
func (p *planner) releasing(series string) bool {
	for id := range p.live.Releasing {
		if _, ok := cmdline.Index(id, series); ok && p.live.Devices[id] {
			return true
		}
	}
	return false
}

// cpus plans for another number of CPUs. They come and go only where all but
// the first are devices.
func (p *planner) cpus() {
	was, err1 := p.running.VCPUs()
	_, err2 := p.desired.VCPUs()
	devices := 1
	for id := range p.live.Devices {
		if _, ok := cmdline.Index(id, "cpu"); ok {
			devices++
		}
	}
	switch {
	case err1 != nil || err2 != nil: // the command line says what is wrong with it
		p.wait("vcpus", needsRestart)
	case !p.classes["cpu"]:
		p.wait("vcpus", "needs restart, hotplug does not include cpu")
	case !p.running.Hotplug()["cpu"] || devices < was && !p.releasing("cpu"):
		p.wait("vcpus", needsRestart)
	case p.releasing("cpu"):
		p.wait("vcpus", "waits for the guest to release the CPUs")
	default:
		p.do(CPUs, "vcpus")
	}
}

// memory plans for more memory, or for less, which the guest has to give up.
func (p *planner) memory() {
	was, err1 := p.running.MemoryMB()
	is, err2 := p.desired.MemoryMB()
	least := 0
	if err1 == nil && err2 == nil {
		least, err2 = p.running.StaticMemoryMB()
	}
	switch {
	case err1 != nil || err2 != nil: // the command line says what is wrong with it
		p.wait("memory", needsRestart)
	case !p.classes["memory"]:
		p.wait("memory", "needs restart, hotplug does not include memory")
	case !p.running.Hotplug()["memory"]:
		p.wait("memory", needsRestart)
	case is < least:
		p.wait("memory", "needs restart, %d MiB are not hot-pluggable", least)
	case is < was && p.releasing("dimm"):
		p.wait("memory", "waits for the guest to release the memory")
	default:
		p.do(Memory, "memory")
	}
}

// sameAgent reports whether the channel of the guest agent stays as it is.
func (p *planner) sameAgent() bool {
	was, err1 := p.running.Options("agent", "enabled")
	is, err2 := p.desired.Options("agent", "enabled")
	channel := func(o cmdline.Options) string {
		kind := o["type"]
		if kind == "" {
			kind = "virtio"
		}
		return fmt.Sprint(o.Bool("enabled", false), kind)
	}
	return err1 == nil && err2 == nil && channel(was) == channel(is)
}

// usb plans for a USB device; another one in its place waits until it is gone.
func (p *planner) usb(key string) {
	is, err := p.desired.Options(key, "host")
	switch {
	case err != nil:
		p.wait(key, needsRestart)
	case !p.classes["usb"]:
		p.wait(key, "needs restart, hotplug does not include usb")
	case p.running[key] != "":
		p.actions = append(p.actions, Action{Do: UnplugUSB, Key: key})
	case strings.EqualFold(is["host"], "spice") && !p.live.Devices["spice"]:
		p.wait(key, "needs restart, the machine has no SPICE server")
	case !p.running.ManyUSB() && !is.Bool("usb3", false) && !p.live.Devices["ehci"]:
		p.wait(key, "needs restart, the machine has no USB 2 controller")
	default:
		p.do(PlugUSB, key)
	}
}

func (p *planner) tablet() {
	switch {
	case !p.classes["usb"]:
		p.wait("tablet", "needs restart, hotplug does not include usb")
	case p.live.Releasing["tablet"] && p.live.Devices["tablet"]:
		p.wait("tablet", "waits for the guest to release the device")
	default:
		p.do(Tablet, "tablet")
	}
}

// cloudInit plans for a key that the cloud-init drive is made of. One action is
// for all of them.
func (p *planner) cloudInit(key string) {
	drive := cloudinit.Drive(p.running)
	switch {
	case drive == "" && cloudinit.Drive(p.desired) == "":
		p.do(Adopt, key)
	case drive == "" || !p.classes["cloudinit"]:
		p.wait(key, "the cloud-init drive is made anew at the next start")
	case !slices.ContainsFunc(p.actions, func(a Action) bool { return a.Do == CloudInit }):
		p.do(CloudInit, key)
	}
}
