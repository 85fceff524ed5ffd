// Package port connects the node's side of a VM's NICs with the bridges of the
// node.
//
// It owns the links it makes: for tap100i0 with the firewall on, the bridge
// fwbr100i0 between the tap and its bridge, joined by the pair fwln100i0 and
// fwpr100p0, where the firewall agent finds the packets of just this NIC; for a
// NIC with a rate, the device ifb100i0 that shapes what the guest sends. It
// makes the tap a port and never makes the tap itself, which comes and goes
// with its QEMU.
//
// A VLAN tag is set on the port where the bridge filters VLANs. Where it does
// not, a bridge of its own, such as vmbr0v20, carries the VLAN over a VLAN
// interface of the bridge's physical ports.
package port

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

// A Runner runs a command of the machine.
type Runner interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// Bridges are those of the kernel.
type Bridges struct {
	Runner Runner // default: this machine
	Sys    string // where sysfs shows the links; default /sys/class/net
}

// New is for this machine.
func New() Bridges { return Bridges{Runner: host.System{}, Sys: "/sys/class/net"} }

// MTU looks a bridge up.
func (b Bridges) MTU(bridge string) (mtu int, ok bool) {
	if !b.exists(bridge, "bridge") {
		return 0, false
	}
	mtu, err := strconv.Atoi(b.read(bridge, "mtu"))
	return mtu, err == nil
}

// names of the links that belong to a tap.
type names struct{ tap, fwbr, fwln, fwpr, ifb string }

func namesOf(tap string) names {
	id := strings.TrimPrefix(tap, "tap")
	return names{tap: tap, fwbr: "fwbr" + id, fwln: "fwln" + id, fwpr: "fwpr" + strings.Replace(id, "i", "p", 1), ifb: "ifb" + id}
}

// Plug makes a tap a port of its bridge, through a firewall bridge if it wants
// one, with its VLANs, MTU and rate. It may have been connected another way.
func (b Bridges) Plug(ctx context.Context, tap cmdline.Tap) error {
	n := namesOf(tap.Name)
	if !b.exists(tap.Bridge, "bridge") {
		return fmt.Errorf("bridge '%s' does not exist", tap.Bridge)
	}
	bridge, err := b.target(ctx, tap)
	if err != nil {
		return err
	}
	// Never less than the bridge has, which would take the smallest of its ports.
	mtu := b.read(bridge, "mtu")
	port := n.tap // what becomes a port of the operator's bridge
	if tap.Firewall {
		if err := b.firewallBridge(ctx, n, mtu); err != nil {
			return err
		}
		port = n.fwpr
		if err := b.ip(ctx, "link", "set", "dev", n.tap, "master", n.fwbr, "mtu", mtu, "up"); err != nil {
			return err
		}
	} else if err := b.dropFirewall(ctx, n); err != nil {
		return err
	}
	if err := b.ip(ctx, "link", "set", "dev", port, "master", bridge, "mtu", mtu, "up"); err != nil {
		return err
	}
	if err := b.vlans(ctx, bridge, port, tap); err != nil {
		return err
	}
	return b.rate(ctx, n, tap.Rate)
}

// Unplug removes the links that Plug made for a tap. The tap itself is QEMU's.
func (b Bridges) Unplug(ctx context.Context, tap string) error {
	n := namesOf(tap)
	return errors.Join(b.dropFirewall(ctx, n), b.remove(ctx, n.ifb))
}

// firewallBridge puts a bridge between the tap and its bridge.
func (b Bridges) firewallBridge(ctx context.Context, n names, mtu string) error {
	if !b.exists(n.fwbr) {
		if err := b.ip(ctx, "link", "add", "name", n.fwbr, "type", "bridge"); err != nil {
			return err
		}
	}
	if !b.exists(n.fwln) {
		if err := b.ip(ctx, "link", "add", "name", n.fwln, "type", "veth", "peer", "name", n.fwpr); err != nil {
			return err
		}
	}
	if err := b.ip(ctx, "link", "set", "dev", n.fwbr, "mtu", mtu, "up"); err != nil {
		return err
	}
	return b.ip(ctx, "link", "set", "dev", n.fwln, "master", n.fwbr, "mtu", mtu, "up")
}

func (b Bridges) dropFirewall(ctx context.Context, n names) error {
	return errors.Join(b.remove(ctx, n.fwln), b.remove(ctx, n.fwbr)) // fwpr goes with fwln
}

// remove takes a link away, if it is there.
func (b Bridges) remove(ctx context.Context, link string) error {
	if !b.exists(link) {
		return nil
	}
	return b.ip(ctx, "link", "delete", "dev", link)
}

// target is the bridge a tap has to be a port of: the one it names, or the one
// for its VLAN where that bridge does not filter.
func (b Bridges) target(ctx context.Context, tap cmdline.Tap) (string, error) {
	if b.filters(tap.Bridge) || tap.Tag == 0 && tap.Trunks == "" {
		return tap.Bridge, nil
	}
	if tap.Trunks != "" {
		return "", fmt.Errorf("bridge '%s' does not filter VLANs, trunks cannot be set", tap.Bridge)
	}
	tag := strconv.Itoa(tap.Tag)
	bridge := tap.Bridge + "v" + tag
	uplinks := b.uplinks(tap.Bridge)
	if len(uplinks) == 0 {
		return "", fmt.Errorf("bridge '%s' neither filters VLANs nor has a physical port, tag %d cannot be set", tap.Bridge, tap.Tag)
	}
	if !b.exists(bridge) {
		if err := b.ip(ctx, "link", "add", "name", bridge, "type", "bridge"); err != nil {
			return "", err
		}
	}
	for _, uplink := range uplinks {
		link := uplink + "." + tag
		if !b.exists(link) {
			if err := b.ip(ctx, "link", "add", "link", uplink, "name", link, "type", "vlan", "id", tag); err != nil {
				return "", err
			}
		}
		if err := b.ip(ctx, "link", "set", "dev", link, "master", bridge, "up"); err != nil {
			return "", err
		}
	}
	return bridge, b.ip(ctx, "link", "set", "dev", bridge, "up")
}

// guestPorts begin the names of ports that lead to a guest, not out of the node.
var guestPorts = []string{"tap", "veth", "fwpr", "fwln"}

// uplinks are the ports of a bridge that lead out of the node.
func (b Bridges) uplinks(bridge string) (ports []string) {
	entries, err := os.ReadDir(filepath.Join(b.Sys, filepath.Base(bridge), "brif"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !slices.ContainsFunc(guestPorts, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			ports = append(ports, e.Name())
		}
	}
	return ports
}

// vlans tells a bridge that filters which VLANs a port carries: one untagged,
// its tag or else 1, and the trunks, or else all.
func (b Bridges) vlans(ctx context.Context, bridge, port string, tap cmdline.Tap) error {
	if !b.filters(bridge) {
		return nil
	}
	if err := b.run(ctx, "bridge", "vlan", "del", "dev", port, "vid", "1-4094"); err != nil {
		return err
	}
	untagged := max(tap.Tag, 1)
	if err := b.run(ctx, "bridge", "vlan", "add", "dev", port, "vid", strconv.Itoa(untagged), "pvid", "untagged"); err != nil {
		return err
	}
	trunks := tap.Trunks
	if trunks == "" && tap.Tag == 0 {
		trunks = "2-4094"
	}
	for vid := range strings.SplitSeq(trunks, ";") {
		if vid == "" || vid == strconv.Itoa(untagged) {
			continue
		}
		if err := b.run(ctx, "bridge", "vlan", "add", "dev", port, "vid", vid); err != nil {
			return err
		}
	}
	return nil
}

func (b Bridges) filters(bridge string) bool {
	return b.read(bridge, "bridge/vlan_filtering") == "1"
}

// rate limits both directions of a NIC to so many bytes a second: what the
// guest receives where the tap sends it, what it sends behind an ifb device,
// because only sending can be shaped.
func (b Bridges) rate(ctx context.Context, n names, bytes int64) error {
	if err := b.remove(ctx, n.ifb); err != nil {
		return err
	}
	// A tap without either refuses; QEMU made it a moment ago or it had none.
	_ = b.run(ctx, "tc", "qdisc", "del", "dev", n.tap, "root")
	_ = b.run(ctx, "tc", "qdisc", "del", "dev", n.tap, "ingress")
	if bytes == 0 {
		return nil
	}
	if err := b.shape(ctx, n.tap, bytes); err != nil {
		return err
	}
	if err := b.ip(ctx, "link", "add", "name", n.ifb, "type", "ifb"); err != nil {
		return err
	}
	if err := b.ip(ctx, "link", "set", "dev", n.ifb, "up"); err != nil {
		return err
	}
	if err := b.shape(ctx, n.ifb, bytes); err != nil {
		return err
	}
	if err := b.run(ctx, "tc", "qdisc", "add", "dev", n.tap, "handle", "ffff:", "ingress"); err != nil {
		return err
	}
	return b.run(ctx, "tc", "filter", "add", "dev", n.tap, "parent", "ffff:", "protocol", "all", "prio", "50",
		"u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", n.ifb)
}

// burst is what may pass at full speed, in bytes.
const burst = 1 << 20

func (b Bridges) shape(ctx context.Context, link string, bytes int64) error {
	if err := b.run(ctx, "tc", "qdisc", "add", "dev", link, "root", "handle", "1:", "htb", "default", "1"); err != nil {
		return err
	}
	return b.run(ctx, "tc", "class", "add", "dev", link, "parent", "1:", "classid", "1:1",
		"htb", "rate", fmt.Sprintf("%dbps", bytes), "burst", strconv.Itoa(burst)) // bps are bytes to tc
}

// exists reports whether a link, or something of it, is there.
func (b Bridges) exists(link string, part ...string) bool {
	_, err := os.Stat(filepath.Join(append([]string{b.Sys, filepath.Base(link)}, part...)...))
	return err == nil
}

func (b Bridges) read(link, name string) string {
	content, err := os.ReadFile(filepath.Join(b.Sys, filepath.Base(link), name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func (b Bridges) ip(ctx context.Context, args ...string) error { return b.run(ctx, "ip", args...) }

func (b Bridges) run(ctx context.Context, name string, args ...string) error {
	_, err := b.Runner.Run(ctx, host.Command{Argv: append([]string{name}, args...)})
	return err
}
