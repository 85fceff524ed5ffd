package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"etcpve/agents/qemu/backend"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/record"
)

// records are the records of this node's VMs.
func (a *Agent) records() record.Dir { return record.Dir(a.RunDir) }

// keeps reports whether a file of the run directory outlives its VM: logs, and
// what was asked of its next start.
func keeps(ext string) bool {
	return ext == "log" || strings.HasSuffix(ext, ".log") || ext == ResumeExt || ext == SkipLockExt
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
		case keeps(ext) || name == a.records().File(vmid):
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
	if err := os.Remove(a.records().File(vmid)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("vm %d: %w", vmid, err)
	}
	return nil
}
