package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/backend"
	"etcpve/agents/qemu/cmdline"
)

// recordExt is the ending of the files that remember a VM.
const recordExt = ".json"

// A Record is what is remembered of a VM that was started, in the run
// directory and so until the node is booted.
type Record struct {
	Process  host.Process   `json:"process"`
	Config   cmdline.Config `json:"config"`             // in effect: as started, and what was plugged since
	Accel    string         `json:"accel"`              // kvm, or tcg and why
	Begun    bool           `json:"begun"`              // the guest was let run or left paused on purpose
	Hooked   bool           `json:"hooked,omitempty"`   // its hookscript knows that it started
	Balloon  int            `json:"balloon,omitempty"`  // MiB asked for last
	PageKiB  int            `json:"pageKiB,omitempty"`  // size of its huge pages
	Pages    int            `json:"pages,omitempty"`    // huge pages set aside for it
	Stopping time.Time      `json:"stopping,omitzero"`  // when the guest was asked to switch off
	Pressed  time.Time      `json:"pressed,omitzero"`   // when it was asked last
	Crash    string         `json:"crash,omitempty"`    // why QEMU is gone
	Mark     string         `json:"mark,omitempty"`     // of the files when the crash was seen
	Moving   []string       `json:"moving,omitempty"`   // keys of disks whose volume a task exchanges
	Warnings []string       `json:"warnings,omitempty"` // what this QEMU could not do as configured
}

func (a *Agent) recordFile(vmid uint32) string {
	return fmt.Sprintf("%s/%d%s", a.RunDir, vmid, recordExt)
}

// load returns the record of a VM; ok is false if it has none.
func (a *Agent) load(vmid uint32) (r Record, ok bool, err error) {
	content, err := os.ReadFile(a.recordFile(vmid))
	if errors.Is(err, os.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		return r, false, fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	return r, true, nil
}

// save replaces the record of a VM.
func (a *Agent) save(vmid uint32, r Record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	name := a.recordFile(vmid)
	if err := os.WriteFile(name+".tmp", content, 0o600); err != nil {
		return fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	return nil
}

// update changes the record of a VM.
func (a *Agent) update(vmid uint32, change func(*Record)) error {
	r, ok, err := a.load(vmid)
	if err != nil || !ok {
		return errors.Join(err, notThere(vmid, ok))
	}
	change(&r)
	return a.save(vmid, r)
}

func notThere(vmid uint32, ok bool) error {
	if ok {
		return nil
	}
	return fmt.Errorf("vm %d: no record of it", vmid)
}

// keeps reports whether a file of the run directory outlives its VM: logs, and
// the wish that its next start goes on from a saved state.
func keeps(ext string) bool {
	return ext == "log" || strings.HasSuffix(ext, ".log") || ext == ResumeExt
}

// forget removes all traces of a VM that does not run, except its logs; its
// record goes last.
func (a *Agent) forget(ctx context.Context, vmid uint32) error {
	traces, err := filepath.Glob(cmdline.RunFile(a.RunDir, vmid, "*")) // neither part has a special character
	overlays, err2 := filepath.Glob(filepath.Join(a.scratch(), fmt.Sprintf("%d-*.overlay", vmid)))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	for _, name := range append(traces, overlays...) {
		_, ext, _ := strings.Cut(filepath.Base(name), ".")
		switch {
		case keeps(ext) || name == a.recordFile(vmid):
			continue
		case ext == "swtpm" || strings.HasPrefix(ext, "virtiofs"):
			err = backend.Stop(ctx, name)
		default:
			err = os.Remove(name)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("vm %d: %w", vmid, err)
		}
	}
	if err := os.Remove(a.recordFile(vmid)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	return nil
}
