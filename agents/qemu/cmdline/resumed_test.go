package cmdline_test

import (
	"slices"
	"strings"
	"testing"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/state"
)

// TestStateFindsTheHardwareItWasSavedOn compares the command line of a guest that
// goes on from a state with the one it had booted with.
func TestStateFindsTheHardwareItWasSavedOn(t *testing.T) {
	host, volume := plain()
	for _, c := range []struct{ config, mtu string }{
		{"ostype: l26\nnet0: virtio,bridge=vmbr0\nscsi0: local:1/a.raw\n", "net0=1500"},
		{"ostype: l26\nmachine: q35\nnet0: virtio,bridge=vmbr0\nusb0: spice\n", "net0=1500"},
		{"machine: pc-i440fx-6.0\nnet0: virtio,bridge=vmbr0\n", "net0=0"},
		{"machine: pc-i440fx-10.0,viommu=virtio\nnet1: virtio,bridge=vmbr0\n", "net1=1500"},
		{"ostype: win10\nnet0: e1000,bridge=vmbr0\n", ""},
	} {
		booted, err := build(host, volume, c.config)
		if err != nil {
			t.Fatal(err)
		}
		name := host.QEMU.String()
		from := state.Resumption{Volume: "local:1/state.raw", Machine: "pc-i440fx-" + name, CPU: argument(booted.Args, "-cpu"), HostMTU: c.mtu}
		slower := host
		slower.Bridge = func(string) (int, bool) { return 1400, true } // since then
		resumed, err := cmdline.Build(cmdline.Guest{VMID: 100, Config: from.On(mainSection(c.config)), Volume: volume}, slower)
		if err != nil {
			t.Fatal(err)
		}
		got := from.Arguments(resumed.Args)
		want := append(slices.Clone(booted.Args), "-incoming", "defer")
		machine := slices.Index(want, "-machine") + 1
		before, _, _ := strings.Cut(want[machine], "type=")
		if !strings.HasPrefix(got[machine], before+"type="+from.Machine) {
			t.Errorf("%s-machine %s, want type %s", c.config, got[machine], from.Machine)
		}
		want[machine] = got[machine]
		if !slices.Equal(got, want) {
			t.Errorf("%sgot  %q\nwant %q", c.config, got, want)
		}
	}
}

// TestStateOfProxmoxVEPinsTheRules: its type says which rules made the guest.
func TestStateOfProxmoxVEPinsTheRules(t *testing.T) {
	host, volume := plain()
	for _, r := range []state.Resumption{{Machine: "pc-i440fx-6.2+pve0", CPU: "kvm64"}, {Machine: "pc-i440fx-6.2"}} {
		was, err := build(host, volume, "machine: pc-i440fx-6.2\nostype: l26\nnet0: virtio,bridge=vmbr0\n")
		if err != nil {
			t.Fatal(err)
		}
		now, err := cmdline.Build(cmdline.Guest{VMID: 100, Config: r.On(mainSection("ostype: l26\nnet0: virtio,bridge=vmbr0\n")), Volume: volume}, host)
		if err != nil || !slices.Equal(now.Args, was.Args) {
			t.Errorf("%+v: got %q\nwant %q, %v", r, now.Args, was.Args, err)
		}
	}
}

func argument(args []string, name string) string { return args[slices.Index(args, name)+1] }
