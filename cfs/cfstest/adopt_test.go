package cfstest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcpve/cfs/database"
	"etcpve/cfs/layout"
)

// adopted returns a copy of a database that the field's own daemon has written.
func adopted(t *testing.T) (dir, path string) {
	dir, err := filepath.Abs("../../../shared/oracle/adopt")
	must(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "config.db"))
	if err != nil {
		t.Skip("no database of the field's daemon beside the checkout: ", err)
	}
	path = filepath.Join(t.TempDir(), "config.db")
	must(t, os.WriteFile(path, b, 0o600))
	return dir, path
}

func TestADatabaseOfTheFieldIsTakenOver(t *testing.T) {
	dir, path := adopted(t)
	before := dump(t, path)
	for range 2 { // taken over, and then opened again
		n := start(t, path, database.Options{})
		checkManifest(t, n, filepath.Join(dir, "manifest"))
		checkGuests(t, n, filepath.Join(dir, "vmlist.json"))
		stop(t, n)
	}
	if after := dump(t, path); after != before {
		t.Error("taking a database over has changed its tree")
	}
}

// dump is the table of the field's daemon as text.
func dump(t *testing.T, path string) string {
	t.Helper()
	tool, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("sqlite3 is not installed")
	}
	out, err := exec.Command(tool, path, "PRAGMA integrity_check; SELECT inode, parent, version, writer, mtime, type, name, typeof(data), quote(data) FROM tree ORDER BY inode").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func checkManifest(t *testing.T, n *Node, manifest string) {
	t.Helper()
	f, err := os.Open(manifest)
	must(t, err)
	defer f.Close()
	want := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), " ", 5)
		want[fields[4]] = strings.Join(fields[:4], " ")
	}
	for _, e := range n.Tree.State().Entries {
		path, _ := n.Tree.Path(e.Inode)
		got := fmt.Sprintf("dir %o - -", layout.Mode(path, true))
		if !e.Dir {
			sum := sha256.Sum256(e.Data)
			got = fmt.Sprintf("file %o %d %s", layout.Mode(path, false), len(e.Data), hex.EncodeToString(sum[:]))
		}
		if want[path] != got {
			t.Errorf("%s is %q, want %q", path, got, want[path])
		}
		delete(want, path)
	}
	for path := range want {
		t.Errorf("%s is missing", path)
	}
}

func checkGuests(t *testing.T, n *Node, list string) {
	t.Helper()
	b, err := os.ReadFile(list)
	must(t, err)
	var want struct {
		IDs map[string]struct{ Node, Type string }
	}
	must(t, json.Unmarshal(b, &want))
	_, guests := n.Tree.Guests()
	if len(guests) != len(want.IDs) {
		t.Errorf("%d guests, want %d", len(guests), len(want.IDs))
	}
	for _, g := range guests {
		if w := want.IDs[fmt.Sprint(g.VMID)]; w.Node != g.Node || w.Type != string(g.Kind) {
			t.Errorf("guest %d is %s on %s, want %s on %s", g.VMID, g.Kind, g.Node, w.Type, w.Node)
		}
	}
}

func TestAnAdoptedVersionIsKeptWhenItIsOverwritten(t *testing.T) {
	_, path := adopted(t)
	n := start(t, path, database.Options{})
	defer stop(t, n)
	old, _ := n.Tree.Lookup("storage.cfg")
	must(t, n.Save(t.Context(), "storage.cfg", []byte("dir: local\n")))
	list, err := n.Database.Revisions(t.Context(), "storage.cfg")
	if err != nil || len(list) != 2 || list[0].Index != 0 {
		t.Fatalf("revisions %+v, %v", list, err)
	}
	got, err := n.Database.Content(t.Context(), "storage.cfg", 0)
	if err != nil || string(got) != string(old.Data) {
		t.Errorf("the old content is %q, %v", got, err)
	}
}

func TestTheFieldCanReadWhatWeClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	n := start(t, path, database.Options{})
	big := noise(100_000)
	must(t, n.Save(t.Context(), "big", big))
	must(t, n.Save(t.Context(), "empty", nil))
	must(t, n.Database.Flush(t.Context()))
	stop(t, n)
	out := dump(t, path)
	for _, want := range []string{
		"ok\n0|0|2|",                 // the row of the version comes first
		"|8|__version__|null|NULL\n", // and has no content
		"|8|big|blob|X'" + strings.ToUpper(hex.EncodeToString(big)) + "'\n",
		"|8|empty|null|NULL\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %.60q", want)
		}
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("a write-ahead log is left behind: %v", err)
	}
}

func TestTwoConfigurationsOfOneGuestStopTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	stop(t, start(t, path, database.Options{}))
	rows := []string{"1,0,'nodes',4", "2,1,'n1',4", "3,2,'lxc',4", "4,2,'qemu-server',4", "5,3,'100.conf',8", "6,4,'100.conf',8"}
	for _, r := range rows {
		f := strings.Split(r, ",")
		out, err := exec.Command("sqlite3", path, fmt.Sprintf("INSERT INTO tree (inode, parent, version, writer, mtime, type, name) VALUES (%s, %s, %s, 0, 0, %s, %s)", f[0], f[1], f[0], f[3], f[2])).CombinedOutput()
		if err != nil {
			t.Skipf("sqlite3: %v: %s", err, out)
		}
	}
	_, err := Start(t.Context(), path, database.Options{})
	if err == nil || !strings.Contains(err.Error(), "nodes/n1/lxc/100.conf") || !strings.Contains(err.Error(), "nodes/n1/qemu-server/100.conf") {
		t.Errorf("the error does not name both files: %v", err)
	}
}
