// Package cmdline turns the configuration of a VM into the command line of its
// QEMU, and into the same devices as QMP wants them when they are plugged in
// while it runs.
//
// It owns the layout of the virtual machine: identifiers, buses and addresses
// are those of Proxmox VE, so that a guest finds its hardware where it was. It
// is pure: it reads no file, starts nothing, and learns what the machine can do
// from a Host.
package cmdline

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/qemu/confidential"
	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/machine"
	"etcpve/agents/qemu/qdev"
	"etcpve/agents/qemu/words"
)

// A Host is what the command line depends on besides the configuration.
type Host struct {
	Binary    string  // the QEMU to run
	QEMU      Version // of Binary
	KVM       bool    // guests really run under KVM here
	VhostNet  bool    // the kernel has vhost-net
	Firmware  string  // directory with the OVMF_*.fd files
	RunDir    string  // where sockets, pid files and volatile state live
	CDROM     string  // the node's own drive, for the volume "cdrom"; may be empty
	HugeDir   string  // default HugeDir
	Scratch   string  // directory for what a drive with snapshot=1 writes
	Arch      string  // of the node: x86_64 or aarch64
	CPUVendor string  // of the node's CPU, as CPUID has it

	Node       string                  // its name
	Encryption confidential.Encryption // of the memory of guests, that the CPU can do

	// Bridge returns the MTU of a bridge, if it exists.
	Bridge func(name string) (mtu int, ok bool)

	// Models are the CPU models of virtual-guest/cpu-models.conf by name, each
	// with its properties.
	Models map[string]Options

	// Functions lists the functions of the PCI device at an address without a
	// function, such as "0000:01:00".
	Functions func(address string) []string

	// USB returns what a mapping stands for on this node, as a USB key has it,
	// Directory a path; PCI returns the alternatives, any of which will do.
	USB       func(mapping string) (host string, err error)
	Directory func(mapping string) (path string, err error)
	PCI       func(mapping string) ([]PCIDevice, error)
}

// A Volume is a disk image as QEMU has to open it.
type Volume = blockdev.Volume

// A Guest is a VM to be started.
type Guest struct {
	VMID   uint32
	Config Config

	// Volume finds the image behind a volume ID or an absolute path.
	Volume func(id string) (Volume, error)
}

// A Command is the command line with what must exist before it can run.
type Command struct {
	Binary   string
	Args     []string
	Taps     []Tap     // become ports of their bridges once QEMU has made them
	Shares   []Share   // to serve first
	Copies   []Copy    // files to make first
	Overlays []Overlay // images to make first, anew
	TPM      *TPM      // emulator to start first
	Pages    Pages     // to set aside first
	CPUs     string    // of the node that QEMU may use, as a list; "" for all
	Warnings []string  // what this QEMU cannot do as configured: "key: reason"
}

// A PCIDevice is one that a mapping offers.
type PCIDevice struct {
	Address  string // with the function, or without for all of them
	Mediated bool   // the guest gets a mediated device of it
}

// A Tap is the node's side of a NIC on a bridge.
type Tap struct {
	Name, Bridge, Key string
	Tag               int    // VLAN, 0: none
	Trunks            string // VLANs let through, as in the configuration
	Firewall          bool
	Rate              int64 // bytes a second, 0: no limit
}

// A Share is a directory of the node that a guest mounts by its tag.
type Share struct {
	Key, Tag, Dir, Socket string
	Cache                 string // auto, always, metadata, never
	DirectIO, XAttr, ACL  bool
}

// Pages are huge pages of one size.
type Pages struct{ KiB, Count int }

// A Copy is an image that must not be blank; a template is for one that is, or
// is not there.
type Copy struct {
	From string
	To   Volume
}

// An Overlay is a qcow2 image that takes what is written, above a base that
// stays as it is.
type Overlay struct {
	Path string
	Base Volume
}

// A TPM is an emulator with its state and the socket QEMU finds it at.
type TPM struct {
	State, Socket string
	Version2      bool
}

// A builder collects the arguments of one guest.
type builder struct {
	Guest
	host           Host
	config         Config // the effective one: a template is reduced to its disks
	machine        machine.Type
	machineOptions Options
	machineName    string          // as this QEMU knows it
	boot           map[string]int  // bootindex of drives and NICs
	buses          map[int]bool    // extra PCI bridges made so far
	has            map[string]bool // shared parts made so far, by identifier
	cmd            Command
}

// Build returns the command line of a guest.
func Build(g Guest, h Host) (Command, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return Command{}, err
	}
	steps := []func() error{
		b.identity, b.firmware, b.cpus, b.display, b.cpu, b.memory, b.iothreads, b.chipset,
		b.usb, b.hostpci, b.graphics, b.extras, b.drives, b.nics, b.clock, b.machineOption, b.verbatim,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return Command{}, err
		}
	}
	return b.cmd, nil
}

func newBuilder(g Guest, h Host) (*builder, error) {
	effective := g.Config
	if effective.Bool("template", false) {
		effective = effective.ForTemplate()
	}
	b := &builder{Guest: g, host: h, config: effective, buses: map[int]bool{}, has: map[string]bool{}}
	b.cmd.Binary = h.Binary
	switch arch := effective["arch"]; arch {
	case "", "x86_64", "aarch64":
	default:
		return nil, config.Errorf("arch", "%q is neither x86_64 nor aarch64", arch)
	}
	if err := b.board(); err != nil {
		return nil, err
	}
	var err error
	b.boot, err = effective.BootOrder()
	return b, err
}

func (b *builder) arg(args ...string)   { b.cmd.Args = append(b.cmd.Args, args...) }
func (b *builder) add(d qdev.Device)    { b.arg("-device", d.String()) }
func (b *builder) object(d qdev.Device) { b.arg("-object", d.String()) }
func (b *builder) kvm() bool {
	return b.host.KVM && b.config.Bool("kvm", true) && b.config.Native(b.host.Arch)
}
func (b *builder) once(id string) bool       { first := !b.has[id]; b.has[id] = true; return first }
func (b *builder) warn(key, reason string)   { b.cmd.Warnings = append(b.cmd.Warnings, key+": "+reason) }
func (b *builder) runFile(ext string) string { return RunFile(b.host.RunDir, b.VMID, ext) }

// RunFile returns the place of a guest's socket, pid file or volatile state.
func RunFile(dir string, vmid uint32, ext string) string {
	return filepath.Join(dir, strconv.FormatUint(uint64(vmid), 10)+"."+ext)
}

// socket is the option text of a listening unix socket chardev.
func (b *builder) socket(id, ext string) qdev.Device {
	return qdev.New("socket", "id", id, "path", b.runFile(ext), "server", true, "wait", false)
}

func (b *builder) identity() error {
	name := b.config["name"]
	if name == "" {
		name = fmt.Sprintf("vm%d", b.VMID)
	}
	b.arg("-name", qdev.Escape(name)+",debug-threads=on", "-no-shutdown")
	for _, id := range []string{"qmp", "qmp-event"} {
		b.arg("-chardev", b.socket(id, id).String(), "-mon", "chardev="+id+",mode=control")
	}
	b.arg("-pidfile", b.runFile("pid"))
	return b.smbios()
}

// smbios sets what the guest's firmware says of the machine.
func (b *builder) smbios() error {
	o, err := b.config.Options("smbios1", "")
	if err != nil || len(o) == 0 {
		return err
	}
	text, err := smbios(o)
	if err != nil {
		return config.Errorf("smbios1", "%w", err)
	}
	b.arg("-smbios", text)
	return nil
}

// chipset adds the PCI bridges and what every machine has.
func (b *builder) chipset() error {
	if !b.machine.ARM {
		b.sleepStates()
	}
	if err := b.bridges(); err != nil {
		return err
	}
	if err := b.iommu("intel"); err != nil {
		return err
	}
	if id := b.config["vmgenid"]; id != "" && id != "0" {
		if id == "1" {
			id = "auto"
		}
		if b.machine.ARM && !b.host.QEMU.AtLeast(11, 0) {
			b.warn("vmgenid", "this QEMU has the device for x86_64 guests only")
			return nil
		}
		b.add(qdev.New("vmgenid", "guid", id))
	}
	return nil
}

// sleepStates says which of ACPI's the guest is offered: none, unless its
// machine is older than that rule or it asks for them.
func (b *builder) sleepStates() {
	pm := map[bool]string{true: "ICH9-LPC", false: "PIIX4_PM"}[b.machine.Q35]
	for _, state := range []string{"s3", "s4"} {
		if !b.machineOptions.Bool("enable-"+state, !b.machine.Pinned(9, 2)) {
			b.arg("-global", pm+".disable_"+state+"=1")
		}
	}
}

// clock sets the guest's idea of time.
func (b *builder) clock() error {
	var rtc []string
	windows := b.config.Windows() > 0
	if windows || b.config.Bool("tdf", false) {
		rtc = append(rtc, "driftfix=slew")
	}
	switch start := b.config["startdate"]; {
	case start != "" && start != "now":
		rtc = append(rtc, "base="+start)
	case b.config.Bool("localtime", windows):
		rtc = append(rtc, "base=localtime")
	}
	if len(rtc) > 0 {
		b.arg("-rtc", strings.Join(rtc, ","))
	}
	return nil
}

// verbatim adds what has no layout of its own, last of all the operator's args.
func (b *builder) verbatim() error {
	switch {
	case b.config.Bool("template", false):
		b.arg("-snapshot")
	case !b.config.Bool("reboot", true):
		b.arg("-no-reboot")
	}
	if k := b.config["keyboard"]; k != "" {
		b.arg("-k", k)
	}
	extra, err := words.Split(b.config["args"])
	if err != nil {
		return config.Errorf("args", "%w", err)
	}
	b.arg(extra...)
	return nil
}
