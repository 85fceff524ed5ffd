package cfstest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"etcpve/cfs/command"
	"etcpve/cfs/consensus"
	"etcpve/cfs/layout"
	"etcpve/cfs/tree"
)

// act is what a client does.
type act uint8

const (
	actRead act = iota
	actWrite
	actCreate
	actRemove
	actRename
	actRenameNew
	actLock
	actUnlock
	actRenew
	actExpire
	actTooBig
)

var actNames = [...]string{"read", "write", "create", "remove", "rename", "rename to a new name", "lock", "unlock", "renew", "expire", "write too much"}

// places is how many paths belong together: what happens to one may depend on the others.
const places = 3

// The groups of paths: ordinary files, a guest that may be in three places, a lock.
const (
	fileGroups = 3
	guestGroup = fileGroups
	lockGroup  = fileGroups + 1
	groups     = fileGroups + 2
)

func placePath(group, place int) string {
	switch group {
	case guestGroup:
		return []string{"nodes/n1/qemu-server/100.conf", "nodes/n2/qemu-server/100.conf", "nodes/n1/lxc/100.conf"}[place]
	case lockGroup:
		return "priv/lock/storage"
	}
	return fmt.Sprintf("firewall/%d-%d.fw", group, place)
}

// simDirs must exist before the clients begin.
func simDirs() []string {
	return []string{"nodes", "nodes/n1", "nodes/n2", "nodes/n1/qemu-server", "nodes/n2/qemu-server", "nodes/n1/lxc", "priv", "priv/lock", "firewall"}
}

// cells is what is at the places of a group: 0 nothing, else the number of the
// write. Of a lock it is the inode, the version, the holder and the time.
type cells [4]uint64

// The cells of a lock.
const (
	lockInode = iota
	lockVersion
	lockHolder
	lockTime
)

// mark is what the tree has put on a lock when it carried a command out.
type mark struct{ inode, version uint64 }

// deed is an operation of a client, the input of the model.
type deed struct {
	act      act
	group    int
	from, to int
	value    uint64 // number of the write, or the version of the lock to expire
	command  uint64
	writer   uint64
	time     uint64 // by the clock of the writer's node
	mark     mark   // known once the history is complete
}

func (d deed) String() string {
	return fmt.Sprintf("%s %d/%d>%d %d", actNames[d.act], d.group, d.from, d.to, d.value)
}

// answer is the output of the model.
type answer struct {
	unknown bool
	err     error
	seen    cells
}

// after returns what a deed leaves behind, and why it is refused.
func (d deed) after(s cells) (cells, error) {
	if d.group == lockGroup {
		return d.afterLock(s)
	}
	elsewhere := func(moving int) bool {
		for i, v := range s[:places] {
			if d.group == guestGroup && v != 0 && i != d.from && i != d.to && i != moving {
				return true
			}
		}
		return false
	}
	switch d.act {
	case actTooBig:
		return s, tree.ErrTooBig
	case actWrite, actCreate:
		d.to = d.from
		if d.act == actCreate && s[d.from] != 0 || elsewhere(-1) {
			return s, tree.ErrExist
		}
		s[d.from] = d.value
	case actRemove:
		if s[d.from] == 0 {
			return s, tree.ErrNotExist
		}
		s[d.from] = 0
	case actRename, actRenameNew:
		switch {
		case s[d.from] == 0:
			return s, tree.ErrNotExist
		case d.from == d.to:
			return s, nil
		case d.act == actRenameNew && s[d.to] != 0, elsewhere(d.from):
			return s, tree.ErrExist
		}
		s[d.to], s[d.from] = s[d.from], 0
	}
	return s, nil
}

func (d deed) afterLock(s cells) (cells, error) {
	free := s[lockInode] == 0
	switch {
	case d.act == actLock && !free:
		return s, tree.ErrExist
	case d.act == actLock:
		return cells{d.mark.inode, d.mark.version, d.writer, d.time}, nil
	case free:
		return s, tree.ErrNotExist
	case d.act == actRenew && (s[lockHolder] != d.writer || d.time < s[lockTime]):
		return s, tree.ErrAccess
	case d.act == actRenew:
		return cells{s[lockInode], d.mark.version, d.writer, d.time}, nil
	case d.act == actExpire && s[lockVersion] != d.value:
		return s, tree.ErrAccess
	}
	return cells{}, nil
}

// simModel is how one group behaves if there were a single tree.
var simModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, groups)
		for _, o := range history {
			g := o.Input.(deed).group
			parts[g] = append(parts[g], o)
		}
		return parts
	},
	Init: func() any { return cells{} },
	Step: func(state, input, output any) (bool, any) {
		s, d, a := state.(cells), input.(deed), output.(answer)
		if d.act == actRead {
			return a.seen == s, s
		}
		next, refusal := d.after(s)
		return a.unknown || a.err == refusal, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v -> %+v", input, output) },
}

// client makes one change after the other.
type client struct {
	id     int
	at     uint64 // its node
	clock  int64  // offset of its node's clock in seconds
	busy   *attempt
	locked uint64 // the version of the lock that it saw last
}

// attempt is a deed under way.
type attempt struct {
	deed    deed
	command *command.Command
	called  int64
	run     *incarnation
	cancel  context.CancelFunc
	result  tree.Result
	err     error
	ended   atomic.Bool // set by the goroutine that proposes
	tries   int
}

// invent chooses what a client does next.
func (w *world) invent(c *client) deed {
	w.deeds++
	d := deed{group: w.random.IntN(groups), from: w.random.IntN(places), to: w.random.IntN(places), value: w.deeds}
	if d.group == lockGroup {
		d.from, d.to = 0, 0
		d.act = []act{actRead, actLock, actLock, actUnlock, actRenew, actRenew, actExpire}[w.random.IntN(7)]
		if d.act == actExpire {
			d.value = max(1, c.locked)
		}
		return d
	}
	d.act = []act{actRead, actRead, actWrite, actWrite, actWrite, actCreate, actRemove, actRename, actRenameNew}[w.random.IntN(9)]
	if d.act == actWrite && w.random.IntN(50) == 0 {
		d.act = actTooBig
	}
	return d
}

// order is a deed as a command.
func (w *world) order(c *client, d deed) *command.Command {
	o := &command.Command{ID: w.random.Uint64() | 1, Writer: uint32(c.at), Node: fmt.Sprint("n", c.at), Path: placePath(d.group, d.from),
		Time: time.Now().Unix() + c.clock}
	switch d.act {
	case actRead:
		o.Op, o.Path = command.Noop, ""
	case actWrite, actCreate:
		o.Op, o.Exclusive = command.Write, d.act == actCreate
		o.Data = fmt.Appendf(nil, "%d %s", d.value, make([]byte, []int{0, 100, 3000}[w.random.IntN(3)]))
	case actTooBig:
		o.Op, o.Data = command.Write, make([]byte, layout.MaxFile+1)
	case actRenew:
		o.Op = command.Touch
	case actRemove:
		o.Op = command.Remove
	case actRename, actRenameNew:
		o.Op, o.To, o.Exclusive = command.Rename, placePath(d.group, d.to), d.act == actRenameNew
	case actLock:
		o.Op = command.Mkdir
	case actUnlock:
		o.Op = command.Rmdir
	case actExpire:
		o.Op, o.Expect = command.Unlock, d.value
	}
	return o
}

// begin lets a client that has nothing to do start something.
func (w *world) begin(c *client) {
	c.at = 1 + w.random.Uint64N(uint64(len(w.members)))
	run := w.members[c.at].run
	if run == nil || run.state != running {
		return
	}
	d := w.invent(c)
	o := w.order(c, d)
	d.command, d.writer, d.time = o.ID, uint64(o.Writer), uint64(o.Time)
	c.busy = &attempt{deed: d, command: o, called: w.step}
	w.propose(c, run)
}

func (w *world) propose(c *client, run *incarnation) {
	a := c.busy
	if w.broken == readsBehind && a.deed.act == actRead {
		a.run, a.cancel = run, func() {}
		a.ended.Store(true)
		return
	}
	a.tries++
	ctx, cancel := context.WithCancel(context.Background())
	a.run, a.cancel = run, cancel
	a.ended.Store(false)
	go func() {
		a.result, a.err = run.node.Propose(ctx, a.command)
		a.ended.Store(true)
	}()
	tries := a.tries
	w.after(w.between(300*time.Millisecond, 4*time.Second), func() {
		if c.busy == a && a.tries == tries {
			cancel()
		}
	})
}

// collect takes the results of the last step.
func (w *world) collect() {
	for _, c := range w.clients {
		if a := c.busy; a != nil && a.ended.Load() {
			a.cancel()
			w.conclude(c, a)
		}
	}
}

func (w *world) conclude(c *client, a *attempt) {
	w.note("result", uint64(c.id), a.command.ID, a.result.Index, digest(fmt.Append(nil, a.err, a.result.Err)))
	refused := errors.Is(a.err, consensus.ErrNoQuorum) && !errors.Is(a.err, consensus.ErrUncertain) || errors.Is(a.err, tree.ErrNoSpace)
	if w.broken == deniesUncertain && errors.Is(a.err, consensus.ErrUncertain) {
		refused = true
	}
	switch {
	case a.err == nil:
		c.busy = nil
		w.answered(c, a)
	case refused && a.tries == 1:
		c.busy = nil
		w.count("refused without effect")
		w.refused[a.command.ID] = a.deed
	case w.random.IntN(5) > 0 && a.tries < 6:
		w.count("proposed again")
		a.ended.Store(false) // until the next attempt
		w.retry(c, a)
	default:
		w.count("result never known")
		c.busy = nil
		w.uncertain(c, a)
	}
}

// retry proposes the same command again, at any node, after a while.
func (w *world) retry(c *client, a *attempt) {
	w.after(w.between(10*time.Millisecond, time.Second), func() {
		if run := w.members[1+w.random.Uint64N(uint64(len(w.members)))].run; run != nil && run.state == running {
			w.propose(c, run)
			return
		}
		w.retry(c, a)
	})
}

func (w *world) uncertain(c *client, a *attempt) {
	if a.deed.act != actRead {
		w.remember(c, a, math.MaxInt64, answer{unknown: true})
	}
}

func (w *world) answered(c *client, a *attempt) {
	out := answer{err: a.result.Err}
	if t := a.run.tree; a.run.state == running {
		if a.result.Index > t.Index() {
			w.fail("node %d answers %v at %d and shows its tree at %d", a.run.id, a.deed, a.result.Index, t.Index())
		}
		if a.deed.act == actRead {
			out.seen = look(t, a.deed.group)
		}
		if e, ok := t.Lookup(placePath(lockGroup, 0)); ok {
			c.locked = e.Version
		}
	} else if a.deed.act == actRead {
		return
	}
	if a.command.Op != command.Noop {
		w.acknowledged[a.command.ID] = a.result.Index
	}
	w.remember(c, a, w.step, out)
}

// look reads what a node shows of a group.
func look(t *tree.Tree, group int) (s cells) {
	for i := range places {
		if e, ok := t.Lookup(placePath(group, i)); ok && e.Dir {
			return cells{e.Inode, e.Version, uint64(e.Writer), uint64(e.Mtime)}
		} else if ok {
			fmt.Sscan(string(e.Data), &s[i])
		}
	}
	return s
}

func (w *world) remember(c *client, a *attempt, returned int64, out answer) {
	w.history = append(w.history, porcupine.Operation{ClientId: c.id, Input: a.deed, Call: a.called, Output: out, Return: returned})
}
