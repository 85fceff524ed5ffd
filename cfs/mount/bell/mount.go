package bell

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

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

// Detach takes the mount away and ends its connection, because a copy of the
// mount in some other namespace would keep it alive. What others have mounted
// at the same place is left alone.
func (m Mount) Detach() error {
	if on, top := m.IsMounted(); on && top {
		return unix.Unmount(m.Dir, unix.MNT_FORCE|unix.MNT_DETACH)
	}
	// If somebody still uses what has been unmounted, and only then, this exists.
	control := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(m.Device))
	if err := os.WriteFile(control, []byte("1"), 0); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// IsMounted reports whether the file system is mounted at its place, and whether
// nothing is mounted above it.
func (m Mount) IsMounted() (on, top bool) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true, false
	}
	device := fmt.Sprintf("%d:%d", unix.Major(m.Device), unix.Minor(m.Device))
	// Blanks, line ends and backslashs are escaped in the table.
	dir := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(m.Dir)
	for line := range bytes.Lines(table) {
		if fields := strings.Fields(string(line)); len(fields) > 4 && fields[4] == dir {
			top = fields[2] == device
			on = on || top
		}
	}
	return on, top
}
