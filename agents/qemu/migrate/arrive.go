package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/storage"
	"etcpve/agents/tunnel"
)

// The endings of the sockets in the run directory that QEMU listens on here.
const (
	extMemory = "migrate"
	extDisks  = "nbd"
)

// take makes a volume out of the stream that follows.
func (s *session) take(ctx context.Context, c *tunnel.Conn, q request) (answer, error) {
	id, form, err := s.choose(q)
	if err != nil {
		return answer{}, err
	}
	if err := s.begin(ctx, q.Storage); err != nil {
		return answer{}, err
	}
	if err := c.Send(answer{Stream: form}); err != nil {
		return answer{}, err
	}
	from := c.Reader(roomFor(q, form))
	// Only the names of disks are numbers; others say what the volume is for.
	renamed := strings.Contains(q.File, "-disk-")
	made, err := s.Catalog.Import(ctx, id, storage.Stream{Format: form, Snapshots: q.Snapshots > 0}, renamed, from)
	if err == nil {
		_, err = io.Copy(io.Discard, from) // its end tells whether all of it came
		if err != nil {
			err = errors.Join(err, s.Catalog.Free(context.WithoutCancel(ctx), made.String()))
		}
	}
	if err != nil {
		return answer{}, err
	}
	s.log.Printf("volume '%s' received", made)
	return answer{Volume: made.String()}, s.end(made.String())
}

// roomFor is the most that a stream of a volume may be, in bytes: its size is
// told by the other node, and is what the storage has to have room for.
func roomFor(q request, form string) int64 {
	const head = 8 // the size before the content
	if form == "raw+size" {
		return q.Bytes + head
	}
	const more = int64(1) << 30 // for what an image keeps beside its content
	return (q.Bytes*2)*int64(q.Snapshots+1) + more
}

// drain reads what is on its way, so that the other node can read the answer.
func drain(c *tunnel.Conn) {
	if err := c.SetReadDeadline(time.Now().Add(askWait)); err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
}

// choose picks the name of a volume on its storage here, and the form in which
// it is sent: the first that both nodes know.
func (s *session) choose(q request) (id, form string, err error) {
	_, plugin, err := s.Catalog.Find(q.Storage)
	if err != nil {
		return "", "", err
	}
	stem := q.File
	if i := strings.LastIndexByte(stem, '.'); i >= 0 {
		stem = stem[:i]
	}
	for _, name := range []string{fmt.Sprintf("%d/%s.%s", s.vmid, stem, q.Format), fmt.Sprintf("%d/%s.raw", s.vmid, stem), stem} {
		v, err := plugin.Parse(name)
		if err != nil || v.VMID != s.vmid || v.Content != storage.Images || v.Base != "" {
			continue
		}
		id := storage.ID{Storage: q.Storage, Name: name}.String()
		forms, err := s.Catalog.Streams(id, storage.Stream{Snapshots: q.Snapshots > 0})
		if err != nil {
			return "", "", err
		}
		for _, form := range q.Streams {
			if slices.Contains(forms, form) {
				return id, form, nil
			}
		}
	}
	return "", "", fmt.Errorf("storage '%s' cannot take '%s' in any of the forms %s", q.Storage, q.File, strings.Join(q.Streams, ", "))
}

// begin notes that a volume is about to be made, and end that it was.
func (s *session) begin(ctx context.Context, id string) error {
	before, err := s.owned(ctx, id)
	if err != nil {
		return err
	}
	return s.keep(keyMaking, strings.Join(append([]string{id}, before...), " "))
}

func (s *session) end(volume string) error {
	return errors.Join(s.made(volume), s.keep(keyMaking, nothing))
}

// blank makes a volume that QEMU will fill.
func (s *session) blank(ctx context.Context, q request) (answer, error) {
	_, plugin, err := s.Catalog.Find(q.Storage)
	if err != nil {
		return answer{}, err
	}
	r := storage.Request{VMID: s.vmid, Bytes: q.Bytes}
	if _, err := plugin.Parse(fmt.Sprintf("%d/vm-%d-disk-0.%s", s.vmid, s.vmid, q.Format)); err == nil {
		r.Format = q.Format
	}
	if err := s.begin(ctx, q.Storage); err != nil {
		return answer{}, err
	}
	made, err := s.Catalog.Alloc(ctx, q.Storage, r)
	if err != nil {
		return answer{}, err
	}
	s.log.Printf("volume '%s' created", made)
	return answer{Volume: made.String()}, s.end(made.String())
}

// start starts a QEMU that waits for the state of the VM, and serves the disks
// that come before it.
func (s *session) start(ctx context.Context, q request) error {
	v := q.Arrival
	v.VMID = s.vmid
	if err := s.keep(keyStarted, "1"); err != nil {
		return err
	}
	if err := s.Arrivals.Receive(ctx, v); err != nil {
		return err
	}
	// Disks are taken over when the guest runs, not before: until then the other
	// QEMU may get them back.
	err := s.Command(ctx, s.vmid, "migrate-set-capabilities", map[string]any{"capabilities": []map[string]any{
		{"capability": "late-block-activate", "state": true},
	}}, nil)
	if err != nil {
		return err
	}
	if len(q.Disks) > 0 {
		err := s.Command(ctx, s.vmid, "nbd-server-start", map[string]any{"addr": map[string]any{
			"type": "unix", "data": map[string]any{"path": s.socket(extDisks)},
		}}, nil)
		if err != nil {
			return err
		}
	}
	for _, key := range q.Disks {
		o, err := v.Config.Options(key, "file")
		if err != nil {
			return err
		}
		err = s.Command(ctx, s.vmid, "block-export-add", map[string]any{
			"type": "nbd", "id": "migrate-" + key, "name": key, "node-name": blockdev.FormatName(key, o["file"]), "writable": true,
		}, nil)
		if err != nil {
			return err
		}
	}
	s.log.Printf("QEMU waits for the state of VM %d", s.vmid)
	return s.Command(ctx, s.vmid, "migrate-incoming", map[string]any{"uri": "unix:" + s.socket(extMemory)}, nil)
}

// socket is where QEMU, or this agent, listens in the run directory.
func (j job) socket(ext string) string { return cmdline.RunFile(j.RunDir, j.vmid, ext) }

// join connects the other node with a socket of QEMU.
func (s *session) join(ctx context.Context, c *tunnel.Conn, ask string) error {
	ext := extMemory
	if ask == askDisk {
		ext = extDisks
	}
	local, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket(ext))
	if err != nil {
		return err
	}
	defer local.Close()
	defer context.AfterFunc(ctx, func() { local.Close() })()
	return c.Join(local)
}

// readyWait is how long the end of a state may take to be loaded.
const readyWait = 2 * time.Minute

// ready waits until the state of the VM is loaded, and closes what filled it.
func (s *session) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	for {
		var p progress
		if err := s.Command(ctx, s.vmid, "query-migrate", nil, &p); err != nil {
			return err
		}
		switch p.Status {
		case "completed":
			return s.closeDisks(ctx)
		case "failed":
			return fmt.Errorf("the state was not loaded: %s", p.Error)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) closeDisks(ctx context.Context) error {
	var exports []struct{ ID string }
	if err := s.Command(ctx, s.vmid, "query-block-exports", nil, &exports); err != nil || len(exports) == 0 {
		return err
	}
	return s.Command(ctx, s.vmid, "nbd-server-stop", nil, nil)
}
