package task

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/cfs/format/upid"
)

// newNode runs an agent with a few handlers on a plain directory.
func newNode(t *testing.T) Options {
	t.Helper()
	o := Options{Tree: t.TempDir(), Node: "n1", LogDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Handlers: map[string]Handler{
		"echo": func(_ context.Context, r Request, log *Log) error {
			log.Printf("said %s", r.Params["text"])
			return nil
		},
		"warn": func(_ context.Context, _ Request, log *Log) error { log.Warnf("hm"); return nil },
		"fail": func(context.Context, Request, *Log) error { return errors.New("vm 100: no") },
		"hang": func(ctx context.Context, _ Request, _ *Log) error { <-ctx.Done(); return ctx.Err() },
	}}
	if err := os.MkdirAll(filepath.Join(o.Tree, Dir("n1")), 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

// begin starts an agent and returns what stops it.
func begin(t *testing.T, o Options) (stop func()) {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// files returns the tasks of the node.
func files(t *testing.T, o Options) (all []File) {
	t.Helper()
	dir := filepath.Join(o.Tree, Dir("n1"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
			all = append(all, parseFile(e.Name(), string(text)))
		}
	}
	return all
}

// patience is how long a test waits for what is bound to come: the machine may be busy.
const patience = 2 * time.Minute

func ask(t *testing.T, o Options, r Request) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return Ask(ctx, o.Tree, "n1", r)
}

func TestTaskIsRunAndLogged(t *testing.T) {
	o := newNode(t)
	defer begin(t, o)()
	if err := ask(t, o, Request{Type: "echo", ID: "100", User: "joe@pve", Params: map[string]string{"text": "hello"}}); err != nil {
		t.Fatal(err)
	}
	all := files(t, o)
	if len(all) != 1 || all[0].UPID.Type != "echo" || all[0].UPID.ID != "100" || all[0].UPID.User != "joe@pve" || all[0].Status != "OK" {
		t.Fatalf("%+v", all)
	}
	log, err := os.ReadFile(logPath(o.LogDir, all[0].UPID))
	if string(log) != "said hello\nTASK OK\n" || err != nil || upid.Status(string(log)) != "OK" {
		t.Errorf("log %q, %v", log, err)
	}
	if !strings.HasPrefix(logPath("/x", all[0].UPID), "/x/") {
		t.Error("the log is not in its directory")
	}
	// Who asked hears of the end first: only what the tree has taken is indexed.
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		index, _ := os.ReadFile(filepath.Join(o.LogDir, "index")) // "" before there is one
		if fields := strings.Fields(string(index)); len(fields) == 3 && fields[0] == all[0].Name && fields[2] == "OK" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("index %q", index)
		}
	}
}

func TestOutcomesReachWhoAsked(t *testing.T) {
	o := newNode(t)
	defer begin(t, o)()
	for kind, want := range map[string]string{
		"fail": "vm 100: no", "warn": "", "dance": `type: no task is called "dance"`, "": "no type given",
	} {
		err := ask(t, o, Request{Type: kind, ID: "100"})
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: %v, want %q", kind, err, want)
		}
	}
	if err := ask(t, o, Request{Type: "echo", ID: "a:b"}); err == nil {
		t.Error("an id that breaks the task identifier was accepted")
	}
}

func TestSameWorkTwiceInASecondIsTwoTasks(t *testing.T) {
	o := newNode(t)
	defer begin(t, o)()
	done := make(chan error, 20)
	for range cap(done) {
		go func() { done <- ask(t, o, Request{Type: "echo", ID: "1"}) }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(files(t, o)); n != cap(done) {
		t.Errorf("%d tasks, want %d", n, cap(done))
	}
}

func TestInterruptedTaskIsNotRunAgain(t *testing.T) {
	o := newNode(t)
	stop := begin(t, o)
	asked := make(chan error, 1)
	go func() { asked <- ask(t, o, Request{Type: "hang", ID: "1"}) }()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if all := files(t, o); len(all) == 1 && all[0].UPID.Type == "hang" {
			if _, err := os.Stat(logPath(o.LogDir, all[0].UPID)); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("never begun")
		}
	}
	stop()
	if err := <-asked; err == nil || err.Error() != "interrupted: its agent was stopped" {
		t.Errorf("%v", err)
	}
	// One that an agent left without a trace, as after kill -9.
	lost := upid.UPID{Node: "n1", PID: 1, PStart: 1, StartTime: 1, Type: "echo", User: "root@pam"}
	path := filepath.Join(o.Tree, Dir("n1"), lost.String())
	if err := os.WriteFile(path, []byte("type: echo\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	defer begin(t, o)()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(path)
		if f := parseFile(lost.String(), string(text)); f.Status == "interrupted: its agent ended" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the lost task says %q", text)
		}
	}
}

func TestGivenUpRequestIsWithdrawn(t *testing.T) {
	o := newNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := Ask(ctx, o.Tree, "n1", Request{Type: "echo"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if all := files(t, o); len(all) != 0 {
		t.Errorf("left behind: %+v", all)
	}
}

func TestEndedTasksGoAfterAWhile(t *testing.T) {
	a := &Agent{}
	now := time.Now()
	f := File{Name: "x", Status: "OK", Written: now.Add(-keepEnded / 2)}
	if plan := a.Plan(f, State{Now: now}); plan != nil {
		t.Errorf("%v", plan)
	}
	if again := a.Report("x", f, State{Now: now}, nil).Again; again != keepEnded/2 {
		t.Errorf("again after %v", again)
	}
	f.Written = now.Add(-keepEnded)
	if plan := a.Plan(f, State{Now: now}); len(plan) != 1 || plan[0].Step != Remove {
		t.Errorf("%v", plan)
	}
}

// awaitFile polls the only task until it is as wanted.
func awaitFile(t *testing.T, o Options, wanted func(File) bool) File {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		all := files(t, o)
		if len(all) == 1 && wanted(all[0]) {
			return all[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("the task is %+v", all)
		}
	}
}

func TestRunningTaskCanBeStopped(t *testing.T) {
	for name, end := range map[string]func(path string) error{
		"stopped as asked":              stop,
		"got timeout":                   func(path string) error { return appendLine(path, "time-limit: 1\n") },
		"stopped: its file was removed": os.Remove,
	} {
		o := newNode(t)
		stopAgent := begin(t, o)
		asked := make(chan error, 1)
		go func() { asked <- ask(t, o, Request{Type: "hang", ID: "1"}) }()
		f := awaitFile(t, o, func(f File) bool { return f.UPID.Type == "hang" })
		index := func() string { text, _ := os.ReadFile(filepath.Join(o.LogDir, "active")); return string(text) }
		for deadline := time.Now().Add(patience); index() != f.Name+" 0\n"; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("active says %q", index())
			}
		}
		if err := end(filepath.Join(o.Tree, Dir("n1"), f.Name)); err != nil {
			t.Fatal(err)
		}
		if err := <-asked; err == nil || err.Error() != name && err.Error() != "task hang: its file was removed" {
			t.Errorf("%s: %v", name, err)
		}
		for deadline := time.Now().Add(patience); !strings.HasPrefix(index(), f.Name+" 1 ") || !strings.HasSuffix(index(), " "+name+"\n"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: active says %q", name, index())
			}
		}
		stopAgent()
	}
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

func TestLostTaskIsRepaired(t *testing.T) {
	o := newNode(t)
	tries := 0
	o.Repairs = map[string]Handler{"echo": func(_ context.Context, r Request, log *Log) error {
		if tries++; tries < 2 {
			return errors.New("not yet")
		}
		log.Printf("removed %s", r.Params["made"])
		return nil
	}}
	lost := upid.UPID{Node: "n1", PID: 1, PStart: 1, StartTime: 1, Type: "echo", User: "root@pam"}
	path := filepath.Join(o.Tree, Dir("n1"), lost.String())
	if err := os.WriteFile(path, []byte("type: echo\nmade: a%25\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	defer begin(t, o)()
	awaitFile(t, o, func(f File) bool { return f.Status == "interrupted: its agent ended" })
	text, err := os.ReadFile(logPath(o.LogDir, lost))
	if want := "cleaning up: not yet\nremoved a%\nTASK ERROR: interrupted: its agent ended\n"; string(text) != want || err != nil {
		t.Errorf("log %q, %v", text, err)
	}
}

func TestLogIsFollowedAndNotesAreKept(t *testing.T) {
	o := newNode(t)
	o.Handlers["steps"] = func(_ context.Context, r Request, log *Log) error {
		log.Printf("one %s", r.Params["text"])
		if err := log.Keep("made", "x\ny"); err != nil {
			return err
		}
		return log.Keep("made", "x\nz")
	}
	defer begin(t, o)()
	var lines []string
	a := Asking{Tree: o.Tree, Node: "n1", LogDir: o.LogDir, Line: func(line string) { lines = append(lines, line) }}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Do(ctx, Request{Type: "steps", Params: map[string]string{"text": "50%\nmore"}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines, "|"); got != "one 50%|more" {
		t.Errorf("followed %q", got)
	}
	if f := files(t, o)[0]; f.Request.Params["made"] != "x\nz" || f.Request.Params["text"] != "50%\nmore" {
		t.Errorf("%+v", f)
	}
}

func TestTaskOfALivingAgentIsLeftAlone(t *testing.T) {
	a := &Agent{self: host.Process{PID: 10, Start: 20}, since: 100}
	id := upid.UPID{PID: 10, PStart: 20, StartTime: 100}
	for want, c := range map[Step]struct {
		id    upid.UPID
		alive bool
	}{
		Begin:     {id, false},
		Interrupt: {upid.UPID{PID: 10, PStart: 20, StartTime: 99}, false}, // of an agent before the boot
		"":        {upid.UPID{PID: 11, PStart: 20, StartTime: 100}, true},
	} {
		plan := a.Plan(File{Name: "x", UPID: c.id}, State{Alive: c.alive})
		if want == "" && plan != nil || want != "" && (len(plan) != 1 || plan[0].Step != want) {
			t.Errorf("%v: %v, want %q", c, plan, want)
		}
	}
}
