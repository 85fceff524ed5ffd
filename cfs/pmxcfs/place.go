package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"etcpve/cfs/layout"
	"etcpve/cfs/mount"

	"golang.org/x/sys/unix"
)

// dyingPatience is for how long a start waits for a daemon that was killed.
const dyingPatience = 5 * time.Second

// lock makes this the only daemon of a database, until the file is closed.
func lock(database, dir string, log *slog.Logger) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(database), 0o755); err != nil {
		return nil, err
	}
	path := database + ".lock"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(dyingPatience); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) || !isDying(f) {
			break
		}
		log.Warn("ending the mount of a daemon that was killed", "path", dir)
		if e := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); e != nil {
			log.Warn("mount not ended", "path", dir, "err", e)
		}
	}
	if err == nil {
		err = writePID(f)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = errInUse(database)
	case err != nil:
		err = fmt.Errorf("%s: lock: %w", path, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writePID overwrites the number of the last daemon, in a fixed width: on a disk
// that is full, that works where a shorter file would not grow again.
func writePID(f *os.File) error {
	_, err := fmt.Fprintf(io.NewOffsetWriter(f, 0), "%-15d\n", os.Getpid())
	return err
}

// isDying reports whether the daemon that has the lock was killed and cannot
// end: one of its threads waits in the kernel for somebody who waits for an
// answer of the daemon. Only the forced end of the mount helps.
func isDying(lock *os.File) bool {
	text := make([]byte, 32)
	n, _ := lock.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// prepare makes sure that dir can be mounted on: an empty directory, or the mount
// of a daemon that has died. Any other mount is left alone.
func prepare(dir string) error {
	m, ok, err := mounted(dir)
	if err != nil {
		return err
	}
	if ok {
		if m.kind != "fuse."+mount.FSName || answers(dir) {
			return fmt.Errorf("%s: already a mount point (%s), and not one that was left behind; unmount it first", dir, m.kind)
		}
		return nil
	}
	return vacant(dir)
}

// vacate takes away the mounts of daemons that have died. It comes right before
// the new mount: what programs write in between would be hidden by it.
func vacate(dir string, log *slog.Logger) error {
	for {
		if err := prepare(dir); err != nil {
			return err
		}
		if _, ok, err := mounted(dir); err != nil || !ok {
			return err
		}
		log.Warn("taking away the mount of a daemon that has died", "path", dir)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("%s: unmount: %w", dir, err)
		}
	}
}

// vacant makes the directory and refuses one that is not empty.
func vacant(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s: not empty (%s, …); mounting would hide what is there", dir, entries[0].Name())
	}
	return err
}

// answers reports whether a daemon is behind the file system at dir. It asks for
// what the kernel never keeps: attributes it may still know from the daemon that
// has died.
func answers(dir string) bool {
	var st unix.Statfs_t
	return !errors.Is(unix.Statfs(dir, &st), unix.ENOTCONN)
}

type mountEntry struct{ kind string }

// mounted returns what is mounted on dir. It reads the table, because a stat of
// a dead mount fails and one of a foreign mount may hang.
func mounted(dir string) (m mountEntry, ok bool, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return m, false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(kind) > 0 && unescape(fields[4]) == dir {
			m, ok = mountEntry{kind[0]}, true // the last one is on top
		}
	}
	return m, ok, lines.Err()
}

// unescape reads the octal escapes of blanks in the table of mounts.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// groupWithoutName is the id that www-data has on Debian.
const groupWithoutName = 33

// group returns the group that owns everything.
func group(log *slog.Logger) uint32 {
	g, err := user.LookupGroup(layout.Group)
	if err == nil {
		var id uint64
		if id, err = strconv.ParseUint(g.Gid, 10, 32); err == nil {
			return uint32(id)
		}
	}
	log.Warn("group is missing, using its usual number", "group", layout.Group, "gid", groupWithoutName, "err", err)
	return groupWithoutName
}
