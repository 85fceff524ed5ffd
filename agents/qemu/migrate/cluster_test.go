package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu"
	"etcpve/agents/qemu/place"
	"etcpve/agents/qemu/record"
	"etcpve/agents/qemu/storages"
	"etcpve/agents/qemu/verbs"
	"etcpve/agents/storage"
	"etcpve/agents/task"
	"etcpve/cfs/join"
	"etcpve/plugins/storage/dir"
)

// A cluster is two nodes that share one tree, each with its own storages below
// the same names, and agents in processes of their own. Its VMs are real and run
// under TCG.
type cluster struct {
	*testing.T
	dir, run string // run is short, because it is part of socket addresses
	agents   [3]*exec.Cmd
}

// agentEnv makes this program the agents of a node instead of its tests: in a
// process of their own they can be killed.
const agentEnv = "MIGRATE_TEST_AGENTS"

func TestMain(m *testing.M) {
	if where := os.Getenv(agentEnv); where != "" {
		part := strings.Split(where, ":")
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := serveNode(ctx, placeOf(part[0], part[1], part[2]))
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func placeOf(tree, node, run string) place.Place {
	return place.Place{
		Tree: tree, Node: node, RunDir: run, Locks: filepath.Join(run, "lock"), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Catalog: storage.Catalog{
			Tree: tree, Node: node, Run: host.System{}, Locks: filepath.Join(run, "storage"),
			Plugins: map[string]storage.Plugin{"dir": dir.Plugin{Run: host.System{}}},
		},
	}
}

// serveNode is the agents of VMs and of tasks until ctx ends.
func serveNode(ctx context.Context, p place.Place) error {
	o := qemu.Options{Tree: p.Tree, Node: p.Node, RunDir: p.RunDir, Locks: p.Locks, NoKVM: true, BootID: "boot-1", Free: p.Catalog, Volumes: storages.Resolver{Catalog: p.Catalog}, Log: p.Log}
	vms, err := qemu.New(o)
	if err != nil {
		return err
	}
	arrivals, err := qemu.New(o)
	if err != nil {
		return err
	}
	all := task.Options{Tree: p.Tree, Node: p.Node, LogDir: filepath.Join(p.RunDir, "tasks"), Log: p.Log,
		Handlers: map[string]task.Handler{}, Repairs: map[string]task.Handler{}}
	for _, v := range []interface {
		Handlers() map[string]task.Handler
		Repairs() map[string]task.Handler
	}{verbs.Verbs{Place: p}, Verbs{Place: p, Arrivals: arrivals}} {
		for name, h := range v.Handlers() {
			all.Handlers[name] = h
		}
		for name, h := range v.Repairs() {
			all.Repairs[name] = h
		}
	}
	tasks, err := task.New(all)
	if err != nil {
		return err
	}
	done := make(chan error, 2)
	go func() { done <- vms.Run(ctx) }()
	go func() { done <- tasks.Run(ctx) }()
	return errors.Join(<-done, <-done)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	run, err := os.MkdirTemp("", "qg")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, dir: t.TempDir(), run: run}
	t.Cleanup(c.end)
	authority, err := join.NewAuthority(time.Now())
	c.must(err)
	cert, _, err := authority.PEM()
	c.must(err)
	for _, name := range []string{"power", ".status"} {
		c.must(os.MkdirAll(filepath.Join(c.dir, name), 0o755))
	}
	for i := 1; i <= 2; i++ {
		c.node(i, authority, cert)
	}
	for i := 1; i <= 2; i++ {
		c.spawn(i)
	}
	return c
}

// node makes the tree of a node: what the cluster has in common is linked.
func (c *cluster) node(i int, authority *join.Authority, cert []byte) {
	c.Helper()
	tree := c.tree(i)
	c.must(os.MkdirAll(tree, 0o755))
	for _, name := range []string{"nodes", "power", ".status"} {
		c.must(os.Symlink(filepath.Join(c.dir, name), filepath.Join(tree, name)))
	}
	name := fmt.Sprintf("n%d", i)
	for _, dir := range []string{"qemu-server", "lxc", "tasks"} {
		c.must(os.MkdirAll(filepath.Join(c.dir, "nodes", name, dir), 0o755))
	}
	key, text, err := join.NewKey()
	c.must(err)
	own, err := authority.Issue(name, "", nil, key.Public(), time.Now())
	c.must(err)
	c.write(i, "nodes/"+name+"/pve-ssl.pem", string(own))
	c.write(i, "nodes/"+name+"/pve-ssl.key", string(text))
	c.write(i, "pve-root-ca.pem", string(cert))
	c.write(i, ".members", fmt.Sprintf(`{"nodename": "%s", "nodelist": {"n1": {"online": 1, "ip": "127.0.0.1"}, "n2": {"online": 1, "ip": "127.0.0.1"}, "n3": {"online": 0}}}`, name))
	c.write(i, "storage.cfg", fmt.Sprintf("dir: local\n\tpath %s/a\n\tcontent images,iso\n\ndir: other\n\tpath %s/b\n\tcontent images\n\n"+
		"dir: shared\n\tpath %s\n\tcontent images,iso\n\tshared 1\n\ndir: first\n\tpath %s/first\n\tcontent images\n\tnodes n1\n",
		tree, tree, filepath.Join(c.dir, "shared"), tree))
}

func (c *cluster) tree(i int) string { return filepath.Join(c.dir, fmt.Sprintf("tree%d", i)) }

func (c *cluster) place(i int) place.Place {
	return placeOf(c.tree(i), fmt.Sprintf("n%d", i), fmt.Sprintf("%s/%d", c.run, i))
}

// spawn starts the agents of a node.
func (c *cluster) spawn(i int) {
	c.Helper()
	p := c.place(i)
	agents := exec.Command(os.Args[0], "-test.run=^$")
	agents.Env = append(os.Environ(), agentEnv+"="+p.Tree+":"+p.Node+":"+p.RunDir)
	agents.Stderr = prefixed{c.T, p.Node}
	c.must(agents.Start())
	c.agents[i] = agents
}

type prefixed struct {
	t    *testing.T
	node string
}

func (w prefixed) Write(p []byte) (int, error) {
	w.t.Logf("%s: %s", w.node, bytes.TrimSpace(p))
	return len(p), nil
}

// halt ends the agents of a node.
func (c *cluster) halt(i int, signal syscall.Signal) {
	if c.agents[i] != nil {
		_ = c.agents[i].Process.Signal(signal) // it may be gone
		_ = c.agents[i].Wait()
		c.agents[i] = nil
	}
}

func (c *cluster) end() {
	for i := 1; i <= 2; i++ {
		c.halt(i, syscall.SIGTERM)
		records, _ := filepath.Glob(filepath.Join(c.place(i).RunDir, "*.json")) // the pattern is well formed
		for _, name := range records {
			var r record.Record
			if content, err := os.ReadFile(name); err == nil && json.Unmarshal(content, &r) == nil && r.Process.PID > 0 {
				_ = host.Proc.Signal(r.Process, syscall.SIGKILL) // it may be gone
			}
		}
	}
	_ = os.RemoveAll(c.run)
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) write(i int, path, text string) {
	c.Helper()
	c.must(os.WriteFile(filepath.Join(c.tree(i), path), []byte(text), 0o640))
}

// task has a task done by a node and returns its log.
func (c *cluster) task(i int, kind string, params ...string) (string, error) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 3*time.Minute)
	defer cancel()
	var lines strings.Builder
	p := c.place(i)
	err := task.Asking{
		Tree: p.Tree, Node: p.Node, LogDir: filepath.Join(p.RunDir, "tasks"),
		Line: func(line string) { lines.WriteString(line + "\n") },
	}.Do(ctx, requestOf(kind, params))
	return lines.String(), err
}

func requestOf(kind string, params []string) task.Request {
	r := task.Request{Type: kind, ID: "100", Params: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		r.Params[params[i]] = params[i+1]
	}
	return r
}

// do has a task done that must succeed.
func (c *cluster) do(i int, kind string, params ...string) {
	c.Helper()
	if log, err := c.task(i, kind, params...); err != nil {
		c.Fatalf("n%d: %s %q: %v\n%s", i, kind, params, err, log)
	}
}

// refuse has a migration from n1 fail with an error, and nothing changed by it.
func (c *cluster) refuse(want string, params ...string) {
	c.Helper()
	before := c.conf(1)
	log, err := c.task(1, Migrate, params...)
	if err == nil || !strings.Contains(err.Error(), want) {
		c.Errorf("%q: %v, want %q\n%s", params, err, want, log)
	}
	if after := c.conf(1); after != before {
		c.Errorf("%q: the configuration was\n%s\nand is\n%s", params, before, after)
	}
}

// drop asks for a task and does not wait for it.
func (c *cluster) drop(i int, kind string, params ...string) {
	c.Helper()
	p := c.place(i)
	c.must(os.WriteFile(filepath.Join(p.Tree, task.Dir(p.Node), "wish"), []byte(requestOf(kind, params).String()), 0o640))
}

// file returns the newest task of a type on a node, "" while there is none.
func (c *cluster) file(i int, kind string) string {
	found, _ := filepath.Glob(filepath.Join(c.dir, fmt.Sprintf("nodes/n%d/tasks/UPID:*:%s:*@pam:", i, kind))) // the pattern is well formed
	if len(found) == 0 {
		return ""
	}
	text, _ := os.ReadFile(found[len(found)-1]) // "" while it is being renamed
	return string(text)
}

// conf returns the configuration that a node has of the VM.
func (c *cluster) conf(i int) string {
	text, _ := os.ReadFile(filepath.Join(c.dir, fmt.Sprintf("nodes/n%d/qemu-server/100.conf", i))) // "" if there is none
	return string(text)
}

func (c *cluster) until(what string, ok func() bool) {
	c.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("still waiting for %s; on n1:\n%s\n%s\non n2:\n%s\n%s", what, c.conf(1), c.file(1, Migrate), c.conf(2), c.file(2, Tunnel))
		}
	}
}

// status waits until the VM does something on a node.
func (c *cluster) status(i int, want string) {
	c.Helper()
	c.until(fmt.Sprintf("n%d: %s", i, want), func() bool {
		got, err := c.place(i).Status(c.Context(), 100)
		return err == nil && got == want
	})
}

// volume makes a volume of the VM on n1, filled with a word.
func (c *cluster) volume(id, format, word string) string {
	c.Helper()
	p := c.place(1)
	made, err := p.Catalog.Alloc(c.Context(), id, storage.Request{VMID: 100, Format: format, Bytes: size})
	c.must(err)
	raw := filepath.Join(c.TempDir(), "raw")
	c.must(os.WriteFile(raw, content(word), 0o600))
	path, err := p.Catalog.Path(made.String())
	c.must(err)
	out, err := exec.Command("qemu-img", "convert", "-n", "-f", "raw", "-O", format, raw, path).CombinedOutput()
	if err != nil {
		c.Fatalf("%v: %s", err, out)
	}
	return made.String()
}

const size = 8 << 20

func content(word string) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%-16s", word)), size/16) }

// holds requires that a volume of a node has the content of a word.
func (c *cluster) holds(i int, volume, word string) {
	c.Helper()
	path, err := c.place(i).Catalog.Path(volume)
	c.must(err)
	raw := filepath.Join(c.TempDir(), "raw")
	out, err := exec.Command("qemu-img", "convert", "-U", "-O", "raw", path, raw).CombinedOutput()
	if err != nil {
		c.Fatalf("n%d: %s: %v: %s", i, volume, err, out)
	}
	if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, content(word)) {
		c.Errorf("n%d: %s does not hold %q but %.16q (%v)", i, volume, word, got, err)
	}
}

// volumes lists what a node's storages have of the VM.
func (c *cluster) volumes(i int, ids ...string) (all []string) {
	c.Helper()
	for _, id := range ids {
		infos, err := c.place(i).Catalog.List(c.Context(), id, "images", 100)
		c.must(err)
		for _, v := range infos {
			all = append(all, id+":"+v.Name)
		}
	}
	return all
}
