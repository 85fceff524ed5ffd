package qemu

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
)

// BenchmarkPausedGuests measures an agent with so many paused guests as
// QEMU_BENCH_GUESTS says: how long it takes to start them, what it needs when
// nothing happens, and how long a save takes to be applied.
func BenchmarkPausedGuests(b *testing.B) {
	count, err := strconv.Atoi(os.Getenv("QEMU_BENCH_GUESTS"))
	if err != nil {
		b.Skip("QEMU_BENCH_GUESTS says how many")
	}
	n := newNode(b)
	n.quiet = true
	for i := range count {
		n.guestConf(i, 50)
		n.write(fmt.Sprintf("power/%d", firstGuest+i), "paused\n")
	}
	began := time.Now()
	n.begin()
	for i := range count {
		n.awaitGuest(i, "guest: paused")
	}
	b.ReportMetric(time.Since(began).Seconds()*1000/float64(count), "ms/start")
	self, err := host.Proc.Find(os.Getpid())
	n.must(err)
	report := func(what string) {
		u, err := host.Proc.Usage(self)
		n.must(err)
		b.Logf("%s: agent RSS %d MiB, CPU %v", what, u.RSS>>20, u.CPU)
	}
	report("started")
	before, err := host.Proc.Usage(self)
	n.must(err)
	const idle = 30 * time.Second
	time.Sleep(idle) // what is measured is that nothing happens
	after, err := host.Proc.Usage(self)
	n.must(err)
	b.ReportMetric(float64(after.CPU-before.CPU)/float64(idle)*100, "%CPU-idle")
	b.ReportMetric(float64(after.RSS)/(1<<20), "MiB-RSS")
	var took []time.Duration
	for i := range count {
		took = append(took, n.saveGuest(i, 60+i))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/save-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms/save-p99")
	began = time.Now()
	for i := range count {
		n.guestConf(i, 1000+i)
	}
	for i := range count {
		n.awaitApplied(i)
	}
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/save-all")
	report("saved")
}

// firstGuest is the VMID of the first of many guests.
const firstGuest = 1001

func (n *node) confOf(i int) string { return fmt.Sprintf("nodes/n1/qemu-server/%d.conf", firstGuest+i) }

func (n *node) guestConf(i, iops int) {
	volume := n.image(fmt.Sprintf("vm-%d-disk-0.raw", firstGuest+i))
	lines := []string{"memory: 16", "vga: none", "tablet: 0", "scsihw: virtio-scsi-pci", fmt.Sprintf("scsi0: %s,iops_rd=%d", volume, iops)}
	n.write(n.confOf(i), strings.Join(lines, "\n")+"\n")
}

func (n *node) statusOf(i int) string {
	content, _ := os.ReadFile(filepath.Join(n.tree, ".status", n.confOf(i)))
	return string(content)
}

func (n *node) awaitGuest(i int, line string) {
	n.Helper()
	for deadline := time.Now().Add(10 * time.Minute); !strings.Contains(n.statusOf(i), line); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.Fatalf("guest %d: no %q in\n%s", firstGuest+i, line, n.statusOf(i))
		}
	}
}

// awaitApplied waits until the status speaks of the file as it is.
func (n *node) awaitApplied(i int) {
	n.Helper()
	content, err := os.ReadFile(filepath.Join(n.tree, n.confOf(i)))
	n.must(err)
	digest := fmt.Sprintf("digest: %x", sha1.Sum(content))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Microsecond) {
		if s := n.statusOf(i); strings.Contains(s, digest) && strings.Contains(s, "state: applied") {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("guest %d: not applied:\n%s", firstGuest+i, n.statusOf(i))
		}
	}
}

func (n *node) saveGuest(i, iops int) time.Duration {
	n.Helper()
	began := time.Now()
	n.guestConf(i, iops)
	n.awaitApplied(i)
	return time.Since(began)
}
