package node

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"etcpve/agents/ha"
	"etcpve/cfs/layout"
)

// lockMargin is how long before its end a lock is no longer taken for one's own:
// the clocks that decide about its end are those of other nodes.
const lockMargin = 20 * time.Second

// locks are the cluster's HA locks as one manager sees them: directories, which
// belong to whoever made them. Its methods are called by one goroutine.
type locks struct {
	dir  string
	life time.Duration
	held map[string]hold
}

// hold is a lock of one's own.
type hold struct {
	inode uint64
	asked time.Time // when its last renewal was asked for
}

func newLocks(root string, c clock) *locks {
	return &locks{filepath.Join(root, layout.LockDir), c.of(layout.LockLifetime - lockMargin), map[string]hold{}}
}

// Try takes or renews a lock.
func (l *locks) Try(name string) ha.Grip {
	path := filepath.Join(l.dir, name)
	now := time.Now()
	if h, mine := l.mine(name); mine {
		if err := os.Chtimes(path, now, now); err != nil {
			return ha.Refused
		}
		l.held[name] = hold{h.inode, now}
		return ha.Renewed
	}
	if !makeLock(path) {
		return ha.Refused
	}
	inode, ok := inodeOf(path)
	if !ok {
		return ha.Refused
	}
	l.held[name] = hold{inode, now}
	return ha.Taken
}

// Release gives back a lock of one's own.
func (l *locks) Release(name string) bool {
	_, mine := l.mine(name)
	delete(l.held, name)
	return mine && os.Remove(filepath.Join(l.dir, name)) == nil
}

// mine reports whether a lock is still the one that was taken here.
func (l *locks) mine(name string) (hold, bool) {
	h, known := l.held[name]
	if !known {
		return h, false
	}
	inode, found := inodeOf(filepath.Join(l.dir, name))
	if !found || inode != h.inode || time.Since(h.asked) >= l.life {
		delete(l.held, name)
		return h, false
	}
	return h, true
}

// makeLock makes the directory of a lock, if need be after the file system has
// removed one that nobody renewed for its lifetime: the time 0 asks for that.
func makeLock(path string) bool {
	err := os.Mkdir(path, 0o700)
	if os.IsExist(err) && os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)) == nil {
		err = os.Mkdir(path, 0o700)
	}
	return err == nil
}

func inodeOf(path string) (uint64, bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return stat.Ino, ok
}
