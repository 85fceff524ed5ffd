// Package hardware knows the devices of the node that a guest may get: its CPU,
// its PCI and USB devices, and what the cluster calls them in mapping/.
//
// It reads /proc, /sys and the tree and never changes anything.
package hardware

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"etcpve/agents/qemu/confidential"
)

// Arch is the node's architecture in QEMU's words.
func Arch() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

// CPUVendor is the maker of the node's CPU, as CPUID has it, or "".
func CPUVendor() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "vendor_id" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// memoryEncryption is the leaf of CPUID that describes AMD's.
const memoryEncryption = 0x8000001f

// Encryption is what CPU and kernel together can do for the memory of guests.
func Encryption() (e confidential.Encryption) {
	on := func(path string) bool {
		content, err := os.ReadFile(filepath.Join("/sys/module", path))
		return err == nil && slices.Contains([]string{"Y", "1"}, strings.TrimSpace(string(content)))
	}
	e.TDX = on("kvm_intel/parameters/tdx")
	f, err := os.Open("/dev/cpu/0/cpuid")
	if err != nil {
		return e
	}
	defer f.Close()
	registers := make([]byte, 16) // EAX, EBX, ECX, EDX
	if _, err := f.ReadAt(registers, memoryEncryption); err != nil {
		return e
	}
	ebx := binary.LittleEndian.Uint32(registers[4:])
	e.CBit, e.ReducedBits = int(ebx&0x3f), int(ebx>>6&0x3f)
	e.SEV = on("kvm_amd/parameters/sev")
	e.ES = on("kvm_amd/parameters/sev_es")
	e.SNP = on("kvm_amd/parameters/sev_snp")
	return e
}

// Functions lists the functions of a PCI device such as 0000:01:00.
func Functions(address string) (functions []string) {
	found, _ := filepath.Glob("/sys/bus/pci/devices/" + address + ".*") // the pattern has no special characters
	for _, path := range found {
		functions = append(functions, filepath.Base(path))
	}
	return functions
}
