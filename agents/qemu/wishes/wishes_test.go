package wishes

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"etcpve/agents/qemu/verbs"
	"etcpve/agents/task"
	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

func TestPlanAsksForWhatIsNotThereYet(t *testing.T) {
	for _, c := range []struct{ name, conf, want string }{
		{"nothing", "memory: 32\nscsi0: local:100/vm-100-disk-0.qcow2,size=1G\nide2: none,media=cdrom\n", ""},
		{"a disk", "scsi0: local:100/vm-100-disk-0.qcow2\nscsi1: local:32,discard=on\n", "ask for the volumes of scsi1"},
		{"a part of a GiB", "virtio0: local:0.5\n", "ask for the volumes of virtio0"},
		{"several", "efidisk0: local:1,efitype=4m\nide2: local:cloudinit\nscsi0: local:1\n", "ask for the volumes of efidisk0, ide2, scsi0"},
		{"locked", "lock: backup\nscsi1: local:32\n", ""},
		{"waiting", "memory: 32\n\n[PENDING]\nscsi1: local:32\n", ""},
		{"in a snapshot", "memory: 32\n\n[before]\nscsi1: local:32\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf, problems := guest.Parse(layout.QEMU, 100, c.conf)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if got := strings.Trim(fmt.Sprint(new(Agent).Plan(conf, struct{}{})), "[]"); got != c.want {
				t.Errorf("plan %q, want %q", got, c.want)
			}
		})
	}
}

// TestAWishIsAskedForOnce has a task agent beside it, whose only verb notes what
// it is asked for and puts a name into the file, as the real one does.
func TestAWishIsAskedForOnce(t *testing.T) {
	tree := t.TempDir()
	conf := filepath.Join(tree, "nodes/n1/qemu-server/100.conf")
	for _, dir := range []string{filepath.Dir(conf), filepath.Join(tree, task.Dir("n1"))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var asked []string
	log := slog.New(slog.DiscardHandler)
	tasks, err := task.New(task.Options{Tree: tree, Node: "n1", LogDir: t.TempDir(), Log: log, Handlers: map[string]task.Handler{
		verbs.Configure: func(_ context.Context, r task.Request, _ *task.Log) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, r.ID+" scsi1="+r.Params["scsi1"])
			return os.WriteFile(conf, []byte("scsi1: local:100/vm-100-disk-0.qcow2\n"), 0o640)
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var agents sync.WaitGroup
	defer agents.Wait()
	defer cancel()
	for _, run := range []func(context.Context) error{tasks.Run, (&Agent{Tree: tree, Node: "n1", Log: log}).Run} {
		agents.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.WriteFile(conf, []byte("scsi1: local:32,discard=on\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(conf)
		if strings.Contains(string(text), "vm-100-disk-0") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file still says %q", text)
		}
	}
	cancel()
	agents.Wait()
	if got := fmt.Sprint(asked); got != "[100 scsi1=local:32,discard=on]" {
		t.Errorf("asked for %s", got)
	}
}
