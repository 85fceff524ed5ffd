package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"etcpve/cfs/command"
)

// busyboxVi replaces every character of a file by w in an editor that wants a
// terminal: it asks where the cursor is before it listens.
const busyboxVi = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "vt100"
    os.execlp("busybox", "busybox", "vi", sys.argv[1])
def until(text):
    seen = b""
    while text not in seen:
        seen += os.read(fd, 65536)
until(b"100%")
os.write(fd, b":%s/./w/g\r")
until(b"substitutions")
os.write(fd, b":wq\r")
try:
    while os.read(fd, 65536): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

// TestNoReadIsTorn reads while every kind of writer replaces the file, each by a
// letter of its own.
func TestNoReadIsTorn(t *testing.T) {
	reads, rounds := int64(100_000), int64(5)
	if testing.Short() {
		reads, rounds = 10_000, 1
	}
	r := newRig(t)
	dir := t.TempDir()
	save := func(path string, c byte, n int) {
		if err := os.WriteFile(path, []byte(strings.Repeat(string(c), n)+"\n"), 0o640); err != nil {
			t.Error(err)
		}
	}
	save(r.path("file"), 'a', 1000)
	save(filepath.Join(dir, "long"), 'b', 200_000)
	save(filepath.Join(dir, "short"), 'c', 3000)
	os.WriteFile(filepath.Join(dir, "vi.py"), []byte(busyboxVi), 0o600)
	var saves [256]atomic.Int64 // by the first letter
	r.mu.Lock()
	r.onCommit = func(c *command.Command) {
		if c.Op == command.Write && c.Path == "file" && len(c.Data) > 0 {
			saves[c.Data[0]].Add(1)
		}
	}
	r.mu.Unlock()
	script := "cat LONG > file; sed -i s/./s/g file; mv file file~; cp LONG file; rm -f file~; cp SHORT file"
	letters := "bcs"
	for tool, line := range map[string]string{
		"vi":      "; vi -es -u NONE -n -c '%s/./v/g' -c w! -c q! file",
		"busybox": "; timeout 20 python3 VI file; cp SHORT file",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Log(err)
			continue
		}
		script += line
		letters += map[string]string{"vi": "v", "busybox": "w"}[tool]
	}
	script = strings.NewReplacer("LONG", filepath.Join(dir, "long"), "SHORT", filepath.Join(dir, "short"), "VI", filepath.Join(dir, "vi.py")).Replace(script)

	var done atomic.Bool
	var count, round atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !done.Load(); i++ {
			if c := byte('A' + i%20); i%2 == 0 {
				save(r.path("file"), c, 500+i%5000)
			} else {
				save(r.path("file.tmp.1"), c, 500+i%5000)
				os.Rename(r.path("file.tmp.1"), r.path("file"))
			}
		}
	})
	wg.Go(func() {
		for ; !done.Load(); round.Add(1) {
			if out, err := r.shell(script); err != nil {
				t.Logf("%v: %s", err, out) // the others save while this one edits
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			defer done.Store(true)
			for count.Add(1) < reads || round.Load() < rounds {
				if err := readOnce(r.path("file")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d reads, %d commits, %d rounds of the tools", count.Load(), r.commits.Load(), round.Load())
	for _, c := range letters {
		if saves[c].Load() == 0 {
			t.Errorf("no save by %c", c)
		}
	}
}

func readOnce(path string) error {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) { // "mv file file~" takes it away for this node
		return nil
	}
	if err != nil || len(b) == 0 || b[len(b)-1] != '\n' {
		return fmt.Errorf("read %d bytes, %v", len(b), err)
	}
	for _, c := range b[:len(b)-1] {
		if c != b[0] {
			return fmt.Errorf("a read of %d bytes is mixed of %q and %q", len(b), b[0], c)
		}
	}
	return nil
}
