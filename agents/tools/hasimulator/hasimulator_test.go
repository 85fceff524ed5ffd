package hasimulator

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// pressAll presses keys, each followed by enough rounds for its effect.
func pressAll(m *model, keys ...string) {
	for _, key := range keys {
		m.press(key)
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
	screen := make(chan string)
	go func() {
		defer close(screen)
		var all strings.Builder
		buf := make([]byte, 4096)
		for !strings.Contains(all.String(), leaveScreen) {
			n, err := master.Read(buf)
			if err != nil {
				break
			}
			all.Write(buf[:n])
		}
		screen <- all.String()
	}()
	if _, err := master.WriteString("p\x1b[B pq"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("does not quit")
	}
	if got := <-screen; !strings.HasPrefix(got, enterScreen) || !strings.Contains(got, "HA simulator") {
		t.Errorf("screen: %q", got)
	}
}

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
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
