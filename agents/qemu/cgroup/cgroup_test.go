package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func read(t *testing.T, parts ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func TestShareIsWrittenForBothHierarchies(t *testing.T) {
	for _, c := range []struct {
		marker       string // that tells the hierarchy
		slice        string
		limit, units string
		want         map[string]string
	}{
		{"cgroup.controllers", "qemu.slice", "1.5", "300", map[string]string{"cpu.max": "150000 100000", "cpu.weight": "300", "cgroup.procs": "77"}},
		{"cgroup.controllers", "qemu.slice", "", "", map[string]string{"cpu.max": "max 100000", "cpu.weight": "100"}},
		{"cgroup.controllers", "qemu.slice", "0", "262144", map[string]string{"cpu.max": "max 100000", "cpu.weight": "10000"}},
		{"cpu/cgroup.procs", "cpu/qemu.slice", "0.5", "", map[string]string{"cpu.cfs_quota_us": "50000", "cpu.shares": "1024"}},
		{"cpu/cgroup.procs", "cpu/qemu.slice", "", "1", map[string]string{"cpu.cfs_quota_us": "-1", "cpu.shares": "2"}},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, c.marker)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, c.marker), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		share, err := Parse(c.limit, c.units)
		if err != nil {
			t.Fatal(err)
		}
		if err := (Groups{root, Slice}).Place(100, 77, share); err != nil {
			t.Fatal(err)
		}
		for file, want := range c.want {
			if got := read(t, root, c.slice, "100.scope", file); got != want {
				t.Errorf("%s, limit %q, units %q: %s is %q, want %q", c.slice, c.limit, c.units, file, got, want)
			}
		}
	}
	for _, bad := range [][2]string{{"x", ""}, {"-1", ""}, {"", "many"}} {
		if _, err := Parse(bad[0], bad[1]); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestKernelTakesTheShare(t *testing.T) {
	g := ownGroups(t)
	slice, v2, err := g.where()
	if err != nil {
		t.Skip(err)
	}
	const vmid = 999_999_901
	cmd, end := process(t)
	defer end()
	if err := g.Place(vmid, cmd.Process.Pid, Share{CPUs: 0.25, Units: 200}); err != nil {
		t.Skipf("groups cannot be made here: %v", err)
	}
	defer g.Remove(vmid)
	file, want := "cpu.cfs_quota_us", "25000"
	if v2 {
		file, want = "cpu.max", "25000 100000"
	}
	if got := read(t, scope(slice, vmid), file); got != want {
		t.Errorf("%s is %q, want %q", file, got, want)
	}
	if got := read(t, scope(slice, vmid), "cgroup.procs"); got != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("the group has %q", got)
	}
	if err := g.Place(vmid, cmd.Process.Pid, Share{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, scope(slice, vmid), file); got == want {
		t.Errorf("%s is still %q", file, got)
	}
	end()
	if err := g.Remove(vmid); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(scope(slice, vmid)); err == nil {
		t.Error("the group is still there")
	}
}

// ownGroups is below the kernel's, for this test alone.
func ownGroups(t *testing.T) Groups {
	t.Helper()
	g := Node(fmt.Sprintf("%s-%d.slice", t.Name(), os.Getpid()))
	t.Cleanup(func() {
		if slice, _, err := g.where(); err == nil {
			_ = os.Remove(slice) // it may not be there
		}
	})
	return g
}

// TestAGroupThatVanishesIsMadeAgain has two agents of one machine put VMs of one VMID
// into a group, and take it away.
func TestAGroupThatVanishesIsMadeAgain(t *testing.T) {
	g := ownGroups(t)
	const vmid = 100
	cmd, end := process(t)
	defer end()
	if err := g.Place(vmid, cmd.Process.Pid, Share{}); err != nil {
		t.Skipf("groups cannot be made here: %v", err)
	}
	end()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = g.Remove(vmid) // that of the others, too
			}
		}
	}()
	for range 30 {
		cmd, end := process(t)
		if err := g.Place(vmid, cmd.Process.Pid, Share{CPUs: 1}); err != nil {
			t.Error(err)
		}
		end()
	}
	close(stop)
	<-stopped
	if err := g.Remove(vmid); err != nil {
		t.Error(err)
	}
}

// process begins one that waits, and can be ended before the test does.
func process(t *testing.T) (cmd *exec.Cmd, end func()) {
	t.Helper()
	cmd = exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, end
}

// TestGroupStaysWhileSomebodyIsInIt as where two nodes of a lab have one VM in turn.
func TestGroupStaysWhileSomebodyIsInIt(t *testing.T) {
	g := ownGroups(t)
	slice, _, err := g.where()
	if err != nil {
		t.Skip(err)
	}
	const vmid = 999_999_902
	gone, endOne := process(t)
	stays, endOther := process(t)
	defer g.Remove(vmid)
	defer endOther()
	defer endOne()
	for _, p := range []*exec.Cmd{gone, stays} {
		if err := g.Place(vmid, p.Process.Pid, Share{}); err != nil {
			t.Skipf("groups cannot be made here: %v", err)
		}
	}
	endOne()
	if err := g.Remove(vmid); err != nil {
		t.Error(err)
	}
	if got := read(t, scope(slice, vmid), "cgroup.procs"); got != strconv.Itoa(stays.Process.Pid) {
		t.Errorf("the group has %q", got)
	}
	endOther()
	if err := g.Remove(vmid); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(scope(slice, vmid)); err == nil {
		t.Error("the group is still there")
	}
}
