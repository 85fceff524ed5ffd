package cfstest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"etcpve/cfs/command"
	"etcpve/cfs/database"
	"etcpve/cfs/tree"
)

// model is the files that a sequence of acknowledged commands leaves behind.
type model map[string][]byte

// after returns the model after a command that succeeds.
func (m model) after(c *command.Command) model {
	next := maps.Clone(m)
	switch c.Op {
	case command.Write:
		next[c.Path] = c.Data
	case command.Remove:
		delete(next, c.Path)
	case command.Rename:
		next[c.To] = next[c.Path]
		delete(next, c.Path)
	}
	return next
}

// differs says how a tree differs from the model, "" if it does not.
func (m model) differs(t *tree.Tree) string {
	found := 0
	for _, e := range t.State().Entries {
		if e.Dir {
			continue
		}
		path, ok := t.Path(e.Inode)
		want, expected := m[path]
		if !ok || !expected || !bytes.Equal(e.Data, want) {
			return fmt.Sprintf("%s has %d bytes, expected %v with %d", path, len(e.Data), expected, len(want))
		}
		found++
	}
	if found != len(m) {
		return fmt.Sprintf("%d files of %d", found, len(m))
	}
	return ""
}

const guestDir = "nodes/n1/qemu-server"

// guestDirs are the directories that the workload works in.
func guestDirs() []string { return []string{"nodes", "nodes/n1", guestDir, "power"} }

// next invents a command that succeeds on m.
func (m model) next(random *rand.Rand) *command.Command {
	sizes := []int{0, 100, 700, 3000, 5000, 20_000, 200_000}
	path := func() string { return fmt.Sprintf("%s/%d.conf", guestDir, 100+random.IntN(20)) }
	for {
		c := &command.Command{Op: command.Write, Path: path(), Time: 1_700_000_000}
		_, exists := m[c.Path]
		switch random.IntN(10) {
		case 0:
			if c.Op = command.Remove; exists {
				return c
			}
		case 1:
			c.Op, c.To = command.Rename, path()
			if _, taken := m[c.To]; exists && !taken {
				return c
			}
		default:
			c.Data = noise(sizes[random.IntN(len(sizes))])
			return c
		}
	}
}

// TestAPowerCutLosesNoAcknowledgedSave cuts the power at every sync and between
// syncs, with the writes in between lost, kept or torn, and opens what is left.
func TestAPowerCutLosesNoAcknowledgedSave(t *testing.T) {
	rec := &recorder{}
	dir := rec.mount(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	models := record(t, rec, dir, random)
	if len(rec.events) < 500 {
		t.Fatalf("only %d events were recorded", len(rec.events))
	}

	scratch := filepath.Join("/dev/shm", fmt.Sprintf("etcpve-powercut-%d", os.Getpid()))
	t.Cleanup(func() { os.RemoveAll(scratch) })
	d, acks, cuts := newDisk(), 0, 0
	hurry := time.Now().Add(40 * time.Second) // from then on only at syncs, but at each
	for i, e := range rec.events {
		if e.kind == acknowledged {
			acks++
			continue
		}
		fates := fatesAt(e, random)
		if time.Now().After(hurry) {
			fates = slices.DeleteFunc(fates, func(f namedFate) bool { return f.name != "all lost" })
		}
		for _, f := range fates {
			cuts++
			d.image(t, scratch, f.of)
			if why := recovers(t, scratch, models, acks); why != "" {
				t.Fatalf("power cut before event %d of %d (%s), %d saves acknowledged: %s", i, len(rec.events), f.name, acks, why)
			}
		}
		d.see(e)
	}
	t.Logf("%d power cuts, %d events, %d saves", cuts, len(rec.events), acks)
}

// namedFate is a fate as a failure reports it.
type namedFate struct {
	name string
	of   fate
}

// fatesAt chooses what to try before an event: at a sync the loss of everything
// since the last one and one other fate, between syncs only now and then one,
// as there are far more of those.
func fatesAt(e event, random *rand.Rand) []namedFate {
	others := []namedFate{{"all kept", allKept}, {"torn at 512", torn(random, 512)}, {"torn at 4096", torn(random, 4096)}}
	other := others[random.IntN(len(others))]
	switch {
	case e.kind == synced:
		return []namedFate{{"all lost", allLost}, other}
	case e.kind != wrote || random.IntN(100) == 0:
		return []namedFate{other}
	}
	return nil
}

// record runs the workload and returns the model after each acknowledgement.
func record(t *testing.T, rec *recorder, dir string, random *rand.Rand) []model {
	ctx := t.Context()
	n := start(t, filepath.Join(dir, "config.db"), database.Options{FlushEvery: 20 * time.Millisecond, FlushEntries: 6})
	models := []model{{}}
	for _, path := range guestDirs() {
		must(t, n.Do(ctx, &command.Command{Op: command.Mkdir, Path: path}))
	}
	for i := range 160 {
		m := models[len(models)-1]
		c := m.next(random)
		must(t, n.Do(ctx, c))
		rec.add(event{kind: acknowledged})
		models = append(models, m.after(c))
		if i%25 == 24 {
			must(t, n.Database.Checkpoint())
		}
		if i%40 == 39 {
			must(t, n.Database.Flush(ctx))
		}
		if i == 110 {
			stop(t, n)
			n = start(t, filepath.Join(dir, "config.db"), database.Options{FlushEvery: 20 * time.Millisecond, FlushEntries: 6})
		}
	}
	stop(t, n)
	return models
}

// recovers opens what a power cut has left and says what is wrong with it. The
// command under way at the cut may have happened or not.
func recovers(t *testing.T, dir string, models []model, acks int) string {
	n, err := Start(t.Context(), filepath.Join(dir, "config.db"), database.Options{FlushEvery: time.Hour})
	if err != nil {
		return err.Error()
	}
	why := models[acks].differs(n.Tree)
	if why != "" && acks+1 < len(models) && models[acks+1].differs(n.Tree) == "" {
		why = ""
	}
	if err := n.Halt(); err != nil {
		return err.Error()
	}
	if err := n.Database.Abandon(); err != nil {
		return err.Error()
	}
	return why
}
