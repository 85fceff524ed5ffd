package mount

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// errnoOf returns the errno of a call, or 0.
func errnoOf(err error) (e syscall.Errno) {
	errors.As(err, &e)
	return e
}

// TestCallsThatFewProgramsMake: each answers as it does where a file system lacks the
// call, so that a program that has a second way takes it.
func TestCallsThatFewProgramsMake(t *testing.T) {
	r := newRig(t)
	r.write("a", "content")
	r.write("b", "other")
	f, err := os.OpenFile(r.path("a"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	mapped := func(flags int) error {
		m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, flags)
		if err == nil { // nothing is read: this process would have to answer its own fault
			unix.Munmap(m)
		}
		return err
	}
	at := unix.AT_FDCWD
	for _, c := range []struct {
		call string
		err  error
		want syscall.Errno
	}{
		{"mmap shared", mapped(unix.MAP_SHARED), unix.ENODEV},
		{"mmap private", mapped(unix.MAP_PRIVATE), 0},
		{"rename NOREPLACE onto a file", unix.Renameat2(at, r.path("a"), at, r.path("b"), unix.RENAME_NOREPLACE), unix.EEXIST},
		{"rename EXCHANGE", unix.Renameat2(at, r.path("a"), at, r.path("b"), unix.RENAME_EXCHANGE), unix.EINVAL},
		{"rename WHITEOUT", unix.Renameat2(at, r.path("a"), at, r.path("c"), unix.RENAME_WHITEOUT), unix.EINVAL},
		{"rename NOREPLACE onto nothing", unix.Renameat2(at, r.path("b"), at, r.path("c"), unix.RENAME_NOREPLACE), 0},
		{"fallocate", unix.Fallocate(fd, 0, 0, 4096), unix.EOPNOTSUPP},
		{"fallocate to punch", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4), unix.EOPNOTSUPP},
		{"access to write", unix.Access(r.path("a"), unix.W_OK), 0},
		{"access to execute", unix.Access(r.path("a"), unix.X_OK), unix.EACCES},
		{"access to what is not there", unix.Access(r.path("x"), unix.F_OK), unix.ENOENT},
		{"a file without a name", func() error { _, err := unix.Open(r.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600); return err }(), unix.EOPNOTSUPP},
		{"getxattr", func() error { _, err := unix.Getxattr(r.path("a"), "user.x", nil); return err }(), unix.EOPNOTSUPP},
		{"listxattr", func() error { _, err := unix.Listxattr(r.path("a"), nil); return err }(), unix.EOPNOTSUPP},
		{"removexattr", unix.Removexattr(r.path("a"), "user.x"), unix.EOPNOTSUPP},
		{"ioctl", func() error { _, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS); return err }(), unix.ENOTTY},
		{"flock", unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB), 0},
		{"fcntl lock", unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}), 0},
		{"fdatasync", unix.Fdatasync(fd), 0},
		{"syncfs", unix.Syncfs(fd), 0},
		{"utimensat of the present", unix.UtimesNanoAt(at, r.path("a"), []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0), 0},
		{"utimensat of nothing", unix.UtimesNanoAt(at, r.path("a"), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}, 0), 0},
		{"device", unix.Mknod(r.path("dev"), unix.S_IFCHR|0o600, 0x103), unix.ENOSYS},
		{"socket", unix.Mknod(r.path("sock"), unix.S_IFSOCK|0o600, 0), unix.ENOSYS},
		{"regular node", unix.Mknod(r.path("reg"), unix.S_IFREG|0o600, 0), 0},
		{"chmod of a descriptor", unix.Fchmod(fd, 0o644), unix.EPERM},
		{"chmod to what it is", unix.Fchmod(fd, 0o640), 0},
		{"seek to a hole", func() error { _, err := unix.Seek(fd, 0, unix.SEEK_HOLE); return err }(), 0},
	} {
		if got := errnoOf(c.err); got != c.want || (c.err == nil) != (c.want == 0) {
			t.Errorf("%s: %v; want %v", c.call, c.err, c.want)
		}
	}
	r.holds("a", "content")
	r.holds("c", "other")
	script := `python3 -c 'import mmap; f = open("a"); print(mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)[:])'`
	if out, err := r.shell(script); err != nil || out != "b'content'\n" {
		t.Errorf("mapped: %q, %v", out, err)
	}
}

// TestCopiesInsideTheKernel: cp and others ask the kernel to copy.
func TestCopiesInsideTheKernel(t *testing.T) {
	r := newRig(t)
	r.write("a", "content")
	n := r.commitsOf(func() {
		in, err := os.Open(r.path("a"))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := os.Create(r.path("b"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.CopyFileRange(int(in.Fd()), nil, int(out.Fd()), nil, 100, 0); err != nil {
			t.Errorf("copy_file_range: %v", err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	if n != 1 {
		t.Errorf("%d commits", n)
	}
	r.holds("b", "content")
}

// TestOthersReadWhatTheirGroupMay: the modes count, not only for show.
func TestOthersReadWhatTheirGroupMay(t *testing.T) {
	r := newRig(t)
	if err := os.Chmod(filepath.Dir(r.dir), 0o755); err != nil { // above the mount
		t.Fatal(err)
	}
	r.write("a", "content")
	r.write("priv/a", "secret")
	for _, c := range []struct {
		group  string
		path   string
		option string
		may    bool
	}{
		{"www-data", "a", "-r", true}, {"www-data", "a", "-w", false}, {"www-data", "priv/a", "-r", false}, {"www-data", ".version", "-r", true},
		{"nogroup", "a", "-r", false}, {"nogroup", ".version", "-r", false}, {"nogroup", "nodes", "-x", true}, {"nogroup", "priv", "-x", false},
		{"www-data", "nodes", "-w", false},
	} {
		cmd := exec.Command("setpriv", "--reuid=nobody", "--regid="+c.group, "--clear-groups", "test", c.option, r.path(c.path))
		if err := cmd.Run(); (err == nil) != c.may {
			t.Errorf("%s in %s: test %s: %v", c.path, c.group, c.option, err)
		}
	}
}
