package qm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/des"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/storages"
)

// echo is a boot sector that sends what comes in by its serial port back, and
// what is typed on its keyboard too.
var echo = []byte{
	0xba, 0xfd, 0x03, // mov dx, 3fdh: the port's status
	0xec, 0xa8, 0x01, // in al, dx; test al, 1: is there a byte
	0x74, 0x06, // jz to the keyboard
	0xb2, 0xf8, 0xec, 0xee, 0xb2, 0xfd, // mov dl, f8h; in al, dx; out dx, al; mov dl, fdh
	0xb4, 0x01, 0xcd, 0x16, // mov ah, 1; int 16h: is there a key
	0x74, 0xef, // jz to the status
	0xb4, 0x00, 0xcd, 0x16, // mov ah, 0; int 16h: take it
	0xba, 0xf8, 0x03, 0xee, 0xb2, 0xfd, // mov dx, 3f8h; out dx, al; mov dl, fdh
	0xeb, 0xe3, // jmp to the status
}

// newGuest is a place with a VM 300 that runs, of which a boot sector is the
// whole system, under the real agent and a real QEMU.
func newGuest(t *testing.T) Place {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	p := newPlace(t)
	for _, vmid := range []string{"100", "101"} { // they are not this test's
		must(t, os.Remove(filepath.Join(p.Tree, "nodes/n1/qemu-server", vmid+".conf")))
	}
	must(t, os.Remove(filepath.Join(p.RunDir, "101.json")))
	image := filepath.Join(t.TempDir(), "boot.raw")
	must(t, os.WriteFile(image, append(append(echo, make([]byte, 510-len(echo))...), 0x55, 0xaa), 0o644))
	must(t, os.Truncate(image, 1<<20))
	conf := "memory: 32\nbootdisk: ide0\nboot: order=ide0\nide0: " + image + "\nserial0: socket\nagent: 1\ntablet: 0\nballoon: 16\n"
	must(t, os.WriteFile(filepath.Join(p.Tree, "nodes/n1/qemu-server/300.conf"), []byte(conf), 0o644))
	must(t, os.MkdirAll(filepath.Join(p.Tree, ".status"), 0o755))
	p.beginVMs(t)
	if got := p.qm(t, "start 300"); got != "0" {
		t.Fatalf("start: %q", got)
	}
	return p
}

// beginVMs runs the agent of VMs, and ends what it started.
func (p Place) beginVMs(t *testing.T) {
	t.Helper()
	vms, err := qemu.New(qemu.Options{Tree: p.Tree, Node: "n1", RunDir: p.RunDir, Locks: p.RunDir, NoKVM: true, BootID: "boot-1", Volumes: storages.Resolver{Catalog: p.catalog()}, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- vms.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if r, ok, err := record.Dir(p.RunDir).Load(300); err == nil && ok && r.Process.PID > 0 {
			_ = host.Proc.Signal(r.Process, syscall.SIGKILL) // it may be gone
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A talk is a command that runs while the test speaks with it.
type talk struct {
	t    *testing.T
	in   io.WriteCloser
	code chan int

	mu   sync.Mutex // guards said
	said bytes.Buffer
}

func (d *talk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.Write(p)
}

func (d *talk) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
}

// patience is how long a guest under TCG on a busy machine may take.
const patience = 3 * time.Minute

// await repeats what there is to say until the answer is there.
func (d *talk) await(say, want string) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(d.text(), want); time.Sleep(50 * time.Millisecond) {
		if _, err := io.WriteString(d.in, say); err != nil {
			d.t.Fatalf("%v; it said %q", err, d.text())
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("it said %q, want %q", d.text(), want)
		}
	}
}

func (d *talk) end() int {
	d.t.Helper()
	select {
	case code := <-d.code:
		return code
	case <-time.After(patience):
		d.t.Fatalf("it does not end; it said %q", d.text())
		return -1
	}
}

// begin starts a command with an input.
func (p Place) begin(t *testing.T, in io.Reader, speak io.WriteCloser, line string) *talk {
	d := &talk{t: t, in: speak, code: make(chan int, 1)}
	go func() { d.code <- New(p).Run(t.Context(), strings.Fields(line), in, d, d) }()
	t.Cleanup(func() { _ = speak.Close() })
	return d
}

func TestConsolesOfARunningVM(t *testing.T) {
	p := newGuest(t)
	t.Run("terminal", p.testTerminal)
	t.Run("terminal on a tty", p.testTTY)
	t.Run("sendkey", p.testSendKey)
	t.Run("monitor", p.testMonitor)
	t.Run("vncproxy", p.testVNC)
	t.Run("figures", p.testFigures)
	t.Run("list", p.testList)
	t.Run("nbdstop", func(t *testing.T) {
		if got := p.qm(t, "nbdstop 300"); !strings.Contains(got, "NBD server not running") || !strings.HasSuffix(got, "\n255") {
			t.Errorf("%q", got)
		}
	})
}

func (p Place) testTerminal(t *testing.T) {
	in, speak := io.Pipe()
	d := p.begin(t, in, speak, "terminal 300")
	d.await("x", "xx")
	d.await("", "starting serial terminal on interface serial0 (press Ctrl+O to exit)\n")
	if _, err := io.WriteString(speak, "\x0f"); err != nil {
		t.Fatal(err)
	}
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d: %q", code, d.text())
	}
	for line, want := range map[string]string{
		"terminal 300 --iface serial1": "serial interface 'serial1' is not configured\n255",
		"terminal 300 --escape x":      "escape: 'x' is not a control character such as ^O\n255",
	} {
		if got := p.qm(t, line); got != want {
			t.Errorf("qm %s: %q, want %q", line, got, want)
		}
	}
}

// testTTY has the command at a terminal: it passes control characters on, leaves
// by the one that was chosen, and the terminal is as before.
func (p Place) testTTY(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer master.Close()
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer tty.Close()
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	must(t, err)
	d := p.begin(t, tty, master, "terminal 300 --escape ^A")
	d.await("y\x03\x0f", "\x03\x0f")
	if _, err := master.WriteString("\x01"); err != nil {
		t.Fatal(err)
	}
	if code := d.end(); code != 0 || !strings.Contains(d.text(), "(press Ctrl+A to exit)") {
		t.Errorf("exit code %d: %q", code, d.text())
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	must(t, err)
	if *after != *before {
		t.Errorf("the terminal is %+v, was %+v", after, before)
	}
}

func (p Place) testSendKey(t *testing.T) {
	in, speak := io.Pipe()
	d := p.begin(t, in, speak, "terminal 300")
	d.await("z", "z")
	for deadline := time.Now().Add(patience); !strings.Contains(d.text(), "Q"); time.Sleep(100 * time.Millisecond) {
		if got := p.qm(t, "sendkey 300 shift-q"); got != "0" {
			t.Fatalf("%q", got)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest said %q, want a Q", d.text())
		}
	}
	must(t, speak.Close())
	d.end()
	for line, want := range map[string]string{
		"sendkey 300 nokey":   "invalid parameter: nokey\n255",
		"sendkey 300 a;quit":  "key: 'a;quit' is not one or several names joined by '-'\n255",
		"sendkey 999 a":       "Configuration file 'nodes/n1/qemu-server/999.conf' does not exist\n2",
		"sendkey 300":         "400 not enough arguments\nqm sendkey <vmid> <key> [OPTIONS]\n255",
		"sendkey 300 a --foo": "Unknown option: foo\n400 unable to parse option\nqm sendkey <vmid> <key> [OPTIONS]\n255",
	} {
		if got := p.qm(t, line); got != want {
			t.Errorf("qm %s: %q, want %q", line, got, want)
		}
	}
}

func (p Place) testMonitor(t *testing.T) {
	var out, said strings.Builder
	code := New(p).Run(t.Context(), []string{"monitor", "300"}, strings.NewReader("info status\n\nnonsense\nquit\n"), &out, &said)
	const want = "Entering QEMU Monitor for VM 300 - type 'help' for help\nqm> VM status: running\nqm> qm> unknown command: 'nonsense'\nqm> "
	if out.String() != want || said.String() != "" || code != 0 {
		t.Errorf("%q %q %d, want %q", out.String(), said.String(), code, want)
	}
	if got := p.qm(t, "status 300"); got != "status: running\n0" {
		t.Errorf("after quit: %q", got)
	}
}

// testVNC speaks VNC through the proxy up to the end of the authentication.
func (p Place) testVNC(t *testing.T) {
	if got, want := p.qm(t, "vncproxy 300"), "missing VNC ticket in environment variable LC_PVE_TICKET\n255"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	t.Setenv("LC_PVE_TICKET", "PVEVNC:secret")
	in, speak := io.Pipe()
	from, to := io.Pipe()
	ended := make(chan int, 1)
	var said strings.Builder
	go func() {
		ended <- New(p).Run(t.Context(), []string{"vncproxy", "300"}, in, to, &said)
		to.Close()
	}()
	answer := bufio.NewReader(from)
	read := func(n int) []byte {
		t.Helper()
		part := make([]byte, n)
		if _, err := io.ReadFull(answer, part); err != nil {
			t.Fatalf("%v; it said %q", err, said.String())
		}
		return part
	}
	write := func(part []byte) {
		t.Helper()
		_, err := speak.Write(part)
		must(t, err)
	}
	if version := read(12); string(version) != "RFB 003.008\n" {
		t.Fatalf("version %q", version)
	}
	write([]byte("RFB 003.008\n"))
	const byPassword = 2
	if kinds := read(int(read(1)[0])); !bytes.Contains(kinds, []byte{byPassword}) {
		t.Fatalf("authentication by %v", kinds)
	}
	write([]byte{byPassword})
	write(vncAnswer(t, "PVEVNC:secret", read(16)))
	if result := read(4); !bytes.Equal(result, []byte{0, 0, 0, 0}) {
		t.Errorf("authentication: %v", result)
	}
	must(t, speak.Close())
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, &said)
	}
}

// vncAnswer is the challenge under the first eight characters of a password, whose
// bits VNC takes in the other order.
func vncAnswer(t *testing.T, password string, challenge []byte) []byte {
	t.Helper()
	key := make([]byte, 8)
	for i := range key {
		key[i] = bits.Reverse8(password[i])
	}
	block, err := des.NewCipher(key)
	must(t, err)
	answer := make([]byte, len(challenge))
	for i := 0; i < len(challenge); i += block.BlockSize() {
		block.Encrypt(answer[i:], challenge[i:])
	}
	return answer
}

// testList has a paused VM, which runs to those who do not ask its QEMU.
func (p Place) testList(t *testing.T) {
	if got := p.qm(t, "suspend 300"); got != "0" {
		t.Errorf("%q", got)
	}
	for line, want := range map[string]string{"list": " running ", "list --full": " paused ", "status 300": "status: running\n0"} {
		if got := p.qm(t, line); !strings.Contains(got, want) {
			t.Errorf("qm %s: %q, want %q", line, got, want)
		}
	}
	if got := p.qm(t, "resume 300"); got != "0" {
		t.Errorf("%q", got)
	}
}

// testFigures requires what the node can see: the boot sector was read, the
// balloon is as large as the memory.
func (p Place) testFigures(t *testing.T) {
	p.Sys = t.TempDir()
	dir := filepath.Join(p.Sys, "class/net/tap300i0/statistics")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "rx_bytes"), []byte("7\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "tx_bytes"), []byte("5\n"), 0o644))
	got := p.qm(t, "status 300 --verbose")
	for _, line := range []string{
		"balloon: 33554432\n", "ballooninfo:\n\tactual: 33554432\n", "balloon_min: 16777216\n", "blockstat:\n\tide0:\n\t\t", "rd_operations: ", "maxmem: 33554432\n",
		"netin: 5\n", "netout: 7\n", "nics:\n\ttap300i0:\n\t\tnetin: 5\n\t\tnetout: 7\n", "qmpstatus: running\n", "running-machine: pc-i440fx-", "serial: 1\n", "vmid: 300\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	var read int64
	_, rest, _ := strings.Cut(got, "\ndiskread: ")
	if _, err := fmt.Sscan(rest, &read); err != nil || read < 512 {
		t.Errorf("%d bytes read, %v", read, err)
	}
}
