// Package pages sets huge pages aside for VMs.
//
// It owns the mounts that offer them to QEMU and counts what it had to add, so
// that just this can be given back. It never takes pages from another guest.
package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"etcpve/agents/qemu/cmdline"
)

// hugeDir is where the kernel offers huge pages of one size to QEMU.
const hugeDir = "/run/hugepages/kvm"

// Reserve makes the kernel set aside the huge pages of a guest and returns
// how many it had to add to those that were free.
func Reserve(p cmdline.Pages) (added int, err error) {
	if p.Count == 0 {
		return 0, nil
	}
	if err := mountPages(p.KiB); err != nil {
		return 0, err
	}
	free, err := Counter(p.KiB, "free_hugepages")
	if err != nil || free >= p.Count {
		return 0, err
	}
	total, err := Counter(p.KiB, "nr_hugepages")
	if err != nil {
		return 0, err
	}
	if err := setPages(p.KiB, total+p.Count-free); err != nil {
		return 0, err
	}
	after, err := Counter(p.KiB, "nr_hugepages")
	if added = after - total; err == nil && free+added < p.Count {
		err = fmt.Errorf("only %d of %d pages of %d KiB can be had", free+added, p.Count, p.KiB)
		_ = setPages(p.KiB, total) // what is left over is reported by the next try
		added = 0
	}
	return added, err
}

// Release gives back what Reserve had to add.
func Release(kib, added int) error {
	if added == 0 {
		return nil
	}
	total, err := Counter(kib, "nr_hugepages")
	if err != nil {
		return err
	}
	return setPages(kib, max(0, total-added))
}

func mountPages(kib int) error {
	dir := filepath.Join(hugeDir, fmt.Sprintf("%dkB", kib))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), " "+dir+" hugetlbfs ") {
		return err
	}
	if err := syscall.Mount("hugetlbfs", dir, "hugetlbfs", 0, fmt.Sprintf("pagesize=%dK", kib)); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

func pageFile(kib int, name string) string {
	return fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB/%s", kib, name)
}

// Counter reads one of the kernel's counters of pages of a size.
func Counter(kib int, name string) (int, error) {
	content, err := os.ReadFile(pageFile(kib, name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

func setPages(kib, n int) error {
	return os.WriteFile(pageFile(kib, "nr_hugepages"), []byte(strconv.Itoa(n)), 0o644)
}
