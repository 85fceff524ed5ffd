package verbs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/storages"
	"etcpve/agents/storage"
	"etcpve/agents/task"
)

// A node is a directory laid out like the cluster file system, with the agents
// of VMs and tasks working on it. Its VMs are real and run under TCG.
type node struct {
	*testing.T
	place.Place
	images, guest string
	end           func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	// A short path, because it is part of socket addresses.
	run, err := os.MkdirTemp("", "qv")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, images: t.TempDir()}
	n.Place = placeOf(t.TempDir(), run, slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})))
	for _, path := range []string{"nodes/n1/qemu-server", "nodes/n1/tasks", "power", ".status", "firewall"} {
		n.must(os.MkdirAll(filepath.Join(n.Tree, path), 0o755))
	}
	n.must(n.Place.Write(n.Context(), "storage.cfg", fmt.Sprintf("dir: local\n\tpath %s/a\n\tcontent images,iso,snippets,import\n\ndir: other\n\tpath %s/b\n\tcontent images\n", n.images, n.images)))
	t.Cleanup(func() {
		if n.end != nil {
			n.end()
		}
		n.killGuests()
		_ = os.RemoveAll(run)
	})
	n.begin()
	return n
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// runAgents is both agents until ctx ends.
func runAgents(ctx context.Context, p place.Place) error {
	vms, err := qemu.New(qemu.Options{
		Tree: p.Tree, Node: p.Node, RunDir: p.RunDir, Locks: p.Locks, NoKVM: true, BootID: "boot-1", Free: p.Catalog, Volumes: storages.Resolver{Catalog: p.Catalog}, Log: p.Log,
	})
	if err != nil {
		return err
	}
	v := Verbs{p}
	tasks, err := task.New(task.Options{
		Tree: p.Tree, Node: p.Node, LogDir: filepath.Join(p.RunDir, "tasks"), Handlers: v.Handlers(), Repairs: v.Repairs(), Log: p.Log,
	})
	if err != nil {
		return err
	}
	done := make(chan error, 2)
	go func() { done <- vms.Run(ctx) }()
	go func() { done <- tasks.Run(ctx) }()
	return errors.Join(<-done, <-done)
}

// begin starts the agents.
func (n *node) begin() {
	n.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runAgents(ctx, n.Place) }()
	n.end = func() {
		cancel()
		if err := <-done; err != nil {
			n.Error(err)
		}
		n.end = nil
	}
}

func (n *node) killGuests() {
	records, _ := filepath.Glob(filepath.Join(n.RunDir, "*.json"))
	for _, name := range records {
		var r record.Record
		if content, err := os.ReadFile(name); err == nil && json.Unmarshal(content, &r) == nil && r.Process.PID > 0 {
			_ = host.Proc.Signal(r.Process, syscall.SIGKILL) // it may be gone
		}
	}
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// task has a task done and returns its log.
func (n *node) task(kind string, vmid uint32, params ...string) (log string, err error) {
	n.Helper()
	r := task.Request{Type: kind, ID: fmt.Sprint(vmid), Params: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		r.Params[params[i]] = params[i+1]
	}
	ctx, cancel := context.WithTimeout(n.Context(), 3*time.Minute)
	defer cancel()
	var lines strings.Builder
	err = task.Asking{
		Tree: n.Tree, Node: n.Node, LogDir: filepath.Join(n.RunDir, "tasks"),
		Line: func(line string) { lines.WriteString(line + "\n") },
	}.Do(ctx, r)
	return lines.String(), err
}

// do has a task done that must succeed.
func (n *node) do(kind string, vmid uint32, params ...string) (log string) {
	n.Helper()
	log, err := n.task(kind, vmid, params...)
	if err != nil {
		n.Fatalf("%s %d %q: %v\n%s", kind, vmid, params, err, log)
	}
	return log
}

// refuse has a task done that must fail with an error.
func (n *node) refuse(want, kind string, vmid uint32, params ...string) {
	n.Helper()
	if log, err := n.task(kind, vmid, params...); err == nil || err.Error() != want {
		n.Errorf("%s %d %q: %v, want %q\n%s", kind, vmid, params, err, want, log)
	}
}

func (n *node) conf(vmid uint32) string {
	content, _ := os.ReadFile(filepath.Join(n.Tree, n.Path(vmid))) // "" if there is none
	return string(content)
}

// has requires lines in a configuration; one that begins with "!" must not be there.
func (n *node) has(vmid uint32, lines ...string) {
	n.Helper()
	text := "\n" + n.conf(vmid)
	for _, line := range lines {
		absent := strings.HasPrefix(line, "!")
		if strings.Contains(text, "\n"+strings.TrimPrefix(line, "!")) == absent {
			n.Errorf("configuration of %d, want %q:%s", vmid, line, text)
		}
	}
}

// qcow2 makes a disk and returns its volume ID.
func (n *node) disk(vmid uint32, format string) string {
	n.Helper()
	id, err := n.Catalog.Alloc(n.Context(), "local", storage.Request{VMID: vmid, Format: format, Bytes: 64 << 20})
	n.must(err)
	return id.String()
}

// image runs qemu-img on a volume.
func (n *node) image(volume string, args ...string) string {
	n.Helper()
	path, err := n.Catalog.Path(volume)
	n.must(err)
	out, err := exec.Command("qemu-img", append(args, "-U", path)...).CombinedOutput()
	if err != nil {
		n.Fatalf("qemu-img %q: %v: %s", args, err, out)
	}
	return string(out)
}

// linux is the configuration of a guest with a shell on its serial port.
func (n *node) linux(vmid uint32, more ...string) {
	n.Helper()
	if n.guest == "" {
		for _, program := range []string{"busybox", "cpio", "depmod"} {
			if _, err := exec.LookPath(program); err != nil {
				n.Skip(err)
			}
		}
		n.guest = n.TempDir()
		n.must(exec.Command("../../../contrib/guest/make-initrd", n.guest).Run())
	}
	lines := append([]string{
		fmt.Sprintf(`args: -kernel %s/kernel -initrd %s/initrd.img -append "console=ttyS0 quiet mitigations=off panic=1"`, n.guest, n.guest),
		"memory: 256", "ostype: l26", "serial0: socket", "vga: serial0", "tablet: 0", "scsihw: virtio-scsi-pci",
	}, more...)
	n.must(n.Place.Write(n.Context(), n.Path(vmid), strings.Join(lines, "\n")+"\n"))
}

// shell types a line into a guest's console and returns what comes back up to
// the wanted text.
func (n *node) shell(vmid uint32, line, want string) string {
	n.Helper()
	conn, err := net.Dial("unix", fmt.Sprintf("%s/%d.serial0", n.RunDir, vmid))
	n.must(err)
	defer conn.Close()
	var seen bytes.Buffer
	buffer := make([]byte, 4096)
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		n.must(conn.SetDeadline(time.Now().Add(2 * time.Second)))
		_, err := conn.Write([]byte(line + "\n"))
		n.must(err)
		for {
			count, err := conn.Read(buffer)
			seen.Write(buffer[:count])
			if strings.Contains(seen.String(), want) {
				return seen.String()
			}
			if err != nil {
				break
			}
		}
	}
	n.Fatalf("guest %d: %q gave %q, want %q", vmid, line, seen.String(), want)
	return ""
}

func (n *node) status(vmid uint32, want string) {
	n.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		got, err := n.Status(n.Context(), vmid)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("VM %d is %s, want %s (%v)", vmid, got, want, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
