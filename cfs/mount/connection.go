package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepConnection has no child inherit the connection to the kernel, which the
// library opens without that care. A child that had it would keep the mount of
// a killed daemon alive, with nobody to answer.
func keepConnection() (err error) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if target, _ := os.Readlink(filepath.Join(dir, e.Name())); target != "/dev/fuse" {
			continue
		}
		fd, e := strconv.Atoi(e.Name())
		if e == nil {
			_, e = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
		err = errors.Join(err, e)
	}
	return err
}
