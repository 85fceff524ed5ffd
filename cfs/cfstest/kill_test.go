package cfstest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"etcpve/cfs/database"
)

// saverDir makes this test binary a child that saves until it is killed.
const saverDir = "ETCPVE_SAVER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(saverDir); dir != "" {
		fmt.Fprintln(os.Stderr, saveForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// saveForever overwrites files with rising numbers and prints each number once
// its save was acknowledged.
func saveForever(dir string) error {
	n, err := Start(context.Background(), filepath.Join(dir, "config.db"), database.Options{FlushEvery: 3 * time.Millisecond, FlushEntries: 20})
	if err != nil {
		return err
	}
	number := uint64(0)
	if e, ok := n.Tree.Lookup(saved(0)); ok {
		number = numberIn(e.Data)
	}
	for {
		number++
		if err := n.Save(context.Background(), saved(number), numbered(number)); err != nil {
			return err
		}
		if err := n.Save(context.Background(), saved(0), numbered(number)); err != nil {
			return err
		}
		fmt.Println(number)
	}
}

func saved(number uint64) string { return fmt.Sprintf("f%d", number%50) }

// numbered is a content of a size that follows from its number.
func numbered(number uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, number), make([]byte, number*977%30_000)...)
}

func numberIn(data []byte) uint64 {
	if len(data) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(data)
}

func TestKillingTheDaemonLosesNoAcknowledgedSave(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	dir, last := t.TempDir(), uint64(0)
	for round := range rounds {
		last = max(last, saveUntilKilled(t, dir))
		n := start(t, filepath.Join(dir, "config.db"), database.Options{})
		e, _ := n.Tree.Lookup(saved(0))
		if got := numberIn(e.Data); got < last || len(e.Data) != len(numbered(got)) {
			t.Fatalf("round %d: save %d was acknowledged, %d was found", round, last, got)
		}
		for number := last; number > 0 && number+48 > last; number-- {
			if e, _ := n.Tree.Lookup(saved(number)); number%50 != 0 && numberIn(e.Data) < number {
				t.Fatalf("round %d: save %d was acknowledged, %d was found", round, number, numberIn(e.Data))
			}
		}
		if round%2 == 0 {
			stop(t, n)
			continue
		}
		must(t, n.Halt())
		must(t, n.Database.Abandon())
	}
	t.Logf("%d saves in %d rounds", last, rounds)
}

// saveUntilKilled returns the last number that a child acknowledged before its end.
func saveUntilKilled(t *testing.T, dir string) (last uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), saverDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	lines, killAt := bufio.NewScanner(out), 1+rand.IntN(60)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Errorf("child says %q", lines.Text())
		}
		if n == killAt {
			must(t, child.Process.Kill())
		}
	}
	if err := child.Wait(); err == nil || last == 0 {
		t.Fatalf("child ended by itself after %d", last)
	}
	return last
}
