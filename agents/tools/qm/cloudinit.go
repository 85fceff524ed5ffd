package qm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/qemu"
	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/ovf"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/storage/image"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
)

func (p Place) provisioning() []cli.Command {
	kind := cli.Param{Name: "type", Rule: about(schema.Choice("user", "network", "meta").Must(), "Part of the data.")}
	return []cli.Command{
		{Words: "cloudinit dump", Summary: "Show what the cloud-init drive of a VM holds from its next making on.", Run: p.cloudInitDump, Args: and(kind)},
		{Words: "cloudinit pending", Summary: "Show the cloud-init settings of a VM with what its drive does not hold yet.", Run: p.cloudInitPending, Args: vmid()},
		{Words: "cloudinit update", Summary: "Make the cloud-init drive of a VM anew, also while it runs: the guest sees its medium change. The agent does so by itself when the VM starts, and at each change where hotplug includes cloudinit.", Run: p.verb(verbs.CloudInit, unlocked), Args: vmid()},
		{Words: "importovf", Summary: "Create a VM from an OVF manifest and the images beside it.", Run: p.importOVF,
			Args: and(cli.Param{Name: "manifest", Rule: about(schema.Text().Must(), "Path of the manifest.")},
				cli.Param{Name: "storage", Rule: about(schema.Named("pve-storage-id").Must(), "Storage of the disks.")}),
			Options: schema.Keys{"format": imageFormat(), "dryrun": about(schema.Truth(), "Show what the manifest says.")}},
	}
}

// reader is an agent that only looks.
func (p Place) reader() (*qemu.Agent, error) {
	return qemu.New(qemu.Options{Tree: p.Tree, Node: p.Node, RunDir: p.RunDir, Locks: p.RunDir, Log: slog.New(slog.DiscardHandler)})
}

func (p Place) cloudInitDump(ctx context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	agent, err := p.reader()
	if err != nil {
		return err
	}
	d, err := agent.CloudInitOf(ctx, v.VMID)
	if err != nil {
		return err
	}
	text := map[string][]byte{"user": d.User, "network": d.Network, "meta": d.Meta}[c.Value("type")]
	fmt.Fprintln(c.Out, strings.TrimSuffix(string(text), "\n"))
	return nil
}

func (p Place) cloudInitPending(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	held := v.Special["cloudinit"]
	if held == nil {
		held = guest.NewSection()
	}
	wanted := v.Main.Clone()
	apply(wanted, v.Pending)
	keys := map[string]bool{}
	for _, key := range append(held.Keys(), wanted.Keys()...) {
		keys[key] = cloudinit.Is(key)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch {
		case !keys[key]:
		case !wanted.Has(key):
			fmt.Fprintf(c.Out, "del %s: %s\n", key, secret(key, held.Get(key)))
		default:
			if held.Has(key) {
				fmt.Fprintf(c.Out, "cur %s: %s\n", key, secret(key, held.Get(key)))
			}
			if held.Get(key) != wanted.Get(key) {
				fmt.Fprintf(c.Out, "new %s: %s\n", key, secret(key, wanted.Get(key)))
			}
		}
	}
	return nil
}

// secret hides a password.
func secret(key, value string) string {
	if key == "cipassword" {
		return "**********"
	}
	return value
}

// importOVF creates the VM that a manifest describes.
func (p Place) importOVF(ctx context.Context, c *cli.Call) error {
	path, err := filepath.Abs(c.Value("manifest"))
	if err != nil {
		return err
	}
	manifest, err := os.Open(path)
	if err != nil {
		return err
	}
	defer manifest.Close()
	m, err := ovf.Parse(manifest)
	if err != nil {
		return err
	}
	if c.Bool("dryrun") {
		return showOVF(c, m, filepath.Dir(path))
	}
	vmid := vmidOf(c)
	if g, ok := p.find(vmid); ok {
		return fmt.Errorf("unable to create VM %d - VM %d already exists on node '%s'", vmid, vmid, g.Node)
	}
	params := maps.Clone(m.Settings)
	for _, d := range m.Disks {
		image := filepath.Join(filepath.Dir(path), d.File)
		if info, err := os.Lstat(image); err != nil || !info.Mode().IsRegular() {
			return errors.Join(err, fmt.Errorf("'%s' is no file", image))
		}
		params[d.Address] = c.Value("storage") + ":0,import-from=" + image
		if c.Has("format") {
			params[d.Address] += ",format=" + c.Value("format")
		}
	}
	if m.Settings["bios"] == "ovmf" {
		params["efidisk0"] = c.Value("storage") + ":1,efitype=4m"
	}
	return p.do(ctx, c, verbs.Create, vmid, params)
}

// showOVF prints what would be created.
func showOVF(c *cli.Call, m ovf.Machine, dir string) error {
	disks, nets := []any{}, map[string]any{}
	for _, d := range m.Disks {
		bytes := d.Bytes
		if head, err := image.Read(filepath.Join(dir, d.File), strings.TrimPrefix(filepath.Ext(d.File), ".")); err == nil {
			bytes = head.Size
		}
		disks = append(disks, map[string]any{"backing_file": filepath.Join(dir, d.File), "disk_address": d.Address, "virtual_size": bytes})
	}
	for _, n := range m.Nets {
		nets[n.Key] = map[string]any{"model": n.Model}
	}
	settings := map[string]any{}
	for key, value := range m.Settings {
		settings[key] = value
	}
	return show(c.Out, map[string]any{"disks": disks, "net": nets, "qm": settings})
}
