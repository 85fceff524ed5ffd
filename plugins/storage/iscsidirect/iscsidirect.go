// Package iscsidirect is the storage type "iscsidirect": volumes are the LUNs of
// an iSCSI target that QEMU reaches by itself, without the kernel.
//
// It owns the names of LUNs, lun1, and how QEMU opens them. It never logs in
// anywhere but to look, and never changes anything on the target.
package iscsidirect

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/target"
)

// Plugin is the type.
type Plugin struct {
	target.LUNs
	run       storage.Runner
	initiator string // the file that names this node to targets
}

// New returns the type.
func New(run storage.Runner) Plugin {
	return Plugin{target.LUNs{Form: name}, run, "/etc/iscsi/initiatorname.iscsi"}
}

var _ interface {
	storage.Plugin
	storage.Sizer
	storage.Blockdever
	storage.Featured
} = Plugin{}

var name = regexp.MustCompile(`^lun(\d{1,5})$`)

// Path returns the address of a LUN, as QEMU and libiscsi write it.
func (p Plugin) Path(c *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if err := p.NoSnapshot(snapshot); err != nil {
		return "", err
	}
	return target.Address(c, v.File), nil
}

// Blockdev returns how QEMU opens a LUN.
func (p Plugin) Blockdev(c *storage.Config, v storage.Volume, snapshot string) (map[string]any, error) {
	if _, err := p.Path(c, v, snapshot); err != nil {
		return nil, err
	}
	node, err := target.Node(c, v.File)
	if err != nil {
		return nil, err
	}
	if name := p.initiatorName(); name != "" {
		node["initiator-name"] = name
	}
	return node, nil
}

// initiatorName is what this node calls itself, "" for QEMU's own choice.
func (p Plugin) initiatorName() string {
	text, err := os.ReadFile(p.initiator)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "InitiatorName="); ok {
			return name
		}
	}
	return ""
}

// Activate sees whether the portal answers.
func (Plugin) Activate(ctx context.Context, c *storage.Config) error {
	return target.Online(ctx, target.Portal(c))
}

// Deactivate has nothing to undo.
func (Plugin) Deactivate(context.Context, *storage.Config) error { return nil }

// Status says whether the portal answers. A target has no size.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (storage.Status, error) {
	return storage.Status{}, p.Activate(ctx, c)
}

// List returns the LUNs of the target that are disks.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) ([]storage.Info, error) {
	if q.Content != storage.Images || q.VMID != 0 {
		return nil, nil // a LUN is nobody's
	}
	argv := []string{"iscsi-ls", "--show-luns", "iscsi://" + target.Portal(c)}
	if name := p.initiatorName(); name != "" {
		argv = slices.Insert(argv, 1, "--initiator-name="+name)
	}
	out, err := p.run.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	var all []storage.Info
	for _, lun := range luns(string(out), c.Value("target")) {
		v, err := p.Parse("lun" + lun)
		if err != nil {
			continue
		}
		size, err := p.Size(ctx, c, v)
		if err != nil {
			return nil, err
		}
		all = append(all, storage.Info{Name: v.Name, Content: q.Content, Format: "raw", Size: size})
	}
	return all, nil
}

// disk is a line that iscsi-ls prints below a target's.
var disk = regexp.MustCompile(`^Lun:(\d+)\s+Type:DIRECT_ACCESS`)

// luns finds the disks of a target in what iscsi-ls prints.
func luns(text, target string) (found []string) {
	ours := false
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Target:"); ok {
			name, _, _ := strings.Cut(rest, " ")
			ours = name == target
		} else if m := disk.FindStringSubmatch(line); m != nil && ours && !slices.Contains(found, m[1]) {
			found = append(found, m[1])
		}
	}
	return found
}

// Size asks the LUN for its size in bytes.
func (p Plugin) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	node, err := p.Blockdev(c, v, "")
	if err != nil {
		return 0, err
	}
	b := storage.Blockdev{Format: "raw", Node: node}
	out, err := p.run.Run(ctx, host.Command{Argv: []string{"qemu-img", "info", "--output=json", "--image-opts", b.ImageOpts()}})
	if err != nil {
		return 0, err
	}
	var said struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return 0, fmt.Errorf("qemu-img info: %w", err)
	}
	return said.Size, nil
}
