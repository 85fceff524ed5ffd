package qm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/qemu/cmdline"
)

// newAgentGuest is a place whose VM 101 has a guest agent: the real one, which
// takes this machine for the guest.
func newAgentGuest(t *testing.T) Place {
	t.Helper()
	program, err := exec.LookPath("qemu-ga")
	if err != nil {
		t.Skip(err)
	}
	p := newPlace(t)
	must(t, os.WriteFile(filepath.Join(p.Tree, "nodes/n1/qemu-server/101.conf"), []byte("agent: 1\n"), 0o644))
	socket := cmdline.RunFile(p.RunDir, 101, "qga")
	agent := exec.Command(program, "-m", "unix-listen", "-p", socket, "-t", p.RunDir, "-f", filepath.Join(p.RunDir, "ga.pid"))
	must(t, agent.Start())
	t.Cleanup(func() {
		_ = agent.Process.Kill() // it may have ended
		_ = agent.Wait()
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		// The socket is there a moment before anybody listens.
		if got := p.qm(t, "guest cmd 101 ping"); got == "0" {
			return p
		} else if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %s", program, got)
		}
	}
}

func TestGuestCommands(t *testing.T) {
	p := newAgentGuest(t)
	for line, want := range map[string]string{
		"guest cmd 101 ping":                        "0",
		"agent 101 ping":                            "0",
		"guest cmd 101 fsfreeze-status":             "thawed\n0",
		"guest cmd 101 get-nothing":                 "400 Parameter verification failed.\ncommand: value 'get-nothing' does not have a value in the enumeration '",
		"guest cmd 100 ping":                        "VM 100 is not running\n255",
		"guest exec 101 echo two words":             "{\n   \"exitcode\" : 0,\n   \"exited\" : 1,\n   \"out-data\" : \"two words\\n\",\n   \"out-truncated\" : 0\n}\n0",
		"guest exec 101 --timeout 60 -- ls -d /":    "{\n   \"exitcode\" : 0,\n   \"exited\" : 1,\n   \"out-data\" : \"/\\n\",\n   \"out-truncated\" : 0\n}\n0",
		"guest exec 101 -- false":                   "{\n   \"exitcode\" : 1,\n   \"exited\" : 1\n}\n0",
		"guest exec 101 /no/program":                "Agent error: Guest agent command failed",
		"guest exec-status 101 1":                   "Agent error: Invalid parameter 'pid'\n255",
		"guest passwd 101 root --password 1234":     "400 Parameter verification failed.\npassword: value must be at least 5 characters long\n",
		"guest passwd 101 no.such.user --crypted 1": "no password given\n255",
	} {
		got := p.qm(t, line)
		if strings.HasSuffix(want, "0") || strings.HasSuffix(want, "255") {
			if got != want {
				t.Errorf("qm %s: %q, want %q", line, got, want)
			}
		} else if !strings.HasPrefix(got, want) {
			t.Errorf("qm %s: %q, want it to begin with %q", line, got, want)
		}
	}
	if got := p.qm(t, "guest cmd 101 get-host-name"); !strings.HasPrefix(got, "{\n   \"host-name\" : ") || !strings.HasSuffix(got, "\n}\n0") {
		t.Errorf("%q", got)
	}
	var out, said strings.Builder
	line := "guest passwd 101 no.such.user"
	code := New(p).Run(t.Context(), strings.Fields(line), strings.NewReader("a password\nmore"), &out, &said)
	if code != 255 || strings.Contains(said.String(), "no password given") {
		t.Errorf("the user is none: %q %q %d", out.String(), said.String(), code)
	}
}

func TestProgramsInAGuestAreWaitedForOrNot(t *testing.T) {
	p := newAgentGuest(t)
	var out, said strings.Builder
	code := New(p).Run(t.Context(), strings.Fields("guest exec 101 --pass-stdin -- cat"), strings.NewReader("from here"), &out, &said)
	if !strings.Contains(out.String(), `"out-data" : "from here"`) || code != 0 {
		t.Errorf("%q %q %d", out.String(), said.String(), code)
	}
	var pid int
	got := p.qm(t, "guest exec 101 --synchronous 0 -- cat /dev/null")
	if _, err := fmt.Sscanf(got, "{\n   \"pid\" : %d\n}", &pid); err != nil {
		t.Fatalf("%v: %q", err, got)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := p.qm(t, fmt.Sprintf("guest exec-status 101 %d", pid))
		if strings.Contains(got, "\"exitcode\" : 0") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q", got)
		}
	}
	if got := p.qm(t, "guest exec 101 --timeout 1 -- sleep 3"); !strings.Contains(got, "\"pid\" : ") || !strings.Contains(got, "timeout reached, returning pid\n") {
		t.Errorf("%q", got)
	}
}
