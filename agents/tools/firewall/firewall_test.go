package firewall

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/agents/tools/cli/clitest"
)

// call runs the tool and returns its exit code and output.
func call(t *testing.T, p Place, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := New(p).Run(t.Context(), args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

func place(t *testing.T, files map[string]string) Place {
	t.Helper()
	p := Place{Tree: t.TempDir(), Node: "n1", RunDir: t.TempDir()}
	for path, content := range files {
		full := filepath.Join(p.Tree, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestTestsAreCounted(t *testing.T) {
	code, out := call(t, Place{}, "test", "../../../fixtures/firewall/groups")
	if code != 0 || out != "18 passed, 0 failed\n" {
		t.Errorf("exit code %d, output:\n%s", code, out)
	}
	p := place(t, map[string]string{
		"cluster.fw": "[OPTIONS]\nenable: 1\n",
		"tests":      "{ to => 'host', action => 'DROP' }\n# a comment\n{ from => 'outside', to => 'host', dport => 22, action => 'REJECT' }\n",
	})
	code, out = call(t, Place{}, "test", p.Tree)
	want := "tests:3: { from => 'outside', to => 'host', dport => 22, action => 'REJECT' }: from outside to host: DROP, want REJECT\n1 passed, 1 failed\n"
	if code == 0 || !strings.HasPrefix(out, want) {
		t.Errorf("exit code %d, output:\n%s", code, out)
	}
}

func TestSimulation(t *testing.T) {
	p := place(t, map[string]string{
		"firewall/cluster.fw":           "[OPTIONS]\nenable: 1\n[RULES]\nIN ACCEPT -p tcp -dport 22\n",
		"firewall/100.fw":               "[OPTIONS]\nenable: 1\npolicy_in: REJECT\n",
		"nodes/n1/qemu-server/100.conf": "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1\n",
	})
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"simulate", "--dport", "22"}, "ACTION: ACCEPT\n"},
		{[]string{"simulate", "--dport", "23"}, "ACTION: DROP\n"},
		{[]string{"simulate", "--to", "vm100", "--dport", "22"}, "ACTION: REJECT\n"},
		{[]string{"simulate", "--to", "vm100", "--source", "2001:db8::7", "--dport", "22", "--verbose", "1"}, "ACTION: REJECT\n"},
		{[]string{"simulate", "--from", "host", "--to", "outside", "--protocol", "udp"}, "ACTION: ACCEPT\n"},
	} {
		if code, out := call(t, p, c.args...); code != 0 || !strings.HasSuffix(out, c.want) {
			t.Errorf("%q: exit code %d, want %q, output:\n%s", c.args, code, c.want, out)
		}
	}
	if code, out := call(t, p, "simulate", "--to", "vm101"); code == 0 {
		t.Errorf("a packet to no guest:\n%s", out)
	}
}

func TestManPageHasTheTableOfCommands(t *testing.T) {
	page, err := os.ReadFile("../../../man/pve-firewall.8")
	if err != nil {
		t.Fatal(err)
	}
	if table := New(Place{}).Mdoc(); !strings.Contains(string(page), table) {
		t.Errorf("man/pve-firewall.8 has not this table:\n%s", table)
	}
}

func TestCommandsAreThoseOfProxmoxVE(t *testing.T) {
	const both = "rules for IPv6 can be tried too"
	clitest.Check(t, New(Place{}), map[string]string{
		"simulate: --source accepts string format ip; want string format ipv4": both,
		"simulate: --dest accepts string format ip; want string format ipv4":   both,
		"simulate: --sport accepts integer from 1 to 65535; want integer":      "a port",
		"simulate: --dport accepts integer from 1 to 65535; want integer":      "a port",
		"test": "runs files of packets against the rules",
	})
}
