// Package iscsi is the storage type "iscsi": volumes are the LUNs of a target
// that the kernel is logged in to.
//
// It owns the login, and how a LUN is named: host, channel, number of the target
// and of the LUN, then the name of the device below /dev/disk/by-id, which alone
// identifies it, as in 0.0.1.scsi-360000000000000000e00000000010001. It never
// changes anything on the target.
package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/plugins/storage/target"
)

// Plugin is the type.
type Plugin struct {
	target.LUNs
	run  storage.Runner
	root string // of the machine; "" for /
}

// New returns the type. Devices are looked for below root, "" for /.
func New(run storage.Runner, root string) Plugin { return Plugin{target.LUNs{Form: name}, run, root} }

var _ interface {
	storage.Plugin
	storage.Sizer
	storage.VolumeActivator
	storage.Featured
} = Plugin{}

var name = regexp.MustCompile(`^\d+\.\d+\.\d+\.([^\s/]+)$`)

// Path returns the device of a LUN.
func (p Plugin) Path(_ *storage.Config, v storage.Volume, snapshot string) (string, error) {
	if err := p.NoSnapshot(snapshot); err != nil {
		return "", err
	}
	return "/dev/disk/by-id/" + v.File, nil
}

func (p Plugin) iscsiadm(ctx context.Context, argv ...string) (string, error) {
	out, err := p.run.Run(ctx, host.Command{Argv: append([]string{"iscsiadm"}, argv...)})
	return string(out), err
}

// noObjects is what iscsiadm ends with if there are no sessions or records.
const noObjects = 21

// sessions returns the numbers of the sessions with the target of a storage.
func (p Plugin) sessions(ctx context.Context, c *storage.Config) (numbers []string, err error) {
	out, err := p.iscsiadm(ctx, "--mode", "session", "--print", "0")
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Code == noObjects {
		return nil, nil
	}
	// tcp: [1] 192.0.2.1:3260,1 iqn.2003-01.org.example:t1 (non-flash)
	for line := range strings.Lines(out) {
		if words := strings.Fields(line); len(words) > 3 && words[3] == c.Value("target") {
			numbers = append(numbers, strings.Trim(words[1], "[]"))
		}
	}
	return numbers, err
}

// discover returns the portals through which the target can be reached, and
// makes iscsiadm remember them.
func (p Plugin) discover(ctx context.Context, c *storage.Config) (portals []string, err error) {
	out, err := p.iscsiadm(ctx, "--mode", "discovery", "--type", "sendtargets", "--portal", target.Portal(c))
	// 192.0.2.1:3260,1 iqn.2003-01.org.example:t1
	for line := range strings.Lines(out) {
		if words := strings.Fields(line); len(words) == 2 && words[1] == c.Value("target") {
			portal, _, _ := strings.Cut(words[0], ",")
			portals = append(portals, portal)
		}
	}
	if err == nil && len(portals) == 0 {
		err = fmt.Errorf("portal '%s' has no target '%s'", c.Value("portal"), c.Value("target"))
	}
	return portals, err
}

// Activate logs in to the target, or looks for new LUNs of it.
func (p Plugin) Activate(ctx context.Context, c *storage.Config) error {
	numbers, err := p.sessions(ctx, c)
	if err != nil {
		return err
	}
	if len(numbers) > 0 {
		for _, n := range numbers {
			if _, err := p.iscsiadm(ctx, "--mode", "session", "--sid", n, "--rescan"); err != nil {
				return err
			}
		}
		return nil
	}
	if err := target.Online(ctx, target.Portal(c)); err != nil {
		return err
	}
	if _, err := p.discover(ctx, c); err != nil {
		return err
	}
	if _, err := p.iscsiadm(ctx, "--mode", "node", "--targetname", c.Value("target"), "--login"); err != nil {
		return err
	}
	// A node that boots must not wait for the target: this agent logs in.
	_, err = p.iscsiadm(ctx, "--mode", "node", "--targetname", c.Value("target"),
		"--op", "update", "--name", "node.startup", "--value", "manual")
	return err
}

// Deactivate logs out.
func (p Plugin) Deactivate(ctx context.Context, c *storage.Config) error {
	numbers, err := p.sessions(ctx, c)
	if err != nil || len(numbers) == 0 {
		return err
	}
	_, err = p.iscsiadm(ctx, "--mode", "node", "--targetname", c.Value("target"), "--logout")
	return err
}

// Status says whether there is a session. A target has no size.
func (p Plugin) Status(ctx context.Context, c *storage.Config) (storage.Status, error) {
	numbers, err := p.sessions(ctx, c)
	if err == nil && len(numbers) == 0 {
		err = fmt.Errorf("no session with target '%s': %w", c.Value("target"), storage.ErrOffline)
	}
	return storage.Status{}, err
}

// List returns the LUNs of the target as the kernel shows them.
func (p Plugin) List(ctx context.Context, c *storage.Config, q storage.Query) (all []storage.Info, err error) {
	if q.Content != storage.Images || q.VMID != 0 {
		return nil, nil // a LUN is nobody's
	}
	numbers, err := p.sessions(ctx, c)
	if err != nil {
		return nil, err
	}
	links, err := p.links()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		disks, err := filepath.Glob(filepath.Join(p.root, "/sys/class/iscsi_session/session"+n, "device/target*/*/block/*"))
		if err != nil {
			return nil, err
		}
		for _, disk := range disks {
			address := strings.Split(filepath.Base(filepath.Dir(filepath.Dir(disk))), ":")
			link := links[filepath.Base(disk)]
			if len(address) != 4 || link == "" {
				continue // nothing would name it the same tomorrow
			}
			all = append(all, storage.Info{Name: strings.Join(append(address[1:], link), "."), Content: q.Content,
				Format: "raw", Size: p.sectors(disk)})
		}
	}
	slices.SortFunc(all, func(a, b storage.Info) int { return strings.Compare(a.Name, b.Name) })
	// Two sessions with one target show each LUN twice.
	return slices.CompactFunc(all, func(a, b storage.Info) bool { return a.Name == b.Name }), nil
}

// links returns the lasting names of disks: that of the SCSI identifier where
// there is one.
func (p Plugin) links() (map[string]string, error) {
	dir := filepath.Join(p.root, "/dev/disk/by-id")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	names := map[string]string{}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		disk := filepath.Base(to)
		if names[disk] == "" || strings.HasPrefix(e.Name(), "scsi-") && !strings.HasPrefix(names[disk], "scsi-") {
			names[disk] = e.Name()
		}
	}
	return names, err
}

// sectors reads the size of a disk, which the kernel gives in sectors of 512
// bytes whatever the disk has.
func (p Plugin) sectors(disk string) int64 {
	text, err := os.ReadFile(filepath.Join(disk, "size"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n * 512
}

// Size returns the size of a LUN in bytes.
func (p Plugin) Size(ctx context.Context, c *storage.Config, v storage.Volume) (int64, error) {
	all, err := p.List(ctx, c, storage.Query{Content: storage.Images})
	if err != nil {
		return 0, err
	}
	if i := slices.IndexFunc(all, func(i storage.Info) bool { return i.Name == v.Name }); i >= 0 {
		return all[i].Size, nil
	}
	return 0, fmt.Errorf("no such LUN '%s'", v.Name)
}

// ActivateVolume refuses a device that is not there.
func (p Plugin) ActivateVolume(_ context.Context, c *storage.Config, v storage.Volume, snapshot string) error {
	path, err := p.Path(c, v, snapshot)
	if err == nil {
		_, err = os.Stat(filepath.Join(p.root, path))
	}
	return err
}

// DeactivateVolume leaves a LUN: it comes and goes with the login.
func (Plugin) DeactivateVolume(context.Context, *storage.Config, storage.Volume, string) error {
	return nil
}
