package bell

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Mount is where the bell rings.
type Mount struct {
	Dir    string
	Device uint64 // of the file system that must be there
}

var errGone = errors.New("the file system is not mounted there any more")

// Find returns the mount at dir, which must be there.
func Find(dir string) (Mount, error) {
	fd, device, err := openAt(dir)
	if err != nil {
		return Mount{}, err
	}
	unix.Close(fd)
	return Mount{dir, device}, nil
}

// open returns a descriptor that names the mount. It makes sure that it is the
// mount: what is rung must never happen to a directory below it.
func (m Mount) open() (int, error) {
	fd, device, err := openAt(m.Dir)
	if err != nil {
		return -1, err
	}
	if device != m.Device {
		unix.Close(fd)
		return -1, fmt.Errorf("bell: %s: %w", m.Dir, errGone)
	}
	return fd, nil
}

// openAt opens dir by name only and returns its device, without asking the file
// system anything.
func openAt(dir string) (fd int, device uint64, err error) {
	fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("bell: open %s: %w", dir, err)
	}
	var s unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &s); err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("bell: stat %s: %w", dir, err)
	}
	return fd, unix.Mkdev(s.Dev_major, s.Dev_minor), nil
}
