package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcpve/cfs/format/guest"
	"etcpve/cfs/layout"
)

func TestStartup(t *testing.T) {
	tests := []struct {
		value, printed, err string
		want                Startup
	}{
		{"3", "order=3", "", Startup{Order: 3, Ordered: true}},
		{"order=0,up=30,down=60", "order=0,up=30,down=60", "", Startup{Ordered: true, Up: 30 * time.Second, Down: time.Minute}},
		{"down=5,", "down=5", "", Startup{Down: 5 * time.Second}},
		{"", "", "", Startup{}},
		{"order=first", "", `startup: unable to parse "order=first"`, Startup{}},
	}
	for _, test := range tests {
		got, err := ParseStartup(test.value)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%q: error %v, want %s", test.value, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want || got.String() != test.printed {
			t.Errorf("%q is %+v, %q, %v", test.value, got, got.String(), err)
		}
	}
}

func parse(t *testing.T, vmid uint32, content string) *guest.Config {
	t.Helper()
	c, problems := guest.Parse(layout.QEMU, vmid, content)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

func TestStartOrder(t *testing.T) {
	steps := StartOrder([]*guest.Config{
		parse(t, 104, ""), parse(t, 103, "startup: order=2\n"), parse(t, 102, "startup: up=9\n"), parse(t, 101, "startup: 2\n"), parse(t, 105, "startup: 0\n"),
	})
	var order []string
	for _, step := range steps {
		order = append(order, fmt.Sprint(step.Config.VMID))
	}
	if got := strings.Join(order, " "); got != "105 101 103 102 104" {
		t.Errorf("start order %s", got)
	}
}

func TestStartsAtBoot(t *testing.T) {
	for content, want := range map[string]bool{
		"onboot: 1\n": true, "onboot: 0\n": false, "": false, "onboot: 1\ntemplate: 1\n": false, "onboot: 1\nlock: backup\n": false,
	} {
		if got := StartsAtBoot(parse(t, 100, content)); got != want {
			t.Errorf("%q starts: %v", content, got)
		}
	}
}

func TestLockedGuestSaysSo(t *testing.T) {
	c := parse(t, 100, "lock: backup\n")
	if err := CheckLock(c); err == nil || err.Error() != "VM is locked (backup)" {
		t.Errorf("error %v", err)
	}
	c.Kind = layout.LXC
	if err := CheckLock(c); err == nil || err.Error() != "CT is locked (backup)" {
		t.Errorf("error %v", err)
	}
}

func TestPendingChanges(t *testing.T) {
	c := parse(t, 100, "balloon: 0\ncores: 2\nmemory: 512\n")
	Want(c, "memory", "1024")
	Want(c, "cores", "2")
	Unwant(c, "balloon", true)
	Unwant(c, "name", false)
	changes := Changes(c)
	if got := fmt.Sprint(changes); got != "[remove balloon and its data set memory: 1024]" {
		t.Errorf("changes %s", got)
	}
	if changes[1].Old != "512" {
		t.Errorf("old memory %q", changes[1].Old)
	}
	Want(c, "balloon", "256")
	for _, change := range Changes(c) {
		Settle(c, change)
	}
	if got := c.Text(); got != "balloon: 256\ncores: 2\nmemory: 1024\n" {
		t.Errorf("settled\n%s", got)
	}
}

func TestTree(t *testing.T) {
	c := parse(t, 100, `parent: sb
[sa]
snaptime: 10
[sb]
#before the update
parent: sa
snaptime: 30
vmstate: local:s
[sc]
parent: sa
snaptime: 20
snapstate: delete
[lost]
parent: gone
snaptime: 5
[sx]
parent: sy
[sy]
parent: sx
`)
	var lines []string
	for _, s := range Tree(c) {
		lines = append(lines, strings.Repeat(" ", s.Depth)+s.Name+s.State)
	}
	want := []string{"sx", "sy", "lost", "sa", " scdelete", " sb", "  current"}
	if !slices.Equal(lines, want) {
		t.Errorf("tree %q, want %q", lines, want)
	}
}

const disksVM = "memory: 512\nide2: none,media=cdrom\nscsi0: local:a\nscsi1: local:b\nvmgenid: 7079e97c-50e3-4079-afe7-23e67566b946\n"

func TestCreateRemovesWhatItMadeWhenAVolumeFails(t *testing.T) {
	w := newWorld(layout.QEMU, disksVM)
	w.running = true
	w.fails["snapshot local:b"] = errors.New("no space")
	err := w.snapshots().Create(context.Background(), 100, "s1", true, "")
	var undone *UndoneError
	if !errors.As(err, &undone) || err.Error() != "no space" {
		t.Errorf("error %v", err)
	}
	if w.content != disksVM {
		t.Errorf("file\n%s", w.content)
	}
	want := "feature save activate savevm-start snapshot local:a snapshot local:b savevm-end remove somestorage:state-volume delete local:a"
	if got := strings.Join(w.log, " "); got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
}

func TestRunningGuestIsFrozenOnlyWithoutItsMemory(t *testing.T) {
	w := newWorld(layout.QEMU, disksVM)
	w.running = true
	if err := w.snapshots().Create(context.Background(), 100, "s1", false, "one"); err != nil {
		t.Fatal(err)
	}
	want := "feature activate freeze savevm-start snapshot local:a snapshot local:b savevm-end thaw"
	if got := strings.Join(w.log, " "); got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	if w.frozen {
		t.Error("the guest stays frozen")
	}
}

func TestCancelledCreationIsCleanedUp(t *testing.T) {
	w := newWorld(layout.LXC, "rootfs: local:a\n")
	ctx, cancel := context.WithCancel(context.Background())
	w.running = true
	cancel()
	w.fails["snapshot local:a"] = context.Canceled
	if err := w.snapshots().Create(ctx, 100, "s1", false, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if w.content != "rootfs: local:a\n" || w.frozen {
		t.Errorf("left behind\n%s", w.content)
	}
}

func TestRollbackKeepsUnusedVolumesAndUnknownLines(t *testing.T) {
	w := newWorld(layout.QEMU, "#kept\nnew-thing: kept\nmemory: 1024\nscsi0: local:a\nscsi1: local:c\nunused3: local:d\nvmgenid: 7079e97c-50e3-4079-afe7-23e67566b946\n\n[PENDING]\nmemory: 2048\n\n[s1]\nmachine: pc-i440fx-9.1\nmemory: 512\nrunningcpu: qemu64\nrunningmachine: pc-i440fx-9.0+pve0\nscsi0: local:a\nsnaptime: 1\nvmgenid: 7079e97c-50e3-4079-afe7-23e67566b946\nvmstate: local:state\n")
	if err := w.snapshots().Rollback(context.Background(), 100, "s1"); err != nil {
		t.Fatal(err)
	}
	main, _, _ := strings.Cut(w.content, "\n\n")
	lines := strings.Split(main, "\n")
	generation := lines[len(lines)-1]
	if len(generation) != len("vmgenid: 7079e97c-50e3-4079-afe7-23e67566b946") || strings.Contains(generation, "7079e97c") {
		t.Errorf("generation %q", generation)
	}
	want := "#kept\nmachine: pc-i440fx-9.1\nnew-thing: kept\nmemory: 512\nparent: s1\nscsi0: local:a\nunused0: local:c\nunused3: local:d"
	if got := strings.Join(lines[:len(lines)-1], "\n"); got != want {
		t.Errorf("main part\n%s\nwant\n%s", got, want)
	}
	if w.resumed != (Hardware{Machine: "pc-i440fx-9.0+pve0", CPU: "qemu64"}) {
		t.Errorf("resumed as %+v", w.resumed)
	}
	if strings.Contains(w.content, "[PENDING]") {
		t.Error("pending changes survive")
	}
}

func TestRefusalsLeaveTheFileAsItWas(t *testing.T) {
	const content = "scsi0: local:a\n\n[s1]\nscsi0: local:a\nsnaptime: 1\n"
	ctx := context.Background()
	template := "scsi0: local:a\ntemplate: 1\n\n[s1]\nscsi0: local:a\nsnaptime: 1\n"
	tests := []struct {
		content, fails, want string
		run                  func(*Snapshots) error
	}{
		{content, "activate", "activate fails", func(s *Snapshots) error { return s.Delete(ctx, 100, "s1", false) }},
		{content, "", "snapshot 's2' does not exist", func(s *Snapshots) error { return s.Delete(ctx, 100, "s2", false) }},
		{content, "activate", "activate fails", func(s *Snapshots) error { return s.Rollback(ctx, 100, "s1") }},
		{content, "", "snapshot 's2' does not exist", func(s *Snapshots) error { return s.Rollback(ctx, 100, "s2") }},
		{content, "", "snapshot name 's1' already used", func(s *Snapshots) error { return s.Create(ctx, 100, "s1", false, "") }},
		{template, "", "you can't take a snapshot if it's a template", func(s *Snapshots) error { return s.Create(ctx, 100, "s2", false, "") }},
		{template, "", "you can't delete a snapshot if vm is a template", func(s *Snapshots) error { return s.Delete(ctx, 100, "s1", false) }},
		{template, "", "you can't rollback if vm is a template", func(s *Snapshots) error { return s.Rollback(ctx, 100, "s1") }},
	}
	for _, test := range tests {
		w := newWorld(layout.QEMU, test.content)
		if test.fails != "" {
			w.fails[test.fails] = errors.New(test.fails + " fails")
		}
		if err := test.run(w.snapshots()); err == nil || err.Error() != test.want {
			t.Errorf("error %v, want %s", err, test.want)
		}
		if w.content != test.content {
			t.Errorf("%s: file\n%s", test.want, w.content)
		}
	}
}

func TestDeleteListsVolumesThatNothingNamesAnyMore(t *testing.T) {
	w := newWorld(layout.QEMU, "parent: sb\nscsi0: local:a\n\n[sa]\nscsi0: local:a\nscsi1: local:old\nsnaptime: 1\n\n[sb]\nparent: sa\nscsi0: local:a\nsnaptime: 2\n")
	if err := w.snapshots().Delete(context.Background(), 100, "sa", false); err != nil {
		t.Fatal(err)
	}
	if want := "parent: sb\nscsi0: local:a\nunused0: local:old\n\n[sb]\nscsi0: local:a\nsnaptime: 2\n"; w.content != want {
		t.Errorf("file\n%s\nwant\n%s", w.content, want)
	}
}

func TestAddUnusedTakesTheFirstFreeNumberOnce(t *testing.T) {
	s := guest.NewSection()
	s.Set("unused1", "local:b")
	for _, volume := range []string{"local:a", "local:b", "local:c", "local:a"} {
		if err := AddUnused(s, volume); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprintln(s.Keys(), s.Get("unused0"), s.Get("unused2")); got != "[unused0 unused1 unused2] local:a local:c\n" {
		t.Errorf("unused %s", got)
	}
	for i := range maxUnused - 3 {
		if err := AddUnused(s, fmt.Sprint("local:", i)); err != nil {
			t.Fatal(err)
		}
	}
	if AddUnused(s, "local:more") == nil {
		t.Error("there is no end of numbers")
	}
}

func newStore(t *testing.T, content string) *Store {
	t.Helper()
	s := &Store{Root: t.TempDir(), Node: "n1", Kind: layout.QEMU}
	if err := os.MkdirAll(filepath.Dir(s.path(100)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(100), []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreChangesOneLine(t *testing.T) {
	s := newStore(t, "cores:  2\nnew-thing: x\n")
	err := s.Edit(context.Background(), 100, func(c *guest.Config) error { c.Main.Set("memory", "512"); return nil })
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.path(100))
	if want := "cores:  2\nmemory: 512\nnew-thing: x\n"; err != nil || string(content) != want {
		t.Errorf("file %q, %v; want %q", content, err, want)
	}
	configs, err := s.List(context.Background())
	if err != nil || len(configs) != 1 || configs[0].Main.Get("memory") != "512" {
		t.Errorf("list %v, %v", configs, err)
	}
}

func TestStoreNeverOverwritesAnothersSave(t *testing.T) {
	s := newStore(t, "cores: 2\n")
	err := s.Edit(context.Background(), 100, func(c *guest.Config) error {
		c.Main.Set("cores", "3")
		return os.WriteFile(s.path(100), []byte("cores: 4\n"), 0o640)
	})
	if !errors.Is(err, ErrChanged) {
		t.Errorf("error %v", err)
	}
	if content, err := os.ReadFile(s.path(100)); err != nil || string(content) != "cores: 4\n" {
		t.Errorf("file %q, %v", content, err)
	}
}

func TestStoreMakesChangesOneByOne(t *testing.T) {
	s := newStore(t, "cores: 1\n")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			err := s.Edit(context.Background(), 100, func(c *guest.Config) error {
				c.Main.Set("cores", fmt.Sprint(c.Main.Int(layout.QEMU, "cores")+1))
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if c, err := s.Load(context.Background(), 100); err != nil || c.Main.Get("cores") != "21" {
		t.Errorf("cores %v, %v", c.Main.Get("cores"), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	release, err := s.acquire(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := s.Edit(ctx, 100, func(*guest.Config) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func FuzzParseStartup(f *testing.F) {
	f.Add("order=1,up=2,down=3")
	f.Fuzz(func(t *testing.T, value string) {
		s, err := ParseStartup(value)
		if err != nil {
			return
		}
		if again, err := ParseStartup(s.String()); err != nil || again != s {
			t.Errorf("%q is %+v, then %+v, %v", value, s, again, err)
		}
	})
}
