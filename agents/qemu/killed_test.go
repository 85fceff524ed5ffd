package qemu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/qemu/record"
)

// An agentProcess is an agent that can be killed without a chance to clean up.
type agentProcess struct{ cmd *exec.Cmd }

// agentHere runs an agent until it is killed, if this process was started to
// be one, and reports that.
func agentHere(t *testing.T) bool {
	dirs := strings.Split(os.Getenv("QEMU_TEST_AGENT"), ":")
	if len(dirs) != 3 {
		return false
	}
	n := &node{TB: t, tree: dirs[0], run: dirs[1], images: dirs[2], ports: &recorder{}}
	agent, err := New(n.options())
	n.must(err)
	n.must(agent.Run(t.Context()))
	return true
}

func (n *node) spawn() *agentProcess {
	n.Helper()
	self, err := os.Executable()
	n.must(err)
	cmd := exec.Command(self, "-test.run=^"+n.Name()+"$")
	cmd.Env = append(os.Environ(), "QEMU_TEST_AGENT="+n.tree+":"+n.run+":"+n.images)
	n.must(cmd.Start())
	p := &agentProcess{cmd}
	n.Cleanup(p.kill)
	return p
}

func (p *agentProcess) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// guests counts the QEMUs of this node.
func (n *node) guests() (count int) {
	n.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	n.must(err)
	for _, name := range names {
		if comm, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(comm), "qemu-system") {
			continue
		}
		argv, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if strings.Contains(string(argv), n.run+"/100.pid") {
			count++
		}
	}
	return count
}

// moments are the times after which an agent is killed: from before it has read
// the first file to after it is done.
func moments(last time.Duration) (all []time.Duration) {
	for i := range 8 {
		all = append(all, last*time.Duration(i)/7)
	}
	return all
}

func TestAgentKilledWhileItStartsAGuestLeavesItToTheNext(t *testing.T) {
	if agentHere(t) {
		return
	}
	n := newNode(t)
	conf := append(small, "startup: down=0", "net0: virtio=BC:24:11:00:00:01", "scsi0: "+n.image("vm-100-disk-0.raw")+",iops_rd=50", "balloon: 32")
	n.conf(conf...)
	for _, after := range moments(700 * time.Millisecond) {
		n.power(Running)
		first := n.spawn()
		time.Sleep(after) // the moment is the scenario
		first.kill()
		second := n.spawn()
		n.awaitStatus("guest", "running")
		n.settled()
		if got := n.guests(); got != 1 {
			t.Errorf("killed after %v: %d QEMUs run", after, got)
		}
		if b := n.block("scsi0"); b.Inserted.IopsRd != 50 {
			t.Errorf("killed after %v: scsi0 has %+v", after, b.Inserted)
		}
		n.power(Stopped)
		time.Sleep(after / 4) // the moment is the scenario
		second.kill()
		third := n.spawn()
		n.awaitStatus("guest", "stopped")
		n.await("QEMU to go", func() bool { return n.guests() == 0 })
		third.kill()
	}
}

// TestGuestThatComesUpSlowlyIsWaitedFor has a QEMU that an agent before began,
// and that takes its time to write its pid file.
func TestGuestThatComesUpSlowlyIsWaitedFor(t *testing.T) {
	n := newNode(t)
	n.conf(append(small, "scsi0: "+n.image("vm-100-disk-0.raw"))...)
	n.power(Paused)
	agent, err := New(n.options())
	n.must(err)
	defer agent.Close()
	command, err := agent.Command(t.Context(), 100, "")
	n.must(err)
	d, err := agent.Desired(t.Context(), "100")
	n.must(err)
	n.must(agent.records().Save(100, record.Record{Config: d.Config, Accel: "tcg"}))
	// A script under the name of QEMU, with its arguments, becomes it later.
	slow := filepath.Join(t.TempDir(), "qemu-system-slow")
	n.must(os.WriteFile(slow, []byte("#!/bin/sh\nsleep 1\nexec qemu-system-x86_64 \"$@\"\n"), 0o755))
	cmd := exec.Command(slow, append(command.Args, "-S", "-daemonize", "-D", filepath.Join(n.run, "100.log"))...)
	n.must(cmd.Start())
	n.begin()
	n.awaitStatus("guest", "paused")
	n.must(cmd.Wait())
	if got := n.guests(); got != 1 {
		t.Errorf("%d QEMUs run", got)
	}
	n.settled()
}

func TestAgentKilledWhileItPlugsLeavesItToTheNext(t *testing.T) {
	if agentHere(t) {
		return
	}
	n := newNode(t)
	base := []string{"memory: 1024", "numa: 1", "cores: 4", "vcpus: 1", "hotplug: disk,network,usb,cpu,memory", "vga: none", "tablet: 0", "ostype: l26",
		"scsihw: virtio-scsi-pci", "scsi0: " + n.image("vm-100-disk-0.raw"), "ide2: none,media=cdrom"}
	n.conf(base...)
	n.power(Paused)
	p := n.spawn()
	n.awaitStatus("guest", "paused")
	pid := n.status("pid")
	disk, cd := "scsi1: "+n.image("vm-100-disk-1.raw")+",iops_wr=70", n.image("cd.raw")
	p.kill()
	for i, after := range moments(500 * time.Millisecond) {
		// A guest that is paused releases disks and USB devices at once and the others never.
		more := append([]string{}, base...)
		more[0], more[3] = fmt.Sprintf("memory: %d", 1024+512*(i+1)), fmt.Sprintf("vcpus: %d", min(i+1, 4))
		more[len(more)-1] = "ide2: " + cd + ",media=cdrom"
		for j := range i + 1 {
			more = append(more, fmt.Sprintf("net%d: e1000=BC:24:11:00:01:%02x", j+1, j))
		}
		kept := append([]string{}, more...)
		kept[len(base)-1] = "ide2: none,media=cdrom"
		n.change(after, append(more, disk, "usb0: host=1-7", "tablet: 1"), func(d map[string]bool) bool {
			return d["scsi1"] && d["usb0"] && d["tablet"] && d[fmt.Sprintf("net%d", i+1)] && d[fmt.Sprintf("dimm%d", i)]
		})
		if b := n.block("ide2"); b.Inserted == nil || b.TrayOpen {
			t.Errorf("killed after %v: ide2 has %+v", after, b)
		}
		n.change(after, kept, func(d map[string]bool) bool { return !d["scsi1"] && !d["usb0"] && !d["tablet"] })
		if b := n.block("ide2"); b.Inserted != nil {
			t.Errorf("killed after %v: ide2 still has %+v", after, b)
		}
	}
	if n.status("pid") != pid || n.guests() != 1 {
		t.Errorf("the guest runs as %s, was %s; %d QEMUs", n.status("pid"), pid, n.guests())
	}
}

// change saves a configuration, kills the agent that takes it up, and waits for
// the next one to finish.
func (n *node) change(after time.Duration, conf []string, done func(devices map[string]bool) bool) {
	n.Helper()
	n.conf(conf...)
	first := n.spawn()
	time.Sleep(after) // the moment is the scenario
	first.kill()
	second := n.spawn()
	n.await("the change", func() bool { return done(n.devices()) })
	n.settled()
	second.kill()
}
