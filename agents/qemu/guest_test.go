package qemu

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

// linux builds the small guest and returns the args that boot it.
func linux(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a Linux guest")
	}
	dir := t.TempDir()
	out, err := exec.Command("../../contrib/guest/make-initrd", dir).CombinedOutput()
	if err != nil {
		t.Skipf("no guest: %v: %s", err, out)
	}
	return "args: -kernel " + dir + "/kernel -initrd " + dir + "/initrd.img -append 'console=ttyS0 quiet'"
}

// A console is the guest's serial line.
type console struct {
	net.Conn
	lines chan string
}

func (n *node) console() *console {
	n.Helper()
	conn, err := net.Dial("unix", cmdline.RunFile(n.run, 100, "serial0"))
	n.must(err)
	c := &console{conn, make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(c.lines)
		for scan := bufio.NewScanner(conn); scan.Scan(); {
			c.lines <- scan.Text()
		}
	}()
	n.Cleanup(func() {
		conn.Close()
		<-done
	})
	return c
}

// awaitLine reads the console up to a line with text.
func (n *node) awaitLine(c *console, text string) {
	n.Helper()
	late := time.After(3 * time.Minute)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				n.Fatalf("the console ended before %q", text)
			}
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			n.Fatalf("no %q on the console", text)
		}
	}
}

func TestLinuxGuestReleasesDevicesAndSwitchesOff(t *testing.T) {
	n := newNode(t)
	base := []string{"memory: 256", "vga: none", "scsihw: virtio-scsi-single", "serial0: socket", linux(t)}
	n.conf(base...)
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	c := n.console()
	n.power(Running)
	n.awaitLine(c, "guest ready")

	more := append(base, "scsi2: "+n.image("vm-100-disk-2.raw")+",iothread=1", "virtio1: "+n.image("vm-100-disk-1.raw"), "net1: virtio=BC:24:11:00:00:02")
	n.conf(more...)
	n.await("all plugged", func() bool { d := n.devices(); return d["scsi2"] && d["virtio1"] && d["net1"] })
	n.settled()
	n.conf(base...)
	n.await("all released", func() bool {
		d := n.devices()
		return !d["scsi2"] && !d["virtio1"] && !d["net1"] && !d["virtioscsi2"]
	})
	n.settled()
	n.conf(more...)
	n.await("all plugged again", func() bool { d := n.devices(); return d["scsi2"] && d["virtio1"] && d["net1"] })

	n.conf(append(more, "cores: 2")...)
	n.awaitStatus("pending", "cores: needs restart")
	pid := n.status("pid")
	c.Write([]byte("reboot -f\n"))
	n.awaitLine(c, "guest ready")
	if n.status("pid") != pid || n.status("pending") != "cores: needs restart" {
		t.Errorf("after the guest's own reboot: pid %s, was %s; pending %q", n.status("pid"), pid, n.status("pending"))
	}

	n.power(Stopped)
	n.awaitLine(c, "powering off")
	n.awaitStatus("guest", "stopped")
}

func TestGuestThatSwitchesItselfOffStaysOff(t *testing.T) {
	n := newNode(t)
	n.conf("memory: 256", "vga: none", "serial0: socket", linux(t))
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	c := n.console()
	n.power(Running)
	n.awaitLine(c, "guest ready")
	c.Write([]byte("poweroff -f\n"))
	n.await("power/100: stopped", func() bool {
		content, _ := os.ReadFile(filepath.Join(n.tree, "power/100"))
		return string(content) == "stopped\n"
	})
	n.awaitStatus("guest", "stopped")
	n.settled()
}

// TestBalloonOfALinuxGuestMoves: what the meter asks for becomes the guest's
// memory, and the guest tells how much of it is free.
func TestBalloonOfALinuxGuestMoves(t *testing.T) {
	n := newNode(t)
	n.write(".rrd", "")
	n.conf("name: lin", "memory: 512", "balloon: 256", "vga: none", "serial0: socket", linux(t))
	n.power(Paused)
	n.begin()
	n.awaitStatus("guest", "paused")
	c := n.console()
	n.power(Running)
	n.awaitLine(c, "guest ready")
	full := func() (host.Memory, error) { return host.Memory{Total: 8 << 30, Available: 0}, nil }
	empty := func() (host.Memory, error) { return host.Memory{Total: 8 << 30, Available: 8 << 30}, nil }
	m := n.agent.meter()
	size := func() int64 {
		var now struct{ Actual int64 }
		n.qmp("query-balloon", nil, &now)
		return now.Actual >> 20
	}
	for _, step := range []struct {
		memory func() (host.Memory, error)
		want   int64
	}{{full, 256}, {empty, 512}, {full, 256}} {
		m.Memory = step.memory
		n.await(fmt.Sprintf("%d MiB", step.want), func() bool {
			m.Round(t.Context(), time.Now())
			return size() == step.want
		})
	}
	n.await("the guest's own figures", func() bool {
		m.Round(t.Context(), time.Now())
		content, err := os.ReadFile(filepath.Join(n.tree, ".rrd"))
		n.must(err)
		words := strings.Split(string(content), ":")
		var used, total int64
		if len(words) > 16 {
			_, _ = fmt.Sscan(words[9], &used)
			_, _ = fmt.Sscan(words[8], &total)
		}
		return words[2] == "lin" && total == 512<<20 && used > 10<<20 && used < 256<<20 && words[7] != "U"
	})
}
