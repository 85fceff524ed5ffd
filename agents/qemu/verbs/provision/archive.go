package provision

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/vma"
	"etcpve/agents/storage"
)

// An archive is a file with a VM that is being read.
type archive struct {
	*vma.Archive
	close func() error
}

// unpackers are the programs for archives that are compressed, by their mark. Each
// has the name of its Debian package.
var unpackers = []struct {
	mark string
	argv []string
}{
	{"\x28\xb5\x2f\xfd", []string{"zstd", "-q", "-d", "-c"}},
	{"\x1f\x8b", []string{"gzip", "-d", "-c"}},
	{"\x89LZO", []string{"lzop", "-d", "-c"}},
}

// openArchive opens the archive a task is about: a volume or a path.
func (j Work) openArchive(ctx context.Context) (*archive, error) {
	path, err := j.archivePath()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	from, wait, err := unpack(ctx, &throttled{Reader: f, ctx: ctx, perSecond: j.Limit(ctx, "restore", j.Text("storage")) << 10, began: time.Now()})
	if err == nil {
		var a *vma.Archive
		if a, err = vma.Open(from); err == nil {
			return &archive{Archive: a, close: func() error {
				// What is behind an archive that was read whole is not needed.
				cancel()
				return errors.Join(wait(), f.Close())
			}}, nil
		}
	}
	cancel()
	return nil, errors.Join(fmt.Errorf("archive '%s': %w", path, err), wait(), f.Close())
}

func (j Work) archivePath() (string, error) {
	id := j.Text("archive")
	if filepath.IsAbs(id) {
		return id, nil
	}
	at, err := j.Catalog.Locate(id)
	switch {
	case err != nil:
		return "", fmt.Errorf("archive: %w", err)
	case at.Config.Type == "pbs":
		return "", errors.New("archive: restoring from a backup server is not possible here")
	case at.Volume.Content != storage.Backup:
		return "", fmt.Errorf("archive: volume '%s' is no backup", id)
	}
	return j.Catalog.Path(id)
}

// unpack decompresses what is compressed; wait returns when nothing reads any more.
func unpack(ctx context.Context, from io.Reader) (out io.Reader, wait func() error, err error) {
	head := bufio.NewReaderSize(from, 1<<16)
	wait = func() error { return nil }
	mark, err := head.Peek(4)
	if err != nil {
		return nil, wait, err
	}
	for _, u := range unpackers {
		if !bytes.HasPrefix(mark, []byte(u.mark)) {
			continue
		}
		program := u.argv[0]
		if _, err := exec.LookPath(program); err != nil {
			return nil, wait, fmt.Errorf("is compressed, and program '%s' is not there to unpack it: install the package %s", program, program)
		}
		read, write := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := host.System{}.Run(ctx, host.Command{Argv: u.argv, Input: head, Output: write})
			write.CloseWithError(err) // nil is the end
		}()
		return read, func() error { read.Close(); <-done; return nil }, nil
	}
	return head, wait, nil
}

// A throttled reader keeps to a number of bytes a second, 0 for any number.
type throttled struct {
	io.Reader
	ctx       context.Context
	perSecond int64
	began     time.Time
	read      int64
}

func (r *throttled) Read(p []byte) (int, error) {
	if r.perSecond > 0 {
		due := r.began.Add(time.Duration(float64(r.read) / float64(r.perSecond) * float64(time.Second)))
		select {
		case <-time.After(time.Until(due)):
		case <-r.ctx.Done():
		}
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.Reader.Read(p)
	r.read += int64(n)
	return n, err
}
