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
)

// tools runs the commands of LVM.
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
