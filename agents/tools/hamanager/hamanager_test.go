package hamanager

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/ha/files"
	"etcpve/agents/tools/cli/clitest"
)

// tree is a cluster of three nodes with two VMs and a container.
func tree(t *testing.T) files.Tree {
	t.Helper()
	tr := files.Tree{Root: t.TempDir()}
	for _, name := range []string{"nodes/n1/qemu-server/100.conf", "nodes/n2/qemu-server/101.conf", "nodes/n3/lxc/102.conf"} {
		if err := tr.Write(name, "memory: 64\n"); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// call runs a command line and returns its output and errors.
func call(t *testing.T, tr files.Tree, line string) string {
	t.Helper()
	var out, errs strings.Builder
	code := New(tr.Root).Run(t.Context(), strings.Fields(line), nil, &out, &errs)
	if code != 0 {
		return fmt.Sprintf("%d: %s", code, strings.SplitN(errs.String(), "\n", 2)[0])
	}
	return out.String()
}

func TestCommandsEditFiles(t *testing.T) {
	tr := tree(t)
	for _, c := range []struct{ line, file, want string }{
		{"add 100 --state started --max_restart 3", files.Resources, "vm: 100\n\tstate started\n\tmax_restart 3\n\n"},
		{"add ct:102", files.Resources, "vm: 100\n\tstate started\n\tmax_restart 3\n\nct: 102\n\n"},
		{"set vm:100 --state stopped --delete max_restart", files.Resources, "vm: 100\n\tstate stopped\n\nct: 102\n\n"},
		{"rules add resource-affinity pair --resources vm:100,ct:102 --affinity positive", files.Rules,
			"resource-affinity: pair\n\tresources vm:100,ct:102\n\taffinity positive\n\n"},
		{"remove vm:100", files.Rules, "resource-affinity: pair\n\tresources ct:102\n\taffinity positive\n\n"},
		{"remove ct:102", files.Rules, ""},
		{"add ct:102 --type ct", files.Resources, "ct: 102\n\n"},
		{"groupadd near --nodes n1:2,n2", files.Groups, "group: near\n\tnodes n1:2,n2\n\n"},
		{"groupset near --restricted 1 --delete comment", files.Groups, "group: near\n\tnodes n1:2,n2\n\trestricted 1\n\n"},
		{"groupremove near", files.Groups, ""},
		{"add 100", files.Resources, "ct: 102\n\nvm: 100\n\n"},
		{"crm-command migrate 100 n2", files.Commands, "migrate vm:100 n2\n"},
		{"crm-command stop ct:102 0", files.Commands, "migrate vm:100 n2\nstop ct:102 0\n"},
		{"crm-command node-maintenance enable n3", files.Commands, "migrate vm:100 n2\nstop ct:102 0\nenable-node-maintenance n3\n"},
		{"relocate 100 n3", files.Commands, "migrate vm:100 n2\nstop ct:102 0\nenable-node-maintenance n3\nrelocate vm:100 n3\n"},
		{"rules add node-affinity home --resources vm:100 --nodes n1:2,n2", files.Rules,
			"node-affinity: home\n\tresources vm:100\n\tnodes n1:2,n2\n\n"},
		{"rules set node-affinity home --nodes n1", files.Rules, "node-affinity: home\n\tresources vm:100\n\tnodes n1\n\n"},
		{"rules set node-affinity home --disable 1", files.Rules, "node-affinity: home\n\tresources vm:100\n\tnodes n1\n\tdisable 1\n\n"},
		{"rules set node-affinity home --disable 0", files.Rules, "node-affinity: home\n\tresources vm:100\n\tnodes n1\n\n"},
		{"rules remove home", files.Rules, ""},
	} {
		if got := call(t, tr, c.line); got != "" {
			t.Errorf("%s: %s", c.line, got)
		}
		if got, err := tr.Read(c.file); err != nil || got != c.want {
			t.Errorf("%s: %v, file is\n%s", c.line, err, got)
		}
	}
}

func TestCommandsRefuse(t *testing.T) {
	tr := tree(t)
	call(t, tr, "add 100")
	call(t, tr, "rules add resource-affinity apart --resources vm:100,vm:101 --affinity negative")
	call(t, tr, "groupadd near --nodes n1")
	call(t, tr, "add 101 --group near")
	for line, want := range map[string]string{
		"groupremove near": "255: group 'near' is used by service 'vm:101'",
		"groupadd far":     "255: 400 Parameter verification failed.",
		"groupset near --restricted 1 --digest 00": "255: ha/groups.cfg: detected modified configuration - file changed by other user? Try again",
		"add ct:102 --type vm":                     "255: service 'ct:102' is not of type 'vm'",
		"add 100":                                  "255: ha/resources.cfg: service 'vm:100' is a resource already",
		"add vm:999":                               "255: service 'vm:999': no such guest",
		"remove 102":                               "255: ha/resources.cfg: section: no section '102'",
		"crm-command migrate 999 n1":               "255: service '999': no such guest",
		"rules add resource-affinity pair --resources vm:100,vm:101 --affinity positive": "255: ha/rules.cfg: rule 'apart': rule shares two or more resources with a positive resource affinity rule",
		"rules add resource-affinity one --resources vm:100 --affinity positive":         "255: ha/rules.cfg: rule 'one': rule is ineffective as there are less than two resources",
		"rules set node-affinity apart --comment x":                                      "255: ha/rules.cfg: rule 'apart' is of type 'resource-affinity'",
		"rules add node-affinity bad --resources vm:100 --nodes n1:first":                "255: 400 Parameter verification failed.",
		"rules add node-affinity bad --resources vm:100":                                 "255: ha/rules.cfg: nodes: section 'bad' of type 'node-affinity' lacks this required key",
		"rules add resource-affinity bad --resources vm:100,vm:101":                      "255: ha/rules.cfg: affinity: section 'bad' of type 'resource-affinity' lacks this required key",
		"rules set resource-affinity apart --nodes n1":                                   "255: rules of type 'resource-affinity' have no option 'nodes'",
		"migrate 102 n1":                         "255: service 'ct:102' is not managed by HA",
		"crm-command relocate 100 n9":            "255: no such cluster node 'n9'",
		"crm-command node-maintenance enable n9": "255: no such cluster node 'n9'",
		"crm-command disarm-ha thaw":             "255: 400 Parameter verification failed.",
		"rules add resource-affinity apart --resources vm:100,vm:101 --affinity negative": "255: ha/rules.cfg: section: 'apart' exists already",
	} {
		if got := call(t, tr, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
}

func TestStatusTellsWhoDoesWhat(t *testing.T) {
	tr := tree(t)
	call(t, tr, "add 100")
	call(t, tr, "add 101")
	call(t, tr, "add 102 --state ignored")
	now := time.Now().Unix()
	for name, text := range map[string]string{
		".members":            `{"nodename":"n1","cluster":{"quorate":1}}`,
		files.Status:          fmt.Sprintf(`{"master_node":"n2","timestamp":%d,"service_status":{"vm:100":{"state":"started","node":"n1"}}}`, now),
		"nodes/n1/lrm_status": fmt.Sprintf(`{"state":"active","mode":"active","timestamp":%d}`, now),
		"nodes/n2/lrm_status": fmt.Sprintf(`{"state":"wait_for_agent_lock","mode":"active","timestamp":%d}`, now),
		"nodes/n3/lrm_status": `{"state":"active","mode":"active","timestamp":1}`,
	} {
		if err := os.WriteFile(filepath.Join(tr.Root, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	at, long := time.Unix(now, 0).Format(time.ANSIC), time.Unix(1, 0).Format(time.ANSIC)
	want := "quorum OK\nmaster n2 (active, " + at + ")\nlrm n1 (active, " + at + ")\nlrm n2 (idle, " + at + ")\n" +
		"lrm n3 (old timestamp - dead?, " + long + ")\n" +
		"service ct:102 (n3, ignored)\nservice vm:100 (n1, started)\nservice vm:101 (n2, queued)\n"
	if got := call(t, tr, "status"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := call(t, tr, "config --type ct"); got != "ct:102\n\tstate ignored\n\n" {
		t.Errorf("%q", got)
	}
}

// TestMotionMindsTheRules asks for motions that rules forbid, or widen.
func TestMotionMindsTheRules(t *testing.T) {
	tr := tree(t)
	for _, line := range []string{"add 100", "add 101", "add 102",
		"rules add resource-affinity apart --resources vm:100,vm:101 --affinity negative",
		"rules add resource-affinity pair --resources vm:100,ct:102 --affinity positive"} {
		if got := call(t, tr, line); got != "" {
			t.Fatalf("%s: %s", line, got)
		}
	}
	status := `{"service_status":{"vm:100":{"state":"started","node":"n1"},"vm:101":{"state":"started","node":"n2"},"ct:102":{"state":"started","node":"n1"}}}`
	if err := tr.Write(files.Status, status); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"migrate 100 n2":  "255: cannot migrate service 'vm:100' to node 'n2': negative affinity with 'vm:101' there",
		"relocate 100 n3": "positive affinity with service 'vm:100': relocate to node 'n3' too: 'ct:102'\n",
		"migrate 101 n3":  "",
	} {
		if got := call(t, tr, line); got != want {
			t.Errorf("%s\n got %q\nwant %q", line, got, want)
		}
	}
}

func TestRulesAreShownWithWhatIsWrong(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	tr := tree(t)
	text := "node-affinity: home\n\tcomment near\n\tnodes n1\n\tresources vm:100\n\nresource-affinity: lone\n\taffinity positive\n\tresources vm:101\n\n" +
		"node-affinity: off\n\tdisable 0\n\tnodes n2\n\tresources vm:100\n\n"
	if err := tr.Write(files.Rules, text); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"rules config --noborder 1": "enabled state    rule type              resources comment\n" +
			"1       in use   home node-affinity     vm:100    near\n" +
			"1       ignored  lone resource-affinity vm:101\n" +
			"0       disabled off  node-affinity     vm:100\n",
		"rules list --noheader 1 --noborder 1 --type node-affinity": "home\noff\n",
		"rules list --output-format json --resource vm:101": `[{"affinity":"positive","enabled":1,"errors":["rule is ineffective as there are less than two resources"],` +
			`"resources":"vm:101","rule":"lone","state":"ignored","type":"resource-affinity"}]` + "\n",
	} {
		if got := call(t, tr, line); got != want {
			t.Errorf("%s\n got\n%s\nwant\n%s", line, got, want)
		}
	}
}

func TestCommandsAreThoseOfProxmoxVE(t *testing.T) {
	clitest.Check(t, New(""), nil)
}
