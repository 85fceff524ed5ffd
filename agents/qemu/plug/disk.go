package plug

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/qemu/cloudinit"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/hotplug"
	"etcpve/agents/qemu/throttle"
)

func (m Machine) driveOf(ctx context.Context, key string) (cmdline.Drive, cmdline.Config, error) {
	g, facts, err := m.With(ctx, key)
	if err != nil {
		return cmdline.Drive{}, nil, err
	}
	d, err := cmdline.DriveOf(g, facts, key)
	return d, g.Config, err
}

func nodeArgs(key string) map[string]any { return map[string]any{"node-name": cmdline.NodeName(key)} }

func (m Machine) plugDisk(ctx context.Context, c hotplug.Action) (bool, error) {
	d, config, err := m.driveOf(ctx, c.Key)
	if err != nil {
		return false, err
	}
	devices, err := m.devices(ctx)
	if err != nil {
		return false, err
	}
	if devices[c.Key] { // an agent before this one came no further
		return true, m.Throttle(ctx, config, c.Key)
	}
	if err := m.clearDisk(ctx, c.Key); err != nil {
		return false, err
	}
	if d.IOThread != "" && !devices[d.Controller.ID()] { // what is left of an agent before
		if err := m.try(ctx, "object-del", byID("%s", d.IOThread)); err != nil {
			return false, err
		}
	}
	undo := undoer{Machine: m}
	if d.IOThread != "" && (d.Controller.ID() == "" || !devices[d.Controller.ID()]) {
		undo.run(ctx, "object-add", map[string]any{"qom-type": "iothread", "id": d.IOThread}, "object-del", byID("%s", d.IOThread))
	}
	if d.Blockdev != nil {
		undo.run(ctx, "object-add", d.Limit.Object(), "object-del", byID("%s", throttle.GroupName(c.Key)))
		undo.run(ctx, "blockdev-add", d.Blockdev, "blockdev-del", nodeArgs(c.Key))
	}
	if id := d.Controller.ID(); id != "" && !devices[id] {
		undo.run(ctx, "device_add", d.Controller.Arguments(), "device_del", byID("%s", id))
	}
	undo.run(ctx, "device_add", d.Device.Arguments(), "device_del", byID("%s", c.Key))
	undo.also(func() error { return m.Throttle(ctx, config, c.Key) })
	return undo.err == nil, undo.back(ctx)
}

// unplugDisk takes a disk away once the guest has released it, with everything
// that was made for it. The shared controllers stay.
func (m Machine) unplugDisk(ctx context.Context, c hotplug.Action) (bool, error) {
	if gone, err := m.unplug(ctx, c.Key); err != nil || !gone {
		return false, err
	}
	if err := m.clearDisk(ctx, c.Key); err != nil {
		return false, err
	}
	return true, m.unplugOwn(ctx, c.Key)
}

// clearDisk removes what a disk leaves behind, where it is there. QEMU lets go of
// the volume of a device that is gone a moment later.
func (m Machine) clearDisk(ctx context.Context, key string) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	late := time.After(releaseWait)
	for {
		left, err := m.clearNodes(ctx, key)
		if err != nil {
			return err
		}
		if left == "" {
			return m.try(ctx, "object-del", byID("%s", throttle.GroupName(key)))
		}
		select {
		case <-poll.C:
		case <-late:
			return fmt.Errorf("QEMU does not let go of %s", left)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A node is a block node; Depth counts those it stands on.
type node struct {
	Name  string `json:"node-name"`
	Depth int    `json:"backing_file_depth"`
}

// clearNodes removes the nodes of a disk, the topmost first, and returns one that
// is in use. Besides its own there are those that it was given when its states
// were kept.
func (m Machine) clearNodes(ctx context.Context, key string) (left string, err error) {
	var nodes []node
	if err := m.QMP(ctx, "query-named-block-nodes", nil, &nodes); err != nil {
		return "", err
	}
	slices.SortStableFunc(nodes, func(a, b node) int { return b.Depth - a.Depth })
	for _, n := range nodes {
		if n.Name != cmdline.NodeName(key) && !strings.HasPrefix(n.Name, blockdev.OverlayPrefix(key)) {
			continue
		}
		err := m.QMP(ctx, "blockdev-del", map[string]any{"node-name": n.Name}, nil)
		switch {
		case err != nil && refused(err) == nil:
			return "", err
		case err != nil:
			left = n.Name
		}
	}
	return left, nil
}

// unplugOwn removes the controller and the thread that only this disk used.
func (m Machine) unplugOwn(ctx context.Context, key string) error {
	bus, n, _ := cmdline.DriveBus(key)
	controller := byID("virtioscsi%d", n)["id"].(string)
	thread := "iothread-" + key
	if bus == "scsi" {
		if devices, err := m.devices(ctx); err != nil || !devices[controller] {
			return err
		}
		thread = "iothread-" + controller
		// A controller the guest holds on to takes the next disk of this number.
		if gone, err := m.unplug(ctx, controller); err != nil || !gone {
			return err
		}
	}
	return m.try(ctx, "object-del", byID("%s", thread))
}

func (m Machine) changeThrottle(ctx context.Context, c hotplug.Action) (bool, error) {
	g, _, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	return true, m.Throttle(ctx, g.Config, c.Key)
}

// Throttle limits a drive in both places where QEMU keeps a limit.
func (m Machine) Throttle(ctx context.Context, config cmdline.Config, key string) error {
	o, err := config.Options(key, "file")
	if err != nil || o["file"] == "none" {
		return err
	}
	limit, err := throttle.Parse(key, o)
	if err != nil {
		return err
	}
	path, limits := limit.Group()
	err = m.QMP(ctx, "qom-set", map[string]any{"path": path, "property": "limits", "value": limits}, nil)
	if err != nil {
		return err
	}
	return m.QMP(ctx, "block_set_io_throttle", limit.Arguments(), nil)
}

func (m Machine) changeMedium(ctx context.Context, c hotplug.Action) (bool, error) {
	return m.swap(ctx, c.Key, func() error { return nil })
}

// changeCloudInit lets the guest see a cloud-init drive that is made anew.
func (m Machine) changeCloudInit(ctx context.Context, c hotplug.Action) (bool, error) {
	g, _, err := m.With(ctx, c.Key)
	if err != nil {
		return false, err
	}
	key := cloudinit.Drive(g.Config)
	if key == "" {
		return false, errors.New("the VM runs without a cloud-init drive")
	}
	// The drive may be about to get another volume: that one, then.
	_, config, err := m.driveOf(ctx, key)
	if err != nil {
		return false, err
	}
	put, err := m.CloudInit(ctx, key, config[key])
	if err != nil {
		return false, err
	}
	return m.swap(ctx, key, put)
}

// swap opens the tray, takes the old medium out, puts the one that is desired
// in and closes the tray; between is done while the drive is empty, which it does
// not stay if that fails. A guest may have locked the tray; it is opened anyhow.
func (m Machine) swap(ctx context.Context, key string, between func() error) (bool, error) {
	d, _, err := m.driveOf(ctx, key)
	if err != nil {
		return false, err
	}
	drive := byID("%s", key)
	if err := m.open(ctx, key, "blockdev-remove-medium", drive); err != nil {
		return false, err
	}
	if err := m.clearDisk(ctx, key); err != nil {
		return false, err
	}
	failure := between()
	if d.Blockdev == nil {
		return failure == nil, errors.Join(failure, m.QMP(ctx, "blockdev-close-tray", drive, nil))
	}
	undo := undoer{Machine: m}
	undo.run(ctx, "object-add", d.Limit.Object(), "object-del", byID("%s", throttle.GroupName(key)))
	undo.run(ctx, "blockdev-add", d.Blockdev, "blockdev-del", nodeArgs(key))
	undo.also(func() error {
		undo.done = append(undo.done, command{"blockdev-remove-medium", drive}) // which an empty drive bears
		return m.open(ctx, key, "blockdev-insert-medium", map[string]any{"id": key, "node-name": cmdline.NodeName(key)})
	})
	undo.run(ctx, "blockdev-close-tray", drive, "blockdev-open-tray", drive)
	return failure == nil && undo.err == nil, errors.Join(failure, undo.back(ctx))
}

// openTries is how often a tray is opened that the guest closes again.
const openTries = 5

// open runs a command that needs an open tray, which the guest may close at any
// moment: Linux does as soon as somebody looks for a medium.
func (m Machine) open(ctx context.Context, key, command string, args map[string]any) (err error) {
	for range openTries {
		if err = m.QMP(ctx, "blockdev-open-tray", map[string]any{"id": key, "force": true}, nil); err != nil {
			return err
		}
		if err = m.QMP(ctx, command, args, nil); refused(err) == nil {
			break
		}
	}
	return err
}
