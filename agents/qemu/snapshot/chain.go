package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/storage/image"
)

// A chainedDisk is a volume whose states are files, as a running QEMU has it
// open. QEMU must know each file by the name that it has: it may open a file once
// more by that name, to write it or not to any more.
type chainedDisk struct {
	volumes
	drive  blockdev.Drive
	volume string
	files  []string          // of the volume and its states, newest first
	nodes  map[string]string // QEMU's format nodes, by file
}

// A blockNode is a node as QEMU tells of it.
type blockNode struct {
	Name   string `json:"node-name"`
	Driver string `json:"drv"`
	File   string
}

// filename is the file that a node stands for.
func (n blockNode) filename() string {
	text, ok := strings.CutPrefix(n.File, "json:")
	if !ok {
		return n.File
	}
	var said struct{ File struct{ Filename string } }
	_ = json.Unmarshal([]byte(text), &said) // what is none of ours is not understood
	return said.File.Filename
}

func (d volumes) chained(ctx context.Context, key, volume string, files []string) (*chainedDisk, error) {
	r, _, err := d.Record(d.VM)
	if err != nil {
		return nil, err
	}
	options, err := r.Config.Options(key, "file")
	if err != nil {
		return nil, err
	}
	var all []blockNode
	if err := d.Command(ctx, d.VM, "query-named-block-nodes", map[string]any{"flat": true}, &all); err != nil {
		return nil, err
	}
	disk := &chainedDisk{d, blockdev.Drive{Key: key, Options: options}, volume, files, map[string]string{}}
	for _, n := range all {
		if n.Driver == "qcow2" || n.Driver == "raw" {
			disk.nodes[filepath.Clean(n.filename())] = n.Name
		}
	}
	return disk, nil
}

func at(path string) blockdev.Volume { return blockdev.Volume{Path: path, Format: "qcow2"} }

// below returns the node that the file at a place of the chain stands on, and how
// its header writes that file; "" for nothing.
func (c *chainedDisk) below(i int) (node, backing string, err error) {
	head, err := image.Read(c.files[i], "qcow2")
	if err != nil || head.Backing == "" {
		return "", "", err
	}
	path := head.Backing
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(c.files[i]), path)
	}
	if node = c.nodes[path]; node == "" {
		err = fmt.Errorf("QEMU has no node for %s", path)
	}
	return node, head.Backing, err
}

func (c *chainedDisk) command(ctx context.Context, command string, args map[string]any) error {
	return c.Command(ctx, c.VM, command, args, nil)
}

func (c *chainedDisk) drop(ctx context.Context, node any) error {
	return c.command(ctx, "blockdev-del", map[string]any{"node-name": node})
}

// extend keeps the state of the volume: the storage gives its file another name
// and begins a new one, which QEMU puts on top.
func (c *chainedDisk) extend(ctx context.Context, name string) error {
	current := c.files[0]
	top := c.nodes[current]
	if top == "" {
		return fmt.Errorf("QEMU has no node for %s", current)
	}
	below, _, err := c.below(0)
	if err != nil {
		return err
	}
	if err := c.Catalog.Snapshot(ctx, c.volume, name); err != nil {
		return err
	}
	state, err := c.Catalog.Blockdev(c.volume, name)
	if err == nil {
		err = c.reopen(ctx, top, state.Path, name, below)
	}
	if err != nil {
		return errors.Join(err, c.Catalog.Unchain(context.WithoutCancel(ctx), c.volume, name))
	}
	overlay := blockdev.Overlay(c.drive, at(current), name)
	if err = c.command(ctx, "blockdev-add", overlay); err == nil {
		err = c.command(ctx, "blockdev-snapshot", map[string]any{"node": top, "overlay": overlay["node-name"]})
		if err != nil {
			_ = c.drop(context.WithoutCancel(ctx), overlay["node-name"])
		}
	}
	if err != nil {
		return errors.Join(err, c.back(context.WithoutCancel(ctx), top, name, below))
	}
	return nil
}

// reopen lets a format node go on with its file under another name.
func (c *chainedDisk) reopen(ctx context.Context, node, path, state, below string) error {
	file := blockdev.File(c.drive, at(path), state)
	if err := c.command(ctx, "blockdev-add", file); err != nil {
		return err
	}
	options := blockdev.Reopened(c.drive, at(path), node, file, below)
	if err := c.command(ctx, "blockdev-reopen", map[string]any{"options": []any{options}}); err != nil {
		return errors.Join(err, c.drop(context.WithoutCancel(ctx), file["node-name"]))
	}
	return nil
}

// back undoes what the storage did for a state that QEMU did not get to.
func (c *chainedDisk) back(ctx context.Context, top, name, below string) error {
	if err := c.Catalog.Unchain(ctx, c.volume, name); err != nil {
		return err
	}
	return c.reopen(ctx, top, c.files[0], name+" undone", below)
}

// shorten removes a state: QEMU pulls what only that state has into the file
// above, then the storage removes it.
func (c *chainedDisk) shorten(ctx context.Context, name string) error {
	state, err := c.Catalog.Blockdev(c.volume, name)
	if err != nil {
		return err
	}
	i := slices.Index(c.files, state.Path)
	if i < 1 { // begun and not finished, or not there
		return c.Catalog.DeleteSnapshot(ctx, c.volume, name)
	}
	above, node := c.nodes[c.files[i-1]], c.nodes[state.Path]
	if i == 1 && (above == "") != (node == "") {
		// An agent came no further than the storage: QEMU has one file only.
		if node == "" {
			return c.Catalog.Unchain(ctx, c.volume, name)
		}
		below, _, err := c.below(1)
		if err != nil {
			return err
		}
		return c.back(ctx, node, name, below)
	}
	if above == "" || node == "" {
		return fmt.Errorf("QEMU has no node for %s", state.Path)
	}
	if err := c.merge(ctx, i, above, node); err != nil {
		return err
	}
	// Nobody needs these nodes any more, and they hold the file open.
	for _, n := range []string{node, fmt.Sprint(blockdev.File(c.drive, at(state.Path), name)["node-name"])} {
		if strings.HasPrefix(n, blockdev.OverlayPrefix(c.drive.Key)) {
			_ = c.drop(ctx, n) // where it was opened so
		}
	}
	return c.Catalog.DeleteSnapshot(ctx, c.volume, name)
}

// merge pulls the file at a place of the chain into the one above.
func (c *chainedDisk) merge(ctx context.Context, i int, above, node string) error {
	below, backing, err := c.below(i)
	if err != nil {
		return err
	}
	args := map[string]any{"job-id": "snapshot-" + c.drive.Key, "device": above, "auto-dismiss": false}
	if below != "" {
		maps.Copy(args, map[string]any{"base-node": below, "backing-file": backing})
	}
	c.Say("merging '%s' into '%s'", filepath.Base(c.files[i]), filepath.Base(c.files[i-1]))
	return c.stream(ctx, args)
}

// A blockJob is a job as QEMU tells of it.
type blockJob struct{ ID, Status, Error string }

// jobPoll is how often a block job is looked at.
const jobPoll = 100 * time.Millisecond

// stream runs the block job and waits for its end.
func (c *chainedDisk) stream(ctx context.Context, args map[string]any) error {
	id := args["job-id"]
	if err := c.command(ctx, "block-stream", args); err != nil {
		return err
	}
	for {
		var jobs []blockJob
		if err := c.Command(ctx, c.VM, "query-jobs", nil, &jobs); err != nil {
			return err
		}
		n := slices.IndexFunc(jobs, func(j blockJob) bool { return j.ID == id })
		switch {
		case n < 0:
			return fmt.Errorf("block job %s is gone", id)
		case jobs[n].Status == "concluded":
			err := c.command(ctx, "job-dismiss", map[string]any{"id": id})
			if jobs[n].Error != "" {
				err = fmt.Errorf("block job %s: %s", id, jobs[n].Error)
			}
			return err
		}
		select {
		case <-time.After(jobPoll):
		case <-ctx.Done():
			_ = c.command(context.WithoutCancel(ctx), "block-job-cancel", map[string]any{"device": id, "force": true})
			return ctx.Err()
		}
	}
}

// onChain does a step on a volume that QEMU has open.
func (d volumes) onChain(ctx context.Context, key, volume string, files []string, step func(*chainedDisk) error) error {
	c, err := d.chained(ctx, key, volume, files)
	if err != nil {
		return fmt.Errorf("drive-%s: %w", key, err)
	}
	if err := step(c); err != nil {
		return fmt.Errorf("drive-%s: %w", key, err)
	}
	return nil
}
