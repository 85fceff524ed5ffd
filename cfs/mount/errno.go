package mount

import (
	"context"
	"errors"
	"syscall"

	"etcpve/cfs/mount/review"
	"etcpve/cfs/mount/virtual"
	"etcpve/cfs/status"
	"etcpve/cfs/tree"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Reasons that have their origin here.
var (
	errNoQuorum    = errors.New("no quorum")
	errInterrupted = errors.New("interrupted")
	errVirtual     = errors.New("virtual file")
	errReadOnly    = errors.New("virtual file cannot be written")
	errClosing     = errors.New("the file system is being unmounted")
	errHeld        = errors.New("still mounted in another namespace")
	errOwner       = errors.New("owner and mode follow from the path")
	errName        = errors.New("name too long")
)

// errnos says which errno a program sees for each reason.
var errnos = []struct {
	reason error
	errno  syscall.Errno
}{
	{tree.ErrNotExist, unix.ENOENT},
	{tree.ErrExist, unix.EEXIST},
	{tree.ErrNotDir, unix.ENOTDIR},
	{tree.ErrIsDir, unix.EISDIR},
	{tree.ErrNotEmpty, unix.ENOTEMPTY},
	{tree.ErrAccess, unix.EACCES},
	{tree.ErrTooBig, unix.EFBIG},
	{tree.ErrNoSpace, unix.ENOSPC},
	{tree.ErrConflict, unix.EAGAIN},
	{tree.ErrInvalid, unix.EINVAL},
	{tree.ErrNoGuest, unix.EINVAL},
	{errNoQuorum, unix.EACCES},
	{errInterrupted, unix.EINTR},
	{errClosing, unix.ENOTCONN},
	{context.Canceled, unix.EINTR},
	{review.ErrRefused, unix.EINVAL},
	{errVirtual, unix.EACCES},
	{errReadOnly, unix.EIO},
	{errOwner, unix.EPERM},
	{errName, unix.ENAMETOOLONG},
	{virtual.ErrNotExist, unix.ENOENT},
	{virtual.ErrAccess, unix.EACCES},
	{virtual.ErrInvalid, unix.EINVAL},
	{virtual.ErrSwitch, unix.EIO},
	{status.ErrTooBig, unix.EFBIG},
	{status.ErrFull, unix.ENOSPC},
}

// statusOf returns what the kernel is told of err. What is not in the table
// is a fault of the node.
func (m *Mount) statusOf(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	for _, e := range errnos {
		if errors.Is(err, e.reason) {
			return fuse.Status(e.errno)
		}
	}
	m.cfg.Log.Error("change failed", "err", err)
	return fuse.EIO
}

// isTransient reports whether a proposal that failed may succeed later. What
// the tree has refused it would refuse again.
func isTransient(err error) bool {
	return errors.Is(err, errNoQuorum) || errors.Is(err, errInterrupted)
}
