package firmware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"etcpve/agents/host"
	"etcpve/agents/qemu/blockdev"
	"etcpve/agents/qemu/qdev"
)

// A Runner runs a command of the machine.
type Runner interface {
	Run(ctx context.Context, c host.Command) ([]byte, error)
}

// Fill makes a variable store from its template where it holds nothing but
// zeros, as a volume that was just allocated does, or is a file that is not
// there. One that the firmware has written to is left alone. Dir is for what
// has to be looked at in another form.
func Fill(ctx context.Context, run Runner, template string, store blockdev.Volume, dir string) error {
	content, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	if store.Format == "raw" && store.Protocol == nil {
		return fillRaw(content, store)
	}
	image := store.Path
	if store.Protocol != nil {
		image = "json:" + qdev.JSON(store.Protocol)
	}
	seen := filepath.Join(dir, filepath.Base(template)+".seen")
	defer os.Remove(seen)
	if _, err := run.Run(ctx, host.Command{Argv: []string{"qemu-img", "convert", "-q", "-f", store.Format, "-O", "raw", image, seen}}); err != nil {
		return err
	}
	now, err := os.ReadFile(seen)
	switch {
	case err != nil:
		return err
	case !blank(now):
		return nil
	case len(now) < len(content):
		return fmt.Errorf("%d bytes are too few for %s, which has %d", len(now), template, len(content))
	}
	_, err = run.Run(ctx, host.Command{Argv: []string{"qemu-img", "convert", "-q", "-n", "-f", "raw", "-O", store.Format, template, image}})
	return err
}

func fillRaw(content []byte, store blockdev.Volume) error {
	f, err := os.OpenFile(store.Path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) && !store.Device {
		return writeNew(store.Path, content)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	now := make([]byte, len(content))
	n, err := io.ReadFull(f, now)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case !blank(now[:n]):
		return nil
	case n < len(content) && store.Device:
		return fmt.Errorf("%s has %d bytes, the variables need %d", store.Path, n, len(content))
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeNew leaves either the whole file or none.
func writeNew(path string, content []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func blank(content []byte) bool { return len(bytes.Trim(content, "\x00")) == 0 }
