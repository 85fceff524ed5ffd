package qemu

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hardware"
	"etcpve/agents/qemu/port"
	"etcpve/cfs/format/section"
)

var versionText = regexp.MustCompile(`version (\d+)\.(\d+)`)

// scratch is where drives with snapshot=1 are written to: not into memory,
// which is what the usual run directory is.
func (a *Agent) scratch() string {
	if a.RunDir == defaultRun {
		return "/var/tmp/qemu-server"
	}
	return a.RunDir
}

// binaryFor is the QEMU that runs a guest.
func (a *Agent) binaryFor(c cmdline.Config) string {
	if arch := c["arch"]; arch != "" && arch != hardware.Arch() {
		return "qemu-system-" + arch
	}
	return a.Binary
}

// factsOf learns what does not change while the agent runs, once for each QEMU.
func (a *Agent) factsOf(binary string) (cmdline.Host, error) {
	a.mu.Lock()
	h, ok := a.facts[binary]
	a.mu.Unlock()
	if ok {
		return h, nil
	}
	h, err := a.inspect(binary)
	if h.Binary = binary; err == nil {
		a.mu.Lock()
		a.facts[binary] = h
		a.mu.Unlock()
	}
	return h, err
}

func (a *Agent) inspect(binary string) (cmdline.Host, error) {
	out, err := a.system.Run(context.Background(), host.Command{Argv: []string{binary, "--version"}})
	if err != nil {
		return cmdline.Host{}, err
	}
	parts := versionText.FindStringSubmatch(string(out))
	if parts == nil {
		return cmdline.Host{}, fmt.Errorf("%s --version: %q", binary, out)
	}
	mappings := hardware.Mappings{Tree: a.Tree, Node: a.Node}
	h := cmdline.Host{
		Binary: binary, RunDir: a.RunDir, Scratch: a.scratch(), Firmware: "/usr/share/OVMF",
		Node: a.Node, Arch: hardware.Arch(), CPUVendor: hardware.CPUVendor(), Encryption: hardware.Encryption(), Bridge: port.New().MTU,
		Functions: hardware.Functions, USB: mappings.USB, PCI: mappings.PCI, Directory: mappings.Directory,
	}
	h.QEMU.Major, _ = strconv.Atoi(parts[1])
	h.QEMU.Minor, _ = strconv.Atoi(parts[2])
	_, err = os.Stat("/dev/vhost-net")
	h.VhostNet = err == nil
	if _, err := os.Stat("/dev/cdrom"); err == nil {
		h.CDROM = "/dev/cdrom"
	}
	return h, nil
}

// hostFor returns the facts for one guest, and what runs it: kvm, or tcg with
// the reason. A guest that does not want KVM does not cost a probe.
func (a *Agent) hostFor(ctx context.Context, c cmdline.Config) (cmdline.Host, string, error) {
	h, err := a.factsOf(a.binaryFor(c))
	if err != nil && h.Binary != a.Binary && c["arch"] != "" {
		err = &cmdline.KeyError{Key: "arch", Err: err}
	}
	if err != nil {
		return h, "", err
	}
	if h.Models, err = a.cpuModels(); err != nil {
		return h, "", err
	}
	switch {
	case !c.Bool("kvm", true):
		return h, "tcg (kvm: 0)", nil
	case h.Binary != a.Binary:
		return h, "tcg (the guest's CPU is not of the node's kind)", nil
	case a.NoKVM:
		return h, "tcg (this agent was told to)", nil
	}
	answer := a.prober.Ask(ctx)
	if h.KVM = answer.KVM; h.KVM {
		return h, "kvm", nil
	}
	return h, "tcg (" + answer.Reason + ")", nil
}

// cpuModels reads the cluster's own CPU models.
func (a *Agent) cpuModels() (map[string]cmdline.Options, error) {
	content, err := os.ReadFile(filepath.Join(a.Tree, "virtual-guest/cpu-models.conf"))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	models := map[string]cmdline.Options{}
	for _, s := range section.ParseDocument(string(content), "").Sections {
		if s.Type != "cpu-model" {
			continue
		}
		model := cmdline.Options{}
		for _, e := range s.Entries {
			model[e.Key] = cmp.Or(e.Value, "1") // a key alone says yes
		}
		models[s.ID] = model
	}
	return models, nil
}
