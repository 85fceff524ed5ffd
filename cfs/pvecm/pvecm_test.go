package pvecm

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"etcpve/agents/tools/cli"
	"etcpve/agents/tools/cli/clitest"
	"etcpve/cfs/cluster"
)

var update = flag.Bool("update", false, "rewrite what is generated from the table of commands")

func pvecm(t *testing.T, in string, args ...string) (out string, code int) {
	t.Helper()
	var b strings.Builder
	code = Main(args, strings.NewReader(in), &b, &b)
	return b.String(), code
}

func TestGeneratedTextsAreCurrent(t *testing.T) {
	tool := New()
	const begin, end = ".\\\" begin commands\n", ".\\\" end commands\n"
	page, err := os.ReadFile("../../man/pvecm.1")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("man/pvecm.1 has no place for the commands")
	}
	for name, want := range map[string]string{"man/pvecm.1": head + begin + tool.Mdoc() + end + tail, "contrib/completion/pvecm": tool.Bash()} {
		have, _ := os.ReadFile("../../" + name)
		if *update {
			if err := os.WriteFile("../../"+name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if string(have) != want {
			t.Errorf("%s differs from the table of commands; go test -update writes it", name)
		}
	}
}

// TestCommandsAreThoseOfProxmoxVE names what is deliberately different.
func TestCommandsAreThoseOfProxmoxVE(t *testing.T) {
	const socket, tree = "says which pmxcfs is asked", "says where the tree is mounted"
	known := map[string]string{
		"add: --join-info is no option of Proxmox VE":             "joins without the root password",
		"add: <hostname> is optional: true, want false":           "--join-info names the host",
		"add: --mount is no option of Proxmox VE":                 tree,
		"mtunnel: --mount is no option of Proxmox VE":             tree,
		"updatecerts: --mount is no option of Proxmox VE":         tree,
		"updatecerts: --node is no option of Proxmox VE":          "a lab has several nodes on a machine",
		"expected: --force is no option of Proxmox VE":            "Raft must be told that votes are gone for good",
		"qdevice setup: --fingerprint is no option of Proxmox VE": "a witness is trusted by its certificate",
		"join-info": "prints what add --join-info takes",
		"joininfo":  "prints what add --join-info takes",
	}
	for _, words := range []string{"add", "addnode", "create", "delnode", "expected", "nodes", "qdevice remove", "qdevice setup", "status"} {
		known[words+": --socket is no option of Proxmox VE"] = socket
	}
	for _, words := range []string{"add", "addnode", "create"} {
		known[words+": --nodeid accepts integer from 1 to 4294967295; want integer from 1"] = "it has 32 bits"
		least := map[bool]string{true: "1", false: "0"}[words == "create"]
		known[words+": --votes accepts integer from "+least+" to 4294967295; want integer from "+least] = "they have 32 bits"
	}
	clitest.Check(t, New(), known)
}

func TestMistakesAreRefusedAsUsersKnow(t *testing.T) {
	for line, want := range map[string]string{
		"":                                    "ERROR: no command specified",
		"make":                                "ERROR: unknown command 'pvecm make'",
		"create":                              "400 not enough arguments\npvecm create <clustername> [OPTIONS]",
		"create a b":                          "400 too many arguments",
		"create name-of-16-chars":             "clustername: value may only be 15 characters long",
		"create lab_1":                        "clustername: invalid format - value does not look like a valid node name",
		"create lab --votes 0":                "votes: value must have a minimum value of 1",
		"create lab --link0 a,b=c":            "link0: invalid format",
		"create lab --link1 192.0.2.1":        "--link1 without --link0",
		"create lab --ring0_addr x":           "Unknown option: ring0_addr",
		"expected none":                       "expected: type check ('integer') failed - got 'none'",
		"add":                                 "either the name of a member or --join-info is needed",
		"add n1 --use_ssh":                    "use_ssh: nodes join by TLS only",
		"add n1 --fingerprint 12:34":          "fingerprint: value does not match the regex pattern",
		"qdevice":                             "ERROR: incomplete command 'pvecm qdevice'",
		"qdevice setup host":                  "address: invalid format - value does not look like a valid IP address",
		"qdevice setup 192.0.2.1 --network 1": "network: invalid format",
		"mtunnel ls":                          "mtunnel: a command needs --run-command",
		"status --socket /nonexistent/s":      "pmxcfs does not answer",
	} {
		if got, code := pvecm(t, "", strings.Fields(line)...); code != cli.ExitFailure || !strings.Contains(got, want) {
			t.Errorf("pvecm %s: %d\n%s\nwant %s", line, code, got, want)
		}
	}
}

func TestStatusHasTheFormThatUsersKnow(t *testing.T) {
	r := cluster.Report{Cluster: "lab", Version: 4, Node: "n2", Quorate: true, Expected: 3, Highest: 3, Present: 2, Leader: "n1", Term: 18, Applied: 77,
		Nodes: []cluster.Member{{Name: "n1", ID: 1, Votes: 1, Address: "10.0.0.1", Online: true, Role: "voter"},
			{Name: "n2", ID: 2, Votes: 1, Address: "10.0.0.2", Online: true, Role: "voter"},
			{Name: "n3", ID: 3, Votes: 1, Address: "10.0.0.3", Role: "learner"}}}
	var b strings.Builder
	printStatus(&b, r, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	want := `Cluster information
-------------------
Name:             lab
Config Version:   4
Transport:        tls
Secure auth:      on

Quorum information
------------------
Date:             Fri Jan  2 03:04:05 2026
Quorum provider:  raft
Nodes:            2
Node ID:          0x00000002
Ring ID:          1.12
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      2
Quorum:           2
Flags:            Quorate

Membership information
----------------------
    Nodeid      Votes Name
0x00000001          1 10.0.0.1
0x00000002          1 10.0.0.2 (local)

Raft information
----------------
Leader:           n1
Term:             18
Log index:        77
Voters:           n1 n2
Learners:         n3
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	r.Witness = &cluster.Member{Name: "qdevice", ID: 4, Votes: 1, Online: true, Role: "voter"}
	printMembers(&b, r)
	if got := regexp.MustCompile(`(?m)^0x.*$`).FindAllString(b.String(), -1); len(got) != 3 || got[1] != "0x00000002          1    A,V,NMW 10.0.0.2 (local)" || got[2] != "0x00000000          1            Qdevice" {
		t.Errorf("with a quorum device:\n%s", b.String())
	}
}

func TestATunnelIsHeldOpen(t *testing.T) {
	mount := t.TempDir()
	if err := os.WriteFile(filepath.Join(mount, ".members"), []byte(`{"nodename": "n1", "cluster": {"quorate": 1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := pvecm(t, "resume 100\nquit\nmore\n", "mtunnel", "--mount", mount); out != "tunnel online\nOK\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
	if out, code := pvecm(t, "", "mtunnel", "--run-command", "--", "sh", "-c", "echo far; exit 3"); out != "far\n" || code != 3 {
		t.Errorf("%q, %d", out, code)
	}
	if out, code := pvecm(t, "", "mtunnel", "--get_migration_ip", "--migration_network", "127.0.0.0/8"); out != "ip: '127.0.0.1'\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
	if out, code := pvecm(t, "", "mtunnel", "--get_migration_ip", "--migration_network", "203.0.113.7/32"); code == 0 {
		t.Errorf("%q", out)
	}
}

func TestASecretIsWrittenOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "authkey")
	for i, want := range []int{0, cli.ExitFailure} {
		if out, code := pvecm(t, "", "keygen", name); code != want {
			t.Errorf("run %d: %s", i, out)
		}
	}
	if st, err := os.Stat(name); err != nil || st.Size() != secretBytes || st.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", st, err)
	}
}
