package hasimulator

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcpve/agents/ha"
	"etcpve/agents/ha/sim"
)

func TestRunRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--batch"}, 2},
		{[]string{"a", "b"}, 2},
		{[]string{"--unknown"}, 2},
		{[]string{"--help"}, 0},
		{[]string{"--batch", t.TempDir()}, 1},
		{nil, 1}, // not a terminal
	} {
		var out, errs bytes.Buffer
		if code := Run(c.args, strings.NewReader(""), &out, &errs); code != c.code {
			t.Errorf("%q: exit %d, want %d", c.args, code, c.code)
		}
		if out.Len() != 0 || errs.Len() == 0 {
			t.Errorf("%q: output %q, errors %q", c.args, &out, &errs)
		}
	}
}

func TestBatchPrintsTheLog(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run([]string{"--batch", "../../../fixtures/ha/node-fails"}, nil, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, &errs)
	}
	want, err := os.ReadFile("../../../fixtures/ha/node-fails/log.expect")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("log differs:\n%s", &out)
	}
}

// pressAll presses keys until one quits.
func pressAll(m *model, keys ...string) {
	for _, key := range keys {
		if m.press(key) {
			return
		}
	}
}

func TestKeysRunACluster(t *testing.T) {
	m := newModel(sim.Example())
	pressAll(m, "p", "down", "p", "down", "p", " ", " ", " ")
	if m.cluster.Master() != "node1" {
		t.Fatalf("master is %q, want node1", m.cluster.Master())
	}
	// Rows 3 to 8 are services in order: ct:105, ct:106, vm:101 ...
	pressAll(m, "down", "down", "down", "3", " ", " ", " ", " ")
	s := m.cluster.Services()[2]
	if s.SID != "vm:101" || s.Node != "node3" || fmt.Sprint(s.Running) != "[node3]" {
		t.Errorf("after migration: %+v", s)
	}
	pressAll(m, "t", " ", " ", " ")
	if s = m.cluster.Services()[2]; s.Running != nil || s.State != "stopped" {
		t.Errorf("after stop: %+v", s)
	}
	pressAll(m, "l", "s", " ", " ", "a", " ", " ", " ")
	if s = m.cluster.Services()[2]; s.Running != nil || s.Lock != "backup" {
		t.Errorf("a locked service was started: %+v", s)
	}
	if d, disarmed := m.cluster.Disarmed(); !disarmed || d.State != ha.Disarmed || !strings.Contains(m.title(), "HA disarmed") {
		t.Errorf("not disarmed: %+v, %s", d, m.title())
	}
	pressAll(m, "l", "a", " ", " ", " ", " ")
	if s = m.cluster.Services()[2]; fmt.Sprint(s.Running) != "[node3]" {
		t.Errorf("after unlocking and arming: %+v", s)
	}
	if !m.press("q") {
		t.Error("q does not quit")
	}
}

func TestViewShowsTheChosenRowAndFits(t *testing.T) {
	m := newModel(sim.Example())
	pressAll(m, "p", "down", "p", " ", " ")
	lines := m.view(100, 30)
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"HA simulator   time 40 s   master node1   running",
		"  node1        on     on       online       master             active (active)",
		"> node2        on     on       online       slave              active (active)",
		"  node3        off    off      -            -                  -",
		"  vm:102       started   started                node2        node2",
		"service status vm:102 started",
		nodeHelp,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	if small := m.view(20, 5); len(small) != 5 || len(small[2]) > 20 {
		t.Errorf("does not fit: %q", small)
	}
}

func TestPlayOnATerminal(t *testing.T) {
	master, slave := openTerminal(t)
	done := make(chan error, 1)
	go func() { done <- play(sim.Example(), slave, slave) }()
	if err := master.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	// Each answer is typed once the screen shows what stands before it.
	script := []struct{ shown, typed string }{
		{"HA simulator", "p\x1b[Bp  "},
		{"master node1", "q"},
		{leaveScreen, ""},
	}
	var screen string
	buf := make([]byte, 4096)
	for _, s := range script {
		for !strings.Contains(screen, s.shown) {
			n, err := master.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %q: %v\n%q", s.shown, err, screen)
			}
			screen += string(buf[:n])
		}
		if _, err := master.WriteString(s.typed); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(screen, enterScreen) {
		t.Errorf("screen: %q", screen)
	}
}

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx") // non-blocking, so that deadlines work
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
