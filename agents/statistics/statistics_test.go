package statistics

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/statistics/roundrobin"
	"etcpve/agents/storage"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine is a node of which everything is known.
func machine(t *testing.T) *Machine {
	dir := t.TempDir()
	m := &Machine{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"), Root: dir}
	for name, content := range map[string]string{
		"proc/uptime": "1234.56 9999.99\n", "proc/loadavg": "0.75 0.50 0.25 1/234 5678\n",
		"proc/meminfo":                           "MemTotal:       1000 kB\nMemFree:        100 kB\nMemAvailable:   400 kB\nSwapTotal:      200 kB\nSwapFree:       150 kB\n",
		"proc/stat":                              "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
		"proc/pressure/cpu":                      "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"proc/pressure/io":                       "some avg10=2.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=3.50 avg60=0.00 avg300=0.00 total=0\n",
		"proc/spl/kstat/zfs/arcstats":            "13 1 0x01 123 33456 1 2\nname type data\nhits 4 99\nsize 4 4096\n",
		"sys/class/net/eth0/device/uevent":       "",
		"sys/class/net/eth0/statistics/rx_bytes": "1000\n", "sys/class/net/eth0/statistics/tx_bytes": "2000\n",
		"sys/class/net/eth1/device/uevent":       "",
		"sys/class/net/eth1/statistics/rx_bytes": "10\n", "sys/class/net/eth1/statistics/tx_bytes": "20\n",
		"sys/class/net/vmbr0/statistics/rx_bytes": "5000\n", // no hardware
	} {
		write(t, filepath.Join(dir, name), content)
	}
	return m
}

func TestNodeIsMeasured(t *testing.T) {
	m := machine(t)
	n := m.Measure("n1", time.Unix(1000, 0))
	if n.CPU.String() != "U" {
		t.Errorf("busy before there was anything to compare with: %s", n.CPU)
	}
	write(t, filepath.Join(m.Proc, "stat"), "cpu  125 0 125 740 110 0 0 0 50 0\n")
	n = m.Measure("n1", time.Unix(1010, 0))
	n.Root, n.RootUsed, n.CPUs = n.ARC, n.ARC, n.ARC // differ from machine to machine
	want := "pve-node-9.0/n1:1234::1010:0.75:4096:0.5:0.1:1024000:614400:204800:51200:4096:4096:1010:2020:409600:4096:1.5:2.5:3.5:U:U\n"
	if got := n.Line(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestWhatCannotBeReadIsUnknown(t *testing.T) {
	empty := t.TempDir()
	m := &Machine{Proc: empty, Sys: empty, Root: filepath.Join(empty, "none")}
	m.Measure("n1", time.Unix(1000, 0))
	n := m.Measure("n1", time.Unix(1010, 0))
	n.CPUs = n.ARC
	if got, want := n.Line(), "pve-node-9.0/n1:U::1010:U:0:U:U:U:U:U:U:U:U:0:0:U:0:U:U:U:U:U\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// disk is a type of storage of which one never answers and one is broken.
type disk struct{ storage.Plugin }

func (disk) Status(ctx context.Context, c *storage.Config) (storage.Status, error) {
	switch c.ID {
	case "hangs":
		<-ctx.Done()
		return storage.Status{}, ctx.Err()
	case "broken":
		return storage.Status{}, errors.New("broken")
	}
	return storage.Status{Total: 1000, Used: 400}, nil
}

func TestStoragesAreMeasuredWhileOneHangs(t *testing.T) {
	tree := t.TempDir()
	write(t, filepath.Join(tree, ".rrd"), "")
	write(t, filepath.Join(tree, "storage.cfg"), "dir: hangs\n\tpath /x\n\ndir: broken\n\tpath /y\n\ndir: good\n\tpath /z\n\ndir: elsewhere\n\tpath /z\n\tnodes n2\n\ndir: off\n\tpath /z\n\tdisable 1\n")
	a := New(Options{Tree: tree, Node: "n1", Log: slog.New(slog.DiscardHandler), Machine: *machine(t),
		Files:    roundrobin.Files{Dir: t.TempDir()},
		Storages: storage.Catalog{Tree: tree, Node: "n1", Plugins: map[string]storage.Plugin{"dir": disk{}}}})
	said := make(chan string, 1000)
	a.publish = func(lines []string) error {
		said <- strings.Join(lines, "")
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	for round := range 3 {
		a.Round(ctx, time.Unix(int64(1000+10*round), 0))
	}
	for deadline := time.After(2 * time.Minute); ; {
		var line string
		select {
		case line = <-said:
		case <-deadline:
			t.Fatal("no sample of the storage that works")
		}
		// The storage local is there without being written down.
		if strings.HasPrefix(line, "pve-storage") && !strings.Contains(line, "/local:") {
			if line != "pve-storage-9.0/n1/good:1000:1000:400\n" {
				t.Errorf("sample %q", line)
			}
			break
		}
	}
	cancel()
	a.wg.Wait()
}

func TestNothingIsLostWhenTheAgentEnds(t *testing.T) {
	if _, err := exec.LookPath("rrdtool"); err != nil {
		t.Skip("no rrdtool on this machine: ", err)
	}
	tree, db := t.TempDir(), t.TempDir()
	write(t, filepath.Join(tree, ".rrd"), "")
	a := New(Options{Tree: tree, Node: "n1", Log: slog.New(slog.DiscardHandler), Machine: *machine(t),
		Files: roundrobin.Files{Dir: db}, Storages: storage.Catalog{Tree: tree, Node: "n1"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // while it is in its first round
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("rrdtool", "lastupdate", filepath.Join(db, "pve-node-9.0/n1")).Output()
	if err != nil || !strings.Contains(string(out), ": 0.75 ") {
		t.Errorf("the file of the node: %v\n%s", err, out)
	}
}
