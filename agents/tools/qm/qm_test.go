package qm

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"etcpve/agents/host"
	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/storage"
	"etcpve/agents/task"
	"etcpve/agents/tools/cli"
	"etcpve/plugins/storage/dir"
)

var update = flag.Bool("update", false, "rewrite what is generated from the table of commands")

// newPlace is a tree with two VMs, of which 101 runs: its QEMU is this test.
func newPlace(t *testing.T) Place {
	t.Helper()
	// A short path, because it is part of socket addresses.
	run, err := os.MkdirTemp("", "qm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	p := Place{Tree: t.TempDir(), Node: "n1", RunDir: run, TaskLogs: t.TempDir()}
	for path, text := range map[string]string{
		"nodes/n1/qemu-server/100.conf": "#first: a%3Ab\nmemory: 1024\nname: web\nscsi0: local:100/a.raw,size=2G\nbogus: 1\n[PENDING]\nmemory: 2048\ndelete: name\n[snap]\nmemory: 512\n",
		"nodes/n1/qemu-server/101.conf": "cores: 2\nlock: backup\n",
		"nodes/n2/qemu-server/200.conf": "cipassword: geheim\ncores: 1\n",
		"power/101":                     "running\n",
	} {
		name := filepath.Join(p.Tree, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.beginTasks(t)
	self, err := host.Proc.Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal(record.Record{Process: self})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.RunDir, "101.json"), record, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// beginTasks runs the agent of tasks, with a storage of files.
func (p Place) beginTasks(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(p.Tree, task.Dir("n1")), 0o755); err != nil {
		t.Fatal(err)
	}
	storages := fmt.Sprintf("dir: local\n\tpath %s\n\tcontent images\n", t.TempDir())
	if err := os.WriteFile(filepath.Join(p.Tree, "storage.cfg"), []byte(storages), 0o644); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	v := verbs.Verbs{Place: place.Place{Tree: p.Tree, Node: "n1", RunDir: p.RunDir, Locks: p.RunDir, Log: log, Catalog: p.catalog()}}
	tasks, err := task.New(task.Options{Tree: p.Tree, Node: "n1", LogDir: p.TaskLogs, Handlers: v.Handlers(), Repairs: v.Repairs(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tasks.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// catalog is the storages of files.
func (p Place) catalog() storage.Catalog {
	run := host.System{}
	return storage.Catalog{Tree: p.Tree, Node: "n1", Run: run, Locks: p.RunDir, Plugins: map[string]storage.Plugin{"dir": dir.Plugin{Run: run}}}
}

// qm returns what a command prints, errors and exit code last.
func (p Place) qm(t *testing.T, line string) string {
	t.Helper()
	var out, err strings.Builder
	code := New(p).Run(t.Context(), strings.Fields(line), nil, &out, &err)
	return fmt.Sprintf("%s%s%d", out.String(), err.String(), code)
}

func TestOutput(t *testing.T) {
	p := newPlace(t)
	for line, want := range map[string]string{
		"list": "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       \n" +
			"       100 web                  stopped    1024               2.00 0         \n" +
			fmt.Sprintf("       101 VM 101               running    512                0.00 %-10d\n0", os.Getpid()),
		"status 100":                   "status: stopped\n0",
		"status 101":                   "status: running\n0",
		"status 200":                   "status: stopped\n0",
		"config 200":                   "cipassword: **********\ncores: 1\n0",
		"pending 200":                  "cur cipassword: **********\ncur cores: 1\n0",
		"terminal 200":                 "VM 200 is on node 'n2': qm terminal works only there\n255",
		"status 300":                   "Configuration file 'nodes/n1/qemu-server/300.conf' does not exist\n2",
		"config 100":                   "description: first%3A a%3Ab\nmemory: 2048\nscsi0: local:100/a.raw,size=2G\n0",
		"config 100 --current":         "description: first%3A a%3Ab\nmemory: 1024\nname: web\nscsi0: local:100/a.raw,size=2G\n0",
		"config 100 --snapshot snap":   "memory: 512\n0",
		"config 100 --snapshot no":     "snapshot 'no' does not exist\n255",
		"pending 100":                  "cur description: first%3A a%3Ab\ncur memory: 1024\nnew memory: 2048\ndel name: web\ncur scsi0: local:100/a.raw,size=2G\n0",
		"start 101":                    "VM 101 already running\n255",
		"stop 101":                     "VM is locked (backup)\n255",
		"shutdown 101":                 "VM is locked (backup)\n255",
		"reboot 100":                   "VM 100 not running\n255",
		"suspend 100":                  "VM 100 not running\n255",
		"destroy 101 --skiplock":       "VM 101 is running - destroy failed\n255",
		"wait 101 --timeout 1":         "got timeout\n255",
		"create 200 --cores 1":         "unable to create VM 200 - VM 200 already exists on node 'n2'\n255",
		"status 99":                    "400 Parameter verification failed.\nvmid: value must have a minimum value of 100\nqm status <vmid> [OPTIONS]\n255",
		"set 100":                      "no options specified\n255",
		"set 100 --digest 1 --cores 2": "detected modified configuration - file changed by other user? Try again.\n255",
		"set 100 --cores x":            "400 Parameter verification failed.\ncores: type check ('integer') failed - got 'x'\nqm set <vmid> [OPTIONS]\n255",
	} {
		if got := p.qm(t, line); got != want {
			t.Errorf("qm %s\n got %q\nwant %q", line, got, want)
		}
	}
}

func TestSetChangesOnlyWhatIsAsked(t *testing.T) {
	p := newPlace(t)
	if got, want := p.qm(t, "set 100 --cores 4 --delete memory --revert name"), "update VM 100: -cores 4 -delete memory -revert name\n0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	text, err := os.ReadFile(filepath.Join(p.Tree, "nodes/n1/qemu-server/100.conf"))
	want := "#first: a%3Ab\ncores: 4\nname: web\nscsi0: local:100/a.raw,size=2G\nbogus: 1\n[snap]\nmemory: 512\n"
	if string(text) != want || err != nil {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
}

var created = regexp.MustCompile(`meta: ctime=\d+`)

func TestCreateUnlockDestroy(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	p := newPlace(t)
	const fixed = " --vmgenid 6e9d7c5e-0001-4000-8000-000000000000 --smbios1 uuid=6e9d7c5e-0001-4000-8000-000000000000"
	shown := "meta: ctime=1\n%ssmbios1: uuid=6e9d7c5e-0001-4000-8000-000000000000\nvmgenid: 6e9d7c5e-0001-4000-8000-000000000000\n0"
	for _, c := range [][2]string{
		{"create 300 --cores 2 --lock backup --scsi0 local:1" + fixed, "scsi0: successfully created disk 'local:300/vm-300-disk-0.raw,size=1G'\n0"},
		{"destroy 300", "VM is locked (backup)\n255"},
		{"unlock 300", "0"},
		{"config 300", "cores: 2\n" + fmt.Sprintf(shown, "scsi0: local:300/vm-300-disk-0.raw,size=1G\n")},
		{"resize 300 scsi0 +1G", "0"},
		{"set 300 --delete scsi0", "update VM 300: -delete scsi0\n0"},
		{"config 300", "cores: 2\n" + strings.TrimSuffix(fmt.Sprintf(shown, ""), "vmgenid: 6e9d7c5e-0001-4000-8000-000000000000\n0") + "unused0: local:300/vm-300-disk-0.raw\nvmgenid: 6e9d7c5e-0001-4000-8000-000000000000\n0"},
		{"set 300 --scsi1 local:300/vm-300-disk-0.raw --delete unused0", "update VM 300: -delete unused0 -scsi1 local:300/vm-300-disk-0.raw\n0"},
		{"disk unlink 300 --idlist scsi1 --force", "update VM 300: -delete scsi1\nremoving volume 'local:300/vm-300-disk-0.raw'\n0"},
		{"unlink 300 --idlist scsi1", "disk 'scsi1' does not exist\n255"},
		{"config 300", "cores: 2\n" + fmt.Sprintf(shown, "")},
		{"snapshot 300 before", "0"},
		{"listsnapshot 300", ""},
		{"destroy 300", "0"},
		{"config 300", "Configuration file 'nodes/n1/qemu-server/300.conf' does not exist\n2"},
	} {
		got := created.ReplaceAllString(p.qm(t, c[0]), "meta: ctime=1")
		if c[0] == "listsnapshot 300" {
			if lines := strings.Split(got, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "`-> before                      20") || lines[1] != " `-> current                                            You are here!" {
				t.Errorf("qm %s: %q", c[0], got)
			}
			continue
		}
		if got != c[1] {
			t.Errorf("qm %s: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestGeneratedTextsAreCurrent(t *testing.T) {
	const begin, end = ".\\\" begin commands\n", ".\\\" end commands\n"
	for _, tool := range []*cli.Tool{New(Place{}), NewRestore(Place{})} {
		page, completion := "../../../man/"+tool.Name+".1", "../../../contrib/completion/"+tool.Name
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, ok := strings.Cut(string(text), begin)
		_, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatal(page + " has no place for the commands")
		}
		for path, want := range map[string]string{page: head + begin + tool.Mdoc() + end + tail, completion: tool.Bash()} {
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); string(got) != want || err != nil {
				t.Errorf("%s differs from the table of commands (%v); go test -update writes it", path, err)
			}
		}
	}
}

func TestImportOVF(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	p, dir := newPlace(t), t.TempDir()
	manifest := `<Envelope><References><File id="f" href="disk.vmdk"/></References><DiskSection><Disk diskId="d" fileRef="f" capacity="1"/></DiskSection>
<VirtualSystem id="other box"><Item><ResourceType>20</ResourceType><InstanceID>7</InstanceID></Item>
<Item><ResourceType>17</ResourceType><HostResource>ovf:/disk/d</HostResource><Parent>7</Parent><AddressOnParent>1</AddressOnParent></Item>
<Item><ResourceType>4</ResourceType><VirtualQuantity>256</VirtualQuantity></Item></VirtualSystem></Envelope>`
	if err := os.WriteFile(filepath.Join(dir, "m.ovf"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := p.qm(t, "importovf 400 "+dir+"/m.ovf local"); !strings.Contains(got, "is no file") {
		t.Errorf("%q", got)
	}
	if out, err := exec.Command("qemu-img", "create", "-f", "vmdk", dir+"/disk.vmdk", "4M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := p.qm(t, "importovf 400 "+dir+"/m.ovf local --dryrun"); !strings.Contains(got, `"virtual_size" : 4194304`) || !strings.HasSuffix(got, "}\n0") {
		t.Errorf("%q", got)
	}
	if got, want := p.qm(t, "importovf 400 "+dir+"/m.ovf local --format qcow2"), "sata1: importing '"+dir+"/disk.vmdk'\n0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	got := p.qm(t, "config 400")
	for _, line := range []string{"boot: order=sata1\n", "memory: 256\n", "name: other-box\n", "ostype: other\n", "sata1: local:400/vm-400-disk-0.qcow2,size=4M\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("%q lacks %q", got, line)
		}
	}
}

func TestCloudInit(t *testing.T) {
	p := newPlace(t)
	conf := "ciuser: joe\nide2: local:500/vm-500-cloudinit.qcow2,media=cdrom\nipconfig0: ip=dhcp\nname: cloud\nnet0: virtio=BC:24:11:00:00:01\n[special:cloudinit]\nciuser: ann\nname: cloud\nnameserver: 1.1.1.1\n"
	if err := os.WriteFile(filepath.Join(p.Tree, "nodes/n1/qemu-server/500.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := p.qm(t, "cloudinit pending 500"), "cur ciuser: ann\nnew ciuser: joe\nnew ipconfig0: ip=dhcp\ncur name: cloud\ndel nameserver: 1.1.1.1\n0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for kind, want := range map[string]string{"user": "user: \"joe\"", "meta": "instance-id: ", "network": "bc:24:11:00:00:01"} {
		if got := p.qm(t, "cloudinit dump 500 "+kind); !strings.Contains(got, want) || !strings.HasSuffix(got, "\n0") {
			t.Errorf("%s: %q lacks %q", kind, got, want)
		}
	}
}

// TestHADecidesWhatRuns passes wishes on where HA looks after a VM.
func TestHADecidesWhatRuns(t *testing.T) {
	p := newPlace(t)
	must(t, os.MkdirAll(filepath.Join(p.Tree, "ha"), 0o755))
	must(t, os.MkdirAll(filepath.Join(p.Tree, "priv/lock"), 0o755))
	write := func(text string) {
		must(t, os.WriteFile(filepath.Join(p.Tree, "ha/resources.cfg"), []byte(text), 0o644))
	}
	write("vm: 100\n\tmax_restart 2\n\tstate stopped\n")
	for _, c := range [][2]string{
		{"start 100", "Requesting HA start for VM 100\n0"},
		{"stop 100", "Requesting HA stop for VM 100\n0"},
		{"shutdown 100", "Requesting HA stop for VM 100\n0"},
		{"shutdown 100 --timeout 5", "Requesting HA stop for VM 100\n0"},
		{"stop 100 --skiplock", "0"},
	} {
		if got := p.qm(t, c[0]); got != c[1] {
			t.Errorf("qm %s: %q, want %q", c[0], got, c[1])
		}
	}
	for path, want := range map[string]string{
		"ha/resources.cfg": "vm: 100\n\tmax_restart 2\n\tstate started\n",
		"ha/crm_commands":  "stop vm:100 0\nstop vm:100 60\nstop vm:100 5\n",
		"power/100":        "stopped\n", // of the last one, which is not HA's
	} {
		if text, err := os.ReadFile(filepath.Join(p.Tree, path)); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", path, text, err, want)
		}
	}
	write("vm: 100\n\tstate ignored\n")
	if got := p.qm(t, "stop 100"); got != "0" {
		t.Errorf("one that HA ignores: %q", got)
	}
}

// TestFilesAndQuestionsOfSet sets keys from a file, a password from the input, and
// a disk with a source.
func TestFilesAndQuestionsOfSet(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	p := newPlace(t)
	must(t, os.WriteFile(filepath.Join(p.Tree, "nodes/n1/qemu-server/102.conf"), []byte("memory: 16\n"), 0o644))
	keys := filepath.Join(t.TempDir(), "id.pub")
	must(t, os.WriteFile(keys, []byte("ssh-ed25519 AAAA/+= me@here\n"), 0o644))
	image := filepath.Join(t.TempDir(), "disk.raw")
	must(t, os.WriteFile(image, make([]byte, 1<<20), 0o644))
	var out, said strings.Builder
	line := "set 102 --sshkeys " + keys + " --cipassword --scsi0 local:0,import-from=" + image
	if code := New(p).Run(t.Context(), strings.Fields(line), strings.NewReader("secret\n"), &out, &said); code != 0 {
		t.Fatalf("%d %q %q", code, out.String(), said.String())
	}
	got := p.qm(t, "config 102")
	for _, want := range []string{"sshkeys: ssh-ed25519%20AAAA%2F%2B%3D%20me%40here%0A\n", "cipassword: **********\n", "scsi0: local:102/vm-102-disk-0.raw,size=1M\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	text, err := os.ReadFile(filepath.Join(p.Tree, "nodes/n1/qemu-server/102.conf"))
	if err != nil || !strings.Contains(string(text), "cipassword: $5$") || !strings.Contains(out.String(), "-cipassword <hidden>") {
		t.Errorf("%v: %s%s", err, text, out.String())
	}
	if got := p.qm(t, "set 102 --sshkeys /no/such/file"); got != "open /no/such/file: no such file or directory\n255" {
		t.Errorf("%q", got)
	}
}
