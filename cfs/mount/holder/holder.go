// Package holder tells who has a file open.
//
// It reads /proc, where descriptors are links. Their names are read but never
// followed: that would ask the very file system that wants to know.
package holder

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Has reports whether the process of a thread has the file at path open for
// writing.
func Has(thread uint32, path string) bool {
	return holds("/proc/"+strconv.FormatUint(uint64(thread), 10), "/"+path)
}

// Any reports whether any process has the file at path open for writing.
func Any(path string) bool {
	names, err := namesIn("/proc")
	if err != nil {
		return false
	}
	for _, n := range names {
		if n[0] >= '1' && n[0] <= '9' && holds("/proc/"+n, "/"+path) {
			return true
		}
	}
	return false
}

// holds reports whether a process has a descriptor for writing whose name ends in
// suffix.
func holds(process, suffix string) bool {
	names, err := namesIn(process + "/fd")
	if err != nil {
		return false // it has ended
	}
	for _, n := range names {
		target, err := os.Readlink(process + "/fd/" + n)
		if err == nil && strings.HasSuffix(strings.TrimSuffix(target, " (deleted)"), suffix) && isForWriting(process+"/fdinfo/"+n) {
			return true
		}
	}
	return false
}

// isForWriting reads the flags of a descriptor.
func isForWriting(fdinfo string) bool {
	content, err := os.ReadFile(fdinfo)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(content) {
		if value, ok := bytes.CutPrefix(line, []byte("flags:")); ok {
			flags, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 8, 64)
			return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return false
}

func namesIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
