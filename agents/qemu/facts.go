package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

var versionText = regexp.MustCompile(`version (\d+)\.(\d+)`)

// inspect learns what does not change while the agent runs.
func (a *Agent) inspect() (cmdline.Host, error) {
	out, err := a.system.Run(context.Background(), host.Command{Argv: []string{a.Binary, "--version"}})
	if err != nil {
		return cmdline.Host{}, err
	}
	parts := versionText.FindStringSubmatch(string(out))
	if parts == nil {
		return cmdline.Host{}, fmt.Errorf("%s --version: %q", a.Binary, out)
	}
	h := cmdline.Host{Binary: a.Binary, RunDir: a.RunDir, Firmware: "/usr/share/OVMF", Bridge: bridgeMTU, Functions: pciFunctions}
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
	h, err := a.facts()
	if err != nil {
		return h, "", err
	}
	if h.Models, err = a.cpuModels(); err != nil {
		return h, "", err
	}
	switch {
	case !c.Bool("kvm", true):
		return h, "tcg (kvm: 0)", nil
	case a.NoKVM:
		return h, "tcg (this agent was told to)", nil
	}
	answer := a.prober.Ask(ctx)
	if h.KVM = answer.KVM; h.KVM {
		return h, "kvm", nil
	}
	return h, "tcg (" + answer.Reason + ")", nil
}

// bridgeMTU looks a bridge up.
func bridgeMTU(name string) (int, bool) {
	dir := filepath.Join("/sys/class/net", filepath.Base(name))
	if _, err := os.Stat(filepath.Join(dir, "bridge")); err != nil {
		return 0, false
	}
	content, err := os.ReadFile(filepath.Join(dir, "mtu"))
	if err != nil {
		return 0, false
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(string(content)))
	return mtu, err == nil
}

// pciFunctions lists the functions of a device such as 0000:01:00.
func pciFunctions(address string) (functions []string) {
	found, _ := filepath.Glob("/sys/bus/pci/devices/" + address + ".*") // the pattern has no special characters
	for _, path := range found {
		functions = append(functions, filepath.Base(path))
	}
	return functions
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
	for _, s := range sections(string(content)) {
		if s.kind == "cpu-model" {
			models[s.id] = s.options
		}
	}
	return models, nil
}
