package lvm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/block"
)

// tools runs the commands of LVM, and does what is the same with and without a
// thin pool.
type tools struct{ run storage.Runner }

func (t tools) do(ctx context.Context, argv ...string) error {
	_, err := t.run.Run(ctx, host.Command{Argv: argv})
	return err
}

// A group is a volume group.
type group struct {
	Name string `json:"vg_name"`
	Size string `json:"vg_size"`
	Free string `json:"vg_free"`
}

// A logical is a logical volume.
type logical struct {
	Name   string `json:"lv_name"`
	Size   string `json:"lv_size"`
	Attr   string `json:"lv_attr"`
	Pool   string `json:"pool_lv"`
	Origin string `json:"origin"`
	Data   string `json:"data_percent"`
	Tags   string `json:"lv_tags"`
	Time   string `json:"lv_time"`
}

// number reads what LVM prints without unit.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0 // LVM leaves out what does not apply
	}
	return n
}

// tagged reports whether the tag of guests' volumes is on a volume.
func (l logical) tagged(vmid uint32) bool {
	return slices.Contains(strings.Split(l.Tags, ","), tag(vmid))
}

func tag(vmid uint32) string { return fmt.Sprintf("pve-vm-%d", vmid) }

// active reports whether the volume has a device.
func (l logical) active() bool { return len(l.Attr) > 4 && l.Attr[4] == 'a' }

// report runs a command of LVM that prints JSON, and reads the part of it.
func report[T any](ctx context.Context, t tools, part string, argv ...string) (all []T, err error) {
	argv = slices.Insert(argv, 1, "--reportformat", "json", "--units", "b", "--nosuffix")
	out, err := t.run.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	var printed struct {
		Report []map[string][]T `json:"report"`
	}
	if err := json.Unmarshal(out, &printed); err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	for _, r := range printed.Report {
		all = append(all, r[part]...)
	}
	return all, nil
}

// group returns a volume group.
func (t tools) group(ctx context.Context, name string) (group, error) {
	all, err := report[group](ctx, t, "vg", "vgs", "--options", "vg_name,vg_size,vg_free", name)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("no such volume group '%s'", name)
	}
	if err != nil {
		return group{}, err
	}
	return all[0], nil
}

// volumes returns the logical volumes of a group.
func (t tools) volumes(ctx context.Context, group string) ([]logical, error) {
	return report[logical](ctx, t, "lv", "lvs", "--config", `report/time_format="%s"`,
		"--options", "lv_name,lv_size,lv_attr,pool_lv,origin,data_percent,lv_tags,lv_time", group)
}

// volume returns one logical volume.
func (t tools) volume(ctx context.Context, group, name string) (logical, error) {
	all, err := t.volumes(ctx, group)
	if err != nil {
		return logical{}, err
	}
	if i := slices.IndexFunc(all, func(l logical) bool { return l.Name == name }); i >= 0 {
		return all[i], nil
	}
	return logical{}, fmt.Errorf("no such logical volume %s/%s", group, name)
}

func names(all []logical) (names []string) {
	for _, l := range all {
		names = append(names, l.Name)
	}
	return names
}

// guests lists those volumes with a guest's name that are ours, as asked for.
func (t tools) guests(ctx context.Context, c *storage.Config, q storage.Query, p storage.Plugin, ours func(logical, storage.Volume) bool) ([]storage.Info, error) {
	all, err := t.volumes(ctx, c.Value("vgname"))
	if err != nil {
		return nil, err
	}
	var infos []storage.Info
	for _, l := range all {
		if v, err := p.Parse(l.Name); err == nil && ours(l, v) {
			infos = append(infos, storage.Info{Name: v.Name, Format: v.Format, VMID: v.VMID, Size: number(l.Size), Created: number(l.Time)})
		}
	}
	return block.Infos(q, infos), nil
}

// vacant returns the name of a new volume.
func (t tools) vacant(ctx context.Context, c *storage.Config, p storage.Plugin, r storage.Request) (string, error) {
	all, err := t.volumes(ctx, c.Value("vgname"))
	if err != nil {
		return "", err
	}
	return block.Name(p, r, "vm", names(all))
}

// Size returns the size of a volume in bytes.
func (t tools) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	l, err := t.volume(ctx, c.Value("vgname"), v.File)
	return number(l.Size), err
}

// Resize grows a volume.
func (t tools) Resize(ctx context.Context, c *storage.Config, v storage.Volume, bytes int64) error {
	size, err := t.Size(ctx, c, v)
	if err == nil {
		err = v.Grows(size, bytes)
	}
	if err != nil || bytes == size { // an error for lvextend
		return err
	}
	return t.do(ctx, "lvextend", "--size", kib(bytes), c.Value("vgname")+"/"+v.File)
}

func (t tools) rename(ctx context.Context, c *storage.Config, p storage.Plugin, v storage.Volume, vmid uint32, name string) (string, error) {
	vg := c.Value("vgname")
	all, err := t.volumes(ctx, vg)
	if err != nil {
		return "", err
	}
	name, err = block.Name(p, storage.Request{VMID: vmid, Name: name}, "vm", names(all))
	if err != nil {
		return "", err
	}
	if err := t.do(ctx, "lvrename", vg, v.File, name); err != nil {
		return "", err
	}
	if slices.ContainsFunc(all, func(l logical) bool { return l.Name == v.File && l.tagged(v.VMID) }) {
		err = t.do(ctx, "lvchange", "--deltag", tag(v.VMID), "--addtag", tag(vmid), vg+"/"+name)
	}
	return name, err
}
