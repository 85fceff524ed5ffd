package guest

import (
	"fmt"

	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

// Values of "lock": what a guest is busy with while it must not be changed.
const (
	LockBackup         = "backup"
	LockClone          = "clone"
	LockCreate         = "create"
	LockDestroyed      = "destroyed"
	LockDisk           = "disk"
	LockFstrim         = "fstrim"
	LockMigrate        = "migrate"
	LockMounted        = "mounted"
	LockRollback       = "rollback"
	LockSnapshot       = "snapshot"
	LockSnapshotDelete = "snapshot-delete"
	LockSuspended      = "suspended"
	LockSuspending     = "suspending"
)

// A LockedError says that a guest is busy.
type LockedError struct {
	Kind layout.Kind
	Lock string
}

// Error returns the wording users know.
func (e *LockedError) Error() string {
	name := map[layout.Kind]string{layout.QEMU: "VM", layout.LXC: "CT"}[e.Kind]
	return fmt.Sprintf("%s is locked (%s)", name, e.Lock)
}

// CheckLock refuses a guest that is busy.
func CheckLock(c *guest.Config) error {
	if lock := c.Main.Get("lock"); lock != "" {
		return &LockedError{Kind: c.Kind, Lock: lock}
	}
	return nil
}
