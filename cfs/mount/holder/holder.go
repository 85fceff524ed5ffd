// Package holder tells who has a file open.
//
// It reads /proc/PID/fdinfo and mountinfo and the names below task, nothing else there,
// because its callers answer the kernel: links of descriptors, command lines and much
// more cannot be read while a process is being replaced by another program (exec), and
// the kernel closes files in the middle of that. Whoever read them while such a close
// waits for the answer would wait for ever, and so would ps. The package never
// follows a name, so it never asks the file system that wants to know.
package holder

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A File is what is looked for.
type File struct {
	Device uint64   // of its file system
	Inodes []uint64 // the numbers by which programs may know it
	// Others are threads that have opened the file for writing by themselves as well. One
	// descriptor of the process of each is theirs, and says nothing of who holds the
	// opening that is asked about.
	Others []uint32
}

// HeldBy reports whether the process of a thread has the file open for writing.
func (f File) HeldBy(thread uint32) bool {
	return len(f.Inodes) > 0 && f.isIn("/proc/"+id(thread), 0)
}

// IsHeld reports whether any process has the file open for writing, for longer than until
// it becomes another program: a process that is about to start one has for a moment a
// child with the same descriptors, of which the most are closed then.
func (f File) IsHeld() bool {
	if len(f.Inodes) == 0 {
		return false
	}
	d, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return slices.ContainsFunc(names, func(n string) bool {
		return n[0] >= '1' && n[0] <= '9' && f.isIn("/proc/"+n, unix.O_CLOEXEC)
	})
}

func id(thread uint32) string { return strconv.FormatUint(uint64(thread), 10) }

// isIn looks through the descriptors of a process, but for those with a flag of
// without.
func (f File) isIn(process string, without uint64) bool {
	d, err := os.Open(process + "/fdinfo")
	if err != nil {
		return false // it has ended
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return false
	}
	dir := int(d.Fd())
	buf := make([]byte, 512)
	held := 0
	for _, n := range names {
		info, ok := read(dir, n, buf)
		if ok && slices.Contains(f.Inodes, info.inode) && info.flags&unix.O_ACCMODE != unix.O_RDONLY &&
			info.flags&without == 0 && f.isOn(info.mount, process) {
			held++
		}
	}
	return held > 0 && held > f.othersIn(process)
}

// othersIn returns how many of the others belong to a process.
func (f File) othersIn(process string) (count int) {
	for _, thread := range f.Others {
		if unix.Access(process+"/task/"+id(thread), unix.F_OK) == nil {
			count++
		}
	}
	return count
}

// description is what the kernel tells of a descriptor.
type description struct {
	flags, mount, inode uint64
}

// read reads one description. The lines that matter come first.
func read(dir int, name string, buf []byte) (info description, ok bool) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return info, false // closed meanwhile
	}
	n, err := unix.Read(fd, buf)
	unix.Close(fd)
	if err != nil {
		return info, false
	}
	return parse(buf[:max(n, 0)])
}

func parse(text []byte) (info description, ok bool) {
	var found int
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		field, base := &info.flags, 8
		switch string(key) {
		case "flags":
		case "mnt_id":
			field, base = &info.mount, 10
		case "ino":
			field, base = &info.inode, 10
		default:
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), base, 64)
		if err != nil {
			return info, false
		}
		*field = n
		found++
	}
	return info, found == 3
}

// isOn reports whether a mount shows the file's file system. Numbers of mounts are
// the same in all namespaces, but each process lists only those of its own: so the
// holder's is looked at too. What neither lists, as it was detached, may.
func (f File) isOn(mount uint64, process string) bool {
	for _, of := range []string{"/proc/self", process} {
		table, err := os.ReadFile(of + "/mountinfo")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) > 2 && fields[0] == strconv.FormatUint(mount, 10) {
				device, err := parseDevice(fields[2])
				return err != nil || device == f.Device
			}
		}
	}
	return true
}

var errDevice = errors.New("device is not of the form MAJOR:MINOR")

func parseDevice(s string) (uint64, error) {
	a, b, ok := strings.Cut(s, ":")
	major, err1 := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, errDevice
	}
	return unix.Mkdev(uint32(major), uint32(minor)), nil
}
