// Package hotplug decides which changes of a configuration a running VM can
// take at once, and what the others wait for.
//
// It is pure: it compares the configuration in effect with the desired one and
// with what QEMU shows, and returns actions as data. It never talks to QEMU.
package hotplug

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/pcibus"
	"etcpve/agents/qemu/throttle"
	"etcpve/cfs/format/guest"
)

// A Verb is a kind of change.
type Verb string

// The changes a running VM can take.
const (
	PlugDisk   Verb = "hot-plug disk"
	UnplugDisk Verb = "hot-unplug disk"
	PlugNIC    Verb = "hot-plug NIC"
	UnplugNIC  Verb = "hot-unplug NIC"
	Throttle   Verb = "throttle"
	Medium     Verb = "change medium of"
	Balloon    Verb = "set balloon to"
	Link       Verb = "set link of"
	Port       Verb = "move port of" // to another bridge or VLAN
	CPUs       Verb = "set number of CPUs to"
	Memory     Verb = "set memory to"
	PlugUSB    Verb = "hot-plug USB device"
	UnplugUSB  Verb = "hot-unplug USB device"
	Tablet     Verb = "set tablet to"
	Boot       Verb = "set boot order"
	CloudInit  Verb = "make cloud-init drive"
	Shares     Verb = "set share of the node's CPUs"
	Adopt      Verb = "take over" // a setting that the machine does not notice
)

// An Action is one change of one key.
type Action struct {
	Do    Verb
	Key   string
	Value string // the value of Key from then on; "" where it goes away
	MiB   int    // of a balloon
}

// String is the action as it is printed and logged.
func (a Action) String() string {
	switch a.Do {
	case Balloon:
		return fmt.Sprintf("%s %d MiB", a.Do, a.MiB)
	case CPUs, Memory, Tablet:
		if a.Value == "" {
			return string(a.Do) + " default"
		}
		return fmt.Sprintf("%s %s", a.Do, a.Value)
	case Boot, CloudInit:
		return string(a.Do)
	case Shares:
		return fmt.Sprintf("%s, %s: %s", a.Do, a.Key, a.Value)
	case Medium, Link, Port:
		return fmt.Sprintf("%s %s: %s", a.Do, a.Key, a.Value)
	case Adopt:
		if a.Value == "" {
			return "drop " + a.Key
		}
		return fmt.Sprintf("%s %s: %s", a.Do, a.Key, a.Value)
	}
	return string(a.Do) + " " + a.Key
}

// Pending is a key whose new value waits, and for what.
type Pending struct{ Key, Reason string }

// Live is what QEMU shows of a running VM.
type Live struct {
	Devices   map[string]bool // identifiers of the devices it has
	Releasing map[string]bool // keys whose device the guest was asked to give up
	Balloon   int             // MiB asked for last, 0 if the size never changed
	Moving    []string        // keys of disks whose volume a task exchanges
}

const needsRestart = "needs restart"

// carefree are keys that QEMU never sees: they are in effect once they are written.
var carefree = []string{
	"name", "description", "tags", "onboot", "startup", "protection", "autostart", "lock", "hookscript", "parent", "snaptime",
	"snapstate", "vmstate", "vmstatestorage", "runningmachine", "runningcpu", "running-nets-host-mtu", "meta", "hotplug", "shares", "allow-ksm", "keephugepages",
	"migrate_downtime", "migrate_speed", "unused", "digest",
}

// Plan compares the configuration in effect with the desired one. Actions come
// in the order of keys, what takes away before what adds.
func Plan(running, desired cmdline.Config, live Live) (actions []Action, pending []Pending) {
	p := planner{running: running, desired: desired, live: live, classes: desired.Hotplug()}
	keys := map[string]bool{}
	for _, c := range []cmdline.Config{running, desired} {
		for key := range c {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch {
		case running[key] == desired[key]:
		case slices.Contains(live.Moving, key):
			p.wait(key, "a task exchanges its volume")
		default:
			p.key(key)
		}
	}
	p.balloon()
	slices.SortStableFunc(p.actions, func(a, b Action) int { return order(a) - order(b) })
	return p.actions, p.pending
}

func order(a Action) int {
	if a.Do == UnplugDisk || a.Do == UnplugNIC || a.Do == UnplugUSB {
		return 0
	}
	return 1
}

type planner struct {
	running, desired cmdline.Config
	live             Live
	classes          map[string]bool
	actions          []Action
	pending          []Pending
}

func (p *planner) do(verb Verb, key string) {
	p.actions = append(p.actions, Action{Do: verb, Key: key, Value: p.desired[key]})
}

func (p *planner) wait(key, format string, args ...any) {
	p.pending = append(p.pending, Pending{key, fmt.Sprintf(format, args...)})
}

// key plans for a key whose values differ.
func (p *planner) key(key string) {
	_, _, drive := cmdline.DriveBus(key)
	_, nic := cmdline.Index(key, "net")
	_, usb := cmdline.Index(key, "usb")
	switch {
	case drive:
		p.drive(key)
	case nic:
		p.nic(key)
	case key != "name" && cloudinit.Is(key):
		p.cloudInit(key)
	case slices.Contains(carefree, key) || slices.Contains(carefree, strings.TrimRight(key, "0123456789")):
		p.do(Adopt, key)
	case key == "balloon" && p.running["balloon"] != "0" && p.desired["balloon"] != "0":
		p.do(Adopt, key)
	case key == "vcpus":
		p.cpus()
	case key == "memory":
		p.memory()
	case usb:
		p.usb(key)
	case key == "tablet":
		p.tablet()
	case key == "boot" || key == "bootdisk":
		p.do(Boot, key)
	case slices.Contains(shares, key):
		p.do(Shares, key)
	case key == "agent" && p.sameAgent():
		p.do(Adopt, key)
	default:
		p.wait(key, needsRestart)
	}
}

// balloon asks the guest for the configured size when that is another than was
// asked for last. A guest without the device keeps all its memory.
func (p *planner) balloon() {
	if p.running["balloon"] == "0" || p.desired["balloon"] == "0" {
		return
	}
	memory, err := p.running.MemoryMB()
	if err != nil {
		return
	}
	want := BalloonMB(p.desired, memory)
	have := p.live.Balloon
	if have == 0 {
		have = memory
	}
	if want != have {
		p.actions = append(p.actions, Action{Do: Balloon, Key: "balloon", Value: p.desired["balloon"], MiB: want})
	}
}

// BalloonMB is the size in MiB a guest with so much memory is to have.
func BalloonMB(c cmdline.Config, memory int) int {
	if n, err := strconv.Atoi(c["balloon"]); err == nil && n > 0 && n < memory {
		return n
	}
	return memory
}

// passive are the options of a drive that QEMU never sees.
var passive = []string{"size", "backup", "replicate", "shared"}

func (p *planner) drive(key string) {
	was, err1 := p.running.Options(key, "file")
	is, err2 := p.desired.Options(key, "file")
	if err1 != nil || err2 != nil {
		return // the command line says what is wrong with it
	}
	_, gib, unmade := guest.NewVolume(is["file"])
	switch {
	case unmade:
		p.wait(key, "a volume of %s GiB is to be made for it", gib)
	case len(was) == 0:
		p.plugDisk(key, is)
	case len(is) == 0:
		p.unplugDisk(key, was)
	case was["media"] == "cdrom" && is["media"] == "cdrom" && same(was, is, func(option string) bool { return option == "file" }):
		p.do(Medium, key)
	case same(was, is, throttle.Is):
		if same(was, is, func(string) bool { return false }) {
			p.do(Adopt, key)
			return
		}
		p.do(Throttle, key)
	case was["file"] != is["file"]:
		p.unplugDisk(key, was) // and plug it again when it is gone
	default:
		p.wait(key, "%s: %s", strings.Join(differing(was, is), ", "), needsRestart)
	}
}

// same reports whether two sets of options differ at most in those that except
// names and in those QEMU never sees.
func same(a, b cmdline.Options, except func(string) bool) bool {
	return !slices.ContainsFunc(differing(a, b), func(option string) bool { return !except(option) })
}

func differing(a, b cmdline.Options) (options []string) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, option := range slices.Sorted(maps.Keys(all)) {
		if a[option] != b[option] && !slices.Contains(passive, option) {
			options = append(options, option)
		}
	}
	return options
}

// pluggable says why a disk cannot come or go while the guest runs.
func (p *planner) pluggable(key string, o cmdline.Options) (reason string) {
	bus, n, _ := cmdline.DriveBus(key)
	scsihw := p.running["scsihw"]
	switch {
	case !p.classes["disk"]:
		return "needs restart, hotplug does not include disk"
	case bus == "virtio" && p.fixed(key):
		return needsRestart + ", the first bus of an aarch64 machine is fixed"
	case o.Bool("snapshot", false):
		return "needs restart, snapshot is only made at start"
	case bus == "ide" || bus == "sata":
		return "needs restart, " + strings.ToUpper(bus) + " drives cannot be hot-plugged"
	case bus == "scsi" && !strings.HasPrefix(scsihw, "virtio-scsi"):
		return "needs restart, scsihw is not virtio-scsi"
	case bus == "virtio" && o["media"] == "cdrom":
		return "a virtio disk cannot be a CD-ROM drive"
	case bus == "scsi" && scsihw == "virtio-scsi-single" && !p.live.Devices["pci.3"]:
		return needsRestart + ", the machine has no bus for the controller of scsi" + strconv.Itoa(n)
	}
	return ""
}

func (p *planner) plugDisk(key string, o cmdline.Options) {
	if reason := p.pluggable(key, o); reason != "" {
		p.wait(key, "%s", reason)
		return
	}
	p.do(PlugDisk, key)
}

func (p *planner) unplugDisk(key string, o cmdline.Options) {
	reason := p.pluggable(key, o)
	switch {
	case reason != "":
		p.wait(key, "%s", reason)
	case p.live.Releasing[key] && p.live.Devices[key]:
		p.wait(key, "waits for the guest to release the device")
	default:
		p.actions = append(p.actions, Action{Do: UnplugDisk, Key: key})
	}
}

// fixed reports whether a device lies where nothing comes or goes.
func (p *planner) fixed(key string) bool {
	at, ok := pcibus.Of(key)
	return ok && at.Bus == 0 && p.running["arch"] == "aarch64"
}

// portOptions are the options of a NIC that concern the node's side only.
var portOptions = []string{"bridge", "tag", "trunks", "rate", "firewall"}

func (p *planner) nic(key string) {
	was, is := cmdline.Options{}, cmdline.Options{}
	var err1, err2 error
	if p.running[key] != "" {
		was, err1 = cmdline.NICOptions(p.running, key)
	}
	if p.desired[key] != "" {
		is, err2 = cmdline.NICOptions(p.desired, key)
	}
	if err1 != nil || err2 != nil {
		p.wait(key, needsRestart)
		return
	}
	port := func(option string) bool { return slices.Contains(portOptions, option) }
	link := func(option string) bool { return option == "link_down" }
	bridged := (was["bridge"] == "") == (is["bridge"] == "")
	switch {
	case len(was) > 0 && len(is) > 0 && same(was, is, link):
		p.do(Link, key)
	case len(was) > 0 && len(is) > 0 && bridged && same(was, is, func(o string) bool { return port(o) || link(o) }):
		p.do(Port, key)
	case !p.classes["network"]:
		p.wait(key, "needs restart, hotplug does not include network")
	case p.fixed(key):
		p.wait(key, "needs restart, the first bus of an aarch64 machine is fixed")
	case len(was) == 0:
		p.do(PlugNIC, key)
	case p.live.Releasing[key] && p.live.Devices[key]:
		p.wait(key, "waits for the guest to release the device")
	default:
		p.actions = append(p.actions, Action{Do: UnplugNIC, Key: key})
	}
}

// Unmade returns a drive whose volume is yet to be made, and why it waits.
func Unmade(c cmdline.Config) (p Pending, ok bool) {
	for _, key := range slices.Sorted(maps.Keys(c)) {
		volume, _, _ := strings.Cut(strings.TrimPrefix(c[key], "file="), ",")
		if _, _, drive := cmdline.DriveBus(key); !drive {
			continue
		}
		if _, gib, unmade := guest.NewVolume(volume); unmade {
			return Pending{key, "a volume of " + gib + " GiB is to be made for it"}, true
		}
	}
	return p, false
}
