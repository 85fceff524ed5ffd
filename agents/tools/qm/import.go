package qm

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/qemu/ovf"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/storage"
	"etcpve/agents/storage/image"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/layout"
)

func (p Place) imports() []cli.Command {
	return []cli.Command{
		{Words: "import", Summary: "Create a VM from an appliance (OVA), an OVF manifest or an image. Settings that are given count more than those found.", Run: p.importVM,
			Args: and(cli.Param{Name: "source", Rule: about(schema.Text().Must(), "A volume of content import, or a path.")}),
			Options: settings(schema.Keys{
				"storage":     about(schema.Named("pve-storage-id").Must(), "Storage of the disks."),
				"format":      imageFormat(),
				"delete":      about(schema.Named("pve-configid-list"), "What is found and not wanted."),
				"dryrun":      about(schema.Truth().Else(0), "Show what would be created."),
				"live-import": about(schema.Truth().Else(0), "Not possible here: the VM can be started when its disks are there."),
			})},
		{Words: "enroll-efi-keys", Summary: "Refused: no program of Debian 12 puts certificates into the variables of an EFI disk.", Run: p.enroll, Args: vmid()},
	}
}

// An origin is what a VM is made from.
type origin struct {
	volume string // as it was named, "" for a path
	path   string
}

// origin finds the file that a source means.
func (p Place) origin(source string) (origin, error) {
	id, err := storage.ParseID(source)
	if err != nil || strings.HasPrefix(source, "/") {
		at, err := filepath.Abs(source)
		return origin{path: at}, err
	}
	all, _, err := storage.ReadConfigs(p.Tree)
	if err != nil {
		return origin{}, err
	}
	i := slices.IndexFunc(all, func(s *storage.Config) bool { return s.ID == id.Storage })
	if i < 0 {
		return origin{}, fmt.Errorf("storage '%s' does not exist", id.Storage)
	}
	v, err := storage.ParseFile(id.Name)
	if err == nil && v.Content != storage.Import {
		err = fmt.Errorf("'%s' is a volume of content '%s', not import", source, v.Content)
	}
	if err == nil {
		err = all[i].Keeps(storage.Import)
	}
	if err != nil {
		return origin{}, err
	}
	dir, err := all[i].Subdir(storage.Import)
	return origin{volume: source, path: filepath.Join(dir, v.File)}, err
}

// beside returns how a file is named that lies beside the source, or in it.
func (o origin) beside(file string) (name, at string) {
	name, at = o.volume, o.path
	if filepath.Ext(o.path) != ".ova" {
		name, at = path.Dir(o.volume), filepath.Dir(o.path)
	}
	at = filepath.Join(at, file)
	if o.volume == "" {
		return at, at
	}
	return name + "/" + file, at
}

// maxManifest is the largest manifest that is read, in bytes.
const maxManifest = 10 << 20

// machine reads what the source says of the VM.
func (o origin) machine() (ovf.Machine, error) {
	f, err := os.Open(o.path)
	if err != nil {
		return ovf.Machine{}, err
	}
	defer f.Close()
	switch filepath.Ext(o.path) {
	case ".ovf":
		return ovf.Parse(io.LimitReader(f, maxManifest))
	case ".ova":
		r := tar.NewReader(f)
		for {
			head, err := r.Next()
			if err != nil {
				return ovf.Machine{}, fmt.Errorf("%s: no manifest: %w", o.path, err)
			}
			if filepath.Ext(head.Name) == ".ovf" {
				return ovf.Parse(io.LimitReader(r, maxManifest))
			}
		}
	case ".qcow2", ".raw", ".img", ".vmdk":
		return ovf.Machine{Disks: []ovf.Disk{{Address: "scsi0", File: filepath.Base(o.path)}}}, nil
	}
	return ovf.Machine{}, fmt.Errorf("'%s' is no appliance, manifest or image: .ova .ovf .qcow2 .raw .vmdk", o.path)
}

// importVM creates the VM that a source describes.
func (p Place) importVM(ctx context.Context, c *cli.Call) error {
	if c.Bool("live-import") {
		return errors.New("live-import: the disks of a VM have to be there before it starts")
	}
	o, err := p.origin(c.Value("source"))
	if err != nil {
		return err
	}
	m, err := o.machine()
	if err != nil {
		return err
	}
	params := map[string]string{}
	maps.Copy(params, m.Settings)
	if m.Settings["bios"] == "ovmf" {
		params["efidisk0"] = c.Value("storage") + ":1,efitype=4m"
	}
	for _, d := range m.Disks {
		name, at := o.beside(d.File)
		if err := selfContained(at); err != nil {
			return fmt.Errorf("%s: %w", d.Address, err)
		}
		params[d.Address] = c.Value("storage") + ":0,import-from=" + name
		if c.Has("format") {
			params[d.Address] += ",format=" + c.Value("format")
		}
	}
	for _, key := range schema.SplitList(c.Value("delete")) {
		delete(params, key)
	}
	for key, value := range c.Values {
		if guest.Keys(layout.QEMU)[key] != nil {
			params[key] = value
		}
	}
	if c.Bool("dryrun") {
		found := map[string]any{}
		for key, value := range params {
			found[key] = value
		}
		return show(c.Out, found)
	}
	vmid := vmidOf(c)
	if g, ok := p.find(vmid); ok {
		return fmt.Errorf("unable to create VM %d - VM %d already exists on node '%s'", vmid, vmid, g.Node)
	}
	return p.do(ctx, c, verbs.Create, vmid, params)
}

// selfContained refuses an image whose content is elsewhere: it would bring in whatever
// file of the node it names.
func selfContained(path string) error {
	format := strings.TrimPrefix(filepath.Ext(path), ".")
	if format == "img" {
		format = "raw"
	}
	if _, _, ok := image.SplitArchive(path); ok {
		format = "ova+" + format
	} else if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("'%s' is no file", path))
	}
	head, err := image.Read(path, format)
	if err == nil && head.Backing != "" {
		err = fmt.Errorf("'%s' stands on another image, '%s'", path, head.Backing)
	}
	return err
}

// enroll tells why nothing can be enrolled.
func (p Place) enroll(_ context.Context, c *cli.Call) error {
	v, err := p.load(vmidOf(c))
	if err != nil {
		return err
	}
	if err := v.locked(c); err != nil {
		return err
	}
	if !v.Main.Has("efidisk0") {
		return fmt.Errorf("VM %d has no EFI disk", v.VMID)
	}
	return errors.New("no certificates are enrolled: virt-fw-vars, which puts those of 2023 into the variables of an EFI disk, is not part of Debian 12")
}
