package meter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

// A rack is a node with VMs whose QEMUs answer from a table; their processes
// are the test's own.
type rack struct {
	testing.TB
	tree    string
	running map[uint32]cmdline.Config

	mu      sync.Mutex
	answers map[string]string // by "VMID command"
	asked   []string
}

func (r *rack) Parse(_ uint32, content string) cmdline.Config {
	c := cmdline.Config{}
	for line := range strings.Lines(content) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		c[key] = value
	}
	return c
}

func (r *rack) Running(vmid uint32) (host.Process, cmdline.Config, bool) {
	self, err := host.Proc.Find(os.Getpid())
	if err != nil {
		r.Fatal(err)
	}
	c, ok := r.running[vmid]
	return self, c, ok
}

func (r *rack) Ask(_ context.Context, vmid uint32, command string, args, result any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	r.asked = append(r.asked, fmt.Sprintf("%d %s %s", vmid, command, text))
	answer, ok := r.answers[fmt.Sprintf("%d %s", vmid, command)]
	if !ok {
		return errors.New("no answer")
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal([]byte(answer), result)
}

func (r *rack) write(name, content string) {
	r.Helper()
	path := filepath.Join(r.tree, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.Fatal(err)
	}
}

func newRack(t testing.TB) (*rack, *Meter) {
	r := &rack{TB: t, tree: t.TempDir(), running: map[uint32]cmdline.Config{}, answers: map[string]string{}}
	r.write(".rrd", "")
	m := &Meter{VMs: r, Tree: r.tree, Dir: "vms", Node: "n1", Sys: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Memory: func() (host.Memory, error) { return host.Memory{Total: 100 << 30, Available: 20 << 30}, nil }} // 80 % are used
	return r, m
}

func (r *rack) samples() string {
	r.Helper()
	content, err := os.ReadFile(filepath.Join(r.tree, ".rrd"))
	if err != nil {
		r.Fatal(err)
	}
	return string(content)
}

func TestVMsAtRestAreToldByTheirConfiguration(t *testing.T) {
	r, m := newRack(t)
	r.write("vms/100.conf", "name: web\nmemory: 512\ncores: 2\nsockets: 2\nboot: order=ide2;scsi1\nide2: none,media=cdrom,size=1M\nscsi1: local:100/a.raw,size=2G\n")
	r.write("vms/101.conf", "template: 1\n")
	r.write("vms/notes.txt", "")
	m.Round(t.Context(), time.Unix(1000, 0))
	want := "pve-vm-9.0/100:0:web:stopped:0:1000:4:U:536870912:U:2147483648:0:U:U:U:U:U:U:U:U:U:U:U\n" +
		"pve-vm-9.0/101:0:VM 101:stopped:1:1000:1:U:536870912:U:U:0:U:U:U:U:U:U:U:U:U:U:U\n"
	if got := r.samples(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if len(r.asked) > 0 {
		t.Errorf("asked %q", r.asked)
	}
}

func TestRunningVMsAreAsked(t *testing.T) {
	r, m := newRack(t)
	r.write("vms/100.conf", "name: web\nmemory: 2048\n")
	r.running[100] = cmdline.Config{"memory": "1024", "cores": "2"} // 2048 wait for a restart
	for i, n := range []string{"5", "7"} {
		dir := filepath.Join(m.Sys, fmt.Sprintf("class/net/tap100i%d/statistics", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"rx_bytes": n, "tx_bytes": n + "0"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.answers["100 query-balloon"] = `{"actual": 1073741824}`
	r.answers["100 qom-get"] = `{"last-update": 0, "stats": {}}`
	r.answers["100 qom-set"] = `{}`
	r.answers["100 query-blockstats"] = `[{"qdev": "scsi0", "stats": {"rd_bytes": 11, "wr_bytes": 22}}, {"qdev": "virtio1", "stats": {"rd_bytes": 100, "wr_bytes": 200}}, {"qdev": "", "stats": {"rd_bytes": 9, "wr_bytes": 9}}]`
	m.Round(t.Context(), time.Unix(1000, 0))
	words := strings.Split(strings.TrimSpace(r.samples()), ":")
	if words[3] != "running" || words[6] != "2" || words[7] != "U" || words[8] != "1073741824" || words[12] != "120" || words[13] != "12" || words[14] != "111" || words[15] != "222" {
		t.Errorf("sample %q", words)
	}
	if polls := `100 qom-set {"path":"/machine/peripheral/balloon0","property":"guest-stats-polling-interval","value":2}`; !strings.Contains(strings.Join(r.asked, "\n"), polls) {
		t.Errorf("asked %q", r.asked)
	}

	r.answers["100 qom-get"] = `{"last-update": 1, "stats": {"stat-total-memory": 1000, "stat-free-memory": 300, "stat-swap-in": 18446744073709551615}}`
	delete(r.answers, "100 qom-set")
	m.Round(t.Context(), time.Unix(1010, 0))
	words = strings.Split(strings.TrimSpace(r.samples()), ":")
	if words[7] == "U" || words[9] != "700" {
		t.Errorf("sample %q", words)
	}
}

func TestSilentVMsKeepNobodyFromBeingMeasured(t *testing.T) {
	r, m := newRack(t)
	for vmid := uint32(100); vmid < 130; vmid++ {
		r.write(fmt.Sprintf("vms/%d.conf", vmid), "memory: 64\n")
		r.running[vmid] = cmdline.Config{"memory": "64"}
	}
	m.Round(t.Context(), time.Unix(1000, 0))
	if n := strings.Count(r.samples(), ":running:"); n != 30 {
		t.Errorf("%d are measured:\n%s", n, r.samples())
	}
	if len(r.asked) != 30 {
		t.Errorf("asked after the first silence: %q", r.asked)
	}
}

func TestBalloonsMoveTowardsTheTarget(t *testing.T) {
	for _, c := range []struct {
		name, conf, config string
		available          uint64
		want               string // asked of 100, "" for nothing
	}{
		{"memory is left", "memory: 4096\nballoon: 1024\n", "", 90 << 30, `100 balloon {"value":1178599424}`},
		{"memory is short", "memory: 4096\nballoon: 512\n", "", 10 << 30, `100 balloon {"value":968884224}`},
		{"as it should be", "memory: 4096\nballoon: 512\n", "", 20 << 30, ""},
		{"another target", "memory: 4096\nballoon: 512\n", "ballooning-target: 90\n", 20 << 30, `100 balloon {"value":1178599424}`},
		{"no target", "memory: 4096\nballoon: 512\n", "ballooning-target: most\n", 20 << 30, ""},
		{"no minimum", "memory: 4096\n", "", 90 << 30, ""},
		{"no shares", "memory: 4096\nballoon: 512\nshares: 0\n", "", 90 << 30, ""},
		{"migrates", "memory: 4096\nballoon: 512\nlock: migrate\n", "", 90 << 30, ""},
		{"no balloon", "memory: 4096\nballoon: 0\n", "", 90 << 30, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, m := newRack(t)
			r.write("vms/100.conf", c.conf)
			r.write("nodes/n1/config", c.config)
			r.running[100] = r.Parse(100, c.conf)
			r.answers["100 query-balloon"] = `{"actual": 1073741824}`
			r.answers["100 qom-get"] = `{"last-update": 1, "stats": {"stat-total-memory": 1000, "stat-free-memory": 300}}`
			r.answers["100 query-blockstats"], r.answers["100 balloon"] = "[]", "{}"
			m.Memory = func() (host.Memory, error) { return host.Memory{Total: 100 << 30, Available: c.available}, nil }
			m.Round(t.Context(), time.Unix(1000, 0))
			var got string
			for _, a := range r.asked {
				if strings.HasPrefix(a, "100 balloon") {
					got += a
				}
			}
			if got != c.want {
				t.Errorf("asked %q, want %q", got, c.want)
			}
		})
	}
}

// BenchmarkRound is what 1,000 running VMs cost, short of their QEMUs' answers.
func BenchmarkRound(b *testing.B) {
	r, m := newRack(b)
	for vmid := uint32(100); vmid < 1100; vmid++ {
		r.write(fmt.Sprintf("vms/%d.conf", vmid), "memory: 64\nballoon: 32\nscsi0: local:100/a.raw,size=2G\n")
		r.running[vmid] = cmdline.Config{"memory": "64"}
		r.answers[fmt.Sprintf("%d query-balloon", vmid)] = `{"actual": 67108864}`
		r.answers[fmt.Sprintf("%d qom-get", vmid)] = `{"last-update": 1, "stats": {"stat-total-memory": 1000, "stat-free-memory": 300}}`
		r.answers[fmt.Sprintf("%d query-blockstats", vmid)] = "[]"
		if err := os.MkdirAll(filepath.Join(m.Sys, fmt.Sprintf("class/net/tap%di0/statistics", vmid)), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		m.Round(b.Context(), time.Now())
	}
}
