package task

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/cfs/format/upid"
)

const threeNodes = `{"nodename": "n1", "cluster": {"name": "x", "version": 1, "nodes": 3, "quorate": 1}, "nodelist": {
"n1": {"id": 1, "online": 1}, "n2": {"id": 2, "online": 0}, "n3": {"id": 3, "online": 1}}}`

// TestTaskOfASilentNodeHasAnUnknownEnd also when it is asked about from elsewhere;
// the node's own word counts more.
func TestTaskOfASilentNodeHasAnUnknownEnd(t *testing.T) {
	for node, speaks := range map[string]bool{"n1": true, "n3": false} {
		synctest.Test(t, func(t *testing.T) {
			o := newNode(t)
			o.Node = node
			lost := upid.UPID{Node: "n2", PID: 1, PStart: 1, StartTime: 1, Type: "hang", User: "root@pam"}
			done := upid.UPID{Node: "n2", PID: 1, PStart: 1, StartTime: 2, Type: "hang", User: "root@pam"}
			for path, text := range map[string]string{
				".members": threeNodes, Dir("n2") + "/" + lost.String(): "type: hang\nrequest: request-x\n", Dir("n2") + "/" + done.String(): "type: hang\nstatus: OK\n",
				Dir("n2") + "/request-y": "type: hang\n",
			} {
				path = filepath.Join(o.Tree, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			a, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			go a.watchNodes(t.Context())
			read := func(name string) string {
				text, _ := os.ReadFile(filepath.Join(o.Tree, Dir("n2"), name))
				return string(text)
			}
			time.Sleep(silentAfter - time.Second)
			if strings.Contains(read(lost.String()), "status:") {
				t.Errorf("given up early: %q", read(lost.String()))
			}
			time.Sleep(silentAfter)
			if said := strings.Count(read(lost.String()), "status: unknown: node 'n2' does not answer\n"); said == 1 != speaks || said > 1 {
				t.Errorf("%s: the task says %q", node, read(lost.String()))
			}
			if read(done.String()) != "type: hang\nstatus: OK\n" || read("request-y") != "type: hang\n" {
				t.Errorf("%q %q", read(done.String()), read("request-y"))
			}
		})
	}
	f := parseFile("UPID:n2:00000001:00000001:00000001:hang::root@pam:", "type: hang\nstatus: unknown: node 'n2' does not answer\n")
	a := &Agent{}
	if plan := a.Plan(f, State{}); len(plan) != 1 || plan[0].Step != Interrupt {
		t.Errorf("its own node plans %v", plan)
	}
}

// TestEndWaitsForTheTree: what a task came to is not lost while the tree takes
// no changes, and what it could not clean up is cleaned up before.
func TestEndWaitsForTheTree(t *testing.T) {
	o := newNode(t)
	dir := filepath.Join(o.Tree, Dir("n1"))
	repaired := make(chan bool, 1)
	o.Handlers["cut"] = func(_ context.Context, _ Request, _ *Log) error {
		return os.Chmod(dir, 0o555) // as a tree without quorum looks
	}
	o.Handlers["torn"] = func(_ context.Context, _ Request, _ *Log) error {
		_ = os.Chmod(dir, 0o555)
		return os.ErrPermission
	}
	o.Repairs = map[string]Handler{"torn": func(_ context.Context, _ Request, _ *Log) error { repaired <- true; return nil }}
	defer begin(t, o)()
	for kind, want := range map[string]string{"cut": "", "torn": os.ErrPermission.Error()} {
		asked := make(chan error, 1)
		go func() { asked <- ask(t, o, Request{Type: kind}) }()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if info, err := os.Stat(dir); err == nil && info.Mode().Perm() == 0o555 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("never begun")
			}
		}
		select {
		case err := <-asked:
			t.Fatalf("%s: ended early: %v", kind, err)
		case <-repaired:
			t.Fatal("repaired too early")
		case <-time.After(50 * time.Millisecond):
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := <-asked; (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v", kind, err)
		}
		if kind == "torn" && !<-repaired {
			t.Error("not cleaned up")
		}
	}
}

// TestOtherNodesFollowTheLog by what is shown of it, also of a long one.
func TestOtherNodesFollowTheLog(t *testing.T) {
	o := newNode(t)
	if err := os.MkdirAll(filepath.Join(o.Tree, ".status"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.Handlers["talk"] = func(_ context.Context, _ Request, log *Log) error {
		for range 1000 {
			log.Printf("%s", strings.Repeat("word ", 10))
		}
		log.Printf("last")
		return nil
	}
	defer begin(t, o)()
	for kind, want := range map[string]int{"echo": 1, "talk": 2} {
		var lines []string
		a := Asking{Tree: o.Tree, Node: "n1", Line: func(line string) { lines = append(lines, line) }}
		if err := a.Do(t.Context(), Request{Type: kind, Params: map[string]string{"text": "hello"}}); err != nil {
			t.Fatal(err)
		}
		switch {
		case len(lines) < want:
			t.Errorf("%s: followed %q", kind, lines)
		case kind == "echo" && lines[0] != "said hello":
			t.Errorf("followed %q", lines)
		case kind == "talk" && (lines[0] != "..." || lines[len(lines)-1] != "last" || len(lines) > 400):
			t.Errorf("followed %d lines, %q to %q", len(lines), lines[0], lines[len(lines)-1])
		}
	}
}
