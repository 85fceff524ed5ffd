// Package cgroup gives each VM its share of the node's CPUs.
//
// It owns one group for each running VM, qemu.slice/VMID.scope as on Proxmox
// VE, in the hierarchy of cgroup v2 or, on older nodes, of v1's cpu controller.
// It never limits memory: QEMU would be killed for what its guest does.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A Share is what a VM may use of the node's CPUs.
type Share struct {
	CPUs  float64 // how many at most, 0: no limit
	Units int     // weight against others, 0: as everybody
}

// Parse reads the keys cpulimit and cpuunits.
func Parse(limit, units string) (s Share, err error) {
	if limit != "" {
		if s.CPUs, err = strconv.ParseFloat(limit, 64); err != nil || s.CPUs < 0 {
			return s, fmt.Errorf("cpulimit: %q is not a number of CPUs", limit)
		}
	}
	if units != "" {
		if s.Units, err = strconv.Atoi(units); err != nil || s.Units < 0 {
			return s, fmt.Errorf("cpuunits: %q is not a weight", units)
		}
	}
	return s, nil
}

// Groups are those of a node's VMs, below where the kernel shows them.
type Groups struct{ Root, Slice string }

// Slice is the group of all VMs of a node.
const Slice = "qemu.slice"

// Node is this machine; all agents of one slice have their VMs in common.
func Node(slice string) Groups { return Groups{Root: "/sys/fs/cgroup", Slice: slice} }

// period is that of a CPU limit, in microseconds.
const period = 100_000

// weights of v2 and v1 for a VM without cpuunits, and the bounds of the kernel.
const (
	weight, minWeight, maxWeight = 100, 1, 10_000
	shares, minShares, maxShares = 1024, 2, 262_144
)

// where returns the slice of all VMs, and whether it is of cgroup v2.
func (g Groups) where() (slice string, v2 bool, err error) {
	if _, err := os.Stat(filepath.Join(g.Root, "cgroup.controllers")); err == nil {
		return filepath.Join(g.Root, g.Slice), true, nil
	}
	old := filepath.Join(g.Root, "cpu")
	if _, err := os.Stat(filepath.Join(old, "cgroup.procs")); err == nil {
		return filepath.Join(old, g.Slice), false, nil
	}
	return "", false, fmt.Errorf("%s: no CPU controller", g.Root)
}

func scope(slice string, vmid uint32) string {
	return filepath.Join(slice, fmt.Sprintf("%d.scope", vmid))
}

// Place puts a process into the group of its VM with this share. It may be
// there already, with another.
func (g Groups) Place(vmid uint32, pid int, s Share) error {
	slice, v2, err := g.where()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(slice, 0o755); err != nil {
		return err
	}
	return alone(slice, func() error { return g.place(scope(slice, vmid), v2, pid, s) })
}

// alone changes the groups of a slice while nobody else on this machine does: a group that
// is new and empty yet would be removed by a node that has just lost its VM.
func alone(slice string, change func() error) error {
	dir, err := os.Open(slice)
	if err != nil {
		return err
	}
	defer dir.Close() // which gives the lock back
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", slice, err)
	}
	return change()
}

func (g Groups) place(dir string, v2 bool, pid int, s Share) error {
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return err
	}
	if v2 {
		// Groups below get the controllers that those above hand down.
		for _, above := range []string{g.Root, filepath.Dir(dir)} {
			if err := put(above, "cgroup.subtree_control", "+cpu"); err != nil {
				return err
			}
		}
		err = s.v2(dir)
	} else {
		err = s.v1(dir)
	}
	if err != nil {
		return err
	}
	return put(dir, "cgroup.procs", strconv.Itoa(pid))
}

func (s Share) v2(dir string) error {
	quota := "max"
	if s.CPUs > 0 {
		quota = strconv.Itoa(int(s.CPUs * period))
	}
	units := weight
	if s.Units > 0 {
		units = min(max(s.Units, minWeight), maxWeight)
	}
	return errors.Join(put(dir, "cpu.max", fmt.Sprintf("%s %d", quota, period)), put(dir, "cpu.weight", strconv.Itoa(units)))
}

func (s Share) v1(dir string) error {
	quota := -1
	if s.CPUs > 0 {
		quota = int(s.CPUs * period)
	}
	units := shares
	if s.Units > 0 {
		units = min(max(s.Units, minShares), maxShares)
	}
	return errors.Join(put(dir, "cpu.cfs_period_us", strconv.Itoa(period)), put(dir, "cpu.cfs_quota_us", strconv.Itoa(quota)),
		put(dir, "cpu.shares", strconv.Itoa(units)))
}

func put(dir, name, value string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644)
}

// Remove takes the group of a VM away, whose process has ended. A group that another
// process is in stays: on a machine that plays several nodes, a VM that moved from one
// to the other is still in it, and whoever ends it removes it.
func (g Groups) Remove(vmid uint32) error {
	slice, _, err := g.where()
	if err != nil {
		return nil // then there never was one
	}
	dir := scope(slice, vmid)
	for range 50 { // the kernel counts a process for a moment after its end
		if err = alone(slice, func() error { return syscall.Rmdir(dir) }); err != syscall.EBUSY {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if inside, unread := os.ReadFile(filepath.Join(dir, "cgroup.procs")); unread == nil && len(inside) > 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", dir, err)
}
