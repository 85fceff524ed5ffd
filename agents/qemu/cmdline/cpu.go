package cmdline

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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

func (b *builder) hotCPUs(t topology) bool { return b.config.Hotplug()["cpu"] && t.vcpus < t.max() }

// A model is a CPU type of ours on top of one that QEMU knows.
type model struct {
	base  string
	flags string
}

// models are the x86-64 levels, which QEMU does not have as types.
var models = map[string]model{
	"x86-64-v2":     {"qemu64", "+popcnt;+pni;+sse4.1;+sse4.2;+ssse3"},
	"x86-64-v2-AES": {"qemu64", "+aes;+popcnt;+pni;+sse4.1;+sse4.2;+ssse3"},
	"x86-64-v3":     {"qemu64", "+aes;+popcnt;+pni;+sse4.1;+sse4.2;+ssse3;+avx;+avx2;+bmi1;+bmi2;+f16c;+fma;+abm;+movbe;+xsave"},
	"x86-64-v4": {"qemu64", "+aes;+popcnt;+pni;+sse4.1;+sse4.2;+ssse3;+avx;+avx2;+bmi1;+bmi2;+f16c;+fma;+abm;+movbe;+xsave;" +
		"+avx512f;+avx512bw;+avx512cd;+avx512dq;+avx512vl"},
}

// noVendor are the types that do not stand for one maker's CPU.
var noVendor = []string{"kvm32", "kvm64", "qemu32", "qemu64", "host", "max"}

func vendorOf(base string) string {
	switch {
	case slices.Contains(noVendor, base):
		return ""
	case base == "athlon" || base == "phenom" || strings.HasPrefix(base, "Opteron") || strings.HasPrefix(base, "EPYC"):
		return "AuthenticAMD"
	}
	return "GenuineIntel"
}

func (b *builder) cpu() error {
	if b.config.windows() > 0 && b.kvm() {
		b.arg("-global", "kvm-pit.lost_tick_policy=discard")
	}
	o, err := b.config.Options("cpu", "cputype")
	if err != nil {
		return err
	}
	if o, err = b.customModel(o); err != nil {
		return err
	}
	base, flags := b.cpuModel(o)
	words := []string{base}
	if o["level"] != "" {
		words = append(words, "level="+o["level"])
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		words = append(words, flags[name]+name)
	}
	b.arg("-cpu", strings.Join(append(words, b.addressBits(base, o)...), ","))
	return nil
}

// narrow are the types that have no more than 32 bits.
var narrow = []string{"486", "pentium", "pentium2", "pentium3", "coreduo", "n270", "athlon", "kvm32", "qemu32"}

// addressBits says how large an address the guest may use.
func (b *builder) addressBits(base string, o Options) (words []string) {
	switch bits := o["phys-bits"]; {
	case bits == "":
	case slices.Contains(narrow, base):
		b.warn("cpu", "phys-bits does not apply to the 32-bit model "+base)
	case bits != "host":
		words = append(words, "phys-bits="+bits)
	case b.kvm():
		words = append(words, "host-phys-bits=true")
	}
	if bits := o["guest-phys-bits"]; bits != "" {
		if b.host.QEMU.AtLeast(9, 1) {
			words = append(words, "guest-phys-bits="+bits)
		} else {
			b.warn("cpu", "guest-phys-bits needs QEMU 9.1")
		}
	}
	return words
}

// cpuModel returns the QEMU type and its flags: name to sign, or to nothing
// for a flag that is a whole word.
func (b *builder) cpuModel(o Options) (base string, flags map[string]string) {
	name := o["cputype"]
	flags = map[string]string{}
	switch {
	case name == "" && !b.config.Bool("kvm", true):
		name = "qemu64"
	case name == "":
		name = "kvm64"
	}
	base = name
	if m, ok := models[name]; ok {
		base = m.base
		addFlags(flags, m.flags)
	}
	if base == "kvm64" {
		addFlags(flags, "+lahf_lm;+sep")
	}
	if b.config["ostype"] == "solaris" {
		flags["x2apic"] = "-"
	}
	if b.kvm() {
		b.kvmFlags(base, o, flags)
	} else if base == "host" {
		base = "max" // the nearest there is without KVM
	}
	addFlags(flags, b.usableFlags(o["flags"]))
	return base, flags
}

// customModel replaces a model of the cluster's own by what it is made of.
func (b *builder) customModel(o Options) (Options, error) {
	name, ok := strings.CutPrefix(o["cputype"], "custom-")
	if !ok {
		return o, nil
	}
	m, ok := b.host.Models[name]
	if !ok {
		return nil, keyErr("cpu", "no model %q is defined in virtual-guest/cpu-models.conf", name)
	}
	o = m.over(o)
	if o["cputype"] = m["reported-model"]; o["cputype"] == "" {
		o["cputype"] = "kvm64"
	}
	return o, nil
}

// over returns what a custom model and a guest ask for together; the guest has
// the last word.
func (model Options) over(guest Options) Options {
	out := maps.Clone(model)
	maps.Copy(out, guest)
	out["flags"] = model["flags"] + ";" + guest["flags"]
	return out
}

func addFlags(flags map[string]string, list string) {
	for flag := range strings.SplitSeq(list, ";") {
		if flag != "" {
			flags[flag[1:]] = flag[:1]
		}
	}
}

// usableFlags leaves out what only KVM can do when it does not run the guest.
func (b *builder) usableFlags(list string) string {
	if b.kvm() {
		return list
	}
	return strings.Join(slices.DeleteFunc(strings.Split(list, ";"), func(flag string) bool {
		name := strings.TrimLeft(flag, "+-")
		return strings.HasPrefix(name, "hv-") || strings.HasPrefix(name, "hv_") || strings.HasPrefix(name, "kvm")
	}), ";")
}

// kvmFlags are the enlightenments, and "enforce" so that a guest never finds
// less than it was promised.
func (b *builder) kvmFlags(base string, o Options, flags map[string]string) {
	if base != "host" && base != "max" {
		flags["enforce"] = ""
	}
	if vendor := vendorOf(base); vendor != "" {
		flags["vendor="+vendor] = ""
	}
	if o.Bool("hidden", false) {
		flags["kvm=off"] = ""
	} else {
		addFlags(flags, "+kvm_pv_eoi;+kvm_pv_unhalt")
	}
	if b.config.windows() < 7 {
		return
	}
	for _, f := range []string{"relaxed", "reset", "runtime", "spinlocks=0x1fff", "stimer", "synic", "time", "vapic", "vpindex", "ipi"} {
		flags["hv_"+f] = ""
	}
	if id := o["hv-vendor-id"]; id != "" {
		flags["hv_vendor_id="+id] = ""
	}
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
	o, err := b.config.Options("cpu", "cputype")
	if err != nil {
		return nil, err
	}
	if o, err = b.customModel(o); err != nil {
		return nil, err
	}
	base, _ := b.cpuModel(o)
	for n := 1; n < t.vcpus; n++ {
		cpus = append(cpus, qdev.New(base+"-x86_64-cpu", "id", "cpu"+strconv.Itoa(n+1),
			"socket-id", n/t.cores, "core-id", n%t.cores, "thread-id", 0))
	}
	return cpus, nil
}
