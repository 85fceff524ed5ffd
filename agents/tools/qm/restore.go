package qm

import (
	"context"
	"os"
	"path/filepath"

	"etcpve/agents/qemu/verbs"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/schema"
)

// NewRestore returns qmrestore for a place: another way to write qm create with an
// archive.
func NewRestore(p Place) *cli.Tool {
	archive := cli.Param{Name: "archive", Rule: about(schema.Text().Long(255).Must(), "The archive: a volume or a path.")}
	return &cli.Tool{Name: "qmrestore", Summary: "restore virtual machines", Commands: []cli.Command{
		{Summary: "Make a VM of an archive that vzdump has made.", Run: p.restore, Args: append([]cli.Param{archive}, vmid()...), Options: schema.Keys{
			"bwlimit":      about(schema.Number().Min(0), "Limit in KiB/s."),
			"force":        about(schema.Truth(), "Replace a VM that exists, once the other is complete."),
			"ha-managed":   about(schema.Truth().Else(0), "Have HA look after it."),
			"live-restore": about(schema.Truth(), "Start it while it is restored, from a backup server."),
			"pool":         pool(),
			"start":        about(schema.Truth().Else(0), "Start it too."),
			"storage":      about(schema.Named("pve-storage-id"), "Storage of the disks; default their own."),
			"unique":       about(schema.Truth(), "Give it addresses of its own."),
		}},
	}}
}

// restore has the agent read an archive: it is the agent who needs to find it.
func (p Place) restore(ctx context.Context, c *cli.Call) error {
	params := parameters(c)
	if c.Value("archive") == "-" {
		return wording("archive: a task has no standard input; save the archive to a file first")
	}
	if _, err := os.Stat(c.Value("archive")); err == nil {
		if params["archive"], err = filepath.Abs(c.Value("archive")); err != nil {
			return err
		}
	}
	return p.do(ctx, c, verbs.Restore, vmidOf(c), params)
}
