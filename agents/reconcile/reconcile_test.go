package reconcile

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"etcpve/cfs/layout"
)

// lamp is an agent whose machine is a map: key → text of the file.
type lamp struct {
	tree string

	mu    sync.Mutex // guards what follows
	lit   map[string]string
	fail  map[string]error // by action
	tries int
	runs  map[string]int
}

type light struct{ text string }

func (l light) String() string { return "light " + l.text }

func (a *lamp) Desired(_ context.Context, key string) (string, error) {
	text, err := os.ReadFile(filepath.Join(a.tree, "power", key))
	if os.IsNotExist(err) {
		return "", nil
	}
	if string(text) == "broken" {
		return "broken", fmt.Errorf("power/%s:1: broken", key)
	}
	return string(text), err
}

func (a *lamp) Observe(_ context.Context, key string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs[key]++
	return a.lit[key], nil
}

func (a *lamp) Plan(desired, observed string) []light {
	if desired == observed {
		return nil
	}
	return []light{{desired}, {desired + "!"}}
}

func (a *lamp) Apply(_ context.Context, key string, action light) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tries++
	if err := a.fail[action.text]; err != nil {
		return err
	}
	if !strings.HasSuffix(action.text, "!") {
		a.lit[key] = action.text
	}
	return nil
}

func (a *lamp) Report(key, desired, observed string, _ error) Report {
	r := Report{Path: "power/" + key, Lines: []Line{{"lit", observed}}}
	if desired != "" {
		r.Content = []byte(desired)
	}
	if observed == "dim" {
		r.Pending = []Pending{{"light", "needs restart"}}
	}
	return r
}

func (a *lamp) is(key string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lit[key]
}

func newTree(t *testing.T, dirs ...string) string {
	t.Helper()
	tree := t.TempDir()
	for _, dir := range append(dirs, "nodes/n1") {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func newLamp(tree string) (*lamp, Options) {
	a := &lamp{tree: tree, lit: map[string]string{}, fail: map[string]error{}, runs: map[string]int{}}
	return a, Options{
		Name: "lamp", Tree: tree, Node: "n1", Log: slog.New(slog.DiscardHandler),
		Watches: []Watch{{Dir: "power", Key: func(name string) (string, bool) {
			_, ok := layout.ParseVMID(name)
			return name, ok
		}}},
	}
}

func write(t *testing.T, tree, path, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(tree, path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start runs the loop until the test ends.
func start[D, O any, A fmt.Stringer](t *testing.T, agent Agent[D, O, A], o Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	loop := New(agent, o)
	go func() { done <- loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// eventually polls until ok, for as long as a busy machine may need.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestFilesAreFollowed(t *testing.T) {
	tree := newTree(t, "power")
	write(t, tree, "power/1", "old")
	a, o := newLamp(tree)
	start(t, a, o)
	eventually(t, "what was there at the start", func() bool { return a.is("1") == "old" })
	write(t, tree, "power/2", "new")
	eventually(t, "a new file", func() bool { return a.is("2") == "new" })
	write(t, tree, "power/2.tmp.1", "newer")
	if err := os.Rename(filepath.Join(tree, "power/2.tmp.1"), filepath.Join(tree, "power/2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a renamed file", func() bool { return a.is("2") == "newer" })
	if err := os.Remove(filepath.Join(tree, "power/2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removed file", func() bool { return a.is("2") == "" })
}

func TestDirectoriesComeAndGo(t *testing.T) {
	tree := newTree(t)
	a, o := newLamp(tree)
	start(t, a, o)
	for _, text := range []string{"first", "second"} {
		if err := os.Mkdir(filepath.Join(tree, "power"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, tree, "power/1", text)
		eventually(t, text, func() bool { return a.is("1") == text })
		write(t, tree, "power/1", text+" again")
		eventually(t, text+" again", func() bool { return a.is("1") == text+" again" })
		if err := os.RemoveAll(filepath.Join(tree, "power")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNothingIsConcludedFromAnAbsentTree(t *testing.T) {
	tree := newTree(t, "power")
	write(t, tree, "power/1", "on")
	a, o := newLamp(tree)
	a.lit["1"] = "on"
	o.Keys = func(context.Context) ([]string, error) { return []string{"1"}, nil }
	if err := os.Rename(filepath.Join(tree, "nodes"), filepath.Join(tree, "unmounted")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tree, "power/1")); err != nil {
		t.Fatal(err)
	}
	start(t, a, o)
	eventually(t, "a run", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.runs["1"] > 0 })
	if a.is("1") != "on" || a.tries != 0 {
		t.Error("acted on a tree that is not mounted")
	}
}

func TestOneFailureDoesNotHideTheRest(t *testing.T) {
	tree := newTree(t, "power", ".status")
	for key, text := range map[string]string{"1": "bad", "2": "good", "3": "broken", "4": "dim", "5": "worse"} {
		write(t, tree, "power/"+key, text)
	}
	a, o := newLamp(tree)
	a.fail["bad"] = errors.Join(errors.New("power/1:1: light: fuse"), errors.New("power/1:2: cord: frayed"))
	a.fail["worse"] = fmt.Errorf("5: %w", Abandon(errors.New("no socket")))
	a.fail["worse!"] = errors.New("must not be tried")
	start(t, a, o)
	for key, want := range map[string]string{
		"1": "state: failed|lit: |error: power/1:1: light: fuse|error: power/1:2: cord: frayed",
		"2": "state: applied|lit: good",
		"3": "state: failed|lit: |error: power/3:1: broken",
		"4": "state: pending|lit: dim|pending: light: needs restart",
		"5": "state: failed|lit: |error: 5: no socket",
	} {
		var got string
		eventually(t, key+": "+want, func() bool {
			text, _ := os.ReadFile(filepath.Join(tree, ".status/power", key))
			var kept []string
			for line := range strings.Lines(string(text)) {
				if name, _, _ := strings.Cut(line, ":"); !slices.Contains([]string{"digest", "node", "time"}, name) {
					kept = append(kept, strings.TrimSuffix(line, "\n"))
				}
			}
			got = strings.Join(kept, "|")
			return got == want
		})
	}
}

func TestPreviewAppliesNothing(t *testing.T) {
	tree := newTree(t, "power")
	for _, key := range []string{"100", "99", "7"} {
		write(t, tree, "power/"+key, "on")
	}
	a, o := newLamp(tree)
	a.lit["99"] = "on"
	var got []string
	err := New(a, o).Preview(t.Context(), func(key string, plan []string, err error) {
		got = append(got, fmt.Sprint(key, plan, err))
	})
	want := "7[light on light on!] <nil> 99[] <nil> 100[light on light on!] <nil>"
	if strings.Join(got, " ") != want || err != nil || a.tries != 0 {
		t.Errorf("%v, %v, %d tries", got, err, a.tries)
	}
}

func TestPlanThatNeverEmptiesIsAnError(t *testing.T) {
	a, o := newLamp(newTree(t, "power"))
	write(t, o.Tree, "power/1", "x!")
	r := &runner[string, string, light]{agent: a, tree: tree{o.Tree, "n1"}, status: Publisher{o.Tree, "n1"}, log: o.Log}
	_, err := r.run(t.Context(), "1")
	if err == nil || err.Error() != "1: still to do after 5 rounds: light x!, light x!!" {
		t.Errorf("%v", err)
	}
}

func TestStatusIsWrittenOnlyWhenItChanges(t *testing.T) {
	tree := newTree(t, ".status")
	p := Publisher{Tree: tree, Node: "n1"}
	path := filepath.Join(tree, ".status/nodes/n1/qemu-server/100.conf")
	r := Report{Path: "nodes/n1/qemu-server/100.conf", Content: []byte("cores: 2\n"), Lines: []Line{{"guest", "running"}}}
	if err := p.Publish(r, nil); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	for _, line := range []string{"state: applied\n", fmt.Sprintf("digest: %x\n", sha1.Sum(r.Content)), "node: n1\n", "guest: running\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(r, nil); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); time.Since(info.ModTime()) < time.Minute {
		t.Error("written again without a change")
	}
	if err := p.Publish(r, errors.New("no")); err != nil {
		t.Fatal(err)
	}
	failed, _ := os.ReadFile(path)
	time.Sleep(2 * time.Millisecond) // the resolution of the time that is written
	if err := p.Publish(r, errors.New("no")); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); string(again) == string(failed) {
		t.Error("a second failure cannot be told from the first")
	}
	r.Content = nil
	if err := p.Publish(r, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the status of a file that has gone: %v", err)
	}
}

// testQueue runs f in virtual time with a queue that calls run.
func testQueue(t *testing.T, run func(string) (time.Duration, error), f func(ctx context.Context, q *queue)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := Options{Name: "test", Settle: 10 * time.Millisecond, Parallel: 2, Log: slog.New(slog.DiscardHandler)}
		q := newQueue(o, func(_ context.Context, key string) (time.Duration, error) { return run(key) })
		f(ctx, q)
		cancel()
		q.wait()
	})
}

// pass lets virtual time pass, and what is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestBurstIsOneRun(t *testing.T) {
	runs := 0
	testQueue(t, func(string) (time.Duration, error) { runs++; return 0, nil }, func(ctx context.Context, q *queue) {
		for range 100 {
			q.add(ctx, "1", true)
		}
		pass(time.Minute)
		if runs != 1 {
			t.Errorf("%d runs", runs)
		}
		if len(q.workers) != 0 {
			t.Error("a worker without work")
		}
	})
}

func TestEventDuringARunMakesOneMore(t *testing.T) {
	running, most, runs := 0, 0, 0
	testQueue(t, func(string) (time.Duration, error) {
		running++
		most = max(most, running)
		time.Sleep(time.Second)
		running--
		runs++
		return 0, nil
	}, func(ctx context.Context, q *queue) {
		q.add(ctx, "1", true)
		time.Sleep(500 * time.Millisecond)
		q.add(ctx, "1", true)
		q.add(ctx, "1", false)
		pass(time.Minute)
		if runs != 2 || most != 1 {
			t.Errorf("%d runs, %d at the same time", runs, most)
		}
	})
}

func TestKeysShareTheSlots(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	count := func(n int) { mu.Lock(); running += n; most = max(most, running); mu.Unlock() }
	testQueue(t, func(string) (time.Duration, error) {
		count(1)
		time.Sleep(time.Second)
		count(-1)
		return 0, nil
	}, func(ctx context.Context, q *queue) {
		for _, key := range []string{"1", "2", "3", "4", "5"} {
			q.add(ctx, key, true)
		}
		pass(10 * time.Second)
		if most != 2 {
			t.Errorf("%d at the same time", most)
		}
	})
}

func TestFailingKeyBacksOff(t *testing.T) {
	var at []time.Duration
	var begin time.Time
	failing := true
	testQueue(t, func(string) (time.Duration, error) {
		at = append(at, time.Since(begin))
		if failing {
			return 0, errors.New("no")
		}
		return 0, nil
	}, func(ctx context.Context, q *queue) {
		begin = time.Now()
		q.add(ctx, "1", true)
		pass(20 * time.Minute)
		for i := 1; i < len(at); i++ {
			gap, full := at[i]-at[i-1]-10*time.Millisecond, min(minBackoff<<(i-1), maxBackoff)
			if gap < full*4/5 || gap > full {
				t.Errorf("retry %d after %v, want up to %v", i, gap, full)
			}
		}
		n := len(at)
		q.add(ctx, "1", false)
		pass(100 * time.Millisecond)
		if len(at) != n {
			t.Error("a resync cut the back-off short")
		}
		failing = false
		q.add(ctx, "1", true)
		pass(100 * time.Millisecond)
		if len(at) != n+1 {
			t.Error("a changed file did not end the back-off")
		}
		pass(time.Hour)
		if len(at) != n+1 {
			t.Error("ran again after success")
		}
	})
}

func TestAgainIsKept(t *testing.T) {
	runs := 0
	testQueue(t, func(string) (time.Duration, error) {
		if runs++; runs < 3 {
			return time.Minute, nil
		}
		return 0, nil
	}, func(ctx context.Context, q *queue) {
		q.add(ctx, "1", true)
		pass(90 * time.Second)
		if runs != 2 {
			t.Errorf("%d runs after 90 s", runs)
		}
		q.add(ctx, "1", false)
		pass(time.Second)
		if runs != 3 {
			t.Errorf("%d runs: a resync does not wait for Again", runs)
		}
	})
}

func TestWhatIsPublishedCanBeReadAgain(t *testing.T) {
	tree := t.TempDir()
	if err := os.Mkdir(filepath.Join(tree, statusDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if d := Read(tree, "a/b.conf"); !reflect.DeepEqual(d, Document{}) {
		t.Errorf("of a file of which nothing is said: %+v", d)
	}
	begun := time.Now().Truncate(time.Millisecond)
	r := Report{Path: "a/b.conf", Content: []byte("x"), Lines: []Line{{"guest", "running"}, {"pid", "7"}},
		Pending: []Pending{{"cores", "needs a restart: it is 2 now"}}}
	if err := (Publisher{Tree: tree, Node: "n1"}).Publish(r, errors.New("one\ntwo: three")); err != nil {
		t.Fatal(err)
	}
	d := Read(tree, r.Path)
	if d.Time.Before(begun) {
		t.Errorf("time %v, published after %v", d.Time, begun)
	}
	if d.State != Failed || !reflect.DeepEqual(d.Pending, r.Pending) || !slices.Equal(d.Errors, []string{"one", "two: three"}) {
		t.Errorf("%+v", d)
	}
	for key, want := range map[string]string{"guest": "running", "pid": "7", "node": "n1", "none": ""} {
		if got := d.Value(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}
