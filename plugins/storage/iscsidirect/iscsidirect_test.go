package iscsidirect_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/storage"
	"etcpve/agents/storage/storagetest"
	"etcpve/fixtures/loopback"
	"etcpve/plugins/storage/iscsidirect"
)

const iqn = "iqn.2026-01.org.example:disks"

// newTarget runs an iSCSI target on the loopback with LUN 1 in a file, and
// returns its portal.
func newTarget(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"tgtd", "tgtadm", "iscsi-ls", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("tgtd needs root")
	}
	portal := loopback.Address(1).String() + ":3260"
	control := fmt.Sprint(20000 + os.Getpid()%10000) // at most 32767
	daemon := exec.Command("tgtd", "-f", "-C", control, "--iscsi", "portal="+portal)
	daemon.Stderr = t.Output()
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait() // it was killed
		for _, end := range []string{"", ".lock"} {
			_ = os.Remove("/var/run/tgtd/socket." + control + end)
		}
	})
	file := filepath.Join(t.TempDir(), "lun")
	if err := os.WriteFile(file, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"--op new --mode target --tid 1 -T " + iqn,
		"--op new --mode logicalunit --tid 1 --lun 1 -b " + file,
		"--op bind --mode target --tid 1 -I ALL",
	} {
		argv := append([]string{"-C", control, "--lld", "iscsi"}, strings.Fields(args)...)
		var out []byte
		var err error
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			// It answers once it has started.
			if out, err = exec.Command("tgtadm", argv...).CombinedOutput(); err == nil || time.Now().After(end) {
				break
			}
		}
		if err != nil {
			t.Fatalf("tgtadm %s: %v: %s", args, err, out)
		}
	}
	return portal
}

func TestConforms(t *testing.T) {
	c := &storage.Config{ID: "san", Type: "iscsidirect", Values: map[string]string{"portal": newTarget(t), "target": iqn}}
	storagetest.Run(t, storagetest.Subject{Plugin: iscsidirect.New(host.System{}), Config: c, Format: "raw", Given: []string{"lun1"}, GivenSize: 16 << 20, How: "real"})
}

func TestQEMUReadsAndWritesTheLUN(t *testing.T) {
	portal := newTarget(t)
	tree := t.TempDir()
	text := "iscsidirect: san\n\tportal " + portal + "\n\ttarget " + iqn + "\n\tcontent images\n"
	if err := os.WriteFile(filepath.Join(tree, storage.File), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	catalog := storage.Catalog{Tree: tree, Node: "n1", Run: host.System{}, Locks: t.TempDir(),
		Plugins: map[string]storage.Plugin{"iscsidirect": iscsidirect.New(host.System{})}}
	b, err := catalog.Blockdev("san:lun1", "")
	if err != nil || b.Path != "" || b.QEMUSnapshots() || b.QEMUResizes() || b.Device() {
		t.Fatalf("%+v, %v", b, err)
	}
	for _, verb := range []string{"write -P 7 64k 4k", "read -P 7 64k 4k"} {
		if out, err := exec.Command("qemu-io", "--image-opts", b.ImageOpts(), "-c", verb).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", verb, err, out)
		}
	}
	// The other form, for places where only a name fits.
	if out, err := exec.Command("qemu-io", "-r", b.Filename(), "-c", "read -P 7 64k 4k").CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", b.Filename(), err, out)
	}
}

func TestDeadPortalIsOffline(t *testing.T) {
	portal := loopback.Address(2).String() + ":3260" // where nobody listens
	c := &storage.Config{ID: "san", Type: "iscsidirect", Values: map[string]string{"portal": portal, "target": iqn}}
	if _, err := iscsidirect.New(host.System{}).Status(t.Context(), c); err == nil || !strings.Contains(err.Error(), storage.ErrOffline.Error()) {
		t.Errorf("status: %v", err)
	}
}
