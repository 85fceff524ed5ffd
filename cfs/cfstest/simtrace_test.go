package cfstest

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"etcpve/cfs/consensus"
)

// note is one thing that happened.
type note struct {
	what    string
	numbers []uint64
}

// trace is all that happened in a simulation, in order: its digest, and the text
// if somebody wants to read it.
type trace struct {
	hash hash.Hash64
	text *strings.Builder

	scratch [8]byte
}

func newTrace() *trace { return &trace{hash: fnv.New64a()} }

func (t *trace) add(at time.Duration, n note) {
	if t.text != nil {
		fmt.Fprintln(t.text, at, n.what, n.numbers)
	}
	t.hash.Write([]byte(n.what))
	t.number(uint64(at))
	for _, x := range n.numbers {
		t.number(x)
	}
}

func (t *trace) number(n uint64) {
	binary.LittleEndian.PutUint64(t.scratch[:], n)
	t.hash.Write(t.scratch[:])
}

func digest(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// counts says how often something happened.
type counts map[string]int

func (c counts) add(other counts) {
	for what, n := range other {
		c[what] += n
	}
}

// count notes that something happened while there were faults. It is called while
// one node moves, or none.
func (w *world) count(what string) {
	if !w.quiet && w.now() > simSetUp {
		w.counts[what]++
	}
}

// countMembers notes how a leader's group has changed.
func (w *world) countMembers(run *incarnation, s consensus.Status) {
	had := run.voters
	for _, id := range s.Voters {
		switch {
		case slices.Contains(run.learners, id):
			w.count("learner promoted")
		case had != nil && !slices.Contains(had, id):
			w.count("voter added")
		}
	}
	for _, id := range had {
		switch {
		case slices.Contains(s.Learners, id):
			w.count("voter demoted")
		case !slices.Contains(s.Voters, id):
			w.count("voter removed")
		}
	}
	for _, id := range s.Learners {
		if had != nil && !slices.Contains(had, id) && !slices.Contains(run.learners, id) {
			w.count("learner added")
		}
	}
	run.voters, run.learners = s.Voters, s.Learners
}

// simFaultNames is what must happen in a run of many seeds.
var simFaultNames = []string{
	"message lost", "message doubled", "message overtaken", "message held up", "message cut off", "message cut off one way", "stream broken",
	"power failed", "power failed before a sync", "power failed after a sync", "all nodes without power",
	"tree lost and replayed from the log", "disk full", "disk full in a sync", "disk lost",
	"clock set", "node stopped for a moment",
	"entries from others than the leader", "learner told by a voter",
	"tree sent to a new node", "tree sent to a node that was far behind",
	"learner added", "learner promoted", "voter demoted", "voter removed", "leadership handed over", "leader elected",
	"refused without effect", "proposed again", "result never known",
}

// logOf shows what a node logs, at virtual time, if SIMLOG is set: SEEDS=7-8
// SIMLOG=1 tells what happened in seed 7.
func (w *world) logOf(id uint64) *slog.Logger {
	if os.Getenv("SIMLOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.String("at", w.now().String())
		}
		return a
	}})).With("on", id)
}
