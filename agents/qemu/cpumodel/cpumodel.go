// Package cpumodel writes what a guest's CPU is for QEMU: a model, the flags on
// top of it, and how much memory it can address.
//
// It owns the models that are the cluster's own or a level of x86-64, and the
// flags a guest gets without asking: the enlightenments of Windows, and
// "enforce", so that a guest never finds less than it was promised. It never
// asks what the node's CPU can do; QEMU refuses what it cannot.
package cpumodel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Request is what is known of a guest when its CPU is written.
type Request struct {
	// Options are those of the cpu key, with the model under "cputype".
	Options map[string]string
	// Models are the cluster's own by name, with their properties.
	Models map[string]map[string]string

	ARM     bool   // for aarch64, else for x86-64
	KVM     bool   // runs the guest
	NoKVM   bool   // the guest said kvm: 0
	Windows int    // its version, 0 for anything else
	OSType  string // of the guest
	GPU     bool   // a graphics card of the node is the guest's first
	Vendor  string // of the node's CPU, as CPUID has it
	QEMU    func(major, minor int) bool
}

// A CPU is the answer.
type CPU struct {
	Model    string   // as QEMU knows it
	Words    []string // that follow it
	Warnings []string
}

// String is the argument of -cpu.
func (c CPU) String() string { return strings.Join(append([]string{c.Model}, c.Words...), ",") }

// A level is a model of ours on top of one that QEMU knows.
type level struct{ base, flags string }

const (
	v2  = "+popcnt;+pni;+sse4.1;+sse4.2;+ssse3"
	aes = ";+aes"
	v3  = v2 + aes + ";+avx;+avx2;+bmi1;+bmi2;+f16c;+fma;+abm;+movbe;+xsave"
	v4  = v3 + ";+avx512f;+avx512bw;+avx512cd;+avx512dq;+avx512vl"
)

// levels are those of x86-64, which QEMU does not have as models.
var levels = map[string]level{
	"x86-64-v2": {"qemu64", v2}, "x86-64-v2-AES": {"qemu64", v2 + aes}, "x86-64-v3": {"qemu64", v3}, "x86-64-v4": {"qemu64", v4},
}

// anybodys are the models that do not stand for one maker's CPU.
var anybodys = []string{"kvm32", "kvm64", "qemu32", "qemu64", "host", "max"}

// vendorOf returns the maker that a model stands for.
func vendorOf(model string) string {
	switch {
	case slices.Contains(anybodys, model):
		return ""
	case model == "athlon" || model == "phenom" || strings.HasPrefix(model, "Opteron") || strings.HasPrefix(model, "EPYC"):
		return "AuthenticAMD"
	}
	return "GenuineIntel"
}

// narrow are the models that have no more than 32 bits.
var narrow = []string{"486", "pentium", "pentium2", "pentium3", "coreduo", "n270", "athlon", "kvm32", "qemu32"}

// Of returns the CPU of a guest.
func Of(r Request) (CPU, error) {
	o, err := r.resolved()
	if err != nil {
		return CPU{}, err
	}
	if r.ARM {
		return r.arm(o), nil
	}
	model, flags := r.model(o)
	c := CPU{Model: model}
	asked := map[string]string{}
	add(asked, r.usable(o["flags"]))
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if given := flags[name]; given != "" && given != asked[name] {
			c.Warnings = append(c.Warnings, fmt.Sprintf("flag '%s%s' takes the place of '%s%s', which the guest would get", asked[name], name, given, name))
		}
		flags[name] = asked[name]
	}
	if o["level"] != "" {
		c.Words = append(c.Words, "level="+o["level"])
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		c.Words = append(c.Words, flags[name]+name)
	}
	r.addressBits(&c, o)
	return c, nil
}

// resolved replaces a model of the cluster's own by what it is made of; the
// guest has the last word.
func (r Request) resolved() (map[string]string, error) {
	name, ok := strings.CutPrefix(r.Options["cputype"], "custom-")
	if !ok {
		return r.Options, nil
	}
	m, ok := r.Models[name]
	if !ok {
		return nil, fmt.Errorf("no model %q is defined in virtual-guest/cpu-models.conf", name)
	}
	o := maps.Clone(m)
	maps.Copy(o, r.Options)
	o["flags"] = m["flags"] + ";" + r.Options["flags"]
	if o["cputype"] = m["reported-model"]; o["cputype"] == "" {
		o["cputype"] = "kvm64"
	}
	return o, nil
}

// arm is the CPU of an aarch64 guest, which has neither enlightenments nor a
// model that "enforce" is about.
func (r Request) arm(o map[string]string) CPU {
	c := CPU{Model: o["cputype"]}
	switch {
	case c.Model == "" && r.KVM:
		c.Model = "host"
	case c.Model == "" || c.Model == "host" && !r.KVM:
		c.Model = "max"
	}
	flags := map[string]string{}
	add(flags, o["flags"])
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		c.Words = append(c.Words, name+"="+map[string]string{"+": "on", "-": "off"}[flags[name]])
	}
	return c
}

// addressBits says how large an address the guest may use.
func (r Request) addressBits(c *CPU, o map[string]string) {
	switch bits := o["phys-bits"]; {
	case bits == "":
	case slices.Contains(narrow, c.Model) && !r.KVM:
		c.Warnings = append(c.Warnings, "phys-bits does not apply to the 32-bit model "+c.Model)
	case bits != "host":
		c.Words = append(c.Words, "phys-bits="+bits)
	case r.KVM:
		c.Words = append(c.Words, "host-phys-bits=true")
	}
	if bits := o["guest-phys-bits"]; bits != "" {
		if r.QEMU(9, 1) {
			c.Words = append(c.Words, "guest-phys-bits="+bits)
		} else {
			c.Warnings = append(c.Warnings, "guest-phys-bits needs QEMU 9.1")
		}
	}
}

// model returns QEMU's model and the flags a guest gets without asking: name to
// sign, or to nothing for a flag that is a whole word.
func (r Request) model(o map[string]string) (model string, flags map[string]string) {
	flags = map[string]string{}
	switch model = o["cputype"]; {
	case model == "" && r.NoKVM:
		model = "qemu64"
	case model == "":
		model = "kvm64"
	}
	if l, ok := levels[model]; ok {
		model = l.base
		add(flags, l.flags)
	}
	if model == "kvm64" {
		add(flags, "+lahf_lm;+sep")
	}
	if r.OSType == "solaris" {
		flags["x2apic"] = "-"
	}
	if r.KVM {
		r.underKVM(model, o, flags)
	} else if model == "host" {
		model = "max" // the nearest there is without KVM
	}
	return model, flags
}

func add(flags map[string]string, list string) {
	for flag := range strings.SplitSeq(list, ";") {
		if len(flag) > 1 {
			flags[flag[1:]] = flag[:1]
		}
	}
}

// nested are the flags that let a guest run guests of its own, whoever made the
// node's CPU.
var nested = map[string]string{"GenuineIntel": "vmx", "AuthenticAMD": "svm"}

// usable returns the flags asked for in QEMU's words, without what only KVM can
// do when it does not run the guest.
func (r Request) usable(list string) string {
	var out []string
	for flag := range strings.SplitSeq(list, ";") {
		if flag == "" {
			continue
		}
		sign, name := flag[:1], flag[1:]
		switch {
		case name == "nested-virt":
			name = nested[r.Vendor]
			if name == "" || !r.KVM {
				continue
			}
		case !r.KVM && (strings.HasPrefix(name, "hv-") || strings.HasPrefix(name, "hv_") || strings.HasPrefix(name, "kvm")):
			continue
		}
		out = append(out, sign+name)
	}
	return strings.Join(out, ";")
}

// underKVM adds what a guest gets without asking.
func (r Request) underKVM(model string, o, flags map[string]string) {
	if model != "host" && model != "max" {
		flags["enforce"] = ""
	}
	if vendor := vendorOf(model); vendor != "" {
		flags["vendor="+vendor] = ""
	}
	if truth(o["hidden"]) || r.GPU {
		flags["kvm=off"] = ""
	}
	if !truth(o["hidden"]) {
		add(flags, "+kvm_pv_eoi;+kvm_pv_unhalt")
	}
	if r.Windows < 7 {
		return
	}
	for _, f := range []string{"relaxed", "reset", "runtime", "spinlocks=0x1fff", "stimer", "synic", "time", "vapic", "vpindex", "ipi"} {
		flags["hv_"+f] = ""
	}
	id := o["hv-vendor-id"]
	if id == "" && r.GPU {
		id = "etcpve" // drivers of graphics cards refuse the well-known ones
	}
	if id != "" {
		flags["hv_vendor_id="+id] = ""
	}
	if model == "host" && r.QEMU(11, 0) { // what Windows stumbles over on new CPUs
		add(flags, "-cet-ibt;-cet-ss")
		if r.Vendor == "GenuineIntel" {
			add(flags, "-vmx-mbec")
		}
	}
}

func truth(value string) bool {
	switch strings.ToLower(value) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}
