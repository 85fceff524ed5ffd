package main

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// advise adds what to do to an error that a new user may meet at the first start
// and that does not tell by itself.
func advise(err error) error {
	var advice string
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS):
		advice = "the database needs a directory that can be written: remount it, or name another by --db"
	case strings.Contains(err.Error(), unix.ENOSPC.Error()), strings.Contains(err.Error(), "database or disk is full"):
		advice = "make room on that disk and start again; nothing is lost"
	case strings.Contains(err.Error(), "file is not a database"):
		advice = "put a backup in its place, or move it away to begin with an empty tree"
	case strings.Contains(err.Error(), "/dev/fuse"):
		advice = "load the kernel's module by 'modprobe fuse', or allow the device in this container"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, advice)
}
