package verbs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"etcpve/agents/storage"
)

// medium is what QEMU shows of a CD-ROM drive.
func (n *node) medium(vmid uint32, key string) (file string, open bool) {
	n.Helper()
	var blocks []struct {
		QDev     string `json:"qdev"`
		Open     bool   `json:"tray_open"`
		Inserted *struct {
			Image struct {
				Filename string `json:"filename"`
				Below    *struct {
					Filename string `json:"filename"`
				} `json:"backing-image"`
			} `json:"image"`
		} `json:"inserted"`
	}
	n.must(n.Command(n.Context(), vmid, "query-block", nil, &blocks))
	for _, b := range blocks {
		if !strings.HasSuffix(b.QDev, "/"+key) && b.QDev != key {
			continue
		}
		if b.Inserted == nil {
			return "", b.Open
		}
		if b.Inserted.Image.Below != nil {
			return b.Inserted.Image.Below.Filename, b.Open
		}
		return b.Inserted.Image.Filename, b.Open
	}
	n.Fatalf("QEMU has no drive %s: %+v", key, blocks)
	return "", false
}

// userOf reads the name of the user out of the drive that a guest has.
func (n *node) userOf(vmid uint32, want string) {
	n.Helper()
	n.shell(vmid, `mount -t iso9660 -o ro /dev/sr0 /tmp; sed -n 's/^user: *//p' /tmp/user-data | tr -d '"' | sed 's/^/user-is-/'; umount /tmp`, "user-is-"+want)
}

// TestCloudInitUpdateReachesARunningGuest though hotplug does not include
// cloudinit: the guest reads the new drive, QEMU has it as its medium, and
// nothing of it waits for a restart.
func TestCloudInitUpdateReachesARunningGuest(t *testing.T) {
	n := newNode(t)
	path := n.cloudDrive("raw")
	n.linux(100, "ide2: local:100/vm-100-cloudinit.raw,media=cdrom", "name: web", "ciuser: ann")
	n.do(Start, 100)
	n.userOf(100, "ann")
	n.do(Configure, 100, "ciuser", "bob")
	n.until("that it waits", func() bool { return strings.Contains(n.said(100), "ciuser: the cloud-init drive") })
	n.userOf(100, "ann")
	n.do(CloudInit, 100)
	has := func(user string) {
		t.Helper()
		if file, open := n.medium(100, "ide2"); file != path || open {
			t.Errorf("medium %q, tray open: %v; want %q", file, open, path)
		}
		n.userOf(100, user)
	}
	has("bob")
	n.has(100, "[special:cloudinit]", "ciuser: bob")
	n.until("that nothing waits", func() bool { return n.Said(100).State == "applied" && !strings.Contains(n.said(100), "ciuser") })

	// Settings that are no good leave the drive as it is.
	n.do(Configure, 100, "cicustom", "user=local:snippets/none.yaml")
	if _, err := n.task(CloudInit, 100); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("%v", err)
	}
	has("bob")
	n.do(Configure, 100, "delete", "cicustom", "ciuser", "eve", "lock", "backup")
	n.refuse("VM is locked (backup)", CloudInit, 100)
	n.do(Configure, 100, "delete", "lock", "skiplock", "1")
	n.do(Stop, 100)
	n.status(100, "stopped")
	n.do(CloudInit, 100)
	n.has(100, "ciuser: eve")
	n.drive(path, "eve")
}

// cloudDrive makes an empty drive of VM 100.
func (n *node) cloudDrive(format string) (path string) {
	n.Helper()
	name := "vm-100-cloudinit." + format
	made, err := n.Catalog.Alloc(n.Context(), "local", storage.Request{VMID: 100, Format: format, Name: name, Bytes: 4 << 20})
	n.must(err)
	path, err = n.Catalog.Path(made.String())
	n.must(err)
	return path
}

// drive requires what a drive that nobody has open holds for a user.
func (n *node) drive(path, user string) {
	n.Helper()
	flat := filepath.Join(n.TempDir(), "flat")
	n.must(exec.Command("qemu-img", "convert", "-U", "-O", "raw", path, flat).Run())
	content, err := os.ReadFile(flat)
	n.must(err)
	if !strings.Contains(string(content), `user: "`+user+`"`) {
		n.Errorf("the drive is not made for %s", user)
	}
}

// said is what the agent's document says of a VM, as one text.
func (n *node) said(vmid uint32) string {
	text, _ := os.ReadFile(filepath.Join(n.Tree, ".status", n.Path(vmid))) // "" while nothing is said
	return string(text)
}

// TestCloudInitUpdateThatIsKilled kills the agents when the guest's drive is open
// and empty. Those that come next put the new medium in.
func TestCloudInitUpdateThatIsKilled(t *testing.T) {
	n := newNode(t)
	n.end()
	kill := n.spawn()
	path := n.cloudDrive("qcow2")
	n.do(Create, 100, blank("ide2", "local:100/vm-100-cloudinit.qcow2,media=cdrom", "ciuser", "ann")...)
	n.do(Start, 100)
	n.drive(path, "ann")
	n.do(Configure, 100, "ciuser", "bob")
	// The image passes through a file. A pipe in its place, of which nobody reads
	// all, keeps the agent there.
	pipe := filepath.Join(n.RunDir, "100.cloudinit")
	n.must(unix.Mkfifo(pipe, 0o600))
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	n.must(err)
	defer reader.Close()
	n.must(setPipeSize(reader, 4096))
	n.drop(CloudInit, 100)
	n.until("the image", func() bool { count, _ := reader.Read(make([]byte, 1)); return count == 1 })
	kill()
	if file, _ := n.medium(100, "ide2"); file != "" { // the firmware may have closed the tray
		t.Errorf("not killed in the middle: medium %q", file)
	}
	n.must(os.Remove(pipe))
	n.spawn()
	n.until("the end of the task", func() bool { return strings.Contains(n.claimed(CloudInit), "\nstatus: ") })
	if file, open := n.medium(100, "ide2"); file != path || open {
		t.Errorf("medium %q, tray open: %v; want %q", file, open, path)
	}
	n.drive(path, "bob")
	n.has(100, "[special:cloudinit]", "ciuser: bob", "!lock:")
	n.until("that nothing waits", func() bool { return n.Said(100).State == "applied" })
}

func setPipeSize(f *os.File, bytes int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = conn.Control(func(fd uintptr) { _, failure = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, bytes) })
	if err == nil {
		err = failure
	}
	return err
}
