package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

// Bridges plugs taps into the kernel's bridges.
type Bridges struct{ system host.System }

// Plug makes a tap a port of its bridge and brings it up. A VLAN tag is set on
// the port, which the bridge has to know how to do.
func (b Bridges) Plug(ctx context.Context, tap cmdline.Tap) error {
	if _, ok := bridgeMTU(tap.Bridge); !ok {
		return fmt.Errorf("bridge '%s' does not exist", tap.Bridge)
	}
	set := []string{"link", "set", "dev", tap.Name, "master", tap.Bridge}
	if tap.MTU > 0 {
		set = append(set, "mtu", strconv.Itoa(tap.MTU))
	}
	if err := b.run(ctx, "ip", append(set, "up")...); err != nil {
		return err
	}
	if tap.Tag == 0 {
		return nil
	}
	filtering := filepath.Join("/sys/class/net", filepath.Base(tap.Bridge), "bridge/vlan_filtering")
	if on, err := os.ReadFile(filtering); err != nil || string(on) != "1\n" {
		return fmt.Errorf("bridge '%s' does not filter VLANs, tag %d cannot be set", tap.Bridge, tap.Tag)
	}
	return b.run(ctx, "bridge", "vlan", "add", "dev", tap.Name, "vid", strconv.Itoa(tap.Tag), "pvid", "untagged")
}

func (b Bridges) run(ctx context.Context, name string, args ...string) error {
	_, err := b.system.Run(ctx, host.Command{Argv: append([]string{name}, args...)})
	return err
}
