package bell

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sys/unix"
)

// attempts bounds how often a call is repeated that met a name which another
// process had looked up in the same moment.
const attempts = 5

// Run is the life of the bell process: it repeats the rings it reads from in
// below the mount, and answers on out. It returns nil when in ends.
func Run(in io.Reader, out io.Writer, m Mount) error {
	// The file system knows the bell by the thread its requests come from.
	runtime.LockOSThread()
	if err := binary.Write(out, binary.LittleEndian, uint32(unix.Gettid())); err != nil {
		return fmt.Errorf("bell: report thread: %w", err)
	}
	r := bufio.NewReader(in)
	for {
		err := batch(r, m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := out.Write([]byte{done}); err != nil {
			return fmt.Errorf("bell: answer: %w", err)
		}
	}
}

// batch repeats one batch of rings. The mount is held only meanwhile, so that an
// operator can unmount it.
func batch(r *bufio.Reader, m Mount) error {
	if _, err := r.Peek(1); err != nil {
		return err
	}
	dir, err := m.open()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return decode(r, func(ring Ring) { repeat(dir, ring) })
}

// repeat makes one call. A failure means that the place is gone by now, and
// with it whoever could have watched it; its removal is a ring of its own.
func repeat(dir int, ring Ring) {
	for range attempts {
		err := call(dir, ring)
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ESTALE) {
			return
		}
	}
}

// look has the kernel ask for a name, whatever it remembers: that is what it does
// before it makes something new. Links cannot be made in this file system, so
// nothing comes of it.
func look(dir int, path string) { unix.Symlinkat("-", dir, path) }

func call(dir int, ring Ring) error {
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	switch ring.Op {
	case Look:
		look(dir, ring.Path)
		return nil
	case Create:
		return unix.Mknodat(dir, ring.Path, unix.S_IFREG|0o640, 0)
	case Mkdir:
		return unix.Mkdirat(dir, ring.Path, 0o755)
	case Modify: // the time of modification alone is what the kernel calls MODIFY
		return unix.UtimesNanoAt(dir, ring.Path, []unix.Timespec{omit, now}, 0)
	case Touch: // both times together are ATTRIB
		return unix.UtimesNanoAt(dir, ring.Path, []unix.Timespec{now, now}, 0)
	case Remove:
		look(dir, ring.Path)
		return unix.Unlinkat(dir, ring.Path, 0)
	case Rmdir:
		look(dir, ring.Path)
		return unix.Unlinkat(dir, ring.Path, unix.AT_REMOVEDIR)
	case Rename:
		look(dir, ring.Path)
		look(dir, ring.To)
		return unix.Renameat(dir, ring.Path, dir, ring.To)
	}
	return unix.EINVAL
}
