package zfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
)

// A lio is the target of a Linux server, managed by targetcli. A volume has a
// backstore POOL-VOLUME, and that a LUN in the target portal group.
type lio struct {
	server server
	c      *storage.Config
}

// saved are the places where the server may keep its configuration.
var saved = []string{"/etc/rtslib-fb-target/saveconfig.json", "/etc/target/saveconfig.json"}

// A configuration is what is read of that.
type configuration struct {
	Targets []struct {
		WWN  string
		TPGs []struct {
			Tag  int
			LUNs []struct {
				Index  int
				Object string `json:"storage_object"`
			}
		}
	}
}

func (l lio) targetcli(ctx context.Context, words ...string) error {
	_, err := l.server.Run(ctx, host.Command{Argv: append([]string{"targetcli"}, words...)})
	return err
}

// save makes what was changed outlive a start of the server.
func (l lio) save(ctx context.Context) error { return l.targetcli(ctx, "saveconfig") }

func (l lio) backstore(file string) string {
	return strings.ReplaceAll(l.c.Value("pool"), "/", "-") + "-" + file
}

// group is the target portal group, tpg1 unless the storage names another.
func (l lio) group() string {
	if tpg := l.c.Value("lio_tpg"); tpg != "" {
		return tpg
	}
	return "tpg1"
}

func (l lio) path() string { return "/iscsi/" + l.c.Value("target") + "/" + l.group() + "/luns" }

// of returns the number of a volume's LUN.
func (l lio) of(ctx context.Context, file string) (string, error) {
	if err := l.save(ctx); err != nil { // so that what is read is what holds
		return "", err
	}
	var text []byte
	var err error
	for _, path := range saved {
		if text, err = l.server.Run(ctx, host.Command{Argv: []string{"cat", path}}); err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	var c configuration
	if err := json.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("configuration of the target: %w", err)
	}
	for _, t := range c.Targets {
		for _, g := range t.TPGs {
			for _, lun := range g.LUNs {
				if t.WWN == l.c.Value("target") && "tpg"+strconv.Itoa(g.Tag) == l.group() && lun.Object == "/backstores/block/"+l.backstore(file) {
					return strconv.Itoa(lun.Index), nil
				}
			}
		}
	}
	return "", fmt.Errorf("'%s' has no LUN in target '%s'", file, l.c.Value("target"))
}

// add gives a volume a LUN.
func (l lio) add(ctx context.Context, file string) error {
	base := l.c.Value("zfs-base-path")
	if base == "" {
		base = "/dev"
	}
	name := l.backstore(file)
	err := l.targetcli(ctx, "/backstores/block", "create", "name="+name, "dev="+base+"/"+l.c.Value("pool")+"/"+file)
	if err != nil {
		return err
	}
	for _, words := range [][]string{
		{"/backstores/block/" + name, "set", "attribute", "emulate_tpu=1"}, // discarded blocks are given back to the pool
		{l.path(), "create", "/backstores/block/" + name},
	} {
		if err := l.targetcli(ctx, words...); err != nil {
			return errors.Join(err, l.targetcli(context.WithoutCancel(ctx), "/backstores/block", "delete", name))
		}
	}
	return l.save(ctx)
}

// remove takes the LUN of a volume away. The backstore takes it along.
func (l lio) remove(ctx context.Context, file string) error {
	if err := l.targetcli(ctx, "/backstores/block", "delete", l.backstore(file)); err != nil {
		return err
	}
	return l.save(ctx)
}
