package cfstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"etcpve/cfs/command"
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// errPower is what a node sees of the moment in which its power fails.
var errPower = errors.New("power failed")

// errFull is what a node sees of a disk that has no room left in the middle of an
// append. What it has written is unknown until somebody looks.
var errFull = errors.New("no space left on device")

// A mutation breaks one promise on purpose, to show that its absence is noticed.
type mutation uint8

const (
	sound           mutation = iota
	lateSync                 // an append is durable only after the next one
	countsTwice              // the tree does not know repeated commands
	readsBehind              // a read does not wait for what was committed before it
	disordered               // one node applies what it gets together in reverse
	forgetsWrites            // some writes are acknowledged and not carried out
	locksTwice               // a lock that is held is given away once more
	expiresRenewed           // a lock expires although it was renewed meanwhile
	guestsTwice              // a guest may be configured in a second place
	deniesUncertain          // a change whose result is unknown counts as refused
)

// plates is what survives when the power fails.
type plates struct {
	hard           command.HardState
	base, baseTerm uint64
	log            []command.Entry // from base+1 on
	applied        command.Snapshot
}

func (p *plates) last() uint64 { return p.base + uint64(len(p.log)) }

// when says at which moment the power fails.
type when uint8

const (
	never when = iota
	beforeAppend
	afterAppend
	fullAppend // no power failure, but as final
)

// memory is a database whose disk is plates: an append is durable at once, what
// was applied is so only after a flush, which comes whenever it likes.
type memory struct {
	id      uint64
	disk    *plates
	kept    plates // as the running node sees it
	tree    *tree.Tree
	applied command.Snapshot // without its tree
	random  *rand.Rand
	broken  mutation
	fails   when
	gone    bool // nothing works any more
	full    bool
}

// newMemory opens what a disk holds.
func newMemory(disk *plates, t *tree.Tree, random *rand.Rand, broken mutation) (*memory, error) {
	m := &memory{disk: disk, tree: t, random: random, broken: broken, kept: *disk, applied: disk.applied}
	m.kept.log = slices.Clone(disk.log)
	if disk.applied.Tree == nil {
		return m, nil
	}
	state, err := tree.UnmarshalState(disk.applied.Tree)
	if err != nil {
		return nil, err
	}
	_, err = t.Restore(state)
	return m, err
}

func (m *memory) Recovered() command.Recovered {
	hard := m.kept.hard
	return command.Recovered{HardState: hard, Members: m.applied.Members, Applied: m.applied.Index, Base: m.kept.base, Last: max(m.kept.last(), m.applied.Index)}
}

func (m *memory) Append(hard command.HardState, entries []command.Entry) error {
	m.flushSometimes(8)
	if m.fails == beforeAppend {
		m.gone = true
	}
	if m.gone {
		return errPower
	}
	full := m.fails == fullAppend
	if full && m.random.IntN(2) == 0 {
		m.gone = true
		return errFull
	}
	if m.broken == lateSync {
		m.sync()
	}
	m.kept.hard = hard
	if len(entries) > 0 {
		first := entries[0].Index
		if first <= m.kept.base || first > m.kept.last()+1 {
			return fmt.Errorf("append at %d to a log from %d to %d", first, m.kept.base, m.kept.last())
		}
		m.kept.log = append(slices.Clone(m.kept.log[:first-m.kept.base-1]), entries...)
	}
	if m.broken != lateSync {
		m.sync()
	}
	switch {
	case full:
		m.gone = true
		return errFull
	case m.fails == afterAppend:
		m.gone = true
		return errPower
	}
	return nil
}

// sync makes the log durable.
func (m *memory) sync() {
	m.disk.hard, m.disk.base, m.disk.baseTerm, m.disk.log = m.kept.hard, m.kept.base, m.kept.baseTerm, slices.Clone(m.kept.log)
}

// flushSometimes makes what was applied durable once in n times, and trims the log.
func (m *memory) flushSometimes(n int) {
	if m.gone || m.random.IntN(n) > 0 {
		return
	}
	m.flush()
	if m.random.IntN(3) == 0 {
		m.trim()
	}
}

// trim forgets the part of the log that was applied.
func (m *memory) trim() {
	if cut := m.applied.Index; cut > m.kept.base && cut <= m.kept.last() {
		m.kept.baseTerm = m.kept.log[cut-m.kept.base-1].Term
		m.kept.log = slices.Clone(m.kept.log[cut-m.kept.base:])
		m.kept.base = cut
		m.disk.base, m.disk.baseTerm, m.disk.log = m.kept.base, m.kept.baseTerm, slices.Clone(m.kept.log)
	}
}

func (m *memory) flush() {
	m.disk.applied = m.applied
	m.disk.applied.Tree = m.tree.State().Marshal()
	m.disk.hard.Commit = max(m.disk.hard.Commit, m.applied.Index)
}

func (m *memory) Entries(lo, hi, limit uint64) (list []command.Entry, err error) {
	if lo <= m.kept.base || hi > m.kept.last()+1 || lo >= hi {
		return nil, fmt.Errorf("entries %d to %d of a log from %d to %d", lo, hi, m.kept.base, m.kept.last())
	}
	size := uint64(0)
	for _, e := range m.kept.log[lo-m.kept.base-1 : hi-m.kept.base-1] {
		if size += uint64(len(e.Data)); len(list) > 0 && size > limit {
			break
		}
		list = append(list, e)
	}
	return list, nil
}

func (m *memory) Term(index uint64) (uint64, error) {
	switch {
	case index == m.kept.base:
		return m.kept.baseTerm, nil
	case index > m.kept.base && index <= m.kept.last():
		return m.kept.log[index-m.kept.base-1].Term, nil
	}
	return 0, fmt.Errorf("term of %d in a log from %d to %d", index, m.kept.base, m.kept.last())
}

func (m *memory) Room() error {
	if m.full {
		return tree.ErrNoSpace
	}
	return nil
}

func (m *memory) Apply(entries []command.Entry, members []byte) (results []tree.Result, changes []tree.Change, err error) {
	if m.gone {
		return nil, nil, errPower
	}
	x := m.tree.Begin()
	results = make([]tree.Result, len(entries))
	for i := range entries {
		if m.broken == disordered && m.id == 2 {
			i = len(entries) - 1 - i
		}
		r, effects, err := m.carryOut(x, entries[i])
		if err != nil {
			return nil, nil, err
		}
		results[i], changes = r, append(changes, effects...)
	}
	x.Publish()
	last := entries[len(entries)-1]
	m.applied.Index, m.applied.Term = last.Index, last.Term
	if members != nil {
		m.applied.Members = members
	}
	m.flushSometimes(8)
	return results, changes, nil
}

// carryOut applies one entry.
func (m *memory) carryOut(x *tree.Txn, e command.Entry) (tree.Result, []tree.Change, error) {
	if e.Kind != command.Change || len(e.Data) == 0 {
		x.Skip(e.Index)
		return tree.Result{Index: e.Index}, nil, nil
	}
	c, err := command.Unmarshal(e.Data)
	if err != nil {
		return tree.Result{}, nil, err
	}
	switch {
	case m.broken == countsTwice:
		c.ID = 0
	case m.broken == forgetsWrites && c.Op == command.Write && c.ID%16 == 1:
		x.Skip(e.Index)
		return tree.Result{Index: e.Index}, nil, nil
	case m.broken == expiresRenewed && c.Op == command.Unlock:
		if lock, ok := m.tree.Lookup(c.Path); ok {
			c.Expect = lock.Version
		}
	}
	r, effects := x.Apply(e.Index, c)
	if _, guest := layout.GuestOf(c.Path); m.broken == locksTwice && c.Op == command.Mkdir || m.broken == guestsTwice && guest {
		if errors.Is(r.Err, tree.ErrExist) {
			r.Err = nil
		}
	}
	return r, effects, nil
}

func (m *memory) Bootstrap(members []byte) error {
	index := m.applied.Index + 1
	x := m.tree.Begin()
	x.Skip(index)
	x.Publish()
	m.replace(command.Snapshot{Index: index, Term: 1, Members: members})
	return nil
}

func (m *memory) replace(s command.Snapshot) {
	m.kept = plates{hard: m.kept.hard, base: s.Index, baseTerm: s.Term}
	m.kept.hard.Term, m.kept.hard.Commit = max(m.kept.hard.Term, s.Term), s.Index
	m.applied = s
	m.disk.hard.Term = m.kept.hard.Term
	m.disk.base, m.disk.baseTerm, m.disk.log = s.Index, s.Term, nil
	m.flush()
}

func (m *memory) Snapshot() (command.Snapshot, error) {
	s := m.applied
	s.Tree = m.tree.State().Marshal()
	return s, nil
}

func (m *memory) Install(s command.Snapshot) ([]tree.Change, error) {
	if m.gone {
		return nil, errPower
	}
	state, err := tree.UnmarshalState(s.Tree)
	if err != nil {
		return nil, err
	}
	changes, err := m.tree.Restore(state)
	if err != nil {
		return nil, err
	}
	m.replace(s)
	return changes, nil
}
